/* Names of members that an object's schema does not name. */
#ifndef OFTD_CORE_GRAMMAR_SCHEMA_NAMES_H
#define OFTD_CORE_GRAMMAR_SCHEMA_NAMES_H

#include "core/grammar/values.h"

/* A name that is none of the properties' (at least one), in plain characters. */
struct fragment schema_other_name(struct values *v, const json_t *properties);

#endif
