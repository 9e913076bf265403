/*
 * A call in tags, <function=f><parameter=k>value</parameter>...</function>, whose values are
 * written as they are: a string without quotes, anything else as JSON or as Python prints it. Which
 * of the two a value is, its text does not say; the tool's schema does: what may be a string is one
 * (but null), anything else is a value of the type if it can be read as one, and a string if it
 * cannot. Strings are passed on as they come, all but what may be the end of the value.
 */
#include <string.h>

#include "core/json.h"
#include "server/fields.h"
#include "server/tool_reader.h"

enum state { NAME, BODY, VALUE };
enum { STRING = 1, NUMBER = 2, BOOLEAN = 4, NONE = 8, NESTED = 16 };

#define END "</parameter>"

/* ---- types ---- */

static unsigned type_named(const json_t *name)
{
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {{"string", STRING}, {"number", NUMBER}, {"integer", NUMBER}, {"boolean", BOOLEAN},
                 {"null", NONE},     {"object", NESTED}, {"array", NESTED}};
    for (size_t i = 0; json_is_string(name) && i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(json_string_value(name), types[i].name))
            return types[i].type;
    return 0;
}

static unsigned type_of(const json_t *v)
{
    return json_is_string(v)    ? STRING
           : json_is_number(v)  ? NUMBER
           : json_is_boolean(v) ? BOOLEAN
           : json_is_null(v)    ? NONE
                                : NESTED;
}

/* What a schema allows, as far as it says so without its references. */
static unsigned types_of(const json_t *schema, int depth)
{
    static const char *const several[] = {"anyOf", "oneOf", "allOf"};
    const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum");
    unsigned all = type_named(type);
    for (size_t i = 0; i < json_array_size(type); i++)
        all |= type_named(json_array_get(type, i));
    for (size_t i = 0; !all && i < json_array_size(list); i++)
        all |= type_of(json_array_get(list, i));
    if (!all && json_object_get(schema, "const"))
        all = type_of(json_object_get(schema, "const"));
    for (size_t k = 0; !all && k < 3 && depth < TOOL_DEPTH; k++) {
        list = json_object_get(schema, several[k]);
        for (size_t i = 0; i < json_array_size(list); i++)
            all |= types_of(json_array_get(list, i), depth + 1);
    }
    return all;
}

static bool is(const json_t *name, const struct buffer *b)
{
    return json_string_length(name) == b->len && !memcmp(json_string_value(name), b->v, b->len);
}

/* Of the call's argument key; a string where nothing is known. */
static unsigned types_of_argument(const struct tool_reader *r, const struct tool_call *call,
                                  const char *key, size_t len)
{
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        const json_t *function = field(json_array_get(r->tools, i), "function");
        if (!is(json_object_get(function, "name"), &call->name))
            continue;
        const json_t *properties =
            json_object_get(json_object_get(function, "parameters"), "properties");
        unsigned all = types_of(json_object_getn(properties, key, len), 0);
        return all ? all : STRING;
    }
    return STRING;
}

/* ---- values ---- */

static void add_string(struct tool_call *call, const char *text, size_t len)
{
    buffer_text(&call->arguments, "\"");
    tool_reader_escape(text, len, &call->arguments);
    buffer_text(&call->arguments, "\"");
}

/* As JSON, or as Python prints it; false: it is no value of the types. */
static bool add_value(struct tool_reader *r, struct tool_call *call, const char *text, size_t len)
{
    static const struct {
        const char *python, *json;
        unsigned type;
    } words[] = {{"True", "true", BOOLEAN}, {"False", "false", BOOLEAN}, {"None", "null", NONE}};
    json_t *v = NULL;
    unsigned types = r->types & STRING ? NONE : r->types;
    for (size_t i = 0; i < 3; i++)
        if (len == strlen(words[i].python) && !memcmp(text, words[i].python, len) &&
            (types & words[i].type)) {
            buffer_text(&call->arguments, words[i].json);
            return true;
        }
    enum status s = json_parse(text, len, JSON_DEPTH_MAX, "a value", &v, NULL);
    r->failed |= s == ST_OUT_OF_MEMORY;
    bool good = !s && (type_of(v) & types);
    json_decref(v);
    if (good)
        buffer_add(&call->arguments, text, len);
    return good;
}

static void end_value(struct tool_reader *r, struct tool_call *call)
{
    const char *text = r->word.v;
    size_t len = r->word.len - strlen(END), from = 0;
    r->state = BODY;
    len -= len && text[len - 1] == '\n';
    if (r->text) {
        tool_reader_escape(text, len, &call->arguments);
        buffer_text(&call->arguments, "\"");
    } else {
        while (from < len && tool_reader_space(text[from]))
            from++;
        size_t to = len;
        while (to > from && tool_reader_space(text[to - 1]))
            to--;
        if (!add_value(r, call, text + from, to - from))
            add_string(call, text, len);
    }
    buffer_clear(&r->word);
}

/* Passes on what cannot be the end of a string. */
static void pass(struct tool_reader *r, struct tool_call *call)
{
    static const char end[] = "\n" END;
    size_t keep = r->word.len < sizeof end - 1 ? r->word.len : sizeof end - 1;
    const char *text = r->word.v;
    while (keep && memcmp(text + r->word.len - keep, end, keep) != 0 &&
           memcmp(text + r->word.len - keep, end + 1, keep) != 0)
        keep--;
    size_t n = r->word.len - keep;
    tool_reader_escape(text, n, &call->arguments);
    if (n)
        memmove(r->word.v, r->word.v + n, keep);
    r->word.len = keep;
}

static void begin_value(struct tool_reader *r, struct tool_call *call)
{
    const char *key = r->word.v + strlen("<parameter=");
    size_t len = r->word.len - strlen("<parameter=") - 1;
    buffer_text(&call->arguments, r->comma ? ", " : "");
    add_string(call, key, len);
    buffer_text(&call->arguments, ": ");
    r->types = types_of_argument(r, call, key, len);
    r->text = (r->types & STRING) && !(r->types & NONE);
    if (r->text)
        buffer_text(&call->arguments, "\"");
    r->comma = true;
    r->escape = true; /* the line feed behind the tag is not of the value */
    r->state = VALUE;
    buffer_clear(&r->word);
}

static enum reading value(struct tool_reader *r, struct tool_call *call, char c)
{
    if (!r->escape || c != '\n')
        buffer_add(&r->word, &c, 1);
    r->escape = false;
    if (tool_reader_ends(&r->word, END))
        end_value(r, call);
    else if (r->text)
        pass(r, call);
    return READ_ON;
}

/* ---- tags ---- */

static bool begins(const struct buffer *word, const char *text)
{
    return word->len > strlen(text) && !memcmp(word->v, text, strlen(text));
}

/* A tag between values, or what is none and is left out. */
static enum reading body(struct tool_reader *r, struct tool_call *call, char c)
{
    if (!r->word.len && c != '<')
        return READ_ON;
    buffer_add(&r->word, &c, 1);
    if (c == '>' &&
        (tool_reader_ends(&r->word, "</function>") || tool_reader_ends(&r->word, r->row->close))) {
        buffer_text(&call->arguments, "}");
        call->whole = true;
        return READ_WHOLE;
    }
    if (c == '>' && begins(&r->word, "<parameter=") && r->word.len > strlen("<parameter=>"))
        begin_value(r, call);
    else if (c == '>' || r->word.len > TOOL_HEAD_MAX)
        buffer_clear(&r->word);
    return READ_ON;
}

enum reading tool_tags_read(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    *taken = true;
    if (r->state == VALUE)
        return value(r, call, c);
    if (r->state == BODY)
        return body(r, call, c);
    if (c != '>') {
        buffer_add(&r->word, &c, 1);
        return c == '\n' || r->word.len > TOOL_HEAD_MAX ? READ_BROKEN : READ_ON;
    }
    if (!r->word.len)
        return READ_BROKEN;
    buffer_add(&call->name, r->word.v, r->word.len);
    buffer_clear(&r->word);
    buffer_text(&call->arguments, "{");
    call->told = true;
    r->state = BODY;
    return READ_ON;
}
