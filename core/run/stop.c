#include "core/run/stop.h"

#include <stdlib.h>
#include <string.h>

/* Length of the longest stop string that ends with byte end - 1 of the text and began in it; 0:
 * none. */
static size_t ends_here(const struct stop *s, const char *text, size_t end)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct text *w = &s->strings[i];
        if (w->len <= end && w->len > longest && !memcmp(text + end - w->len, w->v, w->len))
            longest = w->len;
    }
    return longest;
}

/* Length of the longest tail that is the beginning of a stop string. */
static size_t tail(const struct stop *s, const char *text, size_t len)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct text *w = &s->strings[i];
        size_t most = w->len - 1 < len ? w->len - 1 : len;
        for (size_t n = most; n > longest; n--)
            if (!memcmp(text + len - n, w->v, n)) {
                longest = n;
                break;
            }
    }
    return longest;
}

enum status stop_push(struct stop *s, const char *piece, size_t len, struct text *out,
                      bool *matched)
{
    *matched = false;
    *out = (struct text){"", 0};
    size_t held = s->len - s->out;
    if (held + len + 1 > s->cap) {
        size_t cap = (held + len + 1) * 2;
        char *bigger = realloc(s->buf, cap > s->len ? cap : s->len);
        if (!bigger)
            return ST_OUT_OF_MEMORY;
        s->buf = bigger;
        s->cap = cap > s->len ? cap : s->len;
    }
    memmove(s->buf, s->buf + s->out, held);
    if (len)
        memcpy(s->buf + held, piece, len);
    s->len = held + len;
    s->out = 0;
    for (size_t end = held + 1; end <= s->len; end++) {
        size_t n = ends_here(s, s->buf, end);
        if (n) {
            *out = (struct text){s->buf, end - n};
            *matched = true;
            s->out = s->len;
            return ST_OK;
        }
    }
    s->out = s->len - tail(s, s->buf, s->len);
    *out = (struct text){s->buf, s->out};
    return ST_OK;
}

struct text stop_flush(struct stop *s)
{
    struct text rest = {"", 0};
    if (s->len > s->out)
        rest = (struct text){s->buf + s->out, s->len - s->out};
    s->out = s->len;
    return rest;
}

void stop_clear(struct stop *s)
{
    free(s->buf);
    *s = (struct stop){0};
}
