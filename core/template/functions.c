/*
 * Owns the functions that transformers and jinja2 give to every template.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"

#define RANGE_MAX 100000 /* the sandbox's */

enum status functions_range(struct render *r, const struct call *c, struct value *out)
{
    int64_t v[3] = {0, 0, 1};
    enum status s = ST_OK;
    bool one = c->args[1].kind == VALUE_MISSING;
    for (int i = 0; !s && i < 3; i++)
        if (c->args[i].kind != VALUE_MISSING)
            s = operate_index(r, c->args[i], &v[one && !i ? 1 : i]);
    if (s)
        return s;
    if (!v[2])
        return render_fail(r, "range() arg 3 must not be zero");
    double distance = v[2] > 0 ? (double)v[1] - (double)v[0] : (double)v[0] - (double)v[1];
    double step = v[2] > 0 ? (double)v[2] : -(double)v[2];
    if (distance > step * RANGE_MAX)
        return render_fail(
            r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", RANGE_MAX);
    struct range *range = value_alloc(&r->heap, sizeof *range);
    if (!range)
        return render_memory(r);
    uint64_t apart = v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t by = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2];
    *range = (struct range){.start = v[0], .stop = v[1], .step = v[2]};
    if (v[2] > 0 ? v[1] > v[0] : v[1] < v[0])
        range->n = (int64_t)((apart - 1) / by + 1);
    *out = (struct value){.kind = VALUE_RANGE, .range = range};
    return ST_OK;
}

/* dict(mapping or pairs, **named) */
static enum status pairs(struct render *r, struct value from, struct dict *d)
{
    struct iterator *i;
    struct value pair;
    bool more;
    if (from.kind == VALUE_DICT) {
        for (size_t k = 0; k < from.dict->n; k++)
            if (!dict_set(&r->heap, d, from.dict->v[k].key, from.dict->v[k].v))
                return render_memory(r);
        return render_work(r, from.dict->n);
    }
    enum status s = iterate_open(r, from, &i);
    while (!s && !(s = iterate_next(r, i, &pair, &more)) && more) {
        const struct list *two;
        s = iterate_all(r, pair, &two);
        if (!s && two->n != 2)
            s = render_fail(r, "dictionary update sequence element has length %zu; 2 is required",
                            two->n);
        if (!s && !dict_hashable(two->v[0]))
            s = render_fail(r, "unhashable type: '%s'", value_type(two->v[0]));
        if (!s && !dict_set(&r->heap, d, two->v[0], two->v[1]))
            s = render_memory(r);
    }
    return s;
}

static enum status make(struct render *r, const struct call *c, struct dict **out)
{
    struct dict *d = dict_new(&r->heap, 0);
    enum status s = d ? ST_OK : render_memory(r);
    *out = d;
    if (c->n > 1)
        return render_fail(r, "dict expected at most 1 argument, got %zu", c->n);
    if (!s && c->n)
        s = pairs(r, c->args[0], d);
    for (size_t i = 0; !s && i < c->n_named; i++)
        if (!dict_set(&r->heap, d, value_of_text(c->named[i].name), c->named[i].v))
            s = render_memory(r);
    return s;
}

enum status functions_dict(struct render *r, const struct call *c, struct value *out)
{
    struct dict *d;
    enum status s = make(r, c, &d);
    *out = (struct value){.kind = VALUE_DICT, .dict = d};
    return s;
}

enum status functions_namespace(struct render *r, const struct call *c, struct value *out)
{
    struct dict *d;
    enum status s = make(r, c, &d);
    for (size_t i = 0; !s && i < d->n; i++)
        if (d->v[i].key.kind == VALUE_TEXT && d->v[i].key.text->len &&
            d->v[i].key.text->v[0] == '_')
            return render_fail(r, "Chat templates cannot store underscore-prefixed attributes on a "
                                  "namespace");
    *out = (struct value){.kind = VALUE_NAMESPACE, .dict = d};
    return s;
}

enum status functions_raise_exception(struct render *r, const struct call *c, struct value *out)
{
    const struct text *t;
    enum status s = show_text(r, c->args[0], &t);
    *out = value_none();
    if (s)
        return s;
    error_set(r->err, ST_TEMPLATE_RAISED, "%.*s", (int)(t->len < 700 ? t->len : 700), t->v);
    return ST_TEMPLATE_RAISED;
}

/* A directive as datetime.strftime gives it: %f, %z and %Z are Python's own. */
static enum status add_time(struct render *r, struct buffer *b, const struct tm *tm, const char *p,
                            size_t n)
{
    char directive[16], text[256];
    if (n == 2 && p[1] == 'f')
        return render_add(r, b, "000000", 6);
    if (n == 2 && (p[1] == 'z' || p[1] == 'Z'))
        return ST_OK;
    snprintf(directive, sizeof directive, "%.*s", (int)n, p);
    return render_add(r, b, text, strftime(text, sizeof text, directive, tm));
}

enum status functions_strftime_now(struct render *r, const struct call *c, struct value *out)
{
    if (c->args[0].kind != VALUE_TEXT)
        return render_fail(r, "strftime() argument 1 must be str, not %s", value_type(c->args[0]));
    const struct text *format = c->args[0].text;
    time_t now = (time_t)r->now;
    struct tm tm;
    struct buffer b = {0};
    enum status s = ST_OK;
    if (!localtime_r(&now, &tm))
        return render_fail(r, "the time is out of range");
    for (size_t at = 0; !s && at < format->len;) {
        const char *p = format->v + at;
        size_t n = 1, left = format->len - at;
        if (*p != '%' || left == 1) {
            const char *next = memchr(p + 1, '%', left - 1);
            n = next ? (size_t)(next - p) : left;
            s = render_add(r, &b, p, n);
        } else { // a flag, a width, a modifier, the letter
            while (n < left && n < 8 && strchr("-_0^#123456789EO", p[n]) && p[n])
                n++;
            n += n < left;
            s = add_time(r, &b, &tm, p, n);
        }
        at += n;
    }
    return render_take(r, s, &b, out);
}
