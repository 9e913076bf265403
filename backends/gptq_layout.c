/*
 * Owns the bits of GPTQ modules. W [n, k] in b bits, groups of G input channels:
 *
 *   qweight  I32 [ceil(k b / 32), n]       codes packed along k: column c of words holds row c of W
 *   qzeros   I32 [groups, ceil(n b / 32)]  zeros packed along n
 *   scales   F16, BF16 or F32 [groups, n]
 *   g_idx    I32 [k]                       group of each channel; absent: k / G
 *
 *   W[r][k] = D((code - zero[g][r]) * scale[g][r]), g = g_idx[k], D: the dtype of scales
 *
 * 32 codes take b words, as one stream of bits or in planes (bitstream.c).
 *
 * Zeros of version 1 are stored minus one. For 2, 4, 8 bits writers subtract the packed constant
 * from the whole word, borrows and all, so the constant is added to the whole word, modulo 2^32;
 * for other widths each field gets + 1 modulo 2^b. So a zero is always 0 .. 2^b - 1.
 *
 * Groups (plan_groups). The columns of a part use some of the groups; those are renumbered from 0.
 *   g[k] = k / G already             contiguous groups, nothing else
 *   every group has G columns (the   act-order: a stable sort makes groups contiguous; perm[stored]
 *   last one the rest)               = input channel, codes are packed in stored order
 *   anything else                    natural order and group_of
 *
 * Invariant: every g_idx is checked against the rows of scales before it is used as an index.
 */
#include "backends/gptq_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/bitstream.h"
#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

#define BLOCK BITSTREAM_CODES

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static int64_t group_size(const struct module_spec *spec, const struct gptq_layout *layout)
{
    return layout->group < 1 || layout->group > spec->k ? spec->k : layout->group;
}

bool gptq_layout_check(const struct module_spec *spec, const struct gptq_layout *layout,
                       struct findings *findings)
{
    size_t errors = findings->errors;
    if (!spec_sizes(spec, findings))
        return false;
    int64_t groups = divide_up(spec->k, group_size(spec, layout));
    const struct spec_want wants[] = {
        {"qweight", SPEC_DTYPE(I32), 2, {divide_up(spec->k * layout->bits, 32), spec->n}, false},
        {"qzeros", SPEC_DTYPE(I32), 2, {groups, divide_up(spec->n * layout->bits, 32)}, false},
        {"scales", SPEC_FLOATS, 2, {groups, spec->n}, false},
        {"g_idx", SPEC_DTYPE(I32), 1, {spec->k}, true},
    };
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++)
        spec_want(spec, &wants[i], findings);
    if (layout->planar && (spec->n % BLOCK || spec->k % BLOCK))
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name, NULL,
                     "multiples of 32", NULL,
                     "module %s: bit planes need both dimensions of [%lld, %lld] to be multiples "
                     "of 32",
                     spec->name, (long long)spec->n, (long long)spec->k);
    return findings->errors == errors;
}

/* ---- groups ---- */

/* Which group each column of a part has, and in which order columns are stored. */
struct plan {
    int32_t *group;   /* [cols] of each column, renumbered */
    int32_t *origin;  /* [n_groups] row of scales that a renumbered group was */
    int32_t *perm;    /* [cols] or NULL; goes to the weight */
    int64_t size;     /* columns a group has */
    int64_t n_groups; /* used ones */
    bool irregular;
};

static void plan_clear(struct plan *p)
{
    free(p->group);
    free(p->origin);
    memory_free(p->perm);
}

/* Group of each column as the file says, checked. */
static enum status read_groups(const struct module_spec *spec, const struct slice *part,
                               int64_t size, int64_t n_groups, int32_t *group, struct error *err)
{
    const struct tensor *t = spec_tensor(spec, "g_idx");
    for (int64_t k = 0; k < part->cols; k++) {
        int64_t at = part->col + k;
        if (!t) {
            group[k] = (int32_t)(at / size);
            continue;
        }
        int32_t g = (int32_t)load_u32((const char *)t->data + 4 * at);
        if (g < 0 || g >= n_groups)
            return error_set(err, ST_CHECKPOINT_INVALID,
                             "%s: %s[%lld] is %d, expected 0 to %lld (the rows of scales)", t->file,
                             t->name, (long long)at, g, (long long)n_groups - 1);
        group[k] = g;
    }
    return ST_OK;
}

/* Renumbers the used groups; count[new] = columns of each. */
static void renumber(struct plan *p, int64_t cols, int64_t n_groups, int32_t *new_id,
                     int32_t *count)
{
    for (int64_t k = 0; k < cols; k++)
        count[p->group[k]]++;
    for (int64_t g = 0; g < n_groups; g++) {
        if (!count[g])
            continue;
        new_id[g] = (int32_t)p->n_groups;
        p->origin[p->n_groups] = (int32_t)g;
        count[p->n_groups++] = count[g]; // never ahead of g
    }
    for (int64_t k = 0; k < cols; k++)
        p->group[k] = new_id[p->group[k]];
}

/* perm of the stable sort by group; first[g] becomes where group g begins, then ends. */
static bool sort_columns(struct plan *p, int64_t cols, int32_t *first)
{
    p->perm = memory_alloc((size_t)cols * sizeof *p->perm);
    if (!p->perm)
        return false;
    for (int64_t g = 0; g < p->n_groups; g++)
        first[g] = (int32_t)(g * p->size);
    for (int64_t k = 0; k < cols; k++)
        p->perm[first[p->group[k]]++] = (int32_t)k;
    return true;
}

static enum status plan_groups(const struct module_spec *spec, const struct gptq_layout *layout,
                               const struct slice *part, struct plan *p, struct error *err)
{
    *p = (struct plan){.size = group_size(spec, layout)};
    int64_t cols = part->cols, n_groups = divide_up(spec->k, p->size);
    int32_t *new_id = calloc((size_t)n_groups, sizeof *new_id);
    int32_t *count = calloc((size_t)n_groups, sizeof *count);
    p->group = calloc((size_t)cols, sizeof *p->group);
    p->origin = calloc((size_t)n_groups, sizeof *p->origin);
    enum status st = ST_OK;
    if (!new_id || !count || !p->group || !p->origin) {
        st = error_memory(err, "ordering the columns of a GPTQ weight");
        goto done;
    }
    st = read_groups(spec, part, p->size, n_groups, p->group, err);
    if (st)
        goto done;
    renumber(p, cols, n_groups, new_id, count);
    if (p->n_groups == 1)
        p->size = cols;
    bool in_order = true, full = true;
    for (int64_t k = 0; k < cols; k++)
        in_order &= p->group[k] == k / p->size;
    for (int64_t g = 0; g < p->n_groups; g++)
        full &= count[g] == p->size || (g == p->n_groups - 1 && count[g] < p->size);
    p->irregular = !in_order && !full;
    if (!in_order && full && !sort_columns(p, cols, count))
        st = error_memory(err, "ordering the columns of a GPTQ weight");
done:
    free(new_id);
    free(count);
    return st;
}

/* ---- load ---- */

/* Codes of rows [first, first + have) of W in the file's blocks of 32 columns [block, end), ld
 * apart. Words beyond the last (k not a multiple of 32) are 0. */
static void read_codes(const struct tensor *qweight, const struct gptq_layout *layout,
                       int64_t first, int64_t have, int64_t block, int64_t end, uint8_t *codes,
                       int64_t ld)
{
    int bits = layout->bits;
    int64_t n = qweight->shape[1];
    uint32_t words[TILE_ROWS][BITSTREAM_WORDS] = {{0}};
    for (; block < end; block++, codes += BLOCK) {
        for (int i = 0; i < bits; i++) {
            int64_t row = block * bits + i;
            const char *from = (const char *)qweight->data + (size_t)(row * n + first) * 4;
            for (int64_t r = 0; r < have; r++)
                words[r][i] = row < qweight->shape[0] ? load_u32(from + 4 * r) : 0;
        }
        for (int64_t r = 0; r < have; r++)
            bitstream_unpack(words[r], bits, layout->planar, codes + r * ld);
    }
}

static bool load_codes(const struct module_spec *spec, const struct gptq_layout *layout,
                       const struct slice *part, const int32_t *perm, struct weight *w)
{
    const struct tensor *qweight = spec_tensor(spec, "qweight");
    int64_t block = part->col / BLOCK, end = divide_up(part->col + part->cols, BLOCK);
    int64_t ld = (end - block) * BLOCK, skip = part->col - block * BLOCK;
    uint8_t *codes = malloc(TILE_ROWS * (size_t)ld);
    uint8_t *stored = perm ? malloc(TILE_ROWS * (size_t)w->k) : NULL;
    bool ok = codes && (stored || !perm);
    for (int64_t tile = 0; ok && tile < w->n_tiles; tile++) {
        int64_t first = tile * TILE_ROWS;
        int64_t have = w->n - first < TILE_ROWS ? w->n - first : TILE_ROWS;
        read_codes(qweight, layout, part->row + first, have, block, end, codes, ld);
        for (int64_t r = 0; perm && r < have; r++)
            for (int64_t k = 0; k < w->k; k++)
                stored[r * w->k + k] = codes[r * ld + skip + perm[k]];
        tile_pack_codes(w->data, w->k_padded, layout->bits, tile, perm ? stored : codes + skip,
                        perm ? w->k : ld, have, w->k);
    }
    free(codes);
    free(stored);
    return ok;
}

/* The constant that version 1 subtracted from a whole word of b-bit fields; 0: field by field. */
static uint32_t packed_one(int bits)
{
    return bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : bits == 8 ? 0x01010101u : 0;
}

/* Zeros of one group, rows [row, row + n) of W, to the tiled array. */
static void load_zeros(const struct tensor *qzeros, const struct gptq_layout *layout,
                       const struct slice *part, int64_t origin, int64_t group, struct weight *w)
{
    uint32_t words[BITSTREAM_WORDS] = {0}, one = layout->zeros_v1 ? packed_one(layout->bits) : 0;
    unsigned each = layout->zeros_v1 && !one, mask = (1u << layout->bits) - 1;
    const char *from = (const char *)qzeros->data + (size_t)(origin * qzeros->shape[1]) * 4;
    uint8_t *zeros = w->zeros, fields[BLOCK];
    int64_t end = part->row + part->rows;
    for (int64_t block = part->row / BLOCK; block * BLOCK < end; block++) {
        for (int i = 0; i < layout->bits; i++) {
            int64_t at = block * layout->bits + i;
            words[i] = at < qzeros->shape[1] ? load_u32(from + 4 * at) + one : 0;
        }
        bitstream_unpack(words, layout->bits, layout->planar, fields);
        for (int64_t i = 0; i < BLOCK; i++) {
            int64_t row = block * BLOCK + i;
            if (row >= part->row && row < end)
                zeros[tile_param(row - part->row, group, w->n_groups)] =
                    (uint8_t)((fields[i] + each) & mask);
        }
    }
}

static void load_parameters(const struct module_spec *spec, const struct gptq_layout *layout,
                            const struct slice *part, const struct plan *plan, struct weight *w)
{
    const struct tensor *scales = spec_tensor(spec, "scales"),
                        *qzeros = spec_tensor(spec, "qzeros");
    size_t size = dtype_size(scales->dtype);
    for (int64_t g = 0; g < w->n_groups; g++) {
        int64_t origin = plan->origin[g];
        const char *from =
            (const char *)scales->data + (size_t)(origin * spec->n + part->row) * size;
        for (int64_t r = 0; r < w->n; r++)
            memcpy((char *)w->scales + (size_t)tile_param(r, g, w->n_groups) * size,
                   from + (size_t)r * size, size);
        load_zeros(qzeros, layout, part, origin, g, w);
    }
}

static bool load_group_of(const struct plan *plan, struct weight *w)
{
    int32_t *group_of = memory_alloc((size_t)w->k_padded * sizeof *group_of);
    if (!group_of)
        return false;
    memcpy(group_of, plan->group, (size_t)w->k * sizeof *group_of);
    w->group_of = group_of;
    return true;
}

enum status gptq_layout_load(const struct module_spec *spec, const struct gptq_layout *layout,
                             struct slice slice, struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    struct plan plan = {0};
    struct slice part;
    enum status st = spec_slice(spec, slice, 1, &part, err);
    if (!st)
        st = spec_finite(spec, spec_tensor(spec, "scales"), err);
    if (st)
        return st;
    st = plan_groups(spec, layout, &part, &plan, err);
    if (st)
        goto done;
    enum dtype dtype = spec_tensor(spec, "scales")->dtype;
    *out = (struct weight){.encoding = ENC_GROUP,
                           .dtype = dtype,
                           .rule = RULE_PRODUCT,
                           .bits = layout->bits,
                           .group = plan.size,
                           .n_groups = plan.n_groups,
                           .flat_k = spec->k,
                           .flat_row = part.row,
                           .flat_col = part.col,
                           .scale_dtype = dtype,
                           .zero_dtype = DT_U8};
    spec_weight_sizes(out, part.rows, part.cols);
    size_t params = (size_t)(out->n_tiles * TILE_ROWS * out->n_groups);
    out->data_bytes = tile_code_bytes(out->n, out->k, out->bits);
    out->data = memory_alloc(out->data_bytes);
    out->scales = memory_alloc(params * dtype_size(dtype));
    out->zeros = memory_alloc(params);
    if (!out->data || !out->scales || !out->zeros ||
        (plan.irregular && !load_group_of(&plan, out)) ||
        !load_codes(spec, layout, &part, plan.perm, out)) {
        weight_clear(out);
        st = error_memory(err, "loading a GPTQ weight");
        goto done;
    }
    load_parameters(spec, layout, &part, &plan, out);
    out->perm = plan.perm;
    plan.perm = NULL;
    out->file_bytes = spec_file_bytes(spec, &part);
done:
    plan_clear(&plan);
    return st;
}

char *gptq_layout_describe(const struct weight *w, char *buf, size_t size)
{
    const char *order = w->perm ? ", act-order" : w->group_of ? ", irregular groups" : "";
    snprintf(buf, size, "%d bits, group %lld%s", w->bits, (long long)w->group, order);
    return buf;
}
