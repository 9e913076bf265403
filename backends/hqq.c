/*
 * HQQ (mobiusml/hqq 0.2, and transformers 4's HqqConfig): unsigned codes with a float zero and step
 * for each group. Under a module's name:
 *
 *   W_q           packed codes (hqq_layout.c), U8 or, for 3 bits, I32 [step, columns]; with
 *                 view_as_float the same bytes as F16, BF16 or F32, the last dimension fewer or
 * more scale, zero   F16, BF16 or F32; axis 1: [M/G, 1], axis 0: [1, M/G]; M = n k, G = group_size
 *   bias          [n], not ours
 *   and the parameters as small tensors (hqq_meta.c), which quantization_config must not contradict
 *
 *   W[f] = D(D(code f - zero g) * scale g)    D: compute_dtype, two roundings; scale and zero are
 *   g = f / G for axis 1, f % (M/G) for axis 0     cast to it first, as the library does on loading
 *
 * Encoding: ENC_GROUP with float zeros. axis 1 and G divides k: a row has its own groups, and
 * columns are cut at multiples of G. Otherwise groups straddle rows (flat) or are strided through
 * the matrix (axis 0): the whole module's parameters, and any cut is possible. Codes take their own
 * number of bits (5, 6: the file takes 8).
 *
 * An image is a module as the file has it; load builds a weight from the file's image, requantize
 * from one that it has just quantized, so that a requantized weight is exactly what loading the
 * stored file would give.
 *
 * Refused besides what hqq_meta.c refuses: parameters that offload_meta stacked into one tensor
 * (zero_scale; the library itself cannot load them from safetensors), scales and zeros that are not
 * finite, codes above 2^bits - 1, rows that do not divide among a word's fields.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "backends/hqq_meta.h"
#include "backends/hqq_quantize.h"
#include "backends/spec.h"
#include "backends/tiles.h"
#include "core/memory.h"

/* What weight.format holds. */
struct hqq_format {
    struct hqq_meta meta;
    enum dtype storage; /* of W_q */
};

struct image {
    struct hqq_format format;
    struct hqq_layout layout;
    const void *packed;
    struct tensor scale, zero; /* [n_groups] in all */
};

static int64_t count_groups(const struct hqq_meta *m)
{
    return m->n * m->k / m->group;
}

static enum grouping grouping_of(const struct hqq_meta *m)
{
    if (m->axis == 0)
        return GROUPS_STRIDED;
    return m->k % m->group ? GROUPS_FLAT : GROUPS_OF_ROWS;
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    return spec_tensor(spec, "W_q") || (spec_tensor(spec, "nbits") && spec_tensor(spec, "packing"));
}

static void refuse_unknown(const struct module_spec *spec, struct findings *findings)
{
    static const char *const own[] = {"W_q", "scale", "zero", "bias"};
    const char *suffixes[4 + HQQ_FIELDS + 1];
    memcpy(suffixes, own, sizeof own);
    memcpy(suffixes + 4, hqq_field_names, sizeof hqq_field_names);
    spec_only(spec, suffixes, findings);
    if (spec_tensor(spec, "zero_scale"))
        hqq_complain(spec, findings, ST_QUANT_METHOD_UNSUPPORTED, "offload_meta",
                     "tensors scale and zero", "true, with both in one tensor zero_scale");
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        hqq_complain(spec, findings, ST_QUANT_METHOD_UNSUPPORTED, "W_q", "a linear module's",
                     spec->kind == MODULE_CONV2D ? "a convolution's" : "an embedding's");
}

/* W_q, whose bytes are [step, columns] words. */
static const struct tensor *want_codes(const struct module_spec *spec, const struct hqq_meta *m,
                                       const struct hqq_layout *l, struct findings *findings)
{
    char got[64];
    bool as_float = m->flags[HQQ_VIEW_AS_FLOAT];
    const struct tensor *t = spec_tensor(spec, "W_q");
    int64_t bytes = l->columns * (int64_t)dtype_size(l->packing->word);
    int64_t size = t ? (int64_t)dtype_size(t->dtype) : 1;
    struct spec_want want = {
        "W_q", as_float ? SPEC_FLOATS : 1u << l->packing->word, 2, {l->step, bytes / size}, false};
    if (!hqq_layout_fits(l)) {
        snprintf(got, sizeof got, "%lld", (long long)l->rows);
        hqq_complain(spec, findings, ST_CHECKPOINT_INVALID, l->packing->name,
                     "rows of groups that divide among the fields of a word", got);
        return NULL;
    }
    t = spec_want(spec, &want, findings);
    if (t && bytes % size)
        hqq_complain(spec, findings, ST_CHECKPOINT_INVALID, "view_as_float",
                     "a row that is a whole number of floats", dtype_name(t->dtype));
    return t;
}

/* Checks the module and fills image; false with findings. */
static bool examine(const struct module_spec *spec, struct image *image, struct findings *findings)
{
    memset(image, 0, sizeof *image);
    size_t errors = findings->errors;
    struct hqq_meta *m = &image->format.meta;
    if (!spec_sizes(spec, findings))
        return false;
    refuse_unknown(spec, findings);
    if (!hqq_meta_read(spec, m, findings))
        return false;
    image->layout = hqq_layout_of(m->packing, m->n, m->k, m->axis, m->group);
    const struct tensor *codes = want_codes(spec, m, &image->layout, findings), *found[2];
    for (int i = 0; i < 2; i++) {
        int64_t groups = count_groups(m);
        struct spec_want want = {i ? "zero" : "scale",
                                 SPEC_FLOATS,
                                 2,
                                 {m->axis ? groups : 1, m->axis ? 1 : groups},
                                 false};
        found[i] = spec_want(spec, &want, findings);
    }
    if (findings->errors != errors || !codes || !found[0] || !found[1])
        return false;
    image->format.storage = codes->dtype;
    image->packed = codes->data;
    image->scale = *found[0];
    image->zero = *found[1];
    return true;
}

static enum claim hqq_claim(const struct module_spec *spec, struct findings *findings)
{
    struct image image;
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, &image, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- image -> weight ---- */

/* Every code must be at most top (8 bits hold 5 and 6; 2 bits hold 1.58). */
static enum status check_codes(const struct image *image, const uint8_t *codes, int64_t n,
                               struct error *err)
{
    int top = hqq_meta_top(&image->format.meta), greatest = 0;
    for (int64_t i = 0; i < n; i++)
        greatest = codes[i] > greatest ? codes[i] : greatest;
    if (greatest <= top)
        return ST_OK;
    return error_set(err, ST_CHECKPOINT_INVALID,
                     "%s: beside tensor %s, W_q holds a code %d, expected at most %d",
                     image->scale.file, image->scale.name, greatest, top);
}

static enum status load_codes(const struct image *image, const struct slice *part, struct weight *w,
                              struct error *err)
{
    uint8_t *codes = calloc(TILE_ROWS, (size_t)w->k);
    enum status st = ST_OK;
    if (!codes)
        return error_memory(err, "unpacking an HQQ weight");
    for (int64_t tile = 0; tile < w->n_tiles && !st; tile++) {
        int64_t first = tile * TILE_ROWS;
        int64_t have = w->n - first < TILE_ROWS ? w->n - first : TILE_ROWS;
        for (int64_t r = 0; r < have; r++)
            hqq_unpack(&image->layout, image->packed,
                       (part->row + first + r) * w->flat_k + part->col, w->k, codes + r * w->k);
        st = check_codes(image, codes, have * w->k, err);
        if (!st)
            tile_pack_codes(w->data, w->k_padded, w->bits, tile, codes, w->k, have, w->k);
    }
    free(codes);
    return st;
}

/* One value in the compute dtype. */
static void put_float(void *to, int64_t at, float v, enum dtype dtype)
{
    uint16_t half = dtype == DT_F16 ? f32_to_f16(v) : dtype == DT_BF16 ? f32_to_bf16(v) : 0;
    if (dtype == DT_F32)
        ((float *)to)[at] = v;
    else
        ((uint16_t *)to)[at] = half;
}

/* Scales or zeros that this part needs, cast and where its grouping wants them. */
static enum status load_parameters(const struct tensor *t, const struct slice *part,
                                   const struct weight *w, void *to, struct error *err)
{
    int64_t rows = w->grouping == GROUPS_OF_ROWS ? w->n : 1, first = 0;
    int64_t per_row = w->flat_k / w->group;
    for (int64_t r = 0; r < rows; r++) {
        if (w->grouping == GROUPS_OF_ROWS)
            first = (part->row + r) * per_row + part->col / w->group;
        for (int64_t g = 0; g < w->n_groups; g++) {
            int64_t at = first + g;
            float v = round_to_dtype(tensor_f32(t, at), w->dtype);
            if (!isfinite(v))
                return error_set(err, ST_NON_FINITE_WEIGHTS, "%s: tensor %s[%lld] is not finite",
                                 t->file, t->name, (long long)at);
            put_float(to, w->grouping == GROUPS_OF_ROWS ? tile_param(r, g, w->n_groups) : g, v,
                      w->dtype);
        }
    }
    return ST_OK;
}

/* The weight of a part of an image; part is inside and cut where the format allows it. */
static enum status build(const struct image *image, const struct slice *part, struct weight *w,
                         struct error *err)
{
    const struct hqq_meta *m = &image->format.meta;
    *w = (struct weight){.encoding = ENC_GROUP,
                         .dtype = m->compute,
                         .rule = RULE_STEPS,
                         .bits = hqq_meta_bits(m),
                         .group = m->group,
                         .grouping = grouping_of(m),
                         .flat_k = m->k,
                         .flat_row = part->row,
                         .flat_col = part->col,
                         .scale_dtype = m->compute,
                         .zero_dtype = m->compute};
    spec_weight_sizes(w, part->rows, part->cols);
    bool of_rows = w->grouping == GROUPS_OF_ROWS;
    w->n_groups = of_rows ? w->k / w->group : count_groups(m);
    size_t params = (size_t)w->n_groups * (of_rows ? (size_t)w->n_tiles * TILE_ROWS : 1);
    w->data_bytes = tile_code_bytes(w->n, w->k, w->bits);
    w->data = memory_alloc(w->data_bytes);
    w->scales = memory_alloc(params * dtype_size(w->scale_dtype));
    w->zeros = memory_alloc(params * dtype_size(w->zero_dtype));
    w->format = malloc(sizeof image->format);
    w->format_bytes = sizeof image->format;
    enum status st = ST_OK;
    if (!w->data || !w->scales || !w->zeros || !w->format)
        st = error_memory(err, "loading an HQQ weight");
    if (!st)
        st = load_parameters(&image->scale, part, w, w->scales, err);
    if (!st)
        st = load_parameters(&image->zero, part, w, w->zeros, err);
    if (!st)
        st = load_codes(image, part, w, err);
    if (st) {
        weight_clear(w);
        return st;
    }
    memcpy(w->format, &image->format, sizeof image->format);
    return ST_OK;
}

static enum status hqq_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                            struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct image image;
    if (!examine(spec, &image, &findings))
        return error_from_findings(err, &findings);
    const struct hqq_meta *m = &image.format.meta;
    struct slice part;
    int64_t unit = grouping_of(m) == GROUPS_OF_ROWS ? m->group : 1;
    enum status st = spec_slice(spec, slice, unit, &part, err);
    if (!st)
        st = build(&image, &part, out, err);
    if (!st)
        out->file_bytes = spec_file_bytes(spec, &part);
    return st;
}

static char *hqq_describe(const struct weight *w, char *buf, size_t size)
{
    const struct hqq_meta *m = &((const struct hqq_format *)w->format)->meta;
    snprintf(buf, size, "%g bit%s, group %lld, axis %d, %s", (double)m->nbits,
             m->nbits == 1 ? "" : "s", (long long)m->group, m->axis, dtype_torch(m->compute));
    return buf;
}

/* ---- weight -> image: what requantize and store share ---- */

static bool is_whole(const struct weight *w)
{
    const struct hqq_meta *m = &((const struct hqq_format *)w->format)->meta;
    return w->n == m->n && w->k == m->k;
}

static struct tensor parameters(const char *name, const float *v, int64_t n)
{
    return (struct tensor){.name = name,
                           .file = "a requantized weight",
                           .dtype = DT_F32,
                           .rank = 1,
                           .shape = {n},
                           .data = v,
                           .bytes = (size_t)n * sizeof *v};
}

static enum status hqq_requantize(const struct weight *like, const float *w, struct weight *out,
                                  struct error *err)
{
    memset(out, 0, sizeof *out);
    if (!is_whole(like))
        return error_set(err, ST_NOT_SUPPORTED, "a part of an HQQ module cannot be requantized");
    struct image image = {.format = *(const struct hqq_format *)like->format};
    const struct hqq_meta *m = &image.format.meta;
    image.layout = hqq_layout_of(m->packing, m->n, m->k, m->axis, m->group);
    const struct hqq_settings settings = {.top = hqq_meta_top(m),
                                          .axis = m->axis,
                                          .group = m->group,
                                          .optimize = m->flags[HQQ_OPTIMIZE],
                                          .round_zero = m->flags[HQQ_ROUND_ZERO]};
    int64_t elements = m->n * m->k, groups = count_groups(m);
    uint8_t *codes = malloc((size_t)elements);
    void *packed = calloc((size_t)hqq_layout_bytes(&image.layout), 1);
    float *scale = malloc((size_t)groups * sizeof *scale);
    float *zero = malloc((size_t)groups * sizeof *zero);
    enum status st = ST_OK;
    if (!codes || !packed || !scale || !zero ||
        !hqq_quantize(&settings, w, elements, codes, scale, zero)) {
        st = error_memory(err, "quantizing an HQQ weight");
        goto done;
    }
    hqq_pack(&image.layout, codes, packed);
    image.packed = packed;
    image.scale = parameters("scale", scale, groups);
    image.zero = parameters("zero", zero, groups);
    st = build(&image, &(struct slice){.rows = m->n, .cols = m->k}, out, err);
    if (st == ST_NON_FINITE_WEIGHTS) // a zero that the compute dtype cannot hold
        st = error_set(err, ST_MERGE_NON_FINITE, "HQQ's zeros of the merged weight leave %s",
                       dtype_name(m->compute));
    if (!st)
        out->file_bytes = like->file_bytes;
done:
    free(codes);
    free(packed);
    free(scale);
    free(zero);
    return st;
}

static enum status refuse_plan(const struct scheme *scheme, const struct module_spec *plain,
                               const char *why, struct error *err)
{
    return error_param(err, ST_NOT_SUPPORTED, "--quantize",
                       "--quantize %s: module %s [%lld, %lld] cannot be packed: %s", scheme->word,
                       plain->name, (long long)plain->n, (long long)plain->k, why);
}

static enum status hqq_plan(const struct scheme *scheme, const struct module_spec *plain,
                            enum dtype dtype, struct weight *like, struct error *err)
{
    struct hqq_format format = {0};
    struct hqq_meta *m = &format.meta;
    hqq_meta_plan(m, plain->n, plain->k, scheme->bits, scheme->group, dtype);
    format.storage = m->packing->word;
    if (m->n * m->k % m->group)
        return refuse_plan(scheme, plain, "the group does not divide its elements", err);
    struct hqq_layout l = hqq_layout_of(m->packing, m->n, m->k, m->axis, m->group);
    if (!hqq_layout_fits(&l))
        return refuse_plan(scheme, plain,
                           "its groups do not divide among the fields of a packed byte", err);
    *like = (struct weight){.encoding = ENC_GROUP, .dtype = dtype, .n = plain->n, .k = plain->k};
    like->format = malloc(sizeof format);
    if (!like->format)
        return error_memory(err, "quantizing an HQQ weight");
    memcpy(like->format, &format, sizeof format);
    like->format_bytes = sizeof format;
    return ST_OK;
}

static enum status put_parameters(const struct weight *w, const char *suffix, const void *from,
                                  void *scratch, struct tensor_sink *sink, struct error *err)
{
    const struct hqq_meta *m = &((const struct hqq_format *)w->format)->meta;
    int64_t groups = count_groups(m);
    const int64_t shape[2] = {m->axis ? groups : 1, m->axis ? 1 : groups};
    tiles_parameters(w, from, dtype_size(w->dtype), scratch);
    return sink->put(sink, suffix, w->dtype, 2, shape, scratch, err);
}

static enum status put_all(const struct weight *w, const struct hqq_layout *l, const void *packed,
                           void *scratch, struct tensor_sink *sink, struct error *err)
{
    const struct hqq_format *f = w->format;
    const int64_t shape[2] = {l->step,
                              hqq_layout_bytes(l) / l->step / (int64_t)dtype_size(f->storage)};
    enum status st = sink->put(sink, "W_q", f->storage, 2, shape, packed, err);
    if (!st)
        st = put_parameters(w, "scale", w->scales, scratch, sink, err);
    if (!st)
        st = put_parameters(w, "zero", w->zeros, scratch, sink, err);
    return st ? st : hqq_meta_store(&f->meta, sink, err);
}

static enum status hqq_store(const struct weight *w, struct tensor_sink *sink, struct error *err)
{
    if (!is_whole(w))
        return error_set(err, ST_NOT_SUPPORTED, "a part of an HQQ module cannot be stored");
    const struct hqq_meta *m = &((const struct hqq_format *)w->format)->meta;
    struct hqq_layout l = hqq_layout_of(m->packing, m->n, m->k, m->axis, m->group);
    uint8_t *codes = calloc((size_t)(m->n * m->k), 1);
    void *packed = calloc((size_t)hqq_layout_bytes(&l), 1);
    void *scratch = malloc((size_t)count_groups(m) * dtype_size(w->dtype));
    enum status st = ST_OK;
    if (!codes || !packed || !scratch || !tiles_codes(w, codes)) {
        st = error_memory(err, "storing an HQQ weight");
        goto done;
    }
    hqq_pack(&l, codes, packed);
    st = put_all(w, &l, packed, scratch, sink, err);
done:
    free(codes);
    free(packed);
    free(scratch);
    return st;
}

const struct backend hqq_backend = {
    .name = "hqq",
    .claim = hqq_claim,
    .load = hqq_load,
    .describe = hqq_describe,
    .requantize = hqq_requantize,
    .plan = hqq_plan,
    .store = hqq_store,
};
