/*
 * Owns the split of ranges of characters into ranges of bytes: first where the number of bytes
 * changes, then where a continuation byte does not run through all its 64 values, until every byte
 * of a piece is a range by itself (as RE2 and Go's regexp/syntax do it).
 */
#include "core/grammar/chars.h"

#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

void chars_add(struct builder *b, struct chars *set, uint32_t first, uint32_t last)
{
    if (first > last || !builder_spend(b, 32)) // it is sorted, and becomes nodes
        return;
    if (set->n == set->cap) {
        size_t cap = set->cap ? 2 * set->cap : 8;
        struct char_range *v = arena_alloc(&b->arena, cap * sizeof *v);
        if (!v) {
            b->failed = ST_OUT_OF_MEMORY;
            return;
        }
        if (set->n)
            memcpy(v, set->v, set->n * sizeof *v);
        set->v = v;
        set->cap = cap;
    }
    set->v[set->n++] = (struct char_range){first, last};
}

void chars_add_all(struct builder *b, struct chars *set, const struct chars *more)
{
    for (size_t i = 0; i < more->n; i++)
        chars_add(b, set, more->v[i].first, more->v[i].last);
}

static int by_first(const void *a, const void *b)
{
    const struct char_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

void chars_sort(struct chars *set)
{
    if (!set->n)
        return;
    qsort(set->v, set->n, sizeof *set->v, by_first);
    size_t n = 0;
    for (size_t i = 1; i < set->n; i++) {
        struct char_range *last = &set->v[n];
        if (set->v[i].first > last->last + 1)
            set->v[++n] = set->v[i];
        else if (set->v[i].last > last->last)
            last->last = set->v[i].last;
    }
    set->n = n + 1;
}

struct chars chars_not(struct builder *b, struct chars *set)
{
    struct chars other = {0};
    uint32_t from = 0;
    chars_add(b, set, 0xD800, 0xDFFF);
    chars_sort(set);
    for (size_t i = 0; i < set->n; i++) {
        if (set->v[i].first > from)
            chars_add(b, &other, from, set->v[i].first - 1);
        from = set->v[i].last + 1;
    }
    chars_add(b, &other, from, CHAR_LAST);
    return other;
}

bool chars_has(const struct chars *set, uint32_t c)
{
    for (size_t i = 0; i < set->n && set->v[i].first <= c; i++)
        if (c <= set->v[i].last)
            return true;
    return false;
}

/* ---- as bytes ---- */

/* first and last have the same number of bytes, and each byte between them runs freely. */
static struct fragment piece(struct builder *b, uint32_t first, uint32_t last)
{
    char low[4], high[4];
    size_t n = utf8_write(first, low);
    utf8_write(last, high);
    struct fragment f = fragment_range(b, (uint8_t)low[0], (uint8_t)high[0]);
    for (size_t i = 1; i < n; i++)
        f = fragment_then(b, f, fragment_range(b, (uint8_t)low[i], (uint8_t)high[i]));
    return f;
}

static struct fragment split(struct builder *b, uint32_t first, uint32_t last)
{
    static const uint32_t lengths[] = {0x7F, 0x7FF, 0xFFFF};
    for (int i = 0; i < 3; i++)
        if (first <= lengths[i] && last > lengths[i])
            return fragment_or(b, split(b, first, lengths[i]), split(b, lengths[i] + 1, last));
    for (int i = 1; i < 4 && last > 0x7F; i++) {
        uint32_t mask = (1u << 6 * i) - 1;
        if ((first & ~mask) == (last & ~mask))
            break;
        if (first & mask)
            return fragment_or(b, split(b, first, first | mask),
                               split(b, (first | mask) + 1, last));
        if ((last & mask) != mask)
            return fragment_or(b, split(b, first, (last & ~mask) - 1),
                               split(b, last & ~mask, last));
    }
    return piece(b, first, last);
}

/* A range without the surrogates. */
static struct fragment range(struct builder *b, struct fragment all, uint32_t first, uint32_t last)
{
    if (first < 0xD800 && last >= 0xD800) {
        all = fragment_or(b, all, split(b, first, 0xD7FF));
        first = 0xE000;
    } else if (first >= 0xD800 && first <= 0xDFFF) {
        first = 0xE000;
    }
    if (last >= 0xD800 && last <= 0xDFFF)
        last = 0xD7FF;
    return first <= last && !b->failed ? fragment_or(b, all, split(b, first, last)) : all;
}

/* Without the barred character. */
static void bar(struct builder *b, struct chars *set)
{
    for (size_t i = 0; i < set->n; i++) {
        struct char_range r = set->v[i];
        if (r.first > b->barred || r.last < b->barred)
            continue;
        set->v[i].last = b->barred - 1;
        chars_add(b, set, b->barred + 1, r.last);
        if (r.first == b->barred)
            set->v[i] = set->v[--set->n];
        break;
    }
}

struct fragment chars_fragment(struct builder *b, struct chars *set)
{
    struct fragment all = no_fragment;
    chars_sort(set);
    if (b->barred)
        bar(b, set);
    for (size_t i = 0; i < set->n; i++)
        all = range(b, all, set->v[i].first, set->v[i].last);
    return all.in >= 0 ? all : fragment_never(b);
}

/* What stands for a character that a JSON string cannot hold as it is. */
static struct fragment escape(struct builder *b, uint32_t c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt", hex[] = "0123456789abcdef";
    const char *at = c ? strchr(from, (int)c) : NULL;
    char text[7] = {'\\', 'u', '0', '0', hex[c >> 4 & 15], hex[c & 15]};
    if (!at)
        return fragment_text(b, text, 6);
    text[1] = to[at - from];
    return fragment_text(b, text, 2);
}

struct fragment chars_json(struct builder *b, struct chars *set)
{
    struct chars plain = {0};
    struct fragment all = no_fragment;
    chars_sort(set);
    for (size_t i = 0; i < set->n; i++) {
        uint32_t from = set->v[i].first;
        for (uint32_t c = from; c <= set->v[i].last && c <= '\\'; c++) {
            if (c >= 0x20 && c != '"' && c != '\\' && c != b->barred)
                continue;
            all = fragment_or(b, all, escape(b, c));
            if (c > from)
                chars_add(b, &plain, from, c - 1);
            from = c + 1;
        }
        chars_add(b, &plain, from, set->v[i].last);
    }
    if (plain.n)
        all = fragment_or(b, all, chars_fragment(b, &plain));
    return all.in >= 0 ? all : fragment_never(b);
}
