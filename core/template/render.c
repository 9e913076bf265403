/*
 * Owns a rendering: statements, scopes, limits, the way output goes. Every statement and expression
 * takes a step, every byte of a value counts, every level of recursion is counted; so any template
 * with any request ends soon, in little memory, with a stack that fits.
 */
#include "core/template/render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/template/evaluate.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/template/template.h"

#define STEPS_DEFAULT  20000000u
#define MEMORY_DEFAULT ((size_t)256 << 20)
#define OUTPUT_DEFAULT ((size_t)64 << 20)

/* ---- what can go wrong ------------------------------------------------------------------------
 */

void render_say(struct render *r, enum status s, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    error_set(r->err, s, "chat template, line %d: %s", r->line, text);
}

enum status render_spent(struct render *r)
{
    r->steps = 0;
    render_say(r, ST_LIMIT_EXCEEDED, "too many steps");
    return ST_LIMIT_EXCEEDED;
}

enum status render_too_deep(struct render *r)
{
    render_say(r, ST_LIMIT_EXCEEDED, "recursion deeper than %d levels", RENDER_LEVELS);
    return ST_LIMIT_EXCEEDED;
}

/* ---- making values ----------------------------------------------------------------------------
 */

enum status render_add(struct render *r, struct buffer *b, const void *data, size_t n)
{
    size_t max = b == r->target ? r->output_max : r->heap.limit;
    if (n > max || b->len > max - n) {
        render_say(r, ST_LIMIT_EXCEEDED, "more than %zu bytes of text", max);
        return ST_LIMIT_EXCEEDED;
    }
    buffer_add(b, data, n);
    return b->failed ? error_memory(r->err, "rendering a chat template") : ST_OK;
}

enum status render_text(struct render *r, const char *v, size_t len, struct value *out)
{
    const struct text *t = value_copy(&r->heap, v, len);
    *out = value_of_text(t);
    return t ? ST_OK : render_memory(r);
}

enum status render_take(struct render *r, enum status s, struct buffer *b, struct value *out)
{
    if (!s)
        s = render_text(r, b->v, b->len, out);
    buffer_free(b);
    return s;
}

enum status render_part(struct render *r, const struct text *of, size_t from, size_t to,
                        struct value *out)
{
    if (from == 0 && to == of->len) {
        *out = value_of_text(of);
        return ST_OK;
    }
    const struct text *t = value_borrow(&r->heap, of->v + from, to - from);
    *out = value_of_text(t);
    return t ? ST_OK : render_memory(r);
}

enum status render_list(struct render *r, enum value_kind kind, size_t n, struct value *out,
                        struct value **items)
{
    return value_list(&r->heap, kind, n, out, items) ? ST_OK : render_memory(r);
}

enum status render_undefined(struct render *r, const char *hint, struct value *out)
{
    struct undefined *u = value_alloc(&r->heap, sizeof *u);
    if (!u)
        return render_memory(r);
    *u = (struct undefined){.hint = hint};
    *out = (struct value){.kind = VALUE_UNDEFINED, .undefined = u};
    return ST_OK;
}

/* ---- scopes -----------------------------------------------------------------------------------
 */

static enum status global(struct render *r, uint32_t i, struct value *out)
{
    struct global *g = &r->globals[i];
    if (!g->known) {
        const struct text *name = r->t->globals[i];
        const json_t *j = json_object_getn(r->variables, name->v, name->len);
        const struct native *function = j ? NULL : natives_function(name);
        if (j && !value_from_json(&r->heap, j, 0, &g->v))
            return render_memory(r);
        if (function)
            g->v = (struct value){.kind = VALUE_FUNCTION, .function = function};
        g->known = true;
    }
    *out = g->v;
    return ST_OK;
}

/* Sets the slots of a scope to what they begin with; parameters stay. The root has nothing outside,
 * and no slot that begins with it. */
static enum status start(struct render *r, const struct scope *s, struct frame *f)
{
    enum status status = ST_OK;
    for (size_t i = 0; !status && i < s->n; i++) {
        const struct symbol *symbol = &s->v[i];
        if (symbol->load == LOAD_GLOBAL) {
            status = global(r, symbol->global, &f->slots[i]);
        } else if (symbol->load == LOAD_NOTHING) {
            f->slots[i] = (struct value){0};
        } else if (symbol->load == LOAD_OUTER) {
            const struct frame *at = f->parent;
            for (uint32_t k = 1; at && k < symbol->outer.hops; k++)
                at = at->parent;
            if (at)
                f->slots[i] = at->slots[symbol->outer.slot];
        }
    }
    return status;
}

enum status render_enter(struct render *r, const struct scope *s, const struct frame *parent,
                         struct frame **out)
{
    struct frame *f = value_alloc(&r->heap, sizeof *f + (s->n + 1) * sizeof f->slots[0]);
    *out = f;
    if (!f)
        return render_memory(r);
    f->parent = parent;
    return start(r, s, f);
}

/* ---- for --------------------------------------------------------------------------------------
 */

struct filter {
    const struct node *n;
    struct frame *f;
    struct iterator *from;
};

/* The items that pass the loop's `if`. */
static enum status next_filtered(struct render *r, struct iterator *i, struct value *out,
                                 bool *more)
{
    struct filter *filter = i->state;
    for (;;) {
        struct value pass = {0};
        enum status s = iterate_next(r, filter->from, out, more);
        if (s || !*more)
            return s;
        s = evaluate_assign(r, filter->n->a, filter->f, *out);
        if (!s)
            s = evaluate(r, filter->n->c, filter->f, &pass);
        if (s || operate_truth(pass))
            return s;
    }
}

static enum status filtered(struct render *r, const struct node *n, struct frame *outer,
                            struct value of, struct value *out)
{
    struct filter *filter = value_alloc(&r->heap, sizeof *filter);
    if (!filter)
        return render_memory(r);
    enum status s = iterate_open(r, of, &filter->from);
    if (!s)
        s = render_enter(r, n->test_scope, outer, &filter->f);
    if (s)
        return s;
    filter->n = n;
    return iterate_generator(r, next_filtered, of, filter, out);
}

static enum status run_for(struct render *r, const struct node *n, struct frame *outer,
                           struct value of, int depth, enum leave *leave)
{
    struct frame *f;
    struct loop *loop = value_alloc(&r->heap, sizeof *loop);
    enum status s = loop ? render_enter(r, n->inner, outer, &f) : render_memory(r);
    if (!s && n->c)
        s = filtered(r, n, outer, of, &of);
    if (!s)
        s = iterate_loop(r, of, loop);
    if (s)
        return s;
    loop->depth0 = depth;
    loop->node = n->flag ? n : NULL;
    loop->outer = outer;
    f->slots[n->loop.slot] = (struct value){.kind = VALUE_LOOP, .loop = loop};
    bool more, whole = false; // did a body run to its end?
    while (!(s = iterate_loop_next(r, loop, &more)) && more) {
        enum leave how = LEAVE_NOT;
        s = evaluate_assign(r, n->a, f, loop->current);
        if (!s)
            s = start(r, n->inner, f);
        if (!s)
            s = render_run(r, n->list, f, &how);
        if (s || how == LEAVE_BREAK)
            break;
        whole |= how == LEAVE_NOT;
    }
    if (s || whole || !n->other)
        return s;
    s = render_enter(r, n->other_scope, outer, &f);
    return s ? s : render_run(r, n->other, f, leave);
}

enum status render_loop(struct render *r, const struct node *n, struct frame *outer,
                        struct value of, int depth, struct value *out)
{
    struct buffer captured = {0}, *before = r->out;
    enum leave leave = LEAVE_NOT;
    r->out = &captured;
    enum status s = run_for(r, n, outer, of, depth, &leave);
    r->out = before;
    return render_take(r, s, &captured, out);
}

/* ---- other statements -------------------------------------------------------------------------
 */

/* Runs a body in its scope, its output captured as a text. */
static enum status capture(struct render *r, const struct node *n, struct frame *outer,
                           struct frame **f, enum leave *leave, struct value *out)
{
    struct buffer captured = {0}, *before = r->out;
    r->out = &captured;
    enum status s = render_enter(r, n->inner, outer, f);
    if (!s)
        s = render_run(r, n->list, *f, leave);
    r->out = before;
    return render_take(r, s, &captured, out);
}

static enum status set_block(struct render *r, const struct node *n, struct frame *f,
                             enum leave *leave)
{
    struct value v;
    struct frame *inner;
    enum status s = capture(r, n, f, &inner, leave, &v);
    if (s || *leave)
        return s;
    if (n->b)
        s = evaluate_filter(r, n->b, inner, v, &v);
    return s ? s : evaluate_assign(r, n->a, f, v);
}

static enum status filter_block(struct render *r, const struct node *n, struct frame *f,
                                enum leave *leave)
{
    struct value v;
    struct frame *inner;
    enum status s = capture(r, n, f, &inner, leave, &v);
    if (s || *leave)
        return s;
    s = evaluate_filter(r, n->a, inner, v, &v);
    return s ? s : show_str(r, v, r->out);
}

static enum status make_macro(struct render *r, const struct node *n, struct frame *f,
                              struct value *out)
{
    struct macro *m = value_alloc(&r->heap, sizeof *m);
    if (!m)
        return render_memory(r);
    *m = (struct macro){.shape = n->macro, .node = n, .outer = f};
    *out = (struct value){.kind = VALUE_MACRO, .macro = m};
    return ST_OK;
}

static enum status call_block(struct render *r, const struct node *n, struct frame *f)
{
    struct value caller = {0}, v;
    enum status s = make_macro(r, n, f, &caller);
    static const struct call nothing;
    if (!s)
        s = n->a ? evaluate_call_block(r, n->a, f, caller, &v)
                 : evaluate_macro(r, caller.macro, &nothing, &v);
    return s ? s : show_str(r, v, r->out);
}

static enum status with_block(struct render *r, const struct node *n, struct frame *f,
                              enum leave *leave)
{
    struct frame *inner;
    enum status s = render_enter(r, n->inner, f, &inner);
    for (const struct node *i = n->other; !s && i; i = i->next) {
        struct value v;
        s = evaluate(r, i->b, f, &v);
        if (!s)
            s = evaluate_assign(r, i->a, inner, v);
    }
    return s ? s : render_run(r, n->list, inner, leave);
}

static enum status run_if(struct render *r, const struct node *n, struct frame *f,
                          enum leave *leave)
{
    for (;;) {
        struct value test;
        enum status s = evaluate(r, n->a, f, &test);
        if (s)
            return s;
        if (operate_truth(test))
            return render_run(r, n->list, f, leave);
        if (!n->other || n->other->kind != NODE_IF || !n->other->flag)
            return render_run(r, n->other, f, leave);
        n = n->other;
    }
}

static enum status statement(struct render *r, const struct node *n, struct frame *f,
                             enum leave *leave)
{
    struct value v;
    enum status s;
    switch (n->kind) {
    case NODE_DATA:
        return render_add(r, r->out, n->text->v, n->text->len);
    case NODE_OUTPUT:
        s = evaluate(r, n->a, f, &v);
        return s ? s : show_str(r, v, r->out);
    case NODE_IF:
        return run_if(r, n, f, leave);
    case NODE_FOR:
        s = evaluate(r, n->b, f, &v);
        return s ? s : run_for(r, n, f, v, 0, leave);
    case NODE_SET:
        s = evaluate(r, n->b, f, &v);
        return s ? s : evaluate_assign(r, n->a, f, v);
    case NODE_SET_BLOCK:
        return set_block(r, n, f, leave);
    case NODE_MACRO:
        s = make_macro(r, n, f, &v);
        return s ? s : evaluate_assign(r, n->a, f, v);
    case NODE_CALL_BLOCK:
        return call_block(r, n, f);
    case NODE_FILTER_BLOCK:
        return filter_block(r, n, f, leave);
    case NODE_WITH:
        return with_block(r, n, f, leave);
    case NODE_BREAK:
    case NODE_CONTINUE:
        *leave = n->kind == NODE_BREAK ? LEAVE_BREAK : LEAVE_CONTINUE;
        return ST_OK;
    default:
        return error_set(r->err, ST_INTERNAL, "chat template: a node that is no statement");
    }
}

enum status render_run(struct render *r, const struct node *list, struct frame *f,
                       enum leave *leave)
{
    enum status s = render_deeper(r);
    for (const struct node *n = list; !s && !*leave && n; n = n->next) {
        r->line = n->line;
        s = render_work(r, 1);
        if (!s)
            s = statement(r, n, f, leave);
    }
    r->depth--;
    return s;
}

enum status template_render(const struct template *t, json_t *variables, int64_t now,
                            const struct template_limits *limits, struct buffer *out,
                            struct error *err)
{
    static const struct template_limits none;
    const struct template_limits *l = limits ? limits : &none;
    size_t output = l->output ? l->output : OUTPUT_DEFAULT;
    struct render r = {.t = t,
                       .variables = variables,
                       .now = now,
                       .heap = {.limit = l->memory ? l->memory : MEMORY_DEFAULT},
                       .steps = l->steps ? l->steps : STEPS_DEFAULT,
                       .target = out,
                       .out = out,
                       .output_max = out->len > SIZE_MAX - output ? SIZE_MAX : out->len + output,
                       .err = err};
    struct frame *root;
    enum leave leave = LEAVE_NOT;
    r.globals = value_array(&r.heap, t->n_globals + 1, sizeof *r.globals);
    enum status s = r.globals ? render_enter(&r, &t->root, NULL, &root) : render_memory(&r);
    if (!s)
        s = render_run(&r, t->body, root, &leave);
    arena_free(&r.heap.arena);
    return s;
}
