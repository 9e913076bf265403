/* Owns the shape of JSON values (RFC 8259) that no schema narrows. */
#include "core/grammar/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define INDENT_MAX 20

void values_open(struct values *v, struct builder *b)
{
    *v = (struct values){b, SPELLED_JSON, REPEAT_MANY, -1, -1, -1, -1, -1, -1};
}

static struct fragment text(struct values *v, const char *s)
{
    return fragment_text(v->b, s, strlen(s));
}

static struct fragment chr(struct values *v, char c)
{
    return fragment_text(v->b, &c, 1);
}

/* A call of the rule; true: it is new and must be defined. */
static bool is_new(struct values *v, int32_t *rule, struct fragment *call)
{
    bool new = *rule < 0;
    if (new)
        *rule = builder_rule(v->b);
    *call = *rule < 0 ? fragment_never(v->b) : fragment_call(v->b, *rule);
    return new &&*rule >= 0;
}

struct fragment values_space(struct values *v)
{
    struct fragment call;
    if (is_new(v, &v->space, &call)) {
        struct fragment blank = fragment_or(v->b, chr(v, ' '), chr(v, '\t'));
        struct fragment line =
            fragment_then(v->b, chr(v, '\n'), fragment_repeat(v->b, blank, 0, INDENT_MAX));
        struct fragment some = fragment_or(v->b, chr(v, ' '), line);
        builder_define(v->b, v->space, fragment_repeat(v->b, some, 0, 1));
    }
    return call;
}

struct fragment values_comma(struct values *v)
{
    return fragment_then(v->b, chr(v, ','), values_space(v));
}

struct fragment values_member(struct values *v, struct fragment name, struct fragment value)
{
    struct fragment colon = fragment_then(v->b, chr(v, ':'), values_space(v));
    return fragment_then(v->b, name, fragment_then(v->b, colon, value));
}

struct fragment values_between(struct values *v, char open, struct fragment inner, char close)
{
    struct fragment f = fragment_then(v->b, chr(v, open), values_space(v));
    f = fragment_then(v->b, f, inner);
    return fragment_then(v->b, f, fragment_then(v->b, values_space(v), chr(v, close)));
}

/* Nothing, or items with commas between them. */
static struct fragment list(struct values *v, struct fragment item)
{
    struct fragment more = fragment_then(v->b, values_comma(v), fragment_copy(v->b, item));
    struct fragment some = fragment_then(v->b, item, fragment_repeat(v->b, more, 0, REPEAT_MANY));
    return fragment_repeat(v->b, some, 0, 1);
}

struct fragment values_object(struct values *v)
{
    struct fragment call;
    if (is_new(v, &v->object, &call)) {
        struct fragment member = values_member(v, values_string(v, 0, REPEAT_MANY), values_any(v));
        builder_define(v->b, v->object, values_between(v, '{', list(v, member), '}'));
    }
    return call;
}

struct fragment values_array(struct values *v)
{
    struct fragment call;
    if (is_new(v, &v->array, &call))
        builder_define(v->b, v->array, values_between(v, '[', list(v, values_any(v)), ']'));
    return call;
}

struct fragment values_any(struct values *v)
{
    struct fragment call;
    if (is_new(v, &v->value, &call)) {
        struct fragment f = fragment_or(v->b, values_null(v), values_boolean(v));
        f = fragment_or(v->b, f, values_number(v));
        f = fragment_or(v->b, f, values_string(v, 0, REPEAT_MANY));
        f = fragment_or(v->b, f, values_array(v));
        builder_define(v->b, v->value, fragment_or(v->b, f, values_object(v)));
    }
    return call;
}

struct fragment values_null(struct values *v)
{
    return text(v, v->spelling == SPELLED_PYTHON ? "None" : "null");
}

struct fragment values_boolean(struct values *v)
{
    bool python = v->spelling == SPELLED_PYTHON;
    return fragment_or(v->b, text(v, python ? "True" : "true"),
                       text(v, python ? "False" : "false"));
}

/* ---- numbers ---- */

static struct fragment digits(struct values *v, int64_t from)
{
    return fragment_repeat(v->b, fragment_range(v->b, '0', '9'), from, v->digits);
}

struct fragment values_integer(struct values *v)
{
    struct fragment whole = fragment_then(v->b, fragment_range(v->b, '1', '9'), digits(v, 0));
    whole = fragment_or(v->b, chr(v, '0'), whole);
    return fragment_then(v->b, fragment_repeat(v->b, chr(v, '-'), 0, 1), whole);
}

struct fragment values_number(struct values *v)
{
    struct fragment call;
    if (is_new(v, &v->number, &call)) {
        struct fragment fraction = fragment_then(v->b, chr(v, '.'), digits(v, 1));
        struct fragment sign = fragment_or(v->b, chr(v, '+'), chr(v, '-'));
        struct fragment e = fragment_or(v->b, chr(v, 'e'), chr(v, 'E'));
        e = fragment_then(v->b, e, fragment_repeat(v->b, sign, 0, 1));
        e = fragment_then(v->b, e, fragment_repeat(v->b, fragment_range(v->b, '0', '9'), 1, 2));
        struct fragment f =
            fragment_then(v->b, values_integer(v), fragment_repeat(v->b, fraction, 0, 1));
        builder_define(v->b, v->number, fragment_then(v->b, f, fragment_repeat(v->b, e, 0, 1)));
    }
    return call;
}

/* ---- strings ---- */

static struct fragment between(struct values *v, char quote, struct fragment content)
{
    return fragment_then(v->b, chr(v, quote), fragment_then(v->b, content, chr(v, quote)));
}

/* A character between such quotes, as it is or escaped; \u stands for one that is no half of a
 * pair. */
static struct fragment character(struct values *v, char quote)
{
    bool python = v->spelling == SPELLED_PYTHON;
    struct builder *b = v->b;
    struct chars plain = {0}, simple = {0}, hex = {0}, other = {0}, low = {0};
    chars_add(b, &plain, ' ', (uint32_t)quote - 1);
    chars_add(b, &plain, (uint32_t)quote + 1, '[');
    chars_add(b, &plain, ']', CHAR_LAST);
    for (const char *c = python ? "\"\\'bfnrt" : "\"\\/bfnrt"; *c; c++)
        chars_add(b, &simple, (uint32_t)*c, (uint32_t)*c);
    chars_add(b, &hex, '0', '9');
    chars_add(b, &hex, 'A', 'F');
    chars_add(b, &hex, 'a', 'f');
    chars_add_all(b, &other, &hex);
    for (const char *c = "Dd"; *c; c++) // what \uD may not go on with stays out
        for (size_t i = 0; i < other.n; i++)
            if (other.v[i].first <= (uint32_t)*c && (uint32_t)*c <= other.v[i].last) {
                struct char_range r = other.v[i];
                other.v[i].last = (uint32_t)*c - 1;
                chars_add(b, &other, (uint32_t)*c + 1, r.last);
                break;
            }
    chars_add(b, &low, '0', '7');
    struct fragment d = fragment_or(b, chr(v, 'd'), chr(v, 'D'));
    struct fragment u =
        fragment_or(b, fragment_then(b, chars_fragment(b, &other), chars_fragment(b, &hex)),
                    fragment_then(b, d, chars_fragment(b, &low)));
    for (int i = 0; i < 2; i++)
        u = fragment_then(b, u, chars_fragment(b, &hex));
    u = fragment_or(b, chars_fragment(b, &simple), fragment_then(b, chr(v, 'u'), u));
    if (python) {
        struct fragment x = fragment_repeat(b, chars_fragment(b, &hex), 2, 2);
        u = fragment_or(b, u, fragment_then(b, chr(v, 'x'), x));
    }
    return fragment_or(b, chars_fragment(b, &plain), fragment_then(b, chr(v, '\\'), u));
}

struct fragment values_quoted(struct values *v, struct fragment content)
{
    return between(v, '"', content);
}

static struct fragment characters(struct values *v, char quote, int64_t from, int64_t to)
{
    return between(v, quote, fragment_repeat(v->b, character(v, quote), from, to));
}

struct fragment values_string(struct values *v, int64_t from, int64_t to)
{
    struct fragment call;
    if (from > 0 || to != REPEAT_MANY)
        return characters(v, '"', from, to);
    if (is_new(v, &v->string, &call)) {
        struct fragment f = characters(v, '"', from, to);
        if (v->spelling == SPELLED_PYTHON)
            f = fragment_or(v->b, f, characters(v, '\'', from, to));
        builder_define(v->b, v->string, f);
    }
    return call;
}

/* ---- constants ---- */

/* The string s, JSON's, between Python's other quotes. */
static struct fragment requoted(struct values *v, const char *s)
{
    struct fragment f = chr(v, '\'');
    for (size_t i = 1, n = strlen(s) - 1; i < n; i++) {
        i += s[i] == '\\' && s[i + 1] == '"';
        f = fragment_then(v->b, f, s[i] == '\'' ? text(v, "\\'") : chr(v, s[i]));
        if (s[i] == '\\' && i + 1 < n) // it escapes what follows, a backslash perhaps
            f = fragment_then(v->b, f, chr(v, s[++i]));
    }
    return fragment_then(v->b, f, chr(v, '\''));
}

/* The barred character stands in strings alone, and can be escaped there. */
static struct fragment barred_escaped(struct values *v, const char *s)
{
    struct fragment f = fragment_empty(v->b);
    char code[8];
    snprintf(code, sizeof code, "\\u%04x", v->b->barred & 0xFFFF);
    for (; *s; s++)
        f = fragment_then(v->b, f, (unsigned char)*s == v->b->barred ? text(v, code) : chr(v, *s));
    return f;
}

static struct fragment spelled(struct values *v, const json_t *value)
{
    bool python = v->spelling == SPELLED_PYTHON;
    if (python && json_is_null(value))
        return values_null(v);
    if (python && json_is_boolean(value))
        return text(v, json_is_true(value) ? "True" : "False");
    char *s = json_text(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!s) {
        v->b->failed = v->b->failed ? v->b->failed : ST_OUT_OF_MEMORY;
        return fragment_never(v->b);
    }
    struct fragment f = v->b->barred ? barred_escaped(v, s) : text(v, s);
    if (python && json_is_string(value))
        f = fragment_or(v->b, f, requoted(v, s));
    free(s);
    return f;
}

struct fragment values_constant(struct values *v, const json_t *value)
{
    struct fragment f = fragment_empty(v->b), one;
    bool first = true;
    const char *key;
    json_t *item;
    size_t i, len;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item)
        {
            one = values_constant(v, item);
            f = fragment_then(v->b, f, i ? fragment_then(v->b, values_comma(v), one) : one);
        }
        return values_between(v, '[', f, ']');
    }
    if (!json_is_object(value))
        return spelled(v, value);
    json_object_keylen_foreach((json_t *)value, key, len, item)
    {
        json_t *name = json_stringn(key, len);
        one = values_member(v, spelled(v, name), values_constant(v, item));
        json_decref(name);
        f = fragment_then(v->b, f, first ? one : fragment_then(v->b, values_comma(v), one));
        first = false;
    }
    return values_between(v, '{', f, '}');
}
