/*
 * Owns weights of 8-bit floats:
 *
 *   weight   F8_E4M3 or F8_E5M2 [n, k], or transposed [k, n]
 *   scales   F32, F16 or BF16; element [i][j] of [ceil(n / rows), ceil(k / cols)] multiplies the
 *            rows [i rows, (i + 1) rows) and the columns [j cols, (j + 1) cols) of W:
 *
 *                per tensor   rows = n, cols = k        one number
 *                per output   rows = 1, cols = k        a column of n
 *                grouped      rows = 1, cols = G
 *                blocks       rows, cols as the config says (128, 128)
 *
 *   W[r][c] = D(f32(code) * f32(scale)), one rounding
 *
 *   E4M3 (fn)  s eeee mmm, bias 7: (1 + m/8) 2^(e-7), e = 0: m/8 2^-6. 0x7f and 0xff are NaN, there
 *              is no infinity, the greatest is 448. Gaudi 2 uses the codes up to 0x77 (240) only;
 *              those mean the same
 *   E5M2       s eeeee mm, bias 15: the upper byte of a half; e = 31 is infinity or NaN
 *
 * In memory a scale is repeated for each row: kernels know groups of columns within a row. Codes
 * that are NaN or infinite, and such scales, are refused while loading.
 */
#include "backends/fp8_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

int64_t fp8_layout_scales(const struct module_spec *spec, const struct fp8_layout *layout)
{
    return divide_up(spec->n, layout->rows) * divide_up(spec->k, layout->cols);
}

bool fp8_layout_check(const struct module_spec *spec, const struct fp8_layout *layout,
                      struct findings *findings)
{
    size_t errors = findings->errors;
    if (!spec_sizes(spec, findings))
        return false;
    struct spec_want want = {"weight", layout->code_dtypes, 2, {spec->n, spec->k}, false};
    if (layout->transposed) {
        want.shape[0] = spec->k;
        want.shape[1] = spec->n;
    }
    spec_want(spec, &want, findings);
    const struct tensor *scales = spec_tensor(spec, layout->scale);
    if (!scales)
        scales = spec_want(spec, &(struct spec_want){.suffix = layout->scale}, findings);
    if (!scales)
        return false;
    int64_t wanted = fp8_layout_scales(spec, layout);
    want = (struct spec_want){.suffix = layout->scale, .dtypes = SPEC_FLOATS, .rank = scales->rank};
    if (scales->rank > 2 || tensor_elements(scales) != wanted) {
        want.rank = 1;
        want.shape[0] = wanted;
    } else {
        memcpy(want.shape, scales->shape, sizeof want.shape);
    }
    spec_want(spec, &want, findings);
    return findings->errors == errors;
}

/* 16 rows of codes, in W's order, ld apart. */
static void read_codes(const struct tensor *t, bool transposed, const struct slice *part,
                       int64_t first, int64_t have, uint8_t *codes, int64_t ld)
{
    const uint8_t *data = t->data;
    int64_t width = t->shape[1];
    for (int64_t r = 0; !transposed && r < have; r++)
        memcpy(codes + r * ld, data + (first + r) * width + part->col, (size_t)part->cols);
    for (int64_t k = 0; transposed && k < part->cols; k++)
        for (int64_t r = 0; r < have; r++)
            codes[r * ld + k] = data[(part->col + k) * width + first + r];
}

/* The first of the codes [have, k] that is not finite is an error. */
static enum status check_codes(const struct module_spec *spec, const struct slice *part,
                               int64_t first, int64_t have, const uint8_t *codes, int64_t ld,
                               struct error *err)
{
    const struct tensor *t = spec_tensor(spec, "weight");
    unsigned mask = t->dtype == DT_F8_E5M2 ? 0x7c : 0x7f; // all set: NaN, or infinity
    for (int64_t r = 0; r < have; r++) {
        const uint8_t *row = codes + r * ld;
        int64_t k = 0;
        while (k < part->cols && (row[k] & mask) != mask)
            k++;
        long long output = first + r, input = part->col + k;
        if (k < part->cols)
            return error_set(err, ST_NON_FINITE_WEIGHTS,
                             "%s: module %s: the code 0x%02x of tensor %s for output %lld, input "
                             "%lld is not finite",
                             t->file, spec->name, row[k], t->name, output, input);
    }
    return ST_OK;
}

static enum status load_codes(const struct module_spec *spec, const struct fp8_layout *layout,
                              const struct slice *part, struct weight *w, struct error *err)
{
    const struct tensor *t = spec_tensor(spec, "weight");
    int64_t ld = (w->k / 64 | 1) * 64 + 128; // an odd number of cache lines: no two rows collide
    uint8_t *codes = calloc(TILE_ROWS, (size_t)ld);
    if (!codes)
        return error_memory(err, "loading an FP8 weight");
    enum status st = ST_OK;
    for (int64_t tile = 0; !st && tile < w->n_tiles; tile++) {
        int64_t first = part->row + tile * TILE_ROWS, left = w->n - tile * TILE_ROWS;
        int64_t have = left < TILE_ROWS ? left : TILE_ROWS;
        read_codes(t, layout->transposed, part, first, have, codes, ld);
        st = check_codes(spec, part, first, have, codes, ld, err);
        if (!st)
            tile_pack_codes(w->data, w->k_padded, 8, tile, codes, ld, have, w->k);
    }
    free(codes);
    return st;
}

/* What the part's columns make of the groups of columns; false without memory. */
static bool plan_groups(const struct slice *part, int64_t cols, struct weight *w)
{
    int64_t first = part->col / cols, last = (part->col + part->cols - 1) / cols;
    w->n_groups = last - first + 1;
    // one group: long enough for whole runs of columns, whatever k is
    w->group = w->n_groups == 1 ? w->k_padded : cols;
    if (w->n_groups == 1 || part->col % cols == 0)
        return true;
    int32_t *group_of = memory_alloc((size_t)w->k_padded * sizeof *group_of);
    if (!group_of)
        return false;
    for (int64_t k = 0; k < w->k; k++)
        group_of[k] = (int32_t)((part->col + k) / cols - first);
    w->group_of = group_of;
    return true;
}

static void load_scales(const struct tensor *t, const struct module_spec *spec,
                        const struct fp8_layout *layout, const struct slice *part, struct weight *w)
{
    size_t size = dtype_size(t->dtype);
    int64_t width = divide_up(spec->k, layout->cols), first = part->col / layout->cols;
    for (int64_t g = 0; g < w->n_groups; g++)
        for (int64_t r = 0; r < w->n; r++) {
            int64_t at = (part->row + r) / layout->rows * width + first + g;
            memcpy((char *)w->scales + (size_t)tile_param(r, g, w->n_groups) * size,
                   (const char *)t->data + (size_t)at * size, size);
        }
}

enum status fp8_layout_load(const struct module_spec *spec, const struct fp8_layout *layout,
                            struct slice slice, struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    const struct tensor *scales = spec_tensor(spec, layout->scale);
    struct slice part;
    enum status st = spec_slice(spec, slice, 1, &part, err);
    if (!st)
        st = spec_finite(spec, scales, err);
    if (st)
        return st;
    *out = (struct weight){.encoding = ENC_FLOAT8,
                           .dtype = layout->dtype,
                           .rule = RULE_PRODUCT,
                           .bits = 8,
                           .code_dtype = spec_tensor(spec, "weight")->dtype,
                           .flat_k = spec->k,
                           .flat_row = part.row,
                           .flat_col = part.col,
                           .scale_dtype = scales->dtype};
    spec_weight_sizes(out, part.rows, part.cols);
    out->data_bytes = tile_code_bytes(out->n, out->k, 8);
    out->data = memory_alloc(out->data_bytes);
    if (out->data && plan_groups(&part, layout->cols, out))
        out->scales = memory_alloc((size_t)(out->n_tiles * TILE_ROWS * out->n_groups) *
                                   dtype_size(scales->dtype));
    if (!out->scales) {
        weight_clear(out);
        return error_memory(err, "loading an FP8 weight");
    }
    st = load_codes(spec, layout, &part, out, err);
    if (st) {
        weight_clear(out);
        return st;
    }
    tile_float8_steps(out);
    load_scales(scales, spec, layout, &part, out);
    out->file_bytes = spec_file_bytes(spec, &part);
    return ST_OK;
}

char *fp8_layout_describe(const struct weight *w, char *buf, size_t size)
{
    const char *code = w->code_dtype == DT_F8_E5M2 ? "float8_e5m2" : "float8_e4m3fn";
    if (w->n_groups == 1)
        snprintf(buf, size, "%s, a scale for each row", code);
    else
        snprintf(buf, size, "%s, a scale for each %lld columns", code, (long long)w->group);
    return buf;
}
