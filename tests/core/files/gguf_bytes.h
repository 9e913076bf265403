/* GGUF files made byte by byte, for tests. */
#ifndef OFTD_TESTS_CORE_FILES_GGUF_BYTES_H
#define OFTD_TESTS_CORE_FILES_GGUF_BYTES_H

#include <stdint.h>
#include <string.h>

struct gguf_bytes {
    uint8_t v[1 << 16];
    size_t n;
};

static inline void put_bytes(struct gguf_bytes *b, const void *p, size_t n)
{
    memcpy(b->v + b->n, p, n);
    b->n += n;
}

static inline void put_u32(struct gguf_bytes *b, uint32_t v)
{
    put_bytes(b, &v, 4);
}

static inline void put_u64(struct gguf_bytes *b, uint64_t v)
{
    put_bytes(b, &v, 8);
}

static inline void put_f32(struct gguf_bytes *b, float v)
{
    put_bytes(b, &v, 4);
}

static inline void put_text(struct gguf_bytes *b, const char *s)
{
    put_u64(b, strlen(s));
    put_bytes(b, s, strlen(s));
}

static inline void put_head(struct gguf_bytes *b, uint64_t tensors, uint64_t keys)
{
    b->n = 0;
    put_bytes(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, keys);
}

static inline void put_key_u32(struct gguf_bytes *b, const char *key, uint32_t v)
{
    put_text(b, key);
    put_u32(b, 4);
    put_u32(b, v);
}

static inline void put_key_f32(struct gguf_bytes *b, const char *key, float v)
{
    put_text(b, key);
    put_u32(b, 6);
    put_f32(b, v);
}

static inline void put_key_text(struct gguf_bytes *b, const char *key, const char *v)
{
    put_text(b, key);
    put_u32(b, 8);
    put_text(b, v);
}

/* The head of an array; n elements follow. */
static inline void put_key_array(struct gguf_bytes *b, const char *key, uint32_t type, uint64_t n)
{
    put_text(b, key);
    put_u32(b, 9);
    put_u32(b, type);
    put_u64(b, n);
}

/* rows 0: a vector. */
static inline void put_tensor(struct gguf_bytes *b, const char *name, uint64_t rows,
                              uint64_t columns, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, rows ? 2 : 1);
    put_u64(b, columns);
    if (rows)
        put_u64(b, rows);
    put_u32(b, type);
    put_u64(b, offset);
}

static inline void put_padding(struct gguf_bytes *b, size_t alignment)
{
    while (b->n % alignment)
        b->v[b->n++] = 0;
}

#endif
