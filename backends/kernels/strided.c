/*
 * Owns fast mode's products with strided groups (HQQ axis 0): how a job is cut, and the plain C
 * primitives, which define the arithmetic (core/kernels.h) for every twin.
 *
 * A unit is some of the tiles that see one y (strided.h). For up to 192 rows of x, four at a time:
 * for each panel of 1024 columns (four rows: 256), make y of the panel, then multiply it with every
 * tile of the unit. Making y costs about as much as twelve products with a tile, so units are few,
 * about two for each thread, and have 32 tiles if there are as many. Everything lives in the
 * thread's scratch; a row's order of operations is that of its chunks, whatever the units and the
 * rows beside it.
 *
 * Refuses nothing: what is not of this form never comes here (strided_has).
 */
#include <math.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/kernels/twins.h"

#define UNIT_TILES 32
/* Floats of scratch for sums, and what of it y takes. */
#define SUMS     (PASS_TILES * TILE_ROWS * PASS_ROWS)
#define Y_FLOATS (STRIDED_CHUNKS * (int)(sizeof(struct strided_chunk) / sizeof(float)))
_Static_assert(SUMS + Y_FLOATS <= SCRATCH_FLOATS, "y and sums fit the scratch");

/* One row's y of n columns from k on, in lane r. */
static void make_lane(const struct weight *w, int64_t row, int64_t r, int64_t k, int64_t n,
                      const float *x, struct strided_chunk *to)
{
    struct fast_chunk part[2];
    struct strided_part *out[2] = {&to->coarse, &to->fine};
    float y[TILE_K];
    for (int64_t j = 0; j < n; j++)
        y[j] = x[j] * weight_scale(w, row, k + j);
    to->has_fine |= fast_quantize_chunk(y, n, &part[0], &part[1]);
    for (int i = 0; i < 2; i++) {
        float bias = 0;
        for (int64_t j = 0; j < TILE_K; j++)
            out[i]->q[j / 4][r][j % 4] = part[i].q[j];
        for (int64_t j = 0; j < n; j++)
            bias = fmaf(weight_zero(w, row, k + j), part[i].q[j], bias);
        out[i]->scale[r] = part[i].scale;
        out[i]->bias[r] = bias;
    }
}

static void strided_rows(const struct weight *w, int64_t tile, int64_t k, int64_t n, const float *x,
                         int64_t ldx, int m, struct strided_chunk *to)
{
    for (int64_t j = 0; j < n; j += TILE_K)
        for (int i = 0; i < m; i++, to++) {
            to->has_fine = 0;
            for (int64_t r = 0; r < TILE_ROWS; r++)
                make_lane(w, tile * TILE_ROWS + r, r, k + j, n - j < TILE_K ? n - j : TILE_K,
                          x + i * ldx + j, to);
        }
}

/* sum += the part's share of a chunk, which has codes [16][32]. */
static void add_part(const uint8_t *codes, const struct strided_part *y, float *sum)
{
    for (int r = 0; r < TILE_ROWS; r++) {
        int32_t dot = 0;
        for (int j = 0; j < TILE_K; j++)
            dot += codes[r * TILE_K + j] * y->q[j / 4][r][j % 4];
        sum[r] = fmaf(y->scale[r], (float)dot - y->bias[r], sum[r]);
    }
}

static void strided(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                    const struct strided_chunk *y, int m, int64_t ahead, float *sum)
{
    (void)ahead;
    uint8_t codes[TILE_ROWS * TILE_K];
    for (int64_t j = 0; j < n; j += TILE_K) {
        int64_t chunk = tile * (w->k_padded / TILE_K) + (k + j) / TILE_K;
        tile_unpack_codes(w->data, TILE_K, w->bits, chunk, codes, TILE_K);
        for (int i = 0; i < m; i++, y++) {
            add_part(codes, &y->coarse, sum + i * TILE_ROWS);
            if (y->has_fine)
                add_part(codes, &y->fine, sum + i * TILE_ROWS);
        }
    }
}

void strided_portable(struct twins *t)
{
    t->strided_rows = strided_rows;
    t->strided = strided;
}

/* ---- a job ---- */

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* From a tile to the next one that sees its y. */
static int64_t period_of(const struct weight *w)
{
    int64_t residues = w->n_groups / w->flat_k;
    int64_t period = residues / common_divisor(residues, TILE_ROWS);
    return period < w->n_tiles ? period : w->n_tiles;
}

int64_t strided_units(const struct weight *w, int64_t wanted)
{
    int64_t period = period_of(w), tiles = w->n_tiles / period;
    int64_t parts = wanted / (2 * period), most = tiles / UNIT_TILES;
    parts = parts < most ? parts : most;
    return period * (parts < 1 ? 1 : parts);
}

/* Tiles first, first + period .. of n, up to STRIDED_ROWS rows from `row` on, whose sums lie `step`
 * floats apart from tile to tile. */
static void rows_pass(const struct twins *t, const struct matmul_job *j, int64_t first, int64_t n,
                      int64_t row, int m, struct strided_chunk *y, float *sum, int64_t step)
{
    const struct weight *w = j->w;
    int64_t period = period_of(w), panel = STRIDED_CHUNKS / m * TILE_K;
    // bytes of codes from tile to tile, and of a panel
    int64_t far = period * w->k_padded * w->bits * TILE_ROWS / 8,
            wide = panel * w->bits * TILE_ROWS / 8;
    for (int64_t k = 0; k < w->k; k += panel) {
        int64_t kc = w->k - k < panel ? w->k - k : panel,
                back = k + panel < w->k ? wide - (n - 1) * far : 0;
        t->strided_rows(w, first, k, kc, j->a->x + row * j->a->ldx + k, j->a->ldx, m, y);
        for (int64_t at = 0; at < n; at++)
            t->strided(w, first + at * period, k, kc, y, m, at + 1 < n ? far : back,
                       sum + at * step);
    }
}

/* The same for rows [row, row + m). */
static void pass(const struct twins *t, const struct matmul_job *j, int64_t first, int64_t n,
                 int64_t row, int64_t m, float *scratch)
{
    struct strided_chunk *y = (struct strided_chunk *)scratch;
    float *sum = scratch + Y_FLOATS;
    memset(sum, 0, (size_t)(n * m * TILE_ROWS) * sizeof *sum);
    for (int64_t i = 0; i < m; i += STRIDED_ROWS)
        rows_pass(t, j, first, n, row + i, m - i < STRIDED_ROWS ? (int)(m - i) : STRIDED_ROWS, y,
                  sum + i * TILE_ROWS, m * TILE_ROWS);
    for (int64_t at = 0; at < n; at++)
        matmul_finish(j, first + at * period_of(j->w), 1, row, m, sum + at * m * TILE_ROWS, 0);
}

void strided_run(const struct twins *t, const struct matmul_job *j, int64_t units, int64_t unit,
                 float *scratch)
{
    int64_t period = period_of(j->w), residue = unit % period, first, end;
    chunk_range((j->w->n_tiles - residue + period - 1) / period, units / period, unit / period,
                &first, &end);
    for (int64_t row = 0; row < j->a->rows; row += PASS_ROWS) {
        int64_t m = j->a->rows - row < PASS_ROWS ? j->a->rows - row : PASS_ROWS;
        int64_t most = SUMS / TILE_ROWS / m;
        for (int64_t at = first; at < end; at += most)
            pass(t, j, residue + at * period, end - at < most ? end - at : most, row, m, scratch);
    }
}
