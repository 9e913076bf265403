/*
 * Owns the filters that take a sequence as a whole: what it joins to, its order, its extremes.
 */
#include <string.h>

#include "core/template/access.h"
#include "core/template/dict.h"
#include "core/template/filters.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/template/strings.h"

#define FILTER(name)                                                                               \
    enum status filters_##name(struct render *r, const struct call *c, struct value *out)

/* ---- the whole of a sequence ------------------------------------------------------------------
 */

FILTER(list)
{
    const struct list *l;
    enum status s = iterate_all(r, c->self, &l);
    *out = (struct value){.kind = VALUE_LIST, .list = l};
    return s;
}

FILTER(first)
{
    struct iterator *i;
    bool more = false;
    enum status s = iterate_open(r, c->self, &i);
    if (!s)
        s = iterate_next(r, i, out, &more);
    if (s || more)
        return s;
    return render_undefined(r, "No first item, sequence was empty.", out);
}

/* Can Python go through it from its end? */
static bool reversible(struct value v)
{
    return iterate_can(v) && v.kind != VALUE_ITERATOR && v.kind != VALUE_LOOP;
}

FILTER(last)
{
    const struct list *l;
    if (!reversible(c->self))
        return render_fail(r, "'%s' object is not reversible", value_type(c->self));
    enum status s = iterate_all(r, c->self, &l);
    if (s)
        return s;
    if (!l->n)
        return render_undefined(r, "No last item, sequence was empty.", out);
    *out = l->v[l->n - 1];
    return ST_OK;
}

static enum status next_reversed(struct render *r, struct iterator *i, struct value *out,
                                 bool *more)
{
    (void)r;
    *more = i->at > 0;
    if (*more)
        *out = i->of.list->v[--i->at];
    return ST_OK;
}

FILTER(reverse)
{
    const struct list *l;
    struct value backwards[3] = {{0}, {0}, value_int(-1)};
    if (c->self.kind == VALUE_TEXT)
        return access_slice(r, c->self, backwards, out);
    if (!iterate_can(c->self))
        return render_fail(r, "argument must be iterable");
    enum status s = iterate_all(r, c->self, &l);
    if (s)
        return s;
    struct value of = {.kind = VALUE_LIST, .list = l};
    if (!reversible(c->self)) // a generator becomes a list
        return access_slice(r, of, backwards, out);
    s = iterate_generator(r, next_reversed, of, NULL, out);
    if (!s)
        out->iterator->at = l->n;
    return s;
}

FILTER(join)
{
    const struct text *between = NULL;
    struct value items = c->self;
    enum status s = ST_OK;
    if (c->args[0].kind != VALUE_MISSING)
        s = show_text(r, c->args[0], &between);
    else
        between = value_borrow(&r->heap, "", 0);
    if (!s && !between)
        return render_memory(r);
    if (!s && filters_given(c->args[1])) {
        const struct list *l;
        struct value *picked;
        s = iterate_all(r, items, &l);
        if (!s)
            s = render_list(r, VALUE_LIST, l->n, &items, &picked);
        for (size_t i = 0; !s && i < l->n; i++)
            s = access_path(r, l->v[i], c->args[1], &picked[i]);
    }
    return s ? s : strings_join(r, between, items, false, out);
}

FILTER(sum)
{
    struct iterator *i;
    struct value v, total = c->args[1].kind == VALUE_MISSING ? value_int(0) : c->args[1];
    bool more;
    if (total.kind == VALUE_TEXT)
        return render_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    enum status s = iterate_open(r, c->self, &i);
    while (!s && !(s = iterate_next(r, i, &v, &more)) && more) {
        if (filters_given(c->args[0]))
            s = access_path(r, v, c->args[0], &v);
        if (!s)
            s = operate_binary(r, OPERATOR_ADD, total, v, &total);
    }
    *out = total;
    return s;
}

/* ---- order ------------------------------------------------------------------------------------
 */

struct keyed {
    struct value key, v;
};

enum status filters_key(struct render *r, struct value v, struct value attribute,
                        struct value otherwise, bool case_sensitive, struct value *out)
{
    enum status s = access_path(r, v, attribute, out);
    if (!s && out->kind == VALUE_UNDEFINED && filters_given(otherwise))
        *out = otherwise;
    if (!s && out->kind == VALUE_TEXT && !case_sensitive)
        s = strings_case(r, out->text, STRINGS_LOWER, out);
    return s;
}

/* The same for sort, whose attribute may be several with commas between: a list, so that two that
 * have no order but are equal (undefined ones) can be sorted. */
static enum status keys_of(struct render *r, struct value v, struct value attribute,
                           bool case_sensitive, struct value *out)
{
    static const struct text comma = {.v = ",", .len = 1, .chars = 1};
    struct value names, *items, none = {0};
    enum status s = ST_OK;
    if (attribute.kind == VALUE_TEXT)
        s = strings_split(r, attribute.text, &comma, -1, false, &names);
    else
        s = render_list(r, VALUE_LIST, 1, &names, &items);
    if (!s && attribute.kind != VALUE_TEXT)
        items[0] = attribute;
    if (!s)
        s = render_list(r, VALUE_LIST, names.list->n, out, &items);
    for (size_t i = 0; !s && i < names.list->n; i++)
        s = filters_key(r, v, names.list->v[i], none, case_sensitive, &items[i]);
    return s;
}

/* Merges the sorted halves of v[0..n) through other; equal ones keep their order. */
static enum status merge(struct render *r, struct keyed *v, size_t half, size_t n,
                         struct keyed *other, bool reverse)
{
    size_t a = 0, b = half, k = 0;
    enum status s = ST_OK;
    while (!s && a < half && b < n) {
        bool second;
        s = reverse ? operate_less(r, v[a].key, v[b].key, &second)
                    : operate_less(r, v[b].key, v[a].key, &second);
        other[k++] = second ? v[b++] : v[a++];
    }
    while (a < half)
        other[k++] = v[a++];
    while (b < n)
        other[k++] = v[b++];
    memcpy(v, other, n * sizeof *v);
    return s;
}

static enum status sort(struct render *r, struct keyed *v, size_t n, struct keyed *other,
                        bool reverse)
{
    if (n < 2)
        return ST_OK;
    size_t half = n / 2;
    enum status s = sort(r, v, half, other, reverse);
    if (!s)
        s = sort(r, v + half, n - half, other, reverse);
    return s ? s : merge(r, v, half, n, other, reverse);
}

static enum status keyed(struct render *r, size_t n, struct keyed **v, struct keyed **other)
{
    *v = value_array(&r->heap, n + 1, sizeof **v);
    *other = *v ? value_array(&r->heap, n + 1, sizeof **v) : NULL;
    return *other ? ST_OK : render_memory(r);
}

static enum status values_of(struct render *r, const struct keyed *v, size_t n, struct value *out)
{
    struct value *items;
    enum status s = render_list(r, VALUE_LIST, n, out, &items);
    for (size_t i = 0; !s && i < n; i++)
        items[i] = v[i].v;
    return s;
}

FILTER(sort)
{
    const struct list *l;
    struct keyed *v = NULL, *other = NULL;
    enum status s = iterate_all(r, c->self, &l);
    if (!s)
        s = keyed(r, l->n, &v, &other);
    for (size_t i = 0; !s && i < l->n; i++) {
        v[i].v = l->v[i];
        s = keys_of(r, l->v[i], c->args[2], operate_truth(c->args[1]), &v[i].key);
    }
    if (!s)
        s = sort(r, v, l->n, other, operate_truth(c->args[0]));
    return s ? s : values_of(r, v, l->n, out);
}

FILTER(dictsort)
{
    const struct list *l;
    struct keyed *v = NULL, *other = NULL;
    struct value by = c->args[1], pairs = c->self, none = {0};
    bool value = by.kind == VALUE_TEXT && value_is(by.text, "value");
    if (by.kind != VALUE_MISSING && !value && !(by.kind == VALUE_TEXT && value_is(by.text, "key")))
        return render_fail(r, "You can only sort by either \"key\" or \"value\"");
    if (pairs.kind == VALUE_UNDEFINED)
        return operate_undefined(r, pairs.undefined);
    if (pairs.kind != VALUE_DICT)
        return render_fail(r, "'%s' object has no attribute 'items'", value_type(pairs));
    pairs.kind = VALUE_ITEMS;
    enum status s = iterate_all(r, pairs, &l);
    if (!s)
        s = keyed(r, l->n, &v, &other);
    for (size_t i = 0; !s && i < l->n; i++) {
        v[i].v = l->v[i];
        s = filters_key(r, l->v[i].list->v[value], none, none, operate_truth(c->args[0]),
                        &v[i].key);
    }
    if (!s)
        s = sort(r, v, l->n, other, operate_truth(c->args[2]));
    return s ? s : values_of(r, v, l->n, out);
}

FILTER(groupby)
{
    const struct list *l;
    struct keyed *v = NULL, *other = NULL;
    struct growing groups = {0};
    bool sensitive = operate_truth(c->args[2]);
    enum status s = iterate_all(r, c->self, &l);
    if (!s)
        s = keyed(r, l->n, &v, &other);
    for (size_t i = 0; !s && i < l->n; i++) {
        v[i].v = l->v[i];
        s = filters_key(r, l->v[i], c->args[0], c->args[1], sensitive, &v[i].key);
    }
    if (!s)
        s = sort(r, v, l->n, other, false);
    for (size_t from = 0, to; !s && from < l->n; from = to) {
        bool same = true;
        for (to = from + 1; !s && to < l->n; to += same) {
            s = operate_equal(r, v[from].key, v[to].key, &same);
            if (!same)
                break;
        }
        struct value group, *pair;
        if (!s)
            s = render_list(r, VALUE_TUPLE, 2, &group, &pair);
        if (!s)
            s = filters_key(r, v[from].v, c->args[0], c->args[1], true, &pair[0]);
        if (!s)
            s = values_of(r, v + from, to - from, &pair[1]);
        if (s)
            return s;
        ((struct list *)group.list)->group = true;
        s = iterate_push(r, &groups, group);
    }
    return s ? s : iterate_list(r, VALUE_LIST, &groups, out);
}

static enum status extreme(struct render *r, const struct call *c, bool largest, struct value *out)
{
    struct iterator *i;
    struct value v, key, best, none = {0};
    bool more, any = false;
    enum status s = iterate_open(r, c->self, &i);
    while (!s && !(s = iterate_next(r, i, &v, &more)) && more) {
        bool better = !any;
        s = filters_key(r, v, c->args[1], none, operate_truth(c->args[0]), &key);
        if (!s && any)
            s = largest ? operate_less(r, best, key, &better) : operate_less(r, key, best, &better);
        if (s || !better)
            continue;
        any = true;
        best = key;
        *out = v;
    }
    return s || any ? s : render_undefined(r, "No aggregated item, sequence was empty.", out);
}

FILTER(min)
{
    return extreme(r, c, false, out);
}

FILTER(max)
{
    return extreme(r, c, true, out);
}
