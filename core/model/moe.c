/*
 * Owns a mixture of experts: out (+)= sum over a row's chosen experts e of share_e * expert_e(x).
 *
 *     share = softmax(router(x)) over all experts; the experts_used largest are chosen (of equals
 *             the first), and where the family says so their shares are made to sum to 1
 *
 * Expert by expert, in ascending order, all rows that chose it meet in one product, whatever their
 * adapters; the rows' groups go with them. A row's sum is therefore in the order of its experts'
 * numbers, and nothing that its neighbours choose can change a bit of it.
 */
#include <math.h>

#include "core/model/pass.h"

/* In place. */
static void softmax(float *v, int32_t n)
{
    float most = v[0], sum = 0;
    for (int32_t i = 1; i < n; i++)
        most = v[i] > most ? v[i] : most;
    for (int32_t i = 0; i < n; i++)
        sum += v[i] = expf(v[i] - most);
    for (int32_t i = 0; i < n; i++)
        v[i] /= sum;
}

/* The largest shares and whose they are; a taken one becomes -1. */
static void choose(const struct model_config *c, float *shares, int32_t *chosen, float *share)
{
    float sum = 0;
    for (int32_t j = 0; j < c->experts_used; j++) {
        int32_t best = 0;
        for (int32_t e = 1; e < c->experts; e++)
            if (shares[e] > shares[best])
                best = e;
        chosen[j] = best;
        share[j] = shares[best];
        sum += share[j];
        shares[best] = -1;
    }
    for (int32_t j = 0; j < c->experts_used && c->experts_renormalised; j++)
        share[j] /= sum;
}

static void route(const struct pass *p, int32_t module, const float *x)
{
    const struct model_config *c = p->model->config;
    struct routing *r = p->scratch->routing;
    module_forward(p, x, p->scratch->ld_hidden,
                   &(struct product){module, r->logits, r->ld_experts, false}, 1);
    pass_fetch(p, r->shares, r->logits, p->rows * r->ld_experts);
    for (int64_t row = 0; row < p->rows; row++) {
        float *shares = r->shares + row * r->ld_experts;
        softmax(shares, c->experts);
        choose(c, shares, r->chosen + row * c->experts_used, r->share + row * c->experts_used);
    }
}

/* The rows that chose the expert, with their shares; a row of NaNs names one expert several times.
 */
static int32_t collect_rows(const struct pass *p, int32_t expert)
{
    const struct model_config *c = p->model->config;
    struct routing *r = p->scratch->routing;
    int32_t n = 0;
    for (int32_t row = 0; row < p->rows; row++)
        for (int32_t j = 0; j < c->experts_used; j++)
            if (r->chosen[(int64_t)row * c->experts_used + j] == expert) {
                r->rows[n] = row;
                r->row_share[n++] = r->share[(int64_t)row * c->experts_used + j];
                break;
            }
    return n;
}

static void expert_forward(const struct pass *p, const struct layer *l, int32_t expert,
                           const float *x, float *out)
{
    const struct model_config *c = p->model->config;
    struct scratch *s = p->scratch;
    struct routing *r = s->routing;
    int32_t n = collect_rows(p, expert), first = expert * EXPERT_MODULES;
    if (n == 0)
        return;
    const struct pass part = pass_of_rows(p, r->rows, n, r->groups);
    p->kernels->copy_rows(p->kernels, x, s->ld_hidden, r->rows, n, c->hidden, r->in, s->ld_hidden);
    mlp_inner(&part, l->module[ROLE_EXPERT_GATE] + first, l->module[ROLE_EXPERT_UP] + first,
              c->expert_inner, r->in);
    module_forward(
        &part, s->gate, s->ld_mlp,
        &(struct product){l->module[ROLE_EXPERT_DOWN] + first, r->out, s->ld_hidden, false}, 1);
    p->kernels->add_rows(p->kernels, r->out, s->ld_hidden, r->rows, r->row_share, n, c->hidden, out,
                         s->ld_hidden);
}

void moe_forward(const struct pass *p, int32_t layer, const float *x, struct sum out)
{
    const struct model_config *c = p->model->config;
    const struct layer *l = &c->layers[layer];
    int64_t ld = p->scratch->ld_hidden;
    route(p, l->module[ROLE_ROUTER], x);
    if (!out.add)
        p->kernels->copy_rows(p->kernels, NULL, 0, NULL, p->rows, c->hidden, out.to, ld);
    for (int32_t e = 0; e < c->experts; e++)
        expert_forward(p, l, e, x, out.to);
}
