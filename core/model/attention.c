/*
 * Owns the attention block of a layer: out (+)= o(attention(q, k, v)), q, k, v = modules of x.
 *
 * q, k and v come from three modules or from one fused module whose rows are, in turn,
 *
 *     QKV_BLOCKS   all of q, all of k, all of v                        used where they lie
 *     QKV_GROUPS   for each kv head: its q heads, its k, its v         sorted into q, k, v
 */
#include "core/model/pass.h"

/* Where the rows' q, k and v are. */
struct heads {
    float *q, *k, *v;
    int64_t ldq, ldkv;
};

/* [rows, ld_qkv] by kv heads -> q, k, v of their own. */
static void sort_groups(const struct pass *p, const struct model_config *c, struct heads *h)
{
    const struct kernels *kernels = p->kernels;
    const struct scratch *s = p->scratch;
    int64_t dim = c->head_dim, per = c->heads / c->kv_heads, ld = s->ld_qkv;
    const float *from = s->qkv;
    *h = (struct heads){s->q, s->k, s->v, s->ld_q, s->ld_kv};
    for (int64_t g = 0; g < c->kv_heads; g++, from += (per + 2) * dim) {
        kernels->copy_rows(kernels, from, ld, NULL, p->rows, per * dim, h->q + g * per * dim,
                           h->ldq);
        kernels->copy_rows(kernels, from + per * dim, ld, NULL, p->rows, dim, h->k + g * dim,
                           h->ldkv);
        kernels->copy_rows(kernels, from + (per + 1) * dim, ld, NULL, p->rows, dim, h->v + g * dim,
                           h->ldkv);
    }
}

static void project(const struct pass *p, const struct layer *l, const float *x, struct heads *h)
{
    const struct model_config *c = p->model->config;
    const struct scratch *s = p->scratch;
    if (l->module[ROLE_QKV] < 0) {
        const struct product qkv[] = {{l->module[ROLE_Q], s->q, s->ld_q, false},
                                      {l->module[ROLE_K], s->k, s->ld_kv, false},
                                      {l->module[ROLE_V], s->v, s->ld_kv, false}};
        module_forward(p, x, s->ld_hidden, qkv, 3);
        *h = (struct heads){s->q, s->k, s->v, s->ld_q, s->ld_kv};
        return;
    }
    module_forward(p, x, s->ld_hidden,
                   &(struct product){l->module[ROLE_QKV], s->qkv, s->ld_qkv, false}, 1);
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    if (c->family->qkv == QKV_BLOCKS)
        *h = (struct heads){s->qkv, s->qkv + q, s->qkv + q + kv, s->ld_qkv, s->ld_qkv};
    else
        sort_groups(p, c, h);
}

/* x [rows, ld], each of its heads normed by itself; a norm without weight: not there. */
static void norm_heads(const struct pass *p, const struct norm_args *norm, float *x, int64_t ld,
                       int32_t heads)
{
    const struct kernels *kernels = p->kernels;
    int64_t dim = norm->dim;
    if (!norm->weight)
        return;
    if (ld == heads * dim) {
        kernels->norm(kernels, norm, x, dim, p->rows * heads, x, dim);
        return;
    }
    for (int32_t h = 0; h < heads; h++)
        kernels->norm(kernels, norm, x + h * dim, ld, p->rows, x + h * dim, ld);
}

static void turn(const struct pass *p, const struct layer *l, const struct heads *h)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    if (!l->rope)
        return;
    int which = l->rope == &c->rope[1];
    const float *cosines = p->scratch->cosines[which], *sines = p->scratch->sines[which];
    kernels->rope(kernels, h->q, h->ldq, p->rows, c->heads, c->head_dim, l->rope->dim, cosines,
                  sines);
    kernels->rope(kernels, h->k, h->ldkv, p->rows, c->kv_heads, c->head_dim, l->rope->dim, cosines,
                  sines);
}

void attention_forward(const struct pass *p, const struct batch *b, int32_t layer, const float *x,
                       struct sum out)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    const struct layer *l = &c->layers[layer];
    struct scratch *s = p->scratch;
    struct heads h;
    project(p, l, x, &h);
    norm_heads(p, &l->norm[NORM_Q], h.q, h.ldq, c->heads);
    norm_heads(p, &l->norm[NORM_K], h.k, h.ldkv, c->kv_heads);
    turn(p, l, &h);
    kernels->kv_store(kernels, b->kv, layer, &b->at, h.k, h.v, h.ldkv);
    const struct attention_args args = {.kv = b->kv,
                                        .layer = layer,
                                        .rows = &b->at,
                                        .q = h.q,
                                        .out = s->attended,
                                        .ldq = h.ldq,
                                        .ldo = s->ld_q,
                                        .heads = c->heads,
                                        .scale = l->scale,
                                        .softcap = c->score_cap,
                                        .window = l->window,
                                        .alibi = c->positions == POSITIONS_ALIBI ? c->alibi : NULL};
    kernels->attention(kernels, &args);
    module_forward(p, s->attended, s->ld_q,
                   &(struct product){l->module[ROLE_O], out.to, s->ld_hidden, out.add}, 1);
}
