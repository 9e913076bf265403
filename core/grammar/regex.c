/*
 * Owns the reading of a regular expression, by recursive descent. Where dialects differ in what a
 * class holds (is an Arabic digit a \d?) the readings here are the narrow one of \d, \w and \s and
 * the complement of the wide one of \D, \W and \S: what is generated matches in every dialect.
 */
#include "core/grammar/regex.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "core/grammar/chars.h"
#include "core/utf8.h"

#define DEPTH_MAX  200
#define REPEAT_MAX 10000

struct regex {
    struct builder *b;
    const char *text;
    size_t at, len;
    enum regex_use use;
    int depth;
    enum status status;
    struct error *err;
};

static struct fragment refuse(struct regex *r, size_t at, const char *what)
{
    if (!r->status && !r->b->failed)
        r->status = error_set(r->err, ST_INVALID_VALUE, "regex: %s, at byte %zu of \"%.*s\"", what,
                              at, (int)(r->len < 100 ? r->len : 100), r->text);
    return fragment_never(r->b);
}

static bool more(const struct regex *r)
{
    return r->at < r->len && !r->status && !r->b->failed;
}

static char peek(const struct regex *r)
{
    return r->at < r->len ? r->text[r->at] : 0;
}

static bool take(struct regex *r, char c)
{
    if (r->at == r->len || r->text[r->at] != c)
        return false;
    r->at++;
    return true;
}

static uint32_t take_char(struct regex *r)
{
    size_t n;
    uint32_t c = utf8_read(r->text + r->at, &n);
    r->at += n;
    return c;
}

static struct fragment one_of(struct regex *r, struct chars *set)
{
    return r->use == REGEX_JSON_SEARCH ? chars_json(r->b, set) : chars_fragment(r->b, set);
}

/* ---- classes ---- */

static bool is_wide(char kind, uint32_t c)
{
    utf8proc_category_t x = utf8proc_category((utf8proc_int32_t)c);
    switch (kind) {
    case 'd':
        return x == UTF8PROC_CATEGORY_ND;
    case 'w':
        return (x >= UTF8PROC_CATEGORY_LU && x <= UTF8PROC_CATEGORY_NO) || c == '_';
    default:
        return (x >= UTF8PROC_CATEGORY_ZS && x <= UTF8PROC_CATEGORY_ZP) || (c >= 9 && c <= 13) ||
               (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xFEFF;
    }
}

/* What some dialect counts to the class, made once for a grammar. */
static void add_wide(struct regex *r, char kind, struct chars *all)
{
    const struct chars **made = &r->b->wide[kind == 'd' ? 0 : kind == 'w' ? 1 : 2];
    if (*made) {
        chars_add_all(r->b, all, *made);
        return;
    }
    struct chars *set = arena_alloc(&r->b->arena, sizeof *set);
    uint32_t from = 0;
    bool inside = false;
    if (!set) {
        r->b->failed = ST_OUT_OF_MEMORY;
        return;
    }
    for (uint32_t c = 0; c <= CHAR_LAST + 1; c++) {
        bool is = c <= CHAR_LAST && is_wide(kind, c);
        if (is && !inside)
            from = c;
        if (!is && inside)
            chars_add(r->b, set, from, c - 1);
        inside = is;
    }
    *made = set;
    chars_add_all(r->b, all, set);
}

/* What every dialect does. */
static void add_narrow(struct regex *r, char kind, struct chars *set)
{
    if (kind == 's') {
        chars_add(r->b, set, '\t', '\r');
        chars_add(r->b, set, ' ', ' ');
        return;
    }
    chars_add(r->b, set, '0', '9');
    if (kind == 'd')
        return;
    chars_add(r->b, set, 'A', 'Z');
    chars_add(r->b, set, 'a', 'z');
    chars_add(r->b, set, '_', '_');
}

/* kind: d w s D W S. outside: the class is the complement of what is collected. */
static void add_class(struct regex *r, char kind, bool outside, struct chars *set)
{
    bool capital = kind < 'a';
    char small = (char)(kind | 32);
    struct chars inner = {0};
    if (capital != outside)
        add_wide(r, small, &inner);
    else
        add_narrow(r, small, &inner);
    if (capital)
        inner = chars_not(r->b, &inner);
    chars_add_all(r->b, set, &inner);
}

static uint32_t hex(struct regex *r, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        char d = peek(r), low = (char)(d | 32);
        if (d >= '0' && d <= '9')
            c = c * 16 + (uint32_t)(d - '0');
        else if (low >= 'a' && low <= 'f')
            c = c * 16 + (uint32_t)(low - 'a' + 10);
        else {
            refuse(r, r->at, "a hexadecimal digit is expected");
            return 0;
        }
        r->at++;
    }
    return c;
}

/* Behind a backslash: the character that is meant, or a class, whose letter goes to *kind. */
static uint32_t escaped(struct regex *r, char *kind)
{
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v";
    size_t at = r->at - 1;
    *kind = 0;
    if (!more(r)) {
        refuse(r, at, "a backslash ends it");
        return 0;
    }
    uint32_t c = take_char(r);
    const char *known = c && c < 128 ? strchr(from, (int)c) : NULL;
    if (known)
        return (uint8_t)to[known - from];
    if (c == 'x' || c == 'u') {
        uint32_t value = hex(r, c == 'x' ? 2 : 4);
        if (value >= 0xD800 && value <= 0xDFFF)
            refuse(r, at, "a surrogate is no character");
        return value;
    }
    if (c < 128 && strchr("dwsDWS", (int)c))
        *kind = (char)c;
    else if ((c >= '1' && c <= '9') || c == 'k')
        refuse(r, at, "back references are not supported");
    else if (c == 'b' || c == 'B')
        refuse(r, at, "word boundaries are not supported");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        refuse(r, at, "this escape is not supported");
    return c;
}

/* One end of a range; *kind: it is a class instead. */
static uint32_t class_item(struct regex *r, char *kind)
{
    *kind = 0;
    if (!take(r, '\\'))
        return take_char(r);
    if (take(r, 'b'))
        return 8;
    return escaped(r, kind);
}

static struct fragment class(struct regex *r)
{
    size_t start = r->at - 1;
    bool outside = take(r, '^'), first = true;
    struct chars set = {0};
    while (more(r) && (first || peek(r) != ']')) {
        char kind, other = 0;
        uint32_t low = class_item(r, &kind), high = low;
        if (r->at + 1 < r->len && peek(r) == '-' && r->text[r->at + 1] != ']') {
            r->at++;
            high = class_item(r, &other);
        }
        if (kind && !other && high == low)
            add_class(r, kind, outside, &set);
        else if (kind || other || low > high)
            return refuse(r, start, "a range of a class is not in order");
        else
            chars_add(r->b, &set, low, high);
        first = false;
    }
    if (!take(r, ']'))
        return refuse(r, start, "a class is not closed");
    if (outside)
        set = chars_not(r->b, &set);
    return one_of(r, &set);
}

/* ---- the rest ---- */

static struct fragment alternatives(struct regex *r);

static struct fragment group(struct regex *r)
{
    size_t start = r->at - 1;
    if (take(r, '?')) {
        bool name = take(r, 'P') || peek(r) == '<';
        if (name && take(r, '<') && peek(r) != '=' && peek(r) != '!') {
            while (more(r) && !take(r, '>'))
                r->at++;
        } else if (!take(r, ':')) {
            return refuse(r, start,
                          "only groups of the forms (...), (?:...) and (?<name>...) are "
                          "supported: no look-around, no flags");
        }
    }
    if (++r->depth > DEPTH_MAX)
        return refuse(r, start, "groups are nested too deep");
    struct fragment f = alternatives(r);
    r->depth--;
    return take(r, ')') ? f : refuse(r, start, "a group is not closed");
}

static struct fragment atom(struct regex *r)
{
    size_t at = r->at;
    char kind = 0;
    struct chars set = {0};
    if (take(r, '('))
        return group(r);
    if (take(r, '['))
        return class(r);
    uint32_t c = take_char(r);
    if (c == '^' || c == '$')
        return refuse(r, at, "an anchor is only supported around the whole");
    if (c == '*' || c == '+' || c == '?')
        return refuse(r, at, "there is nothing to repeat");
    if (c == '.') {
        chars_add(r->b, &set, '\n', '\n');
        chars_add(r->b, &set, '\r', '\r');
        chars_add(r->b, &set, 0x2028, 0x2029);
        set = chars_not(r->b, &set);
    } else {
        if (c == '\\')
            c = escaped(r, &kind);
        if (kind)
            add_class(r, kind, false, &set);
        else
            chars_add(r->b, &set, c, c);
    }
    return one_of(r, &set);
}

/* A number of at most REPEAT_MAX; -1: none is there. */
static int64_t count(struct regex *r)
{
    int64_t n = -1;
    for (; peek(r) >= '0' && peek(r) <= '9'; r->at++) {
        n = (n < 0 ? 0 : n) * 10 + peek(r) - '0';
        if (n > REPEAT_MAX) {
            refuse(r, r->at, "more than 10000 repetitions");
            return -1;
        }
    }
    return n;
}

/* {m}, {m,} or {m,n}; anything else is text. */
static bool braces(struct regex *r, int64_t *from, int64_t *to)
{
    size_t start = r->at;
    if (!take(r, '{'))
        return false;
    *from = *to = count(r);
    if (*from >= 0 && take(r, ',')) {
        *to = count(r);
        if (*to < 0)
            *to = REPEAT_MANY;
    }
    if (*from >= 0 && take(r, '}')) {
        if (*to != REPEAT_MANY && *to < *from)
            refuse(r, start, "a repetition is not in order");
        return true;
    }
    r->at = start;
    return false;
}

static struct fragment repeated(struct regex *r)
{
    struct fragment f = atom(r);
    while (more(r)) {
        size_t at = r->at;
        int64_t from = 0, to = REPEAT_MANY;
        if (take(r, '+'))
            from = 1;
        else if (take(r, '?'))
            to = 1;
        else if (!take(r, '*') && !braces(r, &from, &to))
            break;
        if (take(r, '+'))
            return refuse(r, at, "possessive repetition is not supported");
        take(r, '?');
        f = fragment_repeat(r->b, f, from, to);
    }
    return f;
}

static struct fragment sequence(struct regex *r)
{
    struct fragment f = fragment_empty(r->b);
    while (more(r) && peek(r) != '|' && peek(r) != ')')
        f = fragment_then(r->b, f, repeated(r));
    return f;
}

static struct fragment alternatives(struct regex *r)
{
    struct fragment f = sequence(r);
    while (take(r, '|'))
        f = fragment_or(r->b, f, sequence(r));
    return f;
}

static struct fragment anything(struct regex *r)
{
    struct chars none = {0}, all = chars_not(r->b, &none);
    return fragment_repeat(r->b, one_of(r, &all), 0, REPEAT_MANY);
}

/* An alternative of the whole, whose ends may be anchored. */
static struct fragment anchored(struct regex *r)
{
    bool start = take(r, '^'), end = false;
    struct fragment f = fragment_empty(r->b);
    while (more(r) && peek(r) != '|' && !end) {
        bool last = r->at + 1 == r->len || r->text[r->at + 1] == '|';
        end = peek(r) == '$' && last;
        if (end)
            r->at++;
        else if (peek(r) == ')')
            refuse(r, r->at, "a group is closed that is not open");
        else
            f = fragment_then(r->b, f, repeated(r));
    }
    if (r->use == REGEX_WHOLE || r->status)
        return f;
    if (!start)
        f = fragment_then(r->b, anything(r), f);
    return end ? f : fragment_then(r->b, f, anything(r));
}

enum status regex_read(struct builder *b, const char *text, size_t len, enum regex_use use,
                       struct fragment *out, struct error *err)
{
    struct regex r = {.b = b, .text = text, .len = len, .use = use, .err = err};
    *out = (struct fragment){-1, -1};
    if (!utf8_valid(text, len))
        return error_set(err, ST_INVALID_VALUE, "regex: it is no UTF-8");
    struct fragment f = anchored(&r);
    while (take(&r, '|'))
        f = fragment_or(b, f, anchored(&r));
    if (!r.status)
        r.status = builder_failed(b, err);
    *out = f;
    return r.status;
}
