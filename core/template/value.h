/*
 * The values that a template computes with: Python's, as far as templates see them. A value is two
 * words and is passed by value; what it points to lives in the heap of one rendering (or, for
 * constants, of the parsed template) and is never freed singly.
 *
 * Lists, tuples, dicts and texts are immutable once made: the sandbox forbids what would change
 * them, so they may be shared freely. Only a namespace, a loop and an iterator have a state.
 */
#ifndef OFTD_CORE_TEMPLATE_VALUE_H
#define OFTD_CORE_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include "core/arena.h"
#include "core/status.h"

/* An arena with a limit. */
struct heap {
    struct arena arena;
    size_t limit; /* bytes; 0: none */
    size_t used;
    bool over; /* an allocation failed because of the limit */
};
/* size bytes, zeroed; NULL when memory runs out or the limit does. */
void *value_alloc(struct heap *h, size_t size);
/* n items of `size` bytes, the same. */
void *value_array(struct heap *h, size_t n, size_t size);
/* Room for one more behind n items: v itself, or a copy twice as large; NULL as above. */
void *value_grow(struct heap *h, void *v, size_t n, size_t *cap, size_t size);

enum value_kind {
    VALUE_MISSING, /* no value: an unset variable, an argument that was not given */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_KEYS, /* the three views of a dict */
    VALUE_VALUES,
    VALUE_ITEMS,
    VALUE_RANGE,
    VALUE_ITERATOR, /* a generator: what it gave is gone */
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_MACRO,
    VALUE_METHOD,
    VALUE_FUNCTION
};

struct value {
    enum value_kind kind;
    union {
        bool flag;
        int64_t i;
        double f;
        const struct text *text;
        const struct list *list; /* also a tuple */
        struct dict *dict;       /* also a view and a namespace */
        const struct range *range;
        const struct undefined *undefined;
        struct iterator *iterator;
        struct loop *loop;
        const struct macro *macro;
        const struct method *method;
        const struct native *function;
    };
};

/* Valid UTF-8, without NUL at its end; may hold NULs. */
struct text {
    const char *v;
    size_t len, chars; /* bytes, code points: equal for ASCII */
    struct room *room; /* see value_append, or NULL */
    bool markup;       /* escaped: jinja2's Markup */
};

struct list {
    struct value *v;
    size_t n;
    bool group; /* a tuple of groupby: (grouper, list), also by these names */
};

struct range {
    int64_t start, stop, step;
    int64_t n; /* how many */
};

/* Why something has no value. The sentence is made when it is asked for. */
struct undefined {
    const char *hint;  /* the whole sentence, or NULL */
    struct value of;   /* whose attribute or item it is; MISSING: it is a variable */
    struct value name; /* the variable's, the attribute's or the item's */
    bool unsafe;       /* the sandbox hides it */
};

/* A callable of ours: function, method, filter or test. */
struct call;
struct render;
struct native {
    const char *name;       /* and its other names, with blanks between */
    const char *parameters; /* natives.def says how they are written */
    int required;           /* how many of them must be given */
    enum status (*call)(struct render *r, const struct call *c, struct value *out);
};
struct named {
    const struct text *name;
    struct value v;
};
struct call {
    const struct native *native;
    struct value self;        /* what a method, filter or test is applied to */
    const struct value *args; /* one for each parameter (MISSING: not given), or all of "*" */
    size_t n;
    const struct named *named; /* of "*" alone */
    size_t n_named;
};
struct method {
    struct value self;
    const struct native *native;
};

static inline struct value value_none(void)
{
    return (struct value){.kind = VALUE_NONE};
}
static inline struct value value_bool(bool flag)
{
    return (struct value){.kind = VALUE_BOOL, .flag = flag};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = VALUE_INT, .i = i};
}
static inline struct value value_float(double f)
{
    return (struct value){.kind = VALUE_FLOAT, .f = f};
}
static inline struct value value_of_text(const struct text *t)
{
    return (struct value){.kind = VALUE_TEXT, .text = t};
}

/* How many code points v[0..len) has. */
size_t value_count(const char *v, size_t len);
/* The byte at which the given code point begins; t->len for the one behind the last. */
size_t value_offset(const struct text *t, size_t chars);
/* A text of bytes that outlive the heap or lie in it; NULL when memory runs out. */
const struct text *value_borrow(struct heap *h, const char *v, size_t len);
/* A text of a copy. */
const struct text *value_copy(struct heap *h, const char *v, size_t len);
/* a with b behind it. What begins with a and grows again and again costs what is added: the bytes
 * of a are shared as long as nothing else was put behind them. */
const struct text *value_append(struct heap *h, const struct text *a, const struct text *b);
static inline bool value_same_text(const struct text *a, const struct text *b)
{
    if (a == b || a->len != b->len)
        return a == b;
    return !a->len || (a->v[0] == b->v[0] && !memcmp(a->v, b->v, a->len));
}
bool value_is(const struct text *t, const char *s);
/* A list or tuple of n items, all MISSING yet; *items are to be filled at once. False when memory
 * runs out. */
bool value_list(struct heap *h, enum value_kind kind, size_t n, struct value *out,
                struct value **items);
/* False when memory runs out, or j is nested deeper than any text we read. */
bool value_from_json(struct heap *h, const json_t *j, int depth, struct value *out);

/* Python's name of the type. */
const char *value_type(struct value v);

#endif
