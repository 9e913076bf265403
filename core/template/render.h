/*
 * One rendering: its memory, its limits, where its output goes, how it fails. Everything that runs
 * takes it first. A function that fails has set the error; nothing needs to be undone, since the
 * heap goes as a whole (a struct buffer that a caller opened is the caller's to free).
 */
#ifndef OFTD_CORE_TEMPLATE_RENDER_H
#define OFTD_CORE_TEMPLATE_RENDER_H

#include "core/buffer.h"
#include "core/template/node.h"

#define RENDER_LEVELS 1200 /* of recursion, some 400 bytes of stack each */

struct global {
    bool known;
    struct value v;
};

struct render {
    const struct template *t;
    json_t *variables;
    int64_t now;
    struct heap heap;
    uint64_t steps; /* left */
    int depth;
    int line; /* of the statement that runs, for messages */
    struct global *globals;
    struct buffer *target; /* the caller's; its bytes count against output_max */
    struct buffer *out;    /* where output goes now: target, or what a block captures */
    size_t output_max;     /* length of target that may not be passed */
    struct error *err;
};

/* The slots of an entered scope. */
struct frame {
    const struct frame *parent;
    struct value slots[];
};

struct macro {
    const struct macro_shape *shape;
    const struct node *node;
    struct frame *outer;
};

/* Sets the error, with the line. */
void render_say(struct render *r, enum status s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same as a value, so that every reader sees that it is a failure. */
#define render_fail(r, ...) (render_say(r, ST_TEMPLATE_FAILED, __VA_ARGS__), ST_TEMPLATE_FAILED)
#define render_unsupported(r, ...)                                                                 \
    (render_say(r, ST_TEMPLATE_UNSUPPORTED, __VA_ARGS__), ST_TEMPLATE_UNSUPPORTED)
/* After an allocation from r->heap failed. */
static inline enum status render_memory(struct render *r)
{
    if (!r->heap.over)
        return error_memory(r->err, "rendering a chat template");
    render_say(r, ST_LIMIT_EXCEEDED, "its values take more than %zu bytes", r->heap.limit);
    return ST_LIMIT_EXCEEDED;
}
/* There are no more steps; no more levels. */
enum status render_spent(struct render *r);
enum status render_too_deep(struct render *r);
/* Takes n steps. */
static inline enum status render_work(struct render *r, uint64_t n)
{
    if (n > r->steps)
        return render_spent(r);
    r->steps -= n;
    return ST_OK;
}
/* One level of recursion; pairs with r->depth--, also after a failure. */
static inline enum status render_deeper(struct render *r)
{
    return r->depth++ < RENDER_LEVELS ? ST_OK : render_too_deep(r);
}
/* Appends to b, whichever it is, within the limits. */
enum status render_add(struct render *r, struct buffer *b, const void *data, size_t n);
/* A text of what b holds; frees b. s: what went before; its failure passes through. */
enum status render_take(struct render *r, enum status s, struct buffer *b, struct value *out);
/* A text of a copy. */
enum status render_text(struct render *r, const char *v, size_t len, struct value *out);
/* Bytes that text holds already. */
enum status render_part(struct render *r, const struct text *of, size_t from, size_t to,
                        struct value *out);
enum status render_list(struct render *r, enum value_kind kind, size_t n, struct value *out,
                        struct value **items);
/* No value, with a sentence. */
enum status render_undefined(struct render *r, const char *hint, struct value *out);

/* Runs statements. *leave: a break or continue stopped them. */
enum leave { LEAVE_NOT, LEAVE_BREAK, LEAVE_CONTINUE };
enum status render_run(struct render *r, const struct node *list, struct frame *f,
                       enum leave *leave);
/* A frame for a scope, with its slots as they start. */
enum status render_enter(struct render *r, const struct scope *s, const struct frame *parent,
                         struct frame **out);
/* The body of a recursive loop over `of`, as a text (loop.c calls it). */
enum status render_loop(struct render *r, const struct node *n, struct frame *outer,
                        struct value of, int depth, struct value *out);

#endif
