/*
 * Owns the buffers of a pass: a block of numbers where the table computes, and one of lists in the
 * host's memory, each cut once. The plan below is run twice, first without memory to learn the
 * sizes, then with it, so that sizes and cuts cannot disagree. For a device the host has a second
 * copy of what it makes or reads itself: angles, the shares of experts, a row.
 */
#include <stdlib.h>

#include "core/memory.h"
#include "core/model/cut.h"
#include "core/model/pass.h"
#include "core/place.h"

/* The most that prepare may need for a module's input. */
static size_t input_bytes(const struct model *m, const struct kernels *kernels, int32_t rows)
{
    size_t most = 0;
    int64_t last = -1;
    for (size_t i = 0; i < m->n_modules; i++) {
        if (m->modules[i].k == last)
            continue;
        last = m->modules[i].k;
        size_t bytes = kernels->act_bytes(kernels, rows, last);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* The two blocks. */
struct cuts {
    struct cut numbers, lists;
};

/* The host's copy of numbers: their own place on a CPU. */
static void *host_copy(const struct scratch *s, struct cuts *p, void *numbers, int64_t n,
                       int64_t per)
{
    return s->kernels->own_memory ? cut_take(&p->lists, n, per, sizeof(float)) : numbers;
}

static void cut_ropes(struct scratch *s, const struct model_config *c, struct cuts *p)
{
    int32_t rows = s->max_rows;
    for (int i = 0; i < 2; i++) {
        int32_t half = c->rope[i].dim / 2;
        s->cosines[i] = cut_take(&p->numbers, rows, 2 * (int64_t)half, sizeof(float));
        s->sines[i] = s->cosines[i] ? s->cosines[i] + (int64_t)rows * half : NULL;
        s->turns[i] = host_copy(s, p, s->cosines[i], rows, 2 * (int64_t)half);
    }
}

static void cut_blocks(struct scratch *s, const struct model_config *c, struct cuts *p)
{
    int32_t rows = s->max_rows;
    s->x = cut_take(&p->numbers, rows, s->ld_hidden, sizeof(float));
    s->normed = cut_take(&p->numbers, rows, s->ld_hidden, sizeof(float));
    s->branch = cut_take(&p->numbers, rows, s->ld_hidden, sizeof(float));
    s->q = cut_take(&p->numbers, rows, s->ld_q, sizeof(float));
    s->attended = cut_take(&p->numbers, rows, s->ld_q, sizeof(float));
    s->k = cut_take(&p->numbers, rows, s->ld_kv, sizeof(float));
    s->v = cut_take(&p->numbers, rows, s->ld_kv, sizeof(float));
    s->qkv = cut_take(&p->numbers, rows, s->ld_qkv, sizeof(float));
    s->gate = cut_take(&p->numbers, rows, s->ld_mlp, sizeof(float));
    s->up = cut_take(&p->numbers, rows, s->ld_mlp, sizeof(float));
    s->narrow = cut_take(&p->numbers, rows, s->ld_narrow, sizeof(float));
    s->rows_of = cut_take(&p->lists, rows, 1, sizeof *s->rows_of);
    s->inverse = cut_take(&p->lists, c->head_dim / 2 + 1, 1, sizeof(float));
    cut_ropes(s, c, p);
}

static void cut_routing(struct scratch *s, const struct model_config *c, struct cuts *p)
{
    int32_t rows = s->max_rows;
    struct routing counting = {0};
    s->routing = cut_take(&p->lists, 1, 1, sizeof *s->routing);
    struct routing *r = s->routing ? s->routing : &counting;
    r->ld_experts = row_stride(c->experts);
    r->logits = cut_take(&p->numbers, rows, r->ld_experts, sizeof(float));
    r->shares = host_copy(s, p, r->logits, rows, r->ld_experts);
    r->chosen = cut_take(&p->lists, rows, c->experts_used, sizeof *r->chosen);
    r->share = cut_take(&p->lists, rows, c->experts_used, sizeof *r->share);
    r->rows = cut_take(&p->lists, rows, 1, sizeof *r->rows);
    r->row_share = cut_take(&p->lists, rows, 1, sizeof *r->row_share);
    r->in = cut_take(&p->numbers, rows, s->ld_hidden, sizeof(float));
    r->out = cut_take(&p->numbers, rows, s->ld_hidden, sizeof(float));
    r->groups = cut_take(&p->lists, s->max_groups, 1, sizeof *r->groups);
}

static void cut(struct scratch *s, const struct model *m, struct cuts *p)
{
    const struct kernels *kernels = s->kernels;
    int32_t rows = s->max_rows, groups = s->max_groups;
    if (m->kind != MODEL_CONVNET)
        cut_blocks(s, m->config, p);
    if (m->config->experts > 0)
        cut_routing(s, m->config, p);
    s->wide = cut_take(&p->numbers, rows, s->ld_input, sizeof(float));
    s->tail = cut_take(&p->numbers, s->out_rows, s->ld_hidden, sizeof(float));
    s->tail_narrow = cut_take(&p->numbers, s->out_rows, s->ld_narrow, sizeof(float));
    s->logits = cut_take(&p->numbers, s->out_rows, s->out_width, sizeof(float));
    s->row = kernels->own_memory ? cut_take(&p->lists, 1, s->ld_hidden, sizeof(float)) : NULL;
    s->tail_groups = cut_take(&p->lists, groups, 1, sizeof *s->tail_groups);
    for (int i = 0; i < PRODUCTS_MAX; i++) {
        // Only the first slot meets every module; the others only those that read hidden.
        size_t bytes = i == 0 ? input_bytes(m, kernels, rows)
                              : kernels->act_bytes(kernels, rows, m->config->hidden);
        s->input[i].groups = cut_take(&p->lists, groups, 1, sizeof *s->input[i].groups);
        s->input[i].rotations =
            cut_take(&p->lists, groups, ADAPTERS_MAX, sizeof *s->input[i].rotations);
        s->input[i].buffer = cut_take(&p->numbers, (int64_t)bytes, 1, 1);
    }
}

static bool has_role(const struct model *m, enum role role)
{
    for (size_t i = 0; i < m->n_modules; i++)
        if (m->config->rows[i]->role == role)
            return true;
    return false;
}

/* The row strides of a network's buffers; 0 where it has no use for one. */
static void set_strides(struct scratch *s, const struct model *m)
{
    const struct model_config *c = m->config;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    s->ld_hidden = row_stride(c->hidden);
    s->ld_q = row_stride(q);
    s->ld_kv = row_stride(kv);
    s->ld_qkv = has_role(m, ROLE_QKV) ? row_stride(q + 2 * kv) : 0;
    s->ld_mlp =
        row_stride(has_role(m, ROLE_GATE_UP) ? 2 * (int64_t)c->intermediate : c->intermediate);
    if (s->ld_mlp < row_stride(c->expert_inner))
        s->ld_mlp = row_stride(c->expert_inner);
    s->ld_narrow = c->project_in >= 0 ? row_stride(c->embedding_dim) : 0;
    for (size_t i = 0; i < m->n_modules; i++)
        if (row_stride(m->modules[i].k) > s->ld_input)
            s->ld_input = row_stride(m->modules[i].k);
    s->out_rows = s->max_rows < HEAD_ROWS ? s->max_rows : HEAD_ROWS;
    s->out_width = m->vocab;
    if (!s->kernels->own_memory)
        return;
    s->out_width = s->out_width > s->ld_input ? s->out_width : s->ld_input;
    s->out_width = s->out_width > s->ld_hidden ? s->out_width : s->ld_hidden;
    for (size_t i = 0; i < m->n_modules; i++)
        s->out_width = s->out_width > m->modules[i].n ? s->out_width : m->modules[i].n;
}

enum status scratch_open(const struct model *m, const struct kernels *kernels, int32_t max_rows,
                         int32_t max_groups, struct scratch **out, struct error *err)
{
    struct cuts p = {0};
    *out = NULL;
    struct scratch *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "the buffers of a pass");
    s->kernels = kernels;
    s->max_rows = max_rows;
    s->max_groups = max_groups;
    set_strides(s, m);
    cut(s, m, &p);
    s->bytes = p.numbers.used + p.lists.used;
    if (!p.numbers.overflow && !p.lists.overflow) {
        s->memory = place_take(kernels, p.numbers.used);
        s->lists = memory_alloc(p.lists.used);
    }
    if (!s->memory || !s->lists) {
        scratch_close(s);
        return error_memory(err, "the buffers of a pass");
    }
    p = (struct cuts){{.memory = s->memory}, {.memory = s->lists}};
    cut(s, m, &p);
    *out = s;
    return ST_OK;
}

size_t scratch_bytes(const struct scratch *s)
{
    return s->bytes;
}

void scratch_close(struct scratch *s)
{
    if (!s)
        return;
    place_free(s->kernels, s->memory);
    memory_free(s->lists);
    free(s);
}
