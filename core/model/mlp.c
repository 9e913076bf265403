/*
 * Owns the feed-forward block of a layer: out (+)= down(act(gate(x)) * up(x)), or down(act(up(x)))
 * where there is no gate. A fused module's rows are gate, then up.
 */
#include "core/model/pass.h"

void mlp_forward(const struct pass *p, int32_t layer, const float *x, struct sum out)
{
    const struct kernels *kernels = p->kernels;
    const struct model_config *c = p->model->config;
    const struct layer *l = &c->layers[layer];
    struct scratch *s = p->scratch;
    float *inner = s->gate;
    const float *up = s->up;
    if (l->module[ROLE_GATE_UP] >= 0) {
        module_forward(p, x, s->ld_hidden,
                       &(struct product){l->module[ROLE_GATE_UP], inner, s->ld_mlp, false}, 1);
        up = inner + c->intermediate;
    } else if (l->module[ROLE_GATE] >= 0) {
        const struct product in[] = {{l->module[ROLE_GATE], inner, s->ld_mlp, false},
                                     {l->module[ROLE_UP], s->up, s->ld_mlp, false}};
        module_forward(p, x, s->ld_hidden, in, 2);
    } else {
        module_forward(p, x, s->ld_hidden,
                       &(struct product){l->module[ROLE_UP], inner, s->ld_mlp, false}, 1);
        up = NULL;
    }
    kernels->activate(kernels, c->activation, inner, s->ld_mlp, up, s->ld_mlp, p->rows,
                      c->intermediate, inner, s->ld_mlp);
    module_forward(p, inner, s->ld_mlp,
                   &(struct product){l->module[ROLE_DOWN], out.to, s->ld_hidden, out.add}, 1);
}
