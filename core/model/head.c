/*
 * Owns the way out: the final norm and the output layer, of the wanted rows only and HEAD_ROWS at a
 * time, so that a long prompt's logits need no memory but the caller's.
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

/* Are the destinations rows of one matrix? */
static bool contiguous(float *const *out, int32_t n, int64_t width)
{
    for (int32_t i = 1; i < n; i++)
        if ((uintptr_t)out[i] != (uintptr_t)out[i - 1] + (size_t)width * sizeof(float))
            return false;
    return true;
}

/* tail [n, ld_hidden], rows of the pass, -> out[i] [vocab]. */
static void output_layer(const struct pass *p, const int32_t *rows, float *const *out, int32_t n)
{
    struct scratch *s = p->scratch;
    int64_t vocab = p->model->vocab;
    struct pass tail = *p;
    tail.rows = n;
    tail.groups = s->tail_groups;
    tail.n_groups = regroup(p, rows, n, s->tail_groups);
    float *to = contiguous(out, n, vocab) ? out[0] : s->logits;
    module_forward(&tail, s->tail, s->ld_hidden,
                   &(struct product){p->model->config->head, to, vocab, false}, 1);
    if (to == s->logits)
        for (int32_t i = 0; i < n; i++)
            memcpy(out[i], to + i * vocab, (size_t)vocab * sizeof *to);
}

static void forward_chunk(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    struct scratch *s = p->scratch;
    size_t bytes = (size_t)p->model->hidden * sizeof(float);
    int32_t rows[HEAD_ROWS], n_logits = 0;
    float *logits[HEAD_ROWS];
    for (int32_t i = 0; i < n; i++)
        memcpy(s->tail + i * s->ld_hidden, s->x + outputs[i].row * s->ld_hidden, bytes);
    p->kernels->norm(p->kernels, &p->model->config->final_norm, s->tail, s->ld_hidden, n, s->tail,
                     s->ld_hidden);
    for (int32_t i = 0; i < n; i++) {
        const float *row = s->tail + i * s->ld_hidden;
        if (outputs[i].hidden)
            memcpy(outputs[i].hidden, row, bytes);
        if (!outputs[i].logits)
            continue;
        if (i > n_logits)
            memcpy(s->tail + n_logits * s->ld_hidden, row, bytes);
        rows[n_logits] = outputs[i].row;
        logits[n_logits++] = outputs[i].logits;
    }
    if (n_logits > 0)
        output_layer(p, rows, logits, n_logits);
}

void head_forward(const struct pass *p, const struct row_output *outputs, int32_t n)
{
    int32_t most = p->scratch->max_rows < HEAD_ROWS ? p->scratch->max_rows : HEAD_ROWS;
    for (int32_t i = 0; i < n; i += most)
        forward_chunk(p, outputs + i, n - i < most ? n - i : most);
}
