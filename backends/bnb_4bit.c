/*
 * bitsandbytes 4-bit (NF4, FP4), plain and double-quantized. W [n, k] is flattened row by row into
 * M = n * k elements and cut into blocks of B; a block is 16-entry table codes and one absmax.
 *
 *   weight              ceil(M / 2) bytes, as U8 [.., 1] or any other dtype of the same bytes
 *                       byte i = element 2i in the high nibble, element 2i + 1 in the low one
 *   weight.quant_map    F32 [16]   the table; absent: the built-in one
 *   weight.absmax       F32 [nb], nb = ceil(M / B); double-quantized: U8 [nb], and
 *   weight.nested_absmax     F32 [ceil(nb / 256)]
 *   weight.nested_quant_map  F32 [256]
 *   weight.quant_state.bitsandbytes__nf4 (or __fp4)    U8: JSON text (bnb_4bit_state.c)
 *
 *   W[f] = D(table[code f] * absmax[f / B])            D: the state's dtype, one rounding
 *   absmax[j] = f32(f32(map[code j] * nested_absmax[j / 256]) + offset)
 *
 * The tensors decide that a module is 4-bit; its state decides everything else. The state and the
 * two small tables are all the data that claim looks at: they are the module's configuration.
 *
 * Encoding: ENC_TABLE4. If B divides k the groups of a row are its own: parameters are tiled, and
 * columns can be cut at multiples of B. Otherwise blocks straddle rows: `flat`, with the whole
 * module's absmax, and any cut is possible. Nested absmax stay codes in memory (1/64 byte a
 * weight at block 64 instead of 1/16).
 *
 * An `image` is a module as the file has it; load builds a weight from the file's image,
 * requantize from one that it has just quantized, store makes one again. So a requantized weight
 * is exactly what loading the stored file would give.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/bnb_4bit_quantize.h"
#include "backends/bnb_4bit_state.h"
#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "backends/tiles.h"
#include "core/memory.h"
#include "core/turns.h"

/* What weight.format holds. */
struct bnb_4bit_format {
    struct bnb_4bit_state state;
    enum dtype storage;
    uint8_t pad; /* the unused nibble of an odd M */
};

struct image {
    struct bnb_4bit_format format;
    const uint8_t *packed;
    const void *absmax; /* F32, or U8 when nested; unaligned */
    float table[16];
    const void *nested_absmax; /* F32, unaligned; NULL: not nested */
    float nested_map[256];
};

#define NESTED_BLOCK 256   /* of what the library quantizes */
#define UNIT         16384 /* elements between two places where the background pauses */

#define STORAGES                                                                                   \
    (SPEC_DTYPE(U8) | SPEC_DTYPE(I8) | SPEC_DTYPE(F16) | SPEC_DTYPE(BF16) | SPEC_DTYPE(F32) |      \
     SPEC_DTYPE(F64))

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static int64_t elements(const struct bnb_4bit_state *s)
{
    return s->n * s->k;
}

static int64_t count_blocks(const struct bnb_4bit_state *s)
{
    return divide_up(elements(s), s->block);
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    static const char *const prefixes[] = {BNB_4BIT_STATE_PREFIX, "weight.absmax",
                                           "weight.quant_map", "weight.nested_"};
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const char *suffix = spec_suffix(spec, &spec->tensors[i]);
        for (size_t p = 0; suffix && p < sizeof prefixes / sizeof prefixes[0]; p++)
            if (!strncmp(suffix, prefixes[p], strlen(prefixes[p])))
                return true;
    }
    return false;
}

static void complain(const struct module_spec *spec, struct findings *findings,
                     const char *expected, const char *got)
{
    findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, NULL, expected, got,
                 "module %s has bitsandbytes 4-bit tensors: expected %s, got %s", spec->name,
                 expected, got);
}

/* quantization_config, where there is one, must mean 4-bit bitsandbytes. */
static void check_config(const struct module_spec *spec, struct findings *findings)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    if (!spec->quant)
        return;
    if (method &&
        (!json_is_string(method) || strcmp(json_string_value(method), "bitsandbytes") != 0))
        complain(spec, findings, "quant_method \"bitsandbytes\"",
                 json_is_string(method) ? json_string_value(method) : "something else");
    else if (!json_is_true(json_object_get(spec->quant, "load_in_4bit")) &&
             !json_is_true(json_object_get(spec->quant, "_load_in_4bit")))
        complain(spec, findings, "\"load_in_4bit\": true in quantization_config", "none");
}

/* The one quant state; false with findings. */
static bool read_state(const struct module_spec *spec, struct bnb_4bit_state *state,
                       struct findings *findings)
{
    const struct tensor *found = NULL;
    enum bnb_4bit_type type = BNB_4BIT_NF4;
    for (int i = 0; i < BNB_4BIT_TYPES; i++) {
        const struct tensor *t = spec_tensor(spec, bnb_4bit_state_suffixes[i]);
        if (t && found) {
            complain(spec, findings, "one quant state", "two");
            return false;
        }
        if (t) {
            found = t;
            type = (enum bnb_4bit_type)i;
        }
    }
    if (!found) {
        complain(spec, findings, "a tensor weight.quant_state.bitsandbytes__nf4 or __fp4", "none");
        return false;
    }
    if (found->dtype != DT_U8 || found->rank != 1) {
        complain(spec, findings, "a quant state that is U8 of rank 1", dtype_name(found->dtype));
        return false;
    }
    return bnb_4bit_state_parse(spec, found, type, state, findings);
}

/* A tensor of one dimension. */
static const struct tensor *want_vector(const struct module_spec *spec, const char *suffix,
                                        unsigned dtypes, int64_t n, bool optional,
                                        struct findings *findings)
{
    struct spec_want want = {
        .suffix = suffix, .dtypes = dtypes, .rank = 1, .shape = {n}, .optional = optional};
    return spec_want(spec, &want, findings);
}

/* The packed codes: their bytes, whatever dtype they are dressed in. */
static const struct tensor *want_weight(const struct module_spec *spec,
                                        const struct bnb_4bit_state *s, struct findings *findings)
{
    const struct tensor *t = spec_tensor(spec, "weight");
    int64_t bytes = divide_up(elements(s), 2), size = t ? (int64_t)dtype_size(t->dtype) : 1;
    struct spec_want want = {
        .suffix = "weight", .dtypes = STORAGES, .rank = 2, .shape = {divide_up(bytes, size), 1}};
    t = spec_want(spec, &want, findings);
    if (t && bytes % size)
        complain(spec, findings, "a whole number of stored elements", dtype_name(t->dtype));
    return t;
}

/* The tables are what every element goes through; absmax may be anything. */
static bool finite_tables(const struct module_spec *spec, const struct image *image,
                          struct findings *findings)
{
    bool finite = true;
    for (int i = 0; i < 16; i++)
        finite &= isfinite(image->table[i]) != 0;
    for (int i = 0; i < 256; i++)
        finite &= isfinite(image->nested_map[i]) != 0;
    if (!finite)
        complain(spec, findings, "finite quant_map and nested_quant_map", "NaN or Inf");
    return finite;
}

/* Checks the module and fills image; false with findings. */
static bool examine(const struct module_spec *spec, struct image *image, struct findings *findings)
{
    static const char *const suffixes[] = {"weight",
                                           "bias",
                                           "weight.absmax",
                                           "weight.quant_map",
                                           "weight.nested_absmax",
                                           "weight.nested_quant_map",
                                           BNB_4BIT_STATE_PREFIX "bitsandbytes__nf4",
                                           BNB_4BIT_STATE_PREFIX "bitsandbytes__fp4",
                                           NULL};
    memset(image, 0, sizeof *image);
    size_t errors = findings->errors;
    struct bnb_4bit_state *s = &image->format.state;
    check_config(spec, findings);
    spec_only(spec, suffixes, findings);
    if (spec->kind == MODULE_CONV2D)
        complain(spec, findings, "a linear module or an embedding", "a convolution");
    if (!spec_sizes(spec, findings) || !read_state(spec, s, findings))
        return false;

    unsigned f32 = SPEC_DTYPE(F32);
    int64_t blocks = count_blocks(s);
    const struct tensor *nested_map = NULL, *nested_absmax = NULL;
    const struct tensor *weight = want_weight(spec, s, findings);
    const struct tensor *absmax = want_vector(
        spec, "weight.absmax", s->nested ? SPEC_DTYPE(U8) : f32, blocks, false, findings);
    const struct tensor *map = want_vector(spec, "weight.quant_map", f32, 16, true, findings);
    if (s->nested) {
        nested_map = want_vector(spec, "weight.nested_quant_map", f32, 256, false, findings);
        nested_absmax = want_vector(spec, "weight.nested_absmax", f32,
                                    divide_up(blocks, s->nested_block), false, findings);
    } else if (spec_tensor(spec, "weight.nested_absmax")) {
        complain(spec, findings, "a quant state with nested_blocksize", "one without");
    }
    if (findings->errors != errors)
        return false;

    image->format.storage = weight->dtype;
    image->packed = weight->data;
    image->absmax = absmax->data;
    memcpy(image->table, map ? map->data : bnb_4bit_tables[s->type], sizeof image->table);
    if (s->nested) {
        image->nested_absmax = nested_absmax->data;
        memcpy(image->nested_map, nested_map->data, sizeof image->nested_map);
    }
    if (elements(s) % 2)
        image->format.pad = image->packed[elements(s) / 2] & 15;
    return finite_tables(spec, image, findings);
}

static enum claim bnb_4bit_claim(const struct module_spec *spec, struct findings *findings)
{
    struct image image;
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, &image, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- image -> weight ---- */

/* Elements [first, first + n) of the flattened matrix, one byte each. */
static void unpack(const uint8_t *packed, int64_t first, int64_t n, uint8_t *codes)
{
    int64_t i = 0;
    if (first % 2 && n)
        codes[i++] = packed[first / 2] & 15;
    const uint8_t *p = packed + (first + i) / 2;
    for (; i + 8 <= n; i += 8, p += 4) { // 4 bytes spread to 8, the high nibble first
        uint64_t v = load_u32(p);
        v = (v | v << 16) & 0x0000ffff0000ffff;
        v = (v | v << 8) & 0x00ff00ff00ff00ff;
        v = (v >> 4 & 0x000f000f000f000f) | (v & 0x000f000f000f000f) << 8;
        memcpy(codes + i, &v, sizeof v);
    }
    for (; i < n; i++)
        codes[i] = (first + i) % 2 ? packed[(first + i) / 2] & 15 : packed[(first + i) / 2] >> 4;
}

static bool load_codes(const struct image *image, const struct slice *part, struct weight *w)
{
    uint8_t *codes = malloc(TILE_ROWS * (size_t)w->k);
    if (!codes)
        return false;
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        int64_t first = tile * TILE_ROWS;
        int64_t have = w->n - first < TILE_ROWS ? w->n - first : TILE_ROWS;
        for (int64_t r = 0; r < have; r++)
            unpack(image->packed, (part->row + first + r) * w->flat_k + part->col, w->k,
                   codes + r * w->k);
        tile_pack_codes(w->data, w->k_padded, 4, tile, codes, w->k, have, w->k);
    }
    free(codes);
    return true;
}

/* The part's absmax, tiled; flat: all of them as they are. */
static void load_scales(const struct image *image, const struct slice *part, struct weight *w)
{
    size_t size = dtype_size(w->scale_dtype);
    const char *from = image->absmax;
    if (w->grouping == GROUPS_FLAT) {
        memcpy(w->scales, from, (size_t)w->n_groups * size);
        return;
    }
    int64_t per_row = w->flat_k / w->group, col = part->col / w->group;
    for (int64_t r = 0; r < w->n; r++)
        for (int64_t g = 0; g < w->n_groups; g++)
            memcpy((char *)w->scales + (size_t)tile_param(r, g, w->n_groups) * size,
                   from + (size_t)((part->row + r) * per_row + col + g) * size, size);
}

/* Nested absmax: whole module, and 0 for the rows that only fill the last tile. */
static bool load_nested(const struct image *image, struct weight *w)
{
    const struct bnb_4bit_state *s = &image->format.state;
    int64_t end = (w->flat_row + w->n_tiles * TILE_ROWS) * w->flat_k / w->group;
    int64_t count = divide_up(count_blocks(s), s->nested_block);
    int64_t room =
        divide_up(end, s->nested_block) > count ? divide_up(end, s->nested_block) : count;
    assert(image->nested_absmax); // examine or requantize set both
    w->nested_absmax = memory_alloc((size_t)room * sizeof *w->nested_absmax);
    if (!w->nested_absmax)
        return false;
    memcpy(w->nested_absmax, image->nested_absmax, (size_t)count * sizeof *w->nested_absmax);
    memcpy(w->nested_map, image->nested_map, sizeof w->nested_map);
    w->nested = true;
    w->n_nested = count;
    w->nested_block = s->nested_block;
    w->nested_offset = s->nested_offset;
    return true;
}

/* The weight of a part of an image; part is inside and cut where the format allows it. */
static enum status build(const struct image *image, const struct slice *part, struct weight *w,
                         struct error *err)
{
    const struct bnb_4bit_state *s = &image->format.state;
    *w = (struct weight){.encoding = ENC_TABLE4,
                         .dtype = s->dtype,
                         .rule = RULE_PRODUCT,
                         .bits = 4,
                         .group = s->block,
                         .grouping = s->k % s->block ? GROUPS_FLAT : GROUPS_OF_ROWS,
                         .flat_k = s->k,
                         .flat_row = part->row,
                         .flat_col = part->col,
                         .scale_dtype = s->nested ? DT_U8 : DT_F32};
    spec_weight_sizes(w, part->rows, part->cols);
    w->n_groups = w->grouping == GROUPS_FLAT ? count_blocks(s) : w->k / w->group;
    memcpy(w->table, image->table, sizeof w->table);
    tile_table_steps(w);
    w->data_bytes = tile_code_bytes(w->n, w->k, 4);
    size_t params =
        (size_t)w->n_groups * (w->grouping == GROUPS_FLAT ? 1 : (size_t)w->n_tiles * TILE_ROWS);
    w->data = memory_alloc(w->data_bytes);
    w->scales = memory_alloc(params * dtype_size(w->scale_dtype));
    w->format = malloc(sizeof image->format);
    w->format_bytes = sizeof image->format;
    if (!w->data || !w->scales || !w->format || (s->nested && !load_nested(image, w)) ||
        !load_codes(image, part, w)) {
        weight_clear(w);
        return error_memory(err, "loading a 4-bit weight");
    }
    memcpy(w->format, &image->format, sizeof image->format);
    load_scales(image, part, w);
    return ST_OK;
}

static enum status bnb_4bit_load(const struct module_spec *spec, struct slice slice,
                                 struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct image image;
    if (!examine(spec, &image, &findings))
        return error_from_findings(err, &findings);
    const struct bnb_4bit_state *s = &image.format.state;
    struct slice part;
    enum status st = spec_slice(spec, slice, s->k % s->block ? 1 : s->block, &part, err);
    if (!st)
        st = build(&image, &part, out, err);
    if (!st)
        out->file_bytes = spec_file_bytes(spec, &part);
    return st;
}

static char *bnb_4bit_describe(const struct weight *w, char *buf, size_t size)
{
    const struct bnb_4bit_format *format = w->format;
    snprintf(buf, size, "%s, block %lld%s", bnb_4bit_type_names[format->state.type],
             (long long)format->state.block, w->nested ? ", double-quantized" : "");
    return buf;
}

/* ---- weight -> image: what requantize and store share ---- */

static bool is_whole(const struct weight *w)
{
    const struct bnb_4bit_format *format = w->format;
    return w->n == format->state.n && w->k == format->state.k;
}

static void pack(const uint8_t *codes, int64_t n, uint8_t pad, uint8_t *packed)
{
    enum { AT_ONCE = 32 };
    int64_t i = 0;
    for (; i + AT_ONCE <= n / 2; i += AT_ONCE) {
        uint16_t pairs[AT_ONCE]; // the first code in the low byte
        uint8_t bytes[AT_ONCE];
        if (i % UNIT == 0)
            turns_pause();
        memcpy(pairs, codes + 2 * i, sizeof pairs);
        for (int j = 0; j < AT_ONCE; j++)
            bytes[j] = (uint8_t)(pairs[j] << 4 | pairs[j] >> 8);
        memcpy(packed + i, bytes, sizeof bytes);
    }
    for (; i < n / 2; i++)
        packed[i] = (uint8_t)(codes[2 * i] << 4 | codes[2 * i + 1]);
    if (n % 2)
        packed[n / 2] = (uint8_t)(codes[n - 1] << 4 | pad);
}

/* Codes and absmax of w [M] by the library's rules; absmax [blocks]. */
static void quantize(const float *w, struct image *image, uint8_t *codes, float *absmax)
{
    const struct bnb_4bit_state *s = &image->format.state;
    struct bnb_4bit_bounds bounds;
    bnb_4bit_bounds_init(&bounds, image->table);
    int64_t whole = elements(s) / s->block, rest = elements(s) % s->block;
    for (int64_t first = 0, n; first < whole; first += n) {
        turns_pause();
        n = UNIT / s->block + 1 < whole - first ? UNIT / s->block + 1 : whole - first;
        bnb_4bit_quantize_blocks(&bounds, w + first * s->block, n, s->block,
                                 codes + first * s->block, absmax + first);
    }
    if (rest)
        bnb_4bit_quantize_rest(&bounds, w + whole * s->block, rest, codes + whole * s->block,
                               absmax + whole);
    image->format.pad = bnb_4bit_code(&bounds, 0);
}

static enum status bnb_4bit_requantize(const struct weight *like, const float *w,
                                       struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (!is_whole(like))
        return error_set(err, ST_NOT_SUPPORTED, "a part of a 4-bit module cannot be requantized");
    struct image image = {.format = *(const struct bnb_4bit_format *)like->format};
    memcpy(image.table, like->table, sizeof image.table);
    memcpy(image.nested_map, like->nested_map, sizeof image.nested_map);
    struct bnb_4bit_state *s = &image.format.state;
    size_t m = (size_t)elements(s), blocks = (size_t)count_blocks(s);
    enum status st = ST_OK;
    uint8_t *codes = memory_alloc(m), *packed = memory_alloc(m / 2 + 1);
    float *absmax = malloc(blocks * sizeof *absmax);
    uint8_t *nested_codes = s->nested ? malloc(blocks) : NULL;
    float *nested_absmax = s->nested ? malloc(blocks * sizeof *nested_absmax) : NULL;
    uint8_t *lut = s->nested ? malloc(BNB_4BIT_LUT) : NULL;
    if (!codes || !packed || !absmax || (s->nested && (!nested_codes || !nested_absmax || !lut))) {
        st = error_memory(err, "quantizing a weight to 4 bits");
        goto done;
    }
    quantize(w, &image, codes, absmax);
    pack(codes, elements(s), image.format.pad, packed);
    image.packed = packed;
    image.absmax = absmax;
    if (s->nested) {
        s->nested_offset = bnb_4bit_mean(absmax, count_blocks(s));
        bnb_4bit_lut_init(lut, image.nested_map);
        bnb_4bit_quantize_nested(lut, absmax, count_blocks(s), s->nested_offset, s->nested_block,
                                 nested_codes, nested_absmax);
        image.absmax = nested_codes;
        image.nested_absmax = nested_absmax;
    }
    st = build(&image, &(struct slice){.rows = s->n, .cols = s->k}, out, err);
    if (!st)
        out->file_bytes = like->file_bytes;
done:
    memory_free(codes);
    memory_free(packed);
    free(absmax);
    free(nested_codes);
    free(nested_absmax);
    free(lut);
    return st;
}

static enum status bnb_4bit_plan(const struct scheme *scheme, const struct module_spec *plain,
                                 enum dtype dtype, struct weight *like, struct error *err)
{
    const struct bnb_4bit_format format = {
        .state = {.type = scheme->fp4 ? BNB_4BIT_FP4 : BNB_4BIT_NF4,
                  .block = scheme->group,
                  .dtype = dtype,
                  .n = plain->n,
                  .k = plain->k,
                  .nested = scheme->nested,
                  .nested_block = NESTED_BLOCK},
        .storage = DT_U8};
    *like = (struct weight){.encoding = ENC_TABLE4, .dtype = dtype, .n = plain->n, .k = plain->k};
    memcpy(like->table, bnb_4bit_tables[format.state.type], sizeof like->table);
    bnb_4bit_map_init(like->nested_map);
    like->format = malloc(sizeof format);
    if (!like->format)
        return error_memory(err, "quantizing a weight to 4 bits");
    memcpy(like->format, &format, sizeof format);
    like->format_bytes = sizeof format;
    return ST_OK;
}

static enum status put_vector(struct tensor_sink *sink, const char *suffix, enum dtype dtype,
                              int64_t n, const void *data, struct error *err)
{
    return sink->put(sink, suffix, dtype, 1, &n, data, err);
}

static enum status put_all(struct tensor_sink *sink, const struct weight *w, const uint8_t *packed,
                           const void *absmax, struct error *err)
{
    const struct bnb_4bit_format *format = w->format;
    const struct bnb_4bit_state *s = &format->state;
    int64_t bytes = divide_up(elements(s), 2);
    int64_t shape[2] = {bytes / (int64_t)dtype_size(format->storage), 1};
    enum status st = sink->put(sink, "weight", format->storage, 2, shape, packed, err);
    if (!st)
        st = put_vector(sink, "weight.absmax", w->scale_dtype, count_blocks(s), absmax, err);
    if (!st)
        st = put_vector(sink, "weight.quant_map", DT_F32, 16, w->table, err);
    if (!st && s->nested)
        st = put_vector(sink, "weight.nested_absmax", DT_F32, w->n_nested, w->nested_absmax, err);
    if (!st && s->nested)
        st = put_vector(sink, "weight.nested_quant_map", DT_F32, 256, w->nested_map, err);
    char text[BNB_4BIT_STATE_MAX];
    size_t length = bnb_4bit_state_print(s, text);
    if (!st)
        st = put_vector(sink, bnb_4bit_state_suffixes[s->type], DT_U8, (int64_t)length, text, err);
    return st;
}

static enum status bnb_4bit_store(const struct weight *w, struct tensor_sink *sink,
                                  struct error *err)
{
    const struct bnb_4bit_format *format = w->format;
    if (!is_whole(w))
        return error_set(err, ST_NOT_SUPPORTED, "a part of a 4-bit module cannot be stored");
    int64_t m = elements(&format->state);
    enum status st = ST_OK;
    uint8_t *codes = memory_alloc((size_t)m), *packed = memory_alloc((size_t)m / 2 + 1);
    char *absmax = malloc((size_t)count_blocks(&format->state) * dtype_size(w->scale_dtype));
    if (!codes || !packed || !absmax || !tiles_codes(w, codes)) {
        st = error_memory(err, "storing a 4-bit weight");
        goto done;
    }
    pack(codes, m, format->pad, packed);
    tiles_parameters(w, w->scales, dtype_size(w->scale_dtype), absmax);
    st = put_all(sink, w, packed, absmax, err);
done:
    memory_free(codes);
    memory_free(packed);
    free(absmax);
    return st;
}

const struct backend bnb_4bit_backend = {
    .name = "bnb_4bit",
    .claim = bnb_4bit_claim,
    .load = bnb_4bit_load,
    .describe = bnb_4bit_describe,
    .requantize = bnb_4bit_requantize,
    .plan = bnb_4bit_plan,
    .store = bnb_4bit_store,
};
