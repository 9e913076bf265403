/*
 * The rows of fields.def as data: the check of a body, the reading of what passed, and the schema
 * of a set. What a value of a type is stands in field_types.c.
 */
#include "server/fields.h"

#include <string.h>

#include "core/buffer.h"
#include "core/json.h"
#include "server/field_types.h"

static const struct field_row rows[] = {
#define SET(set, conditions)
#define FIELD(set, name, type, required, low, high, extra, help)                                   \
    {FIELDS_##set, USE, name, TYPE_##type, required, low, high, extra, help},
#define IGNORED(set, name)                                                                         \
    {FIELDS_##set, USE_IGNORED, name, TYPE_NONE, false, 0, 0, "", "accepted, changes nothing"},
#define NEUTRAL(set, name, json)                                                                   \
    {FIELDS_##set, USE_NEUTRAL, name, TYPE_NONE, false, 0, 0, json, "only its neutral value"},
#define ALSO(set, other)
#include "server/fields.def"
#undef SET
#undef FIELD
#undef IGNORED
#undef NEUTRAL
#undef ALSO
};
#define N_ROWS (sizeof rows / sizeof rows[0])

static const struct {
    const char *name, *conditions;
} sets[FIELDS_COUNT_] = {
#define SET(set, conditions) [FIELDS_##set] = {#set, conditions},
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
};

/* Which sets hold the rows of another, too. */
static const struct {
    enum field_set set, other;
} also[] = {
#define SET(set, conditions)
#define FIELD(set, name, type, required, low, high, extra, help)
#define IGNORED(set, name)
#define NEUTRAL(set, name, json)
#define ALSO(set, other) {FIELDS_##set, FIELDS_##other},
#include "server/fields.def"
#undef SET
#undef FIELD
#undef IGNORED
#undef NEUTRAL
#undef ALSO
};

static bool holds(enum field_set set, const struct field_row *r)
{
    if (r->set == set)
        return true;
    for (size_t i = 0; i < sizeof also / sizeof also[0]; i++)
        if (also[i].set == set && also[i].other == r->set)
            return true;
    return false;
}

bool fields_shared(enum field_set set)
{
    for (size_t i = 0; i < sizeof also / sizeof also[0]; i++)
        if (also[i].other == set)
            return true;
    return false;
}

static enum field_set set_named(const char *name, size_t len)
{
    for (int i = 1; i < FIELDS_COUNT_; i++)
        if (strlen(sets[i].name) == len && !memcmp(sets[i].name, name, len))
            return (enum field_set)i;
    return FIELDS_none;
}

static enum status refuse_value(const struct field_row *r, struct error *err)
{
    char expected[200];
    field_type_describe(r, expected, sizeof expected);
    return error_param(err, ST_INVALID_VALUE, r->name, "%s: %s is expected", r->name, expected);
}

static enum status refuse_name(enum field_set set, const char *name, struct error *err)
{
    const char *names[N_ROWS];
    size_t n = 0;
    for (size_t i = 0; i < N_ROWS; i++)
        if (holds(set, &rows[i]))
            names[n++] = rows[i].name;
    const char *near = nearest_word(name, names, n);
    if (near)
        return error_param(err, ST_UNKNOWN_FIELD, name, "unknown field '%.80s': do you mean '%s'?",
                           name, near);
    return error_param(err, ST_UNKNOWN_FIELD, name, "unknown field '%.80s'", name);
}

/* ---- checking ---- */

static const struct field_row *row_named(enum field_set set, const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (holds(set, &rows[i]) && !strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

static enum status check_neutral(const struct field_row *r, const json_t *v, struct error *err)
{
    json_t *neutral = json_loads(r->extra, JSON_DECODE_ANY, NULL);
    if (!neutral)
        return error_memory(err, "checking a field");
    bool equal = json_equal(neutral, v) || (json_is_number(neutral) && json_is_number(v) &&
                                            json_number_value(neutral) == json_number_value(v));
    json_decref(neutral);
    if (equal)
        return ST_OK;
    return error_param(err, ST_NOT_SUPPORTED, r->name,
                       "%s is not supported: leave it out or send %s", r->name, r->extra);
}

/* The object's type is none of the row's sets'. */
static enum status refuse_type(const struct field_row *r, const json_t *type, struct error *err)
{
    struct buffer words = {0};
    for (const char *w = r->extra; *w; w += strcspn(w, "|"), w += *w == '|')
        if (*w != '!')
            buffer_format(&words, "%s%s", words.len ? "|" : "",
                          row_named(set_named(w, strcspn(w, "|")), "type")->extra);
    for (const char *w = strchr(r->extra, '!'); w && json_is_string(type); w = strchr(w + 1, '!'))
        if (strcspn(w, "|") == json_string_length(type) + 1 &&
            !memcmp(w + 1, json_string_value(type), json_string_length(type))) {
            buffer_free(&words);
            return error_param(err, ST_NOT_SUPPORTED, r->name, "%s: type '%s' is not supported",
                               r->name, json_string_value(type));
        }
    enum status s = words.failed ? error_memory(err, "checking a field")
                                 : error_param(err, ST_INVALID_VALUE, "type",
                                               "type: one of %.*s is expected in %s",
                                               (int)words.len, words.v, r->name);
    buffer_free(&words);
    return s;
}

/* Which of the row's sets the object is of: its type says so. */
static enum status check_kind(const struct field_row *r, const json_t *v, struct error *err)
{
    const json_t *type = field(v, "type");
    for (const char *w = r->extra; *w; w += strcspn(w, "|"), w += *w == '|') {
        enum field_set set = set_named(w, strcspn(w, "|"));
        const struct field_row *own = set ? row_named(set, "type") : NULL;
        if (set && (!type || field_type_fits(own, type)))
            return fields_check(set, v, err);
    }
    return refuse_type(r, type, err);
}

/* An object of the row's set, of one of them, or any. */
static enum status check_object(const struct field_row *r, const json_t *v, struct error *err)
{
    if (strchr(r->extra, '|') && json_is_object(v))
        return check_kind(r, v, err);
    if (*r->extra)
        return fields_check(set_named(r->extra, strcspn(r->extra, "|")), v, err);
    return json_is_object(v) ? ST_OK : refuse_value(r, err);
}

static enum status check_value(const struct field_row *r, const json_t *v, struct error *err)
{
    if (r->use == USE_IGNORED || (json_is_null(v) && !r->required))
        return ST_OK;
    if (r->use == USE_NEUTRAL)
        return check_neutral(r, v, err);
    if (!field_type_fits(r, v))
        return refuse_value(r, err);
    enum status s = ST_OK;
    if (r->type == TYPE_OBJECT || (r->type == TYPE_TOOL_CHOICE && json_is_object(v)))
        s = check_object(r, v, err);
    bool list = r->type == TYPE_LIST || r->type == TYPE_CONTENT;
    for (size_t i = 0; list && !s && i < json_array_size(v); i++)
        s = check_object(r, json_array_get(v, i), err);
    return s;
}

enum status fields_check(enum field_set set, const json_t *body, struct error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(body))
        return error_set(err, ST_INVALID_VALUE, "an object is expected");
    json_object_foreach((json_t *)body, key, value)
    {
        const struct field_row *r = row_named(set, key);
        enum status s = r ? check_value(r, value, err) : refuse_name(set, key, err);
        if (s)
            return s;
    }
    for (size_t i = 0; i < N_ROWS; i++)
        if (holds(set, &rows[i]) && rows[i].required && !json_object_get(body, rows[i].name))
            return error_param(err, ST_MISSING_FIELD, rows[i].name, "%s is required", rows[i].name);
    return ST_OK;
}

/* ---- schemas ---- */

static json_t *schema_of_row(const struct field_row *r)
{
    json_t *schema;
    if (r->use == USE_IGNORED)
        schema = json_object();
    else if (r->use == USE_NEUTRAL)
        schema = json_pack("{s:[o, n]}", "enum", json_loads(r->extra, JSON_DECODE_ANY, NULL));
    else if (r->required)
        schema = field_type_schema(r);
    else
        schema = json_pack("{s:[o, {s:s}]}", "anyOf", field_type_schema(r), "type", "null");
    if (schema)
        json_object_set_new(schema, "description", json_string(r->help));
    return schema;
}

const char *fields_name(enum field_set set)
{
    return set ? sets[set].name : "";
}

/* A field that is null is as if it were absent: what an alternative requires is not null there. */
static bool require_values(json_t *alternative)
{
    size_t i;
    json_t *name, *properties = json_object_get(alternative, "properties");
    bool whole = properties || !json_object_set_new(alternative, "properties", json_object());
    properties = json_object_get(alternative, "properties");
    json_array_foreach(json_object_get(alternative, "required"), i, name)
    {
        json_t *value = whole ? json_pack("{s:{s:s}}", "not", "type", "null") : NULL;
        whole = whole && !json_object_set_new(properties, json_string_value(name), value);
    }
    return whole;
}

static json_t *conditions_of(enum field_set set)
{
    static const char *const kinds[] = {"oneOf", "anyOf"};
    json_t *conditions = json_loads(sets[set].conditions, 0, NULL);
    bool whole = conditions != NULL;
    for (size_t k = 0; k < 2 && whole; k++) {
        size_t i;
        json_t *alternative, *list = json_object_get(conditions, kinds[k]);
        json_array_foreach(list, i, alternative) whole = whole && require_values(alternative);
    }
    if (whole)
        return conditions;
    json_decref(conditions);
    return NULL;
}

bool fields_optional(enum field_set set)
{
    bool any = *sets[set].conditions != 0;
    for (size_t i = 0; i < N_ROWS && !any; i++)
        any = rows[i].set == set && rows[i].required;
    return !any;
}

json_t *fields_schema(enum field_set set)
{
    json_t *properties = json_object();
    bool whole = properties != NULL;
    for (size_t i = 0; i < N_ROWS && whole; i++)
        if (holds(set, &rows[i]))
            whole = !json_object_set_new(properties, rows[i].name, schema_of_row(&rows[i]));
    json_t *schema = whole ? json_pack("{s:s, s:b, s:O}", "type", "object", "additionalProperties",
                                       0, "properties", properties)
                           : NULL;
    json_decref(properties);
    if (!schema || !*sets[set].conditions)
        return schema;
    json_t *conditions = conditions_of(set);
    whole = conditions && !json_object_update(schema, conditions);
    json_decref(conditions);
    if (whole)
        return schema;
    json_decref(schema);
    return NULL;
}

/* ---- reading ---- */

const json_t *field(const json_t *body, const char *name)
{
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

int64_t json_as_int(const json_t *value)
{
    return json_is_integer(value) ? json_integer_value(value) : (int64_t)json_real_value(value);
}

int64_t field_int(const json_t *body, const char *name, int64_t absent)
{
    const json_t *v = field(body, name);
    return v ? json_as_int(v) : absent;
}

double field_number(const json_t *body, const char *name, double absent)
{
    const json_t *v = field(body, name);
    return v ? json_number_value(v) : absent;
}

bool field_bool(const json_t *body, const char *name, bool absent)
{
    const json_t *v = field(body, name);
    return v ? json_is_true(v) : absent;
}

const char *field_text(const json_t *body, const char *name)
{
    const json_t *v = field(body, name);
    return v ? json_string_value(v) : NULL;
}
