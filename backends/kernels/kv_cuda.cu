/*
 * Owns the rows of a pass on a device, and storing their keys and values. Positions, ends and pages
 * are sent once, by begin, and a list of tiles with them: rows of one sequence that lie side by
 * side, at positions that follow each other, read the same keys, so attention takes up to TILE_MOST
 * of them together. Their pages are sent once, as many as the longest of them needs.
 */
#include "backends/kernels/kv_cuda.cuh"

#define STORE_THREADS 64
#define TILE_MOST     32

/* ---- the rows of a pass ---- */

static int32_t end_of(const struct kv_rows *rows, int32_t i)
{
    return rows->ends ? rows->ends[i] : rows->positions[i] + 1;
}

static int64_t pages_of(const struct kv_rows *rows, int32_t i)
{
    int64_t need = ((int64_t)end_of(rows, i) + KV_PAGE - 1) / KV_PAGE;
    int64_t own = (int64_t)rows->positions[i] / KV_PAGE + 1;
    return need < own ? own : need;
}

/* Rows of one sequence, from one position to the next, and the pages that they need. */
struct run {
    int32_t rows;
    int64_t pages;
};

static struct run run_at(const struct kv_rows *rows, int32_t i)
{
    struct run run = {1, pages_of(rows, i)};
    for (int32_t at = i + 1; at < rows->rows && rows->pages[at] == rows->pages[i] &&
                             rows->positions[at] == rows->positions[at - 1] + 1;
         at++, run.rows++) {
        int64_t need = pages_of(rows, at);
        run.pages = need > run.pages ? need : run.pages;
    }
    return run;
}

/* The tiles of a run: those of one row from the front of the list, the others from its back. */
static void put_tiles(struct pass_rows *pass, struct row_tile *tiles, int32_t n, int32_t row,
                      int32_t rows)
{
    for (; rows > 0; row += TILE_MOST, rows -= TILE_MOST) {
        const struct row_tile tile = {row, rows < TILE_MOST ? rows : TILE_MOST};
        if (tile.rows == 1)
            tiles[pass->singles++] = tile;
        else
            tiles[n - ++pass->others] = tile;
        pass->most = tile.rows > pass->most ? tile.rows : pass->most;
    }
}

/* The lists of n rows, here and on the device, one behind the other. */
struct lists {
    int64_t *first_page;
    struct row_tile *tiles;
    int32_t *positions, *ends, *pages;
};

static struct lists lists_at(void *at, int64_t n)
{
    struct lists l = {(int64_t *)at, NULL, NULL, NULL, NULL};
    l.tiles = (struct row_tile *)(l.first_page + n);
    l.positions = (int32_t *)(l.tiles + n);
    l.ends = l.positions + n;
    l.pages = l.ends + n;
    return l;
}

static void fill_lists(struct pass_rows *pass, const struct kv_rows *rows, const struct lists *l)
{
    int64_t at = 0;
    struct run run;
    for (int32_t i = 0; i < rows->rows; i += run.rows, at += run.pages) {
        run = run_at(rows, i);
        memcpy(l->pages + at, rows->pages[i], (size_t)run.pages * sizeof *l->pages);
        for (int32_t r = i; r < i + run.rows; r++) {
            l->first_page[r] = at;
            l->positions[r] = rows->positions[r];
            l->ends[r] = end_of(rows, r);
            pass->last = l->ends[r] > pass->last ? l->ends[r] : pass->last;
        }
        put_tiles(pass, l->tiles, rows->rows, i, run.rows);
    }
}

void kv_cuda_begin(const struct kernels *self, const struct kv_rows *rows)
{
    struct kernels_state *s = self->state;
    int64_t n = rows->rows, total = 0;
    struct run run;
    s->pass = {};
    for (int32_t i = 0; i < n; i += run.rows, total += run.pages)
        run = run_at(rows, i);
    device_enter(s);
    void *there;
    size_t bytes = (size_t)n * (sizeof(int64_t) + sizeof(struct row_tile) + 2 * sizeof(int32_t)) +
                   (size_t)total * sizeof(int32_t);
    void *here = device_room(s, &s->pages, bytes, &there);
    if (here && n > 0) {
        const struct lists host = lists_at(here, n), device = lists_at(there, n);
        fill_lists(&s->pass, rows, &host);
        device_push(s, &s->pages, here, there, bytes);
        s->pass.of = rows;
        s->pass.first_page = device.first_page;
        s->pass.tiles = device.tiles;
        s->pass.positions = device.positions;
        s->pass.ends = device.ends;
        s->pass.pages = device.pages;
    }
    device_leave(s, "begin");
}

bool kv_cuda_has(const struct kernels *self, const struct kv_rows *rows)
{
    if (self->state->pass.of != rows)
        kv_cuda_begin(self, rows);
    return self->state->pass.of == rows && rows->rows > 0;
}

/* ---- storing ---- */

/* Where bytes lie of a key and of a value. */
DEVICE int64_t key_byte(int32_t i, int slot)
{
    return (int64_t)(i / 4 * KV_PAGE + slot) * 4 + within(i);
}
DEVICE int64_t value_byte(int32_t dim, int32_t i, int slot)
{
    return ((int64_t)(slot / 4) * dim + i) * 4 + within(slot);
}

struct store {
    struct kv kv;
    struct pass_rows rows;
    const float *k, *v;
    int64_t ld;
    int32_t layer;
};

/* Floats and halves: a thread an element of a key and of its value. */
__global__ void store_floats(struct store s, int64_t threads)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= threads)
        return;
    int32_t dim = s.kv.head_dim, i = (int32_t)(at % dim);
    int head = (int)(at / dim % s.kv.kv_heads), row = (int)(at / dim / s.kv.kv_heads);
    int32_t pos = s.rows.positions[row], slot = pos % KV_PAGE;
    size_t page = page_at(s.kv, s.rows, s.layer, row, head, pos);
    int64_t from = row * s.ld + (int64_t)head * dim + i;
    int64_t k = (int64_t)i * KV_PAGE + slot, v = (int64_t)slot * dim + i;
    if (s.kv.dtype == DT_F16) {
        ((uint16_t *)((char *)s.kv.k + page))[k] = device_to_f16(s.k[from]);
        ((uint16_t *)((char *)s.kv.v + page))[v] = device_to_f16(s.v[from]);
    } else {
        ((float *)((char *)s.kv.k + page))[k] = s.k[from];
        ((float *)((char *)s.kv.v + page))[v] = s.v[from];
    }
}

/* Bytes: a block has a head of a row, of k (z 0) or v. */
__global__ void store_bytes(struct store s)
{
    SHARED float peaks[STORE_THREADS];
    int head = blockIdx.x, row = blockIdx.y, t = threadIdx.x;
    int32_t dim = s.kv.head_dim, pos = s.rows.positions[row], slot = pos % KV_PAGE;
    char *to =
        (char *)(blockIdx.z ? s.kv.v : s.kv.k) + page_at(s.kv, s.rows, s.layer, row, head, pos);
    const float *x = (blockIdx.z ? s.v : s.k) + row * s.ld + (int64_t)head * dim;
    float peak = 0;
    for (int32_t i = t; i < dim; i += STORE_THREADS)
        peak = device_larger(peak, x[i]);
    peaks[t] = peak;
    __syncthreads();
    for (int i = 0; i < STORE_THREADS; i++)
        peak = device_larger(peak, peaks[i]);
    float d = peak < KV_LEAST_PEAK ? 0 : peak / 127;
    for (int32_t i = t; i < dim; i += STORE_THREADS) {
        int64_t at = blockIdx.z ? value_byte(dim, i, slot) : key_byte(i, slot);
        ((int8_t *)to)[at] = d > 0 ? (int8_t)rintf(x[i] * (127 / peak)) : 0;
    }
    if (t == 0)
        ((float *)(to + (size_t)KV_PAGE * (size_t)fours(dim)))[slot] = d;
}

void kv_cuda_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                   const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    struct kernels_state *s = self->state;
    if (!kv_cuda_has(self, rows))
        return;
    const struct store store = {*kv, s->pass, k, v, ld, layer};
    int64_t threads = (int64_t)rows->rows * kv->kv_heads * kv->head_dim;
    device_enter(s);
    if (kv->dtype == DT_I8)
        LAUNCH(store_bytes, dim3((unsigned)kv->kv_heads, (unsigned)rows->rows, 2),
               dim3(STORE_THREADS), 0, s, store);
    else
        LAUNCH_FREE(store_floats, device_grid(threads), dim3(THREADS), 0, s, store, threads);
    device_leave(s, "kv_store");
}
