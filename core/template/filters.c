/*
 * Owns the filters of single values: texts, numbers, JSON.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/access.h"
#include "core/template/characters.h"
#include "core/template/dict.h"
#include "core/template/format.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/template/strings.h"
#include "core/utf8.h"

#define FILTER(name)                                                                               \
    enum status filters_##name(struct render *r, const struct call *c, struct value *out)

static bool given(struct value v)
{
    return v.kind != VALUE_MISSING;
}

/* ---- texts ------------------------------------------------------------------------------------
 */

/* Something done to str(self). */
static enum status cases(struct render *r, const struct call *c, enum strings_case how,
                         struct value *out)
{
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    return s ? s : strings_keep(r, strings_case(r, t, how, out), t, out);
}

FILTER(upper)
{
    return cases(r, c, STRINGS_UPPER, out);
}

FILTER(lower)
{
    return cases(r, c, STRINGS_LOWER, out);
}

FILTER(capitalize)
{
    return cases(r, c, STRINGS_CAPITALIZE, out);
}

FILTER(string)
{
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    *out = value_of_text(t);
    return s;
}

/* Upper case at the start and behind white space and - ( { [ <, lower elsewhere. */
FILTER(title)
{
    const struct text *t;
    struct buffer b = {0};
    bool start = true;
    enum status s = show_text(r, c->self, &t);
    for (size_t at = 0, n; !s && at < t->len; at += n) {
        uint32_t x = utf8_read(t->v + at, &n);
        bool between = characters_space(x) || (x < 0x80 && x && strchr("-({[<", (int)x));
        struct value one;
        s = render_part(r, t, at, at + n, &one);
        if (!s)
            s = strings_case(r, one.text, start && !between ? STRINGS_UPPER : STRINGS_LOWER, &one);
        if (!s)
            s = render_add(r, &b, one.text->v, one.text->len);
        start = between;
    }
    return render_take(r, s, &b, out);
}

FILTER(trim)
{
    const struct text *t, *chars = NULL;
    enum status s = show_text(r, c->self, &t);
    if (!s && given(c->args[0]) && c->args[0].kind != VALUE_NONE) {
        if (c->args[0].kind != VALUE_TEXT)
            return render_fail(r, "strip arg must be None or str");
        chars = c->args[0].text;
    }
    return s ? s : strings_keep(r, strings_strip(r, t, chars, true, true, out), t, out);
}

FILTER(replace)
{
    const struct text *t, *old = NULL, *new = NULL;
    int64_t max = -1;
    enum status s = show_text(r, c->self, &t);
    if (!s)
        s = show_text(r, c->args[0], &old);
    if (!s)
        s = show_text(r, c->args[1], &new);
    if (!s && c->args[2].kind != VALUE_NONE)
        s = natives_number(r, c->args[2], -1, &max);
    return s ? s : strings_replace(r, t, old, new, max, out);
}

FILTER(center)
{
    const struct text *t;
    int64_t width;
    enum status s = show_text(r, c->self, &t);
    if (!s)
        s = natives_number(r, c->args[0], 80, &width);
    return s ? s : strings_keep(r, strings_pad(r, t, width, " ", 1, 0, out), t, out);
}

FILTER(escape)
{
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    return s ? s : strings_escaped(r, t, out);
}

FILTER(forceescape)
{
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    return s ? s : strings_escape(r, t, out);
}

FILTER(safe)
{
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    return s ? s : strings_mark(r, t, out);
}

FILTER(indent)
{
    struct value pad = c->args[0], lines;
    struct buffer b = {0};
    bool first = operate_truth(c->args[1]), blank = operate_truth(c->args[2]);
    int64_t width = 4;
    enum status s = ST_OK;
    if (c->self.kind == VALUE_UNDEFINED)
        return operate_undefined(r, c->self.undefined);
    if (c->self.kind != VALUE_TEXT)
        return render_fail(r, "unsupported operand type(s) for +=: '%s' and 'str'",
                           value_type(c->self));
    if (pad.kind != VALUE_TEXT) {
        s = natives_number(r, pad, 4, &width);
        if (!s)
            s = render_text(r, "", 0, &pad);
        if (!s)
            s = strings_pad(r, pad.text, width, " ", 1, 1, &pad);
    }
    if (!s)
        s = strings_lines(r, c->self.text, false, &lines);
    const struct list *l = s ? NULL : lines.list;
    size_t n = s ? 0 : l->n;
    // jinja2 puts a newline behind the text first, so that splitlines() keeps a last empty line
    if (!s && (!n || c->self.text->v[c->self.text->len - 1] == '\n'))
        n++;
    for (size_t i = 0; !s && i < n; i++) {
        const struct text *line = i < l->n ? l->v[i].text : NULL;
        bool wanted = i ? blank || (line && line->len) : first;
        s = i ? render_add(r, &b, "\n", 1) : ST_OK;
        if (!s && wanted)
            s = render_add(r, &b, pad.text->v, pad.text->len);
        if (!s && line)
            s = render_add(r, &b, line->v, line->len);
    }
    return strings_keep(r, render_take(r, s, &b, out), c->self.text, out);
}

FILTER(truncate)
{
    int64_t length, leeway, end_chars = 3;
    const struct text *end = NULL, *t = c->self.text;
    struct value cut;
    enum status s = natives_number(r, c->args[0], 255, &length);
    if (!s && c->args[3].kind != VALUE_NONE)
        s = natives_number(r, c->args[3], 5, &leeway);
    else
        leeway = 5;
    if (s)
        return s;
    if (given(c->args[2]) && c->args[2].kind != VALUE_TEXT)
        return render_fail(r, "truncate: end must be a string");
    if (given(c->args[2])) {
        end = c->args[2].text;
        end_chars = (int64_t)end->chars;
    }
    if (length < end_chars || leeway < 0)
        return render_fail(r, "truncate: expected length >= %lld and leeway >= 0",
                           (long long)end_chars);
    int64_t n = operate_length(c->self);
    *out = c->self; // of whatever type, if it is short
    if (n >= 0 && (length > INT64_MAX - leeway || n <= length + leeway))
        return ST_OK;
    if (c->self.kind != VALUE_TEXT)
        return render_fail(r, "truncate: a string is expected, not %s", value_type(c->self));
    size_t to = value_offset(t, (size_t)(length - end_chars));
    s = render_part(r, t, 0, to, &cut);
    static const struct text space = {.v = " ", .len = 1, .chars = 1};
    const char *at =
        s || operate_truth(c->args[1]) ? NULL : strings_last(cut.text->v, cut.text->len, &space);
    if (at)
        s = render_part(r, t, 0, (size_t)(at - t->v), &cut);
    struct buffer b = {0};
    if (!s)
        s = render_add(r, &b, cut.text->v, cut.text->len);
    if (!s && end && t->markup) {
        s = strings_escaped(r, end, &cut);
        end = cut.text;
    }
    if (!s)
        s = end ? render_add(r, &b, end->v, end->len) : render_add(r, &b, "...", 3);
    return strings_keep(r, render_take(r, s, &b, out), t, out);
}

FILTER(wordcount)
{
    const struct text *t;
    int64_t words = 0;
    bool inside = false;
    enum status s = show_text(r, c->self, &t);
    for (size_t at = 0, n; !s && at < t->len; at += n) {
        bool word = characters_word(utf8_read(t->v + at, &n));
        words += word && !inside;
        inside = word;
    }
    *out = value_int(words);
    return s ? s : render_work(r, t->len / 16);
}

static enum status quote(struct render *r, const struct text *t, bool query, struct buffer *b)
{
    enum status s = render_work(r, t->len / 16);
    for (size_t i = 0; !s && i < t->len; i++) {
        unsigned char x = (unsigned char)t->v[i];
        bool plain = (x >= '0' && x <= '9') || ((x | 32) >= 'a' && (x | 32) <= 'z' && x < 0x80) ||
                     (x && strchr("_.-~", x)) || (x == '/' && !query);
        char escape[4];
        snprintf(escape, sizeof escape, "%%%02X", x);
        s = plain               ? render_add(r, b, &t->v[i], 1)
            : x == ' ' && query ? render_add(r, b, "+", 1)
                                : render_add(r, b, escape, 3);
    }
    return s;
}

FILTER(urlencode)
{
    struct buffer b = {0};
    struct value pairs = c->self;
    const struct text *t;
    const struct list *l;
    enum status s;
    if (pairs.kind == VALUE_TEXT || !iterate_can(pairs)) {
        s = show_text(r, pairs, &t);
        if (!s)
            s = quote(r, t, false, &b);
        return render_take(r, s, &b, out);
    }
    if (pairs.kind == VALUE_DICT)
        pairs.kind = VALUE_ITEMS;
    s = iterate_all(r, pairs, &l);
    for (size_t i = 0; !s && i < l->n; i++) {
        const struct list *pair;
        s = iterate_all(r, l->v[i], &pair);
        if (!s && pair->n != 2)
            s = render_fail(r, "not enough values to unpack (expected 2, got %zu)", pair->n);
        for (size_t k = 0; !s && k < 2; k++) {
            s = k ? render_add(r, &b, "=", 1) : i ? render_add(r, &b, "&", 1) : ST_OK;
            if (!s)
                s = show_text(r, pair->v[k], &t);
            if (!s)
                s = quote(r, t, true, &b);
        }
    }
    return render_take(r, s, &b, out);
}

FILTER(format)
{
    const struct text *t;
    struct value with, *items;
    enum status s = show_text(r, c->self, &t);
    if (!s && c->n && c->n_named)
        return render_fail(r, "can't handle positional and keyword arguments at the same time");
    if (!s && c->n_named) {
        struct dict *d = dict_new(&r->heap, c->n_named);
        for (size_t i = 0; d && i < c->n_named; i++)
            if (!dict_append(&r->heap, d, value_of_text(c->named[i].name), c->named[i].v))
                d = NULL;
        if (!d)
            return render_memory(r);
        with = (struct value){.kind = VALUE_DICT, .dict = d};
        return format_percent(r, t, with, out);
    }
    if (!s)
        s = render_list(r, VALUE_TUPLE, c->n, &with, &items);
    if (s)
        return s;
    if (c->n)
        memcpy(items, c->args, c->n * sizeof *items);
    return format_percent(r, t, with, out);
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

FILTER(abs)
{
    bool minus = (c->self.kind == VALUE_INT && c->self.i < 0) ||
                 (c->self.kind == VALUE_FLOAT && signbit(c->self.f));
    if (c->self.kind == VALUE_UNDEFINED)
        return operate_undefined(r, c->self.undefined);
    if (c->self.kind != VALUE_INT && c->self.kind != VALUE_FLOAT && c->self.kind != VALUE_BOOL)
        return render_fail(r, "bad operand type for abs(): '%s'", value_type(c->self));
    return operate_negate(r, c->self, minus, out);
}

/* The number that a text spells, without the blanks around it, underscores between digits allowed.
 * False: none. */
static bool clean(const struct text *t, char *to, size_t size)
{
    size_t from = characters_space_before(t->v, t->len), n = 0;
    size_t end = t->len - characters_space_behind(t->v + from, t->len - from);
    for (size_t i = from; i < end; i++) {
        char x = t->v[i];
        bool digits = i > from && i + 1 < end && strchr("0123456789abcdefABCDEF", t->v[i - 1]) &&
                      strchr("0123456789abcdefABCDEF", t->v[i + 1]);
        if (x == '_' && digits)
            continue;
        if (n + 1 >= size || x == '_' || !x)
            return false;
        to[n++] = x;
    }
    to[n] = 0;
    return n;
}

static bool text_to_float(const struct text *t, double *out)
{
    char digits[512], *end;
    if (!clean(t, digits, sizeof digits) || strpbrk(digits, "xXpP(") || strchr(digits, ' '))
        return false;
    *out = strtod(digits, &end);
    return !*end;
}

/* int(text, base); false: it spells none. *over: it does not fit. */
static bool text_to_int(const struct text *t, int64_t base, int64_t *out, bool *over)
{
    char digits[512];
    if (!clean(t, digits, sizeof digits))
        return false;
    const char *p = digits;
    bool minus = *p == '-';
    p += *p == '-' || *p == '+';
    char mark = p[0] == '0' ? (char)(p[1] | 32) : 0;
    int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked && (base == marked || base == 0)) {
        p += 2;
        base = marked;
    }
    base = base ? base : 10;
    uint64_t n = 0;
    if (!*p)
        return false;
    for (; *p; p++) {
        int d = *p >= '0' && *p <= '9'                 ? *p - '0'
                : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (*p | 32) - 'a' + 10
                                                       : 99;
        if (d >= base)
            return false;
        *over |= n > ((uint64_t)INT64_MAX - (uint64_t)d) / (uint64_t)base;
        n = n * (uint64_t)base + (uint64_t)d;
    }
    *out = minus ? -(int64_t)n : (int64_t)n;
    return true;
}

static enum status float_to_int(struct render *r, double f, struct value otherwise,
                                struct value *out)
{
    *out = otherwise;
    if (isnan(f) || isinf(f))
        return ST_OK;
    if (fabs(f) >= 0x1p63)
        return render_unsupported(r, "an integer beyond 64 bits");
    *out = value_int((int64_t)f);
    return ST_OK;
}

FILTER(int)
{
    struct value otherwise = given(c->args[0]) ? c->args[0] : value_int(0);
    int64_t base, i;
    bool over = false;
    double f;
    enum status s = natives_number(r, c->args[1], 10, &base);
    if (s)
        return s;
    switch (c->self.kind) {
    case VALUE_UNDEFINED:
        return operate_undefined(r, c->self.undefined);
    case VALUE_INT:
    case VALUE_BOOL:
        return operate_negate(r, c->self, false, out);
    case VALUE_FLOAT:
        return float_to_int(r, c->self.f, otherwise, out);
    case VALUE_TEXT:
        if (base >= 0 && base <= 36 && base != 1 && text_to_int(c->self.text, base, &i, &over)) {
            *out = value_int(i);
            return over ? render_unsupported(r, "an integer beyond 64 bits") : ST_OK;
        }
        if (text_to_float(c->self.text, &f))
            return float_to_int(r, f, otherwise, out);
        break;
    default:
        break;
    }
    *out = otherwise;
    return ST_OK;
}

FILTER(float)
{
    double f;
    *out = given(c->args[0]) ? c->args[0] : value_float(0);
    if (c->self.kind == VALUE_UNDEFINED)
        return operate_undefined(r, c->self.undefined);
    if (c->self.kind == VALUE_INT || c->self.kind == VALUE_BOOL)
        *out = value_float(c->self.kind == VALUE_INT ? (double)c->self.i : c->self.flag);
    else if (c->self.kind == VALUE_FLOAT)
        *out = c->self;
    else if (c->self.kind == VALUE_TEXT && text_to_float(c->self.text, &f))
        *out = value_float(f);
    return ST_OK;
}

/* round(f, digits): the decimal nearest to f, half to even, read back. */
static double round_float(double f, int64_t digits)
{
    if (!isfinite(f) || digits > 323)
        return f;
    if (digits < -308)
        return copysign(0, f);
    if (digits <= 0) {
        double p = pow(10, (double)-digits);
        return rint(f / p) * p;
    }
    char text[768];
    snprintf(text, sizeof text, "%.*f", (int)digits, f);
    return strtod(text, NULL);
}

FILTER(round)
{
    int64_t precision = 0;
    struct value method = c->args[1];
    enum status s = ST_OK;
    if (c->args[0].kind != VALUE_NONE)
        s = natives_number(r, c->args[0], 0, &precision);
    if (s)
        return s;
    bool common = !given(method) || (method.kind == VALUE_TEXT && value_is(method.text, "common"));
    bool ceiling = method.kind == VALUE_TEXT && value_is(method.text, "ceil");
    if (!common && !ceiling && !(method.kind == VALUE_TEXT && value_is(method.text, "floor")))
        return render_fail(r, "method must be common, ceil or floor");
    if (c->self.kind == VALUE_UNDEFINED)
        return operate_undefined(r, c->self.undefined);
    bool whole = c->self.kind == VALUE_INT || c->self.kind == VALUE_BOOL;
    int64_t i = c->self.kind == VALUE_BOOL ? c->self.flag : c->self.i;
    if (!whole && c->self.kind != VALUE_FLOAT)
        return render_fail(r, "type %s doesn't define __round__ method", value_type(c->self));
    if (common && whole && precision < 0)
        return render_unsupported(r, "rounding an integer to tens");
    if (common) {
        *out = whole ? value_int(i) : value_float(round_float(c->self.f, precision));
        return ST_OK;
    }
    // Python: func(value * 10**precision) / 10**precision
    double p = pow(10, (double)precision), f = whole ? (double)i * p : c->self.f * p;
    *out = value_float((ceiling ? ceil(f) : floor(f)) / p);
    return ST_OK;
}

/* ---- any value --------------------------------------------------------------------------------
 */

FILTER(default)
{
    bool missing =
        c->self.kind == VALUE_UNDEFINED || (operate_truth(c->args[1]) && !operate_truth(c->self));
    *out = c->self;
    if (!missing)
        return ST_OK;
    *out = c->args[0];
    return given(*out) ? ST_OK : render_text(r, "", 0, out);
}

FILTER(length)
{
    int64_t n = operate_length(c->self);
    if (c->self.kind == VALUE_LOOP) {
        static const struct text name = {.v = "length", .len = 6, .chars = 6};
        return iterate_loop_attribute(r, c->self.loop, &name, out);
    }
    *out = value_int(n);
    return n < 0 ? render_fail(r, "object of type '%s' has no len()", value_type(c->self)) : ST_OK;
}

FILTER(attr)
{
    if (c->args[0].kind != VALUE_TEXT)
        return render_fail(r, "attribute name must be string, not '%s'", value_type(c->args[0]));
    if (c->self.kind == VALUE_UNDEFINED)
        return operate_undefined(r, c->self.undefined);
    const struct text *name = c->args[0].text;
    bool known = natives_is_attribute(name);
    enum natives_found found;
    natives_method(c->self.kind, name, &found);
    if (c->self.kind == VALUE_DICT && found == NATIVES_NONE)
        return render_undefined(r, "a dict has no such attribute", out); // never its key
    return access_attribute(r, c->self, name, known, out);
}

FILTER(tojson)
{
    static const struct text comma = {.v = ", ", .len = 2, .chars = 2},
                             tight = {.v = ",", .len = 1, .chars = 1},
                             colon = {.v = ": ", .len = 2, .chars = 2};
    struct json_style style = {.ascii = operate_truth(c->args[0]),
                               .sort = operate_truth(c->args[3]),
                               .item = &comma,
                               .key = &colon};
    struct value indent = c->args[1], separators = c->args[2];
    struct buffer b = {0};
    enum status s = ST_OK;
    if (indent.kind == VALUE_TEXT) {
        style.indent = indent.text;
    } else if (given(indent) && indent.kind != VALUE_NONE) {
        int64_t n;
        s = operate_index(r, indent, &n);
        if (!s)
            s = render_text(r, "", 0, &indent);
        if (!s)
            s = strings_pad(r, indent.text, n, " ", 1, 1, &indent);
        style.indent = s ? NULL : indent.text;
    }
    if (!s && style.indent)
        style.item = &tight;
    if (!s && given(separators) && separators.kind != VALUE_NONE) {
        const struct list *two;
        s = iterate_all(r, separators, &two);
        if (!s && (two->n != 2 || two->v[0].kind != VALUE_TEXT || two->v[1].kind != VALUE_TEXT))
            s = render_fail(r, "separators must be two strings");
        if (!s) {
            style.item = two->v[0].text;
            style.key = two->v[1].text;
        }
    }
    if (!s)
        s = show_json(r, &style, c->self, &b);
    return render_take(r, s, &b, out);
}
