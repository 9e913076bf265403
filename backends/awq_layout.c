/*
 * Owns the bits of AWQ modules. W [n, k] in b bits, groups of G input channels, g = k / G:
 *
 *   GEMM        qweight  I32 [k, n b / 32]      codes packed along n: row c of words holds column c
 *               qzeros   I32 [k / G, n b / 32]  of W; zeros likewise
 *               scales   F16 or BF16 [k / G, n]
 *
 *       4 bits: nibble i of word w is row 8w + order[i], order = 0 2 4 6 1 3 5 7:
 *
 *           |31..28|27..24|23..20|19..16|15..12|11..8 | 7..4 | 3..0 |
 *           |   7  |   5  |   3  |   1  |   6  |   4  |   2  |   0  |
 *
 *       Other widths are one stream of bits (bitstream.c): GPTQModel's (2, 3, 5..8 bits) in the
 *       rows' own order, auto-round's (5, 6, 7) with each 8 rows in that order.
 *
 *   GEMV        qweight  I32 [n, k / 8]         nibble i of word w is column 8w + i
 *               qzeros   I32 [n, Z]             nibble g % 8 of word g / 8 is the zero of group g
 *               scales   F16 [n, 8 Z]           what is beyond k / G is padding
 *
 *       W[r][c] = D((code - zero) * scale), D: the dtype of scales. Zeros are stored as they are.
 *
 *   GEMV-fast   qweight  I16 [n / 4, k]         4 rows and 64 columns share 64 words
 *               scales   F16 [8 Z, n]
 *               qzeros   F16 [8 Z, n]           -(scale * zero); llm-awq: scaled_zeros
 *
 *       W[r][c] = D(code * scale + qzeros), one rounding. The code of (r, c), with c = 64 block +
 *       32 h + 8 a + 2 b + e (h, e in 0..1, a, b in 0..3), is nibble m % 4 of word
 *       qweight[r / 4][64 block + m / 4], m = 64 (r % 4) + 32 h + 8 b + 4 e + a.
 *
 *   Z = ceil(ceil(k / G / 8) / m) m, m = 1 (G >= 128), 2 (64), 4 (32), 8 (16)
 *
 * G divides k. Parts: a part whose columns do not begin where a group does gets group_of.
 * Source: AutoAWQ's modules/linear, GPTQModel's awq packing_utils, auto-round's export_to_awq.
 */
#include "backends/awq_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/bitstream.h"
#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

#define FAST_ROWS 4 /* GEMV-fast: rows and columns that are packed together */
#define FAST_COLS 64

const char *awq_layout_name(enum awq_kind kind)
{
    static const char *const names[] = {"GEMM", "GEMV", "GEMV-fast"};
    return names[kind];
}

enum awq_kind awq_layout_kind(const struct module_spec *spec)
{
    const struct tensor *codes = spec_tensor(spec, "qweight");
    const struct tensor *zeros = spec_tensor(spec, "qzeros");
    if (codes && codes->dtype == DT_I16)
        return AWQ_GEMV_FAST;
    bool rows = codes && zeros && codes->rank == 2 && zeros->rank == 2 &&
                codes->shape[0] == spec->n && zeros->shape[0] == spec->n;
    bool wide = codes && codes->rank == 2 && codes->shape[1] * 8 == spec->k;
    return rows && wide ? AWQ_GEMV : AWQ_GEMM;
}

static int64_t group_size(const struct module_spec *spec, const struct awq_layout *layout)
{
    return layout->group < 1 ? spec->k : layout->group;
}

/* Z: words of zeros a row has, 0: no such group. */
static int64_t zeros_width(int64_t k, int64_t group)
{
    int64_t m = group >= 128 ? 1 : group == 64 ? 2 : group == 32 ? 4 : group == 16 ? 8 : 0;
    int64_t words = (k / group + 7) / 8;
    return m ? (words + m - 1) / m * m : 0;
}

/* ---- check ---- */

static bool refuse(const struct module_spec *spec, struct findings *findings, const char *what)
{
    findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name, NULL, what, NULL,
                 "module %s: the AWQ layout needs %s, but its weight is [%lld, %lld]", spec->name,
                 what, (long long)spec->n, (long long)spec->k);
    return false;
}

static bool check_sizes(const struct module_spec *spec, const struct awq_layout *layout,
                        struct findings *findings)
{
    int64_t group = group_size(spec, layout);
    char what[64];
    snprintf(what, sizeof what, "a width that is a multiple of the group %lld", (long long)group);
    if (spec->k % group)
        return refuse(spec, findings, what);
    switch (layout->kind) {
    case AWQ_GEMM:
        // whole words; auto-round packs whole blocks of 32
        if (layout->bits == 4 && spec->n % 8)
            return refuse(spec, findings, "a height that is a multiple of 8");
        if (layout->bits != 4 && layout->interleaved && spec->n % BITSTREAM_CODES)
            return refuse(spec, findings, "a height that is a multiple of 32");
        return true;
    case AWQ_GEMV:
        if (spec->k % 8)
            return refuse(spec, findings, "a width that is a multiple of 8");
        break;
    case AWQ_GEMV_FAST:
        if (spec->n % FAST_ROWS || spec->k % FAST_COLS)
            return refuse(spec, findings, "multiples of 4 and 64");
        break;
    }
    return zeros_width(spec->k, group) ||
           refuse(spec, findings, "a group of 16, 32, 64 or at least 128 (GEMV)");
}

bool awq_layout_check(const struct module_spec *spec, const struct awq_layout *layout,
                      struct findings *findings)
{
    size_t errors = findings->errors;
    if (!spec_sizes(spec, findings) || !check_sizes(spec, layout, findings))
        return false;
    int64_t n = spec->n, k = spec->k, group = group_size(spec, layout);
    int64_t words = (n * layout->bits + 31) / 32, groups = k / group;
    int64_t width = layout->kind == AWQ_GEMM ? 0 : zeros_width(k, group);
    const unsigned i32 = SPEC_DTYPE(I32), f16 = SPEC_DTYPE(F16);
    const char *zeros = layout->scaled_zeros ? "scaled_zeros" : "qzeros";
    const struct spec_want wants[3][3] = {
        [AWQ_GEMM] = {{"qweight", i32, 2, {k, words}, false},
                      {"qzeros", i32, 2, {groups, words}, false},
                      {"scales", f16 | SPEC_DTYPE(BF16), 2, {groups, n}, false}},
        [AWQ_GEMV] = {{"qweight", i32, 2, {n, k / 8}, false},
                      {"qzeros", i32, 2, {n, width}, false},
                      {"scales", f16, 2, {n, 8 * width}, false}},
        [AWQ_GEMV_FAST] = {{"qweight", SPEC_DTYPE(I16), 2, {n / FAST_ROWS, k}, false},
                           {zeros, f16, 2, {8 * width, n}, false},
                           {"scales", f16, 2, {8 * width, n}, false}},
    };
    for (int i = 0; i < 3; i++)
        spec_want(spec, &wants[layout->kind][i], findings);
    spec_only(spec, (const char *const[]){"qweight", zeros, "scales", "bias", NULL}, findings);
    return findings->errors == errors;
}

/* ---- GEMM: words along n ---- */

/* 8 nibbles of a word to 8 bytes in the rows' order: the low half holds the even ones. */
static void unpack_word(uint32_t word, uint8_t rows[8])
{
    uint64_t v = word & 0xffff, odd = word >> 16;
    v = (v | v << 24) & 0x000000ff000000ff;
    v = (v | v << 12) & 0x000f000f000f000f;
    odd = (odd | odd << 24) & 0x000000ff000000ff;
    odd = (odd | odd << 12) & 0x000f000f000f000f;
    v |= odd << 8;
    memcpy(rows, &v, sizeof v);
}

/* Rows that share words: `bits` words hold 32, of 4 bits one holds 8. */
static int64_t block_rows(const struct awq_layout *layout)
{
    return layout->bits == 4 ? 8 : BITSTREAM_CODES;
}

/* One row of words [words] -> the codes of a block of W's rows. */
static void unpack_block(const char *row, int64_t words, const struct awq_layout *layout,
                         int64_t block, uint8_t codes[BITSTREAM_CODES])
{
    static const uint8_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    uint32_t v[BITSTREAM_WORDS];
    if (layout->bits == 4) {
        unpack_word(load_u32(row + 4 * block), codes);
        return;
    }
    for (int i = 0; i < layout->bits; i++) {
        int64_t at = block * layout->bits + i;
        v[i] = at < words ? load_u32(row + 4 * at) : 0;
    }
    uint8_t stored[BITSTREAM_CODES];
    bitstream_unpack(v, layout->bits, false, stored);
    for (int i = 0; i < BITSTREAM_CODES; i++)
        codes[layout->interleaved ? i / 8 * 8 + order[i % 8] : i] = stored[i];
}

/* Codes of W's rows [first, first + have) from one row of words, `step` bytes apart. */
static void unpack_rows(const char *row, int64_t words, const struct awq_layout *layout,
                        int64_t first, int64_t have, uint8_t *codes, int64_t step)
{
    uint8_t block[BITSTREAM_CODES];
    int64_t size = block_rows(layout), end = first + have;
    for (int64_t r = first; r < end;) {
        int64_t at = r % size, until = r - at + size < end ? r - at + size : end;
        unpack_block(row, words, layout, r / size, block);
        for (; r < until; r++, codes += step)
            *codes = block[at++];
    }
}

static void read_gemm(const struct tensor *t, const struct awq_layout *layout,
                      const struct slice *part, int64_t first, int64_t have, uint8_t *codes,
                      int64_t ld)
{
    int64_t words = t->shape[1];
    for (int64_t k = 0; k < part->cols; k++)
        unpack_rows((const char *)t->data + (size_t)((part->col + k) * words) * 4, words, layout,
                    first, have, codes + k, ld);
}

/* ---- GEMV, GEMV-fast: words along k ---- */

static uint8_t nibble(const void *words, int64_t i)
{
    return ((const uint8_t *)words)[i / 2] >> 4 * (i % 2) & 15;
}

/* The 32 bytes of 64 columns of one row. */
static void unpack_columns(const uint8_t *bytes, enum awq_kind kind, uint8_t codes[FAST_COLS])
{
    for (int i = 0; i < FAST_COLS / 2; i++) {
        int j = i % 16; // its nibbles are 2j = 8 b + 4 e + a and the next
        int at = 32 * (i / 16) + 8 * (j % 2 * 2) + 2 * (j / 4) + j / 2 % 2;
        bool fast = kind == AWQ_GEMV_FAST;
        codes[fast ? at : 2 * i] = bytes[i] & 15;
        codes[fast ? at + 8 : 2 * i + 1] = bytes[i] >> 4;
    }
}

/* One row of the part. */
static void read_row(const struct tensor *t, enum awq_kind kind, const struct slice *part,
                     int64_t row, uint8_t *codes)
{
    // of a row of the tensor, `share` rows of W have 32 bytes in turn
    int64_t share = kind == AWQ_GEMV_FAST ? FAST_ROWS : 1, end = part->col + part->cols;
    int64_t bytes = t->shape[1] * (int64_t)dtype_size(t->dtype), size = FAST_COLS / 2;
    const uint8_t *from = (const uint8_t *)t->data + (size_t)(row / share * bytes);
    for (int64_t c = part->col; c < end;) {
        int64_t block = c / FAST_COLS, at = c % FAST_COLS;
        int64_t offset = (block * share + row % share) * size, left = bytes - offset;
        int64_t until = (block + 1) * FAST_COLS < end ? (block + 1) * FAST_COLS : end;
        uint8_t buffer[FAST_COLS / 2] = {0}, columns[FAST_COLS];
        memcpy(buffer, from + offset, (size_t)(left < size ? left : size));
        unpack_columns(buffer, kind, columns);
        memcpy(codes, columns + at, (size_t)(until - c));
        codes += until - c;
        c = until;
    }
}

/* ---- load ---- */

/* Bytes a row of 16 has while it waits to be packed: an odd number of cache lines, so that the rows
 * of one column do not all fall into the same set of the cache. */
static int64_t row_bytes(int64_t k)
{
    return (k / 64 | 1) * 64 + 128;
}

static bool load_codes(const struct module_spec *spec, const struct awq_layout *layout,
                       const struct slice *part, struct weight *w)
{
    const struct tensor *t = spec_tensor(spec, "qweight");
    int64_t ld = row_bytes(w->k);
    uint8_t *codes = malloc(TILE_ROWS * (size_t)ld);
    if (!codes)
        return false;
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        int64_t first = part->row + tile * TILE_ROWS, left = w->n - tile * TILE_ROWS;
        int64_t have = left < TILE_ROWS ? left : TILE_ROWS;
        if (layout->kind == AWQ_GEMM)
            read_gemm(t, layout, part, first, have, codes, ld);
        for (int64_t r = 0; layout->kind != AWQ_GEMM && r < have; r++)
            read_row(t, layout->kind, part, first + r, codes + r * ld);
        tile_pack_codes(w->data, w->k_padded, w->bits, tile, codes, ld, have, w->k);
    }
    free(codes);
    return true;
}

/* A float parameter of (row, group), which lies [row, group] or [group, row]. */
static void load_floats(const struct tensor *t, bool by_row, const struct slice *part,
                        int64_t group, struct weight *w, void *to)
{
    size_t size = dtype_size(t->dtype);
    for (int64_t g = 0; g < w->n_groups; g++)
        for (int64_t r = 0; r < w->n; r++) {
            int64_t row = part->row + r, from = group + g;
            int64_t at = by_row ? row * t->shape[1] + from : from * t->shape[1] + row;
            memcpy((char *)to + (size_t)tile_param(r, g, w->n_groups) * size,
                   (const char *)t->data + (size_t)at * size, size);
        }
}

/* Integer zeros, from words along n (GEMM) or along the groups (GEMV). */
static void load_zeros(const struct tensor *t, const struct awq_layout *layout,
                       const struct slice *part, int64_t group, struct weight *w)
{
    int64_t words = t->shape[1];
    uint8_t *to = w->zeros;
    for (int64_t g = 0; g < w->n_groups; g++)
        for (int64_t tile = 0; tile < w->n_tiles; tile++) {
            int64_t first = part->row + tile * TILE_ROWS, left = w->n - tile * TILE_ROWS;
            int64_t have = left < TILE_ROWS ? left : TILE_ROWS;
            uint8_t *tiled = to + tile_param(tile * TILE_ROWS, g, w->n_groups);
            const char *row = (const char *)t->data + (size_t)((group + g) * words) * 4;
            if (layout->kind == AWQ_GEMM)
                unpack_rows(row, words, layout, first, have, tiled, 1);
            for (int64_t r = 0; layout->kind == AWQ_GEMV && r < have; r++)
                tiled[r] =
                    nibble((const char *)t->data + (size_t)((first + r) * words) * 4, group + g);
        }
}

/* What the part's columns make of the groups; the first group of the file that it uses. */
static bool plan_groups(const struct slice *part, int64_t size, int64_t *first, struct weight *w)
{
    int64_t last = (part->col + part->cols - 1) / size;
    *first = part->col / size;
    w->n_groups = last - *first + 1;
    // one group: long enough for whole runs of columns, whatever k is
    w->group = w->n_groups == 1 ? w->k_padded : size;
    if (w->n_groups == 1 || part->col % size == 0)
        return true;
    int32_t *group_of = memory_alloc((size_t)w->k_padded * sizeof *group_of);
    if (!group_of)
        return false;
    for (int64_t k = 0; k < w->k; k++)
        group_of[k] = (int32_t)((part->col + k) / size - *first);
    w->group_of = group_of;
    return true;
}

static bool allocate(struct weight *w)
{
    size_t params = (size_t)(w->n_tiles * TILE_ROWS * w->n_groups);
    w->data_bytes = tile_code_bytes(w->n, w->k, w->bits);
    w->data = memory_alloc(w->data_bytes);
    w->scales = memory_alloc(params * dtype_size(w->scale_dtype));
    w->zeros = memory_alloc(params * dtype_size(w->zero_dtype));
    return w->data && w->scales && w->zeros;
}

enum status awq_layout_load(const struct module_spec *spec, const struct awq_layout *layout,
                            struct slice slice, struct weight *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    struct slice part;
    const struct tensor *scales = spec_tensor(spec, "scales");
    const struct tensor *zeros =
        spec_tensor(spec, layout->scaled_zeros ? "scaled_zeros" : "qzeros");
    bool fast = layout->kind == AWQ_GEMV_FAST;
    enum status st = spec_slice(spec, slice, 1, &part, err);
    if (!st)
        st = spec_finite(spec, scales, err);
    if (!st && fast)
        st = spec_finite(spec, zeros, err);
    if (st)
        return st;
    int64_t first;
    *out = (struct weight){.encoding = ENC_GROUP,
                           .dtype = scales->dtype,
                           .rule = fast ? RULE_FMA : RULE_PRODUCT,
                           .bits = layout->bits,
                           .flat_k = spec->k,
                           .flat_row = part.row,
                           .flat_col = part.col,
                           .scale_dtype = scales->dtype,
                           .zero_dtype = fast ? zeros->dtype : DT_U8};
    spec_weight_sizes(out, part.rows, part.cols);
    if (!plan_groups(&part, group_size(spec, layout), &first, out) || !allocate(out) ||
        !load_codes(spec, layout, &part, out)) {
        weight_clear(out);
        return error_memory(err, "loading an AWQ weight");
    }
    load_floats(scales, layout->kind == AWQ_GEMV, &part, first, out, out->scales);
    if (fast)
        load_floats(zeros, false, &part, first, out, out->zeros);
    else
        load_zeros(zeros, layout, &part, first, out);
    out->file_bytes = spec_file_bytes(spec, &part);
    return ST_OK;
}

char *awq_layout_describe(const struct weight *w, char *buf, size_t size)
{
    int64_t group = w->n_groups == 1 ? w->k : w->group;
    snprintf(buf, size, "%d bits, group %lld%s", w->bits, (long long)group,
             w->rule == RULE_FMA ? ", zeros as products" : "");
    return buf;
}
