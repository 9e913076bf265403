/*
 * Owns the text around calls: which of its bytes are content and which are calls, for every way of
 * writing that tool_format.c knows; what stands within a call is read by tool_json.c, tool_tags.c
 * or tool_python.c.
 *
 * The invariant: every byte of the text goes to the content or to a call at the moment when it is
 * sure which, and until then is held, so that the outcome does not depend on how the text was cut.
 * White space before a call belongs to it. What begins like a call and turns out to be none is
 * content, byte for byte; arguments end where the text does if it ends within them.
 */
#include "server/tool_calls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/grow.h"
#include "server/tool_reader.h"

enum state {
    TEXT,    /* outside of calls */
    BETWEEN, /* within tags, outside of a call */
    CALL
};

struct tool_parser {
    const struct tool_row *row;
    const json_t *tools;
    enum state state;
    struct buffer in;  /* not read yet */
    struct buffer raw; /* while in doubt: what began as a call and is not surely one */
    bool doubt;
    bool spoken; /* there was content, or a call: no bare call any more */
    bool head;   /* a call's name may stand here */
    bool begun;  /* it is known whether the text has its first tag itself */
    size_t lent; /* bytes of the first tag that the prompt has and the text has not */
    bool failed;
    tool_read *read; /* of the call at hand */
    struct tool_reader reader;
    struct tool_call *calls;
    size_t n, cap;
};

struct tool_parser *tool_parser_new(enum tool_format format, const json_t *tools)
{
    struct tool_parser *p = calloc(1, sizeof *p);
    if (p) {
        p->row = tool_format_row(format);
        p->tools = tools;
    }
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
    buffer_free(&p->reader.word);
    free(p);
}

struct tool_call *tool_parser_calls(struct tool_parser *p, size_t *n)
{
    *n = p ? p->n : 0;
    return p ? p->calls : NULL;
}

size_t tool_parser_held(const struct tool_parser *p)
{
    return p ? p->in.len + p->raw.len - (p->lent < p->raw.len ? p->lent : p->raw.len) : 0;
}

bool tool_parser_failed(const struct tool_parser *p)
{
    bool failed =
        p->failed | p->in.failed | p->raw.failed | p->reader.word.failed | p->reader.failed;
    for (size_t i = 0; i < p->n; i++)
        failed |= p->calls[i].name.failed | p->calls[i].arguments.failed;
    return failed;
}

/* ---- calls ---- */

static void make_id(const struct tool_row *row, char *id)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = row->short_ids ? 0 : (size_t)snprintf(id, TOOL_ID_MAX, "call_");
    size_t end = n + (row->short_ids ? 9 : 24);
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

static void begin_call(struct tool_parser *p, const struct buffer *content, tool_read *read)
{
    if (!GROW(p->calls, p->cap, p->n + 1, 4)) {
        p->failed = true;
        return;
    }
    struct buffer word = p->reader.word;
    buffer_clear(&word);
    p->calls[p->n] = (struct tool_call){.before = content->len};
    make_id(p->row, p->calls[p->n++].id);
    p->reader = (struct tool_reader){.row = p->row, .tools = p->tools, .word = word};
    p->read = read;
    p->state = CALL;
    p->doubt = true;
    p->head = false;
}

static void drop_call(struct tool_parser *p)
{
    struct tool_call *call = last_call(p);
    p->failed |= call->name.failed | call->arguments.failed;
    buffer_free(&call->name);
    buffer_free(&call->arguments);
    p->n--;
}

/* What began like a call is none. */
static void refuse(struct tool_parser *p, struct buffer *content)
{
    size_t lent = p->lent < p->raw.len ? p->lent : p->raw.len;
    buffer_add(content, p->raw.len ? p->raw.v + lent : "", p->raw.len - lent);
    buffer_clear(&p->raw);
    p->lent = 0;
    p->doubt = false;
    p->spoken = true;
    p->state = TEXT;
}

static size_t read_call(struct tool_parser *p, const char *text, struct buffer *content)
{
    bool taken;
    enum reading got;
    do { /* a value without an end of its own leaves the byte behind it to what follows */
        got = p->read(&p->reader, last_call(p), *text, &taken);
    } while (got == READ_ON && !taken);
    bool told = last_call(p)->told;
    if (taken && p->doubt)
        buffer_add(&p->raw, text, 1);
    if (told && p->doubt) {
        p->doubt = false;
        p->spoken = true;
        p->lent = 0;
        buffer_clear(&p->raw);
    }
    if (got == READ_WHOLE || (got == READ_BROKEN && told)) {
        p->state = BETWEEN;
    } else if (got == READ_BROKEN) {
        drop_call(p);
        refuse(p, content);
    }
    return taken;
}

/* ---- tags ---- */

/* Is text a proper prefix of word, such as more text could complete? */
static bool begins(const char *text, size_t len, const char *word)
{
    return word && len < strlen(word) && !memcmp(text, word, len);
}

static bool is_tag(const char *text, size_t len, const char *tag)
{
    return tag && *tag && len >= strlen(tag) && !memcmp(text, tag, strlen(tag));
}

/* The first tag in the text, or NULL. *tag: which one. */
static const char *next_tag(const struct tool_row *r, const char *text, size_t len,
                            const char **tag)
{
    const size_t n = sizeof r->drop / sizeof r->drop[0];
    const char *first = NULL;
    for (size_t i = 0; i <= n; i++) {
        const char *word = i < n ? r->drop[i] : r->open;
        const char *at = word ? memmem(text, len, word, strlen(word)) : NULL;
        if (at && (!first || at < first)) {
            first = at;
            *tag = word;
        }
    }
    return first;
}

/* How many bytes at the end of the text must wait: white space, and the beginning of a tag. */
static size_t unsure(const struct tool_row *r, const char *text, size_t len)
{
    const size_t n = sizeof r->drop / sizeof r->drop[0];
    size_t most = 0;
    for (size_t i = 0; i <= n; i++) {
        const char *word = i < n ? r->drop[i] : r->open;
        size_t keep = word && strlen(word) - 1 < len ? strlen(word) - 1 : word ? len : 0;
        while (keep && !begins(text + len - keep, keep, word))
            keep--;
        most = keep > most ? keep : most;
    }
    while (most < len && tool_reader_space(text[len - most - 1]))
        most++;
    return most;
}

/* ---- the text around ---- */

static void speak(struct tool_parser *p, const char *text, size_t len, struct buffer *content)
{
    p->spoken |= len > 0;
    buffer_add(content, text, len);
}

static bool bare_call(const struct tool_parser *p, char c)
{
    return p->row->bare && !p->spoken && (c == '{' || (p->row->python && c == '['));
}

/* Could more text make what begins here a tag that says nothing? */
static bool may_be_dropped(const struct tool_row *r, const char *text, size_t len)
{
    bool may = false;
    for (size_t i = 0; i < sizeof r->drop / sizeof r->drop[0]; i++)
        may |= begins(text, len, r->drop[i]);
    return may;
}

/* Reads text up to the next call; returns how many bytes it has read (0: wait for more). */
static size_t read_text(struct tool_parser *p, const char *text, size_t len, bool last,
                        struct buffer *content)
{
    const struct tool_row *r = p->row;
    const char *tag = NULL, *at = next_tag(r, text, len, &tag);
    size_t n = at ? (size_t)(at - text) : len, spaces = 0, end = n;
    while (spaces < len && tool_reader_space(text[spaces]))
        spaces++;
    if (spaces < len && bare_call(p, text[spaces])) {
        buffer_add(&p->raw, text, spaces);
        p->doubt = true;
        p->state = BETWEEN;
        return spaces;
    }
    if (tag && tag != r->open) {
        speak(p, text, n, content);
        p->lent = 0;
        return n + strlen(tag);
    }
    if (tag && !last && may_be_dropped(r, at, len - n)) {
        speak(p, text, n, content);
        return n;
    }
    if (tag) {
        while (end && tool_reader_space(text[end - 1]))
            end--;
        speak(p, text, end, content);
        buffer_add(&p->raw, text + end, n - end + strlen(tag));
        p->doubt = true;
        p->head = !r->inner;
        p->state = BETWEEN;
        return n + strlen(tag);
    }
    size_t keep = last ? 0 : unsure(r, text, len);
    if (last && p->n && spaces == len)
        return len;
    speak(p, text, len - keep, content);
    return len - keep;
}

/* Goes past n bytes that are no content, unless no call comes of them. */
static size_t pass(struct tool_parser *p, const char *text, size_t n)
{
    if (p->doubt)
        buffer_add(&p->raw, text, n);
    return n;
}

/* What may begin a call here, and how much of it has been read; false: nothing. */
static bool call_begins(struct tool_parser *p, const char *text, size_t len, struct buffer *content,
                        size_t *read)
{
    const struct tool_row *r = p->row;
    bool letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || *text == '_';
    *read = 0;
    if (*text == '{' && !r->tags && (!r->python || r->bare)) {
        begin_call(p, content, tool_json_read);
        *read = 1;
    } else if (r->tags && is_tag(text, len, r->tags->name)) {
        begin_call(p, content, tool_tags_read);
        *read = strlen(r->tags->name);
    } else if (r->python && letter) {
        begin_call(p, content, tool_python_read);
    } else if (is_tag(text, len, r->inner)) {
        p->doubt = p->head = true;
        *read = strlen(r->inner);
    } else {
        return false;
    }
    pass(p, text, *read);
    return true;
}

/* Reads what may stand between a call and the next, or a tag's end. */
static size_t read_between(struct tool_parser *p, const char *text, size_t len, bool last,
                           struct buffer *content)
{
    const struct tool_row *r = p->row;
    const char *wait[] = {r->tags ? r->tags->name : NULL,
                          r->inner,
                          r->skip[0],
                          r->skip[1],
                          p->doubt ? NULL : r->close,
                          p->doubt ? NULL : r->open};
    size_t read;
    if (call_begins(p, text, len, content, &read))
        return read;
    if (!p->doubt && is_tag(text, len, r->close)) {
        p->state = TEXT;
        return strlen(r->close);
    }
    if (!p->doubt && is_tag(text, len, r->open)) {
        p->state = TEXT;
        return 0;
    }
    for (size_t i = 0; i < sizeof wait / sizeof wait[0]; i++) {
        if ((i == 2 || i == 3) && is_tag(text, len, wait[i]))
            return pass(p, text, strlen(wait[i]));
        if (begins(text, len, wait[i]) && !last)
            return 0;
        if (begins(text, len, wait[i]) && !p->doubt)
            return len; /* a tag that was cut off at the end belongs to the call */
    }
    if (tool_reader_space(*text))
        return pass(p, text, 1);
    if (memchr("[],;", *text, 4)) {
        p->head = false;
        return pass(p, text, 1);
    }
    if (p->head && r->named)
        begin_call(p, content, r->tags ? tool_tags_read : tool_json_read_named);
    else
        refuse(p, content);
    return 0;
}

/* Where the prompt has the first tag, the text is read as if it had it; false: that is not known.
 */
static bool begin_text(struct tool_parser *p, bool last)
{
    const char *open = p->row->open;
    size_t n = strlen(open), len = p->in.len;
    if (p->begun || !p->row->begun)
        return true;
    if (!len || (!last && begins(p->in.v, len, open)))
        return false;
    p->begun = true;
    if (is_tag(p->in.v, len, open))
        return true;
    buffer_text(&p->in, open);
    if (p->in.failed)
        return false;
    memmove(p->in.v + n, p->in.v, len);
    memcpy(p->in.v, open, n);
    p->lent = n;
    return true;
}

static void end(struct tool_parser *p, struct buffer *content)
{
    if (p->state == TEXT)
        return;
    if (p->state == CALL && !last_call(p)->told)
        drop_call(p);
    refuse(p, content);
}

void tool_parser_push(struct tool_parser *p, const char *text, size_t len, bool last,
                      struct buffer *content)
{
    size_t at = 0;
    buffer_add(&p->in, text, len);
    bool begun = begin_text(p, last);
    while (begun && at < p->in.len && !tool_parser_failed(p) && !content->failed) {
        const char *rest = p->in.v + at;
        size_t n = p->in.len - at, read;
        enum state state = p->state;
        if (state == TEXT)
            read = read_text(p, rest, n, last, content);
        else if (state == BETWEEN)
            read = read_between(p, rest, n, last, content);
        else
            read = read_call(p, rest, content);
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
