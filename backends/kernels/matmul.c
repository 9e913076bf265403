/*
 * Owns products of activations with a weight: how they are cut, and the plain C primitives. Exact
 * mode's order (core/kernels.h) is kept by construction: whatever the path, an output's panel sum
 * is one fma chain over that panel's columns, and panel sums are added in ascending order.
 *
 *   few rows     each tile is decoded in registers, once, and multiplied with all rows (fused)
 *   many rows    for a pass of up to 192 rows x 16 tiles:
 *                  for each panel of 256 columns:  pack the rows' columns [k][rows of a block]
 *                    for each tile, or two: decode the panel [k][16], multiply it with each block
 *
 * In fast mode most weights have a way of their own (way_of): bytes (fast.c, for a pass of up to
 * 192 rows each tile with every block of rows; many rows through tiles, fast_amx.c), strided groups
 * (strided.c), codebooks (lookup.c).
 *
 * Chunks are runs of tiles of one job, so a thread reads a contiguous part of the weight.
 */
#include <math.h>
#include <string.h>

#include "backends/kernels/twins.h"

/* Rough cycles for 16 rows of one column: decoding, and multiplying with one row of x. */
#define CYCLES_DECODE 6.0
#define CYCLES_ROW    1.2
/* The same in bytes. */
#define CYCLES_FAST_DECODE 0.5
#define CYCLES_FAST_ROW    0.35
#define CYCLES_MANY_ROW    0.1
#define CYCLES_STRIDED_ROW 1.5

static void pack(const float *x, int64_t ldx, int m, int64_t kc, float *packed)
{
    for (int i = 0; i < m; i++)
        for (int64_t k = 0; k < kc; k++)
            packed[k * m + i] = x[i * ldx + k];
}

static void block(const struct block_tiles *tiles, int64_t kc, const float *packed, int m)
{
    for (int i = 0; i < m; i++)
        for (int r = 0; r < TILE_ROWS; r++) {
            float acc = 0;
            for (int64_t k = 0; k < kc; k++)
                acc = fmaf(packed[k * m + i], tiles->panel[0][k * TILE_ROWS + r], acc);
            tiles->sum[0][i * TILE_ROWS + r] += acc;
        }
}

/* Tiles that fused() is given, most. */
#define TILES_AT_ONCE 4

static bool fusable(const struct weight *w, int m)
{
    (void)w;
    (void)m;
    return false;
}

void matmul_portable(struct twins *t)
{
    t->block_rows = 8;
    t->block_tiles = 1;
    t->pack = pack;
    t->block = block;
    t->fusable = fusable;
    t->fused = NULL; // fusable says so
}

static inline void finish_row(const float *restrict sum, const float *restrict bias, bool add,
                              int64_t n, float *restrict out)
{
    for (int64_t c = 0; c < n; c++) {
        float v = bias ? sum[c] + bias[c] : sum[c];
        out[c] = add ? out[c] + v : v;
    }
}

void matmul_finish(const struct matmul_job *j, int64_t tile, int64_t tiles, int64_t row, int64_t m,
                   const float *sum, int64_t step)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t t = 0; t < tiles; t++) {
            int64_t n0 = (tile + t) * TILE_ROWS, n = j->w->n - n0;
            const float *from = sum + t * step + i * TILE_ROWS;
            const float *bias = j->bias ? j->bias + n0 : NULL;
            float *out = j->out + (row + i) * j->ldo + n0;
            if (n >= TILE_ROWS) // a number that the compiler knows
                finish_row(from, bias, j->add, TILE_ROWS, out);
            else
                finish_row(from, bias, j->add, n, out);
        }
}

/* Floats of scratch that fused_pass needs for m rows. */
static int64_t fused_floats(const struct matmul_job *j, int64_t m)
{
    return m * (j->w->k + TILES_AT_ONCE * TILE_ROWS);
}

/* All rows, the tiles [first, end). */
static void fused_pass(const struct twins *t, const struct matmul_job *j, int64_t first,
                       int64_t end, float *scratch)
{
    int m = j->a->rows;
    float *sum = scratch, *packed = sum + TILES_AT_ONCE * m * TILE_ROWS;
    const float *x = j->a->x; // one row is packed as it is
    if (m > 1) {
        t->pack(j->a->x, j->a->ldx, m, j->w->k, packed);
        x = packed;
    }
    for (int64_t tile = first; tile < end; tile += TILES_AT_ONCE) {
        int64_t tiles = end - tile < TILES_AT_ONCE ? end - tile : TILES_AT_ONCE;
        t->fused(j->w, tile, tiles, x, m, sum);
        matmul_finish(j, tile, tiles, 0, m, sum, m * TILE_ROWS);
    }
}

/* The panels of up to BLOCK_TILES_MOST tiles from k0 on, in memory of that many or as they are
 * stored. */
static struct block_tiles decode_panels(const struct twins *t, const struct weight *w, int64_t tile,
                                        int64_t n, int64_t k0, int64_t kc, float *memory)
{
    struct block_tiles panels = {.n = (int)n};
    for (int i = 0; i < panels.n; i++, tile++, memory += PANEL_K * TILE_ROWS) {
        panels.panel[i] = memory;
        if (w->encoding == ENC_DENSE && w->dtype == DT_F32)
            panels.panel[i] = (const float *)w->data + (tile * w->k_padded + k0) * TILE_ROWS;
        else
            t->decode(w, tile, k0, kc, memory);
    }
    return panels;
}

/* Up to PASS_ROWS rows and PASS_TILES tiles, through panels. */
static void panel_pass(const struct twins *t, const struct matmul_job *j, int64_t first,
                       int64_t end, int64_t row, int64_t m, float *scratch)
{
    float *memory = scratch, *packed = memory + BLOCK_TILES_MOST * PANEL_K * TILE_ROWS;
    float *sum = packed + PANEL_K * PASS_ROWS;
    const struct weight *w = j->w;
    int64_t blocks = (m + t->block_rows - 1) / t->block_rows;
    memset(sum, 0, (size_t)((end - first) * m * TILE_ROWS) * sizeof *sum);
    for (int64_t k0 = 0; k0 < w->k; k0 += PANEL_K) {
        int64_t kc = w->k - k0 < PANEL_K ? w->k - k0 : PANEL_K;
        const float *x = j->a->x + row * j->a->ldx + k0;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t from, to;
            chunk_range(m, blocks, b, &from, &to);
            t->pack(x + from * j->a->ldx, j->a->ldx, (int)(to - from), kc, packed + from * kc);
        }
        for (int64_t tile = first, n; tile < end; tile += n) {
            n = end - tile < t->block_tiles ? end - tile : t->block_tiles;
            struct block_tiles panels = decode_panels(t, w, tile, n, k0, kc, memory);
            for (int64_t b = 0; b < blocks; b++) {
                int64_t from, to;
                chunk_range(m, blocks, b, &from, &to);
                for (int i = 0; i < panels.n; i++)
                    panels.sum[i] = sum + ((tile + i - first) * m + from) * TILE_ROWS;
                t->block(&panels, kc, packed + from * kc, (int)(to - from));
            }
        }
    }
    matmul_finish(j, first, end - first, row, m, sum, m * TILE_ROWS);
}

/* How a job is done; in exact mode the last way. */
enum way { WAY_BYTES, WAY_MANY, WAY_STRIDED, WAY_LOOKUP, WAY_EIGHTS, WAY_FLOATS };

static enum way way_of(const struct kernels *self, const struct matmul_job *j)
{
    if (self->mode != COMPUTE_FAST)
        return WAY_FLOATS;
    if (j->a->q && fast_has(j->w)) {
        const struct twins *t = &self->state->twins;
        return t->many && t->has_many(j->w, j->a->rows) ? WAY_MANY : WAY_BYTES;
    }
    if (strided_has(j->w))
        return WAY_STRIDED;
    if (lookup_has(j->w))
        return WAY_LOOKUP;
    return eights_has(j->w) ? WAY_EIGHTS : WAY_FLOATS;
}

/* Rows [row, row + m), row a multiple of FAST_ROWS, and the tiles [first, end). */
static void fast_pass(const struct twins *t, const struct matmul_job *j, int64_t first, int64_t end,
                      int64_t row, int64_t m)
{
    float sum[FAST_ROWS * TILE_ROWS];
    for (int64_t tile = first; tile < end; tile++)
        for (int64_t i = row; i < row + m; i += FAST_ROWS) {
            int64_t rows = row + m - i < FAST_ROWS ? row + m - i : FAST_ROWS;
            const struct fast_block b = fast_block(j->a->q, i);
            t->fast(j->w, tile, &b, (int)rows, sum);
            matmul_finish(j, tile, 1, i, rows, sum, 0);
        }
}

/* The tiles [first, end), many(). */
static void many_passes(const struct twins *t, const struct matmul_job *j, int64_t first,
                        int64_t end, float *scratch)
{
    for (int64_t row = 0; row < j->a->rows; row += MANY_ROWS)
        for (int64_t tile = first; tile < end; tile += MANY_TILES) {
            int64_t rows = j->a->rows - row, tiles = end - tile;
            t->many(j, tile, tiles < MANY_TILES ? tiles : MANY_TILES, row,
                    rows < MANY_ROWS ? rows : MANY_ROWS, scratch);
        }
}

struct run {
    const struct kernels *self;
    const struct matmul_job *jobs;
    int n;
};

static int64_t passes_of(int64_t rows)
{
    return (rows + PASS_ROWS - 1) / PASS_ROWS;
}

/* Chunks of a job, of as many units (tiles, those of each pass, or what strided groups are cut
 * into). */
static int64_t job_chunks(const struct kernels *self, const struct matmul_job *j, int64_t *units)
{
    double rows = j->a->rows > PASS_ROWS ? PASS_ROWS : j->a->rows;
    double passes = j->a->rows / rows;
    enum way way = way_of(self, j);
    double cycles = way == WAY_BYTES     ? CYCLES_FAST_DECODE + CYCLES_FAST_ROW * rows
                    : way == WAY_MANY    ? CYCLES_FAST_DECODE + CYCLES_MANY_ROW * rows
                    : way == WAY_STRIDED ? CYCLES_STRIDED_ROW * rows
                                         : CYCLES_DECODE + CYCLES_ROW * rows;
    *units = j->w->n_tiles;
    if (way == WAY_LOOKUP || j->a->rows < 1) // lookup_run, or nothing
        return 0;
    if (way == WAY_FLOATS) { // each chunk packs its passes' rows: the fewer passes, the better
        *units *= passes_of(j->a->rows);
        passes /= (double)passes_of(j->a->rows);
    }
    int64_t chunks = chunk_count(self, *units, cycles * passes * (double)j->w->k);
    if (way == WAY_STRIDED) {
        *units = strided_units(j->w, chunks);
        chunks = chunks < *units ? chunks : *units;
    }
    return chunks;
}

/* Units are the tiles of the first pass, then those of the second, and so on. */
static void run_floats(const struct twins *t, const struct matmul_job *j, int64_t first,
                       int64_t end, float *scratch)
{
    if (t->fusable(j->w, j->a->rows) && fused_floats(j, j->a->rows) <= SCRATCH_FLOATS) {
        fused_pass(t, j, first, end, scratch);
        return;
    }
    while (first < end) {
        int64_t pass = first / j->w->n_tiles, tile = first % j->w->n_tiles, row, row_end;
        int64_t tiles = j->w->n_tiles - tile < end - first ? j->w->n_tiles - tile : end - first;
        tiles = tiles < PASS_TILES ? tiles : PASS_TILES;
        chunk_range(j->a->rows, passes_of(j->a->rows), pass, &row, &row_end);
        panel_pass(t, j, tile, tile + tiles, row, row_end - row, scratch);
        first += tiles;
    }
}

/* Units [first, end) of `units`. */
static void run_units(const struct kernels *self, const struct matmul_job *j, int64_t units,
                      int64_t first, int64_t end, float *scratch)
{
    const struct twins *t = &self->state->twins;
    switch (way_of(self, j)) {
    case WAY_BYTES:
        for (int64_t row = 0; row < j->a->rows; row += PASS_ROWS)
            fast_pass(t, j, first, end, row,
                      j->a->rows - row < PASS_ROWS ? j->a->rows - row : PASS_ROWS);
        return;
    case WAY_MANY:
        many_passes(t, j, first, end, scratch);
        return;
    case WAY_STRIDED:
        for (; first < end; first++)
            strided_run(t, j, units, first, scratch);
        return;
    case WAY_EIGHTS:
        eights_run(t, j, first, end, scratch);
        return;
    case WAY_LOOKUP: // not cut so
        return;
    case WAY_FLOATS:
        run_floats(t, j, first, end, scratch);
    }
}

static void run_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct run *r = ctx;
    for (int i = 0; i < r->n; i++) {
        const struct matmul_job *j = &r->jobs[i];
        int64_t units, chunks = job_chunks(r->self, j, &units);
        if (chunk >= chunks) {
            chunk -= chunks;
            continue;
        }
        int64_t first, end;
        chunk_range(units, chunks, chunk, &first, &end);
        run_units(r->self, j, units, first, end, r->self->state->scratch[thread]);
        return;
    }
}

void matmul_run(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    struct run r = {self, jobs, n};
    int64_t chunks = 0, units;
    for (int i = 0; i < n; i++)
        chunks += job_chunks(self, &jobs[i], &units);
    pool_run(self->state->pool, chunks, run_chunk, &r);
    if (self->mode == COMPUTE_FAST)
        lookup_run(self, jobs, n);
}
