/*
 * bitsandbytes 8-bit (LLM.int8()), from bitsandbytes/nn/modules.py (Linear8bitLt, Int8Params),
 * backends/default/ops.py and transformers/integrations/bitsandbytes.py. A row of W [n, k] is k
 * signed codes and one absmax:
 *
 *   weight          I8  [n, k]   row-major, also for GPT-2's Conv1D, which is transposed before it
 *                                is quantized
 *   SCB             F32 [n]      absmax of the row
 *   weight_format   U8  []       0: row. 1 col32, 2 col_turing, 3 col_ampere: refused, as the
 * library does. Absent: row
 *
 *   W[r][c] = f32(f32(code * SCB[r]) * (1/127 as f32))
 *
 * What the library computes while it infers (activations rounded to 8 bits, columns with outliers
 * apart) is an approximation of the product with this W; we multiply with W itself.
 *
 *   requantize, per row, as Int8Params does on a CPU: w is cast to F16, SCB = max |w|,
 *   s = f32(f32(1 / SCB) * 127), code = round(f32(w * s)) to nearest even; a row of zeros has codes
 * 0
 *
 * The tensors decide: SCB or weight_format, or an I8 weight under "load_in_8bit". Refused by name:
 * embeddings (the library cannot save them) and convolutions, and a Conv1D under
 * "llm_int8_has_fp16_weight", whose float weight may lie either way. Other float weights under that
 * key are plain modules. Any rows and columns can be cut out.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "backends/int8_rows.h"
#include "backends/spec.h"

/* What weight.format holds. */
struct bnb_8bit_format {
    int64_t n, k; /* of the whole module */
    bool weight_format;
};

static const float one_127th = 7.874015718698502e-3f;

/* ---- claim ---- */

static bool flag(const struct module_spec *spec, const char *key)
{
    return json_is_true(json_object_get(spec->quant, key));
}

static bool is_8bit(const struct module_spec *spec)
{
    return flag(spec, "load_in_8bit") || flag(spec, "_load_in_8bit");
}

/* A float Conv1D that may have been transposed. */
static bool is_ambiguous(const struct module_spec *spec)
{
    return spec->kind == MODULE_CONV1D && is_8bit(spec) && flag(spec, "llm_int8_has_fp16_weight");
}

static bool is_mine(const struct module_spec *spec)
{
    const struct tensor *weight = spec_tensor(spec, "weight");
    if (spec_tensor(spec, "SCB") || spec_tensor(spec, "weight_format"))
        return true;
    return weight && is_8bit(spec) && (weight->dtype == DT_I8 || is_ambiguous(spec));
}

static void complain(const struct module_spec *spec, const char *field, struct findings *findings,
                     const char *expected, const char *got)
{
    findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, field, expected, got,
                 "module %s is bitsandbytes 8-bit: %s: expected %s, got %s", spec->name, field,
                 expected, got);
}

/* quantization_config, where there is one, must mean 8-bit bitsandbytes. */
static void check_config(const struct module_spec *spec, struct findings *findings)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    const char *name = json_string_value(method);
    if (!spec->quant)
        return;
    if (method && (!name || strcmp(name, "bitsandbytes") != 0))
        complain(spec, "quant_method", findings, "\"bitsandbytes\"",
                 name ? name : "something else");
    else if (!is_8bit(spec))
        complain(spec, "load_in_8bit", findings, "true", "something else");
    else if (flag(spec, "llm_int8_has_fp16_weight"))
        complain(spec, "llm_int8_has_fp16_weight", findings, "false beside 8-bit tensors", "true");
}

/* The one byte of weight_format is configuration, so claim looks at it. */
static void check_format(const struct module_spec *spec, struct findings *findings)
{
    static const char *const layouts[] = {"row", "col32", "col_turing", "col_ampere"};
    const struct spec_want want = {
        .suffix = "weight_format", .dtypes = SPEC_DTYPE(U8), .rank = 0, .optional = true};
    const struct tensor *t = spec_want(spec, &want, findings);
    unsigned value = t ? *(const uint8_t *)t->data : 0;
    if (value)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, t->name,
                     "0 (row)", value < 4 ? layouts[value] : "unknown",
                     "%s: %s is %u (%s), expected 0 (row): other layouts are not supported",
                     t->file, t->name, value, value < 4 ? layouts[value] : "unknown");
}

/* Checks everything; false with findings. */
static bool examine(const struct module_spec *spec, struct findings *findings)
{
    static const char *const suffixes[] = {"weight", "SCB", "weight_format", "bias", NULL};
    size_t errors = findings->errors;
    if (is_ambiguous(spec) && !spec_tensor(spec, "SCB")) {
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name,
                     "llm_int8_has_fp16_weight", "false", "true",
                     "module %s: a Conv1D under \"llm_int8_has_fp16_weight\" may be stored either "
                     "way round and is not supported",
                     spec->name);
        return false;
    }
    check_config(spec, findings);
    spec_only(spec, suffixes, findings);
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL,
                     "module %s: bitsandbytes 8-bit is only supported in linear modules",
                     spec->name);
    if (!spec_sizes(spec, findings))
        return false;
    const struct spec_want wants[] = {
        {"weight", SPEC_DTYPE(I8), 2, {spec->n, spec->k}, false},
        {"SCB", SPEC_DTYPE(F32), 1, {spec->n}, false},
    };
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++)
        spec_want(spec, &wants[i], findings);
    check_format(spec, findings);
    return findings->errors == errors;
}

static enum claim bnb_8bit_claim(const struct module_spec *spec, struct findings *findings)
{
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- load ---- */

/* A weight of this part, still without codes and scales. */
static enum status new_weight(struct weight *w, const struct bnb_8bit_format *format,
                              const struct slice *part, struct error *err)
{
    *w = (struct weight){
        .dtype = DT_F32, .rule = RULE_FACTOR, .factor = one_127th, .scale_dtype = DT_F32};
    enum status st = int8_rows_init(w, part, format->k, err);
    if (st)
        return st;
    w->format = malloc(sizeof *format);
    if (!w->format) {
        weight_clear(w);
        return error_memory(err, "loading an 8-bit weight");
    }
    memcpy(w->format, format, sizeof *format);
    w->format_bytes = sizeof *format;
    return ST_OK;
}

static enum status load_codes(const struct tensor *t, const struct slice *part, struct weight *w,
                              struct error *err)
{
    uint8_t *codes = malloc(TILE_ROWS * (size_t)w->k);
    if (!codes)
        return error_memory(err, "loading an 8-bit weight");
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        uint8_t *to = codes;
        for (int64_t r = tile * TILE_ROWS; r < (tile + 1) * TILE_ROWS && r < w->n; r++) {
            const uint8_t *from =
                (const uint8_t *)t->data + (part->row + r) * t->shape[1] + part->col;
            for (int64_t k = 0; k < w->k; k++)
                *to++ = from[k] ^ 0x80; // + 128
        }
        int8_rows_pack(w, tile, codes);
    }
    free(codes);
    return ST_OK;
}

static enum status bnb_8bit_load(const struct module_spec *spec, struct slice slice,
                                 struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    if (!examine(spec, &findings))
        return error_from_findings(err, &findings);
    struct slice part;
    const struct tensor *scb = spec_tensor(spec, "SCB");
    enum status st = spec_slice(spec, slice, 1, &part, err);
    if (!st)
        st = spec_finite(spec, scb, err);
    if (st)
        return st;
    struct bnb_8bit_format format = {
        .n = spec->n, .k = spec->k, .weight_format = spec_tensor(spec, "weight_format") != NULL};
    st = new_weight(out, &format, &part, err);
    if (!st)
        st = load_codes(spec_tensor(spec, "weight"), &part, out, err);
    if (st) {
        weight_clear(out);
        return st;
    }
    int8_rows_scales(out, scb, part.row);
    out->file_bytes = spec_file_bytes(spec, &part);
    return ST_OK;
}

static char *bnb_8bit_describe(const struct weight *w, char *buf, size_t size)
{
    (void)w;
    snprintf(buf, size, "int8, a scale a row");
    return buf;
}

/* ---- requantize, store ---- */

static bool is_whole(const struct weight *w)
{
    const struct bnb_8bit_format *format = w->format;
    return format && w->n == format->n && w->k == format->k;
}

/* Codes of one row, as the library makes them, and its absmax; half: [k] scratch. */
static float quantize_row(const float *w, int64_t k, float *half, uint8_t *codes)
{
    float absmax = 0;
    for (int64_t i = 0; i < k; i++) {
        half[i] = f16_to_f32(f32_to_f16(w[i]));
        float a = fabsf(half[i]);
        absmax = a > absmax || isnan(a) ? a : absmax;
    }
    float s = absmax > 0 && isfinite(absmax) ? 1.0f / absmax * 127.0f : 0; // two roundings
    for (int64_t i = 0; i < k; i++) {
        // the sum's last bits are the product rounded to an integer, nearest even
        float sum = half[i] * s + 0x1.8p23f;
        codes[i] = (uint8_t)(load_u32(&sum) + 128);
    }
    return absmax;
}

static enum status quantize_tile(const float *w, struct weight *out, int64_t tile, float *half,
                                 uint8_t *codes, struct error *err)
{
    int64_t first = tile * TILE_ROWS;
    for (int64_t r = first; r < first + TILE_ROWS && r < out->n; r++) {
        float absmax = quantize_row(w + r * out->k, out->k, half, codes + (r - first) * out->k);
        if (!isfinite(absmax))
            return error_set(err, ST_MERGE_NON_FINITE,
                             "row %lld of the weight is not finite in F16, from which bitsandbytes "
                             "quantizes to 8 bits",
                             (long long)r);
        ((float *)out->scales)[r] = absmax;
    }
    int8_rows_pack(out, tile, codes);
    return ST_OK;
}

static enum status bnb_8bit_requantize(const struct weight *like, const float *w,
                                       struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (!is_whole(like))
        return error_set(err, ST_NOT_SUPPORTED, "a part of an 8-bit module cannot be requantized");
    enum status st = ST_OK;
    float *half = malloc((size_t)like->k * sizeof *half);
    uint8_t *codes = malloc(TILE_ROWS * (size_t)like->k);
    if (!half || !codes) {
        st = error_memory(err, "quantizing a weight to 8 bits");
        goto done;
    }
    st = new_weight(out, like->format, &(struct slice){.rows = like->n, .cols = like->k}, err);
    for (int64_t tile = 0; !st && tile < out->n_tiles; tile++)
        st = quantize_tile(w, out, tile, half, codes, err);
    if (st)
        weight_clear(out);
    else
        out->file_bytes = like->file_bytes;
done:
    free(half);
    free(codes);
    return st;
}

static enum status bnb_8bit_plan(const struct scheme *scheme, const struct module_spec *plain,
                                 enum dtype dtype, struct weight *like, struct error *err)
{
    (void)scheme; // it has no parameters, and codes come from F16 whatever the dtype was
    (void)dtype;
    const struct bnb_8bit_format format = {.n = plain->n, .k = plain->k, .weight_format = true};
    *like = (struct weight){.encoding = ENC_GROUP, .dtype = DT_F32, .n = plain->n, .k = plain->k};
    like->format = malloc(sizeof format);
    if (!like->format)
        return error_memory(err, "quantizing a weight to 8 bits");
    memcpy(like->format, &format, sizeof format);
    like->format_bytes = sizeof format;
    return ST_OK;
}

static enum status bnb_8bit_store(const struct weight *w, struct tensor_sink *sink,
                                  struct error *err)
{
    if (!is_whole(w))
        return error_set(err, ST_NOT_SUPPORTED, "a part of an 8-bit module cannot be stored");
    const struct bnb_8bit_format *format = w->format;
    const int64_t shape[2] = {w->n, w->k};
    const uint8_t row_major = 0;
    int8_t *codes = malloc((size_t)(w->n * w->k));
    if (!codes || !int8_rows_unpack(w, codes)) {
        free(codes);
        return error_memory(err, "storing an 8-bit weight");
    }
    enum status st = sink->put(sink, "weight", DT_I8, 2, shape, codes, err);
    if (!st)
        st = sink->put(sink, "SCB", DT_F32, 1, shape, w->scales, err);
    if (!st && format->weight_format)
        st = sink->put(sink, "weight_format", DT_U8, 0, shape, &row_major, err);
    free(codes);
    return st;
}

const struct backend bnb_8bit_backend = {
    .name = "bnb_8bit",
    .claim = bnb_8bit_claim,
    .load = bnb_8bit_load,
    .describe = bnb_8bit_describe,
    .requantize = bnb_8bit_requantize,
    .plan = bnb_8bit_plan,
    .store = bnb_8bit_store,
};
