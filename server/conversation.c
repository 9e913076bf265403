/*
 * OpenAI's messages -> the messages of a chat template, as transformers' apply_chat_template and
 * the servers around it have them:
 *
 *   - a key that is null is left out (a template would print None);
 *   - text parts become one text, with line feeds between them;
 *   - the arguments of an earlier call, a JSON text, become the object, which templates write
 * again; one that joins them to a text (DeepSeek's, Functionary's) has the text;
 *   - the content of a message that has calls alone is null to a template that asks whether it is;
 *   - reasoning has one name, reasoning_content (and `thinking`, which gpt-oss reads; `tool_plan`,
 *     to a template that does);
 *   - `developer` is `system` to a template that does not know it.
 *
 * Everything else is handed over as it came, in its order. The values of the body are shared, not
 * copied, and nothing changes them any more.
 */
#include "server/conversation.h"

#include <string.h>

#include "core/json.h"
#include "server/fields.h"
#include "server/server.h"

struct reading {
    const char *param;                                                   /* what an error names */
    bool knows_developer, joins_arguments, asks_for_null, asks_for_plan; /* the template */
    struct error *err;
};

static bool set(json_t *object, const char *key, const json_t *value)
{
    return !json_object_set(object, key, (json_t *)value);
}

/* ["a", "b"] of text parts -> "a\nb". */
static json_t *join_parts(const json_t *parts)
{
    struct buffer b = {0};
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *text = json_object_get(json_array_get(parts, i), "text");
        buffer_text(&b, i ? "\n" : "");
        buffer_add(&b, json_string_value(text), json_string_length(text));
    }
    json_t *joined = b.failed ? NULL : json_stringn(b.v ? b.v : "", b.len);
    buffer_free(&b);
    return joined;
}

/* Arguments of a call of function as an object; "" is none. */
static enum status read_arguments(const struct reading *r, const json_t *function, json_t **out)
{
    const json_t *text = field(function, "arguments");
    struct error *err = r->err;
    enum status s = ST_OK;
    if (!json_string_length(text))
        *out = json_object();
    else
        s = json_parse(json_string_value(text), json_string_length(text), JSON_DEPTH_MAX,
                       "the arguments", out, err);
    if (s == ST_OUT_OF_MEMORY || (!s && !*out))
        return error_memory(err, "reading messages");
    if (!s && json_is_object(*out))
        return ST_OK;
    json_decref(*out);
    *out = NULL;
    return error_param(err, ST_INVALID_VALUE, r->param,
                       "%s: the arguments of a call of '%.200s' are not the text of a JSON object",
                       r->param, field_text(function, "name"));
}

static enum status read_call(const struct reading *r, const json_t *call, json_t *list)
{
    const json_t *from = json_object_get(call, "function");
    json_t *copy = json_copy_object(call), *function = json_copy_object(from), *arguments = NULL;
    bool whole = copy && function && set(copy, "function", function);
    enum status s = whole && field(from, "arguments") ? read_arguments(r, from, &arguments) : ST_OK;
    if (!s && arguments && !r->joins_arguments)
        whole = set(function, "arguments", arguments);
    if (!s && whole)
        whole = !json_array_append(list, copy);
    json_decref(arguments);
    json_decref(function);
    json_decref(copy);
    return s || whole ? s : error_memory(r->err, "reading messages");
}

static enum status read_calls(const struct reading *r, const json_t *calls, json_t *out)
{
    json_t *list = json_array();
    enum status s = list ? ST_OK : error_memory(r->err, "reading messages");
    for (size_t i = 0; !s && i < json_array_size(calls); i++)
        s = read_call(r, json_array_get(calls, i), list);
    if (!s && !set(out, "tool_calls", list))
        s = error_memory(r->err, "reading messages");
    json_decref(list);
    return s;
}

static bool is_one_of(const char *key, const char *const *names)
{
    while (*names && strcmp(*names, key))
        names++;
    return *names != NULL;
}

/* What is copied as it is, of one message. */
static bool copy_rest(const json_t *message, json_t *out)
{
    static const char *const own[] = {
        "role",          "content",     "tool_calls", "refusal",           "audio",
        "function_call", "annotations", "thinking",   "reasoning_content", NULL};
    const char *key;
    json_t *value;
    bool whole = true;
    json_object_foreach((json_t *)message, key, value)
    {
        if (whole && !json_is_null(value) && !is_one_of(key, own))
            whole = set(out, key, value);
    }
    return whole;
}

static bool copy_reasoning(const struct reading *r, const json_t *message, json_t *out)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const json_t *reasoning = NULL;
    for (size_t i = 0; i < 3 && !reasoning; i++)
        reasoning = field(message, names[i]);
    const json_t *thinking = field(message, "thinking");
    if (reasoning && r->asks_for_plan && !set(out, "tool_plan", reasoning))
        return false;
    return !reasoning || (set(out, "reasoning_content", reasoning) &&
                          set(out, "thinking", thinking ? thinking : reasoning));
}

static bool copy_role(const json_t *message, bool knows_developer, json_t *out)
{
    const json_t *role = field(message, "role");
    if (knows_developer || strcmp(json_string_value(role), "developer"))
        return set(out, "role", role);
    return !json_object_set_new(out, "role", json_string("system"));
}

static bool copy_content(const struct reading *r, const json_t *message, json_t *out)
{
    const json_t *content = field(message, "content");
    if (json_is_array(content))
        return !json_object_set_new(out, "content", join_parts(content));
    if (!content && r->asks_for_null && field(message, "tool_calls"))
        return !json_object_set_new(out, "content", json_null());
    return !content || set(out, "content", content);
}

static enum status read_message(const struct reading *r, const json_t *message, json_t *list)
{
    const json_t *calls = field(message, "tool_calls");
    json_t *out = json_object();
    bool whole =
        out && copy_role(message, r->knows_developer, out) && copy_content(r, message, out);
    enum status s = ST_OK;
    if (whole && json_array_size(calls))
        s = read_calls(r, calls, out);
    if (!s && whole)
        whole = copy_rest(message, out) && copy_reasoning(r, message, out) &&
                !json_array_append(list, out);
    json_decref(out);
    return s || whole ? s : error_memory(r->err, "reading messages");
}

static bool holds(const struct text *text, const char *word)
{
    return text->v && memmem(text->v, text->len, word, strlen(word));
}

/* By what the template that will render this contains. */
static struct reading reading_of(const struct request *q, bool tools, const char *param,
                                 struct error *err)
{
    struct text text = {0};
    engine_chat_template(q->server->engine, tools, &text, NULL);
    return (struct reading){.param = param,
                            .knows_developer = holds(&text, "developer"),
                            .joins_arguments = holds(&text, "['arguments'] +") ||
                                               holds(&text, "+ tool_call['function']['arguments']"),
                            .asks_for_null = holds(&text, "['content'] is none"),
                            .asks_for_plan = holds(&text, "tool_plan"),
                            .err = err};
}

static enum status read_messages(const struct reading *r, const json_t *messages, json_t *variables)
{
    json_t *list = json_array();
    enum status s = list ? ST_OK : error_memory(r->err, "reading messages");
    for (size_t i = 0; !s && i < json_array_size(messages); i++)
        s = read_message(r, json_array_get(messages, i), list);
    if (!s && !set(variables, "messages", list))
        s = error_memory(r->err, "reading messages");
    json_decref(list);
    return s;
}

/* The variables that transformers passes by name; the request's further ones may not be these. */
static const char *const reserved[] = {"messages", "tools", "documents", "add_generation_prompt",
                                       NULL};

static enum status read_further(const json_t *further, json_t *variables, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)further, key, value)
    {
        if (is_one_of(key, reserved))
            return error_param(err, ST_INVALID_VALUE, "chat_template_kwargs",
                               "chat_template_kwargs: '%s' is a field of its own", key);
        if (!set(variables, key, value))
            return error_memory(err, "reading messages");
    }
    return ST_OK;
}

static bool set_list(json_t *variables, const char *key, const json_t *list)
{
    if (json_array_size(list))
        return set(variables, key, list);
    return !json_object_set_new(variables, key, json_null());
}

static enum status check_last(const json_t *messages, struct error *err)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    if (json_is_string(json_object_get(last, "content")))
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, "continue_final_message",
                       "the final message has no content to continue");
}

static bool begin(json_t *variables, bool generation, const json_t *tools, const json_t *documents)
{
    return variables &&
           !json_object_set_new(variables, "add_generation_prompt", json_boolean(generation)) &&
           set_list(variables, "tools", tools) && set_list(variables, "documents", documents);
}

enum status conversation_read(const struct request *q, const json_t *body, const char *param,
                              struct chat *out, struct error *err)
{
    const json_t *effort = field(body, "reasoning_effort");
    const struct reading r = reading_of(q, json_array_size(field(body, "tools")) > 0, param, err);
    out->continue_final = field_bool(body, "continue_final_message", false);
    bool generation = field_bool(body, "add_generation_prompt", !out->continue_final);
    if (generation && out->continue_final)
        return error_param(err, ST_INVALID_VALUE, "continue_final_message",
                           "continue_final_message and add_generation_prompt exclude each other");
    json_t *v = out->variables = json_object();
    if (!v || (effort && !set(v, "reasoning_effort", effort)) ||
        !begin(v, generation, field(body, "tools"), field(body, "documents")))
        return error_memory(err, "reading messages");
    enum status s = read_further(field(body, "chat_template_kwargs"), v, err);
    s = s ? s : read_messages(&r, field(body, "messages"), v);
    return !s && out->continue_final ? check_last(json_object_get(v, "messages"), err) : s;
}
