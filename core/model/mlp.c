/* Owns the feed-forward block of a layer: x += down(act(gate(n)) * up(n)), n = norm(x). */
#include "core/model/pass.h"

void mlp_forward(const struct pass *p, int32_t layer)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    const struct layer *l = &c->layers[layer];
    struct scratch *s = p->scratch;
    const struct product in[] = {{l->module[ROLE_GATE], s->gate, s->ld_mlp, false},
                                 {l->module[ROLE_UP], s->up, s->ld_mlp, false}};

    kernels->norm(kernels, &l->norm[NORM_MLP], s->x, s->ld_hidden, p->rows, s->normed,
                  s->ld_hidden);
    module_forward(p, s->normed, s->ld_hidden, in, 2);
    kernels->activate(kernels, c->activation, s->gate, s->ld_mlp, s->up, s->ld_mlp, p->rows,
                      c->intermediate, s->gate, s->ld_mlp);
    module_forward(p, s->gate, s->ld_mlp,
                   &(struct product){l->module[ROLE_DOWN], s->x, s->ld_hidden, true}, 1);
}
