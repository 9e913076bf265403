/*
 * jansson takes a text byte by byte, through several functions each: of a request of 8 KB that was
 * most of what comes before its tokens. Here strings are found whole. The invariant: what is read
 * here, jansson reads the same; whatever is not plain (an error, a key that comes twice or is not
 * ASCII, an integer of more than 18 digits, half a surrogate) is left to it, so that there is one
 * judge of what is wrong, and one wording.
 *
 * Values are made by jansson, whose allocations json.c watches: one that fails does not return, and
 * what is taken here is taken in the same way.
 */
#include "core/json_quick.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MAX 128 /* of its calls */
#define DIGITS_MAX  18  /* of an integer that surely fits */
#define NUMBER_MAX  63

struct quick {
    const char *at, *end;
    int depth, most;
    json_malloc_t take;
    json_free_t give;
};

static json_t *read_value(struct quick *q);

static bool skip(struct quick *q, char c)
{
    if (q->at == q->end || *q->at != c)
        return false;
    q->at++;
    return true;
}

static void skip_spaces(struct quick *q)
{
    while (q->at < q->end && (*q->at == ' ' || *q->at == '\n' || *q->at == '\r' || *q->at == '\t'))
        q->at++;
}

/* ---- strings ---- */

/* Four digits; -1: they are not. */
static int32_t read_hex(const char *at)
{
    int32_t x = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        x = 16 * x + digit;
    }
    return x;
}

static char *write_utf8(uint32_t x, char *to)
{
    if (x < 0x80) {
        *to++ = (char)x;
        return to;
    }
    int more = x < 0x800 ? 1 : x < 0x10000 ? 2 : 3;
    static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(heads[more] | x >> 6 * more);
    while (more--)
        *to++ = (char)(0x80 | (x >> 6 * more & 0x3f));
    return to;
}

/* From behind \u on; NULL: half a surrogate, or no digits. */
static const char *read_unicode(const char *at, const char *end, char **to)
{
    if (end - at < 4)
        return NULL;
    int32_t x = read_hex(at);
    at += 4;
    if (x >= 0xd800 && x < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        int32_t low = read_hex(at + 2);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        x = 0x10000 + ((x - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
    }
    if (x < 0 || (x >= 0xd800 && x < 0xe000))
        return NULL;
    *to = write_utf8((uint32_t)x, *to);
    return at;
}

/* at..end, with escapes, to `to`, where it fits; NULL: wrong. */
static char *unescape(const char *at, const char *end, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        size_t n = (size_t)((slash ? slash : end) - at);
        memcpy(to, at, n);
        to += n;
        at += n;
        if (!slash)
            break;
        char c = at[1]; // the end is no slash's: it would have hidden the quote
        const char *which = c ? strchr(from, c) : NULL;
        at += 2;
        if (which)
            *to++ = into[which - from];
        else if (c != 'u' || !(at = read_unicode(at, end, &to)))
            return NULL;
    }
    return to;
}

/* A string's inside: *escaped tells whether it has escapes, *plain whether all of it is ASCII.
 * false: it does not end, or has a control character. */
static bool find_string(struct quick *q, const char **from, size_t *len, bool *escaped, bool *plain)
{
    unsigned char high = 0;
    const char *p = q->at;
    *escaped = false;
    *from = p;
    for (; p < q->end && *p != '"'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20)
            return false;
        high |= c;
        if (c == '\\') {
            *escaped = true;
            if (++p == q->end)
                return false;
            high |= (unsigned char)*p;
        }
    }
    *plain = high < 0x80;
    *len = (size_t)(p - *from);
    q->at = p;
    return skip(q, '"');
}

/* Behind the first quote. */
static json_t *read_string(struct quick *q)
{
    const char *from;
    size_t len;
    bool escaped, plain;
    if (!find_string(q, &from, &len, &escaped, &plain))
        return NULL;
    if (!escaped)
        return plain ? json_stringn_nocheck(from, len) : json_stringn(from, len);
    char *text = q->take(len);
    char *end = text ? unescape(from, from + len, text) : NULL;
    json_t *v = end ? json_stringn(text, (size_t)(end - text)) : NULL;
    q->give(text);
    return v;
}

/* ---- numbers ---- */

static size_t digits(struct quick *q)
{
    const char *from = q->at;
    while (q->at < q->end && *q->at >= '0' && *q->at <= '9')
        q->at++;
    return (size_t)(q->at - from);
}

static json_t *read_real(const char *from, size_t len)
{
    char text[NUMBER_MAX + 1];
    if (len > NUMBER_MAX)
        return NULL;
    memcpy(text, from, len);
    text[len] = 0;
    double v = strtod(text, NULL);
    return isfinite(v) ? json_real(v) : NULL;
}

static json_t *read_number(struct quick *q)
{
    const char *from = q->at;
    bool minus = skip(q, '-'), real = false;
    const char *first = q->at;
    size_t n = digits(q);
    if (!n || (n > 1 && *first == '0'))
        return NULL;
    if (skip(q, '.')) {
        real = true;
        if (!digits(q))
            return NULL;
    }
    if (skip(q, 'e') || skip(q, 'E')) {
        real = true;
        if (!skip(q, '+'))
            skip(q, '-');
        if (!digits(q))
            return NULL;
    }
    if (real)
        return read_real(from, (size_t)(q->at - from));
    if (n > DIGITS_MAX)
        return NULL;
    json_int_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = 10 * v + (first[i] - '0');
    return json_integer(minus ? -v : v);
}

/* ---- what holds others ---- */

static bool read_items(struct quick *q, json_t *list)
{
    skip_spaces(q);
    if (skip(q, ']'))
        return true;
    do {
        json_t *v = read_value(q);
        if (!v || json_array_append_new(list, v))
            return false;
        skip_spaces(q);
    } while (skip(q, ','));
    return skip(q, ']');
}

static bool read_member(struct quick *q, json_t *object)
{
    const char *key;
    size_t len;
    bool escaped, plain;
    skip_spaces(q);
    if (!skip(q, '"') || !find_string(q, &key, &len, &escaped, &plain) || escaped || !plain ||
        json_object_getn(object, key, len))
        return false;
    skip_spaces(q);
    json_t *v = skip(q, ':') ? read_value(q) : NULL;
    return v && !json_object_setn_new_nocheck(object, key, len, v);
}

static bool read_members(struct quick *q, json_t *object)
{
    skip_spaces(q);
    if (skip(q, '}'))
        return true;
    do {
        if (!read_member(q, object))
            return false;
        skip_spaces(q);
    } while (skip(q, ','));
    return skip(q, '}');
}

static json_t *read_holder(struct quick *q, json_t *empty,
                           bool (*read)(struct quick *q, json_t *holder))
{
    bool good = empty && q->depth++ < q->most && read(q, empty);
    q->depth--;
    if (good)
        return empty;
    json_decref(empty);
    return NULL;
}

static json_t *read_word(struct quick *q)
{
    static const struct {
        const char *word;
        json_t *(*make)(void);
    } words[] = {{"true", json_true}, {"false", json_false}, {"null", json_null}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(q->end - q->at) >= n && !memcmp(q->at, words[i].word, n)) {
            q->at += n;
            return words[i].make();
        }
    }
    return NULL;
}

static json_t *read_value(struct quick *q)
{
    skip_spaces(q);
    if (skip(q, '"'))
        return read_string(q);
    if (skip(q, '{'))
        return read_holder(q, json_object(), read_members);
    if (skip(q, '['))
        return read_holder(q, json_array(), read_items);
    if (q->at < q->end && (*q->at == '-' || (*q->at >= '0' && *q->at <= '9')))
        return read_number(q);
    return read_word(q);
}

json_t *json_quick(const char *text, size_t len, int max_depth)
{
    struct quick q = {
        .at = text, .end = text + len, .most = max_depth < NESTING_MAX ? max_depth : NESTING_MAX};
    json_get_alloc_funcs(&q.take, &q.give);
    json_t *v = read_value(&q);
    skip_spaces(&q);
    if (q.at == q.end)
        return v;
    json_decref(v);
    return NULL;
}
