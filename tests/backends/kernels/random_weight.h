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
    bool zeros, nested, flat, irregular, perm;
    bool wild; /* scales that make float16 elements subnormal, zero and infinite */
};

/* Every path of the decoders: hot encodings, each width, each parameter type, odd groups. */
static const struct weight_case weight_cases[] = {
    {.name = "dense-f32", .encoding = ENC_DENSE, .dtype = DT_F32},
    {.name = "dense-f16", .encoding = ENC_DENSE, .dtype = DT_F16},
    {.name = "dense-bf16", .encoding = ENC_DENSE, .dtype = DT_BF16},
    {.name = "nf4-f32", .encoding = ENC_TABLE4, .dtype = DT_F32, .bits = 4, .group = 64},
    {.name = "nf4-f16", .encoding = ENC_TABLE4, .dtype = DT_F16, .bits = 4, .group = 64},
    {.name = "nf4-bf16", .encoding = ENC_TABLE4, .dtype = DT_BF16, .bits = 4, .group = 64},
    {.name = "nf4-dq-f16",
     .encoding = ENC_TABLE4,
     .dtype = DT_F16,
     .bits = 4,
     .group = 64,
     .nested = true},
    {.name = "nf4-dq-bf16",
     .encoding = ENC_TABLE4,
     .dtype = DT_BF16,
     .bits = 4,
     .group = 32,
     .nested = true},
    {.name = "nf4-f16-wild",
     .encoding = ENC_TABLE4,
     .dtype = DT_F16,
     .bits = 4,
     .group = 64,
     .wild = true},
    {.name = "nf4-bf16-wild",
     .encoding = ENC_TABLE4,
     .dtype = DT_BF16,
     .bits = 4,
     .group = 32,
     .wild = true},
    {.name = "gptq4-wild",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 4,
     .group = 32,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_I16,
     .wild = true},
    {.name = "hqq8-wild",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_STEPS,
     .bits = 8,
     .group = 32,
     .scale_dtype = DT_F32,
     .zeros = true,
     .zero_dtype = DT_F16,
     .wild = true},
    {.name = "nf4-flat",
     .encoding = ENC_TABLE4,
     .dtype = DT_F16,
     .bits = 4,
     .group = 64,
     .flat = true},
    {.name = "nf4-flat-dq",
     .encoding = ENC_TABLE4,
     .dtype = DT_F16,
     .bits = 4,
     .group = 32,
     .flat = true,
     .nested = true},
    {.name = "gptq4-g128",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 4,
     .group = 128,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_U8},
    {.name = "gptq4-act",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 4,
     .group = 32,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_U8,
     .perm = true},
    {.name = "gptq4-uneven",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 4,
     .group = 32,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_I16,
     .perm = true,
     .irregular = true},
    {.name = "gptq8",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 8,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_I16},
    {.name = "int8-row-f32",
     .encoding = ENC_GROUP,
     .dtype = DT_F32,
     .rule = RULE_PRODUCT,
     .bits = 8,
     .scale_dtype = DT_F32,
     .zeros = true,
     .zero_dtype = DT_U8},
    {.name = "hqq4-bf16",
     .encoding = ENC_GROUP,
     .dtype = DT_BF16,
     .rule = RULE_STEPS,
     .bits = 4,
     .group = 64,
     .scale_dtype = DT_BF16,
     .zeros = true,
     .zero_dtype = DT_BF16},
    {.name = "hqq8-f16",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_STEPS,
     .bits = 8,
     .group = 128,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_F16},
    {.name = "hqq1-f32",
     .encoding = ENC_GROUP,
     .dtype = DT_F32,
     .rule = RULE_STEPS,
     .bits = 1,
     .group = 8,
     .scale_dtype = DT_F32,
     .zeros = true,
     .zero_dtype = DT_F32},
    {.name = "hqq2-axis0",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_STEPS,
     .bits = 2,
     .group = 1,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_F16},
    {.name = "group3",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 3,
     .group = 64,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_U8},
    {.name = "group5",
     .encoding = ENC_GROUP,
     .dtype = DT_BF16,
     .rule = RULE_PRODUCT,
     .bits = 5,
     .group = 16,
     .scale_dtype = DT_F32},
    {.name = "group6-flat",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_STEPS,
     .bits = 6,
     .group = 40,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_F16,
     .flat = true},
    {.name = "group7",
     .encoding = ENC_GROUP,
     .dtype = DT_F16,
     .rule = RULE_PRODUCT,
     .bits = 7,
     .group = 10,
     .scale_dtype = DT_F16,
     .zeros = true,
     .zero_dtype = DT_U8},
};
#define WEIGHT_CASES (sizeof weight_cases / sizeof weight_cases[0])

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

/* One case as [n, k] (for cases with a flat index: the second part of a larger module). */
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
                       .grouping = c->flat ? GROUPS_FLAT : GROUPS_OF_ROWS,
                       .nested = c->nested,
                       .scale_dtype = c->scale_dtype,
                       .zero_dtype = c->zero_dtype};
    int64_t elements = w.n_tiles * TILE_ROWS * w.k_padded;
    w.data_bytes = c->encoding == ENC_DENSE ? tile_dense_bytes(n, k, c->dtype)
                                            : tile_code_bytes(n, k, c->bits);
    w.data = memory_alloc(w.data_bytes);
    if (c->encoding == ENC_DENSE) {
        random_parameter(w.data, c->dtype, elements, -0.05f, 0.05f);
        return w;
    }
    for (size_t i = 0; i < w.data_bytes / 8; i++)
        ((uint64_t *)w.data)[i] = random_u64();
    // groups that are not flat never straddle rows
    w.flat_k = c->flat ? k + 24 : (k + w.group - 1) / w.group * w.group;
    w.flat_row = c->flat ? 3 : c->nested ? 16 : 0;
    w.flat_col = c->flat ? 24 : 0;
    w.n_groups = c->flat ? ((w.flat_row + n) * w.flat_k + w.group - 1) / w.group
                         : (k + w.group - 1) / w.group;
    int64_t parameters = c->flat ? w.n_groups : w.n_tiles * TILE_ROWS * w.n_groups;
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
        w.zeros = memory_alloc((size_t)parameters * dtype_size(w.zero_dtype));
        random_parameter(w.zeros, w.zero_dtype, parameters, 0, (float)((1 << c->bits) - 1));
    }
    if (c->perm)
        random_perm(&w);
    if (c->irregular) {
        int32_t *g = memory_alloc((size_t)w.k_padded * sizeof *g);
        for (int64_t i = 0; i < w.k_padded; i++)
            g[i] = (int32_t)(random_u64() % (uint64_t)w.n_groups);
        w.group_of = g;
    }
    return w;
}

#endif
