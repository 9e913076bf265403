/*
 * Owns growth by doubling. An array that cannot grow stays as it was and says so; nothing here is
 * shared between threads.
 */
#include "core/tokenizer/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "core/utf8.h"

bool bytes_reserve(struct bytes *b, size_t more)
{
    return more <= SIZE_MAX - b->n && GROW(b->v, b->cap, b->n + more, 64);
}

bool bytes_append(struct bytes *b, const char *data, size_t n)
{
    if (!bytes_reserve(b, n))
        return false;
    if (n)
        memcpy(b->v + b->n, data, n);
    b->n += n;
    return true;
}

bool bytes_append_string(struct bytes *b, const char *s)
{
    return bytes_append(b, s, strlen(s));
}

bool bytes_append_char(struct bytes *b, uint32_t c)
{
    if (!bytes_reserve(b, 4))
        return false;
    b->n += utf8_write(c, b->v + b->n);
    return true;
}

void bytes_drop(struct bytes *b, size_t n)
{
    if (n)
        memmove(b->v, b->v + n, b->n - n);
    b->n -= n;
}

void bytes_swap(struct bytes *a, struct bytes *b)
{
    struct bytes t = *a;
    *a = *b;
    *b = t;
}

void bytes_free(struct bytes *b)
{
    free(b->v);
    *b = (struct bytes){0};
}

bool spans_push(struct spans *s, size_t start, size_t end, bool flag)
{
    if (!GROW(s->v, s->cap, s->n + 1, 16))
        return false;
    s->v[s->n++] = (struct span){start, end, flag};
    return true;
}

void spans_swap(struct spans *a, struct spans *b)
{
    struct spans t = *a;
    *a = *b;
    *b = t;
}

void spans_free(struct spans *s)
{
    free(s->v);
    *s = (struct spans){0};
}
