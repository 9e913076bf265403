/*
 * Owns the feed-forward block of a layer: out (+)= down(act(gate(x)) * up(x)), or down(act(up(x)))
 * where there is no gate. A fused module's rows are gate, then up.
 */
#include "core/model/pass.h"

void mlp_inner(const struct pass *p, int32_t gate, int32_t up, int32_t dim, const float *x)
{
    const struct kernels *kernels = p->kernels;
    struct scratch *s = p->scratch;
    if (gate >= 0) {
        const struct product in[] = {{gate, s->gate, s->ld_mlp, false},
                                     {up, s->up, s->ld_mlp, false}};
        module_forward(p, x, s->ld_hidden, in, 2);
    } else {
        module_forward(p, x, s->ld_hidden, &(struct product){up, s->gate, s->ld_mlp, false}, 1);
    }
    kernels->activate(kernels, p->model->config->activation, s->gate, s->ld_mlp,
                      gate >= 0 ? s->up : NULL, s->ld_mlp, p->rows, dim, s->gate, s->ld_mlp);
}

static void fused_inner(const struct pass *p, int32_t module, int32_t dim, const float *x)
{
    const struct kernels *kernels = p->kernels;
    struct scratch *s = p->scratch;
    module_forward(p, x, s->ld_hidden, &(struct product){module, s->gate, s->ld_mlp, false}, 1);
    kernels->activate(kernels, p->model->config->activation, s->gate, s->ld_mlp, s->gate + dim,
                      s->ld_mlp, p->rows, dim, s->gate, s->ld_mlp);
}

void mlp_forward(const struct pass *p, int32_t layer, const float *x, struct sum out)
{
    const struct model_config *c = p->model->config;
    const int32_t *module = c->layers[layer].module;
    struct scratch *s = p->scratch;
    if (module[ROLE_GATE_UP] >= 0)
        fused_inner(p, module[ROLE_GATE_UP], c->intermediate, x);
    else
        mlp_inner(p, module[ROLE_GATE], module[ROLE_UP], c->intermediate, x);
    module_forward(p, s->gate, s->ld_mlp,
                   &(struct product){module[ROLE_DOWN], out.to, s->ld_hidden, out.add}, 1);
}
