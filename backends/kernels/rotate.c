/*
 * Owns prepare: rotations x' = x R, block by block, the gather of act-ordered weights, and (fast
 * mode) the cut into bytes.
 *
 * A rotation touches its own block of columns only. So a job is cut into units of columns that no
 * block of any of its rotations straddles (and rows, where there are many), and a unit goes all the
 * way while it is in the first cache: copied or rotated by the first adapter from x to the buffer,
 * by the following ones in place, each block's inputs being copied aside, then to bytes. Within a
 * unit each block of R is read once however many rows share it. The units of all jobs are one
 * parallel region. Two things ask for a second one, because they look at whole rows: the gather,
 * and the sums of groups that are wider than a unit.
 *
 * Every output is one fma chain over its block's inputs, every chunk of bytes its own columns', so
 * no cut can change a bit.
 *
 *   buffer   rows x stride floats (the result), then a row of `stride` floats for each thread, then
 *            in fast mode the rows' bytes (fast.c)
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "backends/kernels/twins.h"
#include "core/tensor.h"

#define UNIT_COLUMNS 128 /* at least, where there are as many */
#define GROUP_MOST   512 /* columns of a group that a unit is stretched to */
#define UNIT_ROWS    64  /* whole blocks of FAST_ROWS */
#define JOBS_AT_ONCE 8

/* Rough cycles: an element of R, of D, that is read; multiplied; a column of a row to bytes,
 * gathered. */
#define CYCLES_READ_R   0.5
#define CYCLES_READ_D   0.3
#define CYCLES_ROTATE   0.1
#define CYCLES_QUANTIZE 1.2
#define CYCLES_GATHER   2.0

static void rotate(const float *x, int64_t ldx, int64_t step, int32_t rows,
                   const struct rotate_block *r, float *out, int64_t ldo)
{
    const float *elements = r->elements;
    for (int32_t i = 0; i < rows; i++)
        for (int32_t c = 0; c < r->size; c++) {
            float acc = 0;
            for (int32_t k = 0; k < r->size; k++)
                acc = fmaf(x[i * ldx + k * step], elements[(int64_t)k * r->size + c], acc);
            out[i * ldo + c] = acc;
        }
}

static void rotate_near(const float *x, int64_t ldx, int32_t rows, const struct rotate_block *d,
                        float *out, int64_t ldo)
{
    const uint16_t *elements = d->elements;
    for (int32_t i = 0; i < rows; i++)
        for (int32_t c = 0; c < d->size; c++) {
            float acc = 0;
            for (int32_t k = 0; k < d->size; k++)
                acc = fmaf(x[i * ldx + k], f16_to_f32(elements[(int64_t)k * d->size + c]), acc);
            out[i * ldo + c] = x[i * ldx + c] + acc;
        }
}

static void rotate_bytes(const float *x, int64_t ldx, int32_t rows, const struct rotate_block *d,
                         float *out, int64_t ldo)
{
    const int8_t *elements = d->elements;
    const char *steps = (const char *)d->elements + rotation_steps_at(d->size);
    for (int32_t i = 0; i < rows; i++)
        for (int32_t c = 0; c < d->size; c++) {
            float acc = 0;
            for (int32_t k = 0; k < d->size; k++)
                acc = fmaf(x[i * ldx + k], elements[(int64_t)k * d->size + c], acc);
            out[i * ldo + c] = fmaf(load_f32(steps + c * sizeof(float)), acc, x[i * ldx + c]);
        }
}

void rotate_portable(struct twins *t)
{
    t->rotate = rotate;
    t->rotate_near = rotate_near;
    t->rotate_bytes = rotate_bytes;
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

/* A job on its way. */
struct prepare {
    const struct prepare_job *job;
    int64_t stride;
    float *out, *spare; /* [rows, stride], [threads, stride] */
    bool rotated, gathered, bytes;
    bool parts;        /* a unit has whole groups */
    int64_t width;     /* columns of a unit */
    int64_t row_units; /* a column's units: parts of the rows */
    int64_t units;
};

struct region {
    const struct kernels_state *state;
    struct prepare p[JOBS_AT_ONCE];
    int n;
    int64_t units, chunks;
};

static bool is_rotated(const struct rotate_group *g)
{
    return g->count > 0 && g->n > 0;
}

static int64_t least_multiple(int64_t a, int64_t b)
{
    int64_t x = a, y = b;
    while (y) {
        int64_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

/* The least width that no block straddles, k if that is more. */
static int64_t unit_width(const struct prepare_job *j)
{
    int64_t width = TILE_K;
    for (int32_t i = 0; i < j->n_groups; i++)
        for (int32_t s = 0; s < j->groups[i].n && is_rotated(&j->groups[i]) && width < j->k; s++)
            if (width % j->groups[i].r[s]->block)
                width = least_multiple(width, j->groups[i].r[s]->block);
    if (width < UNIT_COLUMNS)
        width *= (UNIT_COLUMNS + width - 1) / width;
    return width < j->k ? width : j->k;
}

static void plan_units(struct prepare *p)
{
    const struct prepare_job *j = p->job;
    p->width = unit_width(j);
    int64_t group = p->bytes ? fast_group(j->w) : 0;
    if (group > 0 && fast_groups(j->w) > 1) {
        int64_t whole = least_multiple(p->width, group);
        if (whole <= GROUP_MOST && whole <= j->k)
            p->width = whole;
        p->parts = p->width % group == 0;
    }
    p->parts |= p->width >= j->k;
    p->row_units = (j->rows + UNIT_ROWS - 1) / UNIT_ROWS;
    p->units = (j->k + p->width - 1) / p->width * p->row_units;
}

static void open_job(const struct kernels *self, const struct prepare_job *j, struct prepare *p)
{
    const struct weight *w = j->w;
    *p = (struct prepare){.job = j, .stride = stride_of(j->k), .out = j->buffer};
    p->spare = p->out + j->rows * p->stride;
    p->gathered = w && w->perm;
    p->bytes = self->mode == COMPUTE_FAST && w && fast_has(w);
    for (int32_t i = 0; i < j->n_groups; i++)
        p->rotated |= is_rotated(&j->groups[i]);
    *j->a = (struct act){.rows = j->rows, .k = j->k, .x = j->x, .ldx = j->ldx};
    if (p->rotated || p->gathered) {
        j->a->x = p->out;
        j->a->ldx = p->stride;
    }
    if (p->bytes)
        fast_open(w, (char *)j->buffer + float_bytes(self, j->rows, j->k), j->a);
    if (p->rotated || (p->bytes && !p->gathered))
        plan_units(p);
}

/* ---- a unit ---- */

/* Some rows and columns of a job. */
struct part {
    int64_t row, end, k, k_end;
};

/* One block of some rows. A unit has `width` columns; what the next one reads of r, or of the
 * module that lies behind it in memory, is fetched. */
static void rotate_block(const struct region *region, int64_t width, const struct rotation *r,
                         int64_t block, const float *x, int64_t ldx, int32_t rows, float *out,
                         int64_t ldo)
{
    const struct twins *t = &region->state->twins;
    int64_t bytes = (int64_t)rotation_block_bytes(r->dtype, r->block);
    const struct rotate_block b = {.size = r->block,
                                   .elements =
                                       (const char *)r->data + (r->shared ? 0 : block * bytes),
                                   .ahead = r->shared ? 0 : width / r->block * bytes};
    if (r->dtype == DT_I8)
        t->rotate_bytes(x, ldx, rows, &b, out, ldo);
    else if (r->dtype == DT_F16)
        t->rotate_near(x, ldx, rows, &b, out, ldo);
    else
        t->rotate(x, ldx, 1, rows, &b, out, ldo);
}

/* Rotation s of a group over the part. */
static void rotate_part(const struct region *region, const struct prepare *p,
                        const struct rotate_group *g, int32_t s, struct part part, float *spare)
{
    const struct rotation *r = g->r[s];
    int64_t size = r->block, step = p->stride / size; // rows whose block fits the spare row
    for (int64_t k = part.k; k < part.k_end; k += size) {
        float *out = p->out + part.row * p->stride + k;
        if (s == 0) {
            const struct prepare_job *j = p->job;
            rotate_block(region, p->width, r, k / size, j->x + part.row * j->ldx + k, j->ldx,
                         (int32_t)(part.end - part.row), out, p->stride);
            continue;
        }
        for (int64_t row = part.row; row < part.end; row += step, out += step * p->stride) {
            int64_t rows = part.end - row < step ? part.end - row : step;
            for (int64_t i = 0; i < rows; i++)
                memcpy(spare + i * size, out + i * p->stride, (size_t)size * sizeof *out);
            rotate_block(region, p->width, r, k / size, spare, size, (int32_t)rows, out, p->stride);
        }
    }
}

/* Rows that no rotation writes. */
static void copy_part(const struct prepare *p, int64_t row, int64_t end, struct part part)
{
    for (; row < end; row++)
        memcpy(p->out + row * p->stride + part.k, p->job->x + row * p->job->ldx + part.k,
               (size_t)(part.k_end - part.k) * sizeof *p->out);
}

static void rotate_rows_of(const struct region *region, const struct prepare *p, struct part part,
                           float *spare)
{
    int64_t row = part.row;
    for (int32_t i = 0; i < p->job->n_groups; i++) {
        const struct rotate_group *g = &p->job->groups[i];
        struct part of = part;
        of.row = g->first > part.row ? g->first : part.row;
        of.end = g->first + g->count < part.end ? g->first + g->count : part.end;
        if (!is_rotated(g) || of.row >= of.end)
            continue;
        copy_part(p, row, of.row, part);
        for (int32_t s = 0; s < g->n; s++)
            rotate_part(region, p, g, s, of, spare);
        row = of.end;
    }
    copy_part(p, row, part.end, part);
}

static void prepare_unit(const struct region *region, const struct prepare *p, int64_t unit,
                         int thread)
{
    const struct prepare_job *j = p->job;
    struct part part = {.row = unit % p->row_units * UNIT_ROWS,
                        .k = unit / p->row_units * p->width};
    part.end = part.row + UNIT_ROWS < j->rows ? part.row + UNIT_ROWS : j->rows;
    part.k_end = part.k + p->width < j->k ? part.k + p->width : j->k;
    if (p->rotated)
        rotate_rows_of(region, p, part, p->spare + thread * p->stride);
    if (!p->bytes || p->gathered)
        return;
    fast_quantize(&region->state->twins, j->a, part.row, part.end, part.k, part.k_end);
    if (!p->parts)
        return;
    int64_t all = fast_groups(j->w), group = all > 1 ? part.k / fast_group(j->w) : 0;
    int64_t group_end = part.k_end < j->k ? part.k_end / fast_group(j->w) : all;
    fast_sum_parts(&region->state->twins, j->a, part.row, part.end, group, group_end);
}

/* A range of all jobs' units laid end to end. */
static void unit_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct region *region = ctx;
    int64_t first, end, unit = 0;
    chunk_range(region->units, region->chunks, chunk, &first, &end);
    for (int i = 0; i < region->n && unit < end; unit += region->p[i++].units) {
        const struct prepare *p = &region->p[i];
        int64_t u = first > unit ? first - unit : 0;
        for (; u < p->units && unit + u < end; u++)
            prepare_unit(region, p, u, thread);
    }
}

static double unit_cycles(const struct kernels *self, const struct prepare *p)
{
    const struct prepare_job *j = p->job;
    double cycles = p->bytes ? CYCLES_QUANTIZE * (double)(j->rows * j->k) : 0;
    for (int32_t i = 0; i < j->n_groups; i++)
        for (int32_t s = 0; s < j->groups[i].n && is_rotated(&j->groups[i]); s++) {
            const struct rotation *r = j->groups[i].r[s];
            assert(r->dtype == DT_F32 || self->mode == COMPUTE_FAST);
            double read = r->dtype == DT_F32 ? CYCLES_READ_R : CYCLES_READ_D;
            cycles += (double)(j->k * r->block) * (read + CYCLES_ROTATE * j->groups[i].count);
        }
    return cycles;
}

/* ---- what looks at whole rows ---- */

static void gather_row(const struct prepare *p, int64_t row, float *spare)
{
    const struct prepare_job *j = p->job;
    float *out = p->out + row * p->stride, *to = p->rotated ? spare : out;
    const float *from = p->rotated ? out : j->x + row * j->ldx;
    for (int64_t k = 0; k < j->k; k++)
        to[k] = from[j->w->perm[k]];
    if (p->rotated)
        memcpy(out, to, (size_t)j->k * sizeof *out);
}

static void row_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct region *region = ctx;
    const struct prepare *p = &region->p[0];
    const struct prepare_job *j = p->job;
    int64_t row, end;
    chunk_range(region->units, region->chunks, chunk, &row, &end);
    for (int64_t r = row; r < end && p->gathered; r++)
        gather_row(p, r, p->spare + thread * p->stride);
    if (!p->bytes)
        return;
    if (p->gathered)
        fast_quantize(&region->state->twins, j->a, row, end, 0, j->k);
    fast_sum_parts(&region->state->twins, j->a, row, end, 0, fast_groups(j->w));
}

static void run_rows(const struct kernels *self, const struct prepare *p)
{
    const struct prepare_job *j = p->job;
    struct region region = {.state = self->state, .p = {*p}, .n = 1, .units = j->rows};
    double row = p->bytes ? 0.2 * (double)j->k : 0;
    if (p->gathered)
        row += (CYCLES_GATHER + (p->bytes ? CYCLES_QUANTIZE : 0)) * (double)j->k;
    region.chunks = chunk_count(self, region.units, row);
    pool_run(self->state->pool, region.chunks, row_chunk, &region);
}

static void prepare_some(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    struct region region = {.state = self->state, .n = n};
    double cycles = 0;
    for (int i = 0; i < n; i++) {
        open_job(self, &jobs[i], &region.p[i]);
        region.units += region.p[i].units;
        if (region.p[i].units)
            cycles += unit_cycles(self, &region.p[i]);
    }
    if (region.units) {
        region.chunks = chunk_count(self, region.units, cycles / (double)region.units);
        pool_run(self->state->pool, region.chunks, unit_chunk, &region);
    }
    for (int i = 0; i < n; i++)
        if (region.p[i].gathered || (region.p[i].bytes && !region.p[i].parts))
            run_rows(self, &region.p[i]);
}

void rotate_prepare(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    for (; n > 0; jobs += JOBS_AT_ONCE, n -= JOBS_AT_ONCE)
        prepare_some(self, jobs, n < JOBS_AT_ONCE ? n : JOBS_AT_ONCE);
}
