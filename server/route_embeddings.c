/*
 * POST /v1/embeddings: the raw pass (engine_forward) of every input, its pooled hidden state, made
 * one long. How a text is pooled is the model's (core/model/pooling.h); rows of one request share
 * its adapters. A row is scaled and written when the client can take it: a reply costs no memory
 * beside the ticket's own rows.
 */
#include <math.h>
#include <string.h>
#include <nettle/base64.h>

#include "server/account.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/inputs.h"
#include "server/names.h"
#include "server/reply.h"
#include "server/server.h"

#define NUMBERS_A_TIME                                                                             \
    768 /* their bytes are a multiple of three: base64 without padding inside                      \
         */

struct embeddings {
    const char *model; /* as the reply calls it */
    bool by_model;
    bool base64, normalize;
    const struct forward_row *rows;
    size_t n, at; /* at: next to be written */
};

/* ---- the reply ---- */

/* torch's normalize: x / max(|x|, 1e-12) */
static double scale_of(const struct embeddings *e, const float *v, int32_t width)
{
    double sum = 0;
    for (int32_t i = 0; i < width && e->normalize; i++)
        sum += (double)v[i] * (double)v[i];
    return !e->normalize ? 1 : 1 / fmax(sqrt(sum), 1e-12);
}

static void write_base64(const float *v, int32_t n, struct buffer *out)
{
    size_t bytes = (size_t)n * sizeof *v, len = BASE64_ENCODE_RAW_LENGTH(bytes);
    char *to = buffer_room(out, len);
    if (!to)
        return;
    base64_encode_raw(to, bytes, (const uint8_t *)v);
    out->len += len;
}

static void write_numbers(const float *v, int32_t n, struct buffer *out)
{
    for (int32_t i = 0; i < n; i++) {
        buffer_text(out, i ? "," : "");
        buffer_f32(out, v[i]);
    }
}

static void write_row(const struct embeddings *e, size_t row, int32_t width, struct buffer *out)
{
    const float *v = e->rows[row].embedding;
    double scale = scale_of(e, v, width);
    float part[NUMBERS_A_TIME];
    buffer_format(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":%s", row ? "," : "",
                  row, e->base64 ? "\"" : "[");
    for (int32_t i = 0; i < width; i += NUMBERS_A_TIME) {
        int32_t n = width - i < NUMBERS_A_TIME ? width - i : NUMBERS_A_TIME;
        for (int32_t k = 0; k < n; k++)
            part[k] = (float)((double)v[i + k] * scale);
        if (e->base64) {
            write_base64(part, n, out);
            continue;
        }
        buffer_text(out, i ? "," : "");
        write_numbers(part, n, out);
    }
    buffer_text(out, e->base64 ? "\"}" : "]}");
}

/* reply_produce */
static enum produce produce(struct request *q, struct buffer *out)
{
    struct embeddings *e = q->state;
    int32_t width = engine_model(q->server->engine)->hidden;
    if (!e->at)
        buffer_text(out, "{\"object\":\"list\",\"data\":[");
    while (e->at < e->n && out->len < PRODUCE_SIZE / 2)
        write_row(e, e->at++, width, out);
    if (e->at < e->n)
        return PRODUCE_MORE;
    long long tokens = (long long)q->prompt_tokens;
    buffer_text(out, "],\"model\":");
    buffer_cstring(out, e->model);
    buffer_format(out, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", tokens,
                  tokens);
    return PRODUCE_END;
}

static void refuse(struct request *q, struct error *err)
{
    const struct embeddings *e = q->state;
    if (e)
        names_not_found(e->by_model, e->model, err);
    if (err->code == ST_REPLY_TOO_LARGE)
        error_param(err, ST_REPLY_TOO_LARGE, "input",
                    "the embeddings would take more than a reply may hold (--max-reply-bytes): "
                    "send fewer inputs");
    reply_error(q, err);
}

static void answer(struct request *q)
{
    struct embeddings *e = q->state;
    struct error err = ERROR_INIT;
    if (ticket_status(q->ticket, &err)) {
        refuse(q, &err);
        return;
    }
    e->rows = ticket_forward(q->ticket, &e->n);
    account_headers(q, false);
    reply_produce_body(q, TYPE_JSON, produce);
}

/* ---- the request ---- */

static enum status check_model(const json_t *body, const struct model *m, struct error *err)
{
    if (m->pooling == POOLING_NONE)
        return error_set(err, ST_NOT_SUPPORTED, "%s, so there are no embeddings",
                         m->no_embedding ? m->no_embedding : "this is no model of texts");
    if (field_int(body, "dimensions", m->hidden) != m->hidden)
        return error_param(err, ST_NOT_SUPPORTED, "dimensions",
                           "embeddings of this model have %d dimensions: leave it out or send that",
                           m->hidden);
    return ST_OK;
}

void route_embeddings(struct request *q)
{
    struct forward_request r = {.outputs = OUTPUT_EMBEDDING,
                                .param = "input",
                                .compute = inputs_compute(q->json),
                                .add_special = field_bool(q->json, "add_special_tokens", true),
                                .request_id = q->id};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    const char *format = field_text(q->json, "encoding_format");
    struct embeddings *e = arena_alloc(&q->arena, sizeof *e);
    enum status s = e ? ST_OK : error_memory(&err, "reading the request");
    if (!s) {
        e->base64 = format && !strcmp(format, "base64");
        e->normalize = field_bool(q->json, "normalize", true);
        q->state = e;
        s = check_model(q->json, engine_model(q->server->engine), &err);
    }
    s = s ? s : inputs_prompts(q, "input", &r.rows, &r.n_rows, &err);
    s = s ? s : inputs_row_adapters(q, &r, &e->model, &e->by_model, &err);
    s = s ? s : engine_forward(q->server->engine, &r, &ticket, &err);
    if (s)
        refuse(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer);
}
