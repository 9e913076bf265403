/*
 * Owns the way out: the final norm, the projection to the embedding's width and the output layer
 * with its cap, of the wanted rows only and HEAD_ROWS at a time, so that a long prompt's logits
 * need no memory but the caller's. Rows whose logits are labels leave through classifier.c.
 */
#include <math.h>

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

/* Rows of one kind: where their logits go, and what these are wanted for. */
struct wanted {
    int32_t n, rows[HEAD_ROWS];
    float *logits[HEAD_ROWS];
    struct draw *draws[HEAD_ROWS];
};

static bool is_drawn(const struct wanted *w, int32_t i)
{
    return w->draws[i] && w->draws[i]->token != DRAW_NOT_YET;
}

/* Logits x [n, vocab] of a table with memory of its own: drawn of there, or fetched. */
static void draw_or_fetch(const struct pass *p, const float *x, const struct wanted *w)
{
    int64_t vocab = p->model->vocab;
    bool any = false;
    for (int32_t i = 0; i < w->n; i++)
        any |= w->draws[i] != NULL;
    if (any && p->kernels->draw)
        p->kernels->draw(p->kernels, x, vocab, w->n, vocab, w->draws);
    for (int32_t i = 0, end; i < w->n; i = end) { // those side by side in one go
        end = i + 1;
        if (is_drawn(w, i))
            continue;
        while (end < w->n && !is_drawn(w, end) && w->logits[end] == w->logits[end - 1] + vocab)
            end++;
        pass_fetch(p, w->logits[i], x + i * vocab, (end - i) * vocab);
    }
}

/* tail [w->n, ld] -> w->logits[i] [vocab]. */
static void output_layer(const struct pass *p, const float *tail, int64_t ld,
                         const struct wanted *w)
{
    struct scratch *s = p->scratch;
    const struct model_config *c = p->model->config;
    int64_t vocab = p->model->vocab;
    const struct pass of_tail = pass_of_rows(p, w->rows, w->n, s->tail_groups);
    bool direct = !pass_apart(p) && contiguous(w->logits, w->n, vocab);
    float *to = direct ? w->logits[0] : s->logits;
    module_forward(&of_tail, tail, ld, &(struct product){c->head, to, vocab, false}, 1);
    cap(p->kernels, c->logit_cap, to, w->n, vocab);
    if (!direct)
        draw_or_fetch(p, to, w);
}

/* The rows' way from the residual to the width of the output layer; returns where they are. */
static float *finish(const struct pass *p, const struct row_output *outputs, int32_t n, int64_t *ld)
{
    struct scratch *s = p->scratch;
    const struct model_config *c = p->model->config;
    int32_t rows[HEAD_ROWS];
    for (int32_t i = 0; i < n; i++)
        rows[i] = outputs[i].row;
    p->kernels->copy_rows(p->kernels, s->x, s->ld_hidden, rows, n, c->hidden, s->tail,
                          s->ld_hidden);
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

/* Rows from[i] of tail to row i of x, which may be tail: from ascends, and no row before from[i] is
 * read after it has been written if they go one by one. */
static void move_rows(const struct pass *p, const float *tail, const int32_t *from, int32_t n,
                      float *x, int64_t ld)
{
    int64_t dim = p->model->config->embedding_dim;
    if (x != tail) {
        p->kernels->copy_rows(p->kernels, tail, ld, from, n, dim, x, ld);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        if (from[i] > i)
            p->kernels->copy_rows(p->kernels, tail, ld, &from[i], 1, dim, x + i * ld, ld);
}

/* Those of the rows whose logits are of labels (or are not), moved to the front of x. */
static struct wanted gather_rows(const struct pass *p, const struct row_output *outputs, int32_t n,
                                 bool labels, const float *tail, float *x, int64_t ld)
{
    bool any = classifier_any(p);
    struct wanted w = {0};
    int32_t from[HEAD_ROWS];
    bool moved = x != tail;
    for (int32_t i = 0; i < n; i++) {
        bool is_label = any && (p->model->classifier || classifier_of(p, outputs[i].row));
        if (!outputs[i].logits || is_label != labels)
            continue;
        moved |= i > w.n;
        from[w.n] = i;
        w.rows[w.n] = outputs[i].row;
        w.draws[w.n] = outputs[i].draw;
        w.logits[w.n++] = outputs[i].logits;
    }
    if (moved)
        move_rows(p, tail, from, w.n, x, ld);
    return w;
}

/* The rows of a text in order, so that no split of it changes a bit. */
static void gather(const struct row_output *o, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n && o->weight != 0; i++)
        o->gathered[i] += o->weight * x[i];
    for (int64_t i = 0; i < n && o->weight == 0; i++)
        o->gathered[i] = x[i] > o->gathered[i] || isnan(x[i]) ? x[i] : o->gathered[i];
}

/* What is wanted of a row x besides its logits. */
static void deliver(const struct pass *p, const struct row_output *o, const float *x, int64_t ld)
{
    const struct scratch *s = p->scratch;
    const struct model_config *c = p->model->config;
    if (o->hidden)
        pass_fetch(p, o->hidden, x, c->embedding_dim);
    if (o->pooled) {
        float *to = pass_apart(p) ? s->logits : o->pooled;
        pooler_forward(p, o->row, x, ld, to);
        pass_fetch(p, o->pooled, to, c->hidden);
    }
    if (o->gathered && pass_apart(p))
        pass_fetch(p, s->row, x, p->model->hidden);
    if (o->gathered)
        gather(o, pass_apart(p) ? s->row : x, p->model->hidden);
}

static void forward_chunk(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    int64_t ld;
    float *tail = finish(p, outputs, n, &ld), *apart = p->scratch->wide;
    for (int32_t i = 0; i < n; i++)
        deliver(p, &outputs[i], tail + i * ld, ld);
    struct wanted w = gather_rows(p, outputs, n, true, tail, apart, ld);
    if (w.n > 0)
        classifier_forward(p, w.rows, apart, ld, w.logits, w.n);
    w = gather_rows(p, outputs, n, false, tail, tail, ld);
    if (w.n > 0)
        output_layer(p, tail, ld, &w);
}

void head_forward(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    int32_t most = p->scratch->out_rows;
    for (int32_t i = 0; i < n; i += most)
        forward_chunk(p, outputs + i, n - i < most ? n - i : most);
}
