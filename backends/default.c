/*
 * Plain modules: floats as they are. Claims a module whose `weight` is F32, F16 or BF16 and that
 * has at most a `bias` beside it; everything that betrays a quantization is refused by name, never
 * decoded as if it were plain. Being the chain's last row it also speaks for modules that nobody
 * claimed.
 *
 *   nn.Linear, nn.Embedding   weight [n, k]                      row r is W's row r
 *   nn.Conv2d                 weight [n, in/groups, kh, kw]      the same bytes, W [n, k] with
 *                                                                k = (in/groups) * kh * kw
 *   GPT-2 Conv1D              weight [k, n]: input first         transposed while loading and again
 *                                                                while storing
 *
 * Encoding: ENC_DENSE in the stored dtype, so decoding rounds nothing. Requantizing is rounding to
 * that dtype (nearest even). Any rows and columns can be cut out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

/* What the file looked like, for store. Weights without one are stored as [n, k]. */
struct default_format {
    int rank;
    int64_t shape[4];
    bool transposed;
};

/* Tensors that only quantized modules have: a suffix, or its beginning where it ends in '.'. */
static const struct {
    const char *suffix, *what;
} quantized[] = {
    {"qweight", "GPTQ or AWQ codes"},
    {"qzeros", "GPTQ or AWQ zeros"},
    {"scaled_zeros", "AWQ zeros"},
    {"g_idx", "GPTQ groups"},
    {"W_q", "HQQ codes"},
    {"codes", "AQLM codes"},
    {"codebooks", "AQLM codebooks"},
    {"scales", "the scales of a quantization"},
    {"weight.absmax", "bitsandbytes 4-bit"},
    {"weight.quant_map", "bitsandbytes 4-bit"},
    {"weight.nested_absmax", "bitsandbytes 4-bit"},
    {"weight.quant_state.", "bitsandbytes 4-bit"},
    {"SCB", "bitsandbytes 8-bit"},
    {"weight_format", "bitsandbytes 8-bit"},
    {"weight_scales", "EETQ"},
    {"scale_weight", "FP8 of Intel Neural Compressor"},
    {"dequant_weights.", "FP8 of Intel Neural Compressor"},
    {"weight_scale", "FP8 or compressed-tensors scales"},
    {"weight_scale_inv", "block FP8"},
    {"weight_packed", "compressed-tensors"},
    {"input_scale", "FP8 activations"},
};
#define N_QUANTIZED (sizeof quantized / sizeof quantized[0])

/* What a suffix betrays, or NULL. */
static const char *quantization(const char *suffix)
{
    for (size_t i = 0; i < N_QUANTIZED; i++) {
        const char *q = quantized[i].suffix;
        size_t n = strlen(q);
        if (q[n - 1] == '.' ? !strncmp(suffix, q, n) : !strcmp(suffix, q))
            return quantized[i].what;
    }
    return NULL;
}

/* One finding for the first tensor that betrays a quantization; false if there is none. */
static bool refuse_quantized(const struct module_spec *spec, struct findings *findings)
{
    const char *method = json_string_value(json_object_get(spec->quant, "quant_method"));
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const struct tensor *t = &spec->tensors[i];
        const char *suffix = spec_suffix(spec, t);
        const char *what = suffix ? quantization(suffix) : NULL;
        if (!what)
            continue;
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, t->name,
                     NULL, method ? method : what,
                     "%s: module %s is quantized in a way that is not supported (%s: %s%s%s)",
                     t->file, spec->name, t->name, what, method ? ", quant_method " : "",
                     method ? method : "");
        return true;
    }
    return false;
}

/* The shape of the module's weight in a plain file; returns its rank. */
static int plain_shape(const struct module_spec *spec, int64_t shape[4])
{
    switch (spec->kind) {
    case MODULE_CONV2D:
        shape[0] = spec->n;
        memcpy(shape + 1, spec->conv, 3 * sizeof *shape);
        return 4;
    case MODULE_CONV1D:
        shape[0] = spec->k;
        shape[1] = spec->n;
        return 2;
    case MODULE_LINEAR:
    case MODULE_EMBEDDING:
        break;
    }
    shape[0] = spec->n;
    shape[1] = spec->k;
    return 2;
}

/* Checks everything; the weight tensor, or NULL with findings. */
static const struct tensor *examine(const struct module_spec *spec, struct findings *findings)
{
    if (refuse_quantized(spec, findings) || !spec_sizes(spec, findings))
        return NULL;
    struct spec_want want = {.suffix = "weight", .dtypes = SPEC_FLOATS};
    want.rank = plain_shape(spec, want.shape);
    int64_t product;
    if (!size_product(want.shape, want.rank, &product) || product != spec->n * spec->k) {
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name, NULL, NULL,
                     NULL, "module %s: its convolution does not have %lld inputs", spec->name,
                     (long long)spec->k);
        return NULL;
    }
    size_t errors = findings->errors;
    const struct tensor *t = spec_want(spec, &want, findings);
    spec_only(spec, (const char *const[]){"weight", "bias", NULL}, findings);
    return findings->errors == errors ? t : NULL;
}

static enum claim default_claim(const struct module_spec *spec, struct findings *findings)
{
    return examine(spec, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* Allocates a dense weight of [n, k] with the file's shape (format may be NULL). */
static enum status new_dense(struct weight *w, enum dtype dtype, int64_t n, int64_t k,
                             const struct default_format *format, struct error *err)
{
    *w = (struct weight){.encoding = ENC_DENSE, .dtype = dtype, .rule = RULE_NONE};
    spec_weight_sizes(w, n, k);
    w->flat_k = k;
    w->data_bytes = tile_dense_bytes(n, k, dtype);
    w->data = memory_alloc(w->data_bytes);
    if (format) {
        w->format = malloc(sizeof *format);
        w->format_bytes = sizeof *format;
    }
    if (!w->data || (format && !w->format)) {
        weight_clear(w);
        return error_memory(err, "allocating a plain weight");
    }
    if (format)
        memcpy(w->format, format, sizeof *format);
    return ST_OK;
}

/* [k, n] in the file: 16 columns become 16 rows, tile by tile. */
static enum status load_transposed(const struct tensor *t, const struct slice *part,
                                   struct weight *w, struct error *err)
{
    size_t size = dtype_size(t->dtype);
    char *rows = malloc(TILE_ROWS * (size_t)w->k * size);
    if (!rows)
        return error_memory(err, "transposing a weight");
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        int64_t first = tile * TILE_ROWS;
        int64_t have = w->n - first < TILE_ROWS ? w->n - first : TILE_ROWS;
        for (int64_t k = 0; k < w->k; k++) {
            const char *from = (const char *)t->data +
                               (size_t)((part->col + k) * t->shape[1] + part->row + first) * size;
            for (int64_t r = 0; r < have; r++)
                memcpy(rows + (size_t)(r * w->k + k) * size, from + (size_t)r * size, size);
        }
        tile_pack_dense(w->data, w->k_padded, t->dtype, tile, rows, w->k, have, w->k);
    }
    free(rows);
    return ST_OK;
}

static enum status default_load(const struct module_spec *spec, struct slice slice,
                                struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    const struct tensor *t = examine(spec, &findings);
    if (!t)
        return error_from_findings(err, &findings);
    struct slice part;
    enum status st = spec_slice(spec, slice, 1, &part, err);
    if (st)
        return st;
    struct default_format format = {.rank = t->rank, .transposed = spec->kind == MODULE_CONV1D};
    memcpy(format.shape, t->shape, sizeof format.shape);
    st = new_dense(out, t->dtype, part.rows, part.cols, &format, err);
    if (st)
        return st;
    if (format.transposed) {
        st = load_transposed(t, &part, out, err);
        if (st) {
            weight_clear(out);
            return st;
        }
    } else {
        const char *from =
            (const char *)t->data + (size_t)(part.row * spec->k + part.col) * dtype_size(t->dtype);
        size_t step = TILE_ROWS * (size_t)spec->k * dtype_size(t->dtype);
        for (int64_t tile = 0; tile < out->n_tiles; tile++, from += step) {
            int64_t left = part.rows - tile * TILE_ROWS;
            tile_pack_dense(out->data, out->k_padded, t->dtype, tile, from, spec->k,
                            left < TILE_ROWS ? left : TILE_ROWS, part.cols);
        }
    }
    out->flat_k = spec->k;
    out->flat_row = part.row;
    out->flat_col = part.col;
    out->file_bytes = spec_file_bytes(spec, &part);
    return ST_OK;
}

static char *default_describe(const struct weight *w, char *buf, size_t size)
{
    snprintf(buf, size, "%s", dtype_torch(w->dtype));
    return buf;
}

static enum status default_requantize(const struct weight *like, const float *w, struct weight *out,
                                      struct error *err)
{
    memset(out, 0, sizeof *out);
    size_t size = dtype_size(like->dtype);
    char *rows = malloc(TILE_ROWS * (size_t)like->k * size);
    if (!rows)
        return error_memory(err, "rounding a weight");
    enum status st = new_dense(out, like->dtype, like->n, like->k, like->format, err);
    for (int64_t tile = 0; !st && tile < out->n_tiles; tile++) {
        int64_t first = tile * TILE_ROWS;
        int64_t have = out->n - first < TILE_ROWS ? out->n - first : TILE_ROWS;
        tensor_from_f32(w + first * out->k, have * out->k, out->dtype, rows);
        tile_pack_dense(out->data, out->k_padded, out->dtype, tile, rows, out->k, have, out->k);
    }
    if (!st)
        out->file_bytes = (size_t)(like->n * like->k) * size;
    free(rows);
    return st;
}

static enum status default_store(const struct weight *w, struct tensor_sink *sink,
                                 struct error *err)
{
    const struct default_format *format = w->format;
    struct default_format plain = {.rank = 2, .shape = {w->n, w->k}};
    if (!format)
        format = &plain;
    int64_t elements;
    if (!size_product(format->shape, format->rank, &elements) || elements != w->n * w->k)
        return error_set(err, ST_NOT_SUPPORTED, "a part of a module cannot be stored");
    size_t size = dtype_size(w->dtype);
    char *bytes = malloc((size_t)elements * size);
    if (!bytes)
        return error_memory(err, "storing a weight");
    for (int64_t r = 0; r < w->n; r++)
        for (int64_t k = 0; k < w->k; k++) {
            float f = tile_dense(w->data, w->k_padded, w->dtype, r, k);
            int64_t at = format->transposed ? k * w->n + r : r * w->k + k;
            tensor_from_f32(&f, 1, w->dtype, bytes + (size_t)at * size);
        }
    enum status st = sink->put(sink, "weight", w->dtype, format->rank, format->shape, bytes, err);
    free(bytes);
    return st;
}

const struct backend default_backend = {
    .name = "default",
    .claim = default_claim,
    .load = default_load,
    .describe = default_describe,
    .requantize = default_requantize,
    .store = default_store,
};
