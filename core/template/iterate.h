/*
 * Going through values. An iterator gives each item once; generators (what filters such as map
 * return) are iterators that templates can hold.
 */
#ifndef OFTD_CORE_TEMPLATE_ITERATE_H
#define OFTD_CORE_TEMPLATE_ITERATE_H

#include "core/template/render.h"

struct iterator {
    /* Gives the next item; *more is false when there is none. */
    enum status (*next)(struct render *r, struct iterator *i, struct value *out, bool *more);
    struct value of; /* what is gone through */
    size_t at;
    void *state; /* of next */
    bool ended;
};

/* Fails for what cannot be iterated. A generator is its own iterator. */
enum status iterate_open(struct render *r, struct value v, struct iterator **out);
enum status iterate_next(struct render *r, struct iterator *i, struct value *out, bool *more);
/* All items; those of a list or tuple are shared, not copied. */
enum status iterate_all(struct render *r, struct value v, const struct list **out);
bool iterate_can(struct value v);
/* A list that grows. */
struct growing {
    struct value *v;
    size_t n, cap;
};
enum status iterate_push(struct render *r, struct growing *g, struct value v);
/* It as a value of a kind (LIST, TUPLE). */
enum status iterate_list(struct render *r, enum value_kind kind, const struct growing *g,
                         struct value *out);
/* A generator with a state of its own. */
enum status iterate_generator(struct render *r,
                              enum status (*next)(struct render *, struct iterator *,
                                                  struct value *, bool *),
                              struct value of, void *state, struct value *out);

/* What {% for %} knows. */
struct loop {
    struct iterator *i;
    int64_t index0, length;              /* length < 0: not known yet */
    struct value before, current, after; /* after: MISSING until it was looked at */
    struct value changed;                /* what changed() saw last */
    int depth0;
    const struct node *node; /* of a recursive loop */
    struct frame *outer;
};
enum status iterate_loop(struct render *r, struct value of, struct loop *loop);
enum status iterate_loop_next(struct render *r, struct loop *loop, bool *more);
/* The attribute of a loop; MISSING if it has no such. */
enum status iterate_loop_attribute(struct render *r, struct loop *loop, const struct text *name,
                                   struct value *out);

#endif
