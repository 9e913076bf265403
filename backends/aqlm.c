/*
 * AQLM (aqlm 1.1, transformers' AqlmConfig): additive codebooks. W [n, k] is cut into pieces of
 * out_group rows x in_group columns; each is a sum of one vector from each of C codebooks of 2^b
 * vectors, times its row's scale. Under a module's name:
 *
 *   codes      I8 (b <= 8), I16 (b <= 16), I32 or I64 [n / out_group, k / in_group, C]
 *   codebooks  F16, BF16 or F32 [C, 2^b, out_group, in_group]
 *   scales     the same dtype [n / out_group, 1, 1, 1]
 *   bias       [n], not ours
 *
 *   W[i og + p][j ig + q] = D(D(sum over books m of codebooks[m][c[i][j][m]][p][q]) * scales[i])
 *
 * The sum is f32 from book 0 up, D the codebooks' dtype. A code is stored as a two's complement
 * number of b bits: c = stored mod 2^b, so that an I16 of -1 is vector 65535 and an I8 of -128 is
 * vector 128. Codes stored unsigned give the same; anything else is refused.
 *
 * The shapes tell everything; what in_group_size, out_group_size, num_codebooks and
 * nbits_per_codebook of quantization_config say must agree. linear_weights_not_to_quantize is not
 * looked at: its entries are weights' names for some writers and modules' names for some readers.
 *
 * The library turns the codes round in memory when a model with 256 vectors a book runs on a CPU,
 * so a file saved after that has codes [k / in_group, n / out_group, C]. It is known by that shape;
 * where both numbers are equal, the usual order is assumed.
 *
 * Encoding: ENC_CODEBOOK, 1..16 bits, U16 codes in their natural order, U8 ones interleaved. A part
 * is cut at multiples of both groups and has the whole codebooks. There is no requantize: the
 * encoder is a beam search on calibration data, and the library has no dequantization for PEFT to
 * merge with.
 */
#include <stdio.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

#define BITS_MAX 16

struct layout {
    const struct tensor *codes, *codebooks, *scales;
    int64_t books, out_group, in_group;
    int bits;
    bool turned; /* codes [k / in_group, n / out_group, C] */
};

static void complain(const struct module_spec *spec, struct findings *findings, enum status code,
                     const char *what, int64_t expected, int64_t got)
{
    char want[24], have[24];
    snprintf(want, sizeof want, "%lld", (long long)expected);
    snprintf(have, sizeof have, "%lld", (long long)got);
    findings_add(findings, SEVERITY_ERROR, code, spec->name, what, want, have,
                 "%s: module %s: AQLM's %s is %s, expected %s", spec->tensors[0].file, spec->name,
                 what, have, want);
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    return spec_tensor(spec, "codebooks") || spec_tensor(spec, "codes");
}

static void check_key(const struct module_spec *spec, const char *key, int64_t expected,
                      struct findings *findings)
{
    const json_t *v = json_object_get(spec->quant, key);
    if (v && !json_is_integer(v))
        findings_add(findings, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, spec->name, key,
                     "an integer", NULL, "module %s: \"%s\" of quantization_config is no integer",
                     spec->name, key);
    else if (v && json_integer_value(v) != expected)
        findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, key, NULL, NULL,
                     "module %s: \"%s\" of quantization_config is %lld, but its codebooks say %lld",
                     spec->name, key, (long long)json_integer_value(v), (long long)expected);
}

static void check_config(const struct module_spec *spec, const struct layout *l,
                         struct findings *findings)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    if (method && (!json_is_string(method) || strcmp(json_string_value(method), "aqlm") != 0))
        findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, "quant_method",
                     "aqlm", json_string_value(method),
                     "module %s has AQLM tensors, but \"quant_method\" is not \"aqlm\"",
                     spec->name);
    check_key(spec, "in_group_size", l->in_group, findings);
    check_key(spec, "out_group_size", l->out_group, findings);
    check_key(spec, "num_codebooks", l->books, findings);
    check_key(spec, "nbits_per_codebook", l->bits, findings);
}

/* The codebooks' shape into l; false with findings. */
static bool read_codebooks(const struct module_spec *spec, struct layout *l,
                           struct findings *findings)
{
    size_t errors = findings->errors;
    struct spec_want want = {"codebooks", SPEC_FLOATS, 4, {0}, false};
    const struct tensor *t = spec_tensor(spec, "codebooks");
    if (t && t->rank == 4)
        memcpy(want.shape, t->shape, sizeof want.shape);
    l->codebooks = t = spec_want(spec, &want, findings);
    if (!t)
        return false;
    int64_t vectors = t->shape[1];
    l->books = t->shape[0];
    l->out_group = t->shape[2];
    l->in_group = t->shape[3];
    while (l->bits < BITS_MAX && (int64_t)1 << l->bits < vectors)
        l->bits++;
    if (l->bits < 1 || (int64_t)1 << l->bits != vectors)
        complain(spec, findings, ST_TENSOR_SHAPE_MISMATCH,
                 "codebook size (a power of two from 2 to 65536)", (int64_t)1 << l->bits, vectors);
    if (l->books < 1 || l->books > INT32_MAX)
        complain(spec, findings, ST_TENSOR_SHAPE_MISMATCH, "number of codebooks", 1, l->books);
    if (l->out_group < 1 || spec->n % l->out_group)
        complain(spec, findings, ST_TENSOR_SHAPE_MISMATCH, "out_group_size (a divisor of the rows)",
                 spec->n, l->out_group);
    if (l->in_group < 1 || spec->k % l->in_group)
        complain(spec, findings, ST_TENSOR_SHAPE_MISMATCH,
                 "in_group_size (a divisor of the columns)", spec->k, l->in_group);
    return findings->errors == errors;
}

/* Checks everything but the codes' values; false with findings. */
static bool examine(const struct module_spec *spec, struct layout *l, struct findings *findings)
{
    static const char *const suffixes[] = {"codes", "codebooks", "scales", "bias", NULL};
    size_t errors = findings->errors;
    memset(l, 0, sizeof *l);
    spec_only(spec, suffixes, findings);
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL, "module %s: AQLM is only supported in linear modules",
                     spec->name);
    if (!spec_sizes(spec, findings) || !read_codebooks(spec, l, findings))
        return false;
    check_config(spec, l, findings);

    int64_t out = spec->n / l->out_group, in = spec->k / l->in_group;
    unsigned wide = SPEC_DTYPE(I16) | SPEC_DTYPE(I32) | SPEC_DTYPE(I64);
    struct spec_want codes = {
        "codes", l->bits <= 8 ? SPEC_DTYPE(I8) | wide : wide, 3, {out, in, l->books}, false};
    struct spec_want scales = {"scales", 1u << l->codebooks->dtype, 4, {out, 1, 1, 1}, false};
    const int64_t turned[3] = {in, out, l->books};
    const struct tensor *t = spec_tensor(spec, "codes");
    if (t && l->bits == 8 && out != in && tensor_shape_is(t, 3, turned)) {
        l->turned = true;
        memcpy(codes.shape, turned, sizeof turned);
    }
    l->codes = spec_want(spec, &codes, findings);
    l->scales = spec_want(spec, &scales, findings);
    return findings->errors == errors;
}

static enum claim aqlm_claim(const struct module_spec *spec, struct findings *findings)
{
    struct layout l;
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, &l, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- load ---- */

static int64_t stored_code(const struct tensor *t, int64_t i)
{
    int64_t wide;
    switch (t->dtype) {
    case DT_I8:
        return ((const int8_t *)t->data)[i];
    case DT_I16:
        return (int16_t)load_u16((const char *)t->data + 2 * i);
    case DT_I32:
        return (int32_t)load_u32((const char *)t->data + 4 * i);
    default:
        memcpy(&wide, (const char *)t->data + 8 * i, sizeof wide);
        return wide;
    }
}

static enum status load_codes(const struct layout *l, const struct slice *pieces, void *to,
                              struct error *err)
{
    int64_t ends = (int64_t)1 << l->bits, lookups = pieces->cols * l->books;
    for (int64_t i = pieces->row; i < pieces->row + pieces->rows; i++) {
        for (int64_t j = pieces->col; j < pieces->col + pieces->cols; j++) {
            int64_t from = l->turned ? j * l->codes->shape[1] + i : i * l->codes->shape[1] + j;
            for (int64_t b = 0; b < l->books; b++) {
                int64_t v = stored_code(l->codes, from * l->books + b);
                int64_t at = tile_book_index(i - pieces->row, lookups,
                                             (j - pieces->col) * l->books + b, l->bits);
                if (v < -ends / 2 || v >= ends)
                    return error_set(err, ST_CHECKPOINT_INVALID,
                                     "%s: tensor %s holds the code %lld, expected %lld to %lld",
                                     l->codes->file, l->codes->name, (long long)v,
                                     (long long)-ends / 2, (long long)ends - 1);
                if (l->bits <= 8)
                    ((uint8_t *)to)[at] = (uint8_t)(v & (ends - 1));
                else
                    ((uint16_t *)to)[at] = (uint16_t)(v & (ends - 1));
            }
        }
    }
    return ST_OK;
}

static enum status build(const struct module_spec *spec, const struct layout *l,
                         const struct slice *part, struct weight *w, struct error *err)
{
    enum dtype dtype = l->codebooks->dtype;
    struct slice pieces = {part->row / l->out_group, part->rows / l->out_group,
                           part->col / l->in_group, part->cols / l->in_group};
    *w = (struct weight){.encoding = ENC_CODEBOOK,
                         .dtype = dtype,
                         .rule = RULE_STEPS,
                         .bits = l->bits,
                         .scale_dtype = dtype,
                         .books = (int)l->books,
                         .in_group = (int)l->in_group,
                         .out_group = (int)l->out_group,
                         .codebook_dtype = dtype};
    spec_weight_sizes(w, part->rows, part->cols);
    w->data_bytes = tile_book_bytes(pieces.rows, pieces.cols * l->books, l->bits);
    w->data = memory_alloc(w->data_bytes);
    w->scales = memory_alloc((size_t)pieces.rows * dtype_size(dtype));
    w->codebook = memory_alloc(l->codebooks->bytes);
    if (!w->data || !w->scales || !w->codebook)
        return error_memory(err, "loading an AQLM weight");
    enum status st = load_codes(l, &pieces, w->data, err);
    if (!st)
        st = spec_finite(spec, l->scales, err);
    if (!st)
        st = spec_finite(spec, l->codebooks, err);
    size_t size = dtype_size(dtype);
    memcpy(w->scales, (const char *)l->scales->data + (size_t)pieces.row * size,
           (size_t)pieces.rows * size);
    memcpy(w->codebook, l->codebooks->data, l->codebooks->bytes);
    if (!st)
        w->file_bytes = spec_file_bytes(spec, part);
    return st;
}

static enum status aqlm_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                             struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct layout l;
    if (!examine(spec, &l, &findings))
        return error_from_findings(err, &findings);
    struct slice part;
    enum status st = spec_slice(spec, slice, l.in_group, &part, err);
    if (!st && (part.row % l.out_group || part.rows % l.out_group))
        st =
            error_set(err, ST_NOT_SUPPORTED, "module %s: rows can only be cut at multiples of %lld",
                      spec->name, (long long)l.out_group);
    if (!st)
        st = build(spec, &l, &part, out, err);
    if (st)
        weight_clear(out);
    return st;
}

static char *aqlm_describe(const struct weight *w, char *buf, size_t size)
{
    snprintf(buf, size, "%dx%d (%d codebook%s of %d bit%s), groups of %d x %d", w->books, w->bits,
             w->books, w->books == 1 ? "" : "s", w->bits, w->bits == 1 ? "" : "s", w->out_group,
             w->in_group);
    return buf;
}

const struct backend aqlm_backend = {
    .name = "aqlm",
    .claim = aqlm_claim,
    .load = aqlm_load,
    .describe = aqlm_describe,
};
