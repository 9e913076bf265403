/*
 * Owns the way out: the final norm, the projection to the embedding's width and the output layer
 * with its cap, of the wanted rows only and HEAD_ROWS at a time, so that a long prompt's logits
 * need no memory but the caller's. Rows whose logits are labels leave through classifier.c.
 */
#include <math.h>
#include <string.h>

#include "core/model/pass.h"

/* Are the destinations rows of one matrix? */
static bool contiguous(float *const *out, int32_t n, int64_t width)
{
    for (int32_t i = 1; i < n; i++)
        if ((uintptr_t)out[i] != (uintptr_t)out[i - 1] + (size_t)width * sizeof(float))
            return false;
    return true;
}

/* x = cap * tanh(x / cap) */
static void cap(const struct kernels *kernels, float limit, float *x, int32_t rows, int64_t dim)
{
    if (limit == 0)
        return;
    kernels->scale(kernels, x, rows * dim, 1 / limit);
    kernels->activate(kernels, ACT_TANH, x, dim, NULL, 0, rows, dim, x, dim);
    kernels->scale(kernels, x, rows * dim, limit);
}

/* tail [n, ld], rows of the pass, -> out[i] [vocab]. */
static void output_layer(const struct pass *p, const int32_t *rows, const float *tail, int64_t ld,
                         float *const *out, int32_t n)
{
    struct scratch *s = p->scratch;
    const struct model_config *c = p->model->config;
    int64_t vocab = p->model->vocab;
    const struct pass of_tail = pass_of_rows(p, rows, n, s->tail_groups);
    float *to = contiguous(out, n, vocab) ? out[0] : s->logits;
    module_forward(&of_tail, tail, ld, &(struct product){c->head, to, vocab, false}, 1);
    cap(p->kernels, c->logit_cap, to, n, vocab);
    if (to == s->logits)
        for (int32_t i = 0; i < n; i++)
            memcpy(out[i], to + i * vocab, (size_t)vocab * sizeof *to);
}

/* The rows' way from the residual to the width of the output layer; returns where they are. */
static float *finish(const struct pass *p, const struct row_output *outputs, int32_t n, int64_t *ld)
{
    struct scratch *s = p->scratch;
    const struct model_config *c = p->model->config;
    int32_t rows[HEAD_ROWS];
    for (int32_t i = 0; i < n; i++) {
        rows[i] = outputs[i].row;
        memcpy(s->tail + i * s->ld_hidden, s->x + rows[i] * s->ld_hidden,
               (size_t)c->hidden * sizeof(float));
    }
    *ld = s->ld_hidden;
    if (c->final_norm.weight)
        p->kernels->norm(p->kernels, &c->final_norm, s->tail, *ld, n, s->tail, *ld);
    if (c->project_out < 0)
        return s->tail;
    const struct pass tail = pass_of_rows(p, rows, n, s->tail_groups);
    module_forward(&tail, s->tail, *ld,
                   &(struct product){c->project_out, s->tail_narrow, s->ld_narrow, false}, 1);
    *ld = s->ld_narrow;
    return s->tail_narrow;
}

void pooler_forward(const struct pass *p, int32_t row, const float *x, int64_t ld, float *out)
{
    const struct model_config *c = p->model->config;
    const struct pass one = pass_of_rows(p, &row, 1, p->scratch->tail_groups);
    module_forward(&one, x, ld, &(struct product){c->pooler, out, c->hidden, false}, 1);
    p->kernels->activate(p->kernels, ACT_TANH, out, c->hidden, NULL, 0, 1, c->hidden, out,
                         c->hidden);
}

/* Those of the rows whose logits are of labels (or are not), moved to the front of x. */
static int32_t gather_rows(const struct pass *p, const struct row_output *outputs, int32_t n,
                           bool labels, const float *tail, float *x, int64_t ld, int32_t *rows,
                           float **logits)
{
    bool any = classifier_any(p);
    size_t bytes = (size_t)p->model->config->embedding_dim * sizeof(float);
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        bool is_label = any && (p->model->classifier || classifier_of(p, outputs[i].row));
        if (!outputs[i].logits || is_label != labels)
            continue;
        if (x != tail || i > kept)
            memcpy(x + kept * ld, tail + i * ld, bytes);
        rows[kept] = outputs[i].row;
        logits[kept++] = outputs[i].logits;
    }
    return kept;
}

/* The rows of a text in order, so that no split of it changes a bit. */
static void gather(const struct row_output *o, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n && o->weight != 0; i++)
        o->gathered[i] += o->weight * x[i];
    for (int64_t i = 0; i < n && o->weight == 0; i++)
        o->gathered[i] = x[i] > o->gathered[i] || isnan(x[i]) ? x[i] : o->gathered[i];
}

static void forward_chunk(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    size_t bytes = (size_t)p->model->config->embedding_dim * sizeof(float);
    int32_t rows[HEAD_ROWS];
    float *logits[HEAD_ROWS];
    int64_t ld;
    float *tail = finish(p, outputs, n, &ld), *apart = p->scratch->wide;
    for (int32_t i = 0; i < n; i++) {
        if (outputs[i].hidden)
            memcpy(outputs[i].hidden, tail + i * ld, bytes);
        if (outputs[i].pooled)
            pooler_forward(p, outputs[i].row, tail + i * ld, ld, outputs[i].pooled);
        if (outputs[i].gathered)
            gather(&outputs[i], tail + i * ld, p->model->hidden);
    }
    int32_t n_labels = gather_rows(p, outputs, n, true, tail, apart, ld, rows, logits);
    if (n_labels > 0)
        classifier_forward(p, rows, apart, ld, logits, n_labels);
    int32_t n_logits = gather_rows(p, outputs, n, false, tail, tail, ld, rows, logits);
    if (n_logits > 0)
        output_layer(p, rows, tail, ld, logits, n_logits);
}

void head_forward(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    int32_t most = p->scratch->max_rows < HEAD_ROWS ? p->scratch->max_rows : HEAD_ROWS;
    for (int32_t i = 0; i < n; i += most)
        forward_chunk(p, outputs + i, n - i < most ? n - i : most);
}
