/*
 * Responses and chats ask for the same in other words; here the words are changed, so that
 * conversations, tools, their choice and the form of the text are read, refused and kept in one
 * way, the chat's:
 *
 *   instructions                  a system message before all others
 *   input, a text                 a user's message
 *   message                       a message
 *   reasoning, one or several     reasoning_content of the assistant's message that follows
 *   function_call                 a call of the assistant's message at hand, or of a new one
 *   function_call_output          a tool's message
 *   tools[i], tool_choice         {"type", "name", ...} -> {"type", "function": {"name", ...}}
 *   text.format                   {"type", "schema", ...} -> {"type", "json_schema": {...}}
 *   reasoning.effort              reasoning_effort
 *
 * What else items hold (ids, a status) is no business of a template and is left behind.
 */
#include "server/response_request.h"

#include <string.h>

#include "core/buffer.h"
#include "core/json.h"
#include "server/fields.h"

/* The messages so far. */
struct turns {
    json_t *messages;
    json_t *assistant; /* of them, the last one's: calls that follow are its own; borrowed */
    json_t *reasoning; /* of the message that follows; owned */
    bool alone;        /* reasoning had no assistant's message behind it */
    bool failed;       /* memory ran out */
};

/* Adds to the reasoning, on lines of its own. */
static void reason(struct turns *t, const json_t *parts)
{
    struct buffer b = {0};
    if (json_string_length(t->reasoning)) {
        buffer_add(&b, json_string_value(t->reasoning), json_string_length(t->reasoning));
        buffer_text(&b, "\n");
    }
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *text = field(json_array_get(parts, i), "text");
        buffer_add(&b, json_string_value(text), json_string_length(text));
    }
    json_decref(t->reasoning);
    t->reasoning = b.failed ? NULL : json_stringn(b.v ? b.v : "", b.len);
    t->failed |= !t->reasoning;
    t->assistant = NULL;
    buffer_free(&b);
}

/* Sets key, unless there is no value; false: memory ran out. */
static bool set(json_t *object, const char *key, const json_t *value)
{
    return !value || !json_object_set(object, key, (json_t *)value);
}

/* Appends a message of this role; content NULL: it has none. Borrowed; NULL when memory runs out.
 */
static json_t *begin(struct turns *t, const char *role, const json_t *content)
{
    json_t *m = json_pack("{s:s}", "role", role);
    bool whole = m && set(m, "content", content);
    bool assistant = !strcmp(role, "assistant");
    t->alone |= t->reasoning && !assistant;
    if (whole && assistant)
        whole = set(m, "reasoning_content", t->reasoning);
    json_decref(assistant ? t->reasoning : NULL);
    t->reasoning = assistant ? NULL : t->reasoning;
    whole = whole && !json_array_append(t->messages, m);
    json_decref(m);
    t->failed |= !whole;
    t->assistant = whole && assistant ? m : NULL;
    return whole ? m : NULL;
}

static void add_call(struct turns *t, const json_t *item)
{
    json_t *m = t->assistant ? t->assistant : begin(t, "assistant", NULL);
    json_t *calls = m ? json_object_get(m, "tool_calls") : NULL;
    if (m && !calls && !json_object_set_new(m, "tool_calls", json_array()))
        calls = json_object_get(m, "tool_calls");
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", json_object_get(item, "call_id"),
                             "type", "function", "function", "name", json_object_get(item, "name"),
                             "arguments", json_object_get(item, "arguments"));
    t->failed |= !calls || json_array_append_new(calls, call);
}

static void add_item(struct turns *t, const json_t *item)
{
    const char *type = field_text(item, "type");
    if (!type || !strcmp(type, "message")) {
        begin(t, field_text(item, "role"), field(item, "content"));
    } else if (!strcmp(type, "function_call")) {
        add_call(t, item);
    } else if (!strcmp(type, "function_call_output")) {
        json_t *m = begin(t, "tool", field(item, "output"));
        t->failed |= !m || !set(m, "tool_call_id", field(item, "call_id")) ||
                     !set(m, "name", field(item, "name"));
    } else {
        reason(t, field(item, "content"));
    }
}

static enum status read_messages(const json_t *body, json_t *out, struct error *err)
{
    const json_t *instructions = field(body, "instructions"), *input = field(body, "input");
    struct turns t = {.messages = json_array()};
    t.failed = !t.messages;
    if (!t.failed && instructions)
        begin(&t, "system", instructions);
    if (!t.failed && json_is_string(input))
        begin(&t, "user", input);
    for (size_t i = 0; !t.failed && i < json_array_size(input); i++)
        add_item(&t, json_array_get(input, i));
    bool alone = t.alone || t.reasoning;
    json_decref(t.reasoning);
    if (t.failed || !set(out, "messages", t.messages)) {
        json_decref(t.messages);
        return error_memory(err, "reading the input");
    }
    json_decref(t.messages);
    return alone ? error_param(err, ST_INVALID_VALUE, "input",
                               "input: a reasoning item stands before what it led to, a message "
                               "of the assistant or a function_call")
                 : ST_OK;
}

/* {"type", ...} -> {"type", inner: {...}}; NULL when memory runs out. */
static json_t *nest(const json_t *flat, const char *inner)
{
    json_t *rest = json_copy_object(flat), *outer = NULL;
    if (rest && !json_object_del(rest, "type"))
        outer = json_pack("{s:O, s:O}", "type", json_object_get(flat, "type"), inner, rest);
    json_decref(rest);
    return outer;
}

/* Functions, each with its name in the chat's place; NULL when memory runs out. */
static json_t *nest_all(const json_t *functions)
{
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; whole && i < json_array_size(functions); i++)
        whole = !json_array_append_new(list, nest(json_array_get(functions, i), "function"));
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *nest_choice(const json_t *choice)
{
    const json_t *some = field(choice, "tools");
    if (!some)
        return nest(choice, "function");
    json_t *outer = nest(choice, "allowed_tools"), *list = nest_all(some);
    if (outer && list && !json_object_set(json_object_get(outer, "allowed_tools"), "tools", list)) {
        json_decref(list);
        return outer;
    }
    json_decref(list);
    json_decref(outer);
    return NULL;
}

static bool read_tools(const json_t *body, json_t *out)
{
    const json_t *choice = field(body, "tool_choice");
    bool whole = !json_object_set_new(out, "tools", nest_all(field(body, "tools")));
    whole = whole && set(out, "parallel_tool_calls", field(body, "parallel_tool_calls"));
    if (json_is_object(choice))
        return whole && !json_object_set_new(out, "tool_choice", nest_choice(choice));
    return whole && set(out, "tool_choice", choice);
}

static bool read_format(const json_t *body, json_t *out)
{
    const json_t *format = field(field(body, "text"), "format");
    return !format || !json_object_set_new(out, "response_format", nest(format, "json_schema"));
}

enum status response_request_read(const struct request *q, json_t **out, struct error *err)
{
    const json_t *body = q->json;
    *out = json_object();
    if (!*out || !read_tools(body, *out) || !read_format(body, *out) ||
        !set(*out, "reasoning_effort", field(field(body, "reasoning"), "effort")))
        return error_memory(err, "reading the request");
    return read_messages(body, *out, err);
}
