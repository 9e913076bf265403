/*
 * Owns normalisation. Sums have one order in every twin: sixteen lanes, lane l takes elements l,
 * l + 16, ... ascending, and the lanes are added by the tree l + 8, + 4, + 2, + 1.
 *
 *   rms     y = (x * (1 / sqrt(mean(x^2) + eps))) * w
 *   layer   y = ((x - mean) * (1 / sqrt(mean((x - mean)^2) + eps))) * w + b
 *
 * with w or 1 + w, every operation rounded to f32.
 */
#include <math.h>

#include "backends/kernels/twins.h"

static void norm(const struct norm_args *a, const float *x, float *out)
{
    float lane[16] = {0}, mean = 0;
    if (a->kind == NORM_LAYER) {
        for (int64_t i = 0; i < a->dim; i++)
            lane[i % 16] += x[i];
        mean = sum_of_lanes(lane) / (float)a->dim;
        for (int l = 0; l < 16; l++)
            lane[l] = 0;
    }
    for (int64_t i = 0; i < a->dim; i++)
        lane[i % 16] = fmaf(x[i] - mean, x[i] - mean, lane[i % 16]);
    float r = 1.0f / sqrtf(sum_of_lanes(lane) / (float)a->dim + a->eps);
    for (int64_t i = 0; i < a->dim; i++) {
        float w = a->plus_one ? 1.0f + a->weight[i] : a->weight[i];
        float y = (x[i] - mean) * r * w;
        out[i] = a->bias ? y + a->bias[i] : y;
    }
}

void norm_portable(struct twins *t)
{
    t->norm = norm;
}

struct norm_job {
    const struct kernels_state *state;
    const struct norm_args *args;
    const float *x;
    int64_t ldx, ldo, rows, chunks;
    float *out;
};

static void norm_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct norm_job *j = ctx;
    int64_t first, end;
    (void)thread;
    chunk_range(j->rows, j->chunks, chunk, &first, &end);
    for (int64_t i = first; i < end; i++)
        j->state->twins.norm(j->args, j->x + i * j->ldx, j->out + i * j->ldo);
}

void norm_run(const struct kernels *self, const struct norm_args *args, const float *x, int64_t ldx,
              int32_t rows, float *out, int64_t ldo)
{
    struct norm_job j = {.state = self->state,
                         .args = args,
                         .x = x,
                         .ldx = ldx,
                         .rows = rows,
                         .out = out,
                         .ldo = ldo};
    j.chunks = chunk_count(self, rows, 0.5 * (double)args->dim);
    pool_run(self->state->pool, j.chunks, norm_chunk, &j);
}
