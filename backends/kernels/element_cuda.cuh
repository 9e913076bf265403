/*
 * The decoded element on a device: what weight_element (backends/encodings/tile.c) defines, a run
 * of eight columns of one row at a time: a dword of 4-bit codes. All branches on the weight's
 * members are the same for every thread of a launch, but for where a group ends.
 */
#ifndef OFTD_BACKENDS_KERNELS_ELEMENT_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_ELEMENT_CUDA_CUH

#include "backends/kernels/device_cuda.cuh"

#define ELEMENT_RUN 8

/* Tables that lanes look up at different places, in a block's memory. */
struct tables {
    float table[16], map[256];
};

/* All threads of the block call it, and meet before they look anything up. */
DEVICE void tables_fill(const struct weight &w, struct tables *t, int thread, int threads)
{
    for (int i = thread; i < 16 && w.encoding == ENC_TABLE4; i += threads)
        t->table[i] = w.table[i];
    for (int i = thread; i < 256 && w.nested; i += threads)
        t->map[i] = w.nested_map[i];
}

DEVICE float element_value(const void *p, enum dtype dtype, int64_t i)
{
    switch (dtype) {
    case DT_F32:
        return ((const float *)p)[i];
    case DT_F16:
        return device_of_f16(((const uint16_t *)p)[i]);
    case DT_BF16:
        return device_of_bf16(((const uint16_t *)p)[i]);
    case DT_I16:
        return (float)((const int16_t *)p)[i];
    default:
        return (float)((const uint8_t *)p)[i];
    }
}

DEVICE float element_float8(uint8_t code, enum dtype dtype)
{
    if (dtype == DT_F8_E5M2)
        return device_of_f16((uint16_t)(code << 8));
    uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;
    if (rest == 0x7f)
        rest = 0x7fc00000;
    else if (rest >= 8)
        rest = (rest << 20) + ((127 - 7) << 23);
    else
        return (sign ? -0x1p-9f : 0x1p-9f) * (float)rest;
    return device_float(rest | sign);
}

/* ---- groups ---- */

DEVICE int64_t element_flat(const struct weight &w, int64_t row, int64_t k)
{
    return (w.flat_row + row) * w.flat_k + w.flat_col + k;
}

DEVICE int64_t element_group(const struct weight &w, int64_t row, int64_t k)
{
    if (w.grouping == GROUPS_FLAT)
        return element_flat(w, row, k) / w.group;
    if (w.grouping == GROUPS_STRIDED)
        return element_flat(w, row, k) % w.n_groups;
    return w.group_of ? w.group_of[k] : k / w.group;
}

DEVICE int64_t element_param(const struct weight &w, int64_t row, int64_t group)
{
    return w.grouping == GROUPS_OF_ROWS
               ? ((row / TILE_ROWS) * w.n_groups + group) * TILE_ROWS + row % TILE_ROWS
               : group;
}

/* Scale and zero of the group of an element. */
DEVICE void element_params(const struct weight &w, const struct tables &t, int64_t row, int64_t k,
                           int64_t group, float *scale, float *zero)
{
    int64_t i = element_param(w, row, group);
    *zero = w.zeros ? element_value(w.zeros, w.zero_dtype, i) : 0;
    if (!w.nested) {
        *scale = element_value(w.scales, w.scale_dtype, i);
        return;
    }
    int64_t block = element_flat(w, row, k) / w.group;
    float product = t.map[((const uint8_t *)w.scales)[i]] * w.nested_absmax[block / w.nested_block];
    *scale = product + w.nested_offset;
}

DEVICE float element_decode(const struct weight &w, const struct tables &t, uint32_t code,
                            float scale, float zero)
{
    if (w.encoding == ENC_TABLE4)
        return device_round(t.table[code] * scale, w.dtype);
    if (w.encoding == ENC_FLOAT8)
        return device_round(element_float8((uint8_t)code, w.code_dtype) * scale, w.dtype);
    if (w.rule == RULE_FMA)
        return device_round(fmaf((float)code, scale, zero), w.dtype);
    float v = (float)code - zero;
    if (w.rule == RULE_STEPS)
        v = device_round(v, w.dtype);
    v *= scale;
    return device_round(w.rule == RULE_FACTOR ? v * w.factor : v, w.dtype);
}

/* ---- a run ---- */

/* Four codes of a plane of WIDTH bits, from column i of a chunk on, `shift` bits up. */
template <int WIDTH> DEVICE uint32_t element_four(const uint8_t *plane, int i, int shift)
{
    const int per = 32 / WIDTH;
    uint32_t v = *(const uint32_t *)(plane + 64 * (i / per)) >> WIDTH * (i % per / 4);
    return (v & ((1u << WIDTH) - 1) * 0x01010101u) << shift;
}

/* Four codes from column k on, which is a multiple of 4, a byte each. */
DEVICE uint32_t element_codes(const struct weight &w, int64_t row, int64_t k)
{
    int64_t chunk = row / TILE_ROWS * (w.k_padded / TILE_K) + k / TILE_K;
    const uint8_t *plane = (const uint8_t *)w.data + chunk * 64 * w.bits + 4 * (row % TILE_ROWS);
    int i = (int)(k % TILE_K), shift = 0;
    uint32_t codes = 0;
    if (w.bits == 8)
        return element_four<8>(plane, i, 0);
    if (w.bits & 4) {
        codes = element_four<4>(plane, i, 0);
        plane += 64 * 4;
        shift = 4;
    }
    if (w.bits & 2) {
        codes |= element_four<2>(plane, i, shift);
        plane += 64 * 2;
        shift += 2;
    }
    return w.bits & 1 ? codes | element_four<1>(plane, i, shift) : codes;
}

DEVICE float element_dense(const struct weight &w, int64_t row, int64_t k)
{
    int64_t t = row / TILE_ROWS, r = row % TILE_ROWS;
    int64_t at = w.dtype == DT_BF16 ? ((t * (w.k_padded / 2) + k / 2) * TILE_ROWS + r) * 2 + (k & 1)
                                    : (t * w.k_padded + k) * TILE_ROWS + r;
    return element_value(w.data, w.dtype, at);
}

DEVICE float element_book(const struct weight &w, int64_t row, int64_t k)
{
    int64_t part = row % w.out_group * w.in_group + k % w.in_group, i = row / w.out_group;
    int64_t lookups = w.k / w.in_group * w.books;
    float sum = 0;
    for (int64_t b = 0; b < w.books; b++) {
        int64_t look = k / w.in_group * w.books + b;
        int64_t at = w.bits > 8 ? i * lookups + look
                                : (i / BOOK_LINE * lookups + look) * BOOK_LINE + i % BOOK_LINE;
        int64_t code = w.bits > 8 ? ((const uint16_t *)w.data)[at] : ((const uint8_t *)w.data)[at];
        sum += element_value(w.codebook, w.codebook_dtype,
                             ((b << w.bits) + code) * w.out_group * w.in_group + part);
    }
    float scale = element_value(w.scales, w.scale_dtype, i);
    return device_round(device_round(sum, w.dtype) * scale, w.dtype);
}

/* The group that a thread is in, going along a row. */
struct group {
    int64_t index; /* -1: none yet */
    float scale, zero;
};

/* Columns [k, k + ELEMENT_RUN), as far as the weight has them, of a row < n to out; k is a multiple
 * of ELEMENT_RUN. */
DEVICE void element_run(const struct weight &w, const struct tables &t, int64_t row, int64_t k,
                        struct group *g, float out[ELEMENT_RUN])
{
#pragma unroll
    for (int i = 0; i < ELEMENT_RUN; i += 4) {
        uint32_t codes = 0;
        if (w.encoding != ENC_DENSE && w.encoding != ENC_CODEBOOK)
            codes = element_codes(w, row, k + i);
#pragma unroll
        for (int e = i; e < i + 4; e++) {
            if (k + e >= w.k) {
                out[e] = 0;
                continue;
            }
            if (w.encoding == ENC_DENSE) {
                out[e] = element_dense(w, row, k + e);
                continue;
            }
            if (w.encoding == ENC_CODEBOOK) {
                out[e] = element_book(w, row, k + e);
                continue;
            }
            if (e == 0 || w.grouping != GROUPS_OF_ROWS || w.group_of ||
                w.group % ELEMENT_RUN != 0) {
                int64_t index = element_group(w, row, k + e);
                if (index != g->index) {
                    g->index = index;
                    element_params(w, t, row, k + e, index, &g->scale, &g->zero);
                }
            }
            out[e] = element_decode(w, t, codes >> 8 * (e - i) & 255, g->scale, g->zero);
        }
    }
}

#endif
