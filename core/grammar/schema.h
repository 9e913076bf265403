/*
 * JSON Schema (2020-12, and what draft 7 has in common with it) as a grammar of JSON texts. Every
 * text of the grammar is valid; not every valid text is of the grammar: properties come in the
 * schema's order, an object has no others unless additionalProperties says so or it names none, and
 * numbers with bounds have no exponent.
 */
#ifndef OFTD_CORE_GRAMMAR_SCHEMA_H
#define OFTD_CORE_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "core/grammar/builder.h"

/* Defines rule 0. INVALID_VALUE names keyword and place of what is not supported or contradicts
 * itself. schema is borrowed. */
enum status schema_read(struct builder *b, const json_t *schema, struct error *err);
/* The same as a fragment, with values that other schemas share; it is its own root. err's param is
 * the place within the schema: .properties.a. */
struct values;
enum status schema_fragment(struct values *v, const json_t *schema, struct fragment *out,
                            struct error *err);
/* Between what the arguments of a call stand that are no JSON: key, a name, value, a value, end
 * (words of arguments_word). other (NULL: value too) stands before what is no string: so the text
 * tells. */
struct schema_tags {
    const char *key, *value, *other, *end;
    const char *stop; /* within end: what no value may hold */
};
/* The arguments of a call by their schema (NULL: any), as f's keywords between brackets in v's
 * spelling (tags NULL), or in tags, where a string stands as it is and, unless the tags tell, what
 * may be a string is one (kinds.h). tags: the first byte of stop is b->barred. */
enum status schema_arguments(struct values *v, const json_t *schema, const struct schema_tags *tags,
                             struct fragment *out, struct error *err);
/* Any object. */
enum status schema_any_object(struct builder *b, struct error *err);

#endif
