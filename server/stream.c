/*
 * Frames: `data: {...}` and an empty line for every piece (of a chat: for every part of it), a last
 * one with the usage when it was asked for, `data: [DONE]`. A failure after the first frame is
 * `event: error` with the error body and no [DONE]: the status line has gone. A frame is written
 * when the client can take it; what it has not taken stays in the ticket, at most its own
 * max_tokens.
 */
#include "server/stream.h"

#include <stdlib.h>

#include "server/completion.h"
#include "server/reply.h"
#include "server/server.h"

static void open_frame(const struct request *q, const struct completion *c, struct buffer *out)
{
    const struct completion_form *form = c->form;
    buffer_format(out, "data: {\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%lld,", form->prefix,
                  q->id, form->chunk, (long long)c->created);
    buffer_text(out, "\"model\":");
    buffer_cstring(out, c->model);
    buffer_text(out, ",\"choices\":[");
}

static void close_frame(const struct completion *c, const struct usage *usage, struct buffer *out)
{
    buffer_text(out, "]");
    if (usage) {
        buffer_text(out, ",\"usage\":");
        completion_usage(usage, out);
    } else if (c->include_usage) {
        buffer_text(out, ",\"usage\":null");
    }
    buffer_text(out, "}\n\n");
}

static bool write_piece(struct request *q, struct completion *c, const struct piece *p,
                        struct buffer *out)
{
    if (p->finish >= FINISH_CANCELLED) /* the error frame will tell */
        return true;
    struct choice *choice = completion_add(c, p);
    if (!choice)
        return false;
    if (c->form->frames)
        c->form->frames(q, c, choice, out);
    while (!c->form->frames && c->form->pending(c, choice) && !out->failed) {
        open_frame(q, c, out);
        c->form->write(c, choice, false, out);
        close_frame(c, NULL, out);
    }
    return !out->failed;
}

static void write_error(struct error *err, struct buffer *out)
{
    json_t *body = reply_error_json(err);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    buffer_text(out, "event: error\ndata: ");
    if (text)
        buffer_text(out, text);
    else
        reply_plain_error(err->code, reply_status(err->code), out);
    buffer_text(out, "\n\n");
    free(text);
    json_decref(body);
}

static void write_end(struct request *q, struct completion *c, struct buffer *out)
{
    struct error err = ERROR_INIT;
    struct usage usage = {0, 0, 0};
    ticket_usage(q->ticket, &usage);
    q->prompt_tokens = usage.prompt_tokens;
    q->generated_tokens = usage.generated_tokens;
    if (ticket_status(q->ticket, &err)) {
        write_error(&err, out);
    } else if (c->form->end) {
        c->form->end(q, c, &usage, out);
    } else {
        if (c->include_usage) {
            open_frame(q, c, out);
            close_frame(c, &usage, out);
        }
        buffer_text(out, "data: [DONE]\n\n");
    }
    error_clear(&err);
}

/* Memory ran out within a frame: the whole ones before it are sent, then the error. */
static enum produce cut_short(struct request *q, struct buffer *out, size_t whole)
{
    struct error err = ERROR_INIT;
    ticket_cancel(q->ticket);
    out->failed = false;
    out->len = whole;
    error_memory(&err, "a frame of the stream");
    write_error(&err, out);
    error_clear(&err);
    return PRODUCE_END;
}

enum produce stream_produce(struct request *q, struct buffer *out)
{
    struct completion *c = q->state;
    struct piece piece;
    bool ended = ticket_ended(q->ticket); /* asked first: what comes before the end is read below */
    if (c->has_first) {
        c->has_first = false;
        if (!write_piece(q, c, &c->first, out))
            return cut_short(q, out, 0);
    }
    while (out->len < PRODUCE_SIZE) {
        size_t whole = out->len;
        if (ticket_read(q->ticket, &piece)) {
            if (!write_piece(q, c, &piece, out))
                return cut_short(q, out, whole);
            continue;
        }
        if (!ended)
            return PRODUCE_WAIT;
        write_end(q, c, out);
        return out->failed ? cut_short(q, out, whole) : PRODUCE_END;
    }
    return PRODUCE_MORE;
}
