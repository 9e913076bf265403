/*
 * What a field may hold: every type's check, its words and its schema. For the files of the field
 * table (fields.c, field_types.c) only.
 */
#ifndef OFTD_SERVER_FIELD_TYPES_H
#define OFTD_SERVER_FIELD_TYPES_H

#include "server/fields.h"

enum field_use { USE, USE_IGNORED, USE_NEUTRAL };

enum field_type {
    TYPE_NONE,
    TYPE_STRING,
    TYPE_TEXT,
    TYPE_NAME,
    TYPE_BOOL,
    TYPE_INT,
    TYPE_NUMBER,
    TYPE_ENUM,
    TYPE_NAMES,
    TYPE_NAME_LIST,
    TYPE_ROW_ADAPTERS,
    TYPE_STRENGTH,
    TYPE_PROMPT,
    TYPE_STOP,
    TYPE_TEXTS,
    TYPE_TEXT_OR_TEXTS,
    TYPE_IDS,
    TYPE_IDS_LIST,
    TYPE_NUMBERS,
    TYPE_ELEMENTS,
    TYPE_SHAPE,
    TYPE_OUTPUTS,
    TYPE_BIAS,
    TYPE_OBJECT,
    TYPE_LIST,
    TYPE_CONTENT,
    TYPE_TOOL_CHOICE,
    TYPE_SCHEMA
};

struct field_row {
    enum field_set set;
    enum field_use use;
    const char *name;
    enum field_type type;
    bool required;
    double low, high;
    const char *extra; /* words, a set's name, or the neutral value */
    const char *help;
};

/* Only the shape of the value; objects inside are checked by their own rows. */
bool field_type_fits(const struct field_row *r, const json_t *v);
/* "an integer from 1 to 128" into text. */
void field_type_describe(const struct field_row *r, char *text, size_t size);
/* The schema of the value; NULL when memory runs out. */
json_t *field_type_schema(const struct field_row *r);

#endif
