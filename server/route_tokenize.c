/*
 * POST /tokenize and /detokenize: text to ids and back; POST /apply-template: a conversation to
 * text. All of it is the intake threads' work.
 */
#include <string.h>

#include "server/conversation.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

static void answer_tokens(struct request *q)
{
    struct error err = ERROR_INIT;
    struct buffer b = {0};
    size_t n = 0;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const int32_t *ids = ticket_ids(q->ticket, &n);
    bool pieces = field_bool(q->json, "with_pieces", false);
    buffer_text(&b, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        buffer_text(&b, i ? "," : "");
        if (pieces) {
            size_t len = 0;
            const char *piece = engine_piece(q->server->engine, ids[i], &len);
            buffer_format(&b, "{\"id\":%d,\"piece\":", ids[i]);
            buffer_string(&b, piece ? piece : "", len);
            buffer_text(&b, "}");
        } else {
            buffer_int(&b, ids[i]);
        }
    }
    buffer_text(&b, "]}");
    reply_buffer(q, 200, TYPE_JSON, &b);
}

void route_tokenize(struct request *q)
{
    const json_t *content = field(q->json, "content");
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (engine_tokenize(q->server->engine, json_string_value(content), json_string_length(content),
                        field_bool(q->json, "add_special", true), &ticket, &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_tokens);
}

static void answer_text(struct request *q, const char *name)
{
    struct error err = ERROR_INIT;
    struct buffer b = {0};
    size_t len = 0;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const char *text = ticket_text(q->ticket, &len);
    buffer_format(&b, "{\"%s\":", name);
    buffer_string(&b, text ? text : "", len);
    buffer_text(&b, "}");
    reply_buffer(q, 200, TYPE_JSON, &b);
}

static void answer_content(struct request *q)
{
    answer_text(q, "content");
}

void route_detokenize(struct request *q)
{
    const json_t *tokens = field(q->json, "tokens");
    size_t n = json_array_size(tokens);
    int32_t *ids = arena_alloc(&q->arena, (n + 1) * sizeof *ids);
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    for (size_t i = 0; ids && i < n; i++)
        ids[i] = (int32_t)json_as_int(json_array_get(tokens, i));
    if (!ids)
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
    else if (engine_detokenize(q->server->engine, ids, n,
                               field_bool(q->json, "skip_special", false), &ticket, &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_content);
}

static void answer_prompt(struct request *q)
{
    answer_text(q, "prompt");
}

void route_apply_template(struct request *q)
{
    struct chat chat = {0};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    enum status s = conversation_read(q, q->json, "messages", &chat, &err);
    if (!s)
        s = engine_render(q->server->engine, &chat, &ticket, &err);
    json_decref(chat.variables);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_prompt);
}
