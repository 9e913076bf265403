/*
 * The GGUF container: metadata by key, and tensors. Everything in the file is distrusted; what can
 * be seen here lies inside the file and has the size that its type and shape promise.
 */
#ifndef OFTD_CORE_FILES_GGUF_H
#define OFTD_CORE_FILES_GGUF_H

#include "core/status.h"
#include "core/tensor.h"

/* Bounds of one file, so that a hostile one costs no more than its own size. */
#define GGUF_TENSORS_MAX 500000
#define GGUF_KEYS_MAX    100000
#define GGUF_NAME_MAX    1024
#define GGUF_RANK_MAX    4

/* The types of tensors that are read, with their numbers in the file. */
enum gguf_type { GGUF_F32 = 0, GGUF_F16 = 1, GGUF_Q4_0 = 2, GGUF_Q4_1 = 3, GGUF_Q8_0 = 8 };

/* The types of values, with their numbers in the file. */
enum gguf_value_type {
    GGUF_VALUE_U8,
    GGUF_VALUE_I8,
    GGUF_VALUE_U16,
    GGUF_VALUE_I16,
    GGUF_VALUE_U32,
    GGUF_VALUE_I32,
    GGUF_VALUE_F32,
    GGUF_VALUE_BOOL,
    GGUF_VALUE_STRING,
    GGUF_VALUE_ARRAY,
    GGUF_VALUE_U64,
    GGUF_VALUE_I64,
    GGUF_VALUE_F64,
    GGUF_VALUE_COUNT
};

/* Bytes of the file, without an end of their own. */
struct gguf_text {
    const char *v;
    size_t n;
};

/* The value of a key, or the rest of an array. */
struct gguf_value {
    const char *key;
    bool array;
    uint32_t type; /* enum gguf_value_type: of the value, or of the array's elements */
    uint64_t n;    /* elements; 1 for a scalar */
    const uint8_t *data;
};

struct gguf_tensor {
    const char *name;
    enum gguf_type type;
    int rank;
    int64_t
        shape[GGUF_RANK_MAX]; /* rows first, as Hugging Face writes it; the file's is reversed */
    const uint8_t *data;      /* borrowed; any alignment */
    size_t bytes;
};

struct gguf;

static inline uint64_t gguf_load_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* Maps path read-only. FILE_UNREADABLE, CHECKPOINT_INVALID (with the place), CONFIG_UNSUPPORTED
 * (another version or byte order, a file in parts), DTYPE_UNSUPPORTED (naming tensor and type). */
enum status gguf_open(const char *path, struct gguf **out, struct error *err);
/* The same over bytes in memory, which are borrowed; path is for messages. */
enum status gguf_parse(const void *bytes, size_t size, const char *path, struct gguf **out,
                       struct error *err);
void gguf_close(struct gguf *g); /* NULL is fine; values and tensors die with it */

const char *gguf_path(const struct gguf *g);
/* Sorted by key and by name; NULL from a find if there is none. */
const struct gguf_value *gguf_values(const struct gguf *g, size_t *n);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensors(const struct gguf *g, size_t *n);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);

/* A scalar as what it is; false if v is NULL, an array or of another kind (an integer above
 * INT64_MAX, a bool that is neither 0 nor 1). Integers of every width are integers. */
bool gguf_integer(const struct gguf_value *v, int64_t *out);
bool gguf_float(const struct gguf_value *v, float *out); /* F32, or F64 rounded */
bool gguf_bool(const struct gguf_value *v, bool *out);
bool gguf_string(const struct gguf_value *v, struct gguf_text *out);
bool gguf_is_array(const struct gguf_value *v, bool of_strings); /* else of integers */
/* Takes the first element off an array of that kind; false at its end. */
bool gguf_next_string(struct gguf_value *rest, struct gguf_text *out);
bool gguf_next_integer(struct gguf_value *rest, int64_t *out);

/* "Q4_1"; the name of any type that is known, or "type 77" in buf. */
const char *gguf_type_name(uint32_t type, char buf[24]);

#endif
