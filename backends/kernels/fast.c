/*
 * Owns fast mode's products in bytes: how rows of x become bytes and where they lie, and the plain
 * C primitives, which define the arithmetic (core/kernels.h) for every twin. Integer sums are
 * exact, so a twin may take them in any order and form; the few floats keep theirs.
 *
 * Refuses nothing: a weight without a byte form never comes here (fast_has), a row that is not
 * finite becomes NaN chunk by chunk, as its exact product would.
 */
#include "backends/kernels/fast.h"

#include <math.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/kernels/twins.h"

#define LEAST_PEAK 0x1p-100f /* 127 / peak is finite */

bool fast_quantize_chunk(const float *x, int64_t n, struct fast_chunk *coarse,
                         struct fast_chunk *fine)
{
    float peak = 0;
    bool finite = true;
    for (int64_t j = 0; j < n; j++) {
        finite &= isfinite(x[j]) != 0;
        peak = fmaxf(peak, fabsf(x[j]));
    }
    memset(coarse, 0, sizeof *coarse);
    memset(fine, 0, sizeof *fine);
    if (!finite)
        coarse->scale = NAN;
    if (!finite || peak < LEAST_PEAK)
        return false;
    int32_t energy = 0;
    float inverse = 127 / peak, d = coarse->scale = peak / 127;
    for (int64_t j = 0; j < n; j++) {
        coarse->q[j] = (int8_t)rintf(x[j] * inverse);
        coarse->sum += coarse->q[j];
        energy += coarse->q[j] * coarse->q[j];
    }
    if (energy >= OUTLIER_ENERGY)
        return false;
    inverse = 254 / d;
    fine->scale = d / 254;
    for (int64_t j = 0; j < n; j++) {
        fine->q[j] = (int8_t)rintf(fmaf(-d, coarse->q[j], x[j]) * inverse);
        fine->sum += fine->q[j];
    }
    return true;
}

static void quantize(const float *x, int64_t k, struct fast_chunk *coarse, struct fast_chunk *fine,
                     uint8_t *has_fine, int64_t step)
{
    for (int64_t j = 0; j < k; j += TILE_K, coarse += step, fine += step, has_fine += FAST_ROWS)
        *has_fine = fast_quantize_chunk(x + j, k - j < TILE_K ? k - j : TILE_K, coarse, fine);
}

static float sum_part(const struct fast_chunk *coarse, const struct fast_chunk *fine, int64_t step,
                      int64_t from, int64_t n)
{
    return fast_sum_part(coarse, fine, step, from, n);
}

/* What a code stands for in the product. */
static int32_t factor_of(const struct weight *w, uint8_t code)
{
    if (w->encoding == ENC_TABLE4)
        return w->steps[code];
    if (w->encoding == ENC_GROUP)
        return code;
    int32_t b = 128 * w->high_low[0][code & 0x7f] + w->high_low[1][code & 0x7f];
    return code & 0x80 ? -b : b;
}

/* acc [m][16]: the m rows of n columns of one chunk, from column `from` on. */
static void add_chunk(const struct weight *w, int64_t chunk, int64_t from, int64_t n,
                      const struct fast_chunk *a, int m, float *acc)
{
    uint8_t codes[TILE_ROWS * TILE_K];
    tile_unpack_codes(w->data, TILE_K, w->bits, chunk, codes, TILE_K);
    for (int i = 0; i < m; i++)
        for (int r = 0; r < TILE_ROWS; r++) {
            int32_t dot = 0;
            for (int64_t j = from; j < from + n; j++)
                dot += factor_of(w, codes[r * TILE_K + j]) * a[i].q[j];
            acc[i * TILE_ROWS + r] = fmaf(a[i].scale, (float)dot, acc[i * TILE_ROWS + r]);
        }
}

/* sum [m][16]: a group's acc joins the total. */
static void add_group(const struct weight *w, int64_t tile, int64_t k, const float *parts, int m,
                      const float *acc, float *sum)
{
    int64_t n = w->n - tile * TILE_ROWS < TILE_ROWS ? w->n - tile * TILE_ROWS : TILE_ROWS;
    for (int64_t r = 0; r < n; r++) {
        int64_t row = tile * TILE_ROWS + r;
        float scale = weight_scale(w, row, k), zero = weight_zero(w, row, k);
        if (w->encoding == ENC_TABLE4) {
            scale *= w->step;
            zero = w->offset;
        } else if (w->encoding == ENC_FLOAT8) {
            scale *= w->step;
        } else if (w->rule == RULE_FACTOR) {
            scale *= w->factor;
        }
        for (int i = 0; i < m; i++) {
            float a = acc[i * TILE_ROWS + r], *to = &sum[i * TILE_ROWS + r];
            if (w->rule == RULE_FMA)
                *to = fmaf(zero, parts[i], fmaf(scale, a, *to));
            else
                *to = fmaf(scale, fmaf(-zero, parts[i], a), *to);
        }
    }
}

static void fast(const struct weight *w, int64_t tile, const struct fast_block *b, int m,
                 float *sum)
{
    int64_t chunks = w->k_padded / TILE_K, group = fast_group(w), k = 0;
    memset(sum, 0, (size_t)m * TILE_ROWS * sizeof *sum);
    for (int64_t g = 0; g < fast_groups(w); g++) {
        float acc[FAST_ROWS * TILE_ROWS] = {0};
        int64_t first = k, end = k + group < w->k_padded ? k + group : w->k_padded, n;
        for (; k < end; k += n) {
            int64_t c = k / TILE_K, from = k % TILE_K;
            n = end - k < TILE_K ? end - k : TILE_K;
            add_chunk(w, tile * chunks + c, from, n, b->coarse + c * m, m, acc);
            add_chunk(w, tile * chunks + c, from, n, b->fine + c * m, m, acc);
        }
        add_group(w, tile, first, b->parts + g * m, m, acc, sum);
    }
}

void fast_portable(struct twins *t)
{
    t->quantize = quantize;
    t->sum_part = sum_part;
    t->fast = fast;
}

/* ---- rows ---- */

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t fast_act_bytes(int32_t rows, int64_t k)
{
    size_t chunks = (size_t)(tile_pad_k(k) / TILE_K), n = chunks * (size_t)rows;
    // a weight has at most four groups a chunk
    return aligned(sizeof(struct fast_rows)) + 2 * aligned(n * sizeof(struct fast_chunk)) +
           aligned(4 * n * sizeof(float)) + aligned(n + chunks * FAST_ROWS);
}

void fast_open(const struct weight *w, void *buffer, struct act *a)
{
    struct fast_rows *f = buffer;
    f->n_chunks = w->k_padded / TILE_K;
    f->n_groups = fast_groups(w);
    f->group = fast_group(w);
    size_t at = aligned(sizeof *f), n = (size_t)f->n_chunks * (size_t)a->rows;
    f->coarse = (void *)((char *)buffer + at);
    at += aligned(n * sizeof *f->coarse);
    f->fine = (void *)((char *)buffer + at);
    at += aligned(n * sizeof *f->fine);
    f->parts = (void *)((char *)buffer + at);
    at += aligned((size_t)f->n_groups * (size_t)a->rows * sizeof *f->parts);
    f->has_fine = (uint8_t *)buffer + at;
    a->q = f;
}

/* The block of a row, and the row's place in it. */
struct place {
    int64_t first, rows, i;
};

static struct place place_of(const struct act *a, int64_t row)
{
    int64_t first = row / FAST_ROWS * FAST_ROWS;
    return (struct place){first, a->rows - first < FAST_ROWS ? a->rows - first : FAST_ROWS,
                          row - first};
}

void fast_quantize(const struct twins *t, const struct act *a, int64_t row, int64_t end, int64_t k,
                   int64_t k_end)
{
    const struct fast_rows *f = a->q;
    int64_t chunk = k / TILE_K, chunk_end = tile_pad_k(k_end) / TILE_K;
    for (; row < end; row++) {
        struct place p = place_of(a, row);
        int64_t at = p.first * f->n_chunks + chunk * p.rows + p.i;
        uint8_t *has_fine = f->has_fine + p.first * f->n_chunks + chunk * FAST_ROWS;
        t->quantize(a->x + row * a->ldx + k, k_end - k, f->coarse + at, f->fine + at,
                    has_fine + p.i, p.rows);
        if (p.i == p.rows - 1) // rows that a block lacks
            for (int64_t c = 0; c < chunk_end - chunk; c++)
                memset(has_fine + c * FAST_ROWS + p.rows, 0, (size_t)(FAST_ROWS - p.rows));
    }
}

void fast_sum_parts(const struct twins *t, const struct act *a, int64_t row, int64_t end,
                    int64_t group, int64_t group_end)
{
    const struct fast_rows *f = a->q;
    for (; row < end; row++) {
        struct place p = place_of(a, row);
        const struct fast_chunk *coarse = f->coarse + p.first * f->n_chunks + p.i;
        const struct fast_chunk *fine = f->fine + p.first * f->n_chunks + p.i;
        for (int64_t g = group; g < group_end; g++) {
            int64_t k = g * f->group, left = f->n_chunks * TILE_K - k, c = k / TILE_K * p.rows;
            f->parts[p.first * f->n_groups + g * p.rows + p.i] = t->sum_part(
                coarse + c, fine + c, p.rows, k % TILE_K, left < f->group ? left : f->group);
        }
    }
}
