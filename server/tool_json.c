/*
 * A call in JSON: an object with a name and arguments, under the names that families have for the
 * two, or arguments alone behind a name. The arguments are the model's own bytes. Nothing but their
 * brackets and strings is looked at, so that what is no JSON within them is passed on as it is.
 */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "server/tool_reader.h"

enum state {
    KEY, /* in the object, at its depth: a key or the end */
    IN_KEY,
    COLON,
    VALUE,
    HEAD /* a name, before its arguments */
};
enum target { SKIP, NAME, ARGUMENTS };

static enum reading value(struct tool_reader *r, struct tool_call *call, char c, bool *taken);

/* The text of a JSON string that was collected in word, into out. */
static bool decode_word(struct tool_reader *r, struct buffer *out)
{
    json_t *text = NULL;
    enum status s = json_parse(r->word.v, r->word.len, 1, "a call", &text, NULL);
    r->failed |= s == ST_OUT_OF_MEMORY;
    if (s)
        return false;
    buffer_add(out, json_string_value(text), json_string_length(text));
    json_decref(text);
    return true;
}

static void tell(struct tool_reader *r, struct tool_call *call)
{
    call->told |= r->has_name && r->has_arguments;
}

static void begin_value(struct tool_reader *r, struct tool_call *call, char c)
{
    r->kind = c;
    r->depth = 0;
    r->string = r->escape = false;
    buffer_clear(&r->word);
    r->state = VALUE;
    r->has_arguments |= r->target == ARGUMENTS;
    tell(r, call);
}

/* A value has ended; BROKEN: it cannot be what its key says. */
static enum reading end_value(struct tool_reader *r, struct tool_call *call)
{
    bool good = true;
    r->state = KEY;
    call->whole |= r->target == ARGUMENTS;
    if (r->target == NAME) {
        good = r->kind == '"' && decode_word(r, &call->name) && call->name.len;
        r->has_name |= good;
        tell(r, call);
    } else if (r->target == ARGUMENTS && r->kind == '"') {
        good = decode_word(r, &call->arguments);
    } else if (r->target == ARGUMENTS && r->kind != '{' && r->kind != '[') {
        buffer_text(&call->arguments, "{}"); /* null */
    }
    return !good ? READ_BROKEN : r->whole ? READ_WHOLE : READ_ON;
}

static void keep_value(struct tool_reader *r, struct tool_call *call, char c)
{
    bool nested = r->kind == '{' || r->kind == '[';
    if (r->target == ARGUMENTS && nested)
        buffer_add(&call->arguments, &c, 1);
    else if (r->target != SKIP)
        buffer_add(&r->word, &c, 1);
}

static enum reading value(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    bool scalar = r->kind != '"' && r->kind != '{' && r->kind != '[';
    if (scalar && (c == ',' || c == '}' || c == ']' || tool_reader_space(c))) {
        *taken = false;
        return end_value(r, call);
    }
    keep_value(r, call, c);
    if (r->escape) {
        r->escape = false;
    } else if (r->string) {
        r->escape = c == '\\';
        r->string = c != '"';
        if (!r->string && !r->depth)
            return end_value(r, call);
    } else if (c == '"') {
        r->string = true;
    } else if (c == '{' || c == '[') {
        r->depth++;
    } else if (c == '}' || c == ']') {
        if (!--r->depth)
            return end_value(r, call);
    }
    return READ_ON;
}

static enum reading end_call(struct tool_reader *r, struct tool_call *call)
{
    if (!r->has_name || (!r->has_arguments && r->row->bare))
        return READ_BROKEN;
    if (!r->has_arguments)
        buffer_text(&call->arguments, "{}");
    call->whole = call->told = true;
    return READ_WHOLE;
}

/* What the value of the key in word is; of keys that come twice the first counts. */
static enum target target_of(const struct tool_reader *r)
{
    static const struct {
        const char *key;
        enum target target;
    } keys[] = {
        {"name", NAME}, {"tool_name", NAME}, {"arguments", ARGUMENTS}, {"parameters", ARGUMENTS}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (r->word.len == strlen(keys[i].key) && !memcmp(r->word.v, keys[i].key, r->word.len)) {
            bool again = keys[i].target == NAME ? r->has_name : r->has_arguments;
            return again ? SKIP : keys[i].target;
        }
    return SKIP;
}

enum reading tool_json_read(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    *taken = true;
    switch ((enum state)r->state) {
    case KEY:
        if (c == '}')
            return end_call(r, call);
        if (c == '"') {
            buffer_clear(&r->word);
            r->state = IN_KEY;
            return READ_ON;
        }
        return tool_reader_space(c) || c == ',' ? READ_ON : READ_BROKEN;
    case IN_KEY:
        if (c == '"')
            r->state = COLON;
        else
            buffer_add(&r->word, &c, 1);
        return READ_ON;
    case COLON:
        if (tool_reader_space(c) || c == ':')
            return READ_ON;
        r->target = target_of(r);
        begin_value(r, call, c);
        return value(r, call, c, taken);
    default:
        return value(r, call, c, taken);
    }
}

/* ---- a name, and arguments behind it ---- */

/* The end of text[0..n) without white space. */
static size_t trimmed(const char *text, size_t n)
{
    while (n && tool_reader_space(text[n - 1]))
        n--;
    return n;
}

/* Where word begins in text[0..n), n: nowhere. */
static size_t place_of(const char *text, size_t n, const char *word)
{
    const char *at = n ? memmem(text, n, word, strlen(word)) : NULL;
    return at ? (size_t)(at - text) : n;
}

/* functions.f:N -> f; the whole is the call's id. */
static void read_numbered(struct tool_call *call, const char *text, size_t len)
{
    static const char prefix[] = "functions.";
    size_t skip =
        len > sizeof prefix - 1 && !memcmp(text, prefix, sizeof prefix - 1) ? sizeof prefix - 1 : 0;
    const char *colon = memrchr(text, ':', len);
    size_t end = colon ? (size_t)(colon - text) : len;
    if (len < TOOL_ID_MAX && colon)
        snprintf(call->id, TOOL_ID_MAX, "%.*s", (int)len, text);
    if (end > skip)
        buffer_add(&call->name, text + skip, end - skip);
}

/* The name in what stands before the arguments: f, f>, f <|constrain|>json<|message|>,
 * f[CALL_ID]id[ARGS], f<sep>, type<sep>f
 * ```json, functions.f:N<sep> */
static bool read_name(const struct tool_reader *r, struct tool_call *call)
{
    static const char separator[] = "<｜tool▁sep｜>";
    const char *text = r->word.v;
    if (r->row->numbered) {
        size_t end = place_of(text, r->word.len, "<|tool_call_argument_begin|>");
        read_numbered(call, text, trimmed(text, end));
        return call->name.len > 0;
    }
    size_t len = place_of(text, place_of(text, r->word.len, "<|"), "```");
    len = trimmed(text, len);
    size_t n = place_of(text, len, separator);
    if (n + sizeof separator - 1 < len) {
        text += n + sizeof separator - 1;
        len -= n + sizeof separator - 1;
    } else {
        len = n;
    }
    n = place_of(text, len, "[");
    n = trimmed(text, place_of(text, n, ">"));
    if (r->row->begun && (memchr(text, ' ', n) || memchr(text, '\n', n)))
        return false;
    buffer_add(&call->name, text, n);
    return n > 0;
}

enum reading tool_json_read_named(struct tool_reader *r, struct tool_call *call, char c,
                                  bool *taken)
{
    *taken = true;
    if (r->whole)
        return value(r, call, c, taken);
    r->state = HEAD;
    if (c != '{') {
        buffer_add(&r->word, &c, 1);
        bool line = c == '\n' && !r->row->inner && !r->row->begun;
        return line || r->word.len > TOOL_HEAD_MAX ? READ_BROKEN : READ_ON;
    }
    if (!r->word.len || !read_name(r, call))
        return READ_BROKEN;
    r->has_name = r->whole = true;
    r->target = ARGUMENTS;
    begin_value(r, call, c);
    return value(r, call, c, taken);
}
