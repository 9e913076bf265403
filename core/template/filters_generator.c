/*
 * Owns the filters that are generators in jinja2: map, select and their kin. Such a filter does
 * nothing, and finds nothing wrong, before its first item is asked for; each item is given once.
 * What it was called with is kept; `start` then makes `from`, what it goes through.
 */
#include <string.h>

#include "core/template/access.h"
#include "core/template/dict.h"
#include "core/template/evaluate.h"
#include "core/template/filters.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"

#define FILTER(name)                                                                               \
    enum status filters_##name(struct render *r, const struct call *c, struct value *out)

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
    if (!s && out->kind == VALUE_UNDEFINED && filters_given(stage->otherwise))
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
        s = filters_key(r, *out, args[1], none, operate_truth(args[0]), &key);
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
        size_t fill = filters_given(args[1]) ? (size_t)size - n : 0;
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
        size_t fill = filters_given(args[1]) && i >= extra;
        s = push_slice(r, &g, l, from, offset + (i + 1) * per, fill, args[1]);
    }
    return s ? s : go_through(r, stage, &g);
}

FILTER(slice)
{
    struct stage *stage;
    return generator(r, c, start_slice, next_as_it_is, &stage, out);
}
