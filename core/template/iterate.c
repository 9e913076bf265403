/*
 * Owns iteration. Each kind of value has one function that gives its next item; a loop is an
 * iterator that looks one item ahead and knows where it is.
 */
#include "core/template/iterate.h"

#include <string.h>

#include "core/template/dict.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/utf8.h"

static enum status next_nothing(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    (void)r;
    (void)i;
    (void)out;
    *more = false;
    return ST_OK;
}

static enum status next_item(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    (void)r;
    *more = i->at < i->of.list->n;
    if (*more)
        *out = i->of.list->v[i->at++];
    return ST_OK;
}

static enum status next_entry(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    *more = i->at < i->of.dict->n;
    if (!*more)
        return ST_OK;
    const struct entry *e = &i->of.dict->v[i->at++];
    if (i->of.kind != VALUE_ITEMS) {
        *out = i->of.kind == VALUE_VALUES ? e->v : e->key;
        return ST_OK;
    }
    struct value *pair;
    enum status s = render_list(r, VALUE_TUPLE, 2, out, &pair);
    if (s)
        return s;
    pair[0] = e->key;
    pair[1] = e->v;
    return ST_OK;
}

static enum status next_character(struct render *r, struct iterator *i, struct value *out,
                                  bool *more)
{
    const struct text *t = i->of.text;
    *more = i->at < t->len;
    if (!*more)
        return ST_OK;
    size_t from = i->at;
    i->at += utf8_length((unsigned char)t->v[from]);
    return render_part(r, t, from, i->at, out);
}

static enum status next_number(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    (void)r;
    const struct range *range = i->of.range;
    *more = (int64_t)i->at < range->n;
    if (*more)
        *out = value_int(range->start + (int64_t)i->at++ * range->step);
    return ST_OK;
}

static enum status next_of_loop(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    struct value *pair;
    enum status s = iterate_loop_next(r, i->of.loop, more);
    if (s || !*more || (s = render_list(r, VALUE_TUPLE, 2, out, &pair)))
        return s;
    pair[0] = i->of.loop->current;
    pair[1] = i->of;
    return ST_OK;
}

bool iterate_can(struct value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_KEYS:
    case VALUE_VALUES:
    case VALUE_ITEMS:
    case VALUE_RANGE:
    case VALUE_ITERATOR:
    case VALUE_LOOP:
        return true;
    default:
        return false;
    }
}

enum status iterate_open(struct render *r, struct value v, struct iterator **out)
{
    if (v.kind == VALUE_ITERATOR) {
        *out = v.iterator;
        return ST_OK;
    }
    if (!iterate_can(v))
        return render_fail(r, "'%s' object is not iterable", value_type(v));
    struct iterator *i = value_alloc(&r->heap, sizeof *i);
    if (!i)
        return render_memory(r);
    *i = (struct iterator){.of = v};
    switch (v.kind) {
    case VALUE_UNDEFINED:
        i->next = next_nothing;
        break;
    case VALUE_TEXT:
        i->next = next_character;
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
        i->next = next_item;
        break;
    case VALUE_RANGE:
        i->next = next_number;
        break;
    case VALUE_LOOP:
        i->next = next_of_loop;
        break;
    default:
        i->next = next_entry;
    }
    *out = i;
    return ST_OK;
}

enum status iterate_next(struct render *r, struct iterator *i, struct value *out, bool *more)
{
    *more = false;
    *out = (struct value){0};
    if (i->ended)
        return ST_OK;
    enum status s = render_deeper(r); // a generator may stand on another, and so on
    if (!s)
        s = render_work(r, 1);
    if (!s)
        s = i->next(r, i, out, more);
    r->depth--;
    i->ended = s || !*more;
    if (i->ended) // what a filter has looked at last is no item
        *out = (struct value){0};
    return s;
}

enum status iterate_push(struct render *r, struct growing *g, struct value v)
{
    struct value *all = value_grow(&r->heap, g->v, g->n, &g->cap, sizeof *all);
    if (!all)
        return render_memory(r);
    g->v = all;
    g->v[g->n++] = v;
    return ST_OK;
}

enum status iterate_list(struct render *r, enum value_kind kind, const struct growing *g,
                         struct value *out)
{
    struct list *l = value_alloc(&r->heap, sizeof *l);
    if (!l)
        return render_memory(r);
    *l = (struct list){.v = g->v, .n = g->n};
    *out = (struct value){.kind = kind, .list = l};
    return ST_OK;
}

enum status iterate_all(struct render *r, struct value v, const struct list **out)
{
    if (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE) {
        *out = v.list;
        return ST_OK;
    }
    struct iterator *i;
    struct growing g = {0};
    struct value item, list;
    bool more;
    enum status s = iterate_open(r, v, &i);
    while (!s && !(s = iterate_next(r, i, &item, &more)) && more)
        s = iterate_push(r, &g, item);
    if (!s)
        s = iterate_list(r, VALUE_LIST, &g, &list);
    *out = s ? NULL : list.list;
    return s;
}

enum status iterate_generator(struct render *r,
                              enum status (*next)(struct render *, struct iterator *,
                                                  struct value *, bool *),
                              struct value of, void *state, struct value *out)
{
    struct iterator *i = value_alloc(&r->heap, sizeof *i);
    if (!i)
        return render_memory(r);
    *i = (struct iterator){.next = next, .of = of, .state = state};
    *out = (struct value){.kind = VALUE_ITERATOR, .iterator = i};
    return ST_OK;
}

/* ---- loops ------------------------------------------------------------------------------------
 */

enum status iterate_loop(struct render *r, struct value of, struct loop *loop)
{
    loop->index0 = -1;
    loop->length = of.kind == VALUE_UNDEFINED ? 0 : operate_length(of);
    return iterate_open(r, of, &loop->i);
}

/* Looks at the item after the current one; *more tells whether there is one. */
static enum status peek(struct render *r, struct loop *loop, bool *more)
{
    *more = true;
    if (loop->after.kind != VALUE_MISSING)
        return ST_OK;
    return iterate_next(r, loop->i, &loop->after, more);
}

enum status iterate_loop_next(struct render *r, struct loop *loop, bool *more)
{
    enum status s = peek(r, loop, more);
    if (s || !*more)
        return s;
    loop->before = loop->current;
    loop->current = loop->after;
    loop->after = (struct value){0};
    loop->index0++;
    return ST_OK;
}

/* How many items there are, those of a generator by taking them all. */
static enum status length(struct render *r, struct loop *loop)
{
    if (loop->length >= 0)
        return ST_OK;
    struct growing g = {0};
    struct value item = loop->after, list;
    bool more = item.kind != VALUE_MISSING;
    enum status s = more ? ST_OK : iterate_next(r, loop->i, &item, &more);
    while (!s && more) {
        s = iterate_push(r, &g, item);
        if (!s)
            s = iterate_next(r, loop->i, &item, &more);
    }
    if (!s)
        s = iterate_list(r, VALUE_LIST, &g, &list);
    if (!s)
        s = iterate_open(r, list, &loop->i);
    loop->after = (struct value){0};
    loop->length = loop->index0 + 1 + (int64_t)g.n;
    return s;
}

enum status iterate_loop_attribute(struct render *r, struct loop *loop, const struct text *name,
                                   struct value *out)
{
    enum status s = ST_OK;
    bool more = true;
    *out = (struct value){0};
    if (value_is(name, "index")) {
        *out = value_int(loop->index0 + 1);
    } else if (value_is(name, "index0")) {
        *out = value_int(loop->index0);
    } else if (value_is(name, "first")) {
        *out = value_bool(loop->index0 == 0);
    } else if (value_is(name, "last")) {
        s = peek(r, loop, &more);
        *out = value_bool(!more);
    } else if (value_is(name, "length")) {
        s = length(r, loop);
        *out = value_int(loop->length);
    } else if (value_is(name, "revindex")) {
        s = length(r, loop);
        *out = value_int(loop->length - loop->index0);
    } else if (value_is(name, "revindex0")) {
        s = length(r, loop);
        *out = value_int(loop->length - loop->index0 - 1);
    } else if (value_is(name, "depth")) {
        *out = value_int(loop->depth0 + 1);
    } else if (value_is(name, "depth0")) {
        *out = value_int(loop->depth0);
    } else if (value_is(name, "previtem")) {
        if (loop->index0 == 0)
            return render_undefined(r, "there is no previous item", out);
        *out = loop->before;
    } else if (value_is(name, "nextitem")) {
        s = peek(r, loop, &more);
        if (!s && !more)
            return render_undefined(r, "there is no next item", out);
        *out = loop->after;
    }
    return s;
}
