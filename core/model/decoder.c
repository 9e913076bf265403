/*
 * Owns the order of a pass: rows in, layers, rows out. A pure function of model and batch: it takes
 * no lock, allocates nothing and cannot fail. A row's result depends on its own tokens, positions
 * and adapters alone: every block treats rows one by one or through kernels that do.
 *
 * A layer is two blocks around the residual x, in one of three orders (enum residual):
 *
 *     PRE        x += [norm](attention(norm(x)));   x += [norm](mlp(norm(x)))     [norm]: gemma
 *     PARALLEL   x += attention(norm(x)) + mlp(norm'(x))
 *     POST       x = norm(x + attention(x));        x = norm(x + mlp(x))
 */
#include "core/model/pass.h"

static void norm_rows(const struct pass *p, const struct norm_args *norm, const float *x,
                      float *out)
{
    int64_t ld = p->scratch->ld_hidden;
    p->kernels->norm(p->kernels, norm, x, ld, p->rows, out, ld);
}

/* Where a block's result goes: into x, or first through a norm of its own. */
static struct sum open_sum(const struct pass *p, const struct norm_args *out)
{
    struct scratch *s = p->scratch;
    return out->weight ? (struct sum){s->branch, false} : (struct sum){s->x, true};
}

static void close_sum(const struct pass *p, const struct norm_args *out)
{
    struct scratch *s = p->scratch;
    if (!out->weight)
        return;
    norm_rows(p, out, s->branch, s->branch);
    p->kernels->add(p->kernels, s->x, s->ld_hidden, s->branch, s->ld_hidden, p->rows,
                    p->model->config->hidden);
}

static void forward_pre(const struct pass *p, const struct batch *b, int32_t layer)
{
    const struct layer *l = &p->model->config->layers[layer];
    struct scratch *s = p->scratch;
    norm_rows(p, &l->norm[NORM_ATTENTION], s->x, s->normed);
    attention_forward(p, b, layer, s->normed, open_sum(p, &l->norm[NORM_ATTENTION_OUT]));
    close_sum(p, &l->norm[NORM_ATTENTION_OUT]);
    norm_rows(p, &l->norm[NORM_MLP], s->x, s->normed);
    struct sum out = open_sum(p, &l->norm[NORM_MLP_OUT]);
    if (l->module[ROLE_ROUTER] >= 0)
        moe_forward(p, layer, s->normed, out);
    else
        mlp_forward(p, layer, s->normed, out);
    close_sum(p, &l->norm[NORM_MLP_OUT]);
}

static void forward_parallel(const struct pass *p, const struct batch *b, int32_t layer)
{
    const struct layer *l = &p->model->config->layers[layer];
    struct scratch *s = p->scratch;
    const float *mlp_in = s->normed;
    norm_rows(p, &l->norm[NORM_ATTENTION], s->x, s->normed);
    if (l->norm[NORM_MLP].weight) { // before the attention changes x
        norm_rows(p, &l->norm[NORM_MLP], s->x, s->branch);
        mlp_in = s->branch;
    }
    attention_forward(p, b, layer, s->normed, (struct sum){s->x, true});
    mlp_forward(p, layer, mlp_in, (struct sum){s->x, true});
}

static void forward_post(const struct pass *p, const struct batch *b, int32_t layer)
{
    const struct layer *l = &p->model->config->layers[layer];
    struct scratch *s = p->scratch;
    attention_forward(p, b, layer, s->x, (struct sum){s->x, true});
    norm_rows(p, &l->norm[NORM_ATTENTION], s->x, s->x);
    mlp_forward(p, layer, s->x, (struct sum){s->x, true});
    norm_rows(p, &l->norm[NORM_MLP], s->x, s->x);
}

static void forward_layer(const struct pass *p, const struct batch *b, int32_t layer)
{
    switch (p->model->config->residual) {
    case RESIDUAL_PRE:
        forward_pre(p, b, layer);
        return;
    case RESIDUAL_PARALLEL:
        forward_parallel(p, b, layer);
        return;
    case RESIDUAL_POST:
        forward_post(p, b, layer);
        return;
    }
}

/* Rows that something else than the embedding made. */
static void take_rows(const struct pass *p, const float *rows, int64_t ld)
{
    const struct scratch *s = p->scratch;
    p->kernels->copy_rows(p->kernels, rows, ld, NULL, p->rows, p->model->config->hidden, s->x,
                          s->ld_hidden);
}

/* cos and sin of all rows, made on the host. */
static void fill_ropes(const struct pass *p, const struct batch *b)
{
    const struct scratch *s = p->scratch;
    for (int i = 0; i < 2; i++) {
        const struct rope *rope = &p->model->config->rope[i];
        int64_t n = (int64_t)b->rows * (rope->dim / 2);
        float *cosines = s->turns[i], *sines = cosines + (s->sines[i] - s->cosines[i]);
        if (!rope->inverse)
            continue;
        rope_fill(rope, b->at.positions, b->lengths, b->rows, s->inverse, cosines, sines);
        pass_send(p, s->cosines[i], cosines, n);
        pass_send(p, s->sines[i], sines, n);
    }
}

void model_forward(const struct model *m, const struct batch *b, struct scratch *s)
{
    const struct pass p = {m, b->view, b->kernels, b->groups, b->n_groups, b->rows, s, false};
    if (b->kernels->begin)
        b->kernels->begin(b->kernels, &b->at);
    if (b->tokens)
        embedding_rows(&p, b);
    else
        take_rows(&p, b->embedded, b->ld_embedded);
    fill_ropes(&p, b);
    for (int32_t layer = 0; layer < m->layers; layer++)
        forward_layer(&p, b, layer);
    head_forward(&p, b->outputs, b->n_outputs);
}
