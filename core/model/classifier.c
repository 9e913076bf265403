/*
 * Owns the way out through a classification head: labels of a row after the last norm,
 *
 *     [pooler]  ->  [dense, tanh]  ->  W h [+ b]
 *
 * with the network's own modules or with the head that the row's adapter brings along. The
 * network's own may be rotated, merged and quantized like any module; an adapter's is plain and is
 * used as it was saved. Rows of one head whose labels lie one behind the other are one product; the
 * kernels' result of a row does not depend on its neighbours, so which rows meet does not show.
 */
#include "core/model/pass.h"

static const struct row_group *group_of(const struct pass *p, int32_t row)
{
    const struct row_group *g = p->groups;
    while (row >= g->first + g->count)
        g++;
    return g;
}

bool classifier_any(const struct pass *p)
{
    for (int32_t g = 0; g < p->n_groups; g++)
        for (int32_t a = 0; a < p->groups[g].n; a++)
            if (p->groups[g].adapted[a]->classifier)
                return true;
    return p->model->classifier != CLASSIFIER_NONE;
}

const struct classifier *classifier_of(const struct pass *p, int32_t row)
{
    const struct row_group *g = group_of(p, row);
    for (int32_t a = g->n - 1; a >= 0; a--)
        if (g->adapted[a]->classifier)
            return g->adapted[a]->classifier;
    return NULL;
}

/* x [rows, ld] through a weight that is no module's. */
static void multiply(const struct pass *p, const struct weight *w, const float *bias,
                     const float *x, int64_t ld, float *out, int64_t ldo)
{
    struct input *in = &p->scratch->input[0];
    const struct prepare_job prepare = {
        .x = x, .ldx = ld, .k = w->k, .rows = p->rows, .w = w, .buffer = in->buffer, .a = &in->act};
    p->kernels->prepare(p->kernels, &prepare, 1);
    struct matmul_job job = {w, &in->act, bias, out, ldo, false};
    p->kernels->matmul(p->kernels, &job, 1);
}

/* All rows of p have this head; NULL: the network's own. out: the host's, one matrix. */
static void forward_rows(const struct pass *p, const struct classifier *own, const float *x,
                         int64_t ld, float *out)
{
    const struct model_config *c = p->model->config;
    int32_t n = own ? own->n_layers : 1 + (c->classifier_dense >= 0);
    for (int32_t i = 0; i < n; i++) {
        bool last = i == n - 1;
        int32_t module = last ? c->classifier : c->classifier_dense;
        int64_t width = !last ? c->hidden : own ? own->labels : p->model->labels;
        float *to = !last ? p->scratch->branch : pass_apart(p) ? p->scratch->logits : out;
        int64_t ldo = last ? width : p->scratch->ld_hidden;
        if (own)
            multiply(p, own->layers[i].weight, own->layers[i].bias, x, ld, to, ldo);
        else
            module_forward(p, x, ld, &(struct product){module, to, ldo, false}, 1);
        if (!last)
            p->kernels->activate(p->kernels, ACT_TANH, to, ldo, NULL, 0, p->rows, width, to, ldo);
        if (last)
            pass_fetch(p, out, to, p->rows * width);
        x = to;
        ld = ldo;
    }
}

/* Rows [first, end) have one head, and their labels are rows of one matrix. */
static int32_t run_end(const struct pass *p, const int32_t *rows, float *const *out, int32_t first,
                       int32_t n)
{
    const struct classifier *own = classifier_of(p, rows[first]);
    int64_t width = own ? own->labels : p->model->labels;
    int32_t end = first + 1;
    while (end < n && classifier_of(p, rows[end]) == own &&
           (uintptr_t)out[end] == (uintptr_t)out[end - 1] + (size_t)width * sizeof(float))
        end++;
    return end;
}

void classifier_forward(const struct pass *p, const int32_t *rows, const float *x, int64_t ld,
                        float *const *out, int32_t n)
{
    const struct model_config *c = p->model->config;
    struct scratch *s = p->scratch;
    for (int32_t first = 0, end; first < n; first = end) {
        const struct classifier *own = classifier_of(p, rows[first]);
        enum classifier_kind kind = own ? own->kind : p->model->classifier;
        end = run_end(p, rows, out, first, n);
        const float *in = x + first * ld;
        int64_t ld_in = ld;
        if (kind == CLASSIFIER_SEQUENCE && c->family->classes_pooled) {
            for (int32_t i = first; i < end; i++)
                pooler_forward(p, rows[i], x + i * ld, ld, s->normed + (i - first) * s->ld_hidden);
            in = s->normed;
            ld_in = s->ld_hidden;
        }
        const struct pass part = pass_of_rows(p, rows + first, end - first, s->tail_groups);
        forward_rows(&part, own, in, ld_in, out[first]);
    }
}
