/*
 * The only place where the tile layout of core/kernels.h is written as arithmetic. Packing works on
 * dwords: a dword of a plane holds 32/w codes of one row, and four consecutive codes, being four
 * bytes of the input, go in with one shift and one or:
 *
 *   codes (bytes)   c0 c1 c2 c3 | c4 c5 c6 c7 | ...          field f = codes 4f .. 4f+3
 *   dword           OR over f of  (load4(codes + 4f) >> shift & mask in every byte) << w*f
 *
 * Invariant: unpack(pack(x)) = x for every width, and weight_element is what every kernel must
 * give.
 */
#include "backends/encodings/tile.h"

#include <math.h>
#include <string.h>

#include "core/turns.h"

#define CHUNK_LINE 64 /* bytes of a line: 16 rows of a dword */

/* The planes of b bits, from the low bits up; returns how many. */
static int planes(int bits, int width[3])
{
    int n = 0;
    if (bits == 8) {
        width[n++] = 8;
        return n;
    }
    for (int w = 4; w; w /= 2)
        if (bits & w)
            width[n++] = w;
    return n;
}

static uint32_t byte_mask(int width)
{
    return ((1u << width) - 1) * 0x01010101u;
}

size_t tile_code_bytes(int64_t n, int64_t k, int bits)
{
    return (size_t)tile_count(n) * (size_t)(tile_pad_k(k) / TILE_K) * 64 * (size_t)bits;
}

size_t tile_dense_bytes(int64_t n, int64_t k, enum dtype dtype)
{
    return (size_t)tile_count(n) * TILE_ROWS * (size_t)tile_pad_k(k) * dtype_size(dtype);
}

/* 32 codes of one row to their chunk; base points at the row's first dword. */
static void pack_32(uint8_t *base, int n_planes, const int *width, const uint8_t *codes)
{
    int shift = 0;
    for (int p = 0; p < n_planes; p++) {
        int w = width[p];
        uint32_t mask = byte_mask(w);
        for (int d = 0; d < w; d++, base += CHUNK_LINE) {
            uint32_t v = 0;
            for (int f = 0; f < 8 / w; f++)
                v |= (load_u32(codes + 32 / w * d + 4 * f) >> shift & mask) << w * f;
            memcpy(base, &v, sizeof v);
        }
        shift += w;
    }
}

static void unpack_32(const uint8_t *base, int n_planes, const int *width, uint8_t *codes)
{
    uint32_t out[8] = {0};
    int shift = 0;
    for (int p = 0; p < n_planes; p++) {
        int w = width[p];
        uint32_t mask = byte_mask(w);
        for (int d = 0; d < w; d++, base += CHUNK_LINE) {
            uint32_t v = load_u32(base);
            for (int f = 0; f < 8 / w; f++)
                out[8 / w * d + f] |= (v >> w * f & mask) << shift;
        }
        shift += w;
    }
    memcpy(codes, out, sizeof out);
}

void tile_pack_codes(void *data, int64_t k_padded, int bits, int64_t tile, const uint8_t *codes,
                     int64_t ld, int64_t rows, int64_t k)
{
    int width[3], n_planes = planes(bits, width);
    int64_t chunks = k_padded / TILE_K;
    turns_pause();
    uint8_t *to = (uint8_t *)data + (size_t)(tile * chunks) * 64 * (size_t)bits;
    for (int64_t c = 0; c * TILE_K < k; c++, to += 64 * bits) {
        int64_t have = k - c * TILE_K;
        for (int64_t r = 0; r < rows; r++) {
            const uint8_t *from = codes + r * ld + c * TILE_K;
            uint8_t tail[TILE_K] = {0};
            if (have < TILE_K)
                from = memcpy(tail, from, (size_t)have);
            pack_32(to + 4 * r, n_planes, width, from);
        }
    }
}

void tile_unpack_codes(const void *data, int64_t k_padded, int bits, int64_t tile, uint8_t *codes,
                       int64_t ld)
{
    int width[3], n_planes = planes(bits, width);
    int64_t chunks = k_padded / TILE_K;
    turns_pause();
    const uint8_t *from = (const uint8_t *)data + (size_t)(tile * chunks) * 64 * (size_t)bits;
    for (int64_t c = 0; c < chunks; c++, from += 64 * bits)
        for (int64_t r = 0; r < TILE_ROWS; r++)
            unpack_32(from + 4 * r, n_planes, width, codes + r * ld + c * TILE_K);
}

uint8_t tile_code(const void *data, int64_t k_padded, int bits, int64_t row, int64_t k)
{
    int width[3], n_planes = planes(bits, width), shift = 0;
    int64_t chunk = row / TILE_ROWS * (k_padded / TILE_K) + k / TILE_K;
    const uint8_t *base =
        (const uint8_t *)data + (size_t)chunk * 64 * (size_t)bits + 4 * (row % TILE_ROWS);
    int i = (int)(k % TILE_K);
    uint32_t code = 0;
    for (int p = 0; p < n_planes; p++) {
        int w = width[p], per = 32 / w, at = i % per;
        uint8_t byte = base[CHUNK_LINE * (i / per) + at % 4];
        code |= (uint32_t)(byte >> w * (at / 4) & ((1 << w) - 1)) << shift;
        base += CHUNK_LINE * w;
        shift += w;
    }
    return (uint8_t)code;
}

/* Index of a dense element. */
static int64_t dense_index(int64_t k_padded, enum dtype dtype, int64_t row, int64_t k)
{
    int64_t t = row / TILE_ROWS, r = row % TILE_ROWS;
    if (dtype == DT_BF16)
        return ((t * (k_padded / 2) + k / 2) * TILE_ROWS + r) * 2 + (k & 1);
    return (t * k_padded + k) * TILE_ROWS + r;
}

/* Rows of units (elements, or BF16's pairs) to units of rows: sixteen by sixteen at a time, so that
 * what is read and what is written both stay in the cache; ld in bytes. */
#define PACK_UNITS(name, unit)                                                                     \
    static void name(char *to, const char *from, size_t ld, int64_t rows, int64_t units)           \
    {                                                                                              \
        for (int64_t i0 = 0; i0 < units; i0 += 16)                                                 \
            for (int64_t r = 0; r < rows; r++)                                                     \
                for (int64_t i = i0; i < units && i < i0 + 16; i++)                                \
                    memcpy(to + (i * TILE_ROWS + r) * (int64_t)sizeof(unit),                       \
                           from + (size_t)r * ld + (size_t)i * sizeof(unit), sizeof(unit));        \
    }
PACK_UNITS(pack_16, uint16_t)
PACK_UNITS(pack_32_bits, uint32_t)

void tile_pack_dense(void *data, int64_t k_padded, enum dtype dtype, int64_t tile, const void *src,
                     int64_t ld, int64_t rows, int64_t k)
{
    size_t size = dtype_size(dtype);
    char *to = (char *)data + (size_t)(tile * TILE_ROWS * k_padded) * size;
    turns_pause();
    if (dtype == DT_F16)
        pack_16(to, src, (size_t)ld * size, rows, k);
    else if (dtype == DT_F32)
        pack_32_bits(to, src, (size_t)ld * size, rows, k);
    else
        pack_32_bits(to, src, (size_t)ld * size, rows, k / 2);
    if (dtype == DT_BF16 && k % 2) // half a pair
        for (int64_t r = 0; r < rows; r++)
            memcpy(to + (k / 2 * TILE_ROWS + r) * 4,
                   (const char *)src + (size_t)(r * ld + k - 1) * size, size);
}

float tile_value(const void *p, enum dtype dtype, int64_t i)
{
    switch (dtype) {
    case DT_F32:
        return load_f32((const char *)p + 4 * i);
    case DT_F16:
        return f16_to_f32(load_u16((const char *)p + 2 * i));
    case DT_BF16:
        return bf16_to_f32(load_u16((const char *)p + 2 * i));
    case DT_I16:
        return (float)(int16_t)load_u16((const char *)p + 2 * i);
    default:
        return (float)((const uint8_t *)p)[i];
    }
}

float tile_float8(uint8_t code, enum dtype dtype)
{
    if (dtype == DT_F8_E5M2) // the upper half of a half
        return f16_to_f32((uint16_t)(code << 8));
    uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;
    float value;
    if (rest == 0x7f) // the only NaN; there is no infinity
        rest = 0x7fc00000;
    else if (rest >= 8)
        rest = (rest << 20) + ((127 - 7) << 23);
    else
        return (sign ? -0x1p-9f : 0x1p-9f) * (float)rest;
    rest |= sign;
    memcpy(&value, &rest, sizeof value);
    return value;
}

/* Rounds the table's elements to steps; the sum of the squared errors in units of a step. */
static float round_steps(const float table[16], float step, float offset, int8_t steps[16])
{
    float error = 0;
    for (int c = 0; c < 16; c++) {
        float v = table[c] / step + offset, whole = rintf(v);
        steps[c] = (int8_t)whole;
        error += (v - whole) * (v - whole);
    }
    return error;
}

void tile_table_steps(struct weight *w)
{
    float top = 0, best = INFINITY;
    w->step = w->offset = 0;
    for (int c = 0; c < 16; c++)
        top = isfinite(w->table[c]) ? fmaxf(top, fabsf(w->table[c])) : INFINITY;
    if (top < 0x1p-60f || top > 0x1p60f) // its square, and a scale times its step, stay normal
        return;
    for (int quarters = 4 * 64; quarters <= 4 * 126; quarters++)
        for (int sixteenths = -8; sixteenths < 8; sixteenths++) {
            int8_t steps[16];
            float step = 4 * top / (float)quarters, offset = (float)sixteenths / 16;
            float error = round_steps(w->table, step, offset, steps) * step * step;
            if (error < best) {
                best = error;
                w->step = step;
                w->offset = offset;
            }
        }
    round_steps(w->table, w->step, w->offset, w->steps);
}

/* The greatest code, its sign aside; magnitudes ascend with their codes. */
static uint8_t greatest_code(const uint8_t *codes, size_t bytes)
{
    uint8_t most[CHUNK_LINE] = {0}, top = 0;
    for (size_t i = 0; i < bytes; i += CHUNK_LINE)
        for (size_t j = 0; j < CHUNK_LINE; j++) {
            uint8_t code = codes[i + j] & 0x7f;
            most[j] = code > most[j] ? code : most[j];
        }
    for (size_t j = 0; j < CHUNK_LINE; j++)
        top = most[j] > top ? most[j] : top;
    return top;
}

void tile_float8_steps(struct weight *w)
{
    int exponent;
    float top = tile_float8(greatest_code(w->data, w->data_bytes), w->code_dtype);
    w->step = 0;
    if (!isfinite(top))
        return;
    frexpf(top, &exponent);
    w->step = ldexpf(1, exponent - 14);
    for (int c = 0; c < 128; c++) {
        float steps = rintf(tile_float8((uint8_t)c, w->code_dtype) / w->step);
        int b = steps < 0x1p14f ? (int)steps : 0; // greater ones do not occur
        w->high_low[0][c] = (uint8_t)(b / 128);
        w->high_low[1][c] = (uint8_t)(b % 128);
    }
}

float tile_dense(const void *data, int64_t k_padded, enum dtype dtype, int64_t row, int64_t k)
{
    return tile_value(data, dtype, dense_index(k_padded, dtype, row, k));
}

/* Flat index of (row, k) in the whole module. */
static int64_t flat_index(const struct weight *w, int64_t row, int64_t k)
{
    return (w->flat_row + row) * w->flat_k + w->flat_col + k;
}

int64_t weight_group(const struct weight *w, int64_t row, int64_t k)
{
    switch (w->grouping) {
    case GROUPS_FLAT:
        return flat_index(w, row, k) / w->group;
    case GROUPS_STRIDED:
        return flat_index(w, row, k) % w->n_groups;
    case GROUPS_OF_ROWS:
        break;
    }
    return w->group_of ? w->group_of[k] : k / w->group;
}

static int64_t param_index(const struct weight *w, int64_t row, int64_t k)
{
    int64_t group = weight_group(w, row, k);
    return w->grouping == GROUPS_OF_ROWS ? tile_param(row, group, w->n_groups) : group;
}

float weight_scale(const struct weight *w, int64_t row, int64_t k)
{
    if (w->encoding == ENC_CODEBOOK)
        return tile_value(w->scales, w->scale_dtype, row / w->out_group);
    int64_t i = param_index(w, row, k);
    if (!w->nested)
        return tile_value(w->scales, w->scale_dtype, i);
    int64_t block = flat_index(w, row, k) / w->group;
    float product =
        w->nested_map[((const uint8_t *)w->scales)[i]] * w->nested_absmax[block / w->nested_block];
    return product + w->nested_offset;
}

float weight_zero(const struct weight *w, int64_t row, int64_t k)
{
    return w->zeros ? tile_value(w->zeros, w->zero_dtype, param_index(w, row, k)) : 0;
}

float weight_decode(const struct weight *w, uint8_t code, float scale, float zero)
{
    if (w->encoding == ENC_TABLE4)
        return round_to_dtype(w->table[code] * scale, w->dtype);
    if (w->encoding == ENC_FLOAT8)
        return round_to_dtype(tile_float8(code, w->code_dtype) * scale, w->dtype);
    if (w->rule == RULE_FMA)
        return round_to_dtype(fmaf((float)code, scale, zero), w->dtype);
    float v = (float)code - zero;
    if (w->rule == RULE_STEPS)
        v = round_to_dtype(v, w->dtype);
    v *= scale;
    return round_to_dtype(w->rule == RULE_FACTOR ? v * w->factor : v, w->dtype);
}

size_t tile_book_bytes(int64_t n, int64_t lookups, int bits)
{
    if (bits > 8)
        return (size_t)n * (size_t)lookups * 2;
    return (size_t)((n + BOOK_LINE - 1) / BOOK_LINE) * (size_t)lookups * BOOK_LINE;
}

/* An element of an ENC_CODEBOOK weight. */
static float codebook_element(const struct weight *w, int64_t row, int64_t k)
{
    int64_t part = row % w->out_group * w->in_group + k % w->in_group;
    int64_t lookups = w->k / w->in_group * w->books;
    float sum = 0;
    for (int64_t b = 0; b < w->books; b++) {
        int64_t code =
            tile_book_code(w, row / w->out_group, lookups, k / w->in_group * w->books + b);
        sum += tile_value(w->codebook, w->codebook_dtype,
                          ((b << w->bits) + code) * w->out_group * w->in_group + part);
    }
    return round_to_dtype(round_to_dtype(sum, w->dtype) * weight_scale(w, row, k), w->dtype);
}

float weight_element(const struct weight *w, int64_t row, int64_t k)
{
    if (w->encoding == ENC_DENSE)
        return tile_dense(w->data, w->k_padded, w->dtype, row, k);
    if (w->encoding == ENC_CODEBOOK)
        return codebook_element(w, row, k);
    return weight_decode(w, tile_code(w->data, w->k_padded, w->bits, row, k),
                         weight_scale(w, row, k), weight_zero(w, row, k));
}
