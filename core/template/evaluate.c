/*
 * Owns expressions: a walk over the tree, one step and one level for each node.
 */
#include "core/template/evaluate.h"

#include <string.h>

#include "core/template/access.h"
#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/template/strings.h"

static struct value *slot(struct frame *f, struct where w)
{
    const struct frame *at = f;
    for (uint32_t i = 0; i < w.hops; i++)
        at = at->parent;
    return (struct value *)&at->slots[w.slot]; // frames are ours to change, whoever looks
}

/* ---- literals ---------------------------------------------------------------------------------
 */

static size_t count(const struct node *list)
{
    size_t n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

static enum status list(struct render *r, const struct node *n, struct frame *f, struct value *out)
{
    struct value *items;
    enum status s = render_list(r, n->kind == NODE_LIST ? VALUE_LIST : VALUE_TUPLE, count(n->list),
                                out, &items);
    for (const struct node *i = n->list; !s && i; i = i->next)
        s = evaluate(r, i, f, items++);
    return s;
}

static enum status dict(struct render *r, const struct node *n, struct frame *f, struct value *out)
{
    struct dict *d = dict_new(&r->heap, count(n->list));
    enum status s = d ? ST_OK : render_memory(r);
    for (const struct node *i = n->list; !s && i; i = i->next) {
        struct value key, v;
        s = evaluate(r, i->b, f, &key);
        if (!s)
            s = evaluate(r, i->a, f, &v);
        if (!s && !dict_hashable(key))
            s = render_fail(r, "unhashable type: '%s'", value_type(key));
        if (!s && !dict_set(&r->heap, d, key, v))
            s = render_memory(r);
    }
    *out = (struct value){.kind = VALUE_DICT, .dict = d};
    return s;
}

static enum status concat(struct render *r, const struct node *n, struct frame *f,
                          struct value *out)
{
    const struct text *whole = NULL, *part;
    enum status s = ST_OK;
    for (const struct node *i = n->list; !s && i; i = i->next) {
        struct value v;
        s = evaluate(r, i, f, &v);
        if (!s)
            s = show_text(r, v, &part);
        if (s)
            break;
        whole = whole ? value_append(&r->heap, whole, part) : part;
        if (!whole)
            s = render_memory(r);
    }
    *out = value_of_text(whole);
    return s;
}

/* ---- operators --------------------------------------------------------------------------------
 */

static enum status compare(struct render *r, const struct node *n, struct frame *f,
                           struct value *out)
{
    struct value left, right;
    bool holds = true;
    enum status s = evaluate(r, n->a, f, &left);
    for (const struct node *i = n->list; !s && holds && i; i = i->next) {
        s = evaluate(r, i->a, f, &right);
        if (!s)
            s = operate_compare(r, i->op, left, right, &holds);
        left = right;
    }
    *out = value_bool(holds);
    return s;
}

static enum status condition(struct render *r, const struct node *n, struct frame *f,
                             struct value *out)
{
    struct value test;
    enum status s = evaluate(r, n->b, f, &test);
    if (s)
        return s;
    if (operate_truth(test))
        return evaluate(r, n->a, f, out);
    if (n->c)
        return evaluate(r, n->c, f, out);
    return render_undefined(r,
                            "the inline if-expression evaluated to false and no else section "
                            "was defined",
                            out);
}

static enum status item(struct render *r, const struct node *n, struct frame *f, struct value *out)
{
    struct value of, key = {0}, bounds[3] = {{0}, {0}, {0}};
    enum status s = evaluate(r, n->a, f, &of);
    const struct node *arg = n->b;
    if (s)
        return s;
    if (arg->kind != NODE_SLICE) {
        s = evaluate(r, arg, f, &key);
        return s ? s : access_item(r, of, key, out);
    }
    const struct node *parts[3] = {arg->a, arg->b, arg->c};
    for (int i = 0; !s && i < 3; i++)
        if (parts[i])
            s = evaluate(r, parts[i], f, &bounds[i]);
    return s ? s : access_slice(r, of, bounds, out);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

struct arguments {
    struct growing positional;
    struct named *named;
    size_t n_named, cap_named;
};

static enum status add_named(struct render *r, struct arguments *a, const struct text *name,
                             struct value v)
{
    for (size_t i = 0; i < a->n_named; i++)
        if (value_same_text(a->named[i].name, name))
            return render_fail(r, "got multiple values for keyword argument '%.*s'", (int)name->len,
                               name->v);
    struct named *all = value_grow(&r->heap, a->named, a->n_named, &a->cap_named, sizeof *all);
    if (!all)
        return render_memory(r);
    a->named = all;
    a->named[a->n_named++] = (struct named){.name = name, .v = v};
    return render_work(r, a->n_named / 8);
}

static enum status spread(struct render *r, struct arguments *a, struct value v)
{
    struct iterator *i;
    struct value item_value;
    bool more;
    enum status s = iterate_open(r, v, &i);
    while (!s && !(s = iterate_next(r, i, &item_value, &more)) && more)
        s = iterate_push(r, &a->positional, item_value);
    return s;
}

static enum status spread_named(struct render *r, struct arguments *a, struct value v)
{
    if (v.kind != VALUE_DICT)
        return render_fail(r, "argument after ** must be a mapping, not %s", value_type(v));
    enum status s = ST_OK;
    for (size_t i = 0; !s && i < v.dict->n; i++) {
        if (v.dict->v[i].key.kind != VALUE_TEXT)
            return render_fail(r, "keywords must be strings");
        s = add_named(r, a, v.dict->v[i].key.text, v.dict->v[i].v);
    }
    return s;
}

static enum status arguments(struct render *r, const struct node *list_of, struct frame *f,
                             struct arguments *a)
{
    enum status s = ST_OK;
    for (const struct node *i = list_of; !s && i; i = i->next) {
        bool plain =
            i->kind != NODE_KEYWORD && i->kind != NODE_SPREAD && i->kind != NODE_SPREAD_NAMED;
        struct value v;
        s = evaluate(r, plain ? i : i->a, f, &v);
        if (s)
            break;
        s = plain                     ? iterate_push(r, &a->positional, v)
            : i->kind == NODE_KEYWORD ? add_named(r, a, i->text, v)
            : i->kind == NODE_SPREAD  ? spread(r, a, v)
                                      : spread_named(r, a, v);
    }
    return s;
}

static struct call call_of(const struct arguments *a)
{
    return (struct call){
        .args = a->positional.v, .n = a->positional.n, .named = a->named, .n_named = a->n_named};
}

enum status evaluate_native(struct render *r, const struct native *native, struct value self,
                            const struct call *given, struct value *out)
{
    struct value args[NATIVES_PARAMETERS];
    struct call whole = *given, bound;
    whole.native = native;
    whole.self = self;
    if (!native->parameters[0] && !given->n && !given->n_named) // nothing to bind
        return native->call(r, &whole, out);
    enum status s = natives_bind(r, &whole, args, &bound);
    return s ? s : native->call(r, &bound, out);
}

/* The keyword argument of a macro; marks it as taken. */
static struct value take_named(const struct call *given, bool *taken, const struct text *name)
{
    for (size_t i = 0; i < given->n_named; i++)
        if (!taken[i] && value_same_text(given->named[i].name, name)) {
            taken[i] = true;
            return given->named[i].v;
        }
    return (struct value){0};
}

/* Varargs, kwargs and the caller of a macro; refuses what it does not take. */
static enum status macro_rest(struct render *r, const struct macro_shape *m, struct frame *f,
                              const struct call *given, bool *taken)
{
    static const struct text caller = {.v = "caller", .len = 6, .chars = 6};
    struct value *items;
    enum status s = ST_OK;
    bool own = false; // a parameter of its own called caller
    for (size_t i = 0; i < m->n; i++)
        own |= value_same_text(m->names[i], &caller);
    if (m->takes_caller && !own) {
        struct value v = take_named(given, taken, &caller);
        if (v.kind == VALUE_MISSING || v.kind == VALUE_NONE)
            s = render_undefined(r, "No caller defined", &v);
        f->slots[m->caller] = v;
    }
    struct dict *rest = dict_new(&r->heap, 0);
    if (!rest)
        return render_memory(r);
    for (size_t i = 0; !s && i < given->n_named; i++) {
        const struct text *name = given->named[i].name;
        if (taken[i])
            continue;
        if (!m->takes_kwargs)
            return render_fail(r, "macro '%.*s' takes no keyword argument '%.*s'",
                               m->name ? (int)m->name->len : 6, m->name ? m->name->v : "caller",
                               (int)name->len, name->v);
        if (!dict_set(&r->heap, rest, value_of_text(name), given->named[i].v))
            s = render_memory(r);
    }
    if (!s && m->takes_kwargs)
        f->slots[m->kwargs] = (struct value){.kind = VALUE_DICT, .dict = rest};
    size_t extra = given->n > m->n ? given->n - m->n : 0;
    if (!s && extra && !m->takes_varargs)
        return render_fail(r, "macro '%.*s' takes not more than %zu argument(s)",
                           m->name ? (int)m->name->len : 6, m->name ? m->name->v : "caller", m->n);
    if (!s && m->takes_varargs) {
        s = render_list(r, VALUE_TUPLE, extra, &f->slots[m->varargs], &items);
        if (!s && extra)
            memcpy(items, given->args + m->n, extra * sizeof *items);
    }
    return s;
}

enum status evaluate_macro(struct render *r, const struct macro *macro, const struct call *given,
                           struct value *out)
{
    const struct macro_shape *m = macro->shape;
    struct frame *f;
    bool *taken = value_array(&r->heap, given->n_named + 1, sizeof *taken);
    enum status s =
        taken ? render_enter(r, macro->node->inner, macro->outer, &f) : render_memory(r);
    for (size_t i = 0; !s && i < m->n; i++)
        f->slots[i] = i < given->n ? given->args[i] : take_named(given, taken, m->names[i]);
    if (!s)
        s = macro_rest(r, m, f, given, taken);
    for (size_t i = 0; !s && i < m->n; i++) {
        if (f->slots[i].kind != VALUE_MISSING)
            continue;
        if (m->defaults[i])
            s = evaluate(r, m->defaults[i], f, &f->slots[i]);
        else
            s = render_undefined(r, "a parameter was not provided", &f->slots[i]);
    }
    if (s)
        return s;
    struct buffer captured = {0}, *before = r->out;
    enum leave leave = LEAVE_NOT;
    int line = r->line;
    r->out = &captured;
    s = render_run(r, macro->node->list, f, &leave);
    r->out = before;
    if (!s)
        r->line = line;
    return render_take(r, s, &captured, out);
}

/* Of an escaped text (Markup) what a method makes is escaped, and so is what it puts in, which is
 * refused where that would change it. */
static enum status call_method(struct render *r, const struct method *m, const struct call *given,
                               struct value *out)
{
    static const char *const all[] = {"format", "join"}, *const some[] = {"center", "ljust",
                                                                          "replace", "rjust"};
    const char *name = m->native->name;
    bool refused = false;
    if (m->self.kind != VALUE_TEXT || !m->self.text->markup)
        return evaluate_native(r, m->native, m->self, given, out);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        refused |= !strcmp(name, all[i]);
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        refused |= !strcmp(name, some[i]) && given->n > 1 && given->args[1].kind == VALUE_TEXT &&
                   strings_escapes(given->args[1].text);
    if (refused)
        return render_unsupported(r, "'%s' of an escaped string", name);
    enum status s = evaluate_native(r, m->native, m->self, given, out);
    return strings_keep(r, s, m->self.text, out);
}

static enum status call_value(struct render *r, struct value callee, const struct call *given,
                              struct value *out)
{
    switch (callee.kind) {
    case VALUE_FUNCTION:
        return evaluate_native(r, callee.function, (struct value){0}, given, out);
    case VALUE_METHOD:
        return call_method(r, callee.method, given, out);
    case VALUE_MACRO:
        return evaluate_macro(r, callee.macro, given, out);
    case VALUE_LOOP:
        if (!callee.loop->node)
            return render_fail(r, "The loop must have the 'recursive' marker to be called "
                                  "recursively.");
        if (given->n != 1 || given->n_named)
            return render_fail(r, "a loop takes one argument");
        return render_loop(r, callee.loop->node, callee.loop->outer, given->args[0],
                           callee.loop->depth0 + 1, out);
    case VALUE_UNDEFINED:
        return operate_undefined(r, callee.undefined);
    default:
        return render_fail(r, "'%s' object is not callable", value_type(callee));
    }
}

static enum status call(struct render *r, const struct node *n, struct frame *f,
                        const struct value *caller, struct value *out)
{
    static const struct text name = {.v = "caller", .len = 6, .chars = 6};
    struct value callee;
    struct arguments a = {0};
    enum status s = evaluate(r, n->a, f, &callee);
    if (!s)
        s = arguments(r, n->list, f, &a);
    if (!s && caller)
        s = add_named(r, &a, &name, *caller);
    struct call given = call_of(&a);
    return s ? s : call_value(r, callee, &given, out);
}

enum status evaluate_call_block(struct render *r, const struct node *n, struct frame *f,
                                struct value caller, struct value *out)
{
    return call(r, n, f, &caller, out);
}

/* A filter or test node applied to a value. */
static enum status apply(struct render *r, const struct node *n, struct frame *f, struct value to,
                         struct value *out)
{
    struct arguments a = {0};
    enum status s = arguments(r, n->list, f, &a);
    struct call given = call_of(&a);
    if (!s && !n->native)
        return render_fail(r, "no %s named '%.*s'", n->kind == NODE_FILTER ? "filter" : "test",
                           (int)n->text->len, n->text->v);
    return s ? s : evaluate_native(r, n->native, to, &given, out);
}

enum status evaluate_filter(struct render *r, const struct node *n, struct frame *f,
                            struct value to, struct value *out)
{
    // the innermost filter of a chain has nothing to filter but `to`
    enum status s = render_deeper(r);
    if (!s && n->a)
        s = evaluate_filter(r, n->a, f, to, &to);
    if (!s)
        s = apply(r, n, f, to, out);
    r->depth--;
    return s;
}

/* ---- the walk ---------------------------------------------------------------------------------
 */

static enum status either(struct render *r, const struct node *n, struct frame *f,
                          struct value *out)
{
    enum status s = evaluate(r, n->a, f, out);
    if (s || operate_truth(*out) == (n->kind == NODE_OR))
        return s;
    return evaluate(r, n->b, f, out);
}

static void read_name(const struct node *n, struct frame *f, struct value *out)
{
    *out = *slot(f, n->where);
    if (out->kind == VALUE_MISSING)
        *out = (struct value){.kind = VALUE_UNDEFINED, .undefined = n->undefined};
}

static enum status walk(struct render *r, const struct node *n, struct frame *f, struct value *out)
{
    struct value a, b;
    enum status s;
    switch (n->kind) {
    case NODE_ATTRIBUTE:
        s = evaluate(r, n->a, f, &a);
        return s ? s : access_attribute(r, a, n->text, n->flag, out);
    case NODE_ITEM:
        return item(r, n, f, out);
    case NODE_CALL:
        return call(r, n, f, NULL, out);
    case NODE_FILTER:
    case NODE_TEST:
        s = evaluate(r, n->a, f, &a);
        return s ? s : apply(r, n, f, a, out);
    case NODE_COMPARE:
        return compare(r, n, f, out);
    case NODE_AND:
    case NODE_OR:
        return either(r, n, f, out);
    case NODE_NOT:
        s = evaluate(r, n->a, f, &a);
        *out = value_bool(!s && !operate_truth(a));
        return s;
    case NODE_BINARY:
        s = evaluate(r, n->a, f, &a);
        if (!s)
            s = evaluate(r, n->b, f, &b);
        return s ? s : operate_binary(r, n->op, a, b, out);
    case NODE_NEG:
    case NODE_POS:
        s = evaluate(r, n->a, f, &a);
        return s ? s : operate_negate(r, a, n->kind == NODE_NEG, out);
    case NODE_CONCAT:
        return concat(r, n, f, out);
    case NODE_COND:
        return condition(r, n, f, out);
    case NODE_LIST:
    case NODE_TUPLE:
        return list(r, n, f, out);
    case NODE_DICT:
        return dict(r, n, f, out);
    default:
        return error_set(r->err, ST_INTERNAL, "chat template: a node that is no expression");
    }
}

/* A step, a level, and what it takes to walk: not for leaves, which are most of a tree and come
 * here to be refused. */
static __attribute__((noinline)) enum status inner(struct render *r, const struct node *n,
                                                   struct frame *f, struct value *out)
{
    enum status s = render_deeper(r);
    *out = (struct value){0};
    if (!s)
        s = render_work(r, 1);
    if (!s)
        s = walk(r, n, f, out);
    r->depth--;
    return s;
}

enum status evaluate(struct render *r, const struct node *n, struct frame *f, struct value *out)
{
    if (n->kind > NODE_NAME || !r->steps || r->depth >= RENDER_LEVELS)
        return inner(r, n, f, out);
    r->steps--;
    if (n->kind == NODE_CONST)
        *out = n->value;
    else
        read_name(n, f, out);
    return ST_OK;
}

static enum status assign_member(struct render *r, const struct node *n, struct frame *f,
                                 struct value v)
{
    struct value *ns = slot(f, n->a->where);
    if (ns->kind == VALUE_MISSING)
        return operate_undefined(r, n->a->undefined);
    if (ns->kind != VALUE_NAMESPACE)
        return render_fail(r, "cannot assign attribute on non-namespace object");
    if (n->text->v[0] == '_')
        return render_fail(r, "Chat templates cannot store underscore-prefixed attributes on a "
                              "namespace");
    if (!dict_set(&r->heap, ns->dict, value_of_text(n->text), v))
        return render_memory(r);
    return ST_OK;
}

enum status evaluate_assign(struct render *r, const struct node *target, struct frame *f,
                            struct value v)
{
    if (target->kind == NODE_NAME) {
        *slot(f, target->where) = v;
        return ST_OK;
    }
    if (target->kind == NODE_MEMBER)
        return assign_member(r, target, f, v);
    const struct list *items;
    size_t n = count(target->list);
    if (!iterate_can(v))
        return render_fail(r, "cannot unpack non-iterable %s object", value_type(v));
    enum status s = iterate_all(r, v, &items);
    if (!s && items->n < n)
        return render_fail(r, "not enough values to unpack (expected %zu, got %zu)", n, items->n);
    if (!s && items->n > n)
        return render_fail(r, "too many values to unpack (expected %zu)", n);
    size_t i = 0;
    for (const struct node *t = target->list; !s && t; t = t->next)
        s = evaluate_assign(r, t, f, items->v[i++]);
    return s;
}
