/*
 * Owns the filters of sequences. Those that are generators in jinja2 are generators here: they give
 * their items once, when asked, so that what fails late fails late.
 */
#include <string.h>

#include "core/template/access.h"
#include "core/template/dict.h"
#include "core/template/evaluate.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/template/strings.h"

#define FILTER(name)                                                                               \
    enum status filters_##name(struct render *r, const struct call *c, struct value *out)

static bool given(struct value v)
{
    return v.kind != VALUE_MISSING && v.kind != VALUE_NONE;
}

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
    bool more;
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
    if (!s && given(c->args[1])) {
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
        if (given(c->args[0]))
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

/* What an item is ordered by: its attribute, in lower case unless case counts. */
static enum status key_of(struct render *r, struct value v, struct value attribute,
                          struct value otherwise, bool case_sensitive, struct value *out)
{
    enum status s = access_path(r, v, attribute, out);
    if (!s && out->kind == VALUE_UNDEFINED && given(otherwise))
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
        s = key_of(r, v, names.list->v[i], none, case_sensitive, &items[i]);
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
    struct keyed *v, *other;
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
    struct keyed *v, *other;
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
        s = key_of(r, l->v[i].list->v[value], none, none, operate_truth(c->args[0]), &v[i].key);
    }
    if (!s)
        s = sort(r, v, l->n, other, operate_truth(c->args[2]));
    return s ? s : values_of(r, v, l->n, out);
}

FILTER(groupby)
{
    const struct list *l;
    struct keyed *v, *other;
    struct growing groups = {0};
    bool sensitive = operate_truth(c->args[2]);
    enum status s = iterate_all(r, c->self, &l);
    if (!s)
        s = keyed(r, l->n, &v, &other);
    for (size_t i = 0; !s && i < l->n; i++) {
        v[i].v = l->v[i];
        s = key_of(r, l->v[i], c->args[0], c->args[1], sensitive, &v[i].key);
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
            s = key_of(r, v[from].v, c->args[0], c->args[1], true, &pair[0]);
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
        s = key_of(r, v, c->args[1], none, operate_truth(c->args[0]), &key);
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

/* ---- generators -------------------------------------------------------------------------------
 */

/*
 * A filter that is a generator does nothing, and finds nothing wrong, before its first item is
 * asked for. What it was called with is kept; `start` then makes `from`, what it goes through.
 */
struct stage {
    struct call call; /* its arguments are copied */
    enum status (*start)(struct render *r, struct stage *stage);
    struct iterator *from;
    const struct native *native; /* map, select: the filter or test; NULL: none */
    struct call given;           /* its arguments */
    struct value attribute, otherwise;
    bool by_attribute, wanted; /* select: by what, and the answer that lets an item pass */
    struct dict *seen;         /* unique */
};

/* The next item of what a stage goes through. */
static enum status next_of(struct render *r, struct stage *stage, struct value *out, bool *more)
{
    enum status s = ST_OK;
    if (!stage->from)
        s = stage->start(r, stage);
    return s ? s : iterate_next(r, stage->from, out, more);
}

static enum status next_as_it_is(struct render *r, struct iterator *i, struct value *out,
                                 bool *more)
{
    return next_of(r, i->state, out, more);
}

static enum status generator(struct render *r, const struct call *c,
                             enum status (*start)(struct render *, struct stage *),
                             enum status (*next)(struct render *, struct iterator *, struct value *,
                                                 bool *),
                             struct stage **stage, struct value *out)
{
    struct stage *made = value_alloc(&r->heap, sizeof *made);
    struct value *args = value_array(&r->heap, c->n + 1, sizeof *args);
    if (!made || !args)
        return render_memory(r);
    if (c->n)
        memcpy(args, c->args, c->n * sizeof *args);
    *made = (struct stage){.call = *c, .start = start};
    made->call.args = args;
    *stage = made;
    return iterate_generator(r, next, c->self, made, out);
}

static enum status start_items(struct render *r, struct stage *stage)
{
    struct value pairs = stage->call.self;
    if (pairs.kind == VALUE_DICT)
        pairs.kind = VALUE_ITEMS;
    else if (pairs.kind != VALUE_UNDEFINED)
        return render_fail(r, "Can only get item pairs from a mapping.");
    return iterate_open(r, pairs, &stage->from);
}

FILTER(items)
{
    struct stage *stage;
    return generator(r, c, start_items, next_as_it_is, &stage, out);
}

static enum status next_mapped(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    struct stage *stage = i->state;
    struct value v;
    enum status s = next_of(r, stage, &v, more);
    if (s || !*more)
        return s;
    if (stage->native)
        return evaluate_native(r, stage->native, v, &stage->given, out);
    s = access_path(r, v, stage->attribute, out);
    if (!s && out->kind == VALUE_UNDEFINED && given(stage->otherwise))
        *out = stage->otherwise;
    return s;
}

static enum status next_selected(struct render *r, struct iterator *i, struct value *out,
                                 bool *more)
{
    struct stage *stage = i->state;
    for (;;) {
        struct value v;
        enum status s = next_of(r, stage, out, more);
        if (s || !*more)
            return s;
        s = access_path(r, *out, stage->attribute, &v);
        if (!s && stage->native)
            s = evaluate_native(r, stage->native, v, &stage->given, &v);
        if (s || operate_truth(v) == stage->wanted)
            return s;
    }
}

/* Nothing of what is false is looked at, be it none. */
static enum status look(struct render *r, struct stage *stage, bool *any)
{
    struct value of = stage->call.self, *items;
    *any = operate_truth(of);
    enum status s = *any ? ST_OK : render_list(r, VALUE_LIST, 0, &of, &items);
    return s ? s : iterate_open(r, of, &stage->from);
}

/* The name of a filter or test in the arguments, and what follows it. */
static enum status named(struct render *r, struct stage *stage, size_t at, bool filter)
{
    const struct call *c = &stage->call;
    struct value name = c->args[at];
    if (name.kind == VALUE_TEXT)
        stage->native = filter ? natives_filter(name.text) : natives_test(name.text);
    if (!stage->native)
        return render_unsupported(r, "no %s named '%.*s'", filter ? "filter" : "test",
                                  name.kind == VALUE_TEXT ? (int)name.text->len : 0,
                                  name.kind == VALUE_TEXT ? name.text->v : "");
    stage->given = *c;
    stage->given.args = c->args + at + 1;
    stage->given.n = c->n - at - 1;
    return ST_OK;
}

static enum status start_map(struct render *r, struct stage *stage)
{
    const struct call *c = &stage->call;
    bool any, attribute = false;
    enum status s = look(r, stage, &any);
    if (s || !any)
        return s;
    if (c->n)
        return named(r, stage, 0, true);
    for (size_t i = 0; i < c->n_named; i++) {
        const struct text *name = c->named[i].name;
        if (value_is(name, "attribute"))
            stage->attribute = c->named[i].v;
        else if (value_is(name, "default"))
            stage->otherwise = c->named[i].v;
        else
            return render_fail(r, "Unexpected keyword argument '%.*s'", (int)name->len, name->v);
        attribute |= value_is(name, "attribute");
    }
    return attribute ? ST_OK : render_fail(r, "map requires a filter argument");
}

FILTER(map)
{
    struct stage *stage;
    return generator(r, c, start_map, next_mapped, &stage, out);
}

static enum status start_select(struct render *r, struct stage *stage)
{
    bool any;
    enum status s = look(r, stage, &any);
    if (s || !any)
        return s;
    if (stage->by_attribute && !stage->call.n)
        return render_fail(r, "Missing parameter for attribute name");
    if (stage->by_attribute)
        stage->attribute = stage->call.args[0];
    if (stage->call.n > stage->by_attribute)
        return named(r, stage, stage->by_attribute, false);
    return ST_OK;
}

static enum status choose(struct render *r, const struct call *c, bool by_attribute, bool wanted,
                          struct value *out)
{
    struct stage *stage;
    enum status s = generator(r, c, start_select, next_selected, &stage, out);
    if (s)
        return s;
    stage->by_attribute = by_attribute;
    stage->wanted = wanted;
    return ST_OK;
}

FILTER(select)
{
    return choose(r, c, false, true, out);
}

FILTER(reject)
{
    return choose(r, c, false, false, out);
}

FILTER(selectattr)
{
    return choose(r, c, true, true, out);
}

FILTER(rejectattr)
{
    return choose(r, c, true, false, out);
}

static enum status next_unique(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    struct stage *stage = i->state;
    const struct value *args = stage->call.args;
    struct value key, none = {0};
    for (;;) {
        enum status s = next_of(r, stage, out, more);
        if (s || !*more)
            return s;
        s = key_of(r, *out, args[1], none, operate_truth(args[0]), &key);
        if (s)
            return s;
        if (!dict_hashable(key))
            return render_fail(r, "unhashable type: '%s'", value_type(key));
        if (dict_find(stage->seen, key))
            continue;
        return dict_append(&r->heap, stage->seen, key, key) ? ST_OK : render_memory(r);
    }
}

static enum status start_unique(struct render *r, struct stage *stage)
{
    stage->seen = dict_new(&r->heap, 0);
    return stage->seen ? iterate_open(r, stage->call.self, &stage->from) : render_memory(r);
}

FILTER(unique)
{
    struct stage *stage;
    return generator(r, c, start_unique, next_unique, &stage, out);
}

/* items[from..to) and `fill` copies of another one, as a list behind g. */
static enum status push_slice(struct render *r, struct growing *g, const struct list *l,
                              size_t from, size_t to, size_t fill, struct value with)
{
    struct value slice, *items;
    enum status s = render_list(r, VALUE_LIST, to - from + fill, &slice, &items);
    for (size_t i = from; !s && i < to; i++)
        *items++ = l->v[i];
    for (size_t i = 0; !s && i < fill; i++)
        *items++ = with;
    if (!s)
        s = render_work(r, 1);
    return s ? s : iterate_push(r, g, slice);
}

/* A stage that goes through a list made at once. */
static enum status go_through(struct render *r, struct stage *stage, const struct growing *g)
{
    struct value list;
    enum status s = iterate_list(r, VALUE_LIST, g, &list);
    return s ? s : iterate_open(r, list, &stage->from);
}

static enum status start_batch(struct render *r, struct stage *stage)
{
    const struct value *args = stage->call.args;
    const struct list *l;
    struct growing g = {0};
    int64_t size;
    enum status s = iterate_all(r, stage->call.self, &l);
    if (!s)
        s = operate_index(r, args[0], &size);
    if (!s && size < 1)
        return render_unsupported(r, "batches of less than one");
    for (size_t from = 0; !s && from < l->n; from += (size_t)size) {
        size_t n = l->n - from < (size_t)size ? l->n - from : (size_t)size;
        size_t fill = given(args[1]) ? (size_t)size - n : 0;
        s = push_slice(r, &g, l, from, from + n, fill, args[1]);
        if (n < (size_t)size)
            break;
    }
    return s ? s : go_through(r, stage, &g);
}

FILTER(batch)
{
    struct stage *stage;
    return generator(r, c, start_batch, next_as_it_is, &stage, out);
}

static enum status start_slice(struct render *r, struct stage *stage)
{
    const struct value *args = stage->call.args;
    const struct list *l;
    struct growing g = {0};
    int64_t slices;
    enum status s = iterate_all(r, stage->call.self, &l);
    if (!s)
        s = operate_index(r, args[0], &slices);
    if (!s && slices == 0)
        return render_fail(r, "integer division or modulo by zero");
    size_t offset = 0, n = s || slices < 0 ? 0 : (size_t)slices;
    size_t per = n ? l->n / n : 0, extra = n ? l->n % n : 0;
    for (size_t i = 0; !s && i < n; i++) {
        size_t from = offset + i * per;
        offset += i < extra;
        size_t fill = given(args[1]) && i >= extra;
        s = push_slice(r, &g, l, from, offset + (i + 1) * per, fill, args[1]);
    }
    return s ? s : go_through(r, stage, &g);
}

FILTER(slice)
{
    struct stage *stage;
    return generator(r, c, start_slice, next_as_it_is, &stage, out);
}
