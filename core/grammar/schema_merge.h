/* Several JSON schemas as one: what holds where all of them hold. */
#ifndef OFTD_CORE_GRAMMAR_SCHEMA_MERGE_H
#define OFTD_CORE_GRAMMAR_SCHEMA_MERGE_H

#include <jansson.h>

#include "core/grammar/builder.h"

/* What "#" or "#/a/b" points to, or NULL. Borrowed. */
const json_t *schema_find(const json_t *root, const char *pointer);
/* Does this keyword say nothing about values? */
bool schema_idle(const char *keyword);
/* schema without `keyword`, and with `other` (for $ref its string; for allOf NULL: all members)
 * merged in. *out is new. INVALID_VALUE: why tells which keywords cannot be merged. b counts the
 * work. */
enum status schema_merge(struct builder *b, const json_t *root, const json_t *schema,
                         const char *keyword, const json_t *other, json_t **out, char *why,
                         size_t size);
/* Can no two schemas of the list hold at once? True only if types or a constant of a property that
 * each requires tell them apart. */
bool schema_disjoint(struct builder *work, const json_t *root, const json_t *list);

#endif
