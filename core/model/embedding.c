/*
 * Owns the way in: rows of the embedding matrix, each rotated by its own adapters (e' = e R),
 * scaled where the family scales them, brought to the network's width, and the learned positions
 * added.
 */
#include <string.h>

#include "core/model/pass.h"

void embedding_forward(const struct pass *p, int32_t module, const int32_t *ids, float *out,
                       int64_t ldo)
{
    p->kernels->gather(p->kernels, p->view->placed[module], ids, p->rows, out, ldo);
    module_rotate(p, module, out, ldo, p->model->modules[module].k);
}

/* Rows of the learned positions. Where padding does not count, a sequence's rows are all here, from
 * its first on. */
static void position_rows(const struct pass *p, const int32_t *tokens, const int32_t *positions)
{
    const struct model_config *c = p->model->config;
    int32_t *to = p->scratch->rows_of, counted = 0;
    for (int32_t r = 0; r < p->rows; r++) {
        to[r] = positions[r] + c->position_offset;
        if (!c->positions_skip_pad)
            continue;
        counted = positions[r] == 0 ? 0 : counted;
        to[r] = tokens[r] == c->position_pad ? c->position_pad : c->position_offset + counted++;
    }
}

/* The rows scratch->rows_of of an embedding, added to x. */
static void add_embedding(const struct pass *p, int32_t module)
{
    const struct kernels *kernels = p->kernels;
    struct scratch *s = p->scratch;
    embedding_forward(p, module, s->rows_of, s->branch, s->ld_hidden);
    kernels->add(kernels, s->x, s->ld_hidden, s->branch, s->ld_hidden, p->rows,
                 p->model->config->hidden);
}

void embedding_rows(const struct pass *p, const struct batch *b)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    struct scratch *s = p->scratch;
    float *rows = c->project_in < 0 ? s->x : s->narrow;
    int64_t ld = c->project_in < 0 ? s->ld_hidden : s->ld_narrow;
    embedding_forward(p, c->embedding, b->tokens, rows, ld);
    if (c->embedding_scale != 1)
        kernels->scale(kernels, rows, p->rows * ld, c->embedding_scale);
    if (c->project_in >= 0)
        module_forward(p, rows, ld, &(struct product){c->project_in, s->x, s->ld_hidden, false}, 1);
    if (c->position >= 0) {
        position_rows(p, b->tokens, b->at.positions);
        add_embedding(p, c->position);
    }
    if (c->type >= 0) {
        size_t bytes = (size_t)p->rows * sizeof *s->rows_of;
        if (b->types)
            memcpy(s->rows_of, b->types, bytes);
        else
            memset(s->rows_of, 0, bytes);
        add_embedding(p, c->type);
    }
    if (c->embedding_norm.weight)
        kernels->norm(kernels, &c->embedding_norm, s->x, s->ld_hidden, p->rows, s->x, s->ld_hidden);
}
