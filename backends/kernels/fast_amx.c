/*
 * Fast mode's products of many rows by AMX tiles: what `--isa amx` has beyond AVX-512. A chunk of
 * 32 columns of 16 rows of x times that of 16 rows of W is one tile operation: A = the rows' bytes
 * [16][32], B = the chunk's factors as they come out of the tile layout, eight lines of [16 rows of
 * W][4 columns], C = the dots [16 rows of x][16 rows of W] as integers. They are exact, so the bits
 * are those of every other twin.
 *
 *   for each panel of 256 columns:
 *     pack  the bytes of up to 128 rows of x to A tiles, second parts as tiles of their own behind
 *           their chunk's, where one of 16 rows has one; the others' are 0 there, which adds
 *           nothing
 *     for each of up to 16 tiles of W: decode its chunks to B tiles, its groups' scales and zeros
 *           to floats
 *       for each 16 rows of x: multiply all A tiles, the Cs to memory; join them, eight rows at a
 *           time, to acc and total, which wait in memory between the panels
 *
 * B is signed but for codes of 8 bits, which are unsigned there; an 8-bit float has two Bs and two
 * Cs. Weights with several groups a chunk stay with the other twin.
 *
 * Roofline. A row of C (16 x 32 products) costs a cycle of the tile unit, whose 64 columns a chunk
 * fills by half, one to store it, and with groups of 64 columns 3 operations and 3.5 loads to make
 * it floats, at two a cycle: 1.75 cycles if all that ran side by side. On one Sapphire Rapids core
 * (a virtual one, 2.5 GHz) the tiles alone take 1.7 cycles at best (the store waits for the
 * product; other users of the core's tile unit make that 2 to 3 times as much), the floats 1.5, and
 * in no order did one hide behind the other: 3.2. Reached, NF4, 5632 x 2048: 5.9 cycles a row of C,
 * 1.4 times as fast as fast_avx512.c from 32 rows on, 1.3 times with 16, as fast with 12. What is
 * between is not in the tiles: sums that come from the second-level cache and go back for each
 * panel, decoding (10 %) and writing the output (11 %).
 */
#include <immintrin.h>
#include <string.h>

#include "backends/kernels/fast_factors_simd.h"
#include "backends/kernels/twins.h"

#define CHUNKS     (PANEL_K / TILE_K)
#define SIDES      (MANY_ROWS / TILE_ROWS) /* of 16 rows of x */
#define HALF       (TILE_ROWS / 2)
#define LEAST_ROWS 13 /* for less the other twin is faster */

/* One panel's columns of 16 rows of x. */
struct side {
    int8_t q[2 * CHUNKS][TILE_ROWS][TILE_K]; /* A tiles */
    float scale[2 * CHUNKS][TILE_ROWS];
    float part[CHUNKS][TILE_ROWS]; /* of the groups that end in the panel */
    int32_t chunk[2 * CHUNKS];     /* of an A tile */
    int32_t n;                     /* A tiles */
};

/* What sixteen rows of x and of W have so far. */
struct sums {
    float acc[TILE_ROWS][TILE_ROWS], total[TILE_ROWS][TILE_ROWS];
};

/* A thread's scratch. */
struct many {
    int8_t b[2][CHUNKS][8][64]; /* of one tile; [1]: the low halves of 8-bit floats */
    float scale[CHUNKS][TILE_ROWS], zero[CHUNKS][TILE_ROWS]; /* of the groups that end here */
    int32_t c[2][2 * CHUNKS][TILE_ROWS][TILE_ROWS];
    struct side sides[SIDES];
    struct sums sums[MANY_TILES][SIDES];
};
_Static_assert(sizeof(struct many) <= SCRATCH_FLOATS * sizeof(float), "scratch");

/* Where a panel lies. */
struct panel {
    int64_t chunk, n;        /* first chunk, chunks */
    int64_t group, n_groups; /* those that end in it */
    bool ends[CHUNKS];       /* whether one ends with a chunk */
    bool goes_on;            /* whether the first began in an earlier panel */
};

static bool has_many(const struct weight *w, int64_t rows)
{
    return rows >= LEAST_ROWS && w->grouping == GROUPS_OF_ROWS && fast_group(w) >= TILE_K;
}

/* ---- x ---- */

/* Chunk c of `rows` rows to A tile `to`; rows beyond stay 0. */
static void pack_tile(struct side *s, int to, const struct fast_chunk *const blocks[2],
                      const int64_t steps[2], int64_t c)
{
    for (int half = 0; half < 2; half++) {
        const struct fast_chunk *from = blocks[half] + c * steps[half];
        for (int i = 0; i < steps[half]; i++) {
            memcpy(s->q[to][half * HALF + i], from[i].q, TILE_K);
            s->scale[to][half * HALF + i] = from[i].scale;
        }
    }
}

/* Up to 16 rows from `row` on, of `left`, and a panel of them. */
static void pack_side(struct side *s, const struct fast_rows *f, int64_t row, int64_t left,
                      const struct panel *p)
{
    const int64_t m = left < TILE_ROWS ? left : TILE_ROWS;
    const int64_t steps[2] = {m < FAST_ROWS ? m : FAST_ROWS, m < FAST_ROWS ? 0 : m - FAST_ROWS};
    const struct fast_block low = fast_block(f, row);
    const struct fast_block high = steps[1] ? fast_block(f, row + FAST_ROWS) : low;
    const struct fast_chunk *coarse[2] = {low.coarse, high.coarse},
                            *fine[2] = {low.fine, high.fine};
    int64_t group = p->group;
    if (m < TILE_ROWS)
        memset(s, 0, sizeof *s);
    s->n = 0;
    for (int64_t c = 0; c < p->n; c++) {
        int64_t at = p->chunk + c;
        uint64_t flags[2];
        s->chunk[s->n] = (int32_t)c;
        pack_tile(s, s->n++, coarse, steps, at);
        memcpy(&flags[0], low.has_fine + at * FAST_ROWS, sizeof flags[0]);
        memcpy(&flags[1], high.has_fine + at * FAST_ROWS, sizeof flags[1]);
        if (flags[0] | flags[1]) {
            s->chunk[s->n] = (int32_t)c;
            pack_tile(s, s->n++, fine, steps, at);
        }
        if (!p->ends[c])
            continue;
        float *part = s->part[group - p->group];
        memcpy(part, low.parts + group * steps[0], (size_t)steps[0] * sizeof *part);
        memcpy(part + HALF, high.parts + group * steps[1], (size_t)steps[1] * sizeof *part);
        group++;
    }
}

/* ---- W ---- */

INLINE void decode(const enum kind kind, const struct weight *w, int64_t tile,
                   const struct panel *p, struct many *to)
{
    const struct tables t = tables_of(kind, w);
    const vi flip = vi_set(kind == KIND_TABLE4 || is_float8(kind) ? (int32_t)0x80808080 : 0);
    struct reader r;
    reader_open(kind, &r, w, tile, 0);
    r.group = p->group;
    for (int64_t c = 0; c < p->n; c++) {
        vi codes[16];
        chunk_factors(kind, &r, &t, p->chunk + c, AHEAD, codes);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            vi_store(to->b[0][c][i], _mm512_xor_si512(codes[i], flip));
            if (is_float8(kind))
                vi_store(to->b[1][c][i], _mm512_xor_si512(codes[8 + i], flip));
        }
        if (!p->ends[c])
            continue;
        vf scale, zero;
        group_factors(kind, &r, &scale, &zero);
        vf_store(to->scale[r.group - p->group], scale);
        vf_store(to->zero[r.group - p->group], zero);
        r.group++;
    }
}

static void decode_tile(const struct weight *w, int64_t tile, const struct panel *p,
                        struct many *to)
{
#define OF_KIND(kind)                                                                              \
    case kind:                                                                                     \
        decode(kind, w, tile, p, to);                                                              \
        return
    switch (reader_kind(w)) {
        OF_KIND(KIND_TABLE4);
        OF_KIND(KIND_BITS4);
        OF_KIND(KIND_BITS8);
        OF_KIND(KIND_BITS2);
        OF_KIND(KIND_BITS3);
        OF_KIND(KIND_E4M3);
        OF_KIND(KIND_E5M2);
    default:
        decode(KIND_BITS, w, tile, p, to);
    }
#undef OF_KIND
}

/* ---- products ---- */

#define TILE_C 0
#define TILE_A 1
#define TILE_B 2

/* The form of the three tiles, as ldtilecfg wants it. */
static const struct {
    uint8_t palette, start, none[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} form = {.palette = 1,
          .row_bytes = {[TILE_C] = 64, [TILE_A] = TILE_K, [TILE_B] = 64},
          .rows = {[TILE_C] = TILE_ROWS, [TILE_A] = TILE_ROWS, [TILE_B] = TILE_K / 4}};

/* All A tiles of a side times the tile of W. */
INLINE void multiply(const bool bytes, const struct side *s, const int8_t b[CHUNKS][8][64],
                     int32_t c[2 * CHUNKS][TILE_ROWS][TILE_ROWS])
{
    __asm__ volatile("" ::: "memory"); // what loads a tile is not seen to read memory
    for (int i = 0; i < s->n; i++) {
        _tile_loadd(TILE_A, s->q[i], TILE_K);
        _tile_loadd(TILE_B, b[s->chunk[i]], 64);
        _tile_zero(TILE_C);
        if (bytes)
            _tile_dpbsud(TILE_C, TILE_A, TILE_B);
        else
            _tile_dpbssd(TILE_C, TILE_A, TILE_B);
        _tile_stored(TILE_C, c[i], 64);
    }
}

/* Dots of eight rows become floats: core/kernels.h. */
INLINE void join(const bool float8, const bool fma, const struct many *m, const struct side *s,
                 const struct panel *p, const int from, struct sums *to)
{
    vf acc[HALF], total[HALF];
    int group = 0;
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++) {
        acc[i] = p->goes_on ? vf_load(to->acc[from + i]) : vf_zero();
        total[i] = vf_load(to->total[from + i]);
    }
    for (int a = 0; a < s->n; a++) {
#pragma GCC unroll 8
        for (int i = 0; i < HALF; i++) {
            vi dot = vi_load(m->c[0][a][from + i]);
            if (float8)
                dot = vi_add(vi_sll(dot, 7), vi_load(m->c[1][a][from + i]));
            acc[i] = vf_fma(vf_set(s->scale[a][from + i]), vf_of_int(dot), acc[i]);
        }
        int chunk = s->chunk[a];
        if (!p->ends[chunk] || (a + 1 < s->n && s->chunk[a + 1] == chunk))
            continue;
        vf scale = vf_load(m->scale[group]), zero = vf_load(m->zero[group]);
        const float *part = s->part[group++] + from;
        if (!fma)
            zero = vf_sub(vf_zero(), zero);
#pragma GCC unroll 8
        for (int i = 0; i < HALF; i++) {
            total[i] = fma ? vf_fma(zero, vf_set(part[i]), vf_fma(scale, acc[i], total[i]))
                           : vf_fma(scale, vf_fma(zero, vf_set(part[i]), acc[i]), total[i]);
            acc[i] = vf_zero();
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++) {
        if (!p->ends[p->n - 1])
            vf_store(to->acc[from + i], acc[i]);
        vf_store(to->total[from + i], total[i]);
    }
}

INLINE void run_side(const bool float8, const bool bytes, const bool fma, struct many *m,
                     const struct side *s, const struct panel *p, int64_t rows, struct sums *to)
{
    multiply(bytes, s, m->b[0], m->c[0]);
    if (float8)
        multiply(false, s, m->b[1], m->c[1]);
    join(float8, fma, m, s, p, 0, to);
    if (rows > HALF)
        join(float8, fma, m, s, p, HALF, to);
}

typedef void side_function(struct many *m, const struct side *s, const struct panel *p,
                           int64_t rows, struct sums *to);

#define SIDE(name, float8, bytes, fma)                                                             \
    static void side_##name(struct many *m, const struct side *s, const struct panel *p,           \
                            int64_t rows, struct sums *to)                                         \
    {                                                                                              \
        run_side(float8, bytes, fma, m, s, p, rows, to);                                           \
    }
SIDE(codes, false, false, false)
SIDE(codes_fma, false, false, true)
SIDE(bytes, false, true, false)
SIDE(bytes_fma, false, true, true)
SIDE(float8, true, false, false)

static side_function *side_of(const struct weight *w)
{
    bool fma = w->encoding == ENC_GROUP && w->rule == RULE_FMA;
    if (w->encoding == ENC_FLOAT8)
        return side_float8;
    if (w->encoding == ENC_GROUP && w->bits == 8)
        return fma ? side_bytes_fma : side_bytes;
    return fma ? side_codes_fma : side_codes;
}

/* Cuts the columns of f from chunk c on to a panel; group: the first that ends in it. */
static struct panel cut_panel(const struct fast_rows *f, int64_t c, int64_t group)
{
    int64_t per = f->group / TILE_K;
    struct panel p = {.chunk = c, .group = group};
    p.goes_on = c % per != 0;
    for (; p.n < CHUNKS && c < f->n_chunks; p.n++) {
        c++;
        p.ends[p.n] = c % per == 0 || c == f->n_chunks;
        p.n_groups += p.ends[p.n];
    }
    return p;
}

static void many(const struct matmul_job *j, int64_t tile, int64_t tiles, int64_t row, int64_t rows,
                 float *scratch)
{
    struct many *m = (struct many *)scratch;
    const struct fast_rows *f = j->a->q;
    side_function *side = side_of(j->w);
    int64_t sides = (rows + TILE_ROWS - 1) / TILE_ROWS, group = 0;
    for (int64_t t = 0; t < tiles; t++)
        memset(m->sums[t], 0, (size_t)sides * sizeof m->sums[t][0]);
    _tile_loadconfig(&form);
    for (int64_t c = 0; c < f->n_chunks; c += CHUNKS) {
        struct panel p = cut_panel(f, c, group);
        group += p.n_groups;
        for (int64_t s = 0; s < sides; s++)
            pack_side(&m->sides[s], f, row + s * TILE_ROWS, rows - s * TILE_ROWS, &p);
        for (int64_t t = 0; t < tiles; t++) {
            decode_tile(j->w, tile + t, &p, m);
            for (int64_t s = 0; s < sides; s++)
                side(m, &m->sides[s], &p, rows - s * TILE_ROWS, &m->sums[t][s]);
        }
    }
    _tile_release(); // else its 8 KB are saved and restored with the thread
    for (int64_t s = 0; s < sides; s++) {
        int64_t left = rows - s * TILE_ROWS;
        matmul_finish(j, tile, tiles, row + s * TILE_ROWS, left < TILE_ROWS ? left : TILE_ROWS,
                      m->sums[0][s].total[0],
                      (int64_t)(sizeof m->sums[0]) / (int64_t)sizeof(float));
    }
}

void fast_amx(struct twins *t)
{
    t->has_many = has_many;
    t->many = many;
}
