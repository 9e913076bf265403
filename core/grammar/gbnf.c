/*
 * Owns the reading of GBNF. Outside of groups a line's end ends a rule, unless an alternative has
 * just been opened; names may be used before their rule.
 */
#include "core/grammar/gbnf.h"

#include <string.h>

#include "core/grammar/chars.h"
#include "core/utf8.h"

#define DEPTH_MAX  100
#define REPEAT_MAX 10000

struct name {
    const char *text;
    size_t len;
    int32_t rule;
    bool defined;
};

struct gbnf {
    struct builder *b;
    const char *text;
    size_t at, len;
    int depth;
    struct name *names;
    size_t n_names, cap_names;
    enum status status;
    struct error *err;
};

static struct fragment refuse(struct gbnf *g, const char *what)
{
    int line = 1;
    for (size_t i = 0; i < g->at && i < g->len; i++)
        line += g->text[i] == '\n';
    if (!g->status && !g->b->failed)
        g->status = error_set(g->err, ST_INVALID_VALUE, "grammar, line %d: %s", line, what);
    return fragment_never(g->b);
}

static bool more(const struct gbnf *g)
{
    return g->at < g->len && !g->status && !g->b->failed;
}

static char peek(const struct gbnf *g)
{
    return g->at < g->len ? g->text[g->at] : 0;
}

static bool take(struct gbnf *g, char c)
{
    if (g->at == g->len || g->text[g->at] != c)
        return false;
    g->at++;
    return true;
}

/* Spaces and comments; lines: ends of lines, too. */
static void skip(struct gbnf *g, bool lines)
{
    while (g->at < g->len) {
        char c = g->text[g->at];
        if (c == '#')
            while (g->at < g->len && g->text[g->at] != '\n')
                g->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            g->at++;
        else
            break;
    }
}

/* ---- names ---- */

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* NULL: no memory. `root` is rule 0. */
static struct name *name_of(struct gbnf *g, const char *text, size_t len)
{
    for (size_t i = 0; i < g->n_names; i++)
        if (g->names[i].len == len && !memcmp(g->names[i].text, text, len)) {
            builder_spend(g->b, i / 4);
            return &g->names[i];
        }
    if (g->n_names == g->cap_names) {
        size_t cap = 2 * g->cap_names + 16;
        struct name *v = arena_alloc(&g->b->arena, cap * sizeof *v);
        if (!v) {
            g->b->failed = ST_OUT_OF_MEMORY;
            return NULL;
        }
        if (g->n_names)
            memcpy(v, g->names, g->n_names * sizeof *v);
        g->names = v;
        g->cap_names = cap;
    }
    int32_t rule = len == 4 && !memcmp(text, "root", 4) ? 0 : builder_rule(g->b);
    g->names[g->n_names] = (struct name){text, len, rule, false};
    return rule < 0 ? NULL : &g->names[g->n_names++];
}

static struct name *take_name(struct gbnf *g)
{
    size_t start = g->at;
    while (g->at < g->len && is_name(g->text[g->at]))
        g->at++;
    if (start == g->at) {
        refuse(g, "the name of a rule is expected");
        return NULL;
    }
    return name_of(g, g->text + start, g->at - start);
}

/* ---- characters ---- */

static uint32_t hex(struct gbnf *g, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++, g->at++) {
        char d = peek(g), low = (char)(d | 32);
        if (d >= '0' && d <= '9')
            c = c * 16 + (uint32_t)(d - '0');
        else if (low >= 'a' && low <= 'f')
            c = c * 16 + (uint32_t)(low - 'a' + 10);
        else {
            refuse(g, "a hexadecimal digit is expected");
            return 0;
        }
    }
    if (c > CHAR_LAST || (c >= 0xD800 && c <= 0xDFFF))
        refuse(g, "an escape is no character");
    return c;
}

static uint32_t take_char(struct gbnf *g)
{
    size_t n;
    uint32_t c = utf8_read(g->text + g->at, &n);
    g->at += n;
    if (c != '\\')
        return c;
    char e = peek(g);
    g->at += g->at < g->len;
    switch (e) {
    case 'x':
        return hex(g, 2);
    case 'u':
        return hex(g, 4);
    case 'U':
        return hex(g, 8);
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
        return (uint8_t)e;
    default:
        refuse(g, "this escape is not known");
        return 0;
    }
}

static struct fragment literal(struct gbnf *g)
{
    struct fragment f = fragment_empty(g->b);
    while (more(g) && peek(g) != '"') {
        char utf8[4];
        f = fragment_then(g->b, f, fragment_text(g->b, utf8, utf8_write(take_char(g), utf8)));
    }
    return take(g, '"') ? f : refuse(g, "a text is not closed");
}

static struct fragment class(struct gbnf *g)
{
    bool outside = take(g, '^');
    struct chars set = {0};
    while (more(g) && peek(g) != ']') {
        uint32_t low = take_char(g), high = low;
        if (g->at + 1 < g->len && peek(g) == '-' && g->text[g->at + 1] != ']') {
            g->at++;
            high = take_char(g);
        }
        if (low > high)
            return refuse(g, "a range of a class is not in order");
        chars_add(g->b, &set, low, high);
    }
    if (!take(g, ']'))
        return refuse(g, "a class is not closed");
    if (outside)
        set = chars_not(g->b, &set);
    return chars_fragment(g->b, &set);
}

/* ---- rules ---- */

static struct fragment alternatives(struct gbnf *g, bool nested);

static struct fragment element(struct gbnf *g)
{
    struct chars none = {0};
    if (take(g, '"'))
        return literal(g);
    if (take(g, '['))
        return class(g);
    if (take(g, '.')) {
        struct chars all = chars_not(g->b, &none);
        return chars_fragment(g->b, &all);
    }
    if (take(g, '(')) {
        if (++g->depth > DEPTH_MAX)
            return refuse(g, "groups are nested too deep");
        struct fragment f = alternatives(g, true);
        g->depth--;
        return take(g, ')') ? f : refuse(g, "a group is not closed");
    }
    struct name *name = take_name(g);
    return name ? fragment_call(g->b, name->rule) : fragment_never(g->b);
}

static int64_t count(struct gbnf *g)
{
    int64_t n = -1;
    skip(g, true);
    for (; peek(g) >= '0' && peek(g) <= '9'; g->at++) {
        n = (n < 0 ? 0 : n) * 10 + peek(g) - '0';
        if (n > REPEAT_MAX) {
            refuse(g, "more than 10000 repetitions");
            return -1;
        }
    }
    skip(g, true);
    return n;
}

/* Behind an element: * + ? {m} {m,} {m,n} {,n} */
static bool repetition(struct gbnf *g, int64_t *from, int64_t *to)
{
    *from = 0;
    *to = REPEAT_MANY;
    if (take(g, '*'))
        return true;
    if (take(g, '+')) {
        *from = 1;
        return true;
    }
    if (take(g, '?')) {
        *to = 1;
        return true;
    }
    if (!take(g, '{'))
        return false;
    int64_t low = count(g);
    *from = low < 0 ? 0 : low;
    *to = low;
    if (take(g, ',')) {
        *to = count(g);
        *to = *to < 0 ? REPEAT_MANY : *to;
    } else if (low < 0) {
        refuse(g, "a number is expected");
    }
    if (!take(g, '}') || (*to != REPEAT_MANY && *to < *from))
        refuse(g, "a repetition is not closed or not in order");
    return true;
}

static struct fragment sequence(struct gbnf *g, bool nested)
{
    struct fragment f = fragment_empty(g->b);
    int64_t from, to;
    while (more(g) && peek(g) != '|' && peek(g) != ')' && peek(g) != '\n' && peek(g) != '\r') {
        struct fragment one = element(g);
        skip(g, nested);
        while (more(g) && repetition(g, &from, &to)) {
            one = fragment_repeat(g->b, one, from, to);
            skip(g, nested);
        }
        f = fragment_then(g->b, f, one);
    }
    return f;
}

static struct fragment alternatives(struct gbnf *g, bool nested)
{
    skip(g, nested);
    struct fragment f = sequence(g, nested);
    while (more(g) && take(g, '|')) {
        skip(g, true);
        f = fragment_or(g->b, f, sequence(g, nested));
    }
    return f;
}

static void rule(struct gbnf *g)
{
    struct name *name = take_name(g);
    if (!name)
        return;
    if (name->defined) {
        refuse(g, "a rule is defined twice");
        return;
    }
    size_t index = (size_t)(name - g->names); // names may move
    name->defined = true;
    skip(g, false);
    if (g->len - g->at < 3 || memcmp(g->text + g->at, "::=", 3)) {
        refuse(g, "::= is expected behind the name of a rule");
        return;
    }
    g->at += 3;
    skip(g, true);
    struct fragment body = alternatives(g, false);
    if (more(g) && peek(g) != '\n' && peek(g) != '\r')
        refuse(g, "the end of the rule is expected");
    builder_define(g->b, g->names[index].rule, body);
}

enum status gbnf_read(struct builder *b, const char *text, size_t len, struct error *err)
{
    struct gbnf g = {.b = b, .text = text, .len = len, .err = err};
    if (!utf8_valid(text, len))
        return error_set(err, ST_INVALID_VALUE, "grammar: it is no UTF-8");
    name_of(&g, "root", 4);
    for (skip(&g, true); more(&g); skip(&g, true))
        rule(&g);
    for (size_t i = 0; i < g.n_names && !g.status && !b->failed; i++)
        if (!g.names[i].defined)
            g.status =
                error_set(err, ST_INVALID_VALUE, "grammar: there is no rule '%.*s'",
                          (int)(g.names[i].len < 100 ? g.names[i].len : 100), g.names[i].text);
    return g.status ? g.status : builder_failed(b, err);
}
