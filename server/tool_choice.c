/*
 * A call that may come is written in the base's own way, which its chat template shows. A call that
 * must come (required, or a function by name) is no matter of that way: the text is held to a JSON
 * list of calls by a grammar made of the tools' schemas, as vLLM does it, so that any base can be
 * made to call, and its arguments are valid. Definitions of a schema move to the root, where its
 * references look for them.
 */
#include "server/tool_choice.h"

#include <stdlib.h>
#include <string.h>

#include "server/fields.h"
#include "server/server.h"

/* What one call of a tool must be; its definitions go to defs. NULL when memory runs out. */
static json_t *call_schema(const json_t *function, json_t *defs)
{
    const json_t *given = field(function, "parameters");
    json_t *parameters =
        given ? json_incref((json_t *)given) : json_pack("{s:s}", "type", "object");
    const json_t *own = given ? field(given, "$defs") : NULL;
    bool whole = parameters && (!own || !json_object_update_missing(defs, (json_t *)own));
    json_t *schema =
        whole ? json_pack("{s:s, s:{s:{s:s}, s:O}, s:[s, s], s:b}", "type", "object", "properties",
                          "name", "const", field_text(function, "name"), "parameters", parameters,
                          "required", "name", "parameters", "additionalProperties", 0)
              : NULL;
    json_decref(parameters);
    return schema;
}

/* A list of calls of the function (NULL: of any). *known: the tools have it. */
static json_t *calls_schema(const json_t *tools, const char *name, bool one, bool *known)
{
    json_t *any = json_array(), *defs = json_object();
    bool whole = any && defs;
    for (size_t i = 0; whole && i < json_array_size(tools); i++) {
        const json_t *function = field(json_array_get(tools, i), "function");
        if (name && strcmp(field_text(function, "name"), name))
            continue;
        *known = true;
        whole = !json_array_append_new(any, call_schema(function, defs));
    }
    json_t *schema = whole ? json_pack("{s:s, s:i, s:{s:O}, s:O}", "type", "array", "minItems", 1,
                                       "items", "anyOf", any, "$defs", defs)
                           : NULL;
    json_decref(any);
    json_decref(defs);
    if (!schema || !one || !json_object_set_new(schema, "maxItems", json_integer(1)))
        return schema;
    json_decref(schema);
    return NULL;
}

static enum status demand(struct request *q, struct completion *c, const char *name,
                          struct error *err)
{
    const json_t *format = field(c->body, "response_format");
    const char *type = format ? field_text(format, "type") : "text";
    struct generate_request *r = &c->request;
    bool known = false;
    if (strcmp(type, "text") || field(c->body, "structured_outputs"))
        return error_param(err, ST_INVALID_VALUE, "tool_choice",
                           "a call that must come and another form of the text exclude each other");
    json_t *schema = calls_schema(field(c->body, "tools"), name, name || c->one_call, &known);
    char *text = schema ? json_dumps(schema, JSON_COMPACT) : NULL;
    json_decref(schema);
    if (text) {
        r->grammar = GRAMMAR_JSON_SCHEMA;
        r->grammar_text.len = strlen(text);
        r->grammar_text.v = arena_strdup(&q->arena, text);
        free(text);
    }
    if (!text || !r->grammar_text.v)
        return error_memory(err, "reading the request");
    if (!known)
        return error_param(err, ST_INVALID_VALUE, "tool_choice", "tools has no function%s%.200s",
                           name ? " " : "", name ? name : "");
    c->tool_format = TOOLS_LIST;
    c->named_call = name != NULL;
    return ST_OK;
}

enum status tool_choice_read(struct request *q, struct completion *c, struct error *err)
{
    const json_t *choice = field(c->body, "tool_choice");
    const char *word = json_string_value(choice);
    struct text template = {0};
    c->one_call = !field_bool(c->body, "parallel_tool_calls", true);
    if (json_is_object(choice))
        return demand(q, c, field_text(field(choice, "function"), "name"), err);
    if (word && !strcmp(word, "required"))
        return demand(q, c, NULL, err);
    if (!json_array_size(field(c->body, "tools")) || (word && !strcmp(word, "none")))
        return ST_OK;
    enum status s = engine_chat_template(q->server->engine, true, &template, err);
    if (s)
        return s;
    c->tool_format = tool_format_of(template.v, template.len);
    if (c->tool_format == TOOLS_NONE)
        return error_param(err, ST_NOT_SUPPORTED, "tools",
                           "the base's chat template writes tool calls in no way that is known: "
                           "send tool_choice none, required or a function");
    c->request.skip_special &= !tool_format_special(c->tool_format);
    return ST_OK;
}
