/*
 * What a tensor of a file is: a name, a dtype, a shape and borrowed bytes. Sizes are computed with
 * overflow checks only here. Data may be unaligned: read elements through tensor_f32 / the load
 * helpers, never by casting the pointer.
 */
#ifndef OFTD_CORE_TENSOR_H
#define OFTD_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* DTYPE(NAME, bytes an element, "safetensors name"); sub-byte types are not served. */
#define DTYPES(DTYPE)                                                                              \
    DTYPE(BOOL, 1, "BOOL")                                                                         \
    DTYPE(U8, 1, "U8")                                                                             \
    DTYPE(I8, 1, "I8")                                                                             \
    DTYPE(F8_E5M2, 1, "F8_E5M2")                                                                   \
    DTYPE(F8_E4M3, 1, "F8_E4M3")                                                                   \
    DTYPE(F8_E8M0, 1, "F8_E8M0")                                                                   \
    DTYPE(I16, 2, "I16")                                                                           \
    DTYPE(U16, 2, "U16")                                                                           \
    DTYPE(F16, 2, "F16")                                                                           \
    DTYPE(BF16, 2, "BF16")                                                                         \
    DTYPE(I32, 4, "I32")                                                                           \
    DTYPE(U32, 4, "U32")                                                                           \
    DTYPE(F32, 4, "F32")                                                                           \
    DTYPE(F64, 8, "F64")                                                                           \
    DTYPE(I64, 8, "I64")                                                                           \
    DTYPE(U64, 8, "U64")

enum dtype {
#define DTYPE(name, size, text) DT_##name,
    DTYPES(DTYPE)
#undef DTYPE
        DT_COUNT_
};

size_t dtype_size(enum dtype d);
const char *dtype_name(enum dtype d);
/* By safetensors name; false if unknown. */
bool dtype_parse(const char *text, enum dtype *out);
/* By torch name, with or without "torch.": float16 bfloat16 float32 float64 uint8 int8 int32. */
bool dtype_parse_torch(const char *text, enum dtype *out);
const char *dtype_torch(enum dtype d); /* "float16"...; "" where torch names are not used here */
static inline bool dtype_is_float(enum dtype d)
{
    return d == DT_F32 || d == DT_F16 || d == DT_BF16;
}

#define TENSOR_MAX_RANK 8

struct tensor {
    const char *name; /* whole name in the file; borrowed */
    const char *file; /* path of the file, for messages; borrowed */
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    const void *data; /* borrowed; C order, little endian, any alignment */
    size_t bytes;     /* == elements * dtype_size */
};

/* Number of elements (1 for a scalar). */
int64_t tensor_elements(const struct tensor *t);
/* "[4, 32]" into buf; returns buf. */
char *tensor_shape_text(const struct tensor *t, char *buf, size_t size);
bool tensor_shape_is(const struct tensor *t, int rank, const int64_t *shape);
/* Element i of a float tensor (F32, F16, BF16) as f32, exactly. */
float tensor_f32(const struct tensor *t, int64_t i);
/* Elements [first, first + n) of a float tensor to f32, exactly. */
void tensor_to_f32(const struct tensor *t, int64_t first, int64_t n, float *out);
/* n floats to dtype (F32, F16, BF16), one after another, each rounded as f32_to_ does below. */
void tensor_from_f32(const float *v, int64_t n, enum dtype dtype, void *out);
/* Overflow-checked product; false if it exceeds INT64_MAX or a factor is negative. */
bool size_product(const int64_t *v, int n, int64_t *out);

/* ---- scalar conversions; all roundings are to nearest even ---- */
static inline float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
uint16_t f32_to_bf16(float f); /* NaN stays a NaN */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* overflow to Inf, subnormals kept */
/* f rounded to d (F32, F16, BF16) and back. */
float round_to_dtype(float f, enum dtype d);

/* ---- unaligned little-endian loads ---- */
static inline uint16_t load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline float load_f32(const void *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

#endif
