/*
 * The tables of filters, tests, functions and methods (natives.def), by name.
 */
#ifndef OFTD_CORE_TEMPLATE_NATIVES_H
#define OFTD_CORE_TEMPLATE_NATIVES_H

#include "core/template/render.h"

/* NULL: there is none. */
const struct native *natives_filter(const struct text *name);
const struct native *natives_test(const struct text *name);
const struct native *natives_function(const struct text *name);

enum natives_found {
    NATIVES_NONE,   /* the type has no such attribute */
    NATIVES_UNSAFE, /* Python has it, the sandbox hides it */
    NATIVES_LACKED, /* Python has it, we do not */
    NATIVES_FOUND
};
const struct native *natives_method(enum value_kind kind, const struct text *name,
                                    enum natives_found *found);
/* Has any type an attribute of that name? (Also names that begin with two underscores.) */
bool natives_is_attribute(const struct text *name);
/* Is it a function of jinja2 that we do not have? */
bool natives_lacks_function(const struct text *name);
/* Is it a method that Python's types have and none of ours has? */
bool natives_lacks_method(const struct text *name);

/* Gives each parameter its argument. Fails for too many, too few, unknown ones. args has room for
 * NATIVES_PARAMETERS values. */
#define NATIVES_PARAMETERS 8
enum status natives_bind(struct render *r, const struct call *given, struct value *args,
                         struct call *out);

/* An argument that is an integer; `otherwise` if it was not given. */
enum status natives_number(struct render *r, struct value v, int64_t otherwise, int64_t *out);

/* What the rows of natives.def name. */
#define NATIVE_FILTER(name, function, parameters, required)                                        \
    enum status function(struct render *r, const struct call *c, struct value *out);
#define NATIVE_TEST     NATIVE_FILTER
#define NATIVE_FUNCTION NATIVE_FILTER
#define NATIVE_METHOD(kind, name, function, parameters, required)                                  \
    enum status function(struct render *r, const struct call *c, struct value *out);
#define NATIVE_HIDDEN(kind, name, found)
#include "core/template/natives.def"
#undef NATIVE_FILTER
#undef NATIVE_TEST
#undef NATIVE_FUNCTION
#undef NATIVE_METHOD
#undef NATIVE_HIDDEN

#endif
