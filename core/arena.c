/* Owns the memory of one request as a list of chunks, each twice the one before; nothing is freed
 * singly. */
#include "core/arena.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    alignas(16) char data[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    struct arena_chunk *c = a->chunks;
    if (size > (size_t)1 << 40)
        return NULL;
    size = (size + 15) / 16 * 16;
    if (!c || c->size - c->used < size) {
        size_t want = c ? 2 * c->size : 1024;
        if (want > (size_t)1 << 20)
            want = (size_t)1 << 20;
        if (want < size)
            want = size;
        c = malloc(offsetof(struct arena_chunk, data) + want);
        if (!c)
            return NULL;
        *c = (struct arena_chunk){.next = a->chunks, .size = want};
        a->chunks = c;
        a->total += want;
    }
    void *p = c->data + c->used;
    c->used += size;
    return memset(p, 0, size);
}

void *arena_copy(struct arena *a, const void *data, size_t size)
{
    void *p = arena_alloc(a, size);
    if (p && size)
        memcpy(p, data, size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

void arena_free(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks; c;) {
        struct arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    memset(a, 0, sizeof *a);
}
