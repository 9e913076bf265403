/*
 * Owns the adapted module: y = (x R) W^T + bias, for rows of any adapters in one batch. Each row is
 * rotated by its own blocks (prepare), then all rows meet the shared W in one product (matmul).
 *
 * q, k and v (gate and up) read one x. Where no row's adapter tells them apart, they share one
 * prepared input; an adapter that rotates them differently costs one prepare each. Sharing cannot
 * change a bit: equal rotations of equal rows into one form are equal.
 *
 * An adapter may replace a module's bias for its rows. Those modules are multiplied run by run of
 * rows with one bias; the kernels' result of a row does not depend on its neighbours, so the cut
 * does not show.
 */
#include <string.h>

#include "core/model/pass.h"

/* The groups of the pass as groups of these rows (ascending). */
static int32_t regroup(const struct pass *p, const int32_t *rows, int32_t n, struct row_group *out)
{
    int32_t n_out = 0, at = 0;
    for (int32_t g = 0; g < p->n_groups && at < n; g++) {
        int32_t first = at, end = p->groups[g].first + p->groups[g].count;
        while (at < n && rows[at] < end)
            at++;
        if (at > first)
            out[n_out++] =
                (struct row_group){first, at - first, p->groups[g].n, p->groups[g].adapted};
    }
    return n_out;
}

struct pass pass_of_rows(const struct pass *p, const int32_t *rows, int32_t n,
                         struct row_group *groups)
{
    struct pass part = *p;
    part.rows = n;
    part.groups = groups;
    part.n_groups = regroup(p, rows, n, groups);
    return part;
}

struct pass pass_of_span(const struct pass *p, int64_t per, int64_t first, int32_t rows,
                         struct row_group *groups)
{
    struct pass part = *p;
    part.rows = rows;
    part.groups = groups;
    part.n_groups = 0;
    for (int32_t g = 0; g < p->n_groups; g++) {
        int64_t from = p->groups[g].first * per - first;
        int64_t end = from + p->groups[g].count * per;
        from = from > 0 ? from : 0;
        end = end < rows ? end : rows;
        if (from < end)
            groups[part.n_groups++] = (struct row_group){(int32_t)from, (int32_t)(end - from),
                                                         p->groups[g].n, p->groups[g].adapted};
    }
    return part;
}

/* The module's weight: a base's output layer may have a second form for fast mode. */
static const struct weight *weight_of(const struct pass *p, int32_t module)
{
    const struct model *m = p->model;
    const struct weight *w = p->view->placed[module];
    bool second = m->head8 && module == m->config->head && p->kernels->mode == COMPUTE_FAST;
    return second && w == m->base->placed[module] ? m->head8_placed : w;
}

/* Which of the groups [first, end) still rotate the module's input, rows counted from row0. */
static void collect(const struct pass *p, int32_t module, int32_t first, int32_t end, int32_t row0,
                    struct input *in)
{
    const struct rotation **next = in->rotations;
    in->n = 0;
    for (int32_t g = first; g < end && !p->rotated; g++) {
        const struct row_group *rows = &p->groups[g];
        struct rotate_group *to = &in->groups[in->n];
        *to = (struct rotate_group){rows->first - row0, rows->count, 0, next};
        for (int32_t a = 0; a < rows->n; a++) {
            const struct rotation *r = rows->adapted[a]->rotation[module];
            if (r)
                next[to->n++] = r;
        }
        next += to->n;
        in->n += to->n > 0;
    }
}

static bool same_rotations(const struct input *a, const struct input *b)
{
    if (a->n != b->n)
        return false;
    for (int32_t i = 0; i < a->n; i++) {
        const struct rotate_group *x = &a->groups[i], *y = &b->groups[i];
        if (x->first != y->first || x->count != y->count || x->n != y->n ||
            memcmp(x->r, y->r, (size_t)x->n * sizeof *x->r))
            return false;
    }
    return true;
}

/* Do two weights want their input in one form? Equal encodings of equal inputs in storage order. */
static bool same_form(const struct weight *a, const struct weight *b)
{
    return !a->perm && !b->perm && a->k == b->k && a->encoding == b->encoding &&
           a->dtype == b->dtype && a->rule == b->rule && a->bits == b->bits &&
           a->group == b->group && a->grouping == b->grouping && a->flat_k == b->flat_k &&
           a->flat_col == b->flat_col && !a->group_of && !b->group_of;
}

/* The last adapter that brings a bias has it; else the base's. */
static const float *group_bias(const struct pass *p, int32_t module, const struct row_group *g)
{
    for (int32_t a = g->n - 1; a >= 0; a--)
        if (g->adapted[a]->bias && g->adapted[a]->bias[module])
            return g->adapted[a]->bias[module];
    return p->model->modules[module].bias;
}

static bool has_own_bias(const struct pass *p, int32_t module)
{
    for (int32_t g = 0; g < p->n_groups; g++)
        if (group_bias(p, module, &p->groups[g]) != p->model->modules[module].bias)
            return true;
    return false;
}

/* rows of x on their way to in->act, through the rotations that in has. */
static struct prepare_job job_of(const struct weight *w, const float *x, int64_t ldx, int32_t rows,
                                 struct input *in)
{
    return (struct prepare_job){.x = x,
                                .ldx = ldx,
                                .k = w->k,
                                .rows = rows,
                                .n_groups = in->n,
                                .groups = in->groups,
                                .w = w,
                                .buffer = in->buffer,
                                .a = &in->act};
}

/* One product, cut where the bias changes. */
static void forward_runs(const struct pass *p, const float *x, int64_t ldx, const struct product *v,
                         struct input *in)
{
    const struct kernels *kernels = p->kernels;
    const struct weight *w = weight_of(p, v->module);
    for (int32_t first = 0, end; first < p->n_groups; first = end) {
        const float *bias = group_bias(p, v->module, &p->groups[first]);
        for (end = first + 1; end < p->n_groups; end++)
            if (group_bias(p, v->module, &p->groups[end]) != bias)
                break;
        int64_t row0 = p->groups[first].first;
        int32_t rows = p->groups[end - 1].first + p->groups[end - 1].count - (int32_t)row0;
        collect(p, v->module, first, end, (int32_t)row0, in);
        const struct prepare_job prepare = job_of(w, x + row0 * ldx, ldx, rows, in);
        kernels->prepare(kernels, &prepare, 1);
        struct matmul_job job = {w, &in->act, bias, v->out + row0 * v->ldo, v->ldo, v->add};
        kernels->matmul(kernels, &job, 1);
    }
}

/* The first input, up to i, that is what input i has to become. */
static int equal_input(const struct input *inputs, int i)
{
    int j = 0;
    while (j < i && !(inputs[j].weight && same_form(inputs[j].weight, inputs[i].weight) &&
                      same_rotations(&inputs[j], &inputs[i])))
        j++;
    return j;
}

void module_forward(const struct pass *p, const float *x, int64_t ldx,
                    const struct product *products, int n)
{
    struct matmul_job jobs[PRODUCTS_MAX];
    struct prepare_job prepare[PRODUCTS_MAX];
    int n_jobs = 0, n_prepare = 0;
    for (int i = 0; i < n; i++) {
        const struct product *v = &products[i];
        struct input *in = &p->scratch->input[i];
        in->weight = NULL;
        if (has_own_bias(p, v->module)) {
            forward_runs(p, x, ldx, v, in);
            continue;
        }
        in->weight = weight_of(p, v->module);
        collect(p, v->module, 0, p->n_groups, 0, in);
        int from = equal_input(p->scratch->input, i);
        if (from == i)
            prepare[n_prepare++] = job_of(in->weight, x, ldx, p->rows, in);
        jobs[n_jobs++] = (struct matmul_job){in->weight,
                                             &p->scratch->input[from].act,
                                             p->model->modules[v->module].bias,
                                             v->out,
                                             v->ldo,
                                             v->add};
    }
    if (n_jobs > 0) {
        p->kernels->prepare(p->kernels, prepare, n_prepare);
        p->kernels->matmul(p->kernels, jobs, n_jobs);
    }
}

void module_rotate(const struct pass *p, int32_t module, float *x, int64_t ldx, int64_t dim)
{
    struct input *in = &p->scratch->input[0];
    collect(p, module, 0, p->n_groups, 0, in);
    if (in->n == 0)
        return;
    const struct prepare_job prepare = {.x = x,
                                        .ldx = ldx,
                                        .k = dim,
                                        .rows = p->rows,
                                        .n_groups = in->n,
                                        .groups = in->groups,
                                        .buffer = in->buffer,
                                        .a = &in->act};
    p->kernels->prepare(p->kernels, &prepare, 1);
    for (int32_t g = 0; g < in->n; g++) {
        int64_t first = in->groups[g].first;
        p->kernels->copy_rows(p->kernels, in->act.x + first * in->act.ldx, in->act.ldx, NULL,
                              in->groups[g].count, dim, x + first * ldx, ldx);
    }
}

void model_module_forward(const struct model *m, int32_t module, const struct view *view,
                          const struct kernels *kernels, const struct row_group *groups,
                          int32_t n_groups, int32_t rows, const float *x, const int32_t *ids,
                          float *out, struct scratch *s)
{
    const struct module *u = &m->modules[module];
    const struct pass p = {m, view, kernels, groups, n_groups, rows, s, false};
    bool embedding = u->kind == MODULE_EMBEDDING;
    int64_t ldo = embedding ? u->k : u->n;
    // Kernels may read a row's padding: the caller's rows have none.
    for (int64_t r = 0; r < rows && !embedding; r++)
        pass_send(&p, s->wide + r * s->ld_input, x + r * u->k, u->k);
    for (int32_t first = 0, n; first < rows; first += n) {
        n = pass_apart(&p) && rows - first > s->out_rows ? s->out_rows : rows - first;
        struct pass part = p;
        float *to = pass_apart(&p) ? s->logits : out + first * ldo;
        if (n < rows)
            part = pass_of_span(&p, 1, first, n, s->tail_groups);
        if (embedding)
            embedding_forward(&part, module, ids + first, to, ldo);
        else
            module_forward(&part, s->wide + first * s->ld_input, s->ld_input,
                           &(struct product){module, to, ldo, false}, 1);
        if (to == s->logits)
            pass_fetch(&p, out + first * ldo, to, n * ldo);
    }
}
