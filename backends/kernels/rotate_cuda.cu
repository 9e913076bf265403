/*
 * Owns prepare on a device: rows of any adapters, of all jobs, go through their first rotation in
 * one launch, through their second in the next, as far as there are chains. What a launch has to do
 * is a list of segments: up to eight rows of one job with one rotation, of which a block takes 256
 * columns; a thread has a column of R and multiplies it with all rows of the segment, so that R is
 * read once for them. An output is one chain of fma over its block's inputs, ascending, as
 * everywhere.
 *
 *   buffer   two matrices [rows, stride]: a chain goes to and fro between them and ends in the
 *            first, or in the second where a weight's permutation has to bring it to the first
 */
#include "backends/kernels/fast_cuda.cuh"

#define SEGMENT_ROWS 8
#define SEGMENTS_MAX 8192 /* of a launch; a list of more is cut */

struct segment {
    const float *x;
    const char *r; /* NULL: rows are copied */
    float *out;
    int64_t ldx, ldo, k;
    int64_t r_bytes; /* of a block of r; shared: 0 */
    int64_t steps;   /* where they begin in it */
    int32_t rows, block;
    enum dtype dtype; /* of r */
};

static int64_t stride_of(int64_t k)
{
    return (k + TILE_K - 1) / TILE_K * TILE_K;
}

static size_t float_bytes(int32_t rows, int64_t k)
{
    return device_lines(2 * (size_t)rows * (size_t)stride_of(k) * sizeof(float));
}

size_t rotate_cuda_act_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    return float_bytes(rows, k) + (self->mode == COMPUTE_FAST ? fast_cuda_bytes(rows, k) : 0);
}

/* ---- kernels ---- */

/* Element i of r as a number; of bytes a multiple of its column's step. */
template <enum dtype D> DEVICE float rotation_element(const char *r, int64_t i)
{
    if (D == DT_I8)
        return ((const int8_t *)r)[i];
    return D == DT_F16 ? device_of_f16(((const uint16_t *)r)[i]) : ((const float *)r)[i];
}

/* Column c of a segment. */
template <enum dtype D> DEVICE void rotate_column(const struct segment &s, int64_t c)
{
    const char *r = s.r + c / s.block * s.r_bytes;
    const float *x = s.x + c / s.block * s.block;
    int64_t column = c % s.block;
    float acc[SEGMENT_ROWS];
#pragma unroll
    for (int m = 0; m < SEGMENT_ROWS; m++)
        acc[m] = 0;
    for (int64_t i = 0; i < s.block; i++) {
        float v = rotation_element<D>(r, i * s.block + column);
#pragma unroll
        for (int m = 0; m < SEGMENT_ROWS; m++)
            if (m < s.rows)
                acc[m] = fmaf(x[m * s.ldx + i], v, acc[m]);
    }
    float step = 1;
    if (D == DT_I8)
        step = ((const float *)(r + s.steps))[column];
#pragma unroll
    for (int m = 0; m < SEGMENT_ROWS; m++)
        if (m < s.rows) {
            float own = x[m * s.ldx + column];
            s.out[m * s.ldo + c] = D == DT_F32   ? acc[m]
                                   : D == DT_F16 ? own + acc[m]
                                                 : fmaf(step, acc[m], own);
        }
}

__global__ void rotate(const struct segment *list)
{
    const struct segment s = list[blockIdx.y];
    int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= s.k)
        return;
    if (!s.r)
        for (int m = 0; m < s.rows; m++)
            s.out[m * s.ldo + c] = s.x[m * s.ldx + c];
    else if (s.dtype == DT_I8)
        rotate_column<DT_I8>(s, c);
    else if (s.dtype == DT_F16)
        rotate_column<DT_F16>(s, c);
    else
        rotate_column<DT_F32>(s, c);
}

/* out [rows, ldo] column k = column perm[k] of x. */
__global__ void permute(const float *x, int64_t ldx, const int32_t *perm, int64_t k, int32_t rows,
                        float *out, int64_t ldo)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < rows * k)
        out[at / k * ldo + at % k] = x[at / k * ldx + perm[at % k]];
}

/* ---- lists ---- */

/* A job on its way: where a step reads and writes. */
struct journey {
    const struct prepare_job *job;
    float *half[2];
    int64_t stride;
    int32_t end; /* the half in which chains end */
    bool rotated;
};

struct list {
    struct kernels_state *state;
    struct segment v[SEGMENTS_MAX];
    int32_t n;
    int64_t widest;
};

static bool is_rotated(const struct rotate_group *g)
{
    return g->count > 0 && g->n > 0;
}

static struct journey journey_of(const struct prepare_job *j)
{
    struct journey t;
    t.job = j;
    t.stride = stride_of(j->k);
    t.half[0] = (float *)j->buffer;
    t.half[1] = t.half[0] + (int64_t)j->rows * t.stride;
    t.end = j->w && j->w->perm ? 1 : 0;
    t.rotated = false;
    for (int32_t i = 0; i < j->n_groups; i++)
        t.rotated |= is_rotated(&j->groups[i]);
    j->a->rows = j->rows;
    j->a->k = j->k;
    j->a->x = t.rotated || t.end ? t.half[0] : j->x;
    j->a->ldx = t.rotated || t.end ? t.stride : j->ldx;
    j->a->q = NULL;
    return t;
}

static void flush(struct list *l)
{
    const struct segment *v = (const struct segment *)device_stage(l->state, &l->state->ring, l->v,
                                                                   (size_t)l->n * sizeof *v);
    if (v && l->n > 0)
        LAUNCH_FREE(rotate, device_grid(l->widest, (unsigned)l->n), dim3(THREADS), 0, l->state, v);
    l->n = 0;
    l->widest = 0;
}

/* Rows [first, end) through step `step` of n (r NULL: copied), in segments. */
static void add(struct list *l, const struct journey *t, int64_t first, int64_t end,
                const struct rotation *r, int32_t step, int32_t n)
{
    const struct prepare_job *j = t->job;
    int to = (n - 1 - step + t->end) % 2;
    for (; first < end; first += SEGMENT_ROWS) {
        struct segment *s = &l->v[l->n++];
        s->x = step ? t->half[!to] + first * t->stride : j->x + first * j->ldx;
        s->ldx = step ? t->stride : j->ldx;
        s->out = t->half[to] + first * t->stride;
        s->ldo = t->stride;
        s->k = j->k;
        s->rows = end - first < SEGMENT_ROWS ? (int32_t)(end - first) : SEGMENT_ROWS;
        s->r = r ? (const char *)r->data : NULL;
        s->block = r ? r->block : 1;
        s->dtype = r ? r->dtype : DT_F32;
        s->steps = (int64_t)rotation_steps_at(s->block);
        s->r_bytes = r && !r->shared ? (int64_t)rotation_block_bytes(r->dtype, r->block) : 0;
        l->widest = j->k > l->widest ? j->k : l->widest;
        if (l->n == SEGMENTS_MAX)
            flush(l);
    }
}

/* Step `step` of a job; true: there are more. */
static bool add_step(struct list *l, const struct journey *t, int32_t step)
{
    const struct prepare_job *j = t->job;
    int64_t row = 0;
    bool more = false;
    for (int32_t i = 0; i < j->n_groups; i++) {
        const struct rotate_group *g = &j->groups[i];
        if (!is_rotated(g))
            continue;
        if (step == 0)
            add(l, t, row, g->first, NULL, 0, 1);
        if (step < g->n)
            add(l, t, g->first, g->first + g->count, g->r[step], step, g->n);
        more |= step + 1 < g->n;
        row = g->first + g->count;
    }
    if (step == 0)
        add(l, t, row, j->rows, NULL, 0, 1);
    return more;
}

void rotate_cuda_prepare(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    struct kernels_state *s = self->state;
    static thread_local struct list l; // the worker's
    bool more = n > 0;
    device_enter(s);
    l.state = s;
    l.n = 0;
    l.widest = 0;
    for (int32_t step = 0; more; step++) {
        more = false;
        for (int i = 0; i < n; i++) {
            const struct journey t = journey_of(&jobs[i]);
            if (t.rotated)
                more |= add_step(&l, &t, step);
        }
        flush(&l);
    }
    for (int i = 0; i < n; i++) {
        const struct journey t = journey_of(&jobs[i]);
        const struct prepare_job *j = t.job;
        int64_t threads = (int64_t)j->rows * j->k;
        if (t.end && threads > 0)
            LAUNCH_FREE(permute, device_grid(threads), dim3(THREADS), 0, s,
                        t.rotated ? t.half[1] : j->x, t.rotated ? t.stride : j->ldx, j->w->perm,
                        j->k, j->rows, t.half[0], t.stride);
        if (self->mode == COMPUTE_FAST && j->w && fast_has(j->w)) {
            j->a->q = (char *)j->buffer + float_bytes(j->rows, j->k);
            const struct fast_x to = fast_cuda_at(j->w, j->rows, (void *)j->a->q);
            fast_cuda_quantize(s, j->w, j->a->x, j->a->ldx, &to);
        }
    }
    device_leave(s, "prepare");
}
