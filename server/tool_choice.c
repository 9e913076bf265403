/*
 * A call that may come is written in the base's own way, which its chat template shows, and is
 * free, unless a tool is strict: then a grammar holds every call to that way, to the tools' names
 * and to the strict ones' schemas, and leaves the text around calls alone. So it does where only
 * some of the tools are allowed: the base sees all of them, but calls no other. A call that must
 * come (required, or a function by name) is no matter of the base's way: the text is held to a JSON
 * list of calls, as vLLM does it, so that any base can be made to call. Both are one grammar
 * (core/grammar/calls.h), of different writings.
 */
#include "server/tool_choice.h"

#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/json.h"
#include "server/fields.h"
#include "server/server.h"

static const json_t *function_of(const json_t *tool)
{
    return field(tool, "function");
}

static bool is_strict(const json_t *function)
{
    return field_bool(function, "strict", false);
}

/* The name as the family writes it. */
static json_t *written_name(const json_t *function, bool quoted)
{
    const char *name = field_text(function, "name");
    struct buffer b = {0};
    if (quoted)
        buffer_cstring(&b, name);
    else
        buffer_text(&b, name);
    json_t *text = b.failed ? NULL : json_stringn(b.v, b.len);
    buffer_free(&b);
    return text;
}

/* One function of the grammar; bound: by its schema, else by nothing but being an object. */
static json_t *describe(const struct completion *c, size_t i, const json_t *function, bool bound,
                        bool quoted)
{
    const json_t *schema = field(function, "parameters");
    struct buffer param = {0};
    buffer_format(&param, c->form->parameters, i);
    buffer_add(&param, "", 1);
    json_t *call = param.failed ? NULL
                                : json_pack("{s:o, s:s}", "name", written_name(function, quoted),
                                            "param", param.v);
    buffer_free(&param);
    if (!call || !bound || !schema || !json_object_set(call, "schema", (json_t *)schema))
        return call;
    json_decref(call);
    return NULL;
}

/* Is the name in a list of {"function": {"name"}}? */
static bool is_in(const json_t *list, const char *name)
{
    size_t i = 0, n = json_array_size(list);
    while (i < n && strcmp(field_text(function_of(json_array_get(list, i)), "name"), name) != 0)
        i++;
    return i < n;
}

/* The functions that may be called (name NULL: any that is allowed); demanded: all of them by their
 * schemas. */
static json_t *describe_all(const struct completion *c, const char *name, bool demanded,
                            bool quoted)
{
    const json_t *tools = field(c->body, "tools");
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; whole && i < json_array_size(tools); i++) {
        const json_t *function = function_of(json_array_get(tools, i));
        const char *its = field_text(function, "name");
        if (name ? !strcmp(its, name) : !c->allowed || is_in(c->allowed, its))
            whole = !json_array_append_new(
                list, describe(c, i, function, demanded || is_strict(function), quoted));
    }
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *grammar_of(const struct completion *c, json_t *calls, bool demanded, bool one)
{
    const struct tool_row *row = tool_format_row(c->tool_format);
    const struct tool_writing *w = &row->writing;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:i, s:b, s:b, s:b, s:s?, s:s?, s:s?,"
                     " s:s?, s:s?, s:s?, s:o}",
                     "open", demanded ? "" : row->open, "begin", w->begin, "head", w->head,
                     "middle", w->middle, "tail", w->tail, "between", w->between, "end", w->end,
                     "most", one, "free", !demanded, "bare", row->bare, "python", w->python, "key",
                     w->key, "value", w->value, "other", w->other, "close", w->close, "stop",
                     w->stop, "plain", w->plain, "calls", calls);
}

/* Holds the answer to calls of the function (NULL: of any), or what stands around them to nothing.
 */
static enum status bind(struct request *q, struct completion *c, const char *name, bool demanded,
                        struct error *err)
{
    struct generate_request *r = &c->request;
    json_t *calls =
        describe_all(c, name, demanded, tool_format_row(c->tool_format)->writing.quoted);
    if (calls && !json_array_size(calls)) {
        json_decref(calls);
        return error_param(err, ST_INVALID_VALUE, "tool_choice", "tools has no function%s%.200s",
                           name ? " " : "", name ? name : "");
    }
    json_t *grammar = calls ? grammar_of(c, calls, demanded, name || c->one_call) : NULL;
    char *text = grammar ? json_text(grammar, JSON_COMPACT) : NULL;
    json_decref(grammar);
    if (text) {
        r->grammar = GRAMMAR_CALLS;
        r->grammar_param = "tools";
        r->grammar_text.len = strlen(text);
        r->grammar_text.v = arena_strdup(&q->arena, text);
        free(text);
    }
    return text && r->grammar_text.v ? ST_OK : error_memory(err, "reading the request");
}

static bool has_form(const struct completion *c)
{
    const json_t *format = field(c->body, "response_format");
    const char *type = format ? field_text(format, "type") : "text";
    return strcmp(type, "text") || field(c->body, "structured_outputs");
}

bool tool_choice_free(const struct completion *c)
{
    return c->tool_format != TOOLS_LIST && !has_form(c);
}

static enum status demand(struct request *q, struct completion *c, const char *name,
                          struct error *err)
{
    if (has_form(c))
        return error_param(err, ST_INVALID_VALUE, "tool_choice",
                           "a call that must come and another form of the text exclude each other");
    c->tool_format = TOOLS_LIST;
    c->named_call = name != NULL;
    return bind(q, c, name, true, err);
}

/* Calls of strict tools, if there are any, or of some tools only. */
static enum status bind_strict(struct request *q, struct completion *c, struct error *err)
{
    const json_t *tools = field(c->body, "tools");
    size_t i = 0, n = json_array_size(tools);
    while (i < n && !is_strict(function_of(json_array_get(tools, i))))
        i++;
    if (c->allowed && has_form(c))
        return error_param(err, ST_INVALID_VALUE, "tool_choice",
                           "allowed_tools and another form of the text exclude each other");
    if (c->allowed)
        return bind(q, c, NULL, false, err);
    if (i == n)
        return ST_OK;
    const char *name = field_text(function_of(json_array_get(tools, i)), "name");
    if (has_form(c))
        return error_param(err, ST_INVALID_VALUE, "strict",
                           "'%.200s' is strict: its calls and another form of the text exclude "
                           "each other",
                           name);
    return bind(q, c, NULL, false, err);
}

/* tool_choice allows some of the tools. */
static enum status read_allowed(struct completion *c, const json_t *some, struct error *err)
{
    const json_t *list = field(some, "tools");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = field_text(function_of(json_array_get(list, i)), "name");
        if (!is_in(field(c->body, "tools"), name))
            return error_param(err, ST_INVALID_VALUE, "tool_choice",
                               "tools has no function %.200s, which is allowed", name);
    }
    c->allowed = list;
    return ST_OK;
}

/* Where even plain text is addressed to somebody, it is read as with tools. */
static void read_plain(const struct request *q, struct completion *c)
{
    struct text template = {0};
    if (has_form(c) || engine_chat_template(q->server->engine, false, &template, NULL))
        return;
    enum tool_format f = tool_format_of(template.v, template.len);
    if (tool_format_row(f)->begun)
        c->tool_format = f;
}

enum status tool_choice_read(struct request *q, struct completion *c, struct error *err)
{
    const json_t *choice = field(c->body, "tool_choice");
    const json_t *some = json_is_object(choice) ? field(choice, "allowed_tools") : NULL;
    const char *word = some ? field_text(some, "mode") : json_string_value(choice);
    struct text template = {0};
    enum status s = some ? read_allowed(c, some, err) : ST_OK;
    c->one_call = !field_bool(c->body, "parallel_tool_calls", true);
    if (s)
        return s;
    if (json_is_object(choice) && !some)
        return demand(q, c, field_text(field(choice, "function"), "name"), err);
    if (word && !strcmp(word, "required"))
        return demand(q, c, NULL, err);
    if (!json_array_size(field(c->body, "tools")) || (word && !strcmp(word, "none"))) {
        read_plain(q, c);
        return ST_OK;
    }
    s = engine_chat_template(q->server->engine, true, &template, err);
    if (s)
        return s;
    c->tool_format = tool_format_of(template.v, template.len);
    if (c->tool_format == TOOLS_NONE)
        return error_param(err, ST_NOT_SUPPORTED, "tools",
                           "the base's chat template writes tool calls in no way that is known: "
                           "send tool_choice none, required or a function");
    c->request.skip_special &= !tool_format_row(c->tool_format)->special;
    return bind_strict(q, c, err);
}
