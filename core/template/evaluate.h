/*
 * Expressions to values, and calls.
 */
#ifndef OFTD_CORE_TEMPLATE_EVALUATE_H
#define OFTD_CORE_TEMPLATE_EVALUATE_H

#include "core/template/render.h"

enum status evaluate(struct render *r, const struct node *n, struct frame *f, struct value *out);
/* Binds the target of a for, set or with. */
enum status evaluate_assign(struct render *r, const struct node *target, struct frame *f,
                            struct value v);
/* A filter or test with evaluated arguments in c->args and c->named. */
enum status evaluate_native(struct render *r, const struct native *native, struct value self,
                            const struct call *given, struct value *out);
/* A filter node applied to a value. */
enum status evaluate_filter(struct render *r, const struct node *n, struct frame *f,
                            struct value to, struct value *out);
/* What a macro gives when it is called. */
enum status evaluate_macro(struct render *r, const struct macro *macro, const struct call *given,
                           struct value *out);
/* A call with one more keyword, `caller`. */
enum status evaluate_call_block(struct render *r, const struct node *n, struct frame *f,
                                struct value caller, struct value *out);

#endif
