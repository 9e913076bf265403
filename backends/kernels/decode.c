/*
 * Owns decoding: the plain C panel decoder, and the two slots that hand out decoded rows. It makes
 * exactly the elements that weight_element (backends/encodings/tile.c) defines, only a chunk of
 * 16 rows x 32 columns at a time; the tests hold the two against each other.
 */
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/kernels/twins.h"

/* Columns [k, end) of one row from its codes, to every 16th float of out. */
static void decode_row(const struct weight *w, int64_t row, int64_t k, int64_t end,
                       const uint8_t *codes, float *out)
{
    int64_t group = -1;
    float scale = 0, zero = 0;
    for (; k < end; k++, codes++, out += TILE_ROWS) {
        int64_t g = weight_group(w, row, k);
        if (g != group) {
            group = g;
            scale = weight_scale(w, row, k);
            zero = weight_zero(w, row, k);
        }
        *out = weight_decode(w, *codes, scale, zero);
    }
}

static void decode(const struct weight *w, int64_t tile, int64_t k0, int64_t kc, float *panel)
{
    int64_t rows = w->n - tile * TILE_ROWS < TILE_ROWS ? w->n - tile * TILE_ROWS : TILE_ROWS;
    if (w->encoding == ENC_DENSE || w->encoding == ENC_CODEBOOK) {
        for (int64_t k = 0; k < kc; k++)
            for (int64_t r = 0; r < rows; r++)
                panel[k * TILE_ROWS + r] = weight_element(w, tile * TILE_ROWS + r, k0 + k);
        return;
    }
    uint8_t codes[TILE_ROWS * TILE_K];
    for (int64_t k = 0; k < kc; k += TILE_K) {
        int64_t end = kc - k < TILE_K ? kc : k + TILE_K;
        // a chunk is a tile of TILE_K columns of its own
        int64_t chunk = tile * (w->k_padded / TILE_K) + (k0 + k) / TILE_K;
        tile_unpack_codes(w->data, TILE_K, w->bits, chunk, codes, TILE_K);
        for (int64_t r = 0; r < rows; r++)
            decode_row(w, tile * TILE_ROWS + r, k0 + k, k0 + end, codes + r * TILE_K,
                       panel + k * TILE_ROWS + r);
    }
}

void decode_portable(struct twins *t)
{
    t->decode = decode;
}

/* Row r of a tile, columns k0 .. k0 + kc of the panel, to their natural places in out. */
static void place(const struct weight *w, const float *panel, int64_t r, int64_t k0, int64_t kc,
                  float *out)
{
    if (w->perm)
        for (int64_t i = 0; i < kc; i++)
            out[w->perm[k0 + i]] = panel[i * TILE_ROWS + r];
    else
        for (int64_t i = 0; i < kc; i++)
            out[k0 + i] = panel[i * TILE_ROWS + r];
}

struct rows_job {
    const struct kernels_state *state;
    const struct weight *w;
    int64_t row, rows;  /* dequantize */
    const int32_t *ids; /* gather */
    float *out;
    int64_t ldo, units, chunks;
};

/* Rows [from, to) of one tile, those that out (whose row 0 is `row`) wants. */
static void decode_rows(const struct rows_job *j, int thread, int64_t from, int64_t to, int64_t row,
                        float *out)
{
    const struct weight *w = j->w;
    float *panel = j->state->scratch[thread];
    int64_t tile = from / TILE_ROWS;
    for (int64_t k0 = 0; k0 < w->k; k0 += PANEL_K) {
        int64_t kc = w->k - k0 < PANEL_K ? w->k - k0 : PANEL_K;
        j->state->twins.decode(w, tile, k0, kc, panel);
        for (int64_t r = from; r < to; r++)
            place(w, panel, r % TILE_ROWS, k0, kc, out + (r - row) * j->ldo);
    }
}

static void dequantize_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows_job *j = ctx;
    int64_t first, end;
    chunk_range(j->units, j->chunks, chunk, &first, &end);
    for (int64_t t = j->row / TILE_ROWS + first; t < j->row / TILE_ROWS + end; t++) {
        int64_t from = t * TILE_ROWS < j->row ? j->row : t * TILE_ROWS;
        int64_t to = (t + 1) * TILE_ROWS;
        if (to > j->row + j->rows)
            to = j->row + j->rows;
        decode_rows(j, thread, from, to, j->row, j->out);
    }
}

void decode_dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                       int64_t rows, float *out)
{
    struct rows_job job = {
        .state = self->state, .w = w, .row = row, .rows = rows, .out = out, .ldo = w->k};
    if (rows <= 0)
        return;
    job.units = (row + rows - 1) / TILE_ROWS - row / TILE_ROWS + 1;
    job.chunks = chunk_count(self, job.units, 20.0 * (double)w->k);
    pool_run(self->state->pool, job.chunks, dequantize_chunk, &job);
}

static void gather_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows_job *j = ctx;
    int64_t first, end;
    chunk_range(j->units, j->chunks, chunk, &first, &end);
    for (int64_t i = first; i < end; i++)
        decode_rows(j, thread, j->ids[i], j->ids[i] + 1, j->ids[i], j->out + i * j->ldo);
}

void decode_gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                   int32_t n, float *out, int64_t ldo)
{
    struct rows_job job = {
        .state = self->state, .w = w, .ids = ids, .out = out, .ldo = ldo, .units = n};
    job.chunks = chunk_count(self, n, 8.0 * (double)w->k);
    pool_run(self->state->pool, job.chunks, gather_chunk, &job);
}
