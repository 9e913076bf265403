/*
 * Owns prepare: rotations x' = x R, block by block, and the gather of act-ordered weights.
 *
 * Rotations of a group follow each other: stage s applies r[s] of every group that has one. A stage
 * is cut by blocks of R (outer) with the group's rows inside, so that each block is read once
 * however many rows share it; the first stage goes from x to the buffer, a later one is in place,
 * each block's inputs being copied aside first. Every output is one fma chain over its block's
 * inputs, so neither cut nor stage order can change a bit.
 *
 *   buffer   rows x stride floats (the result), then a row of `stride` floats for each thread, then
 *            in fast mode the rows' bytes (fast.c)
 */
#include <math.h>
#include <string.h>

#include "backends/kernels/twins.h"

static void rotate(const float *x, int64_t ldx, int32_t rows, const float *r, int32_t block,
                   float *out, int64_t ldo)
{
    for (int32_t i = 0; i < rows; i++)
        for (int32_t c = 0; c < block; c++) {
            float acc = 0;
            for (int32_t k = 0; k < block; k++)
                acc = fmaf(x[i * ldx + k], r[(int64_t)k * block + c], acc);
            out[i * ldo + c] = acc;
        }
}

void rotate_portable(struct twins *t)
{
    t->rotate = rotate;
}

/* Floats from row to row: whole tiles, and never a power of two, whose rows would share the few
 * places of one cache set. */
static int64_t stride_of(int64_t k)
{
    int64_t stride = (k + TILE_K - 1) / TILE_K * TILE_K;
    return stride % 512 ? stride : stride + 32;
}

/* Bytes of the floats; a multiple of 64, as a row is one. */
static size_t float_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    return (size_t)(rows + self->threads) * (size_t)stride_of(k) * sizeof(float);
}

size_t rotate_act_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    return float_bytes(self, rows, k) + (self->mode == COMPUTE_FAST ? fast_act_bytes(rows, k) : 0);
}

struct prepare {
    const struct kernels_state *state;
    const float *x;
    int64_t ldx, k, stride;
    int32_t rows;
    float *out, *spare; /* [rows, stride], [threads, stride] */
    const struct rotate_group *groups;
    int32_t n_groups, stage;
    const int32_t *perm;
    int64_t units, chunks;
};

/* Blocks [first, end) of the stage's rotation of one group. */
static void rotate_blocks(const struct prepare *p, const struct rotate_group *g, int64_t first,
                          int64_t end, float *spare)
{
    const struct rotation *r = g->r[p->stage];
    int64_t size = (int64_t)r->block * r->block;
    int32_t step = (int32_t)(p->stride / r->block); // rows whose block fits the spare row
    for (int64_t b = first; b < end; b++) {
        const float *matrix = (const float *)r->data + (r->shared ? 0 : b * size);
        float *out = p->out + g->first * p->stride + b * r->block;
        if (p->stage == 0) {
            p->state->twins.rotate(p->x + g->first * p->ldx + b * r->block, p->ldx, g->count,
                                   matrix, r->block, out, p->stride);
            continue;
        }
        for (int32_t row = 0; row < g->count; row += step) {
            int32_t rows = g->count - row < step ? g->count - row : step;
            float *to = out + row * p->stride;
            for (int32_t i = 0; i < rows; i++)
                memcpy(spare + (int64_t)i * r->block, to + i * p->stride,
                       (size_t)r->block * sizeof *to);
            p->state->twins.rotate(spare, r->block, rows, matrix, r->block, to, p->stride);
        }
    }
}

static int64_t stage_blocks(const struct prepare *p, const struct rotate_group *g)
{
    return g->count > 0 && g->n > p->stage ? g->r[p->stage]->blocks : 0;
}

/* One chunk of a stage: a range of all groups' blocks laid end to end. */
static void rotate_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct prepare *p = ctx;
    int64_t first, end;
    chunk_range(p->units, p->chunks, chunk, &first, &end);
    for (int32_t i = 0; i < p->n_groups && end > 0; i++) {
        int64_t blocks = stage_blocks(p, &p->groups[i]);
        if (first < blocks)
            rotate_blocks(p, &p->groups[i], first, end < blocks ? end : blocks,
                          p->spare + thread * p->stride);
        first = first > blocks ? first - blocks : 0;
        end -= blocks;
    }
}

/* Runs stage p->stage; false if no group has one. */
static bool run_stage(const struct kernels *self, struct prepare *p)
{
    double cycles = 0;
    p->units = 0;
    for (int32_t i = 0; i < p->n_groups; i++) {
        int64_t blocks = stage_blocks(p, &p->groups[i]);
        p->units += blocks;
        if (blocks) // lanes at work, and reading the block
            cycles += (double)blocks * p->groups[i].r[p->stage]->block *
                      p->groups[i].r[p->stage]->block * (0.1 * p->groups[i].count + 0.3);
    }
    if (!p->units)
        return false;
    p->chunks = chunk_count(self, p->units, cycles / (double)p->units);
    pool_run(self->state->pool, p->chunks, rotate_chunk, p);
    return true;
}

static bool is_rotated(const struct rotate_group *g)
{
    return g->count > 0 && g->n > 0;
}

/* Rows that no rotation writes. */
static void copy_untouched(const struct prepare *p)
{
    int32_t row = 0;
    for (int32_t i = 0; i <= p->n_groups; i++) {
        if (i < p->n_groups && !is_rotated(&p->groups[i]))
            continue;
        int32_t end = i < p->n_groups ? p->groups[i].first : p->rows;
        for (; row < end; row++)
            memcpy(p->out + row * p->stride, p->x + row * p->ldx, (size_t)p->k * sizeof *p->out);
        if (i < p->n_groups)
            row = p->groups[i].first + p->groups[i].count;
    }
}

static void gather_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct prepare *p = ctx;
    int64_t first, end;
    chunk_range(p->rows, p->chunks, chunk, &first, &end);
    for (int64_t row = first; row < end; row++) {
        float *out = p->out + row * p->stride;
        const float *from = p->x ? p->x + row * p->ldx : out;
        float *to = p->x ? out : p->spare + thread * p->stride;
        for (int64_t k = 0; k < p->k; k++)
            to[k] = from[p->perm[k]];
        if (!p->x)
            memcpy(out, to, (size_t)p->k * sizeof *out);
    }
}

/* Rotates and gathers. */
static void prepare_floats(const struct kernels *self, const float *x, int64_t ldx, int32_t rows,
                           int64_t k, const struct rotate_group *groups, int32_t n_groups,
                           const struct weight *w, void *buffer, struct act *out)
{
    struct prepare p = {.state = self->state,
                        .x = x,
                        .ldx = ldx,
                        .k = k,
                        .rows = rows,
                        .stride = stride_of(k),
                        .out = buffer,
                        .groups = groups,
                        .n_groups = n_groups,
                        .perm = w ? w->perm : NULL};
    p.spare = p.out + rows * p.stride;
    bool rotated = false;
    for (int32_t i = 0; i < n_groups; i++)
        rotated |= is_rotated(&groups[i]);
    *out = (struct act){.rows = rows, .k = k, .x = buffer, .ldx = p.stride};
    if (!rotated && !p.perm) {
        out->x = x;
        out->ldx = ldx;
        return;
    }
    if (rotated) {
        copy_untouched(&p);
        while (run_stage(self, &p))
            p.stage++;
        p.x = NULL; // what follows starts from the buffer
    }
    if (p.perm) {
        p.chunks = chunk_count(self, rows, 2.0 * (double)k);
        pool_run(self->state->pool, p.chunks, gather_chunk, &p);
    }
}

void rotate_prepare(const struct kernels *self, const float *x, int64_t ldx, int32_t rows,
                    int64_t k, const struct rotate_group *groups, int32_t n_groups,
                    const struct weight *w, void *buffer, struct act *out)
{
    prepare_floats(self, x, ldx, rows, k, groups, n_groups, w, buffer, out);
    if (self->mode == COMPUTE_FAST && w && fast_has(w))
        fast_quantize(self, w, (char *)buffer + float_bytes(self, rows, k), out);
}
