/*
 * Python's operators: arithmetic, comparison, truth, containment, length.
 */
#ifndef OFTD_CORE_TEMPLATE_OPERATE_H
#define OFTD_CORE_TEMPLATE_OPERATE_H

#include "core/template/render.h"

bool operate_truth(struct value v);
/* + - * / // % ** */
enum status operate_binary(struct render *r, enum operation op, struct value a, struct value b,
                           struct value *out);
enum status operate_negate(struct render *r, struct value a, bool minus, struct value *out);
/* == != < <= > >= in, not in */
enum status operate_compare(struct render *r, enum operation op, struct value a, struct value b,
                            bool *out);
enum status operate_equal(struct render *r, struct value a, struct value b, bool *out);
/* a < b, where both must be of an order. */
enum status operate_less(struct render *r, struct value a, struct value b, bool *out);
/* Is item in a container? */
enum status operate_in(struct render *r, struct value item, struct value in, bool *out);
/* The same thing, not only an equal one. */
bool operate_identical(struct value a, struct value b);
/* -1 for what has no length. */
int64_t operate_length(struct value v);
/* Fails as Python does for what is no integer. */
enum status operate_index(struct render *r, struct value v, int64_t *out);
/* What happens to who uses a value that is not there. */
void operate_say_undefined(struct render *r, const struct undefined *u);
static inline enum status operate_undefined(struct render *r, const struct undefined *u)
{
    operate_say_undefined(r, u);
    return ST_TEMPLATE_FAILED;
}

#endif
