/* Owns the attention block of a layer: x += o(attention(q, k, v)), q, k, v = modules of norm(x). */
#include "core/model/pass.h"

void attention_forward(const struct pass *p, const struct batch *b, int32_t layer)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    const struct layer *l = &c->layers[layer];
    struct scratch *s = p->scratch;
    const struct product qkv[] = {{l->module[ROLE_Q], s->q, s->ld_q, false},
                                  {l->module[ROLE_K], s->k, s->ld_kv, false},
                                  {l->module[ROLE_V], s->v, s->ld_kv, false}};

    kernels->norm(kernels, &l->norm[NORM_ATTENTION], s->x, s->ld_hidden, p->rows, s->normed,
                  s->ld_hidden);
    module_forward(p, s->normed, s->ld_hidden, qkv, 3);
    kernels->rope(kernels, s->q, s->ld_q, p->rows, c->heads, c->head_dim, c->rope.dim, s->cosines,
                  s->sines);
    kernels->rope(kernels, s->k, s->ld_kv, p->rows, c->kv_heads, c->head_dim, c->rope.dim,
                  s->cosines, s->sines);
    kernels->kv_store(kernels, b->kv, layer, &b->at, s->k, s->v, s->ld_kv);
    const struct attention_args args = {.kv = b->kv,
                                        .layer = layer,
                                        .rows = &b->at,
                                        .q = s->q,
                                        .out = s->attended,
                                        .ldq = s->ld_q,
                                        .ldo = s->ld_q,
                                        .heads = c->heads,
                                        .scale = c->attention_scale,
                                        .window = l->window};
    kernels->attention(kernels, &args);
    module_forward(p, s->attended, s->ld_q,
                   &(struct product){l->module[ROLE_O], s->x, s->ld_hidden, true}, 1);
}
