/*
 * Owns the ways in which families write tool calls, and one machine that reads them all:
 *
 *   hermes   <tool_call>{"name": f, "arguments": {...}}</tool_call>, once a call
 *   llama    {"name": f, "parameters": {...}} as the whole message, "; " between several, a
 *            <|python_tag|> before it perhaps
 *   mistral  [TOOL_CALLS][{"name": f, "arguments": {...}}, ...], or for each call
 *            [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}
 *   list     [{"name": f, "parameters": {...}}, ...], which a grammar holds the text to: no
 * family's bar      <|tool_call|>[{"name": f, "arguments": {...}}], a <|/tool_call|> behind it
 * perhaps
 *
 * Which one a base speaks is what its chat template contains, since the template writes the calls
 * of earlier turns that way. The invariant: every byte of the text goes to the content or to a call
 * at the moment when it is sure which, and until then is held, so that the outcome does not depend
 * on how the text was cut. White space beside a call belongs to it. What begins like a call and
 * turns out to be none is content, byte for byte; arguments are the model's own bytes, never
 * reformatted, and end where the text does if it ends within them.
 */
#include "server/tool_calls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/json.h"

static const struct format {
    const char *open, *close; /* "": none */
    const char *evidence[2];  /* the template contains one of these ... */
    const char *other;        /* ... and not this */
    bool bare;                /* a message may be a call without a tag */
    bool named;               /* a call may be its name, and its arguments behind a bracket */
    bool special;             /* the tags are special tokens */
    bool short_ids;           /* ids of nine letters and digits */
    struct tool_writing writing;
} formats[] = {
    [TOOLS_HERMES] = {.open = "<tool_call>",
                      .close = "</tool_call>",
                      .evidence = {"<tool_call>"},
                      .other = "<function=",
                      .writing = {.begin = " ",
                                  .head = "{ \"name\": ",
                                  .middle = ", \"arguments\": ",
                                  .tail = " }",
                                  .end = " </tool_call>",
                                  .quoted = true}},
    [TOOLS_LLAMA] = {.open = "<|python_tag|>",
                     .close = "",
                     .evidence = {"<|python_tag|>", "\"parameters\": dictionary of argument name"},
                     .bare = true,
                     .special = true,
                     .writing = {.begin = "",
                                 .head = "{ \"name\": ",
                                 .middle = ", \"parameters\": ",
                                 .tail = " }",
                                 .between = "; ",
                                 .end = "",
                                 .quoted = true}},
    [TOOLS_MISTRAL] = {.open = "[TOOL_CALLS]",
                       .close = "",
                       .evidence = {"[TOOL_CALLS]"},
                       .named = true,
                       .special = true,
                       .short_ids = true,
                       .writing = {.begin = " [ ",
                                   .head = "{ \"name\": ",
                                   .middle = ", \"arguments\": ",
                                   .tail = " }",
                                   .between = ", ",
                                   .end = " ]",
                                   .quoted = true}},
    [TOOLS_LIST] = {.open = "[",
                    .close = "",
                    .writing = {.begin = "[ ",
                                .head = "{ \"name\": ",
                                .middle = ", \"parameters\": ",
                                .tail = " }",
                                .between = ", ",
                                .end = " ]",
                                .quoted = true}},
    [TOOLS_BAR] = {.open = "<|tool_call|>",
                   .close = "<|/tool_call|>",
                   .evidence = {"<|tool_call|>"},
                   .special = true,
                   .writing = {.begin = " [ ",
                               .head = "{ \"name\": ",
                               .middle = ", \"arguments\": ",
                               .tail = " }",
                               .between = ", ",
                               .end = " ]",
                               .quoted = true}},
};
#define N_FORMATS (sizeof formats / sizeof formats[0])

static bool contains(const char *text, size_t len, const char *word)
{
    return word && memmem(text, len, word, strlen(word));
}

enum tool_format tool_format_of(const char *template, size_t len)
{
    for (size_t i = TOOLS_NONE + 1; i < N_FORMATS; i++) {
        const struct format *f = &formats[i];
        bool there =
            contains(template, len, f->evidence[0]) || contains(template, len, f->evidence[1]);
        if (there && !contains(template, len, f->other))
            return (enum tool_format)i;
    }
    return TOOLS_NONE;
}

bool tool_format_special(enum tool_format f)
{
    return f != TOOLS_NONE && formats[f].special;
}

const struct tool_writing *tool_format_writing(enum tool_format f)
{
    return formats[f].writing.head ? &formats[f].writing : NULL;
}

const char *tool_format_open(enum tool_format f)
{
    return formats[f].open;
}

bool tool_format_bare(enum tool_format f)
{
    return formats[f].bare;
}

#define HEAD_MAX 256 /* bytes of a name and an id */

enum state {
    TEXT,    /* outside of calls */
    BETWEEN, /* within tags, outside of a call's object */
    HEAD,    /* mistral: the name before [ARGS] */
    KEY,     /* in the object, at its depth: a key or the end */
    IN_KEY,
    COLON,
    VALUE
};

enum target { SKIP, NAME, ARGUMENTS };

struct tool_parser {
    const struct format *format;
    enum state state;
    struct buffer in;  /* not read yet */
    struct buffer raw; /* while in doubt: what began as a call and is not surely one */
    bool doubt;
    bool spoken; /* there was content, or a call: no bare call any more */
    bool failed;

    struct buffer word;  /* a key, a name, or arguments that are a JSON string */
    enum target target;  /* of the value that is read */
    char kind;           /* its first character */
    int depth;           /* of brackets within the value */
    bool string, escape; /* where in it we are */
    bool whole;          /* the value is the whole call: no object around it */
    bool has_name, has_arguments;

    struct tool_call *calls;
    size_t n, cap;
};

struct tool_parser *tool_parser_new(enum tool_format format)
{
    struct tool_parser *p = calloc(1, sizeof *p);
    if (p)
        p->format = &formats[format];
    return p;
}

void tool_parser_free(struct tool_parser *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++) {
        buffer_free(&p->calls[i].name);
        buffer_free(&p->calls[i].arguments);
    }
    free(p->calls);
    buffer_free(&p->in);
    buffer_free(&p->raw);
    buffer_free(&p->word);
    free(p);
}

struct tool_call *tool_parser_calls(struct tool_parser *p, size_t *n)
{
    *n = p ? p->n : 0;
    return p ? p->calls : NULL;
}

bool tool_parser_calling(const struct tool_parser *p)
{
    return p && (p->n || p->state != TEXT);
}

bool tool_parser_failed(const struct tool_parser *p)
{
    bool failed = p->failed | p->in.failed | p->raw.failed | p->word.failed;
    for (size_t i = 0; i < p->n; i++)
        failed |= p->calls[i].name.failed | p->calls[i].arguments.failed;
    return failed;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* ---- a call ---- */

static void make_id(const struct format *f, char *id)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = f->short_ids ? 0 : (size_t)snprintf(id, TOOL_ID_MAX, "call_");
    size_t end = n + (f->short_ids ? 9 : 24);
    uint8_t r[24] = {0};
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        memcpy(r, &id, sizeof id);
    for (size_t i = 0; n < end; i++)
        id[n++] = letters[r[i] % (sizeof letters - 1)];
    id[n] = 0;
}

static struct tool_call *last_call(struct tool_parser *p)
{
    return &p->calls[p->n - 1];
}

static void begin_call(struct tool_parser *p, const struct buffer *content)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 4;
        struct tool_call *bigger = realloc(p->calls, cap * sizeof *bigger);
        if (!bigger) {
            p->failed = true;
            return;
        }
        p->calls = bigger;
        p->cap = cap;
    }
    p->calls[p->n] = (struct tool_call){.before = content->len};
    make_id(p->format, p->calls[p->n++].id);
    p->has_name = p->has_arguments = false;
}

static void drop_call(struct tool_parser *p)
{
    struct tool_call *call = last_call(p);
    p->failed |= call->name.failed | call->arguments.failed;
    buffer_free(&call->name);
    buffer_free(&call->arguments);
    p->n--;
}

/* It is surely a call. */
static void tell(struct tool_parser *p)
{
    last_call(p)->told = true;
    p->spoken = true;
    p->doubt = false;
    buffer_clear(&p->raw);
}

/* What began like a call is none. */
static void refuse(struct tool_parser *p, struct buffer *content)
{
    buffer_add(content, p->raw.v, p->raw.len);
    buffer_clear(&p->raw);
    p->doubt = false;
    p->spoken = true;
    p->state = TEXT;
}

/* The text of a JSON string that was collected in word, into out. */
static bool decode_word(struct tool_parser *p, struct buffer *out)
{
    json_t *text = NULL;
    enum status s = json_parse(p->word.v, p->word.len, 1, "a call", &text, NULL);
    p->failed |= s == ST_OUT_OF_MEMORY;
    if (s)
        return false;
    buffer_add(out, json_string_value(text), json_string_length(text));
    json_decref(text);
    return true;
}

/* ---- the call's object ---- */

static void begin_value(struct tool_parser *p, char c)
{
    p->kind = c;
    p->depth = 0;
    p->string = p->escape = false;
    buffer_clear(&p->word);
    p->state = VALUE;
    if (p->target != ARGUMENTS)
        return;
    p->has_arguments = true;
    if (p->has_name)
        tell(p);
}

/* A value is whole; false: it cannot be what its key says. */
static bool end_value(struct tool_parser *p)
{
    struct tool_call *call = last_call(p);
    p->state = p->whole ? BETWEEN : KEY;
    call->whole |= p->target == ARGUMENTS;
    if (p->target == NAME) {
        if (p->kind != '"' || !decode_word(p, &call->name) || !call->name.len)
            return false;
        p->has_name = true;
        if (p->has_arguments)
            tell(p);
    }
    if (p->target == ARGUMENTS && p->kind == '"')
        return decode_word(p, &call->arguments);
    if (p->target == ARGUMENTS && p->kind != '{' && p->kind != '[')
        buffer_text(&call->arguments, "{}"); /* null */
    return true;
}

static void keep_value(struct tool_parser *p, char c)
{
    bool nested = p->kind == '{' || p->kind == '[';
    if (p->target == ARGUMENTS && nested)
        buffer_add(&last_call(p)->arguments, &c, 1);
    else if (p->target != SKIP)
        buffer_add(&p->word, &c, 1);
}

/* One character of a value. *taken false: it belongs to what follows. */
static bool value(struct tool_parser *p, char c, bool *taken)
{
    bool scalar = p->kind != '"' && p->kind != '{' && p->kind != '[';
    *taken = true;
    if (scalar && (c == ',' || c == '}' || c == ']' || is_space(c))) {
        *taken = false;
        return end_value(p);
    }
    keep_value(p, c);
    if (p->escape) {
        p->escape = false;
    } else if (p->string) {
        p->escape = c == '\\';
        p->string = c != '"';
        if (!p->string && !p->depth)
            return end_value(p);
    } else if (c == '"') {
        p->string = true;
    } else if (c == '{' || c == '[') {
        p->depth++;
    } else if (c == '}' || c == ']') {
        if (!--p->depth)
            return end_value(p);
    }
    return true;
}

/* The object has ended; false: it was no call. */
static bool end_call(struct tool_parser *p)
{
    bool call = p->has_name && (p->has_arguments || !p->format->bare);
    p->state = BETWEEN;
    if (!call)
        return false;
    if (!p->has_arguments)
        buffer_text(&last_call(p)->arguments, "{}");
    last_call(p)->whole = true;
    if (!last_call(p)->told)
        tell(p);
    return true;
}

/* What the value of the key in word is; of keys that come twice the first counts. */
static enum target target_of(const struct tool_parser *p)
{
    const struct buffer *key = &p->word;
    static const struct {
        const char *key;
        enum target target;
    } keys[] = {{"name", NAME}, {"arguments", ARGUMENTS}, {"parameters", ARGUMENTS}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (key->len == strlen(keys[i].key) && !memcmp(key->v, keys[i].key, key->len)) {
            bool again = keys[i].target == NAME ? p->has_name : p->has_arguments;
            return again ? SKIP : keys[i].target;
        }
    return SKIP;
}

/* One character within the object; false: this is no call. */
static bool object(struct tool_parser *p, char c, bool *taken)
{
    *taken = true;
    switch (p->state) {
    case KEY:
        if (c == '}')
            return end_call(p);
        if (c == '"') {
            buffer_clear(&p->word);
            p->state = IN_KEY;
            return true;
        }
        return is_space(c) || c == ',';
    case IN_KEY:
        if (c == '"')
            p->state = COLON;
        else
            buffer_add(&p->word, &c, 1);
        return true;
    case COLON:
        if (is_space(c) || c == ':')
            return true;
        p->target = target_of(p);
        begin_value(p, c);
        return value(p, c, taken);
    default:
        return value(p, c, taken);
    }
}

/* ---- the text around ---- */

/* Is a proper prefix of word at the end of text, such as more text could complete? */
static bool begins(const char *text, size_t len, const char *word)
{
    return len < strlen(word) && !memcmp(text, word, len);
}

/* How many bytes at the end of the text must wait: white space, and the beginning of a tag. */
static size_t unsure(const char *text, size_t len, const char *tag)
{
    size_t keep = strlen(tag) - 1 < len ? strlen(tag) - 1 : len;
    while (keep && !begins(text + len - keep, keep, tag))
        keep--;
    while (keep < len && is_space(text[len - keep - 1]))
        keep++;
    return keep;
}

static void speak(struct tool_parser *p, const char *text, size_t len, struct buffer *content)
{
    p->spoken |= len > 0;
    buffer_add(content, text, len);
}

/* Reads text up to the next call; returns how many bytes it has read (0: wait for more). */
static size_t read_text(struct tool_parser *p, const char *text, size_t len, bool last,
                        struct buffer *content)
{
    const char *open = p->format->open, *tag = memmem(text, len, open, strlen(open));
    size_t n = tag ? (size_t)(tag - text) : len, spaces = 0;
    while (spaces < len && is_space(text[spaces]))
        spaces++;
    if (p->format->bare && !p->spoken && spaces < len && text[spaces] == '{') {
        buffer_add(&p->raw, text, spaces);
        p->doubt = true;
        p->state = BETWEEN;
        return spaces;
    }
    if (tag) {
        size_t end = n;
        while (end && is_space(text[end - 1]))
            end--;
        speak(p, text, end, content);
        buffer_add(&p->raw, text + end, n - end + strlen(open));
        p->doubt = true;
        p->state = BETWEEN;
        return n + strlen(open);
    }
    size_t keep = last ? 0 : unsure(text, len, open);
    if (last && p->n && spaces == len)
        return len;
    speak(p, text, len - keep, content);
    return len - keep;
}

static bool is_tag(const char *text, size_t len, const char *tag)
{
    return *tag && len >= strlen(tag) && !memcmp(text, tag, strlen(tag));
}

/* Has nothing but white space come since the tag? */
static bool after_tag(const struct tool_parser *p)
{
    size_t n = p->raw.len, tag = strlen(p->format->open);
    while (n && is_space(p->raw.v[n - 1]))
        n--;
    return p->doubt && n >= tag && !memcmp(p->raw.v + n - tag, p->format->open, tag);
}

/* Reads what may stand between a call and the next, or a tag's end. */
static size_t read_between(struct tool_parser *p, const char *text, size_t len, bool last,
                           struct buffer *content)
{
    const struct format *f = p->format;
    if (*text == '{') {
        p->doubt = true;
        begin_call(p, content);
        p->whole = false;
        p->state = KEY;
    } else if (!p->doubt && is_tag(text, len, f->close)) {
        p->state = TEXT;
        return strlen(f->close);
    } else if (!p->doubt && is_tag(text, len, f->open)) {
        p->state = TEXT;
        return 0;
    } else if (!p->doubt && (begins(text, len, f->close) || begins(text, len, f->open))) {
        return last ? len : 0; /* a tag that was cut off at the end belongs to the call */
    } else if (!is_space(*text) && !memchr("[],;", *text, 4)) {
        if (after_tag(p) && f->named)
            p->state = HEAD;
        else
            refuse(p, content);
        buffer_clear(&p->word);
        return 0;
    }
    if (p->doubt)
        buffer_add(&p->raw, text, 1);
    return 1;
}

/* f[CALL_ID]id[ARGS]{: the name ends at a bracket, the arguments begin at a brace. */
static size_t read_head(struct tool_parser *p, const char *text, struct buffer *content)
{
    char c = *text;
    if (c == '\n' || p->word.len > HEAD_MAX) {
        refuse(p, content);
        return 0;
    }
    buffer_add(&p->raw, &c, 1);
    if (c != '{') {
        buffer_add(&p->word, &c, 1);
        return 1;
    }
    size_t name = 0;
    while (name < p->word.len && p->word.v[name] != '[')
        name++;
    while (name && is_space(p->word.v[name - 1]))
        name--;
    if (!name) {
        refuse(p, content);
        return 1;
    }
    begin_call(p, content);
    if (p->failed)
        return 1;
    buffer_add(&last_call(p)->name, p->word.v, name);
    p->has_name = true;
    p->whole = true;
    p->target = ARGUMENTS;
    bool taken;
    begin_value(p, c);
    value(p, c, &taken);
    return 1;
}

static size_t read_object(struct tool_parser *p, const char *text, struct buffer *content)
{
    bool taken;
    bool good = object(p, *text, &taken);
    if (taken && p->doubt)
        buffer_add(&p->raw, text, 1);
    if (good)
        return taken;
    if (last_call(p)->told) { /* what follows the arguments is broken: the call stays */
        p->state = BETWEEN;
        return taken;
    }
    drop_call(p);
    refuse(p, content);
    return taken;
}

static void end(struct tool_parser *p, struct buffer *content)
{
    if (p->state == TEXT)
        return;
    if (p->n && !last_call(p)->told && p->state != BETWEEN && p->state != HEAD)
        drop_call(p);
    refuse(p, content);
}

void tool_parser_push(struct tool_parser *p, const char *text, size_t len, bool last,
                      struct buffer *content)
{
    size_t at = 0;
    buffer_add(&p->in, text, len);
    while (at < p->in.len && !tool_parser_failed(p) && !content->failed) {
        const char *rest = p->in.v + at;
        size_t n = p->in.len - at, read;
        enum state state = p->state;
        if (state == TEXT)
            read = read_text(p, rest, n, last, content);
        else if (state == BETWEEN)
            read = read_between(p, rest, n, last, content);
        else if (state == HEAD)
            read = read_head(p, rest, content);
        else
            read = read_object(p, rest, content);
        if (!read && state == p->state)
            break;
        at += read;
    }
    if (p->in.len)
        memmove(p->in.v, p->in.v + at, p->in.len - at);
    p->in.len -= at;
    if (last)
        end(p, content);
    p->failed |= content->failed;
}
