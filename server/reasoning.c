/*
 * Owns the ways in which families mark their thoughts, and the text's way to what is thought, what
 * is said and what is called:
 *
 *   think      <think>thought</think>answer, where the prompt may have opened the thought already:
 *              DeepSeek R1, Qwen3, QwQ, GLM 4.5, Kimi K2 Thinking, Nemotron
 *   brackets   [THINK]thought[/THINK]answer: Magistral
 *   command    <|START_THINKING|>thought<|END_THINKING|><|START_RESPONSE|>answer<|END_RESPONSE|>:
 *              Command R7B, A; their later ones have TEXT for RESPONSE
 *   harmony    gpt-oss: messages, one behind the other, that begin with <|start|>assistant (of the
 *              first one the prompt has it), a header and <|message|>, and end with <|end|>,
 * <|call|> or <|return|>. The header of a thought has <|channel|>analysis, that of a call
 *              to=functions.f; what else there is (final; commentary to nobody, a preamble) is said
 *
 * Line feeds around a thought in tags, and before the answer behind it, belong to the tags: so the
 * templates read earlier turns. Thoughts, and messages of one kind, have a line feed between them.
 * Tags that are special tokens begin a thought wherever they stand; those that anybody may write do
 * so before the answer alone, which is all said.
 *
 * The invariant is the one of tool_calls.c: a byte goes on when it is sure where to, and is held
 * until then, so that the outcome does not depend on how the text was cut.
 */
#include "server/reasoning.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "server/tool_reader.h"

#define HEADER_MAX 512 /* bytes of a message's header */

#define FRAMES 4

static const struct {
    const char *open, *close; /* NULL: harmony's */
    bool special;
    const char *frame[FRAMES]; /* tags around what is said; with special alone */
} rows[] = {[REASONING_HARMONY] = {NULL, NULL, true, {NULL}},
            [REASONING_THINK] = {"<think>", "</think>", false, {NULL}},
            [REASONING_BRACKETS] = {"[THINK]", "[/THINK]", true, {NULL}},
            [REASONING_COMMAND] = {
                "<|START_THINKING|>",
                "<|END_THINKING|>",
                true,
                {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"}}};

static const char channel[] = "<|channel|>", message[] = "<|message|>", start[] = "<|start|>",
                  recipient[] = "to=functions.";

enum state {
    START,   /* before a thought, if one comes */
    THOUGHT, /* within it */
    AFTER,   /* line feeds behind it */
    SPEECH,
    HEADER, /* of a message */
    BODY,   /* of a message */
    BETWEEN /* messages */
};
enum kind { THINKS, SAYS, CALLS };

struct reasoner {
    enum reasoning_format format;
    enum state state;
    enum kind kind;   /* of the body */
    struct buffer in; /* not read yet */
    struct buffer to; /* of a call: whom it is to, until its arguments begin */
    bool any;         /* something of this thought, or of this body, has gone on */
    bool framed;      /* a message has begun as it should */
    bool failed;      /* memory ran out */
    struct thought *thoughts;
    size_t n, cap;
};

enum reasoning_format reasoning_format_of(const char *template, size_t len)
{
    if (memmem(template, len, channel, sizeof channel - 1) && memmem(template, len, "analysis", 8))
        return REASONING_HARMONY;
    for (enum reasoning_format f = REASONING_THINK; f <= REASONING_COMMAND; f++)
        if (memmem(template, len, rows[f].close, strlen(rows[f].close)))
            return f;
    return REASONING_NONE;
}

const char *reasoning_open(enum reasoning_format f)
{
    return rows[f].open;
}

bool reasoning_special(enum reasoning_format f)
{
    return rows[f].special;
}

struct reasoner *reasoner_new(enum reasoning_format f, bool open)
{
    struct reasoner *r = calloc(1, sizeof *r);
    if (r) {
        r->format = f;
        r->state = f == REASONING_HARMONY ? HEADER : open ? THOUGHT : START;
    }
    return r;
}

void reasoner_free(struct reasoner *r)
{
    if (!r)
        return;
    buffer_free(&r->in);
    buffer_free(&r->to);
    free(r->thoughts);
    free(r);
}

bool reasoner_thinking(const struct reasoner *r)
{
    return r && (r->state == THOUGHT || (r->state == BODY && r->kind == THINKS));
}

size_t reasoner_held(const struct reasoner *r)
{
    return r ? r->in.len : 0;
}

bool reasoner_failed(const struct reasoner *r)
{
    return r->in.failed | r->to.failed | r->failed;
}

const struct thought *reasoner_thoughts(const struct reasoner *r, size_t *n)
{
    *n = r ? r->n : 0;
    return r ? r->thoughts : NULL;
}

/* ---- pieces of text ---- */

static bool is_tag(const char *text, size_t len, const char *tag)
{
    return len >= strlen(tag) && !memcmp(text, tag, strlen(tag));
}

/* Could more text make it this tag? */
static bool begins(const char *text, size_t len, const char *tag)
{
    return len < strlen(tag) && !memcmp(text, tag, len);
}

/* How many bytes at the end of the text may be the beginning of the tag. */
static size_t unsure(const char *text, size_t len, const char *tag)
{
    size_t keep = strlen(tag) - 1 < len ? strlen(tag) - 1 : len;
    while (keep && !begins(text + len - keep, keep, tag))
        keep--;
    return keep;
}

/* How many bytes stand before the first of n tags (some may be NULL), as far as that is sure. *tag:
 * which one, NULL: none yet. */
static size_t before_tag(const char *text, size_t len, const char *const *tags, size_t n, bool last,
                         const char **tag)
{
    size_t before = len, keep = 0;
    *tag = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *found = tags[i] ? memmem(text, before, tags[i], strlen(tags[i])) : NULL;
        size_t some = tags[i] ? unsure(text, len, tags[i]) : 0;
        keep = some > keep ? some : keep;
        if (found) {
            before = (size_t)(found - text);
            *tag = tags[i];
        }
    }
    return *tag || last ? before : len - keep;
}

static size_t lines_at(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && text[n] == '\n')
        n++;
    return n;
}

/* The last thought, if nothing was said or called since; NULL otherwise. */
static struct thought *last_thought(struct reasoner *r, const struct reasoning_sink *to)
{
    struct thought *last = r->n ? &r->thoughts[r->n - 1] : NULL;
    size_t calls;
    tool_parser_calls(to->calls, &calls);
    return last && last->before == to->content->len && last->calls == calls ? last : NULL;
}

/* The thought that the next words belong to; NULL when memory runs out. */
static struct thought *thought_at_hand(struct reasoner *r, const struct reasoning_sink *to)
{
    struct thought *last = last_thought(r, to);
    size_t calls;
    if (last)
        return last;
    tool_parser_calls(to->calls, &calls);
    if (!GROW(r->thoughts, r->cap, r->n + 1, 2)) {
        r->failed = true;
        return NULL;
    }
    r->thoughts[r->n] = (struct thought){.from = to->thought->len,
                                         .before = to->content->len,
                                         .calls = calls,
                                         .behind = to->content->len};
    return &r->thoughts[r->n++];
}

/* next: it is the beginning of one more message. */
static void think(struct reasoner *r, const char *text, size_t len, bool next,
                  const struct reasoning_sink *to)
{
    if (next && to->thought->len)
        buffer_text(to->thought, "\n");
    struct thought *at = thought_at_hand(r, to);
    buffer_add(to->thought, text, len);
    if (at)
        at->to = to->thought->len;
}

static void say(const char *text, size_t len, const struct reasoning_sink *to)
{
    if (to->calls)
        tool_parser_push(to->calls, text, len, false, to->content);
    else
        buffer_add(to->content, text, len);
}

/* ---- in tags ---- */

static size_t read_start(struct reasoner *r, const char *text, size_t len, bool last)
{
    const char *open = rows[r->format].open;
    size_t n = 0;
    while (n < len && tool_reader_space(text[n]))
        n++;
    if (is_tag(text + n, len - n, open)) {
        r->state = THOUGHT;
        return n + strlen(open);
    }
    if (last || (n < len && !begins(text + n, len - n, open)))
        r->state = SPEECH;
    return 0;
}

static size_t read_thought(struct reasoner *r, const char *text, size_t len, bool last,
                           const struct reasoning_sink *to)
{
    const char *open = rows[r->format].open, *close = rows[r->format].close;
    if (!r->any) { /* its beginning: what the prompt has opened may be opened once more */
        size_t n = lines_at(text, len);
        if (n)
            return n;
        if (is_tag(text, len, open))
            return strlen(open);
        if (begins(text, len, open) && !last)
            return 0;
    }
    const char *at = memmem(text, len, close, strlen(close));
    size_t n = at ? (size_t)(at - text) : len - (last ? 0 : unsure(text, len, close)), end = n;
    while (end && text[end - 1] == '\n')
        end--;
    if (end)
        think(r, text, end, !r->any, to);
    r->any |= end > 0;
    if (at)
        r->state = AFTER;
    return at ? n + strlen(close) : last ? len : end;
}

static size_t read_after(struct reasoner *r, const char *text, size_t len)
{
    size_t n = lines_at(text, len);
    if (n < len)
        r->state = SPEECH;
    return n;
}

static size_t read_speech(struct reasoner *r, const char *text, size_t len, bool last,
                          const struct reasoning_sink *to)
{
    const char *tags[FRAMES + 1], *tag = NULL, *open = rows[r->format].open;
    memcpy(tags, rows[r->format].frame, sizeof rows[0].frame);
    tags[FRAMES] = open;
    size_t n = rows[r->format].special ? before_tag(text, len, tags, FRAMES + 1, last, &tag) : len;
    say(text, n, to);
    if (!tag)
        return n;
    if (tag != open)
        return n + strlen(tag);
    if (to->calls) /* what is said is said before it */
        tool_parser_push(to->calls, "", 0, true, to->content);
    r->any = false;
    r->state = THOUGHT;
    return n + strlen(tag);
}

/* ---- harmony ---- */

/* May a message's header begin so? */
static bool is_header(const char *text, size_t len)
{
    static const char *const heads[] = {channel, message, start, "<|constrain|>", "to="};
    size_t n = 0;
    while (n < len && tool_reader_space(text[n]))
        n++;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (is_tag(text + n, len - n, heads[i]) || begins(text + n, len - n, heads[i]))
            return true;
    return false;
}

/* What the header says of the body, and what of it the reader of calls wants. */
static void read_kind(struct reasoner *r, const char *header, size_t len,
                      const struct reasoning_sink *to)
{
    const char *call = memmem(header, len, recipient, sizeof recipient - 1), *end = header + len;
    const char *at = memmem(header, len, channel, sizeof channel - 1);
    const char *name = at ? at + sizeof channel - 1 : end;
    bool thinks = is_tag(name, (size_t)(end - name), "analysis");
    r->kind = thinks ? THINKS : SAYS;
    if (!call || !to->calls)
        return;
    for (at = call; at < end && *at != '<' && !tool_reader_space(*at);)
        at++;
    buffer_clear(&r->to);
    buffer_add(&r->to, call, (size_t)(at - call));
    buffer_text(&r->to, " ");
    r->kind = CALLS;
}

static size_t read_header(struct reasoner *r, const char *text, size_t len, bool last,
                          const struct reasoning_sink *to)
{
    const char *at = memmem(text, len, message, sizeof message - 1);
    if (!r->framed && !is_header(text, len)) {
        r->kind = SAYS;
        r->state = BODY;
        return 0;
    }
    size_t n = at ? (size_t)(at - text) : len;
    if (at || n > HEADER_MAX) {
        read_kind(r, text, n, to);
        r->framed = true;
        r->any = false;
        r->state = BODY;
        return at ? n + sizeof message - 1 : n;
    }
    return last ? len : 0; /* one that is cut off says nothing */
}

/* What is said stands apart from what was said before. */
static void speak(struct reasoner *r, const char *text, size_t len, const struct reasoning_sink *to)
{
    bool next = !r->any && to->content->len;
    struct thought *last = next ? last_thought(r, to) : NULL;
    if (last)
        last->behind++;
    buffer_text(to->content, next ? "\n" : "");
    buffer_add(to->content, text, len);
}

static void tell(struct reasoner *r, const char *text, size_t len, const struct reasoning_sink *to)
{
    if (!len)
        return;
    if (r->kind == CALLS && !r->any)
        say(r->to.v, r->to.len, to);
    if (r->kind == CALLS)
        say(text, len, to);
    else if (r->kind == THINKS)
        think(r, text, len, !r->any, to);
    else
        speak(r, text, len, to);
    r->any = true;
}

static size_t read_body(struct reasoner *r, const char *text, size_t len, bool last,
                        const struct reasoning_sink *to)
{
    static const char *const ends[] = {"<|end|>", "<|call|>", "<|return|>", start};
    const char *tag;
    size_t n = before_tag(text, len, ends, sizeof ends / sizeof ends[0], last, &tag);
    if (r->kind == CALLS && !r->any) /* before the arguments */
        for (; n && tool_reader_space(*text); n--, text++)
            ;
    tell(r, text, n, to);
    if (tag && r->kind == CALLS) /* a call ends with its message */
        tool_parser_push(to->calls, "", 0, true, to->content);
    if (tag)
        r->state = tag == start ? HEADER : BETWEEN;
    return (size_t)(text + n - r->in.v) + (tag ? strlen(tag) : 0);
}

static size_t read_between(struct reasoner *r, const char *text, size_t len, bool last)
{
    size_t n = 0;
    while (n < len && tool_reader_space(text[n]))
        n++;
    if (is_tag(text + n, len - n, start)) {
        r->state = HEADER;
        return n + sizeof start - 1;
    }
    if (n < len && (last || !begins(text + n, len - n, start))) {
        r->kind = SAYS;
        r->any = false;
        r->state = BODY;
    }
    return n;
}

/* ---- all of it ---- */

static size_t step(struct reasoner *r, const char *text, size_t len, bool last,
                   const struct reasoning_sink *to)
{
    switch (r->state) {
    case START:
        return read_start(r, text, len, last);
    case THOUGHT:
        return read_thought(r, text, len, last, to);
    case AFTER:
        return read_after(r, text, len);
    case HEADER:
        return read_header(r, text, len, last, to);
    case BODY:
        return read_body(r, text, len, last, to);
    case BETWEEN:
        return read_between(r, text, len, last);
    case SPEECH:
        break;
    }
    return read_speech(r, text, len, last, to);
}

void reasoner_push(struct reasoner *r, const char *text, size_t len, bool last,
                   const struct reasoning_sink *to)
{
    buffer_add(&r->in, text, len);
    while (r->in.len && !r->in.failed) {
        enum state state = r->state;
        size_t n = step(r, r->in.v, r->in.len, last, to);
        if (!n && state == r->state)
            break;
        memmove(r->in.v, r->in.v + n, r->in.len - n);
        r->in.len -= n;
    }
    if (last && to->calls)
        tool_parser_push(to->calls, "", 0, true, to->content);
}
