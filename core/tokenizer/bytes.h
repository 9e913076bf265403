/*
 * The two growing arrays of this room: text under construction, and stretches of a text.
 */
#ifndef OFTD_CORE_TOKENIZER_BYTES_H
#define OFTD_CORE_TOKENIZER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    char *v;
    size_t n, cap;
};

/* Each returns false when memory runs out; what was there stays. */
bool bytes_reserve(struct bytes *b, size_t more);
bool bytes_append(struct bytes *b, const char *data, size_t n);
bool bytes_append_string(struct bytes *b, const char *s); /* NUL ended */
bool bytes_append_char(struct bytes *b, uint32_t c);      /* as UTF-8 */
void bytes_drop(struct bytes *b, size_t n);               /* the first n leave */
void bytes_swap(struct bytes *a, struct bytes *b);
void bytes_free(struct bytes *b);

/* What a step may make of a text of n bytes; more is refused, so that no file can make texts grow
 * without bound. Published steps at most triple a text. */
static inline size_t bytes_growth_max(size_t n)
{
    return 64 * n + 65536;
}

/* [start, end) of some text; what the flag says depends on the list. */
struct span {
    size_t start, end;
    bool flag;
};
struct spans {
    struct span *v;
    size_t n, cap;
};

bool spans_push(struct spans *s, size_t start, size_t end, bool flag);
void spans_swap(struct spans *a, struct spans *b);
void spans_free(struct spans *s);

#endif
