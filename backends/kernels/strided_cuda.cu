/*
 * Owns fast mode's products with strided groups (HQQ axis 0) on a device (core/kernels.h). A column
 * has a scale and a zero of its own there, which every R-th row of W shares (strided.h): of each
 * row of x there are R different y, R = n_groups / flat_k, or as many as W has rows.
 *
 *   first    a thread a chunk of a y: multiplies, makes bytes, sums the bias
 *   then     a block a tile: a thread has a row of W and a chunk, and its integers with up to eight
 *            rows of x; outputs go on with them in order, a thread each
 *
 * Every row of W has bytes of its own to multiply with, so this is no work for tensor cores; a
 * chunk of 16 rows is 128 dots of four for a row of x. y takes the table's scratch, as many rows of
 * x at once as fit.
 */
#include "backends/kernels/strided.h"
#include "backends/kernels/fast_cuda.cuh"

#define CHUNKS    16 /* at once, of a tile */
#define MOST_ROWS 8

/* A chunk of one y. */
struct y_chunk {
    uint32_t q[2][TILE_K / 4];
    float d[2], bias[2];
};

struct strided_y {
    struct y_chunk *y; /* [rows][residues][chunks] */
    int64_t residues, chunks;
};

__global__ void make_y(GRID_CONSTANT struct weight w, struct product p, struct strided_y to,
                       int64_t threads)
{
    SHARED struct tables tables; // nothing is nested here
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= threads)
        return;
    int64_t chunk = at % to.chunks, i = at / to.chunks % to.residues, k = chunk * TILE_K;
    const float *x = p.x + at / to.chunks / to.residues * p.ldx + k;
    float y[TILE_K], zero[TILE_K];
    struct y_chunk c;
#pragma unroll
    for (int j = 0; j < TILE_K; j++) {
        y[j] = zero[j] = 0;
        if (k + j < w.k) {
            float scale;
            element_params(w, tables, i, k + j, element_group(w, i, k + j), &scale, &zero[j]);
            y[j] = x[j] * scale;
        }
    }
    const struct fast_bytes b = fast_bytes_of(y);
#pragma unroll
    for (int part = 0; part < 2; part++) {
        c.bias[part] = 0;
        c.d[part] = b.d[part];
#pragma unroll
        for (int j = 0; j < TILE_K; j++) {
            c.q[part][j / 4] = b.q[part][j / 4];
            if (k + j < w.k)
                c.bias[part] =
                    fmaf(zero[j], (float)(int8_t)(b.q[part][j / 4] >> 8 * (j % 4)), c.bias[part]);
        }
    }
    to.y[at] = c;
}

/* M: rows of x; p.rows may be less. */
template <int M>
__global__ void strided_rows(GRID_CONSTANT struct weight w, struct product p, struct strided_y y)
{
    SHARED float d[2][M][CHUNKS][TILE_ROWS], v[2][M][CHUNKS][TILE_ROWS];
    int r = threadIdx.x % TILE_ROWS, slot = threadIdx.x / TILE_ROWS;
    int64_t n = (int64_t)blockIdx.x * TILE_ROWS + r;
    float total = 0; // of row r and, where slot < M, row slot of x
    for (int64_t first = 0; first < y.chunks; first += CHUNKS) {
        int64_t chunk = first + slot;
        uint32_t codes[TILE_K / 4];
#pragma unroll
        for (int i = 0; i < TILE_K / 4 && chunk < y.chunks; i++)
            codes[i] = element_codes(w, n, chunk * TILE_K + 4 * i);
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (m >= p.rows || chunk >= y.chunks)
                break;
            const struct y_chunk &c = y.y[(m * y.residues + n % y.residues) * y.chunks + chunk];
#pragma unroll
            for (int part = 0; part < 2; part++) {
                int32_t dot = 0;
#pragma unroll
                for (int i = 0; i < TILE_K / 4; i++)
                    dot = dot_four(codes[i], c.q[part][i], dot);
                d[part][m][slot][r] = c.d[part];
                v[part][m][slot][r] = (float)dot - c.bias[part];
            }
        }
        __syncthreads();
        for (int i = 0; i < CHUNKS && first + i < y.chunks && slot < M && slot < p.rows; i++) {
            total = fmaf(d[0][slot][i][r], v[0][slot][i][r], total);
            if (d[1][slot][i][r] != 0)
                total = fmaf(d[1][slot][i][r], v[1][slot][i][r], total);
        }
        __syncthreads();
    }
    if (slot < M && slot < p.rows && n < w.n)
        finish(p, slot, n, total);
}

void strided_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct product *p)
{
    int64_t residues = w->n_groups / w->flat_k;
    struct strided_y y = {(struct y_chunk *)s->parts, residues < w->n ? residues : w->n,
                          w->k_padded / TILE_K};
    int64_t row_chunks = y.residues * y.chunks;
    int64_t most = (int64_t)(PARTS_BYTES / sizeof *y.y) / row_chunks;
    if (most < 1)
        device_note(s, cudaErrorMemoryAllocation, "a weight has too many strided groups");
    most = most < MOST_ROWS ? most : MOST_ROWS;
    for (int32_t row = 0; row < p->rows && most > 0; row += (int32_t)most) {
        const struct product some = product_rows(*p, row, most);
        int64_t threads = some.rows * row_chunks;
        LAUNCH_FREE(make_y, device_grid(threads), dim3(THREADS), 0, s, *w, some, y, threads);
        const auto kernel = some.rows == 1 ? strided_rows<1> : strided_rows<MOST_ROWS>;
        LAUNCH(kernel, dim3((unsigned)w->n_tiles), dim3(CHUNKS * TILE_ROWS), 0, s, *w, some, y);
    }
}
