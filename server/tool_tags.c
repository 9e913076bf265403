/*
 * A call in tags, such as <function=f><parameter=k>value</parameter>...</function>, whose values
 * are written as they are: a string without quotes, anything else as JSON or as Python prints it.
 * Which of the two a value is, its text does not say; the tool's schema does: what may be a string
 * is one (but null), anything else is a value of the type if it can be read as one, and a string if
 * it cannot. Where the tags tell whether it is a string (DeepSeek's), they are believed. Strings
 * are passed on as they come, all but what may be the end of the value.
 */
#include <string.h>

#include "core/grammar/kinds.h"
#include "core/json.h"
#include "server/fields.h"
#include "server/tool_reader.h"

enum state { NAME, BODY, VALUE };

/* ---- types ---- */

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
        const json_t *schema = json_object_get(function, "parameters");
        const json_t *properties = json_object_get(schema, "properties");
        unsigned all = kinds_allowed(schema, json_object_getn(properties, key, len));
        return all ? all : KIND_STRING;
    }
    return KIND_STRING;
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
    } words[] = {{"True", "true", KIND_BOOLEAN},
                 {"False", "false", KIND_BOOLEAN},
                 {"None", "null", KIND_NULL}};
    json_t *v = NULL;
    unsigned types = r->types & KIND_STRING && !r->row->tags->tells ? KIND_NULL : r->types;
    for (size_t i = 0; i < 3; i++)
        if (len == strlen(words[i].python) && !memcmp(text, words[i].python, len) &&
            (types & words[i].type)) {
            buffer_text(&call->arguments, words[i].json);
            return true;
        }
    enum status s = json_parse(text, len, JSON_DEPTH_MAX, "a value", &v, NULL);
    r->failed |= s == ST_OUT_OF_MEMORY;
    bool good = !s && (kind_of(v) & types);
    json_decref(v);
    if (good)
        buffer_add(&call->arguments, text, len);
    return good;
}

static void end_value(struct tool_reader *r, struct tool_call *call)
{
    const char *text = r->word.v;
    size_t len = r->word.len - strlen(r->row->tags->stop), from = 0;
    r->state = BODY;
    len -= r->row->tags->lines && len && text[len - 1] == '\n';
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

/* Passes on what cannot be the end of a string: it waits from a line feed on that may be before the
 * stop, or from what may be the stop's beginning. */
static void pass(struct tool_reader *r, struct tool_call *call)
{
    const char *stop = r->row->tags->stop, *text = r->word.v;
    size_t most = strlen(stop), keep = r->word.len < most ? r->word.len : most;
    while (keep && memcmp(text + r->word.len - keep, stop, keep) != 0)
        keep--;
    if (r->row->tags->lines && keep < r->word.len && text[r->word.len - keep - 1] == '\n')
        keep++;
    size_t n = r->word.len - keep;
    tool_reader_escape(text, n, &call->arguments);
    if (n)
        memmove(r->word.v, r->word.v + n, keep);
    r->word.len = keep;
}

static void begin_value(struct tool_reader *r, struct tool_call *call)
{
    const struct tool_tags *tags = r->row->tags;
    const char *key = r->word.v + strlen(tags->key);
    const char *end =
        memmem(key, r->word.len - strlen(tags->key), tags->key_end, strlen(tags->key_end));
    size_t len = end ? (size_t)(end - key) : 0;
    buffer_text(&call->arguments, r->comma ? ", " : "");
    add_string(call, key, len);
    buffer_text(&call->arguments, ": ");
    r->types = tags->tells ? ~0u : types_of_argument(r, call, key, len);
    r->text = tags->tells ? tool_reader_ends(&r->word, "=\"true\">")
                          : (r->types & KIND_STRING) && !(r->types & KIND_NULL);
    if (r->text)
        buffer_text(&call->arguments, "\"");
    r->comma = true;
    r->escape = tags->lines; /* the line feed behind the tag is not of the value */
    r->state = VALUE;
    buffer_clear(&r->word);
}

static enum reading value(struct tool_reader *r, struct tool_call *call, char c)
{
    if (!r->escape || c != '\n')
        buffer_add(&r->word, &c, 1);
    r->escape = false;
    if (tool_reader_ends(&r->word, r->row->tags->stop))
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

/* Is the word a key with all that stands before its value? */
static bool is_key(const struct tool_reader *r)
{
    const struct tool_tags *tags = r->row->tags;
    size_t n = strlen(tags->key);
    if (!begins(&r->word, tags->key))
        return false;
    const char *end = memmem(r->word.v + n, r->word.len - n, tags->key_end, strlen(tags->key_end));
    return end && end > r->word.v + n && (!*tags->value || tool_reader_ends(&r->word, tags->value));
}

/* A tag between values, or what is none and is left out. */
static enum reading body(struct tool_reader *r, struct tool_call *call, char c)
{
    if (!r->word.len && c != '<')
        return READ_ON;
    buffer_add(&r->word, &c, 1);
    if (c == '>' && (tool_reader_ends(&r->word, r->row->tags->close) ||
                     tool_reader_ends(&r->word, r->row->close))) {
        buffer_text(&call->arguments, "}");
        call->whole = true;
        return READ_WHOLE;
    }
    bool waits = *r->row->tags->value && begins(&r->word, r->row->tags->key);
    if (c == '>' && is_key(r))
        begin_value(r, call);
    else if ((c == '>' && !waits && !tool_reader_ends(&r->word, r->row->tags->key)) ||
             r->word.len > TOOL_HEAD_MAX)
        buffer_clear(&r->word);
    return READ_ON;
}

/* A name ends with a byte of its own, or where the first tag begins. */
static enum reading name(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    bool end = c == *r->row->tags->name_end;
    if (!end && (c != '<' || *r->row->tags->name)) {
        buffer_add(&r->word, &c, 1);
        return c == '\n' || r->word.len > TOOL_HEAD_MAX ? READ_BROKEN : READ_ON;
    }
    *taken = end;
    while (!*r->row->tags->name && r->word.len && tool_reader_space(r->word.v[r->word.len - 1]))
        r->word.len--;
    if (!r->word.len)
        return READ_BROKEN;
    buffer_add(&call->name, r->word.v, r->word.len);
    buffer_clear(&r->word);
    buffer_text(&call->arguments, "{");
    call->told = true;
    r->state = BODY;
    return READ_ON;
}

enum reading tool_tags_read(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    *taken = true;
    if (r->state == VALUE)
        return value(r, call, c);
    if (r->state == BODY)
        return body(r, call, c);
    return name(r, call, c, taken);
}
