/*
 * Tensors of the open inference protocol on their way in.
 *
 *     { "inputs": [ {"name":"a","datatype":"INT64","shape":[2,3],"data":[[1,2,3],[4,5,6]]},
 *                   {"name":"b","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":11}}
 *     ] } <11 bytes of b: 03 00 00 00 'y' 'e' 's' 00 00 00 00>
 *      ^ Inference-Header-Content-Length counts to here
 *
 * A list is flat, or nested exactly as the shape says. Bytes are little-endian, row-major, without
 * gaps; an element of BYTES is its length (4 bytes) and so many bytes. A client's number decides
 * nothing that the shape does not confirm: a size is compared before a byte is looked at.
 */
#include "server/v2_tensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/tensor.h"
#include "server/fields.h"

struct v2_type {
    const char *name;
    size_t size; /* bytes an element; 0: each has its own */
    enum { INTEGER, FLOAT, TEXT } kind;
    enum dtype dtype;
};
static const struct v2_type types[] = {{"INT32", 4, INTEGER, DT_I32}, {"INT64", 8, INTEGER, DT_I64},
                                       {"FP32", 4, FLOAT, DT_F32},    {"FP16", 2, FLOAT, DT_F16},
                                       {"BF16", 2, FLOAT, DT_BF16},   {"BYTES", 0, TEXT, DT_U8}};

static const struct v2_type *type_named(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(types[i].name, name))
            return &types[i];
    return NULL;
}

/* INVALID_VALUE: the tensor's name and what is wrong with it. */
__attribute__((format(printf, 3, 4))) static enum status
refuse(const struct v2_tensor *t, struct error *err, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    error_param(err, ST_INVALID_VALUE, t->name, "%.128s: %s", t->name, text);
    return ST_INVALID_VALUE;
}

/* ---- one tensor's place ---- */

/* Takes the tensor's bytes from what follows the JSON. */
static enum status take_bytes(struct v2_tensor *t, const json_t *size, const char **at,
                              const char *end, struct error *err)
{
    uint64_t n = (uint64_t)json_as_int(size);
    if (t->type->size && n != (uint64_t)t->n * t->type->size)
        return refuse(t, err, "binary_data_size is %llu, but %lld elements of %s take %llu bytes",
                      (unsigned long long)n, (long long)t->n, t->type->name,
                      (unsigned long long)t->n * t->type->size);
    if (n > (uint64_t)(end - *at))
        return refuse(t, err, "binary_data_size is %llu, but %lld bytes of the body are left",
                      (unsigned long long)n, (long long)(end - *at));
    t->bytes = *at;
    t->size = (size_t)n;
    *at += n;
    return ST_OK;
}

static enum status read_one(struct v2_tensor *t, const json_t *input, const char **at,
                            const char *end, struct error *err)
{
    const json_t *shape = field(input, "shape"), *parameters = field(input, "parameters");
    const json_t *size = parameters ? field(parameters, "binary_data_size") : NULL;
    t->name = field_text(input, "name");
    t->type = type_named(field_text(input, "datatype"));
    t->rank = (int)json_array_size(shape);
    t->data = field(input, "data");
    for (int i = 0; i < t->rank; i++)
        t->shape[i] = json_as_int(json_array_get(shape, (size_t)i));
    if (!t->type || !size_product(t->shape, t->rank, &t->n) || t->n > INT32_MAX)
        return refuse(t, err, "the shape has too many elements");
    if (!t->data == !size)
        return error_param(err, size ? ST_INVALID_VALUE : ST_MISSING_FIELD, t->name,
                           "%s: send either data or the parameter binary_data_size", t->name);
    return size ? take_bytes(t, size, at, end, err) : ST_OK;
}

enum status v2_tensors_read(struct request *q, struct v2_tensor **out, size_t *n, struct error *err)
{
    const json_t *inputs = field(q->json, "inputs");
    const char *at = q->body_len ? q->body + q->json_len : NULL;
    const char *end = q->body_len ? q->body + q->body_len : NULL;
    *n = json_array_size(inputs);
    *out = arena_alloc(&q->arena, (*n + 1) * sizeof **out);
    enum status s = *out ? ST_OK : error_memory(err, "reading tensors");
    for (size_t i = 0; i < *n && !s; i++) {
        struct v2_tensor *t = &(*out)[i];
        s = read_one(t, json_array_get(inputs, i), &at, end, err);
        if (!s && v2_tensors_find(*out, i, t->name))
            s = refuse(t, err, "the tensor is sent twice");
    }
    if (!s && at != end)
        s = error_param(err, ST_INVALID_VALUE, "inputs",
                        "inputs: the body goes on for %lld bytes behind the last tensor",
                        (long long)(end - at));
    return s;
}

const struct v2_tensor *v2_tensors_find(const struct v2_tensor *v, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(v[i].name, name))
            return &v[i];
    return NULL;
}

/* ---- elements ---- */

static bool nested_as(const json_t *list, const int64_t *shape, int rank)
{
    if (!json_is_array(list) || json_array_size(list) != (size_t)shape[0])
        return false;
    for (size_t i = 0; rank > 1 && i < json_array_size(list); i++)
        if (!nested_as(json_array_get(list, i), shape + 1, rank - 1))
            return false;
    return true;
}

static const json_t **collect(const json_t *list, int rank, const json_t **at)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (rank == 1)
            *at++ = v;
        else
            at = collect(v, rank - 1, at);
    }
    return at;
}

/* The elements of t's list, row-major, in q's arena. */
static enum status flatten(struct request *q, const struct v2_tensor *t, const json_t ***out,
                           struct error *err)
{
    bool flat = !json_is_array(json_array_get(t->data, 0));
    int rank = flat ? 1 : t->rank;
    if (!nested_as(t->data, flat ? &t->n : t->shape, rank)) {
        refuse(t, err, "data does not have the %lld elements that the shape says", (long long)t->n);
        return ST_INVALID_VALUE;
    }
    *out = arena_alloc(&q->arena, (size_t)t->n * sizeof **out);
    if (!*out)
        return error_memory(err, "reading tensors");
    collect(t->data, rank, *out);
    return ST_OK;
}

static bool fits(int64_t v, int32_t low, int32_t high)
{
    return v >= low && v <= high;
}

static bool int_of(const struct v2_tensor *t, const json_t *const *list, size_t i, int64_t *v)
{
    if (list) {
        *v = json_integer_value(list[i]);
        return json_is_integer(list[i]);
    }
    int32_t narrow;
    if (t->type->size == sizeof *v) {
        memcpy(v, t->bytes + i * sizeof *v, sizeof *v);
    } else {
        memcpy(&narrow, t->bytes + i * sizeof narrow, sizeof narrow);
        *v = narrow;
    }
    return true;
}

enum status v2_tensors_ints(struct request *q, const struct v2_tensor *t, int32_t low, int32_t high,
                            const int32_t **out, struct error *err)
{
    const json_t **list = NULL;
    if (t->type->kind != INTEGER)
        return refuse(t, err, "INT64 or INT32 is expected, got %s", t->type->name);
    enum status s = t->data ? flatten(q, t, &list, err) : ST_OK;
    int32_t *v = s ? NULL : arena_alloc(&q->arena, (size_t)t->n * sizeof *v);
    if (!s && !v)
        s = error_memory(err, "reading tensors");
    for (size_t i = 0; i < (size_t)t->n && !s; i++) {
        int64_t x;
        if (!int_of(t, list, i, &x) || !fits(x, low, high))
            s = refuse(t, err, "element %zu is no integer from %d to %d", i, low, high);
        else
            v[i] = (int32_t)x;
    }
    *out = v;
    return s;
}

enum status v2_tensors_floats(struct request *q, const struct v2_tensor *t, const float **out,
                              struct error *err)
{
    const json_t **list = NULL;
    const struct tensor bytes = {
        .dtype = t->type->dtype, .rank = 1, .shape = {t->n}, .data = t->bytes, .bytes = t->size};
    if (t->type->kind != FLOAT)
        return refuse(t, err, "FP32, FP16 or BF16 is expected, got %s", t->type->name);
    enum status s = t->data ? flatten(q, t, &list, err) : ST_OK;
    float *v = s ? NULL : arena_alloc(&q->arena, (size_t)t->n * sizeof *v);
    if (!s && !v)
        s = error_memory(err, "reading tensors");
    if (!s && !list)
        tensor_to_f32(&bytes, 0, t->n, v);
    for (int64_t i = 0; i < t->n && !s; i++) {
        if (list)
            v[i] = json_is_number(list[i]) ? (float)json_number_value(list[i]) : NAN;
        if (!isfinite(v[i]))
            s = refuse(t, err, "element %lld is no finite number", (long long)i);
    }
    *out = v;
    return s;
}

/* Room for a text of each element: that there are so many has been seen. */
static enum status texts_new(struct request *q, const struct v2_tensor *t, struct text **out,
                             struct error *err)
{
    *out = arena_alloc(&q->arena, (size_t)t->n * sizeof **out);
    return *out ? ST_OK : error_memory(err, "reading tensors");
}

static enum status text_bytes(struct request *q, const struct v2_tensor *t, struct text **out,
                              struct error *err)
{
    const char *at = t->bytes, *end = at + t->size;
    if (t->size / 4 < (size_t)t->n) {
        refuse(t, err, "%lld elements do not fit into its %zu bytes", (long long)t->n, t->size);
        return ST_INVALID_VALUE;
    }
    enum status s = texts_new(q, t, out, err);
    if (s)
        return s;
    for (int64_t i = 0; i < t->n; i++) {
        uint32_t len = end - at < 4 ? UINT32_MAX : load_u32(at);
        if (end - at < 4 || len > (size_t)(end - at) - 4)
            return refuse(t, err, "its %zu bytes end within element %lld", t->size, (long long)i);
        (*out)[i] = (struct text){at + 4, len};
        at += 4 + len;
    }
    if (at == end)
        return ST_OK;
    return refuse(t, err, "%lld bytes are left behind its %lld elements", (long long)(end - at),
                  (long long)t->n);
}

static enum status text_list(struct request *q, const struct v2_tensor *t, struct text **out,
                             struct error *err)
{
    const json_t **list = NULL;
    enum status s = flatten(q, t, &list, err);
    s = s ? s : texts_new(q, t, out, err);
    for (size_t i = 0; i < (size_t)t->n && !s; i++) {
        if (!json_is_string(list[i]))
            return refuse(t, err, "element %zu is no string", i);
        (*out)[i] = (struct text){json_string_value(list[i]), json_string_length(list[i])};
    }
    return s;
}

enum status v2_tensors_texts(struct request *q, const struct v2_tensor *t, const struct text **out,
                             struct error *err)
{
    if (t->type->kind != TEXT)
        return refuse(t, err, "BYTES is expected, got %s", t->type->name);
    struct text *v = NULL;
    enum status s = t->data ? text_list(q, t, &v, err) : text_bytes(q, t, &v, err);
    for (int64_t i = 0; i < t->n && !s; i++) {
        v[i].v = arena_strndup(&q->arena, v[i].v, v[i].len);
        s = v[i].v ? ST_OK : error_memory(err, "reading tensors");
    }
    *out = v;
    return s;
}
