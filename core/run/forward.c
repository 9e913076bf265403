#include "core/run/forward.h"

#include <stdlib.h>
#include <string.h>

#include "core/run/sequence.h"

/* Floats of one row of t tokens. */
static int64_t floats(const struct request *r, int64_t t)
{
    const struct model *m = r->host->model;
    int64_t n = 0;
    n += r->outputs & OUTPUT_LOGITS ? t * m->vocab : 0;
    n += r->outputs & OUTPUT_LAST_LOGITS ? m->vocab : 0;
    n += r->outputs & OUTPUT_HIDDEN ? t * m->hidden : 0;
    n += r->outputs & OUTPUT_LOGPROBS ? t * m->vocab : 0;
    n += r->outputs & OUTPUT_EMBEDDING ? m->hidden : 0;
    return n;
}

static enum status check(const struct request_host *host, int64_t numbers, struct error *err)
{
    uint64_t most = host->options->max_reply_bytes;
    if (!most || (uint64_t)numbers <= most / BYTES_A_NUMBER)
        return ST_OK;
    return error_param(err, ST_REPLY_TOO_LARGE, "outputs",
                       "the reply would hold %lld numbers, about %lld bytes of at most %llu: ask "
                       "for 'last_logits', or use the binary protocol (/v2/models/{model}/infer)",
                       (long long)numbers, (long long)numbers * BYTES_A_NUMBER,
                       (unsigned long long)most);
}

enum status forward_check_reply(const struct request_host *host, int64_t rows, int64_t width,
                                struct error *err)
{
    return check(host, rows * width, err);
}

enum status forward_check_size(const struct request *r, struct error *err)
{
    int64_t numbers = 0;
    for (size_t i = 0; i < r->n_prompts; i++) {
        if (r->prompts[i].text)
            return ST_OK;
        numbers += floats(r, (int64_t)r->prompts[i].n_ids);
    }
    return check(r->host, numbers, err);
}

static const float *cut(float **at, bool wanted, int64_t n)
{
    if (!wanted)
        return NULL;
    float *v = *at;
    *at += n;
    return v;
}

enum status forward_plan(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    const struct model *m = r->host->model;
    int64_t numbers = 0;
    for (size_t i = 0; i < r->n_prompts; i++)
        numbers += floats(r, (int64_t)r->ids[i].n);
    enum status st = check(r->host, numbers, err);
    if (st != ST_OK)
        return st;
    r->rows = arena_alloc(&t->arena, r->n_prompts * sizeof *r->rows);
    r->results = malloc((size_t)numbers * sizeof *r->results + 1);
    if (!r->rows || !r->results)
        return error_set(err, ST_OUT_OF_MEMORY, "not enough memory for a reply of %lld numbers",
                         (long long)numbers);
    float *at = r->results;
    for (size_t i = 0; i < r->n_prompts; i++) {
        int64_t n = (int64_t)r->ids[i].n;
        struct forward_row *row = &r->rows[i];
        row->tokens = (int32_t)n;
        row->adapters = r->routes[i].refs;
        row->n_adapters = (size_t)r->routes[i].n;
        row->logits = cut(&at, r->outputs & OUTPUT_LOGITS, n * m->vocab);
        row->last_logits = cut(&at, r->outputs & OUTPUT_LAST_LOGITS, m->vocab);
        row->hidden = cut(&at, r->outputs & OUTPUT_HIDDEN, n * m->hidden);
        row->logprobs = cut(&at, r->outputs & OUTPUT_LOGPROBS, n * m->vocab);
        row->embedding = cut(&at, r->outputs & OUTPUT_EMBEDDING, m->hidden);
    }
    return ST_OK;
}

/* The rows are const to readers; their memory is ours until the end. */
static float *at_row(const float *base, int64_t row, int64_t width)
{
    return base ? (float *)base + row * width : NULL;
}

bool forward_output(const struct sequence *q, int32_t pos, struct row_output *out)
{
    const struct model *m = q->request->host->model;
    const struct forward_row *row = &q->request->rows[q->prompt];
    bool last = pos == q->len - 1;
    out->logits = at_row(row->logits, pos, m->vocab);
    if (!out->logits)
        out->logits = at_row(row->logprobs, pos, m->vocab);
    if (!out->logits && last)
        out->logits = at_row(row->last_logits, 0, 0);
    out->hidden = at_row(row->hidden, pos, m->hidden);
    if (q->whole && pos == 0)
        out->pooled = at_row(row->embedding, 0, 0);
    else if (!q->whole && !out->hidden && last)
        out->hidden = at_row(row->embedding, 0, 0);
    return out->logits || out->hidden || out->pooled;
}

static void copy(float *to, const float *from, int32_t n)
{
    if (to && from && to != from)
        memcpy(to, from, (size_t)n * sizeof *to);
}

enum status forward_finish(const struct sequence *q, int32_t from, int32_t n, struct error *err)
{
    const struct model *m = q->request->host->model;
    const struct forward_row *row = &q->request->rows[q->prompt];
    for (int32_t pos = from; pos < from + n; pos++) {
        struct row_output o = {0};
        if (!forward_output(q, pos, &o))
            continue;
        if ((o.logits && !sampler_finite(o.logits, m->vocab)) ||
            (o.hidden && !sampler_finite(o.hidden, m->hidden)) ||
            (o.pooled && !sampler_finite(o.pooled, m->hidden)))
            return error_set(err, ST_NON_FINITE_OUTPUT,
                             "row %d: the result at position %d is not finite", q->prompt, pos);
        if (pos == q->len - 1) {
            copy(at_row(row->last_logits, 0, 0), o.logits, m->vocab);
            if (!q->whole)
                copy(at_row(row->embedding, 0, 0), o.hidden, m->hidden);
        }
        float *logprobs = at_row(row->logprobs, pos, m->vocab);
        if (logprobs) {
            copy(logprobs, o.logits, m->vocab);
            sampler_log_softmax(logprobs, m->vocab);
        }
    }
    return ST_OK;
}
