/*
 * Owns jinja2's symbol analysis. It goes over the statements of one scope in order and notes for
 * each name how its slot starts when the scope is entered:
 *
 *   parameter   set by whoever enters: a loop's target, a macro's arguments
 *   nothing     first seen where it is set
 *   outer       set here, and an outer scope knows the name: begins with the outer value
 *   global      first seen where it is read, or set in some branch only: the request's variable
 *
 * A name that is only read and that an outer scope knows has no slot here. Nested scopes are done
 * after their parent is complete, so a loop sees a variable that is set behind it: without a value
 * yet, even if the request has one of that name. Published templates rely on such corners.
 */
#include "core/template/scope.h"

#include <string.h>

#define NAMES_MAX 4096 /* of one scope: they are searched */

struct state {
    bool present, stored;
    enum load load;
    struct where outer;
};
/* One branch's view of the scope's symbols. */
struct branch {
    struct state *v;
    size_t cap;
};

struct resolver {
    struct template *t;
    struct scope *scope;   /* being analysed */
    struct branch *branch; /* of it */
    bool failed;
};

static void analyse(struct resolver *r, struct node *list);
static void enter(struct resolver *r, struct node *list);
static void place(struct resolver *r, struct node *n);

/* ---- slots ------------------------------------------------------------------------------------
 */

static size_t slot_of(const struct scope *s, const struct text *name)
{
    size_t i = 0;
    while (i < s->n && !value_same_text(s->v[i].name, name))
        i++;
    return i;
}

/* The slot of a name in the scope, made if need be. */
static size_t slot(struct resolver *r, const struct text *name)
{
    struct scope *s = r->scope;
    size_t i = slot_of(s, name);
    if (i < s->n)
        return i;
    struct symbol *all = value_grow(&r->t->heap, s->v, s->n, &s->cap, sizeof *all);
    if (s->n == NAMES_MAX)
        r->t->heap.over = true;
    if (!all || s->n == NAMES_MAX) {
        r->failed = true;
        return 0;
    }
    s->v = all;
    s->v[s->n] = (struct symbol){.name = name};
    return s->n++;
}

/* The branch's state of a slot; NULL when memory ran out. */
static struct state *state(struct resolver *r, size_t i)
{
    struct branch *b = r->branch;
    if (i >= b->cap) {
        size_t cap = 2 * i + 8;
        struct state *v = value_array(&r->t->heap, cap, sizeof *v);
        if (!v) {
            r->failed = true;
            return NULL;
        }
        if (b->cap)
            memcpy(v, b->v, b->cap * sizeof *v);
        b->v = v;
        b->cap = cap;
    }
    return r->failed ? NULL : &b->v[i];
}

/* Where a name is known outside the scope, which is complete there. */
static bool outside(const struct scope *s, const struct text *name, struct where *at)
{
    at->hops = 0;
    while ((s = s->parent)) {
        at->hops++;
        at->slot = (uint32_t)slot_of(s, name);
        if (at->slot < s->n)
            return true;
    }
    return false;
}

static bool known(struct resolver *r, const struct text *name)
{
    size_t i = slot_of(r->scope, name);
    struct where at;
    if (i < r->scope->n && i < r->branch->cap && r->branch->v[i].present)
        return true;
    return outside(r->scope, name, &at);
}

static void load(struct resolver *r, const struct text *name)
{
    if (known(r, name))
        return;
    struct state *s = state(r, slot(r, name));
    if (s)
        *s = (struct state){.present = true, .stored = s->stored, .load = LOAD_GLOBAL};
}

static void store(struct resolver *r, const struct text *name)
{
    struct state *s = state(r, slot(r, name));
    if (!s)
        return;
    s->stored = true;
    if (s->present)
        return;
    s->present = true;
    s->load = outside(r->scope, name, &s->outer) ? LOAD_OUTER : LOAD_NOTHING;
}

static void parameter(struct resolver *r, const struct text *name)
{
    struct state *s = state(r, slot(r, name));
    if (s)
        *s = (struct state){.present = true, .stored = true, .load = LOAD_PARAMETER};
}

/* ---- one scope's statements -------------------------------------------------------------------
 */

static void target(struct resolver *r, struct node *n, bool as_parameter)
{
    if (n->kind == NODE_NAME && as_parameter)
        parameter(r, n->text);
    else if (n->kind == NODE_NAME)
        store(r, n->text);
    else if (n->kind == NODE_MEMBER)
        load(r, n->a->text);
    else
        for (struct node *i = n->list; i; i = i->next)
            target(r, i, as_parameter);
}

static struct branch copy(struct resolver *r, const struct branch *b)
{
    struct branch c = {.v = value_array(&r->t->heap, b->cap + 1, sizeof *b->v), .cap = b->cap};
    if (!c.v) {
        r->failed = true;
        c.cap = 0;
    } else if (b->cap) {
        memcpy(c.v, b->v, b->cap * sizeof *b->v);
    }
    return c;
}

/* Merges what branches of an if know into the branch before it. */
static void merge(struct resolver *r, const struct branch *from, size_t n)
{
    for (size_t i = 0; i < r->scope->n && !r->failed; i++) {
        struct state *s = state(r, i);
        bool stored_before = s && s->stored, stored = false;
        for (size_t k = 0; s && k < n; k++) {
            if (i >= from[k].cap || !from[k].v[i].present)
                continue;
            stored |= from[k].v[i].stored;
            *s = from[k].v[i];
        }
        if (!s)
            return;
        s->stored = stored || stored_before;
        if (!stored || stored_before)
            continue;
        s->load = outside(r->scope, r->scope->v[i].name, &s->outer) ? LOAD_OUTER : LOAD_GLOBAL;
    }
}

/* Statements in a branch of their own, which begins as r's. */
static struct branch apart(struct resolver *r, struct node *list)
{
    struct branch b = copy(r, r->branch);
    struct resolver inner = *r;
    inner.branch = &b;
    analyse(&inner, list);
    r->failed |= inner.failed;
    return b;
}

/* if, its elifs (one branch, each an if of its own) and its else. */
static void analyse_if(struct resolver *r, struct node *n)
{
    place(r, n->a);
    struct branch body = apart(r, n->list), elifs = copy(r, r->branch);
    struct resolver inner = *r;
    struct node *elif = n->other;
    inner.branch = &elifs;
    for (; elif && elif->flag && elif->kind == NODE_IF; elif = elif->other) {
        place(&inner, elif->a);
        struct branch one = apart(&inner, elif->list);
        merge(&inner, &one, 1);
    }
    r->failed |= inner.failed;
    struct branch parts[3] = {body, elifs, apart(r, elif)};
    merge(r, parts, 3);
}

/* Reads of an expression, in the order of evaluation. */
static void place(struct resolver *r, struct node *n)
{
    if (!n)
        return;
    if (n->kind == NODE_NAME)
        load(r, n->text);
    place(r, n->a);
    place(r, n->b);
    place(r, n->c);
    for (struct node *i = n->list; i; i = i->next)
        place(r, i);
}

static void analyse(struct resolver *r, struct node *list)
{
    for (struct node *n = list; n && !r->failed; n = n->next) {
        switch (n->kind) {
        case NODE_OUTPUT:
        case NODE_CALL_BLOCK:
        case NODE_FILTER_BLOCK:
            place(r, n->a);
            break;
        case NODE_FOR:
            place(r, n->b);
            break;
        case NODE_IF:
            analyse_if(r, n);
            break;
        case NODE_SET:
            place(r, n->b);
            target(r, n->a, false);
            break;
        case NODE_SET_BLOCK:
        case NODE_MACRO:
            target(r, n->a, false);
            break;
        case NODE_WITH:
            for (struct node *i = n->other; i; i = i->next)
                place(r, i->b);
            break;
        default:
            break;
        }
    }
}

/* ---- names and nested scopes ------------------------------------------------------------------
 */

static void find(struct resolver *r, struct node *n)
{
    n->where.slot = (uint32_t)slot_of(r->scope, n->text);
    n->where.hops = 0;
    if (n->where.slot == r->scope->n && !outside(r->scope, n->text, &n->where))
        r->failed = true; // never: every name of a scope was analysed
}

static void resolve(struct resolver *r, struct node *n)
{
    if (!n)
        return;
    if (n->kind == NODE_NAME)
        find(r, n);
    resolve(r, n->a);
    resolve(r, n->b);
    resolve(r, n->c);
    for (struct node *i = n->list; i; i = i->next)
        resolve(r, i);
}

static uint32_t global(struct resolver *r, const struct text *name)
{
    struct template *t = r->t;
    size_t i = 0;
    while (i < t->n_globals && !value_same_text(t->globals[i], name))
        i++;
    if (i < t->n_globals)
        return (uint32_t)i;
    const struct text **all =
        value_grow(&t->heap, t->globals, t->n_globals, &t->cap_globals, sizeof *all);
    if (!all) {
        r->failed = true;
        return 0;
    }
    t->globals = all;
    t->globals[t->n_globals++] = name;
    return (uint32_t)i;
}

/* What was found out about the scope becomes its symbols. */
static void settle(struct resolver *r)
{
    for (size_t i = 0; i < r->scope->n && !r->failed; i++) {
        struct state *s = state(r, i);
        if (!s)
            return;
        r->scope->v[i].load = s->load;
        r->scope->v[i].outer = s->outer;
        if (s->load == LOAD_GLOBAL)
            r->scope->v[i].global = global(r, r->scope->v[i].name);
    }
}

/* A scope inside the current one. */
static struct scope *open(struct resolver *r, struct scope **at)
{
    *at = value_alloc(&r->t->heap, sizeof **at);
    if (*at)
        (*at)->parent = r->scope;
    else
        r->failed = true;
    return *at;
}

static void nested_for(struct resolver *r, struct node *n)
{
    static const struct text loop = {.v = "loop", .len = 4, .chars = 4};
    struct resolver inner = *r;
    struct branch branch = {0};
    inner.branch = &branch;
    if (!(inner.scope = open(r, &n->inner)))
        return;
    target(&inner, n->a, true); // the same slots as in the scope of its `if`
    parameter(&inner, &loop);
    analyse(&inner, n->list);
    settle(&inner);
    resolve(&inner, n->a);
    n->loop.slot = (uint32_t)slot_of(inner.scope, &loop);
    enter(&inner, n->list);
    r->failed |= inner.failed;
    if (n->c && (inner.scope = open(r, &n->test_scope))) {
        branch = (struct branch){0};
        target(&inner, n->a, true);
        place(&inner, n->c);
        settle(&inner);
        resolve(&inner, n->c);
        r->failed |= inner.failed;
    }
    if (n->other && (inner.scope = open(r, &n->other_scope))) {
        branch = (struct branch){0};
        analyse(&inner, n->other);
        settle(&inner);
        enter(&inner, n->other);
        r->failed |= inner.failed;
    }
}

static void nested(struct resolver *r, struct node *n)
{
    struct resolver inner = *r;
    struct branch branch = {0};
    struct macro_shape *m = n->macro;
    static const struct text caller = {.v = "caller", .len = 6, .chars = 6},
                             varargs = {.v = "varargs", .len = 7, .chars = 7},
                             kwargs = {.v = "kwargs", .len = 6, .chars = 6};
    inner.branch = &branch;
    if (!(inner.scope = open(r, &n->inner)))
        return;
    for (size_t i = 0; m && i < m->n; i++)
        parameter(&inner, m->names[i]);
    if (m && m->takes_caller)
        parameter(&inner, &caller);
    if (m && m->takes_varargs)
        parameter(&inner, &varargs);
    if (m && m->takes_kwargs)
        parameter(&inner, &kwargs);
    for (struct node *i = m ? n->other : NULL; i; i = i->next)
        place(&inner, i);
    for (struct node *i = n->kind == NODE_WITH ? n->other : NULL; i; i = i->next)
        target(&inner, i->a, true);
    // the filter of a block sees what the block set
    struct node *filter = n->kind == NODE_FILTER_BLOCK ? n->a
                          : n->kind == NODE_SET_BLOCK  ? n->b
                                                       : NULL;
    place(&inner, filter);
    analyse(&inner, n->list);
    settle(&inner);
    if (m) {
        m->caller = (uint32_t)slot_of(inner.scope, &caller);
        m->varargs = (uint32_t)slot_of(inner.scope, &varargs);
        m->kwargs = (uint32_t)slot_of(inner.scope, &kwargs);
        for (struct node *i = n->other; i; i = i->next)
            resolve(&inner, i);
    }
    for (struct node *i = n->kind == NODE_WITH ? n->other : NULL; i; i = i->next)
        resolve(&inner, i->a);
    resolve(&inner, filter);
    enter(&inner, n->list);
    r->failed |= inner.failed;
}

/* Places the names of a scope's statements, and does the scopes inside. */
static void enter(struct resolver *r, struct node *list)
{
    for (struct node *n = list, *i; n && !r->failed; n = n->next) {
        switch (n->kind) {
        case NODE_OUTPUT:
            resolve(r, n->a);
            break;
        case NODE_SET:
            resolve(r, n->a);
            resolve(r, n->b);
            break;
        case NODE_IF:
            for (i = n; i && i->kind == NODE_IF && (i == n || i->flag); i = i->other) {
                resolve(r, i->a);
                enter(r, i->list);
            }
            enter(r, i);
            break;
        case NODE_FOR:
            resolve(r, n->b);
            nested_for(r, n);
            break;
        case NODE_SET_BLOCK:
        case NODE_MACRO:
        case NODE_CALL_BLOCK:
            resolve(r, n->a);
            nested(r, n);
            break;
        case NODE_WITH:
            for (i = n->other; i; i = i->next)
                resolve(r, i->b);
            nested(r, n);
            break;
        case NODE_FILTER_BLOCK:
            nested(r, n);
            break;
        default:
            break;
        }
    }
}

bool scope_resolve(struct template *t)
{
    struct branch branch = {0};
    struct resolver r = {.t = t, .scope = &t->root, .branch = &branch};
    analyse(&r, t->body);
    settle(&r);
    enter(&r, t->body);
    return !r.failed;
}
