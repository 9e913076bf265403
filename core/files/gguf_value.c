/* Values of GGUF keys as what they are. gguf.c has walked every one of them: they lie in the file.
 */
#include "core/files/gguf.h"

/* One integer of a type, checked to lie in the file; false if the type is none. */
static bool read_integer(uint32_t type, const uint8_t *p, int64_t *out)
{
    switch (type) {
    case GGUF_VALUE_U8:
        *out = p[0];
        return true;
    case GGUF_VALUE_I8:
        *out = p[0] < 128 ? p[0] : p[0] - 256;
        return true;
    case GGUF_VALUE_U16:
        *out = load_u16(p);
        return true;
    case GGUF_VALUE_I16:
        *out = (int16_t)load_u16(p);
        return true;
    case GGUF_VALUE_U32:
        *out = load_u32(p);
        return true;
    case GGUF_VALUE_I32:
        *out = (int32_t)load_u32(p);
        return true;
    case GGUF_VALUE_U64:
    case GGUF_VALUE_I64:
        *out = (int64_t)gguf_load_u64(p);
        return type == GGUF_VALUE_I64 || *out >= 0;
    default:
        return false;
    }
}

/* Bytes of an integer's type. */
static size_t integer_bytes(uint32_t type)
{
    return type <= GGUF_VALUE_I8 ? 1 : type <= GGUF_VALUE_I16 ? 2 : type <= GGUF_VALUE_I32 ? 4 : 8;
}

bool gguf_integer(const struct gguf_value *v, int64_t *out)
{
    return v && !v->array && read_integer(v->type, v->data, out);
}

bool gguf_float(const struct gguf_value *v, float *out)
{
    if (!v || v->array || (v->type != GGUF_VALUE_F32 && v->type != GGUF_VALUE_F64))
        return false;
    double wide;
    memcpy(&wide, v->data, v->type == GGUF_VALUE_F64 ? sizeof wide : 0);
    *out = v->type == GGUF_VALUE_F64 ? (float)wide : load_f32(v->data);
    return true;
}

bool gguf_bool(const struct gguf_value *v, bool *out)
{
    if (!v || v->array || v->type != GGUF_VALUE_BOOL || v->data[0] > 1)
        return false;
    *out = v->data[0];
    return true;
}

bool gguf_string(const struct gguf_value *v, struct gguf_text *out)
{
    if (!v || v->array || v->type != GGUF_VALUE_STRING)
        return false;
    *out = (struct gguf_text){(const char *)v->data + 8, (size_t)gguf_load_u64(v->data)};
    return true;
}

bool gguf_is_array(const struct gguf_value *v, bool of_strings)
{
    if (!v || !v->array)
        return false;
    bool number =
        v->type <= GGUF_VALUE_I32 || v->type == GGUF_VALUE_U64 || v->type == GGUF_VALUE_I64;
    return of_strings ? v->type == GGUF_VALUE_STRING : number;
}

bool gguf_next_string(struct gguf_value *rest, struct gguf_text *out)
{
    if (!rest->n)
        return false;
    *out = (struct gguf_text){(const char *)rest->data + 8, (size_t)gguf_load_u64(rest->data)};
    rest->data += 8 + out->n;
    rest->n--;
    return true;
}

bool gguf_next_integer(struct gguf_value *rest, int64_t *out)
{
    if (!rest->n || !read_integer(rest->type, rest->data, out))
        return false;
    rest->data += integer_bytes(rest->type);
    rest->n--;
    return true;
}
