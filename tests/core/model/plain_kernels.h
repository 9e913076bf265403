/*
 * A kernels table that is nothing but the definitions of core/kernels.h, row by row in plain loops:
 * what the network's tests run on, so that they tell a fault of the network from one of a kernel.
 * Dense and decoded weights only, exact mode only. It counts its calls to prepare.
 */
#ifndef OFTD_TESTS_CORE_MODEL_PLAIN_KERNELS_H
#define OFTD_TESTS_CORE_MODEL_PLAIN_KERNELS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "core/kernels.h"

struct kernels_state {
    int prepared, aliased;
};

static inline int64_t plain_pad(int64_t k)
{
    return (k + TILE_K - 1) / TILE_K * TILE_K;
}

static inline size_t plain_act_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    (void)self;
    return (size_t)rows * (size_t)plain_pad(k) * sizeof(float);
}

static inline void plain_rotate(const struct rotation *r, float *x)
{
    float y[256];
    for (int32_t i = 0; i < r->blocks; i++, x += r->block) {
        const float *m = (const float *)r->data + (r->shared ? 0 : (size_t)i * r->block * r->block);
        for (int32_t c = 0; c < r->block; c++) {
            y[c] = 0;
            for (int32_t k = 0; k < r->block; k++)
                y[c] = fmaf(x[k], m[k * r->block + c], y[c]);
        }
        memcpy(x, y, (size_t)r->block * sizeof *x);
    }
}

static inline void plain_prepare_one(const struct kernels *self, const struct prepare_job *j)
{
    const struct weight *w = j->w;
    self->state->prepared++;
    *j->a = (struct act){j->rows, j->k, j->x, j->ldx, NULL};
    if (j->n_groups == 0 && !(w && w->perm)) {
        self->state->aliased++;
        return;
    }
    int64_t ld = plain_pad(j->k);
    float *to = j->buffer;
    for (int32_t r = 0; r < j->rows; r++)
        memcpy(to + r * ld, j->x + r * j->ldx, (size_t)j->k * sizeof *to);
    for (const struct rotate_group *g = j->groups; g < j->groups + j->n_groups; g++)
        for (int32_t r = g->first; r < g->first + g->count; r++)
            for (int32_t i = 0; i < g->n; i++)
                plain_rotate(g->r[i], to + r * ld);
    for (int32_t r = 0; w && w->perm && r < j->rows; r++) {
        float y[4096];
        memcpy(y, to + r * ld, (size_t)j->k * sizeof *y);
        for (int64_t i = 0; i < j->k; i++)
            to[r * ld + i] = y[w->perm[i]];
    }
    j->a->x = to;
    j->a->ldx = ld;
}

static inline void plain_prepare(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    for (int i = 0; i < n; i++)
        plain_prepare_one(self, &jobs[i]);
}

static inline void plain_matmul(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    (void)self;
    for (const struct matmul_job *j = jobs; j < jobs + n; j++)
        for (int64_t o = 0; o < j->w->n; o++) {
            float row[4096];
            for (int64_t k = 0; k < j->w->k; k++)
                row[k] = weight_element(j->w, o, k);
            for (int32_t r = 0; r < j->a->rows; r++) {
                const float *x = j->a->x + r * j->a->ldx;
                float sum = 0;
                for (int64_t p = 0; p < j->w->k; p += PANEL_K) {
                    float acc = 0;
                    for (int64_t k = p; k < j->w->k && k < p + PANEL_K; k++)
                        acc = fmaf(x[k], row[k], acc);
                    sum += acc;
                }
                float *out = &j->out[r * j->ldo + o];
                sum += j->bias ? j->bias[o] : 0;
                *out = j->add ? *out + sum : sum;
            }
        }
}

static inline void plain_gather(const struct kernels *self, const struct weight *w,
                                const int32_t *ids, int32_t n, float *out, int64_t ldo)
{
    (void)self;
    for (int32_t i = 0; i < n; i++)
        for (int64_t k = 0; k < w->k; k++)
            out[i * ldo + k] = weight_element(w, ids[i], k);
}

static inline void plain_norm(const struct kernels *self, const struct norm_args *a, const float *x,
                              int64_t ldx, int32_t rows, float *out, int64_t ldo)
{
    (void)self;
    for (int32_t r = 0; r < rows; r++) {
        double sum = 0, mean = 0;
        for (int64_t i = 0; a->kind == NORM_LAYER && i < a->dim; i++)
            mean += (double)x[r * ldx + i] / (double)a->dim;
        for (int64_t i = 0; i < a->dim; i++)
            sum += (x[r * ldx + i] - mean) * (x[r * ldx + i] - mean);
        double s = 1 / sqrt(sum / (double)a->dim + a->eps);
        for (int64_t i = 0; i < a->dim; i++) {
            double y = (x[r * ldx + i] - mean) * s * ((a->plus_one ? 1.0 : 0.0) + a->weight[i]);
            out[r * ldo + i] = (float)(y + (a->bias ? a->bias[i] : 0.0f));
        }
    }
}

static inline void plain_rope(const struct kernels *self, float *x, int64_t ld, int32_t rows,
                              int32_t heads, int32_t head_dim, int32_t rot, const float *cosines,
                              const float *sines)
{
    (void)self;
    int32_t half = rot / 2;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < heads; h++)
            for (int32_t i = 0; i < half; i++) {
                float *a = &x[r * ld + h * head_dim + i], *b = a + half, x1 = *a, x2 = *b;
                *a = x1 * cosines[r * half + i] - x2 * sines[r * half + i];
                *b = x2 * cosines[r * half + i] + x1 * sines[r * half + i];
            }
}

static inline float *plain_slot(const struct kv *kv, void *base, int32_t layer,
                                const int32_t *pages, int32_t position, int32_t head)
{
    size_t page = (size_t)layer * (size_t)kv->n_pages + (size_t)pages[position / KV_PAGE];
    return (float *)base +
           ((page * (size_t)kv->kv_heads + (size_t)head) * KV_PAGE + position % KV_PAGE) *
               (size_t)kv->head_dim;
}

static inline void plain_kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                                  const struct kv_rows *rows, const float *k, const float *v,
                                  int64_t ld)
{
    (void)self;
    for (int32_t r = 0; r < rows->rows; r++)
        for (int32_t h = 0; h < kv->kv_heads; h++) {
            size_t bytes = (size_t)kv->head_dim * sizeof(float);
            memcpy(plain_slot(kv, kv->k, layer, rows->pages[r], rows->positions[r], h),
                   k + r * ld + h * kv->head_dim, bytes);
            memcpy(plain_slot(kv, kv->v, layer, rows->pages[r], rows->positions[r], h),
                   v + r * ld + h * kv->head_dim, bytes);
        }
}

static inline void plain_attention(const struct kernels *self, const struct attention_args *a)
{
    (void)self;
    int32_t dim = a->kv->head_dim, share = a->heads / a->kv->kv_heads;
    for (int32_t r = 0; r < a->rows->rows; r++)
        for (int32_t h = 0; h < a->heads; h++) {
            int32_t at = a->rows->positions[r];
            int32_t last = a->rows->ends ? a->rows->ends[r] - 1 : at;
            int32_t from = a->window && at - a->window + 1 > 0 ? at - a->window + 1 : 0;
            const float *q = a->q + r * a->ldq + h * dim;
            double score[1024], most = -INFINITY, sum = 0, out[256] = {0};
            for (int32_t j = from; j <= last; j++) {
                const float *k =
                    plain_slot(a->kv, a->kv->k, a->layer, a->rows->pages[r], j, h / share);
                score[j - from] = 0;
                for (int32_t i = 0; i < dim; i++)
                    score[j - from] += (double)q[i] * k[i];
                score[j - from] *= a->scale;
                if (a->softcap != 0)
                    score[j - from] = a->softcap * tanh(score[j - from] / a->softcap);
                most = fmax(most, score[j - from]);
            }
            for (int32_t j = from; j <= last; j++) {
                const float *v =
                    plain_slot(a->kv, a->kv->v, a->layer, a->rows->pages[r], j, h / share);
                double p = exp(score[j - from] - most);
                sum += p;
                for (int32_t i = 0; i < dim; i++)
                    out[i] += p * v[i];
            }
            for (int32_t i = 0; i < dim; i++)
                a->out[r * a->ldo + h * dim + i] = (float)(out[i] / sum);
        }
}

static inline double plain_act(enum activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return x * 0.5 * erfc(-x * sqrt(0.5));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_TANH:
        return tanh(x);
    default:
        abort();
    }
}

static inline void plain_activate(const struct kernels *self, enum activation act,
                                  const float *gate, int64_t ldg, const float *up, int64_t ldu,
                                  int32_t rows, int64_t dim, float *out, int64_t ldo)
{
    (void)self;
    for (int32_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < dim; i++)
            out[r * ldo + i] =
                (float)plain_act(act, gate[r * ldg + i]) * (up ? up[r * ldu + i] : 1.0f);
}

static inline void plain_add(const struct kernels *self, float *x, int64_t ldx, const float *y,
                             int64_t ldy, int32_t rows, int64_t dim)
{
    (void)self;
    for (int32_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < dim; i++)
            x[r * ldx + i] += y[r * ldy + i];
}

static inline void plain_scale(const struct kernels *self, float *x, int64_t n, float by)
{
    (void)self;
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

static inline void plain_copy_rows(const struct kernels *self, const float *x, int64_t ldx,
                                   const int32_t *ids, int32_t n, int64_t dim, float *out,
                                   int64_t ldo)
{
    (void)self;
    for (int32_t r = 0; r < n; r++)
        for (int64_t i = 0; i < dim; i++)
            out[r * ldo + i] = x ? x[(ids ? ids[r] : r) * ldx + i] : 0;
}

static inline void plain_add_rows(const struct kernels *self, const float *x, int64_t ldx,
                                  const int32_t *ids, const float *shares, int32_t n, int64_t dim,
                                  float *out, int64_t ldo)
{
    (void)self;
    for (int32_t r = 0; r < n; r++)
        for (int64_t i = 0; i < dim; i++)
            out[ids[r] * ldo + i] += shares[r] * x[r * ldx + i];
}

static inline void plain_likelihoods(const struct kernels *self, const float *x, int64_t n,
                                     float max, float scale, float *likely, float *sums)
{
    (void)self;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        likely[i] = (float)exp((double)((x[i] - max) * scale));
        sum = (i % DRAW_BLOCK ? sum : 0) + (double)likely[i];
        sums[i / DRAW_BLOCK] = (float)sum;
    }
}

static struct kernels_state plain_state;
static const struct kernels plain_kernels = {
    .device = "cpu",
    .isa = "plain",
    .mode = COMPUTE_EXACT,
    .threads = 1,
    .state = &plain_state,
    .act_bytes = plain_act_bytes,
    .prepare = plain_prepare,
    .matmul = plain_matmul,
    .gather = plain_gather,
    .norm = plain_norm,
    .rope = plain_rope,
    .kv_store = plain_kv_store,
    .attention = plain_attention,
    .activate = plain_activate,
    .add = plain_add,
    .scale = plain_scale,
    .copy_rows = plain_copy_rows,
    .add_rows = plain_add_rows,
    .likelihoods = plain_likelihoods,
};

#endif
