/*
 * POST /v1/score and /v1/rerank: pairs of texts through a sequence classifier of one label (the raw
 * pass, engine_forward); what its logit goes through is the model's (core/model/pooling.h). The
 * classifier is the base's own or the one that an adapter brings along. A rerank is a score of the
 * query with each document, the best first, of equals the one that came first.
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "server/account.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/inputs.h"
#include "server/names.h"
#include "server/reply.h"
#include "server/server.h"

struct score {
    size_t index;
    float value;
};
struct scores {
    const char *model; /* as the reply calls it */
    bool by_model;
    struct score *v; /* [n] */
    size_t n;
    void (*write)(const struct request *q, const struct scores *s, struct buffer *out);
};

/* ---- the reply ---- */

static float score_of(const struct model *m, float logit)
{
    return m->score == SCORE_LOGIT ? logit : (float)(1 / (1 + exp(-(double)logit)));
}

static void write_usage(const struct request *q, struct buffer *out)
{
    long long n = (long long)q->prompt_tokens;
    buffer_format(
        out, ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":0,\"total_tokens\":%lld}}",
        n, n);
}

static void write_scores(const struct request *q, const struct scores *s, struct buffer *out)
{
    buffer_format(out,
                  "{\"id\":\"score-%s\",\"object\":\"list\",\"created\":%lld,\"model\":", q->id,
                  (long long)time(NULL));
    buffer_cstring(out, s->model);
    buffer_text(out, ",\"data\":[");
    for (size_t i = 0; i < s->n; i++) {
        buffer_format(out, "%s{\"object\":\"score\",\"index\":%zu,\"score\":", i ? "," : "", i);
        buffer_f32(out, s->v[i].value);
        buffer_text(out, "}");
    }
    buffer_text(out, "]");
    write_usage(q, out);
}

static int compare(const void *pa, const void *pb)
{
    const struct score *a = pa, *b = pb;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static void write_ranking(const struct request *q, const struct scores *s, struct buffer *out)
{
    const json_t *documents = field(q->json, "documents");
    bool texts = field_bool(q->json, "return_documents", true);
    size_t top = (size_t)field_int(q->json, "top_n", 0);
    qsort(s->v, s->n, sizeof *s->v, compare);
    buffer_format(out, "{\"id\":\"rerank-%s\",\"model\":", q->id);
    buffer_cstring(out, s->model);
    buffer_text(out, ",\"results\":[");
    for (size_t i = 0; i < s->n && (i < top || !top); i++) {
        const json_t *document = json_array_get(documents, s->v[i].index);
        buffer_format(out, "%s{\"index\":%zu,", i ? "," : "", s->v[i].index);
        if (texts) {
            buffer_text(out, "\"document\":{\"text\":");
            buffer_string(out, json_string_value(document), json_string_length(document));
            buffer_text(out, "},");
        }
        buffer_text(out, "\"relevance_score\":");
        buffer_f32(out, s->v[i].value);
        buffer_text(out, "}");
    }
    buffer_text(out, "]");
    write_usage(q, out);
}

static void refuse(struct request *q, struct error *err)
{
    const struct scores *s = q->state;
    if (s)
        names_not_found(s->by_model, s->model, err);
    reply_error(q, err);
}

/* A score is one number: of a sequence's one label. */
static enum status check_classifier(enum classifier_kind kind, int32_t labels, struct error *err)
{
    if (kind != CLASSIFIER_SEQUENCE)
        return error_param(err, ST_NOT_SUPPORTED, "model",
                           "this model gives %s: scores are for classifiers of sequences",
                           kind == CLASSIFIER_TOKEN ? "labels of each token" : "no labels");
    if (labels != 1)
        return error_param(err, ST_NOT_SUPPORTED, "model",
                           "this model has %d labels: scores are for classifiers of one label",
                           labels);
    return ST_OK;
}

static void answer(struct request *q)
{
    struct scores *s = q->state;
    struct error err = ERROR_INIT;
    struct buffer b = {0};
    size_t n = 0;
    enum status st = ticket_status(q->ticket, &err);
    const struct forward_row *rows = ticket_forward(q->ticket, &n);
    for (size_t i = 0; i < n && !st; i++) {
        st = check_classifier(rows[i].classifier, rows[i].width, &err);
        if (!st)
            s->v[i] = (struct score){
                i, score_of(engine_model(q->server->engine), rows[i].last_logits[0])};
    }
    if (st) {
        refuse(q, &err);
        return;
    }
    account_headers(q, false);
    s->write(q, s, &b);
    reply_buffer(q, 200, TYPE_JSON, &b);
}

/* ---- the request ---- */

/* What an adapter may change is known once it is there. */
static enum status check_model(const struct model *m, bool adapted, struct error *err)
{
    if (m->score == SCORE_OTHER)
        return error_param(err, ST_NOT_SUPPORTED, "model",
                           "the model's scores go through %.200s, which is not served",
                           m->other_score);
    return adapted ? ST_OK : check_classifier(m->classifier, m->labels, err);
}

static const json_t *text_at(const json_t *value, size_t i)
{
    return json_is_array(value) ? json_array_get(value, json_array_size(value) == 1 ? 0 : i)
                                : value;
}

/* A text for each, or one for all: pairs (first[i], second[i]) of as many as second has. */
static enum status read_pairs(struct request *q, const char *first, const char *second,
                              struct forward_request *r, struct error *err)
{
    const json_t *a = field(q->json, first), *b = field(q->json, second);
    size_t n_a = json_is_array(a) ? json_array_size(a) : 1;
    size_t n_b = json_is_array(b) ? json_array_size(b) : 1;
    if (n_a != 1 && n_a != n_b)
        return error_param(err, ST_INVALID_VALUE, first,
                           "%zu texts in %s, %zu in %s: one, or as many, are expected", n_a, first,
                           n_b, second);
    struct prompt *rows = arena_alloc(&q->arena, n_b * sizeof *rows);
    if (!rows)
        return error_memory(err, "reading texts");
    for (size_t i = 0; i < n_b; i++) {
        const json_t *x = text_at(a, i), *y = json_is_array(b) ? json_array_get(b, i) : b;
        rows[i] = (struct prompt){.text = json_string_value(x),
                                  .text_len = json_string_length(x),
                                  .second = json_string_value(y),
                                  .second_len = json_string_length(y)};
    }
    r->rows = rows;
    r->n_rows = n_b;
    r->param = second;
    return ST_OK;
}

static void submit(struct request *q, const char *first, const char *second,
                   void (*write)(const struct request *, const struct scores *, struct buffer *))
{
    struct forward_request r = {.outputs = OUTPUT_LAST_LOGITS,
                                .compute = inputs_compute(q->json),
                                .add_special = true,
                                .request_id = q->id};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    struct scores *s = arena_alloc(&q->arena, sizeof *s);
    enum status st =
        s ? read_pairs(q, first, second, &r, &err) : error_memory(&err, "reading the request");
    if (!st) {
        q->state = s;
        s->write = write;
        s->n = r.n_rows;
        s->v = arena_alloc(&q->arena, s->n * sizeof *s->v);
        st = s->v ? ST_OK : error_memory(&err, "reading the request");
    }
    st = st ? st : inputs_row_adapters(q, &r, &s->model, &s->by_model, &err);
    st = st ? st : check_model(engine_model(q->server->engine), r.adapters->n > 0, &err);
    st = st ? st : engine_forward(q->server->engine, &r, &ticket, &err);
    if (st)
        refuse(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer);
}

void route_score(struct request *q)
{
    submit(q, "text_1", "text_2", write_scores);
}

void route_rerank(struct request *q)
{
    submit(q, "query", "documents", write_ranking);
}
