/*
 * Attributes, items and slices, with the order in which the sandbox looks: `a.b` is an attribute of
 * the type first and an item second, `a["b"]` the other way round; what is neither is undefined.
 */
#ifndef OFTD_CORE_TEMPLATE_ACCESS_H
#define OFTD_CORE_TEMPLATE_ACCESS_H

#include "core/template/render.h"

/* known: some type has an attribute of that name (natives_is_attribute). */
enum status access_attribute(struct render *r, struct value of, const struct text *name, bool known,
                             struct value *out);
enum status access_item(struct render *r, struct value of, struct value key, struct value *out);
/* Each bound may be MISSING or none. */
enum status access_slice(struct render *r, struct value of, const struct value bounds[3],
                         struct value *out);
/* What filters name by "a.b.0"; none stands for the item itself. */
enum status access_path(struct render *r, struct value of, struct value path, struct value *out);

#endif
