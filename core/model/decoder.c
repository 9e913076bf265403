/*
 * Owns the order of a pass: rows in, layers, rows out. A pure function of model and batch: it takes
 * no lock, allocates nothing and cannot fail. A row's result depends on its own tokens, positions
 * and adapters alone: every block treats rows one by one or through kernels that do.
 */
#include "core/model/pass.h"

void model_forward(const struct model *m, const struct batch *b, struct scratch *s)
{
    const struct pass p = {m, b->view, b->kernels, b->groups, b->n_groups, b->rows, s};
    const struct model_config *c = m->config;
    embedding_forward(&p, c->embedding, b->tokens, s->x, s->ld_hidden);
    rope_fill(&c->rope, b->at.positions, b->rows, s->cosines, s->sines);
    for (int32_t layer = 0; layer < m->layers; layer++) {
        attention_forward(&p, b, layer);
        mlp_forward(&p, layer);
    }
    head_forward(&p, b->outputs, b->n_outputs);
}
