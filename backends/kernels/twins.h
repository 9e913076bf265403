/*
 * What is inside a CPU table, for the files of this folder only: the primitives that have a twin
 * for each instruction set (struct twins), the state behind struct kernels, and the slots.
 *
 * A slot (X.c) cuts a call into chunks and hands them to the pool; a primitive computes one piece
 * on one thread. X_portable fills in the plain C version of X.c, which is the oracle and serves
 * every machine; X_avx2, X_avx512, X_amx and X_neon then overlay what they do better. Exactly one
 * order of operations is defined for each primitive, so that results are the same bits in every
 * twin.
 */
#ifndef OFTD_BACKENDS_KERNELS_TWINS_H
#define OFTD_BACKENDS_KERNELS_TWINS_H

#include "backends/kernels/attention.h"
#include "backends/kernels/fast.h"
#include "backends/kernels/lookup.h"
#include "backends/kernels/pool.h"
#include "backends/kernels/strided.h"
#include "core/kernels.h"

/* A block of a rotation (kernels.h), [size, size]. */
struct rotate_block {
    const void *elements;
    int32_t size;
    int64_t ahead; /* bytes from this block to the one whose lines are fetched meanwhile; 0: to none
                    */
};

/* Tiles that block() takes at once: of each a panel [kc][16] and sums [m][16]. */
#define BLOCK_TILES_MOST 2
struct block_tiles {
    int n;
    const float *panel[BLOCK_TILES_MOST];
    float *sum[BLOCK_TILES_MOST];
};

struct twins {
    /* ---- decode.c: columns [k0, k0 + kc) of a tile to panel [kc][16]; k0 % TILE_K == 0,
     * k0 + kc <= w->k. Rows beyond w->n hold anything. */
    void (*decode)(const struct weight *w, int64_t tile, int64_t k0, int64_t kc, float *panel);

    /* ---- matmul.c */
    int block_rows, block_tiles; /* most rows and tiles of block() */
    /* x [m, ldx], kc columns of it -> packed [kc][m] */
    void (*pack)(const float *x, int64_t ldx, int m, int64_t kc, float *packed);
    /* Of each tile sum [m][16] += the panel's product, one fma chain from 0 for each of the m <=
     * block_rows. */
    void (*block)(const struct block_tiles *tiles, int64_t kc, const float *packed, int m);
    bool (*fusable)(const struct weight *w, int m); /* whether fused() takes m rows of w */
    /* The whole of k, decoded in registers: tiles [tile, tile + tiles) times packed [k][m] -> sum
     * [tiles][m][16]; fastest with TILES_AT_ONCE tiles. */
    void (*fused)(const struct weight *w, int64_t tile, int64_t tiles, const float *packed, int m,
                  float *sum);

    /* ---- fast.c: products in bytes (core/kernels.h, fast mode) */
    /* k columns of a row to chunks, `step` chunks (FAST_ROWS flags) from one to the next */
    void (*quantize)(const float *x, int64_t k, struct fast_chunk *coarse, struct fast_chunk *fine,
                     uint8_t *has_fine, int64_t step);
    /* fast_sum_part */
    float (*sum_part)(const struct fast_chunk *coarse, const struct fast_chunk *fine, int64_t step,
                      int64_t from, int64_t n);
    /* a tile times the m <= FAST_ROWS rows of a block -> sum [m][16] */
    void (*fast)(const struct weight *w, int64_t tile, const struct fast_block *b, int m,
                 float *sum);
    /* fast_amx.c, NULL elsewhere: whether many() takes that many rows of w, and tiles [tile, tile +
     * tiles) times rows [row, row + rows), row % FAST_ROWS == 0, to the output */
    bool (*has_many)(const struct weight *w, int64_t rows);
    void (*many)(const struct matmul_job *j, int64_t tile, int64_t tiles, int64_t row, int64_t rows,
                 float *scratch);

    /* ---- strided.c: the same for strided groups, columns [k, k + n), k % TILE_K == 0 */
    /* m <= STRIDED_ROWS rows of x, of these columns, times the scales of a tile's rows -> y
     * [n / TILE_K][m] */
    void (*strided_rows)(const struct weight *w, int64_t tile, int64_t k, int64_t n, const float *x,
                         int64_t ldx, int m, struct strided_chunk *y);
    /* sum [m][16] goes on with those chunks; the codes of the next call are `ahead` bytes on */
    void (*strided)(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                    const struct strided_chunk *y, int m, int64_t ahead, float *sum);

    /* ---- lookup.c: the same for codebooks */
    /* element q of vector v of book b at [(b * in_group + q) * 256 + v], 0 beyond the last v */
    void (*lookup_columns)(const struct weight *w, float *columns);
    /* chunk c of a row's products with all vectors; t: BOOK_LOOKUPS * 256 floats of scratch */
    void (*lookup_tables)(const struct weight *w, int64_t c, const float *x, const float *columns,
                          struct lookup_chunk *to, float *t);
    /* lines [line, line + lines <= LOOKUP_LINES) -> out [lines * BOOK_LINE] */
    void (*lookup)(const struct weight *w, int64_t line, int64_t lines,
                   const struct lookup_chunk *tables, float *out);
    /* The same for m <= LOOKUP_WIDE rows of x at a time, where there are lookup_least of them (0:
     * never); t: LOOKUP_WIDE times as many floats */
    int lookup_least;
    void (*lookup_tables_wide)(const struct weight *w, int64_t c, const float *x, int64_t ldx,
                               int m, const float *columns, struct lookup_wide *to, float *t);
    /* out [lines * BOOK_LINE / TILE_ROWS][LOOKUP_WIDE][TILE_ROWS]; words: half as many floats */
    void (*lookup_wide)(const struct weight *w, int64_t line, int64_t lines,
                        const struct lookup_wide *tables, int16_t *words, float *out);
    /* rows [row, row + rows) times x [m, ldx], codes of more than 8 bits -> out [m, ldo] */
    void (*eights)(const struct weight *w, int64_t row, int64_t rows, const float *x, int64_t ldx,
                   int m, float *out, int64_t ldo);

    /* ---- rotate.c: one block of a rotation, out [rows, ldo] = x [rows, ldx] R, or x + x D with D
     * in F16 or I8; out is not x. For R the elements of a row of x lie `step` apart. */
    void (*rotate)(const float *x, int64_t ldx, int64_t step, int32_t rows,
                   const struct rotate_block *r, float *out, int64_t ldo);
    void (*rotate_near)(const float *x, int64_t ldx, int32_t rows, const struct rotate_block *d,
                        float *out, int64_t ldo);
    void (*rotate_bytes)(const float *x, int64_t ldx, int32_t rows, const struct rotate_block *d,
                         float *out, int64_t ldo);

    /* ---- attention.c: the keys [from, end) of a row, which lie in one span, and `heads` query
     * heads from `head` on, up to ATTENTION_HEADS of one kv head; scratch of attend_scratch() */
    void (*attend)(const struct attention_args *args, int32_t row, int32_t head, int32_t heads,
                   int32_t from, int32_t end, const struct attention_part *out, float *scratch);
    /* x [dim] as elements of dtype, in order; I8: and their step to *d */
    void (*kv_pack)(enum dtype dtype, const float *x, int32_t dim, void *out, float *d);

    /* ---- norm.c, elementwise.c: one row; out may be x or gate, up may be NULL */
    void (*norm)(const struct norm_args *args, const float *x, float *out);
    void (*activate)(enum activation act, const float *gate, const float *up, int64_t n,
                     float *out);
    /* 2^((x - max) scale), n <= DRAW_BLOCK; returns the sum */
    float (*likelihoods)(const float *x, int64_t n, float max, float scale, float *likely);

    /* ---- series.c: the slots of these names */
    void (*combine)(int32_t b, float c0, float c1, const float *s, float c2, const float *p,
                    float *m);
    double (*squares)(const float *v, int64_t n);
    float (*largest)(const float *v, int64_t n);
    void (*to_bytes)(int32_t b, const float *d, void *out);
};

/* Lay one version of a file over the table. */
#define TWINS_OF(isa)                                                                              \
    void decode_##isa(struct twins *t);                                                            \
    void matmul_##isa(struct twins *t);                                                            \
    void fast_##isa(struct twins *t);                                                              \
    void strided_##isa(struct twins *t);                                                           \
    void lookup_##isa(struct twins *t);                                                            \
    void rotate_##isa(struct twins *t);                                                            \
    void attention_##isa(struct twins *t);                                                         \
    void norm_##isa(struct twins *t);                                                              \
    void elementwise_##isa(struct twins *t);                                                       \
    void series_##isa(struct twins *t);
TWINS_OF(portable)
TWINS_OF(avx2)
TWINS_OF(avx512)
TWINS_OF(neon)
void fast_amx(struct twins *t);
void fast_avxvnni(struct twins *t);
void strided_avxvnni(struct twins *t);

/* Rows that one pass of a large product packs, and the tiles it sums for them; sized so that a
 * thread's panel, packed rows and sums stay in 1 MiB of second-level cache. Codebooks want most of
 * a thread's scratch (lookup.c). */
#define PASS_ROWS      192
#define PASS_TILES     24
#define SCRATCH_FLOATS (1 << 17)
_Static_assert(BLOCK_TILES_MOST *PANEL_K *TILE_ROWS + PANEL_K * PASS_ROWS +
                       PASS_TILES * TILE_ROWS * PASS_ROWS <=
                   SCRATCH_FLOATS,
               "panels, packed rows and sums fit");
/* Most that many() is given, likewise. */
#define MANY_ROWS  128
#define MANY_TILES 16

struct kernels_state {
    struct twins twins;
    struct pool_share *share; /* cpu.c */
    struct pool *pool;
    float *const *scratch; /* [threads], SCRATCH_FLOATS each */
    void *shared;          /* LOOKUP_BYTES, for all threads */
};

/* The sum of sixteen lanes, by the tree l + 8, + 4, + 2, + 1; the lanes are lost. */
static inline float sum_of_lanes(float lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* How many chunks a job of `units` equal units should be cut into when one unit takes about
 * `cycles`: 1 when handing it out costs more than it brings. */
int64_t chunk_count(const struct kernels *self, int64_t units, double cycles);
/* Chunk c of `chunks` > 0 over [0, units): [*first, *end). */
static inline void chunk_range(int64_t units, int64_t chunks, int64_t c, int64_t *first,
                               int64_t *end)
{
    if (chunks < 1)
        chunks = 1;
    *first = units * c / chunks;
    *end = units * (c + 1) / chunks;
}

/* ---- fast.c, for the slots prepare and matmul */

/* Bytes of a quantized input of `rows` rows of k columns. */
size_t fast_act_bytes(int32_t rows, int64_t k);
/* Lays out a's rows in bytes for w in buffer (64-byte aligned), empty, and sets a->q. */
void fast_open(const struct weight *w, void *buffer, struct act *a);
/* Rows [row, end), whole blocks of them or all that are left, of columns [k, k_end), whole chunks
 * likewise, from a->x to their bytes. */
void fast_quantize(const struct twins *t, const struct act *a, int64_t row, int64_t end, int64_t k,
                   int64_t k_end);
/* The parts of groups [group, group_end) of rows [row, end), whose chunks are there. */
void fast_sum_parts(const struct twins *t, const struct act *a, int64_t row, int64_t end,
                    int64_t group, int64_t group_end);

/* ---- what products are cut into, each in its file, for the slot matmul */

/* Sums [m][16] of tiles [tile, tile + tiles), `step` floats from one tile's to the next, to rows
 * [row, row + m) of the output, row by row: a row lies far from the next. */
void matmul_finish(const struct matmul_job *j, int64_t tile, int64_t tiles, int64_t row, int64_t m,
                   const float *sum, int64_t step);
/* Units of a product with strided groups, about `wanted` of them, and one of those. */
int64_t strided_units(const struct weight *w, int64_t wanted);
void strided_run(const struct twins *t, const struct matmul_job *j, int64_t units, int64_t unit,
                 float *scratch);
/* The products of the jobs whose weights lookup_has; two parallel regions each time. */
void lookup_run(const struct kernels *self, const struct matmul_job *jobs, int n);
/* Tiles [first, end) of a product that eights_has. */
void eights_run(const struct twins *t, const struct matmul_job *j, int64_t first, int64_t end,
                float *scratch);

/* ---- the slots of struct kernels, documented there */
size_t rotate_act_bytes(const struct kernels *self, int32_t rows, int64_t k);
void rotate_prepare(const struct kernels *self, const struct prepare_job *jobs, int n);
void matmul_run(const struct kernels *self, const struct matmul_job *jobs, int n);
void decode_dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                       int64_t rows, float *out);
void decode_gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                   int32_t n, float *out, int64_t ldo);
void norm_run(const struct kernels *self, const struct norm_args *args, const float *x, int64_t ldx,
              int32_t rows, float *out, int64_t ldo);
void attention_run(const struct kernels *self, const struct attention_args *args);
void attention_kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                        const struct kv_rows *rows, const float *k, const float *v, int64_t ld);
void elementwise_rope(const struct kernels *self, float *x, int64_t ld, int32_t rows, int32_t heads,
                      int32_t head_dim, int32_t rot, const float *cos, const float *sin);
void elementwise_activate(const struct kernels *self, enum activation act, const float *gate,
                          int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                          float *out, int64_t ldo);
void elementwise_add(const struct kernels *self, float *x, int64_t ldx, const float *y, int64_t ldy,
                     int32_t rows, int64_t dim);
void elementwise_scale(const struct kernels *self, float *x, int64_t n, float s);
void elementwise_copy_rows(const struct kernels *self, const float *x, int64_t ldx,
                           const int32_t *ids, int32_t n, int64_t dim, float *out, int64_t ldo);
void elementwise_add_rows(const struct kernels *self, const float *x, int64_t ldx,
                          const int32_t *ids, const float *shares, int32_t n, int64_t dim,
                          float *out, int64_t ldo);
void elementwise_likelihoods(const struct kernels *self, const float *x, int64_t n, float max,
                             float scale, float *likely, float *sums);
void blas_gemm(const struct kernels *self, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
               const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc);
void series_combine(const struct kernels *self, int32_t b, float c0, float c1, const float *s,
                    float c2, const float *p, float *m);
double series_squares(const struct kernels *self, const float *v, int64_t n);
float series_largest(const struct kernels *self, const float *v, int64_t n);
void series_to_bytes(const struct kernels *self, int32_t b, const float *d, void *out);
bool blas_solve(const struct kernels *self, int32_t n, int32_t m, double *a, double *b,
                int32_t *pivots);

#endif
