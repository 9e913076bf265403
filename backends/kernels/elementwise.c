/*
 * Owns what touches each element once: activations, likelihoods, rotary positions, sums. The plain
 * loops of rope, add and scale need no twin: their memory traffic is their cost.
 */
#include <string.h>

#include "backends/kernels/special.h"
#include "backends/kernels/twins.h"

static void activate(enum activation act, const float *gate, const float *up, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        float y = special_activation(act, gate[i]);
        out[i] = up ? y * up[i] : y;
    }
}

static float likelihoods(const float *x, int64_t n, float max, float scale, float *likely)
{
    float lane[16] = {0};
    for (int64_t i = 0; i < n; i++) {
        likely[i] = special_power((x[i] - max) * scale);
        lane[i % 16] += likely[i];
    }
    return sum_of_lanes(lane);
}

void elementwise_portable(struct twins *t)
{
    t->activate = activate;
    t->likelihoods = likelihoods;
}

/* Rows of something, in chunks of rows. */
struct rows_job {
    const struct kernels_state *state;
    enum activation act;
    const float *gate, *up, *cos, *sin;
    float *out;
    int64_t ldg, ldu, ldo, rows, dim, chunks;
    int32_t heads, head_dim, rot;
};

static void activate_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows_job *j = ctx;
    int64_t first, end;
    (void)thread;
    chunk_range(j->rows, j->chunks, chunk, &first, &end);
    for (int64_t i = first; i < end; i++)
        j->state->twins.activate(j->act, j->gate + i * j->ldg, j->up ? j->up + i * j->ldu : NULL,
                                 j->dim, j->out + i * j->ldo);
}

void elementwise_activate(const struct kernels *self, enum activation act, const float *gate,
                          int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                          float *out, int64_t ldo)
{
    struct rows_job j = {.state = self->state,
                         .act = act,
                         .gate = gate,
                         .up = up,
                         .out = out,
                         .ldg = ldg,
                         .ldu = ldu,
                         .ldo = ldo,
                         .rows = rows,
                         .dim = dim};
    j.chunks = chunk_count(self, rows, 2.0 * (double)dim);
    pool_run(self->state->pool, j.chunks, activate_chunk, &j);
}

/* Both products are rounded before they are added, as the reference does. */
static void rope_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows_job *j = ctx;
    int64_t first, end;
    int32_t half = j->rot / 2;
    (void)thread;
    chunk_range(j->rows, j->chunks, chunk, &first, &end);
    for (int64_t row = first; row < end; row++) {
        const float *cos = j->cos + row * half, *sin = j->sin + row * half;
        for (int32_t h = 0; h < j->heads; h++) {
            float *a = j->out + row * j->ldo + (int64_t)h * j->head_dim, *b = a + half;
            for (int32_t i = 0; i < half; i++) {
                float x = a[i], y = b[i];
                a[i] = x * cos[i] - y * sin[i];
                b[i] = y * cos[i] + x * sin[i];
            }
        }
    }
}

void elementwise_rope(const struct kernels *self, float *x, int64_t ld, int32_t rows, int32_t heads,
                      int32_t head_dim, int32_t rot, const float *cos, const float *sin)
{
    struct rows_job j = {.state = self->state,
                         .out = x,
                         .ldo = ld,
                         .rows = rows,
                         .heads = heads,
                         .head_dim = head_dim,
                         .rot = rot,
                         .cos = cos,
                         .sin = sin};
    j.chunks = chunk_count(self, rows, 1.0 * heads * rot);
    pool_run(self->state->pool, j.chunks, rope_chunk, &j);
}

static void add_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows_job *j = ctx;
    int64_t first, end;
    (void)thread;
    chunk_range(j->rows, j->chunks, chunk, &first, &end);
    for (int64_t row = first; row < end; row++) {
        float *x = j->out + row * j->ldo;
        const float *y = j->up + row * j->ldu;
        for (int64_t i = 0; i < j->dim; i++)
            x[i] += y[i];
    }
}

void elementwise_add(const struct kernels *self, float *x, int64_t ldx, const float *y, int64_t ldy,
                     int32_t rows, int64_t dim)
{
    struct rows_job j = {.out = x, .ldo = ldx, .up = y, .ldu = ldy, .rows = rows, .dim = dim};
    j.chunks = chunk_count(self, rows, 0.5 * (double)dim);
    pool_run(self->state->pool, j.chunks, add_chunk, &j);
}

void elementwise_scale(const struct kernels *self, float *x, int64_t n, float s)
{
    (void)self;
    for (int64_t i = 0; i < n; i++)
        x[i] *= s;
}

void elementwise_copy_rows(const struct kernels *self, const float *x, int64_t ldx,
                           const int32_t *ids, int32_t n, int64_t dim, float *out, int64_t ldo)
{
    (void)self;
    for (int64_t i = 0; i < n; i++)
        if (x)
            memcpy(out + i * ldo, x + (ids ? ids[i] : i) * ldx, (size_t)dim * sizeof *x);
        else
            memset(out + i * ldo, 0, (size_t)dim * sizeof *out);
}

void elementwise_add_rows(const struct kernels *self, const float *x, int64_t ldx,
                          const int32_t *ids, const float *shares, int32_t n, int64_t dim,
                          float *out, int64_t ldo)
{
    (void)self;
    for (int64_t i = 0; i < n; i++) {
        float *to = out + ids[i] * ldo;
        const float *from = x + i * ldx;
        for (int64_t d = 0; d < dim; d++)
            to[d] += shares[i] * from[d];
    }
}

void elementwise_likelihoods(const struct kernels *self, const float *x, int64_t n, float max,
                             float scale, float *likely, float *sums)
{
    for (int64_t i = 0; i < n; i += DRAW_BLOCK)
        sums[i / DRAW_BLOCK] = self->state->twins.likelihoods(
            x + i, n - i < DRAW_BLOCK ? n - i : DRAW_BLOCK, max, scale * SPECIAL_LOG2E, likely + i);
}
