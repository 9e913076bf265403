#include "core/run/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/sequence.h"

/* What a position adds to its row's embedding where all of them do; 0: the larger stays. */
static float weight(enum pooling pooling, int32_t pos, int32_t len)
{
    double n = len;
    switch (pooling) {
    case POOLING_MEAN:
        return (float)(1 / n);
    case POOLING_MEAN_SQRT:
        return (float)(1 / sqrt(n));
    case POOLING_WEIGHTED:
        return (float)((pos + 1) / (n * (n + 1) / 2));
    default:
        return 0;
    }
}

/* Where position pos delivers its part of the row's embedding. */
static void pool(const struct sequence *q, enum pooling pooling, float *embedding, int32_t pos,
                 struct row_output *out)
{
    bool alone = pooling == POOLING_FIRST  ? pos == 0
                 : pooling == POOLING_LAST ? pos == q->len - 1
                                           : false;
    if (!embedding)
        return;
    if (pooling == POOLING_POOLER)
        out->pooled = pos == 0 ? embedding : NULL;
    else if (alone && !out->hidden)
        out->hidden = embedding;
    else if (pooling != POOLING_FIRST && pooling != POOLING_LAST)
        out->gathered = embedding;
    if (out->gathered)
        out->weight = weight(pooling, pos, q->len);
}

/* Vectors of logits that a row of t tokens gives: one a position, or one in all. */
static int64_t vectors(enum classifier_kind kind, int64_t t)
{
    return kind == CLASSIFIER_SEQUENCE ? 1 : t;
}

/* Numbers of the last hidden state of a row of t tokens, or of an image. */
static int64_t states(const struct request *r, int64_t t)
{
    return r->kind == REQUEST_IMAGES ? image_numbers(&r->images) : t * r->host->model->hidden;
}

/* Floats of one row of t tokens (or one image) whose logits are `width` wide. */
static int64_t floats(const struct request *r, enum classifier_kind kind, int64_t width, int64_t t)
{
    const struct model *m = r->host->model;
    int64_t n = 0;
    n += r->outputs & OUTPUT_LOGITS ? vectors(kind, t) * width : 0;
    n += r->outputs & OUTPUT_LAST_LOGITS ? width : 0;
    n += r->outputs & OUTPUT_HIDDEN ? states(r, t) : 0;
    n += r->outputs & OUTPUT_LOGPROBS ? vectors(kind, t) * width : 0;
    n += r->outputs & OUTPUT_EMBEDDING ? m->hidden : 0;
    return n;
}

/* Width of the network's own logits. */
static int32_t base_width(const struct model *m)
{
    return m->classifier ? m->labels : m->vocab;
}

/* Positions of the reply for a row of t tokens. */
static int64_t sent(const struct request *r, int64_t t)
{
    return t < r->positions ? r->positions : t;
}

/* each: bytes a number, 0: as decimal digits. */
static enum status check(const struct request_host *host, int64_t numbers, int32_t each,
                         struct error *err)
{
    uint64_t most = host->options->max_reply_bytes;
    int32_t bytes = each ? each : BYTES_A_NUMBER;
    if (!most || (uint64_t)numbers <= most / (uint64_t)bytes)
        return ST_OK;
    return error_param(err, ST_REPLY_TOO_LARGE, "outputs",
                       "the reply would hold %lld numbers, about %lld bytes of at most %llu: ask "
                       "for 'last_logits'%s",
                       (long long)numbers, (long long)numbers * bytes, (unsigned long long)most,
                       each ? "" : ", or use the binary protocol (/v2/models/{model}/infer)");
}

enum status forward_check_reply(const struct request_host *host, int64_t rows, int64_t width,
                                struct error *err)
{
    return check(host, rows * width, 0, err);
}

enum status forward_check_size(const struct request *r, struct error *err)
{
    int64_t numbers = 0;
    const struct model *m = r->host->model;
    for (size_t i = 0; i < r->n_routes; i++) {
        const struct prompt *prompt = r->kind == REQUEST_IMAGES ? NULL : &r->prompts[i];
        if (prompt && prompt->text)
            return ST_OK;
        // An adapter may have a head of its own: forward_plan knows.
        int64_t width = r->names[i].n ? 0 : base_width(m);
        numbers += floats(r, m->classifier, width, prompt ? sent(r, (int64_t)prompt->n_ids) : 0);
    }
    return check(r->host, numbers, r->number_bytes, err);
}

static const float *cut(float **at, bool wanted, int64_t n)
{
    if (!wanted)
        return NULL;
    float *v = *at;
    *at += n;
    return v;
}

/* Where a sequence's labels are read: an encoder's first token; a decoder's last that is no
 * padding, or the first. */
static int32_t labels_at(const struct model *m, const struct token_ids *ids)
{
    int32_t at = m->kind == MODEL_ENCODER ? 0 : (int32_t)ids->n - 1;
    while (at > 0 && ids->v[at] == m->pad)
        at--;
    return at;
}

/* What row i gives. */
static enum status plan_row(const struct request *r, size_t i, struct forward_row *row,
                            struct error *err)
{
    const struct model *m = r->host->model;
    const struct classifier *own = route_classifier(&r->routes[i]);
    row->adapters = r->routes[i].refs;
    row->n_adapters = (size_t)r->routes[i].n;
    row->classifier = own ? own->kind : m->classifier;
    row->width = own ? own->labels : base_width(m);
    if (r->kind == REQUEST_IMAGES) {
        row->hidden_rank = r->images.rank;
        memcpy(row->hidden_shape, r->images.shape, sizeof row->hidden_shape);
    } else {
        row->tokens = (int32_t)r->ids[i].n;
        row->labels_at = labels_at(m, &r->ids[i]);
    }
    if (row->classifier && m->problem_type && r->outputs & OUTPUT_LOGPROBS &&
        strcmp(m->problem_type, "single_label_classification") != 0)
        return error_param(
            err, ST_INVALID_VALUE, "outputs",
            "the base's problem_type is %s, so its labels do not exclude each other: "
            "ask for 'logits' instead of 'logprobs'",
            m->problem_type);
    if (!own && !m->has_head && r->outputs & OUTPUTS_OF_HEAD)
        return error_param(err, ST_NOT_SUPPORTED, "outputs",
                           "row %zu: a '%s' model has no logits, and none of the row's adapters "
                           "brings a head along: ask for 'hidden_states' or 'embedding'",
                           i, m->model_type);
    return ST_OK;
}

enum status forward_plan(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    const struct model *m = r->host->model;
    int64_t numbers = 0, filled = 0;
    r->rows = arena_alloc(&t->arena, r->n_routes * sizeof *r->rows);
    if (!r->rows)
        return error_memory(err, "a request");
    for (size_t i = 0; i < r->n_routes; i++) {
        struct forward_row *row = &r->rows[i];
        enum status st = plan_row(r, i, row, err);
        if (st != ST_OK)
            return st;
        numbers += floats(r, row->classifier, row->width, row->tokens);
        filled += floats(r, row->classifier, row->width, sent(r, row->tokens));
    }
    enum status st = check(r->host, filled, r->number_bytes, err);
    if (st != ST_OK)
        return st;
    r->results = malloc((size_t)numbers * sizeof *r->results + 1);
    if (!r->results)
        return error_set(err, ST_OUT_OF_MEMORY, "not enough memory for a reply of %lld numbers",
                         (long long)numbers);
    float *at = r->results;
    for (size_t i = 0; i < r->n_routes; i++) {
        struct forward_row *row = &r->rows[i];
        int64_t all = vectors(row->classifier, row->tokens) * row->width;
        row->logits = cut(&at, r->outputs & OUTPUT_LOGITS, all);
        row->last_logits = cut(&at, r->outputs & OUTPUT_LAST_LOGITS, row->width);
        row->hidden = cut(&at, r->outputs & OUTPUT_HIDDEN, states(r, row->tokens));
        row->logprobs = cut(&at, r->outputs & OUTPUT_LOGPROBS, all);
        for (int32_t j = 0; r->outputs & OUTPUT_EMBEDDING && j < m->hidden; j++)
            at[j] = m->pooling == POOLING_MAX ? -INFINITY : 0;
        row->embedding = cut(&at, r->outputs & OUTPUT_EMBEDDING, m->hidden);
    }
    return ST_OK;
}

bool forward_per_position(const struct request *r, int32_t row)
{
    const struct forward_row *v = &r->rows[row];
    unsigned each = OUTPUT_HIDDEN;
    if (r->host->model->pooling != POOLING_LAST)
        each |= OUTPUT_EMBEDDING;
    if (v->classifier != CLASSIFIER_SEQUENCE)
        each |= OUTPUT_LOGITS | OUTPUT_LOGPROBS;
    else if (v->labels_at != v->tokens - 1)
        each |= OUTPUTS_OF_HEAD;
    return r->outputs & each;
}

/* The rows are const to readers; their memory is ours until the end. */
static float *at_row(const float *base, int64_t row, int64_t width)
{
    return base ? (float *)base + row * width : NULL;
}

/* Where the logits of position pos go, if they are wanted. */
static float *logits_at(const struct forward_row *row, int32_t pos)
{
    bool one = row->classifier == CLASSIFIER_SEQUENCE;
    if (one && pos != row->labels_at)
        return NULL;
    int32_t index = one ? 0 : pos;
    float *to = at_row(row->logits, index, row->width);
    if (!to)
        to = at_row(row->logprobs, index, row->width);
    return to || (!one && pos != row->tokens - 1) ? to : at_row(row->last_logits, 0, 0);
}

bool forward_output(const struct sequence *q, int32_t pos, struct row_output *out)
{
    const struct model *m = q->request->host->model;
    const struct forward_row *row = &q->request->rows[q->prompt];
    out->logits = logits_at(row, pos);
    out->hidden = at_row(row->hidden, pos, m->hidden);
    pool(q, m->pooling, at_row(row->embedding, 0, 0), pos, out);
    return out->logits || out->hidden || out->pooled || out->gathered;
}

static void copy(float *to, const float *from, int32_t n)
{
    if (to && from && to != from)
        memcpy(to, from, (size_t)n * sizeof *to);
}

/* What is derived from the logits of position pos. */
static void finish_logits(const struct forward_row *row, int32_t pos, const float *logits,
                          const struct kernels *kernels)
{
    bool one = row->classifier == CLASSIFIER_SEQUENCE;
    if (one || pos == row->tokens - 1)
        copy(at_row(row->last_logits, 0, 0), logits, row->width);
    float *logprobs = at_row(row->logprobs, one ? 0 : pos, row->width);
    if (logprobs) {
        copy(logprobs, logits, row->width);
        sampler_log_softmax(kernels, logprobs, row->width);
    }
}

enum status forward_finish(const struct sequence *q, int32_t from, int32_t n,
                           const struct kernels *kernels, struct error *err)
{
    const struct model *m = q->request->host->model;
    const struct forward_row *row = &q->request->rows[q->prompt];
    for (int32_t pos = from; pos < from + n; pos++) {
        struct row_output o = {0};
        if (!forward_output(q, pos, &o))
            continue;
        if ((o.logits && !sampler_finite(o.logits, row->width)) ||
            (o.hidden && !sampler_finite(o.hidden, m->hidden)) ||
            (o.pooled && !sampler_finite(o.pooled, m->hidden)) ||
            (o.gathered && pos == q->len - 1 && !sampler_finite(o.gathered, m->hidden)))
            return error_set(err, ST_NON_FINITE_OUTPUT,
                             "row %d: the result at position %d is not finite", q->prompt, pos);
        bool alone = (m->pooling == POOLING_LAST && pos == q->len - 1) ||
                     (m->pooling == POOLING_FIRST && pos == 0);
        if (alone)
            copy(at_row(row->embedding, 0, 0), o.hidden, m->hidden);
        if (o.logits)
            finish_logits(row, pos, o.logits, kernels);
    }
    return ST_OK;
}
