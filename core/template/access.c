/*
 * Owns the look-up of attributes and items. Which attributes a type has is natives.def's; those
 * that would change a value are unsafe here, and the name is undefined with that reason.
 */
#include "core/template/access.h"

#include <string.h>

#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/strings.h"

static enum status no_such(struct render *r, struct value of, struct value name, bool unsafe,
                           struct value *out)
{
    struct undefined *u = value_alloc(&r->heap, sizeof *u);
    if (!u)
        return render_memory(r);
    *u = (struct undefined){.of = of, .name = name, .unsafe = unsafe};
    *out = (struct value){.kind = VALUE_UNDEFINED, .undefined = u};
    return ST_OK;
}

/* A method bound to its value. */
static enum status bind(struct render *r, struct value of, const struct native *native,
                        struct value *out)
{
    struct method *m = value_alloc(&r->heap, sizeof *m);
    if (!m)
        return render_memory(r);
    *m = (struct method){.self = of, .native = native};
    *out = (struct value){.kind = VALUE_METHOD, .method = m};
    return ST_OK;
}

/* getattr(of, name); MISSING if there is none. */
static enum status attribute(struct render *r, struct value of, const struct text *name, bool known,
                             struct value *out)
{
    *out = (struct value){0};
    if (of.kind == VALUE_NAMESPACE) {
        const struct entry *e = dict_find_text(of.dict, name);
        if (e)
            *out = e->v;
        return ST_OK;
    }
    if (of.kind == VALUE_LOOP) {
        enum status s = iterate_loop_attribute(r, of.loop, name, out);
        if (s || out->kind != VALUE_MISSING)
            return s;
    }
    if (of.kind == VALUE_TUPLE && of.list->group &&
        (value_is(name, "grouper") || value_is(name, "list"))) {
        *out = of.list->v[value_is(name, "list")];
        return ST_OK;
    }
    if (!known)
        return ST_OK;
    enum natives_found found;
    const struct native *native = natives_method(of.kind, name, &found);
    switch (found) {
    case NATIVES_NONE:
        return ST_OK;
    case NATIVES_UNSAFE:
        return no_such(r, of, value_of_text(name), true, out);
    case NATIVES_LACKED:
        return render_unsupported(r, "the attribute '%.*s' of '%s' is not supported",
                                  (int)name->len, name->v, value_type(of));
    case NATIVES_FOUND:
        break;
    }
    return bind(r, of, native, out);
}

/* The index of a sequence of n items; false if it lies outside. */
static bool index_of(int64_t i, int64_t n, size_t *at)
{
    if (i < 0)
        i += n;
    *at = (size_t)i;
    return i >= 0 && i < n;
}

/* of[key]; MISSING where Python raises a TypeError or LookupError. */
static enum status item(struct render *r, struct value of, struct value key, struct value *out)
{
    const struct entry *e;
    size_t at;
    *out = (struct value){0};
    if (of.kind == VALUE_DICT) {
        e = dict_hashable(key) ? dict_find(of.dict, key) : NULL;
        if (e)
            *out = e->v;
        return ST_OK;
    }
    if ((key.kind != VALUE_INT && key.kind != VALUE_BOOL) ||
        (of.kind != VALUE_TEXT && of.kind != VALUE_LIST && of.kind != VALUE_TUPLE &&
         of.kind != VALUE_RANGE) ||
        !index_of(key.kind == VALUE_INT ? key.i : key.flag, operate_length(of), &at))
        return ST_OK;
    if (of.kind == VALUE_RANGE)
        *out = value_int(of.range->start + (int64_t)at * of.range->step);
    else if (of.kind == VALUE_TEXT)
        return strings_keep(
            r,
            render_part(r, of.text, value_offset(of.text, at), value_offset(of.text, at + 1), out),
            of.text, out);
    else
        *out = of.list->v[at];
    return ST_OK;
}

enum status access_attribute(struct render *r, struct value of, const struct text *name, bool known,
                             struct value *out)
{
    if (of.kind == VALUE_UNDEFINED)
        return operate_undefined(r, of.undefined);
    if (!known && of.kind == VALUE_DICT) { // the most frequent of all
        const struct entry *e = dict_find_text(of.dict, name);
        if (e) {
            *out = e->v;
            return ST_OK;
        }
        return no_such(r, of, value_of_text(name), false, out);
    }
    enum status s = attribute(r, of, name, known, out);
    if (!s && out->kind == VALUE_MISSING)
        s = item(r, of, value_of_text(name), out);
    if (!s && out->kind == VALUE_MISSING)
        s = no_such(r, of, value_of_text(name), false, out);
    return s;
}

enum status access_item(struct render *r, struct value of, struct value key, struct value *out)
{
    if (of.kind == VALUE_UNDEFINED)
        return operate_undefined(r, of.undefined);
    enum status s = item(r, of, key, out);
    if (!s && out->kind == VALUE_MISSING && key.kind == VALUE_TEXT)
        s = attribute(r, of, key.text, true, out);
    if (!s && out->kind == VALUE_MISSING)
        s = no_such(r, of, key, false, out);
    return s;
}

/* ---- slices -----------------------------------------------------------------------------------
 */

/* A bound as an index into n items, as slice.indices() does it. */
static enum status bound(struct render *r, struct value v, int64_t n, int64_t step, bool stop,
                         int64_t *out)
{
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1, i;
    *out = (step > 0) != stop ? low : high;
    if (v.kind == VALUE_MISSING || v.kind == VALUE_NONE)
        return ST_OK;
    if (v.kind != VALUE_INT && v.kind != VALUE_BOOL)
        return render_fail(r, "slice indices must be integers or None or have an __index__ method");
    i = v.kind == VALUE_INT ? v.i : v.flag;
    if (i < 0)
        i = i < -n ? -1 : i + n;
    *out = i < low ? low : i > high ? high : i;
    return ST_OK;
}

static enum status slice_text(struct render *r, const struct text *t, int64_t start, int64_t n,
                              int64_t step, struct value *out)
{
    if (step == 1)
        return render_part(r, t, value_offset(t, (size_t)start),
                           value_offset(t, (size_t)(start + n)), out);
    struct buffer b = {0};
    enum status s = render_work(r, (uint64_t)n);
    // one offset a character: for a text that is not ASCII each costs a walk
    if (!s && t->chars != t->len)
        s = render_work(r, (uint64_t)n * (t->chars / 64));
    for (int64_t i = 0; !s && i < n; i++) {
        size_t from = value_offset(t, (size_t)(start + i * step));
        size_t to = value_offset(t, (size_t)(start + i * step) + 1);
        s = render_add(r, &b, t->v + from, to - from);
    }
    return render_take(r, s, &b, out);
}

/* A slice of a range is a range, whose stop is the slice's. */
static enum status slice_range(struct render *r, const struct range *of, int64_t start,
                               int64_t stop, int64_t n, int64_t step, struct value *out)
{
    struct range *range = value_alloc(&r->heap, sizeof *range);
    if (!range)
        return render_memory(r);
    *range = (struct range){.n = n};
    if (__builtin_mul_overflow(of->step, step, &range->step) ||
        __builtin_mul_overflow(stop, of->step, &range->stop) ||
        __builtin_add_overflow(range->stop, of->start, &range->stop))
        return render_unsupported(r, "an integer beyond 64 bits");
    range->start = of->start + start * of->step;
    *out = (struct value){.kind = VALUE_RANGE, .range = range};
    return ST_OK;
}

enum status access_slice(struct render *r, struct value of, const struct value bounds[3],
                         struct value *out)
{
    int64_t n = operate_length(of), step = 1, start, stop;
    if (of.kind == VALUE_UNDEFINED)
        return operate_undefined(r, of.undefined);
    if (of.kind == VALUE_DICT)
        return render_fail(r, "unhashable type: 'slice'");
    if (of.kind != VALUE_TEXT && of.kind != VALUE_LIST && of.kind != VALUE_TUPLE &&
        of.kind != VALUE_RANGE)
        return render_fail(r, "'%s' object is not subscriptable", value_type(of));
    if (bounds[2].kind == VALUE_INT || bounds[2].kind == VALUE_BOOL)
        step = bounds[2].kind == VALUE_INT ? bounds[2].i : bounds[2].flag;
    else if (bounds[2].kind != VALUE_MISSING && bounds[2].kind != VALUE_NONE)
        return render_fail(r, "slice indices must be integers or None or have an __index__ method");
    if (!step)
        return render_fail(r, "slice step cannot be zero");
    if (step < -INT64_MAX)
        step = -INT64_MAX;
    enum status s = bound(r, bounds[0], n, step, false, &start);
    if (!s)
        s = bound(r, bounds[1], n, step, true, &stop);
    if (s)
        return s;
    n = step > 0 ? stop - start : start - stop;
    n = n > 0 ? (n - 1) / (step > 0 ? step : -step) + 1 : 0;
    if (of.kind == VALUE_RANGE)
        return slice_range(r, of.range, start, stop, n, step, out);
    if (n == 0)
        start = 0;
    if (of.kind == VALUE_TEXT)
        return strings_keep(r, slice_text(r, of.text, start, n, step, out), of.text, out);
    struct value *items;
    s = render_list(r, of.kind, (size_t)n, out, &items);
    for (int64_t i = 0; !s && i < n; i++)
        items[i] = of.list->v[start + i * step];
    return s;
}

/* ---- paths ------------------------------------------------------------------------------------
 */

enum status access_path(struct render *r, struct value of, struct value path, struct value *out)
{
    *out = of;
    if (path.kind == VALUE_MISSING || path.kind == VALUE_NONE)
        return ST_OK;
    if (path.kind != VALUE_TEXT)
        return access_item(r, of, path, out);
    enum status s = ST_OK;
    const char *p = path.text->v, *end = p + path.text->len;
    for (bool more = true; !s && more;) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        size_t n = (size_t)((dot ? dot : end) - p), digits = 0;
        int64_t i = 0;
        while (digits < n && digits < 18 && p[digits] >= '0' && p[digits] <= '9')
            i = 10 * i + (p[digits++] - '0');
        struct value key = value_int(i);
        if (!n || digits < n)
            s = render_part(r, path.text, (size_t)(p - path.text->v),
                            (size_t)(p - path.text->v) + n, &key);
        if (!s)
            s = access_item(r, *out, key, out);
        more = dot;
        p = dot ? dot + 1 : end;
    }
    return s;
}
