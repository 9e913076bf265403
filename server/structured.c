#include "server/structured.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "server/fields.h"

/* value as text that lives as long as q. A string that stands for a schema is its text. */
static enum status put(struct request *q, enum grammar_kind kind, const json_t *value, bool literal,
                       struct generate_request *r, struct error *err)
{
    char *text = NULL;
    r->grammar = kind;
    if (literal && json_is_string(value)) {
        r->grammar_text = (struct text){json_string_value(value), json_string_length(value)};
        return ST_OK;
    }
    text = json_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) {
        r->grammar_text.len = strlen(text);
        r->grammar_text.v = arena_strdup(&q->arena, text);
        free(text);
    }
    return text && r->grammar_text.v ? ST_OK : error_memory(err, "reading the request");
}

static enum status read_format(struct request *q, const json_t *format, struct generate_request *r,
                               struct error *err)
{
    const char *type = field_text(format, "type");
    const json_t *named = field(format, "json_schema");
    if (!strcmp(type, "text"))
        return ST_OK;
    if (!strcmp(type, "json_object")) {
        r->grammar = GRAMMAR_JSON_OBJECT;
        r->grammar_text = (struct text){"", 0};
        return ST_OK;
    }
    if (!named)
        return error_param(err, ST_MISSING_FIELD, "response_format.json_schema",
                           "response_format json_schema needs a json_schema");
    const json_t *schema = field(named, "schema");
    if (schema)
        return put(q, GRAMMAR_JSON_SCHEMA, schema, true, r, err);
    r->grammar = GRAMMAR_JSON_SCHEMA;
    r->grammar_text = (struct text){"true", 4};
    return ST_OK;
}

static const struct {
    const char *name, *param;
    enum grammar_kind kind;
    bool literal;
} kinds[] = {{"json", "structured_outputs.json", GRAMMAR_JSON_SCHEMA, true},
             {"regex", "structured_outputs.regex", GRAMMAR_REGEX, true},
             {"choice", "structured_outputs.choice", GRAMMAR_CHOICE, false},
             {"grammar", "structured_outputs.grammar", GRAMMAR_GBNF, true}};

static enum status read_outputs(struct request *q, const json_t *outputs,
                                struct generate_request *r, struct error *err)
{
    int found = 0;
    enum status s = ST_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !s; i++) {
        const json_t *value = field(outputs, kinds[i].name);
        if (!value)
            continue;
        found++;
        r->grammar_param = kinds[i].param;
        s = put(q, kinds[i].kind, value, kinds[i].literal, r, err);
    }
    if (field_bool(outputs, "json_object", false)) {
        found++;
        r->grammar = GRAMMAR_JSON_OBJECT;
        r->grammar_text = (struct text){"", 0};
    }
    if (!s && found != 1)
        return error_param(err, ST_INVALID_VALUE, "structured_outputs",
                           "structured_outputs must say one of json, json_object, regex, choice "
                           "and grammar, got %d",
                           found);
    return s;
}

enum status structured_read(struct request *q, const json_t *body, const char *schema_param,
                            struct generate_request *r, struct error *err)
{
    const json_t *format = field(body, "response_format");
    const json_t *outputs = field(body, "structured_outputs");
    enum status s = format ? read_format(q, format, r, err) : ST_OK;
    if (format && r->grammar != GRAMMAR_CALLS)
        r->grammar_param = schema_param;
    if (s || !outputs)
        return s;
    if (r->grammar)
        return error_param(err, ST_INVALID_VALUE, "structured_outputs",
                           "response_format and structured_outputs cannot both say what the text "
                           "must be");
    return read_outputs(q, outputs, r, err);
}
