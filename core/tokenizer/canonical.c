/*
 * Owns Unicode's normal forms. utf8proc knows each character's decomposition and composes; putting
 * the marks into canonical order is done here, by counting, because utf8proc sorts by exchange of
 * neighbours: a megabyte of marks in the wrong order would take it minutes. It composes a buffer
 * that is in order already in one pass.
 */
#include "core/tokenizer/canonical.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/grow.h"
#include "core/utf8.h"

static const struct {
    uint32_t first, last;
} undecomposed[] = {
#define UNICODE_CLASS(class, first, last, member)
#define UNICODE_LOWER(first, last, distance)
#define UNICODE_REGEX(property, first, last)
#define UNICODE_UNDECOMPOSED(first, last) {first, last},
#include "core/tokenizer/unicode_tables.def"
#undef UNICODE_CLASS
#undef UNICODE_LOWER
#undef UNICODE_UNDECOMPOSED
#undef UNICODE_REGEX
};

#define DECOMPOSED_MAX 32 /* the longest is 18 (U+FDFA) */

struct characters {
    int32_t *v;
    size_t n, cap;
};

static bool reserve(struct characters *c, size_t more)
{
    return GROW(c->v, c->cap, c->n + more, 256);
}

static bool stays(uint32_t c)
{
    for (size_t i = 0; i < sizeof undecomposed / sizeof undecomposed[0]; i++) {
        if (c >= undecomposed[i].first && c <= undecomposed[i].last)
            return true;
    }
    return false;
}

static bool decompose(const char *text, size_t n, utf8proc_option_t options, struct characters *to)
{
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c = utf8_read(text + i, &len);
        if (!reserve(to, DECOMPOSED_MAX))
            return false;
        int boundary = 0;
        utf8proc_ssize_t made = 0;
        if (c >= 0x80 && !stays(c))
            made = utf8proc_decompose_char((utf8proc_int32_t)c, to->v + to->n, DECOMPOSED_MAX,
                                           options, &boundary);
        if (made <= 0 || made > DECOMPOSED_MAX) {
            to->v[to->n] = (int32_t)c;
            made = 1;
        }
        to->n += (size_t)made;
    }
    return true;
}

static unsigned combining(int32_t c)
{
    return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class & 0xFF;
}

/* Sorts a run of marks by combining class, equal ones in their order. */
static void sort_run(int32_t *v, size_t n, int32_t *spare)
{
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t c = v[i];
            size_t j = i;
            for (; j && combining(v[j - 1]) > combining(c); j--)
                v[j] = v[j - 1];
            v[j] = c;
        }
        return;
    }
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[combining(v[i]) + 1]++;
    for (size_t k = 1; k < 257; k++)
        at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++)
        spare[at[combining(v[i])]++] = v[i];
    memcpy(v, spare, n * sizeof *v);
}

static bool order(struct characters *c)
{
    int32_t *spare = NULL;
    for (size_t i = 0; i < c->n; i++) {
        size_t end = i;
        while (end < c->n && combining(c->v[end]))
            end++;
        if (end - i > 16 && !spare && !(spare = malloc(c->n * sizeof *spare)))
            return false;
        if (end - i > 1)
            sort_run(c->v + i, end - i, spare);
        i = end > i ? end - 1 : i;
    }
    free(spare);
    return true;
}

bool canonical_form(const char *text, size_t n, bool compatible, bool composed, struct bytes *out)
{
    size_t plain = 0; // ASCII is in every normal form
    while (plain < n && !((unsigned char)text[plain] & 0x80))
        plain++;
    if (plain == n)
        return bytes_append(out, text, n);
    struct characters c = {0};
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (compatible)
        options |= UTF8PROC_COMPAT;
    bool ok = decompose(text, n, options, &c) && order(&c);
    if (ok && composed) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(c.v, (utf8proc_ssize_t)c.n,
                                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (left >= 0)
            c.n = (size_t)left;
    }
    for (size_t i = 0; ok && i < c.n; i++)
        ok = bytes_append_char(out, (uint32_t)c.v[i]);
    free(c.v);
    return ok;
}
