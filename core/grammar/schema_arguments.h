/* How the arguments of a call stand that are no JSON: each between tags, or, tags NULL, as Python's
 * keywords. */
#ifndef OFTD_CORE_GRAMMAR_SCHEMA_ARGUMENTS_H
#define OFTD_CORE_GRAMMAR_SCHEMA_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/grammar/schema.h"
#include "core/grammar/values.h"

/* Whether an argument may have this name. */
bool arguments_hold(const struct schema_tags *tags, const char *key, size_t len);
/* A name where no schema says any. */
struct fragment arguments_any_name(struct builder *b);
/* One argument; name, value: as they are written; other: the value is no string. Takes both
 * fragments. */
struct fragment arguments_one(struct values *v, const struct schema_tags *tags,
                              struct fragment name, struct fragment value, bool other);
/* What stands around names and values: a space in word is white space as JSON has it, ~ a space, ^
 * a line feed or nothing, # a number, and a tag that is a special token, or has one within it, may
 * come as that token. */
struct fragment arguments_word(struct values *v, const char *word);

#endif
