/*
 * Owns fast mode's products with codebooks on a device (core/kernels.h).
 *
 *   up to 8 bits   first the tables of a row of x: a block a chunk, a thread a vector, which has
 * its products with all the chunk's groups and books. Then a block has a line of 64 rows of W and
 * four chunks at once, a thread a row and a chunk; 64 threads go on with the sums in order. A
 * chunk's tables are 8 KB: four of them stay in a multiprocessor's first cache. more bits eight
 * threads a row of W, one each of the eight chains
 *
 * Tables lie in the table's scratch, of as many rows of x as fit.
 */
#include "backends/kernels/lookup.h"
#include "backends/kernels/fast_cuda.cuh"

#define TOP         2047
#define VECTORS     256 /* of a table */
#define SLOTS       4   /* chunks at once */
#define EIGHTS_ROWS 32  /* rows of W of a block */
#define EIGHTS_MOST 8   /* rows of x */

struct look_ups {
    int16_t *tables;         /* [rows][chunks][BOOK_LOOKUPS][VECTORS] */
    float *scales;           /* [rows][chunks] */
    int64_t chunks, lookups; /* of a row */
    int groups;              /* of a chunk */
};

/* The product of a group of x with vector v of a book. */
DEVICE float vector_product(const struct weight &w, const float *x, int64_t book, int v)
{
    int64_t at = ((book << w.bits) + v) * w.in_group;
    float sum = 0;
    for (int64_t q = 0; q < w.in_group; q++)
        sum = fmaf(x[q], element_value(w.codebook, w.codebook_dtype, at + q), sum);
    return sum;
}

/* The largest of a block's magnitudes; NaN where one is not finite. */
DEVICE float block_peak(float peak, float shared[VECTORS])
{
    shared[threadIdx.x] = peak;
    __syncthreads();
    for (int half = VECTORS / 2; half; half /= 2) {
        if ((int)threadIdx.x < half)
            shared[threadIdx.x] = device_larger(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    return shared[0];
}

__global__ void make_tables(GRID_CONSTANT struct weight w, struct product p, struct look_ups to)
{
    SHARED float peaks[VECTORS];
    int v = threadIdx.x;
    int64_t chunk = blockIdx.x, first = chunk * to.groups, at = blockIdx.y * to.chunks + chunk;
    const float *x = p.x + blockIdx.y * p.ldx;
    float t[BOOK_LOOKUPS], peak = 0;
#pragma unroll
    for (int l = 0; l < BOOK_LOOKUPS; l++) {
        int64_t group = first + l / w.books;
        bool there = v < 1 << w.bits && l < to.groups * w.books && group < w.k / w.in_group;
        t[l] = there ? vector_product(w, x + group * w.in_group, l % w.books, v) : 0;
        peak = device_larger(peak, t[l]);
    }
    peak = block_peak(peak, peaks);
    bool some = peak >= 0x1p-100f;
    float inverse = some ? TOP / peak : 0;
#pragma unroll
    for (int l = 0; l < BOOK_LOOKUPS; l++)
        to.tables[(at * BOOK_LOOKUPS + l) * VECTORS + v] =
            some ? (int16_t)rintf(t[l] * inverse) : (int16_t)0;
    if (v == 0)
        to.scales[at] = some ? peak / TOP : peak == peak ? 0 : peak;
}

/* A chunk's sum for row r of a line. */
DEVICE int32_t chunk_sum(const struct weight &w, const struct look_ups &k, int64_t line, int r,
                         int64_t chunk, int64_t at)
{
    int per = k.groups * w.books;
    const uint8_t *codes =
        (const uint8_t *)w.data + (line * k.lookups + chunk * per) * BOOK_LINE + r;
    const int16_t *table = k.tables + at * BOOK_LOOKUPS * VECTORS;
    int64_t left = k.lookups - chunk * per;
    int32_t sum = 0;
#pragma unroll
    for (int l = 0; l < BOOK_LOOKUPS; l++)
        if (l < per && l < left)
            sum += table[l * VECTORS + codes[l * BOOK_LINE]];
    return sum;
}

__global__ void look_up(GRID_CONSTANT struct weight w, struct product p, struct look_ups k)
{
    SHARED float v[SLOTS][BOOK_LINE];
    int r = threadIdx.x % BOOK_LINE, slot = threadIdx.x / BOOK_LINE;
    int64_t n = (int64_t)blockIdx.x * BOOK_LINE + r, row = blockIdx.y;
    float total = 0;
    for (int64_t first = 0; first < k.chunks; first += SLOTS) {
        if (first + slot < k.chunks)
            v[slot][r] =
                (float)chunk_sum(w, k, blockIdx.x, r, first + slot, row * k.chunks + first + slot);
        __syncthreads();
        for (int i = 0; i < SLOTS && first + i < k.chunks && slot == 0; i++)
            total = fmaf(k.scales[row * k.chunks + first + i], v[i][r], total);
        __syncthreads();
    }
    if (slot == 0 && n < w.n)
        finish(p, row, n, total * element_value(w.scales, w.scale_dtype, n));
}

void lookup_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct product *p)
{
    struct look_ups k;
    k.chunks = lookup_chunks(w);
    k.lookups = w->k / w->in_group * w->books;
    k.groups = (int)lookup_groups(w);
    int64_t row_floats = k.chunks * (BOOK_LOOKUPS * VECTORS / 2 + 1);
    int64_t most = (int64_t)(PARTS_BYTES / sizeof(float)) / row_floats; // lookup_has: some
    k.scales = s->parts;
    k.tables = (int16_t *)(void *)(s->parts + most * k.chunks);
    for (int32_t row = 0; row < p->rows; row += (int32_t)most) {
        const struct product some = product_rows(*p, row, most);
        LAUNCH(make_tables, dim3((unsigned)k.chunks, (unsigned)some.rows), dim3(VECTORS), 0, s, *w,
               some, k);
        LAUNCH(look_up, dim3((unsigned)((w->n + BOOK_LINE - 1) / BOOK_LINE), (unsigned)some.rows),
               dim3(SLOTS * BOOK_LINE), 0, s, *w, some, k);
    }
}

/* ---- vectors of eight columns ---- */

/* M: rows of x; p.rows may be less. */
template <int M> __global__ void eights(GRID_CONSTANT struct weight w, struct product p)
{
    SHARED float a[M][EIGHTS_ROWS][8];
    int q = threadIdx.x % 8, r = threadIdx.x / 8;
    int64_t n = (int64_t)blockIdx.x * EIGHTS_ROWS + r, lookups = w.k / 8 * w.books;
    const uint16_t *codes = (const uint16_t *)w.data + n * lookups;
    float acc[M];
#pragma unroll
    for (int m = 0; m < M; m++)
        acc[m] = 0;
    for (int64_t k = 0; k < w.k && n < w.n; k += 8)
        for (int64_t b = 0; b < w.books; b++) {
            float v =
                element_value(w.codebook, w.codebook_dtype, ((b << w.bits) + *codes++) * 8 + q);
#pragma unroll
            for (int m = 0; m < M; m++)
                if (m < p.rows)
                    acc[m] = fmaf(p.x[m * p.ldx + k + q], v, acc[m]);
        }
#pragma unroll
    for (int m = 0; m < M; m++)
        a[m][r][q] = acc[m];
    __syncthreads();
    for (int m = q; m < M && m < p.rows && n < w.n; m += 8) {
        const float *v = a[m][r];
        float sum = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
        finish(p, m, n, sum * element_value(w.scales, w.scale_dtype, n));
    }
}

void eights_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct product *p)
{
    dim3 grid((unsigned)((w->n + EIGHTS_ROWS - 1) / EIGHTS_ROWS)), block(EIGHTS_ROWS * 8);
    for (int32_t row = 0; row < p->rows; row += EIGHTS_MOST) {
        const struct product some = product_rows(*p, row, EIGHTS_MOST);
        const auto kernel = some.rows == 1 ? eights<1> : eights<EIGHTS_MOST>;
        LAUNCH(kernel, grid, block, 0, s, *w, some);
    }
}
