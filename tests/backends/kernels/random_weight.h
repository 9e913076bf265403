/* Random weights of every encoding, for the tests of the kernels and the program that times them.
 */
#ifndef OFTD_TESTS_BACKENDS_KERNELS_RANDOM_WEIGHT_H
#define OFTD_TESTS_BACKENDS_KERNELS_RANDOM_WEIGHT_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "core/memory.h"

struct weight_case {
    const char *name;
    enum encoding encoding;
    enum dtype dtype;
    enum rule rule;
    int bits;
    int64_t group; /* 0: one group a row */
    enum dtype scale_dtype, zero_dtype;
    bool zeros, nested, irregular, perm;
    bool wild;    /* scales that make float16 elements subnormal, zero and infinite */
    bool whole;   /* flat: whole chunks from bound to bound */
    bool special; /* 8-bit floats: infinities and NaNs too */
    enum grouping grouping;
    int64_t strides;                /* strided: groups in all, negative: over the module's k */
    int books, in_group, out_group; /* codebooks; groups become divisors of k and n */
};

#define DENSE(d)  .encoding = ENC_DENSE, .dtype = DT_##d
#define NF4(d, g) .encoding = ENC_TABLE4, .dtype = DT_##d, .bits = 4, .group = g
#define CODES(b, g, r, d, s)                                                                       \
    .encoding = ENC_GROUP, .bits = b, .group = g, .rule = RULE_##r, .dtype = DT_##d,               \
    .scale_dtype = DT_##s
#define ZEROS(d) .zeros = true, .zero_dtype = DT_##d
/* zero_dtype is the codes' dtype: such weights have no zeros */
#define FLOAT8(f, g, d, s)                                                                         \
    .encoding = ENC_FLOAT8, .bits = 8, .group = g, .dtype = DT_##d, .scale_dtype = DT_##s,         \
    .zero_dtype = DT_F8_##f
#define FLAT       .grouping = GROUPS_FLAT
#define STRIDED(n) .grouping = GROUPS_STRIDED, .strides = n
/* scale_dtype is the codebook's dtype too */
#define BOOKS(m, b, in, out, d, s)                                                                 \
    .encoding = ENC_CODEBOOK, .rule = RULE_STEPS, .books = m, .bits = b, .in_group = in,           \
    .out_group = out, .dtype = DT_##d, .scale_dtype = DT_##s

/* Every path of the decoders: hot encodings, each width, each parameter type, odd groups. */
static const struct weight_case weight_cases[] = {
    {"dense-f32", DENSE(F32)},
    {"dense-f16", DENSE(F16)},
    {"dense-bf16", DENSE(BF16)},
    {"nf4-f32", NF4(F32, 64)},
    {"nf4-f16", NF4(F16, 64)},
    {"nf4-bf16", NF4(BF16, 64)},
    {"nf4-dq-f16", NF4(F16, 64), .nested = true},
    {"nf4-dq-bf16", NF4(BF16, 32), .nested = true},
    {"nf4-f16-wild", NF4(F16, 64), .wild = true},
    {"nf4-bf16-wild", NF4(BF16, 32), .wild = true},
    {"nf4-flat", NF4(F16, 64), FLAT},
    {"nf4-flat-dq", NF4(F16, 32), FLAT, .nested = true},
    {"nf4-flat-f32", NF4(F32, 6), FLAT},
    {"nf4-flat-whole", NF4(F16, 128), FLAT, .whole = true},
    {"nf4-flat-whole-dq", NF4(BF16, 96), FLAT, .whole = true, .nested = true},
    {"hqq4-flat-whole", CODES(4, 64, STEPS, BF16, BF16), ZEROS(BF16), FLAT, .whole = true},
    {"hqq3-flat-whole", CODES(3, 128, STEPS, F16, F16), ZEROS(F16), FLAT, .whole = true},
    {"fma8-flat-whole", CODES(8, 64, FMA, F16, F16), ZEROS(F32), FLAT, .whole = true},
    {"gptq4-g128", CODES(4, 128, PRODUCT, F16, F16), ZEROS(U8)},
    {"gptq4-act", CODES(4, 32, PRODUCT, F16, F16), ZEROS(U8), .perm = true},
    {"gptq4-uneven", CODES(4, 32, PRODUCT, F16, F16), ZEROS(I16), .perm = true, .irregular = true},
    {"gptq4-wild", CODES(4, 32, PRODUCT, F16, F16), ZEROS(I16), .wild = true},
    {"gptq2-uneven", CODES(2, 32, PRODUCT, BF16, F16), ZEROS(U8), .irregular = true},
    {"gptq2", CODES(2, 64, PRODUCT, F16, F16), ZEROS(U8)},
    {"gptq3", CODES(3, 64, PRODUCT, F16, F16), ZEROS(U8)},
    {"gptq8", CODES(8, 0, PRODUCT, F16, F16), ZEROS(I16)},
    {"int8-row-f32", CODES(8, 0, PRODUCT, F32, F32), ZEROS(U8)},
    {"bnb8", CODES(8, 0, FACTOR, F32, F32), ZEROS(U8)},
    {"factor4-f16", CODES(4, 24, FACTOR, F16, F32), ZEROS(U8)},
    {"factor8-bf16-wild", CODES(8, 32, FACTOR, BF16, F32), ZEROS(F32), .wild = true},
    {"awq-fast", CODES(4, 64, FMA, F16, F16), ZEROS(F16)},
    {"awq-fast-wild", CODES(4, 32, FMA, F16, F16), ZEROS(F16), .wild = true},
    {"fma8-f32", CODES(8, 40, FMA, F32, BF16), ZEROS(F32)},
    {"fma5-bf16", CODES(5, 16, FMA, BF16, F32), ZEROS(BF16)},
    {"hqq4-bf16", CODES(4, 64, STEPS, BF16, BF16), ZEROS(BF16)},
    {"hqq4-f16", CODES(4, 64, STEPS, F16, F16), ZEROS(F16)},
    {"hqq8-f16", CODES(8, 128, STEPS, F16, F16), ZEROS(F16)},
    {"hqq8-wild", CODES(8, 32, STEPS, F16, F32), ZEROS(F16), .wild = true},
    {"hqq2-g16", CODES(2, 16, STEPS, F16, F16), ZEROS(F16)},
    {"hqq4-g8", CODES(4, 8, STEPS, BF16, BF16), ZEROS(BF16)},
    {"hqq1-f32", CODES(1, 8, STEPS, F32, F32), ZEROS(F32)},
    {"hqq2-singles", CODES(2, 1, STEPS, F16, F16), ZEROS(F16)},
    {"hqq4-axis0", CODES(4, 64, STEPS, F16, F16), ZEROS(F16), STRIDED(-2)},
    {"hqq2-axis0-bf16", CODES(2, 64, STEPS, BF16, BF16), ZEROS(BF16), STRIDED(-1)},
    {"hqq2-axis0-g16", CODES(2, 16, STEPS, F16, F16), ZEROS(F16), STRIDED(-352)},
    {"hqq3-axis0-bf16", CODES(3, 64, STEPS, BF16, BF16), ZEROS(BF16), STRIDED(-5)},
    {"hqq3-axis0-g64", CODES(3, 64, STEPS, F16, F16), ZEROS(F16), STRIDED(-88)},
    {"hqq8-axis0", CODES(8, 64, STEPS, F16, F16), ZEROS(F16), STRIDED(-3)},
    {"hqq6-axis0-wild", CODES(6, 64, STEPS, F16, F32), ZEROS(F16), STRIDED(-17), .wild = true},
    {"hqq8-axis0-odd", CODES(8, 64, STEPS, F32, F32), ZEROS(F32), STRIDED(1003)},
    {"hqq3-axis0-few", CODES(3, 64, STEPS, F16, F16), ZEROS(F16), STRIDED(5)},
    {"fma6-axis0", CODES(6, 8, FMA, F16, F16), ZEROS(F16), STRIDED(131)},
    {"factor7-axis0", CODES(7, 8, FACTOR, BF16, BF16), STRIDED(16)},
    {"nf4-axis0", NF4(BF16, 64), STRIDED(-3)},
    {"group5", CODES(5, 16, PRODUCT, BF16, F32)},
    {"group6-flat", CODES(6, 40, STEPS, F16, F16), ZEROS(F16), FLAT},
    {"group7", CODES(7, 10, PRODUCT, F16, F16), ZEROS(U8)},
    {"e4m3-row", FLOAT8(E4M3, 0, BF16, BF16)},
    {"e4m3-f32", FLOAT8(E4M3, 128, F32, F32)},
    {"e4m3-f16", FLOAT8(E4M3, 64, F16, F16)},
    {"e4m3-wild", FLOAT8(E4M3, 32, BF16, F32), .wild = true},
    {"e4m3-special", FLOAT8(E4M3, 32, BF16, BF16), .special = true},
    {"e4m3-flat", FLOAT8(E4M3, 20, F16, F32), FLAT},
    {"e4m3-axis0", FLOAT8(E4M3, 64, BF16, F32), STRIDED(-1), .special = true},
    {"e5m2-row", FLOAT8(E5M2, 0, BF16, F32)},
    {"e5m2-f16-wild", FLOAT8(E5M2, 24, F16, F32), .wild = true},
    {"e5m2-special", FLOAT8(E5M2, 64, BF16, BF16), .special = true},
    {"e5m2-uneven", FLOAT8(E5M2, 12, F32, F16), .irregular = true, .special = true},
    {"aqlm-1x16", BOOKS(1, 16, 8, 1, F16, F16)},
    {"aqlm-2x8", BOOKS(2, 8, 8, 1, F16, F16)},
    {"aqlm-8x8", BOOKS(8, 8, 32, 1, F16, F16)},
    {"aqlm-1x12-bf16", BOOKS(1, 12, 8, 1, BF16, BF16)},
    {"aqlm-2x9-f32", BOOKS(2, 9, 8, 1, F32, F32)},
    {"aqlm-4x12-bf16", BOOKS(4, 12, 16, 2, BF16, BF16)},
    {"aqlm-3x1", BOOKS(3, 1, 10, 3, F16, F16)},
    {"aqlm-1x5-f32", BOOKS(1, 5, 4, 5, F32, F32)},
    {"aqlm-2x9-wide", BOOKS(2, 9, 96, 18, F16, F16)},
};
#define WEIGHT_CASES (sizeof weight_cases / sizeof weight_cases[0])

static inline const struct weight_case *weight_case_of(const char *name)
{
    const struct weight_case *c = weight_cases;
    while (strcmp(c->name, name) != 0)
        c++;
    return c;
}

static uint64_t random_state = 88172645463325252u;
static inline uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}
/* In (-1, 1). */
static inline float random_float(void)
{
    return (float)((int64_t)random_u64() >> 40) * 0x1p-23f;
}
static inline void random_floats(float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = random_float();
}

/* n elements of a parameter: scales small and positive, zeros in the code's range. */
static inline void random_parameter(void *p, enum dtype d, int64_t n, float low, float high)
{
    for (int64_t i = 0; i < n; i++) {
        float f = low + (high - low) * (0.5f + 0.5f * random_float());
        uint16_t h = d == DT_F16    ? f32_to_f16(f)
                     : d == DT_BF16 ? f32_to_bf16(f)
                                    : (uint16_t)(int16_t)(f + 0.5f);
        if (d == DT_F32)
            ((float *)p)[i] = f;
        else if (d == DT_U8)
            ((uint8_t *)p)[i] = (uint8_t)h;
        else
            ((uint16_t *)p)[i] = h;
    }
}

/* Scale i, from 2^-40 to 2^20. */
static inline void random_scale(struct weight *w, int64_t i)
{
    float f = ldexpf(random_float(), (int)(random_u64() % 60) - 40);
    if (w->scale_dtype == DT_F32)
        ((float *)w->scales)[i] = f;
    else
        ((uint16_t *)w->scales)[i] = w->scale_dtype == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
}

static inline void random_table(struct weight *w)
{
    for (int i = 0; i < 16; i++)
        w->table[i] = -1.0f + 2.0f * (float)i / 15 + 0.01f * random_float();
    tile_table_steps(w);
    if (!w->nested)
        return;
    for (int i = 0; i < 256; i++)
        w->nested_map[i] = -1.0f + 2.0f * (float)i / 255;
    w->nested_offset = 0.03f;
    w->nested_block = 256;
    w->n_nested = (w->flat_row + w->n) * w->flat_k / w->group / 256 + 1;
    w->nested_absmax = memory_alloc((size_t)w->n_nested * sizeof(float));
    for (int64_t i = 0; w->nested_absmax && i < w->n_nested; i++)
        w->nested_absmax[i] = 0.01f + 0.01f * random_float();
}

static inline void random_perm(struct weight *w)
{
    int32_t *perm = memory_alloc((size_t)w->k * sizeof *perm);
    for (int64_t i = 0; perm && i < w->k; i++) {
        int64_t j = (int64_t)(random_u64() % (uint64_t)(i + 1));
        perm[i] = perm[j];
        perm[j] = (int32_t)i;
    }
    w->perm = perm;
}

/* Codes: any, but for 8-bit floats no infinities and NaNs unless the case has them. */
static inline void random_codes(const struct weight_case *c, struct weight *w)
{
    w->data_bytes = tile_code_bytes(w->n, w->k, c->bits);
    w->data = memory_alloc(w->data_bytes);
    uint8_t *codes = w->data;
    for (size_t i = 0; codes && i < w->data_bytes; i++) {
        codes[i] = (uint8_t)random_u64();
        if (c->encoding == ENC_FLOAT8 && !(c->special && i % 97 == 0) && (codes[i] & 0x7c) == 0x7c)
            codes[i] ^= 0x40;
    }
}

static inline int divisor(int64_t n, int most)
{
    while (n % most)
        most--;
    return most;
}

static inline void random_codebooks(const struct weight_case *c, struct weight *w)
{
    w->books = c->books;
    w->in_group = divisor(w->k, c->in_group);
    w->out_group = divisor(w->n, c->out_group);
    w->codebook_dtype = c->scale_dtype;
    w->data_bytes = tile_book_bytes(w->n / w->out_group, w->k / w->in_group * c->books, c->bits);
    w->data = memory_alloc(w->data_bytes);
    for (size_t i = 0; w->data && i < w->data_bytes / (c->bits > 8 ? 2 : 1); i++) {
        uint64_t code = random_u64() & ((1u << c->bits) - 1);
        if (c->bits > 8)
            ((uint16_t *)w->data)[i] = (uint16_t)code;
        else
            ((uint8_t *)w->data)[i] = (uint8_t)code;
    }
    int64_t elements = ((int64_t)c->books << c->bits) * w->in_group * w->out_group;
    w->codebook = memory_alloc((size_t)elements * dtype_size(w->codebook_dtype));
    random_parameter(w->codebook, w->codebook_dtype, elements, -1, 1);
    w->scales = memory_alloc((size_t)w->n * dtype_size(w->scale_dtype));
    random_parameter(w->scales, w->scale_dtype, w->n / w->out_group, 0.004f, 0.02f);
}

/* Where the groups are; a flat or strided weight is the second part of a larger module. */
static inline int64_t place_groups(const struct weight_case *c, struct weight *w)
{
    bool flat = c->grouping != GROUPS_OF_ROWS;
    // groups that are not flat never straddle rows
    w->flat_k = flat ? w->k + 24 : (w->k + w->group - 1) / w->group * w->group;
    w->flat_row = flat ? 3 : c->nested ? 16 : 0;
    w->flat_col = flat ? 24 : 0;
    if (c->whole) {
        w->flat_k = w->k_padded + TILE_K;
        w->flat_col = TILE_K;
    }
    w->n_groups = (w->k + w->group - 1) / w->group;
    if (c->grouping == GROUPS_FLAT)
        w->n_groups = ((w->flat_row + w->n) * w->flat_k + w->group - 1) / w->group;
    if (c->grouping == GROUPS_STRIDED)
        w->n_groups = c->strides < 0 ? -c->strides * w->flat_k : c->strides;
    return flat ? w->n_groups : w->n_tiles * TILE_ROWS * w->n_groups;
}

/* One case as [n, k]. */
static inline struct weight random_weight(const struct weight_case *c, int64_t n, int64_t k)
{
    struct weight w = {.encoding = c->encoding,
                       .dtype = c->dtype,
                       .rule = c->rule,
                       .n = n,
                       .k = k,
                       .n_tiles = tile_count(n),
                       .k_padded = tile_pad_k(k),
                       .bits = c->bits,
                       .group = c->group ? c->group : k,
                       .grouping = c->grouping,
                       .nested = c->nested,
                       .scale_dtype = c->scale_dtype,
                       .zero_dtype = c->zero_dtype,
                       .code_dtype = c->zero_dtype,
                       .factor = 1.0f / 127};
    if (c->encoding == ENC_DENSE) {
        w.data_bytes = tile_dense_bytes(n, k, c->dtype);
        w.data = memory_alloc(w.data_bytes);
        random_parameter(w.data, c->dtype, w.n_tiles * TILE_ROWS * w.k_padded, -0.05f, 0.05f);
        return w;
    }
    if (c->encoding == ENC_CODEBOOK) {
        random_codebooks(c, &w);
        return w;
    }
    random_codes(c, &w);
    if (c->encoding == ENC_FLOAT8)
        tile_float8_steps(&w);
    int64_t parameters = place_groups(c, &w);
    if (c->encoding == ENC_TABLE4) {
        w.scale_dtype = c->nested ? DT_U8 : DT_F32;
        random_table(&w);
    }
    w.scales = memory_alloc((size_t)parameters * dtype_size(w.scale_dtype));
    random_parameter(w.scales, w.scale_dtype, parameters, c->nested ? 0 : 0.004f,
                     c->nested ? 255 : 0.02f);
    for (int64_t i = 0; c->wild && i < parameters; i += 23)
        random_scale(&w, i);
    if (c->zeros) {
        // RULE_FMA's zeros are products already
        float top = c->rule == RULE_FMA ? -0.01f : 1;
        w.zeros = memory_alloc((size_t)parameters * dtype_size(w.zero_dtype));
        random_parameter(w.zeros, w.zero_dtype, parameters, 0, top * (float)((1 << c->bits) - 1));
    }
    if (c->perm)
        random_perm(&w);
    if (c->irregular) {
        int32_t *g = memory_alloc((size_t)w.k_padded * sizeof *g);
        for (int64_t i = 0; g && i < w.k_padded; i++)
            g[i] = (int32_t)(random_u64() % (uint64_t)w.n_groups);
        w.group_of = g;
    }
    return w;
}

/* The same bits, or two NaNs: which NaN a sum has is nowhere said. */
static inline bool same_value(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

#endif
