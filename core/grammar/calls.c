/*
 * Owns the text around calls. One rule holds all of it, so that it is deterministic: free text is
 * an automaton that looks for `open` and cannot pass it, and where it stands there the calls begin.
 * A call is a rule, and so are the arguments of each function, by their own schema with its own
 * root.
 */
#include "core/grammar/calls.h"

#include <string.h>

#include "core/grammar/schema.h"
#include "core/grammar/schema_arguments.h"
#include "core/grammar/values.h"

#define OPEN_MAX   64 /* bytes of a tag */
#define DIGITS_MAX 17 /* with one before them: what is read as a number has 64 bits */
#define NAMES      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

struct calls {
    struct builder *b;
    struct values values;
    const json_t *description;
    struct schema_tags tags; /* key NULL: there are none */
    int32_t call;            /* rule of one call */
};

static const char *word(const struct calls *c, const char *key)
{
    const char *text = json_string_value(json_object_get(c->description, key));
    return text ? text : "";
}

static bool is(const struct calls *c, const char *key)
{
    return json_is_true(json_object_get(c->description, key));
}

static struct fragment written(struct calls *c, const char *key)
{
    return arguments_word(&c->values, word(c, key));
}

/* name, middle and arguments of one function. */
static enum status read_function(struct calls *c, const json_t *call, struct fragment *out,
                                 struct error *err)
{
    struct builder *b = c->b;
    const json_t *name = json_object_get(call, "name"), *schema = json_object_get(call, "schema");
    const char *param = json_string_value(json_object_get(call, "param"));
    struct fragment arguments;
    enum status s = ST_OK;
    if (!json_string_length(name))
        return error_set(err, ST_INVALID_VALUE, "a call has no name");
    bool python = is(c, "python"), json = !c->tags.key && !python;
    if (!json &&
        strspn(json_string_value(name), python ? NAMES : NAMES "-") < json_string_length(name))
        return error_set(err, ST_INVALID_VALUE,
                         "the base's way of writing calls cannot write the name '%.200s'",
                         json_string_value(name));
    if (!json)
        s = schema_arguments(&c->values, schema, c->tags.key ? &c->tags : NULL, &arguments, err);
    else if (schema)
        s = schema_fragment(&c->values, schema, &arguments, err);
    else
        arguments = values_object(&c->values);
    if (s) {
        error_within(err, param ? param : "");
        return s;
    }
    int32_t rule = builder_rule(b);
    builder_define(b, rule, arguments);
    struct fragment f = fragment_text(b, json_string_value(name), json_string_length(name));
    f = fragment_then(b, f, written(c, "middle"));
    *out = fragment_or(b, *out, fragment_then(b, f, fragment_call(b, rule)));
    return ST_OK;
}

static enum status read_call(struct calls *c, struct error *err)
{
    const json_t *list = json_object_get(c->description, "calls");
    struct fragment any = no_fragment;
    enum status s = ST_OK;
    for (size_t i = 0; !s && i < json_array_size(list); i++)
        s = read_function(c, json_array_get(list, i), &any, err);
    if (!s && !json_array_size(list))
        s = error_set(err, ST_INVALID_VALUE, "there is nothing to call");
    c->call = builder_rule(c->b);
    struct fragment f = fragment_then(c->b, written(c, "head"), any);
    builder_define(c->b, c->call, fragment_then(c->b, f, written(c, "tail")));
    return s;
}

/* As many as may stand together. */
static struct fragment together(struct calls *c)
{
    struct builder *b = c->b;
    int64_t most = json_integer_value(json_object_get(c->description, "most"));
    struct fragment first = fragment_call(b, c->call);
    if (!json_is_string(json_object_get(c->description, "between")) || most == 1)
        return first;
    struct fragment next = fragment_then(b, written(c, "between"), fragment_call(b, c->call));
    return fragment_then(b, first, fragment_repeat(b, next, 0, most ? most - 1 : REPEAT_MANY));
}

static struct fragment bracketed(struct calls *c)
{
    struct fragment f = fragment_then(c->b, written(c, "begin"), together(c));
    return fragment_then(c->b, f, written(c, "end"));
}

static struct fragment free_text(struct calls *c, const char *not_first)
{
    const char *open = word(c, "open");
    return fragment_without(c->b, open, strlen(open), not_first, UINT8_MAX);
}

/* Turns, each with `open` before it, but for the first: text, or calls. */
static struct fragment turns(struct calls *c)
{
    struct builder *b = c->b;
    struct fragment turn = fragment_then(b, written(c, "plain"), free_text(c, ""));
    turn = fragment_or(b, fragment_then(b, bracketed(c), values_space(&c->values)), turn);
    struct fragment next = fragment_then(b, written(c, "open"), fragment_copy(b, turn));
    return fragment_then(b, turn, fragment_repeat(b, next, 0, REPEAT_MANY));
}

/* Text, and calls in it. */
static struct fragment around(struct calls *c)
{
    struct builder *b = c->b;
    int64_t most = json_integer_value(json_object_get(c->description, "most"));
    bool bare = is(c, "bare");
    if (*word(c, "plain"))
        return turns(c);
    struct fragment f = free_text(c, bare ? "{[" : "");
    struct fragment more = fragment_then(b, written(c, "open"), bracketed(c));
    more = fragment_then(b, more, free_text(c, ""));
    f = fragment_then(b, f, fragment_repeat(b, more, 0, most == 1 ? 1 : REPEAT_MANY));
    if (!bare)
        return f;
    struct fragment alone = fragment_then(b, values_space(&c->values), together(c));
    return fragment_or(b, f, fragment_then(b, alone, values_space(&c->values)));
}

enum status calls_read(struct builder *b, const json_t *description, struct error *err)
{
    struct calls c = {.b = b, .description = description};
    values_open(&c.values, b);
    if (is(&c, "python") || json_is_string(json_object_get(description, "key")))
        c.values.digits = DIGITS_MAX;
    c.values.spelling = is(&c, "python") ? SPELLED_PYTHON : SPELLED_JSON;
    if (json_is_string(json_object_get(description, "key"))) {
        c.tags = (struct schema_tags){word(&c, "key"), word(&c, "value"),
                                      json_string_value(json_object_get(description, "other")),
                                      word(&c, "close"), word(&c, "stop")};
        b->barred = (uint8_t)*c.tags.stop; // so no set of characters can spell it
    }
    size_t open = strlen(word(&c, "open"));
    if (is(&c, "free") && (!open || open > OPEN_MAX))
        return error_set(err, ST_INVALID_VALUE, "calls begin with 1 to %d bytes, got %zu", OPEN_MAX,
                         open);
    enum status s = read_call(&c, err);
    if (!s)
        builder_define(b, 0, is(&c, "free") ? around(&c) : bracketed(&c));
    return s ? s : builder_failed(b, err);
}
