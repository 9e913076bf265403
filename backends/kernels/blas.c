/*
 * Owns the calls of BLAS and LAPACK (the serial build of OpenBLAS: our pool splits the work). Never
 * on the path of exact results: what BLAS adds up depends on the shape.
 *
 * Small square Bs, as the blocks of rotations are, are multiplied by the table's own rotate: there
 * BLAS packs more than it multiplies, and one that is older than the processor has no kernel for
 * it (Debian 12's 0.3.21 runs an Emerald Rapids as a processor of 2004).
 */
#include <cblas.h>

#include "backends/kernels/twins.h"

/* LAPACK: LU with row exchanges of a column-major matrix. */
void dgetrf_(const int *m, const int *n, double *a, const int *lda, int *ipiv, int *info);

#define BLOCK_MOST 64 /* columns of a small B */

struct gemm {
    const struct twins *twins;
    bool ta, tb;
    int64_t m, n, k, lda, ldb, ldc, chunks;
    const float *a, *b;
    float *c;
};

static bool is_block(const struct gemm *g)
{
    return g->n == g->k && g->n <= BLOCK_MOST;
}

/* out [n, n] of in, or of its transpose. */
static void copy_block(const float *in, int64_t ld, bool transposed, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            out[i * n + j] = transposed ? in[j * ld + i] : in[i * ld + j];
}

/* Rows [first, end) of C. */
static void block_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct gemm *g = ctx;
    int64_t first, end, row = g->ta ? 1 : g->lda, step = g->ta ? g->lda : 1;
    (void)thread;
    chunk_range(g->m, g->chunks, chunk, &first, &end);
    float b[BLOCK_MOST * BLOCK_MOST];
    struct rotate_block block = {.elements = g->b, .size = (int32_t)g->n};
    if (g->tb || g->ldb != g->n) {
        copy_block(g->b, g->ldb, g->tb, g->n, b);
        block.elements = b;
    }
    g->twins->rotate(g->a + first * row, row, step, (int32_t)(end - first), &block,
                     g->c + first * g->ldc, g->ldc);
}

/* Rows [first, end) of C. */
static void gemm_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct gemm *g = ctx;
    int64_t first, end;
    (void)thread;
    chunk_range(g->m, g->chunks, chunk, &first, &end);
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
                (blasint)(end - first), (blasint)g->n, (blasint)g->k, 1.0f,
                g->a + (g->ta ? first : first * g->lda), (blasint)g->lda, g->b, (blasint)g->ldb,
                0.0f, g->c + first * g->ldc, (blasint)g->ldc);
}

void blas_gemm(const struct kernels *self, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
               const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc)
{
    if (m <= 0 || n <= 0)
        return;
    struct gemm g = {.twins = &self->state->twins,
                     .ta = ta,
                     .tb = tb,
                     .m = m,
                     .n = n,
                     .k = k,
                     .lda = lda,
                     .ldb = ldb,
                     .ldc = ldc,
                     .a = a,
                     .b = b,
                     .c = c};
    // BLAS packs B anew for each call: one call a thread, and only where rows abound
    int64_t most = m / 64 < self->threads ? m / 64 : self->threads;
    int64_t worth = chunk_count(self, m, 0.05 * (double)n * (double)k);
    g.chunks = worth < most ? worth : most < 1 ? 1 : most;
    pool_run(self->state->pool, g.chunks, is_block(&g) ? block_chunk : gemm_chunk, &g);
}

/*
 * Our row-major A is LAPACK's M = A^T, our B is C = B^T [m, n]. A X = B is X^T M = C. With
 * M = P L U: X^T = C U^-1 L^-1 P^-1, and P^-1 exchanges columns of X^T, which are rows of X.
 */
bool blas_solve(const struct kernels *self, int32_t n, int32_t m, double *a, double *b,
                int32_t *pivots)
{
    (void)self;
    if (n <= 0 || m <= 0)
        return true;
    int info = 0;
    dgetrf_(&n, &n, a, &n, pivots, &info);
    if (info)
        return false;
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, m, n, 1.0, a, n,
                b, m);
    cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasNoTrans, CblasUnit, m, n, 1.0, a, n, b,
                m);
    for (int32_t i = n - 1; i >= 0; i--)
        if (pivots[i] != i + 1)
            cblas_dswap(m, b + (int64_t)i * m, 1, b + (int64_t)(pivots[i] - 1) * m, 1);
    return true;
}
