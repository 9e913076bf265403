/*
 * What the files of filters share; the filters themselves are natives.def's.
 */
#ifndef OFTD_CORE_TEMPLATE_FILTERS_H
#define OFTD_CORE_TEMPLATE_FILTERS_H

#include "core/template/render.h"

/* Was an argument given, and is it not none? */
static inline bool filters_given(struct value v)
{
    return v.kind != VALUE_MISSING && v.kind != VALUE_NONE;
}
/* What an item is ordered by: its attribute (access_path), `otherwise` where that is undefined, in
 * lower case unless case counts. */
enum status filters_key(struct render *r, struct value v, struct value attribute,
                        struct value otherwise, bool case_sensitive, struct value *out);

#endif
