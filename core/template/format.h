/*
 * Python's three ways to put values into a text: "%s" % x, "{}".format(x), and the format
 * specifications they share.
 */
#ifndef OFTD_CORE_TEMPLATE_FORMAT_H
#define OFTD_CORE_TEMPLATE_FORMAT_H

#include "core/template/render.h"

/* fmt % with: a tuple gives several values, a dict named ones. */
enum status format_percent(struct render *r, const struct text *fmt, struct value with,
                           struct value *out);
/* fmt.format(*args, **named) */
enum status format_braces(struct render *r, const struct text *fmt, const struct call *c,
                          struct value *out);

#endif
