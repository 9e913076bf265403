/*
 * POST /v1/completions, /v1/chat/completions, /v1/responses, which differ in their form alone.
 * Whole: wait for the end, then write all choices. Streamed: wait for the first piece (until then a
 * failure still has a status line), then hand the ticket to stream.c.
 */
#include "server/account.h"
#include "server/chat.h"
#include "server/completion.h"
#include "server/handlers.h"
#include "server/names.h"
#include "server/reply.h"
#include "server/responses.h"
#include "server/server.h"
#include "server/stream.h"

static void refuse(struct request *q, struct error *err)
{
    const struct completion *c = q->state;
    if (c)
        names_not_found(c->by_model, c->model, err);
    reply_error(q, err);
}

static void write_choices(const struct request *q, struct completion *c, const struct usage *usage,
                          struct buffer *out)
{
    buffer_format(out,
                  "{\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", c->form->prefix,
                  q->id, c->form->object, (long long)c->created);
    buffer_cstring(out, c->model);
    buffer_text(out, ",\"choices\":[");
    completion_whole(c, out);
    buffer_text(out, "],\"usage\":");
    completion_usage(usage, out);
    buffer_text(out, "}");
}

static void write_whole(struct request *q, struct completion *c)
{
    struct buffer b = {0};
    struct usage usage = {0, 0, 0};
    ticket_usage(q->ticket, &usage);
    (c->form->answer ? c->form->answer : write_choices)(q, c, &usage, &b);
    reply_buffer(q, 200, TYPE_JSON, &b);
}

static enum status check_admitted(const struct request *q, struct error *err)
{
    struct completion *c = q->state;
    c->thinks = ticket_thinks(q->ticket);
    return c->form->admitted ? c->form->admitted(q, c, err) : ST_OK;
}

static void answer_whole(struct request *q)
{
    struct completion *c = q->state;
    struct error err = ERROR_INIT;
    struct piece piece;
    if (ticket_status(q->ticket, &err) || check_admitted(q, &err)) {
        refuse(q, &err);
        return;
    }
    while (ticket_read(q->ticket, &piece))
        if (!completion_add(c, &piece)) {
            reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
            return;
        }
    account_headers(q, true);
    write_whole(q, c);
}

static void begin_stream(struct request *q)
{
    struct completion *c = q->state;
    struct error err = ERROR_INIT;
    bool ended = ticket_ended(q->ticket);
    c->has_first = ticket_read(q->ticket, &c->first) && c->first.finish < FINISH_CANCELLED;
    if (!c->has_first && !ended) {
        request_wait(q, NULL, TICKET_EVENT, begin_stream);
        return;
    }
    if ((!c->has_first && ticket_status(q->ticket, &err)) || check_admitted(q, &err)) {
        refuse(q, &err);
        return;
    }
    account_headers(q, false);
    reply_header(q, "Cache-Control", "no-cache");
    reply_produce_body(q, TYPE_SSE, stream_produce);
}

void route_generate(struct request *q, const struct completion_form *form)
{
    struct error err = ERROR_INIT;
    struct completion *c = NULL;
    struct ticket *ticket = NULL;
    enum status s = completion_read(q, form, &c, &err);
    q->state = c;
    q->state_free = completion_free;
    if (!s)
        s = engine_generate(q->server->engine, &c->request, &ticket, &err);
    if (s)
        refuse(q, &err);
    else if (c->stream)
        request_wait(q, ticket, TICKET_EVENT, begin_stream);
    else
        request_wait(q, ticket, TICKET_END, answer_whole);
}

void route_completions(struct request *q)
{
    route_generate(q, &text_form);
}

void route_chat_completions(struct request *q)
{
    route_generate(q, &chat_form);
}

void route_responses(struct request *q)
{
    route_generate(q, &responses_form);
}
