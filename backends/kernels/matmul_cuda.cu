/*
 * Owns products, and decoded rows, on a device. Weights stay packed; an element is decoded where it
 * is multiplied. Exact mode's order (core/kernels.h) leaves room enough for a GPU: the panels of
 * 256 columns of an output are chains of their own, and only their sums are added in order.
 *
 *   few rows    a thread has a row of W and a panel; a block 16 rows of W and up to 16 panels at
 *   (up to 16)  once, whose sums one of its threads adds. A half-warp reads a line of codes.
 *   many rows   a block has 64 rows of W and 64 of x; 64 columns at a time are decoded and laid
 *               out in the block's memory, and a thread multiplies 4 x 4 of them
 */
#include "backends/kernels/fast_cuda.cuh"
#include "backends/kernels/lookup.h"
#include "backends/kernels/strided.h"

#define FEW        16 /* rows of x that go the first way */
#define AT_ONCE    8  /* ... that a thread multiplies with */
#define TILE       64 /* rows of W and of x of a block, the other way */
#define STAGE      64 /* columns at a time */
#define PANELS     16
#define STAGE_STEP (TILE + 4)

/* ---- few rows ---- */

/* A whole run times M rows. */
template <int M>
DEVICE void multiply_run(const struct product &p, int64_t k, const float w[ELEMENT_RUN],
                         float acc[M])
{
#pragma unroll
    for (int m = 0; m < M; m++) {
        const float *x = p.x + m * p.ldx + k;
        float v[ELEMENT_RUN];
        if (p.aligned) {
#pragma unroll
            for (int i = 0; i < ELEMENT_RUN; i += 4) {
                const float4 four = *(const float4 *)(x + i);
                v[i] = four.x;
                v[i + 1] = four.y;
                v[i + 2] = four.z;
                v[i + 3] = four.w;
            }
        } else {
#pragma unroll
            for (int i = 0; i < ELEMENT_RUN; i++)
                v[i] = x[i];
        }
#pragma unroll
        for (int i = 0; i < ELEMENT_RUN; i++)
            acc[m] = fmaf(v[i], w[i], acc[m]);
    }
}

/* The panel's sums of one row of W. */
template <int M>
DEVICE void multiply_panel(const struct weight &w, const struct tables &t, const struct product &p,
                           int64_t row, int64_t panel, float acc[M])
{
    int64_t end = (panel + 1) * PANEL_K < w.k ? (panel + 1) * PANEL_K : w.k;
    struct group g = {-1, 0, 0};
    for (int64_t k = panel * PANEL_K; k < end; k += ELEMENT_RUN) {
        float v[ELEMENT_RUN];
        element_run(w, t, row, k, &g, v);
        if (end - k >= ELEMENT_RUN) {
            multiply_run<M>(p, k, v, acc);
            continue;
        }
#pragma unroll
        for (int i = 0; i < ELEMENT_RUN; i++)
            for (int m = 0; m < M && i < end - k; m++)
                acc[m] = fmaf(p.x[m * p.ldx + k + i], v[i], acc[m]);
    }
}

/* p.rows == M; a block: 16 / slots tiles, for each `slots` panels at a time. */
template <int M>
__global__ void few_rows(GRID_CONSTANT struct weight w, struct product p, int slots)
{
    SHARED struct tables tables;
    SHARED float parts[PANELS][TILE_ROWS][M];
    int r = threadIdx.x % TILE_ROWS, s = threadIdx.x / TILE_ROWS, slot = s % slots;
    int64_t tile = (int64_t)blockIdx.x * (PANELS / slots) + s / slots;
    int64_t row = tile * TILE_ROWS + r, panels = (w.k + PANEL_K - 1) / PANEL_K;
    float sum[M];
#pragma unroll
    for (int m = 0; m < M; m++)
        sum[m] = 0;
    tables_fill(w, &tables, threadIdx.x, blockDim.x);
    __syncthreads();
    for (int64_t first = 0; first < panels; first += slots) {
        float acc[M];
#pragma unroll
        for (int m = 0; m < M; m++)
            acc[m] = 0;
        if (row < w.n && first + slot < panels)
            multiply_panel<M>(w, tables, p, row, first + slot, acc);
#pragma unroll
        for (int m = 0; m < M; m++)
            parts[s][r][m] = acc[m];
        __syncthreads();
        for (int i = 0; slot == 0 && i < slots && first + i < panels; i++)
#pragma unroll
            for (int m = 0; m < M; m++)
                sum[m] += parts[s + i][r][m];
        __syncthreads();
    }
    if (slot == 0 && row < w.n)
#pragma unroll
        for (int m = 0; m < M; m++)
            finish(p, m, row, sum[m]);
}

/* ---- many rows ---- */

/* Columns [k, k + STAGE) of the block's rows of W, decoded, [STAGE][STAGE_STEP]. */
DEVICE void stage_weight(const struct weight &w, const struct tables &t, int64_t n0, int64_t k,
                         float *to)
{
    int r = threadIdx.x % TILE, first = threadIdx.x / TILE * (STAGE * TILE / THREADS);
    struct group g = {-1, 0, 0};
    for (int c = first; c < first + STAGE * TILE / THREADS; c += ELEMENT_RUN) {
        float v[ELEMENT_RUN];
        if (n0 + r >= w.n || k + c >= w.k)
            return;
        element_run(w, t, n0 + r, k + c, &g, v);
#pragma unroll
        for (int i = 0; i < ELEMENT_RUN; i++)
            to[(c + i) * STAGE_STEP + r] = v[i];
    }
}

DEVICE void stage_x(const struct product &p, int64_t row0, int64_t k, int64_t have, float *to)
{
    for (int i = threadIdx.x; i < TILE * STAGE; i += blockDim.x) {
        int r = i / STAGE, c = i % STAGE;
        bool there = row0 + r < p.rows && c < have;
        to[c * STAGE_STEP + r] = there ? p.x[(row0 + r) * p.ldx + k + c] : 0;
    }
}

__global__ void many_rows(GRID_CONSTANT struct weight w, struct product p)
{
    SHARED struct tables tables;
    SHARED float ws[STAGE * STAGE_STEP], xs[STAGE * STAGE_STEP];
    int64_t n0 = (int64_t)blockIdx.x * TILE, row0 = (int64_t)blockIdx.y * TILE;
    int tn = threadIdx.x % 16 * 4, tm = threadIdx.x / 16 * 4;
    float sum[4][4], acc[4][4];
#pragma unroll
    for (int i = 0; i < 16; i++)
        sum[i / 4][i % 4] = acc[i / 4][i % 4] = 0;
    tables_fill(w, &tables, threadIdx.x, blockDim.x);
    __syncthreads();
    for (int64_t k = 0; k < w.k; k += STAGE) {
        int64_t have = w.k - k < STAGE ? w.k - k : STAGE;
        stage_weight(w, tables, n0, k, ws);
        stage_x(p, row0, k, have, xs);
        __syncthreads();
        for (int c = 0; c < have; c++)
#pragma unroll
            for (int i = 0; i < 16; i++)
                acc[i / 4][i % 4] = fmaf(xs[c * STAGE_STEP + tm + i / 4],
                                         ws[c * STAGE_STEP + tn + i % 4], acc[i / 4][i % 4]);
        __syncthreads();
        bool ends = (k + STAGE) % PANEL_K == 0 || k + STAGE >= w.k;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            sum[i / 4][i % 4] = ends ? sum[i / 4][i % 4] + acc[i / 4][i % 4] : sum[i / 4][i % 4];
            acc[i / 4][i % 4] = ends ? 0 : acc[i / 4][i % 4];
        }
    }
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (row0 + tm + i / 4 < p.rows && n0 + tn + i % 4 < w.n)
            finish(p, row0 + tm + i / 4, n0 + tn + i % 4, sum[i / 4][i % 4]);
}

/* ---- launches ---- */

template <int M>
static void launch_few(struct kernels_state *s, const struct weight &w, const struct product &p)
{
    int64_t panels = (w.k + PANEL_K - 1) / PANEL_K;
    int slots = 1;
    while (slots < PANELS && slots < panels)
        slots *= 2;
    int64_t tiles = PANELS / slots, blocks = (w.n_tiles + tiles - 1) / tiles;
    LAUNCH(few_rows<M>, dim3((unsigned)blocks), dim3(TILE_ROWS * PANELS), 0, s, w, p, slots);
}

static void multiply(struct kernels_state *s, const struct weight &w, const struct product &p)
{
    int32_t rows = p.rows;
    if (rows > FEW) {
        dim3 grid((unsigned)((w.n + TILE - 1) / TILE), (unsigned)((rows + TILE - 1) / TILE));
        LAUNCH(many_rows, grid, dim3(THREADS), 0, s, w, p);
        return;
    }
    for (int32_t row = 0, n; row < rows; row += n) {
        int32_t left = rows - row;
        n = left >= AT_ONCE ? AT_ONCE : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const struct product some = product_rows(p, row, n);
        if (n == AT_ONCE)
            launch_few<AT_ONCE>(s, w, some);
        else if (n == 4)
            launch_few<4>(s, w, some);
        else if (n == 2)
            launch_few<2>(s, w, some);
        else
            launch_few<1>(s, w, some);
    }
}

static void multiply_job(const struct kernels *self, const struct weight *w, const struct act *a,
                         const struct product *p)
{
    struct kernels_state *s = self->state;
    if (self->mode == COMPUTE_FAST && a->q) {
        const struct fast_x x = fast_cuda_at(w, p->rows, (void *)a->q);
        fast_cuda_multiply(s, w, &x, p);
    } else if (self->mode == COMPUTE_FAST && strided_has(w)) {
        strided_cuda_multiply(s, w, p);
    } else if (self->mode == COMPUTE_FAST && lookup_has(w)) {
        lookup_cuda_multiply(s, w, p);
    } else if (self->mode == COMPUTE_FAST && eights_has(w)) {
        eights_cuda_multiply(s, w, p);
    } else {
        multiply(s, *w, *p);
    }
}

void matmul_cuda_run(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    struct kernels_state *s = self->state;
    device_enter(s);
    for (int i = 0; i < n; i++) {
        const struct matmul_job *j = &jobs[i];
        struct product p = {j->a->x, j->bias, j->out, j->a->ldx, j->ldo, j->a->rows, j->add, false};
        p.aligned = (uintptr_t)p.x % 16 == 0 && p.ldx % 4 == 0;
        if (p.rows > 0)
            multiply_job(self, j->w, j->a, &p);
    }
    device_leave(s, "matmul");
}

/* ---- decoded rows ---- */

/* Rows ids[i], or row + i, to out [rows, ldo] in natural order: a thread a run. */
__global__ void decode(GRID_CONSTANT struct weight w, const int32_t *ids, int64_t row, int64_t rows,
                       float *out, int64_t ldo)
{
    SHARED struct tables tables;
    int64_t runs = (w.k + ELEMENT_RUN - 1) / ELEMENT_RUN;
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / runs;
    int64_t first = at % runs * ELEMENT_RUN;
    struct group g = {-1, 0, 0};
    float v[ELEMENT_RUN];
    tables_fill(w, &tables, threadIdx.x, blockDim.x);
    __syncthreads();
    if (i >= rows)
        return;
    element_run(w, tables, ids ? ids[i] : row + i, first, &g, v);
#pragma unroll
    for (int e = 0; e < ELEMENT_RUN; e++)
        if (first + e < w.k)
            out[i * ldo + (w.perm ? w.perm[first + e] : first + e)] = v[e];
}

static void launch_decode(struct kernels_state *s, const struct weight &w, const int32_t *ids,
                          int64_t row, int64_t rows, float *out, int64_t ldo)
{
    int64_t threads = rows * ((w.k + ELEMENT_RUN - 1) / ELEMENT_RUN);
    if (threads > 0)
        LAUNCH(decode, device_grid(threads), dim3(THREADS), 0, s, w, ids, row, rows, out, ldo);
}

void matmul_cuda_dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                            int64_t rows, float *out)
{
    device_enter(self->state);
    launch_decode(self->state, *w, NULL, row, rows, out, w->k);
    device_leave(self->state, "dequantize");
}

void matmul_cuda_gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                        int32_t n, float *out, int64_t ldo)
{
    struct kernels_state *s = self->state;
    device_enter(s);
    const int32_t *list = (const int32_t *)device_stage(s, &s->ring, ids, (size_t)n * sizeof *ids);
    if (list)
        launch_decode(s, *w, list, 0, n, out, ldo);
    device_leave(s, "gather");
}
