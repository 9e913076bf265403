/*
 * Bodies: the check of a JSON object against the field table (fields.def), typed reading of what
 * passed, and the schemas of the same rows.
 */
#ifndef OFTD_SERVER_FIELDS_H
#define OFTD_SERVER_FIELDS_H

#include "core/status.h"

enum field_set {
    FIELDS_none,
#define SET(set, conditions) FIELDS_##set,
#define FIELD(set, name, type, required, low, high, extra, help)
#define IGNORED(set, name)
#define NEUTRAL(set, name, json)
#define ALSO(set, other)
#include "server/fields.def"
#undef SET
#undef FIELD
#undef IGNORED
#undef NEUTRAL
#undef ALSO
    FIELDS_COUNT_
};

/* Checks that body is an object that holds only known fields with values of their types and
 * ranges, and all required ones. UNKNOWN_FIELD (naming the nearest), MISSING_FIELD, INVALID_VALUE,
 * NOT_SUPPORTED; err->param is the field. */
enum status fields_check(enum field_set set, const json_t *body, struct error *err);
/* Is it no body and no object of its own, only rows that others hold too (ALSO)? */
bool fields_shared(enum field_set set);
/* The name of a set and its schema ({"type":"object", ...}); objects inside are references to
 * #/components/schemas/NAME. NULL when memory runs out. */
const char *fields_name(enum field_set set);
json_t *fields_schema(enum field_set set);
/* Nothing must be there: a body may be missing. */
bool fields_optional(enum field_set set);

/* Reading a checked body: absent and null are the default. */
const json_t *field(const json_t *body, const char *name); /* NULL: absent or null */
int64_t field_int(const json_t *body, const char *name, int64_t absent);
double field_number(const json_t *body, const char *name, double absent);
bool field_bool(const json_t *body, const char *name, bool absent);
const char *field_text(const json_t *body, const char *name); /* NULL: absent */
/* The value of an INT or NUMBER itself (2 and 2.0 are both integers). */
int64_t json_as_int(const json_t *value);

#endif
