/*
 * What types of value a schema allows, as far as it says so: where a text does not tell a string
 * from other values, its readers and the grammars that bind it ask here, and so agree.
 */
#ifndef OFTD_CORE_GRAMMAR_KINDS_H
#define OFTD_CORE_GRAMMAR_KINDS_H

#include <jansson.h>

enum kind {
    KIND_STRING = 1,
    KIND_NUMBER = 2,
    KIND_BOOLEAN = 4,
    KIND_NULL = 8,
    KIND_NESTED = 16 /* an object or an array */
};

enum kind kind_of(const json_t *value);
/* Of a schema that is part of root (for $ref); 0: it does not say. */
unsigned kinds_allowed(const json_t *root, const json_t *schema);

#endif
