/* Owns dtypes, checked shapes and the exact scalar conversions between float formats. Knows no file
 * and no layout. */
#include "core/tensor.h"

#include <math.h>
#include <stdio.h>

static const struct {
    size_t size;
    const char *name;
} dtypes[DT_COUNT_] = {
#define DTYPE(name, size, text) [DT_##name] = {size, text},
    DTYPES(DTYPE)
#undef DTYPE
};

static const struct {
    const char *name;
    enum dtype dtype;
} torch_names[] = {
    {"float32", DT_F32}, {"float16", DT_F16}, {"bfloat16", DT_BF16}, {"float64", DT_F64},
    {"uint8", DT_U8},    {"int8", DT_I8},     {"int32", DT_I32},     {"int16", DT_I16},
};
#define N_TORCH (sizeof torch_names / sizeof torch_names[0])

size_t dtype_size(enum dtype d)
{
    return dtypes[d].size;
}

const char *dtype_name(enum dtype d)
{
    return dtypes[d].name;
}

bool dtype_parse(const char *text, enum dtype *out)
{
    for (int d = 0; d < DT_COUNT_; d++)
        if (!strcmp(dtypes[d].name, text)) {
            *out = (enum dtype)d;
            return true;
        }
    return false;
}

bool dtype_parse_torch(const char *text, enum dtype *out)
{
    if (!strncmp(text, "torch.", 6))
        text += 6;
    for (size_t i = 0; i < N_TORCH; i++)
        if (!strcmp(torch_names[i].name, text)) {
            *out = torch_names[i].dtype;
            return true;
        }
    return false;
}

const char *dtype_torch(enum dtype d)
{
    for (size_t i = 0; i < N_TORCH; i++)
        if (torch_names[i].dtype == d)
            return torch_names[i].name;
    return "";
}

int64_t tensor_elements(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

char *tensor_shape_text(const struct tensor *t, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < t->rank && at < size; i++)
        at +=
            (size_t)snprintf(buf + at, size - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (at < size)
        snprintf(buf + at, size - at, "]");
    return buf;
}

bool tensor_shape_is(const struct tensor *t, int rank, const int64_t *shape)
{
    return t->rank == rank && !memcmp(t->shape, shape, (size_t)rank * sizeof *shape);
}

float tensor_f32(const struct tensor *t, int64_t i)
{
    float f;
    tensor_to_f32(t, i, 1, &f);
    return f;
}

/* f16_to_f32 without branches, for whole blocks at once. */
static uint32_t f16_bits(uint16_t h)
{
    uint32_t u = (uint32_t)(h & 0x7fff) << 13, e = u & 0x0f800000, normal = u + 0x38000000, small;
    uint32_t up = normal + 0x00800000;
    float f;
    memcpy(&f, &up, sizeof f);
    f -= 0x1p-14f; // a subnormal's fraction alone, exact
    memcpy(&small, &f, sizeof small);
    uint32_t all = e == 0x0f800000 ? normal + 0x38000000 : normal;
    return (e ? all : small) | (uint32_t)(h & 0x8000) << 16;
}

static void f16_values(const char *p, int64_t n, float *out)
{
    enum { AT_ONCE = 32 };
    uint16_t h[AT_ONCE];
    uint32_t bits[AT_ONCE];
    for (; n >= AT_ONCE; n -= AT_ONCE, p += sizeof h, out += AT_ONCE) {
        memcpy(h, p, sizeof h);
        for (int i = 0; i < AT_ONCE; i++)
            bits[i] = f16_bits(h[i]);
        memcpy(out, bits, sizeof bits);
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = f16_to_f32(load_u16(p + 2 * i));
}

/* What f32_to_f16 answers; without a branch, so that many go through vectors. */
static inline uint16_t half_of(float f)
{
    uint32_t u, small;
    memcpy(&u, &f, 4);
    uint32_t sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    memcpy(&f, &u, 4);
    f += 0.5f; // has the ulp 2^-24: what is below 2^-14 is rounded to such units by the adder
    memcpy(&small, &f, 4);
    uint32_t h = (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13;
    h = u < 0x38800000 ? small - 0x3f000000 : h;
    h = u >= 0x477ff000 ? 0x7c00 : h; // 65520 and above round to Inf
    h = u > 0x7f800000 ? 0x7e00 | (u >> 13 & 0x3ff) : h;
    return (uint16_t)(sign | h);
}

void tensor_to_f32(const struct tensor *t, int64_t first, int64_t n, float *out)
{
    const char *p = (const char *)t->data + (size_t)first * dtype_size(t->dtype);
    switch (t->dtype) {
    case DT_F32:
        memcpy(out, p, (size_t)n * sizeof *out);
        break;
    case DT_F16:
        f16_values(p, n, out);
        break;
    case DT_BF16:
        for (int64_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(load_u16(p + 2 * i));
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            out[i] = NAN;
    }
}

void tensor_from_f32(const float *v, int64_t n, enum dtype dtype, void *out)
{
    uint16_t *half = out;
    if (dtype == DT_F32)
        memcpy(out, v, (size_t)n * sizeof *v);
    else if (dtype == DT_F16)
        for (int64_t i = 0; i < n; i++)
            half[i] = half_of(v[i]);
    else
        for (int64_t i = 0; i < n; i++)
            half[i] = f32_to_bf16(v[i]);
}

bool size_product(const int64_t *v, int n, int64_t *out)
{
    int64_t p = 1;
    for (int i = 0; i < n; i++)
        if (v[i] < 0 || __builtin_mul_overflow(p, v[i], &p))
            return false;
    *out = p;
    return true;
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (isnan(f))
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff, u;
    if (e == 31) {
        u = sign | 0x7f800000 | m << 13;
    } else if (e) {
        u = sign | (e + 112) << 23 | m << 13;
    } else {
        float f = (float)m * 0x1p-24f; // exact
        memcpy(&u, &f, 4);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f32_to_f16(float f)
{
    return half_of(f);
}

float round_to_dtype(float f, enum dtype d)
{
    if (d == DT_F16)
        return f16_to_f32(f32_to_f16(f));
    if (d == DT_BF16)
        return bf16_to_f32(f32_to_bf16(f));
    return f;
}
