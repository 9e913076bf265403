/*
 * The interface between the network (core/) and arithmetic on a device (backends/kernels/). core
 * owns it, backends/ fulfils it: one complete table a device and compute mode, opened with its own
 * pool of threads. It also states how weights lie in memory, because both sides must agree on that
 * for ever: a new kernel changes instructions, never a layout.
 *
 * Also compiled as C++17 by the CUDA plug-in: no _Atomic, no restrict, no designated initialisers
 * here.
 *
 * ---- The tile layout
 * ------------------------------------------------------------------------------ W is [n, k],
 * row-major in thought. In memory TILE_ROWS = 16 rows are interleaved, so that one thread reads one
 * contiguous stream and one 512-bit register holds 16 rows. n is padded to n_tiles * 16 (the
 * padding decodes to 0), k to k_padded, a multiple of TILE_K = 32 (padding codes are 0; a kernel
 * must treat activations beyond k as 0, so what padding decodes to does not matter).
 *
 *   codes of b bits (1..8)   A chunk = 16 rows x 32 k = 64*b bytes; chunk (t, c) is at
 *       codes + (t * (k_padded/32) + c) * 64*b. b is split into planes of width 8, or of 4, 2, 1
 * from the low bits up (3 = 2+1, in the order of gptq's planar files: 3 -> 2-bit plane (low), then
 *       1-bit plane (high); 5 = 4+1, 6 = 4+2, 7 = 4+2+1), the planes of a chunk one after another.
 * A plane of width w is w lines of 64 bytes; line d, row r is the little-endian dword at 64*d + 4*r
 * and holds the 32/w codes k = 32c + (32/w)*d + 0 .. + 32/w - 1: field f (bits w*f..w*f+w-1, f =
 * 0..8/w-1) of its byte j (0..3) is code 4*f + j. So (line >> w*f) & mask gives, in 16 dwords, four
 * consecutive k of each row as bytes: what vpdpbusd wants. F32, F16                 element (row r,
 * k) of tile t at data[(t * k_padded + k) * 16 + r] BF16                     pairs: data[((t *
 * k_padded/2 + k/2) * 16 + r) * 2 + (k & 1)] a parameter per row and group (scale, zero, absmax):
 * p[(t * n_groups + g) * 16 + r] a parameter per row: p[t * 16 + r]
 *
 * ---- Exact mode
 * ----------------------------------------------------------------------------------- out[row][n] =
 * sum over k in storage order, as f32: k is cut into panels of PANEL_K = 256; within a panel one
 * chain acc = fma(x[k], w[k], acc) from 0, ascending; panels are added ascending to a sum that
 * starts at 0 (sum = sum + acc); then + bias; then, with add, out = out + that. w[k] is the decoded
 * element, rounded as the format says. This order never depends on the number of rows, the
 * chunking, the threads or the twin, so every table in exact mode gives the same bits for matmul
 * and prepare.
 *
 * ---- Fast mode
 * ------------------------------------------------------------------------------------ A weight
 * whose elements are an affine function of an integer b of 8 bits (8-bit floats: 15; ENC_GROUP,
 * ENC_TABLE4 and ENC_FLOAT8 with a step), in GROUPS_OF_ROWS without group_of, one a row or of a
 * multiple of TILE_K columns, or codes of less than 8 bits in groups of 8 or 16, is multiplied in
 * integers; so are codes and tables in GROUPS_FLAT where TILE_K divides group, flat_k and flat_col
 * (a chunk of a row then counts as a group), and most others, below. prepare cuts a row of x, as
 * exact mode's matmul would see it (rotated, gathered), into chunks of TILE_K columns, what is
 * beyond k being 0:
 *
 *       peak = max |x|; d = peak / 127; q[j] = x[j] * (127 / peak) to the nearest integer, ties to
 *       even; sum = sum of q[j]. peak < 2^-100: d = 0, q = 0; not finite: d = NaN, q = 0.
 *
 * A chunk whose peak stands alone, that is with a sum of q[j]^2 of less than OUTLIER_ENERGY, but
 * not 0, has a second part, so that the others are not lost beside it:
 *
 *       r[j] = fma(-d, q[j], x[j]); d' = d / 254; q'[j] = r[j] * (254 / d) to the nearest; sum'
 *
 * With b the code (ENC_GROUP), steps[code] (ENC_TABLE4) or value / step to the nearest integer,
 * ties to even (ENC_FLOAT8), all in f32 but the integers:
 *
 *       dot = sum over a chunk of b[j] q[j]                an integer, exact; where a chunk has
 *                                                          several groups, dot and sum are theirs
 *       acc = fma(d, dot, acc), part = fma(d, sum, part)   over a group's chunks, ascending from 0,
 *                                                          after a chunk its second part
 *       total = fma(scale, fma(-zero, part, acc), total)   over the groups, ascending from 0
 *
 * where scale is absmax * step and zero is offset (ENC_TABLE4), scale is scale * step (ENC_FLOAT8)
 * or scale * factor (RULE_FACTOR); RULE_FMA: total = fma(zero, part, fma(scale, acc, total)).
 *
 * Strided groups (ENC_GROUP, RULE_PRODUCT or RULE_STEPS) whose n_groups is a multiple of flat_k
 * have a scale and a zero for each column, the same for every (n_groups / flat_k)-th row of W. For
 * each row of W x is multiplied with the row's scales, y[j] = x[j] * scale[j], and y becomes bytes
 * as above, with d and q:
 *
 *       bias = fma(zero[j], q[j], bias)          over a chunk, ascending from 0; bias' of q'
 *       total = fma(d, dot - bias, total)        over all chunks, ascending from 0, after a chunk
 *                                                its second part
 *
 * Codebooks up to 8 bits, out_group 1, 4 * books <= in_group, in_group * books <= 256: a chunk is
 * BOOK_LOOKUPS / books groups of in_group columns. Of each group and book the products with all
 * vectors v are looked up in a table, for all rows of W:
 *
 *       t[v] = fma(x[q], v[q], t[v])             over the group's columns, ascending from 0
 *       peak = max |t| over a chunk; d = peak / 2047; s[v] = t[v] * (2047 / peak) to the nearest,
 *       with peaks that are small or not finite as above
 *       total = fma(d, sum of s[code], total)    over the chunks, ascending from 0
 *       out = total * scale
 *
 * Other codebooks of vectors of 8 columns, out_group 1: eight chains a[q], over the groups and,
 * within them, the books, ascending from 0:
 *
 *       a[q] = fma(x[q], v[q], a[q]);  out = (((a[0] + a[4]) + (a[2] + a[6])) +
 *                                             ((a[1] + a[5]) + (a[3] + a[7]))) * scale
 *
 * All others: as in exact mode. Elements are not rounded to the dtype, but there. Here too a row's
 * result depends on nothing but the row, and every table gives the same bits.
 */
#ifndef OFTD_CORE_KERNELS_H
#define OFTD_CORE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TILE_ROWS 16
#define TILE_K    32
#define PANEL_K   256
/* 127^2 32 / 20: the peak is 4.5 times the root of the chunk's mean square. */
#define OUTLIER_ENERGY 25806
#define BOOK_LINE      64 /* codes of codebooks side by side */
#define BOOK_LOOKUPS   16 /* most look-ups of a chunk: their sum fits 16 bits */
#define KV_PAGE        16 /* positions a KV page holds */
#define DRAW_BLOCK     256

enum compute { COMPUTE_EXACT, COMPUTE_FAST };

enum encoding {
    ENC_DENSE,   /* floats of .dtype */
    ENC_GROUP,   /* unsigned codes, a scale and a zero for each row and group of k */
    ENC_TABLE4,  /* 4-bit codes into a table of 16 floats, times a scale for each block */
    ENC_FLOAT8,  /* 8-bit floats of .code_dtype, times a scale for each row and group of k */
    ENC_CODEBOOK /* each in_group columns x out_group rows are a sum of vectors from codebooks */
};

/* How a decoded element is rounded; every product is f32 first, D is weight.dtype. */
enum rule {
    RULE_NONE,    /* dense: the stored value */
    RULE_PRODUCT, /* D(f32(code - zero) * scale); table: D(table[code] * absmax) */
    RULE_STEPS,   /* D(D(code - zero) * scale): HQQ, in its compute dtype; codebooks: D(D(sum of
                     the vectors' elements, f32, ascending books) * scale) */
    RULE_FACTOR,  /* D(f32(f32(code - zero) * scale) * factor): bitsandbytes int8 */
    RULE_FMA      /* D(fma(code, scale, zero)): zeros that hold -scale * zero (AWQ gemv-fast) */
};

/* Where the group of an element, and its parameters, are found. */
enum grouping {
    GROUPS_OF_ROWS, /* groups of k within a row, parameters tiled: (t * n_groups + g) * 16 + r */
    GROUPS_FLAT,    /* runs through the row-major [., flat_k] matrix, which may straddle rows:
                       flat index / group, parameters in flat order, not tiled, n_groups in all */
    GROUPS_STRIDED  /* elements n_groups apart in the flat matrix: flat index % n_groups (HQQ axis
                       0), parameters in flat order, not tiled */
};

/*
 * One weight (a slice of a module) in one encoding: an immutable value once loaded. All arrays come
 * from memory_alloc and belong to it (a placed weight's lie where its table computes,
 * core/place.h). Which members hold for which encoding is said at each.
 */
struct weight {
    enum encoding encoding;
    enum dtype dtype; /* dense: what is stored; else the dtype each decoded element is rounded to */
    enum rule rule;
    int64_t n, k;     /* rows (outputs), columns (inputs) */
    int64_t n_tiles;  /* ceil(n / TILE_ROWS) */
    int64_t k_padded; /* k rounded up to TILE_K */
    void *data;       /* dense elements or codes, tile layout */
    size_t data_bytes;
    const int32_t *perm; /* [k] stored column -> input channel, or NULL (act-order: groups made
                            contiguous); prepare gathers x by it, dequantize undoes it */

    /* ENC_GROUP, ENC_TABLE4, ENC_FLOAT8 */
    int bits;               /* 1..8; codebooks: 1..16 */
    int64_t group;          /* elements a group (or block) has */
    int64_t n_groups;       /* groups a row has; flat and strided: groups in all */
    enum grouping grouping; /* flat and strided: perm and group_of are NULL */
    /* The whole module's k, this slice's first row and column: flat index of (row, k) =
     * (flat_row + row) * flat_k + flat_col + k. Set where grouping or nesting asks for it. */
    int64_t flat_k, flat_row, flat_col;
    const int32_t *group_of; /* [k_padded] stored column -> group where groups are irregular; NULL:
                                k / group */
    void *scales; /* ENC_GROUP: scale_dtype; ENC_TABLE4: F32 absmax, or U8 codes when nested */
    enum dtype scale_dtype;
    void *zeros; /* ENC_GROUP: zero_dtype U8 (integers 0..255) or I16, or a float dtype; NULL: 0 */
    enum dtype zero_dtype;
    float factor;          /* RULE_FACTOR */
    enum dtype code_dtype; /* ENC_FLOAT8: F8_E4M3 or F8_E5M2 */

    /* ENC_CODEBOOK: W[i * out_group + p][j * in_group + q] = scales[i] * sum over books b of
     * codebook[(((b << bits) + code) * out_group + p) * in_group + q], not tiled. Of the L =
     * (k / in_group) * books codes of i, code l = j * books + b is, above 8 bits, U16 data[i * L +
     * l]; else BOOK_LINE of them are interleaved, U8 data[((i / BOOK_LINE) * L + l) * BOOK_LINE +
     * i % BOOK_LINE], with zeros beyond the last. */
    int books, in_group, out_group;
    void *codebook; /* codebook_dtype, a float */
    enum dtype codebook_dtype;

    /* ENC_TABLE4 */
    float table[16];
    /* Fast mode: table[c] is about (steps[c] - offset) * step; step 0: there are none. ENC_FLOAT8:
     * the magnitude of code c is about (128 high_low[0][c] + high_low[1][c]) * step, a power of 2.
     */
    float step, offset;
    int8_t steps[16];     /* -127..127 */
    bool nested;          /* absmax(j) = f32(f32(map[code(j)] * nested_absmax[J / nested_block]) +
                             nested_offset),          J = flat index of block j in the whole module =
                             (row*flat_k + k)          / group */
    float *nested_absmax; /* [n_nested], flat order, whole module */
    int64_t n_nested, nested_block;
    union {
        float nested_map[256];
        uint8_t high_low[2][128]; /* ENC_FLOAT8 */
    };
    float nested_offset;

    /* of the format, for requantize and store; opaque to kernels, freed by weight_clear with free()
     */
    void *format;
    size_t format_bytes;
    size_t file_bytes; /* what this weight takes in the checkpoint */
};

/* Frees what w holds and zeroes it (core/weight.c); NULL and zeroed values are fine. */
void weight_clear(struct weight *w);
/* Bytes of memory that w holds. */
size_t weight_bytes(const struct weight *w);
/* The arrays that kernels read: the members that point to them and what they take, 0 for NULL. */
#define WEIGHT_ARRAYS 7
struct weight_array {
    void **at;
    size_t bytes;
};
void weight_arrays(struct weight *w, struct weight_array out[WEIGHT_ARRAYS]);

/*
 * A block-diagonal rotation R of a module's inputs: `blocks` blocks of [block, block], row-major,
 * or one that is used for all (shared). x' = x R: x'[i*block + c] = sum_k x[i*block + k] R_i[k][c].
 * data: 64-byte aligned; block i at i * rotation_block_bytes(dtype, block); in one of three forms:
 *
 *   F32   R itself. x'[c] = acc, acc = fma(x[k], R[k][c], acc), k ascending from 0.
 *   F16   D = R - I, in fast mode alone: x'[c] = x[c] + acc, acc = fma(x[k], D[k][c], acc), k
 *         ascending from 0. Half the bytes, and what D loses is small beside x.
 *   I8    D in bytes, in fast mode alone: q [block, block], at the next multiple of 4 a step (F32)
 *         for each column; D[k][c] = step[c] q[k][c]. x'[c] = fma(step[c], acc, x[c]), acc =
 *         fma(x[k], q[k][c], acc), k ascending from 0.
 */
struct rotation {
    int64_t dim; /* = blocks * block */
    int32_t block, blocks;
    bool shared;
    enum dtype dtype; /* of data */
    void *data;
};

/* From a block's elements to the steps of I8. */
static inline size_t rotation_steps_at(int32_t block)
{
    return ((size_t)block * (size_t)block + 3) / 4 * 4;
}

static inline size_t rotation_block_bytes(enum dtype dtype, int32_t block)
{
    return dtype == DT_I8 ? rotation_steps_at(block) + (size_t)block * sizeof(float)
                          : (size_t)block * (size_t)block * (dtype == DT_F16 ? 2 : 4);
}

/* Rows [first, first + count) of an input go through r[0], then r[1], ... (n of them; n 0:
 * untouched). */
struct rotate_group {
    int32_t first, count;
    int32_t n;
    const struct rotation *const *r;
};

/* Activations ready for matmul; made by prepare, lives in the caller's buffer (or aliases its x).
 */
struct act {
    int32_t rows;
    int64_t k;
    const float *x; /* [rows, ldx]; columns k.. up to the next multiple of TILE_K may be read and
                       are ignored */
    int64_t ldx;
    const void *q; /* fast mode: the table's own quantized form, for weights that have the form of
                      prepare's; or NULL */
};

/* One input x [rows, ldx] on its way to a: rotated by groups (ascending, disjoint; rows in no group
 * untouched), gathered by w->perm if it has one, and in the form that w wants (w NULL: floats).
 * buffer: 64-byte aligned, act_bytes. With nothing to do a aliases x. */
struct prepare_job {
    const float *x;
    int64_t ldx, k;
    int32_t rows, n_groups;
    const struct rotate_group *groups;
    const struct weight *w;
    void *buffer;
    struct act *a;
};

struct matmul_job {
    const struct weight *w;
    const struct act *a;
    const float *bias; /* [w->n] or NULL */
    float *out;        /* [a->rows, ldo] */
    int64_t ldo;
    bool add; /* out += */
};

enum norm_kind { NORM_RMS, NORM_LAYER };
struct norm_args {
    enum norm_kind kind;
    const float *weight; /* [dim] */
    const float *bias;   /* [dim] or NULL */
    float eps;
    bool plus_one; /* multiply by (1 + weight) */
    int64_t dim;
};

enum activation { ACT_NONE, ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU, ACT_TANH, ACT_QUICK_GELU };

/*
 * The paged keys and values of all layers of one device. A position is pages[pos / KV_PAGE], slot
 * pos % KV_PAGE. Page p of layer l begins at byte (l * n_pages + p) * page_bytes, of k as of v, and
 * head h of it at h * kv_head_bytes; there lie
 *
 *   K   element i of slot s at [i * KV_PAGE + s]: one register takes an element of all keys
 *   V   element i of slot s at [s * head_dim + i]
 *
 * of dtype F32, or in fast mode F16, to the nearest, ties to even; or I8:
 *
 *   K   element i of slot s at [(i / 4 * KV_PAGE + s) * 4 + kv_within(i)]
 *   V   element i of slot s at [(s / 4 * head_dim + i) * 4 + kv_within(s)]
 *
 * and behind KV_PAGE times kv_fours(head_dim) of them KV_PAGE floats d, one a slot: peak = max |x|
 * over the head's elements; d = peak / 127; q = x * (127 / peak) to the nearest, ties to even; peak
 * < 2^-100: d = 0, q = 0; not finite: d = NaN, q = 0. An element is read as q, and d goes once into
 * each sum (backends/kernels/attention.c).
 */
struct kv {
    enum dtype dtype;
    int32_t layers, kv_heads, head_dim;
    int64_t n_pages;
    size_t page_bytes; /* from one page of a layer to the next; a page may be shorter, or longer:
                          then only every so manyth of them is one */
    void *k, *v;
};

/* Most elements of a head: what the kernels have scratch for, and their sums of bytes 32 bits. */
#define HEAD_DIM_MAX 1024

/* I8: elements in whole fours. A word has four of a key, or a value's element in four slots: the
 * first two are its even bytes and the others its odd ones, so that a shift makes 16-bit pairs. */
static inline int32_t kv_fours(int32_t head_dim)
{
    return (head_dim + 3) / 4 * 4;
}
static inline int32_t kv_within(int32_t i)
{
    return i % 4 / 2 + i % 2 * 2;
}
/* Bytes of one head of a page, of K or of V. */
static inline size_t kv_head_bytes(enum dtype dtype, int32_t head_dim)
{
    if (dtype == DT_I8)
        return KV_PAGE * ((size_t)kv_fours(head_dim) + sizeof(float));
    return (size_t)KV_PAGE * (size_t)head_dim * (dtype == DT_F16 ? 2 : sizeof(float));
}

/* Rows of a step in one layer: row i is at positions[i] of the sequence whose pages are pages[i].
 */
struct kv_rows {
    int32_t rows;
    const int32_t *positions;
    const int32_t *const *pages;
    const int32_t *ends; /* [rows] a row sees the keys [0, end); NULL: up to its own position */
};

struct attention_args {
    const struct kv *kv;
    int32_t layer;
    const struct kv_rows *rows; /* the rows' own k and v are stored already */
    const float *q;             /* [rows, ldq], heads * head_dim used */
    float *out;                 /* [rows, ldo], heads * head_dim */
    int64_t ldq, ldo;
    int32_t heads;
    float scale;
    float softcap;      /* 0: none; else s = softcap * tanh(s / softcap) after scaling */
    int32_t window;     /* 0: all; else keys j with pos - window < j */
    const float *alibi; /* [heads] slopes or NULL: scores are (q . k + B(slope * B(j))) * scale, B
                           the rounding to bf16 (falcon) */
};

/*
 * How the token behind a row of logits is drawn where nothing changes them first (core/run/
 * sampler.c): the largest, the first of equals, where scale is 0; else one of all, each as likely
 * as exp(x * scale): the first whose sum, of it and all before, is above u times the sum of all.
 */
#define DRAW_NOT_YET (-2)
#define DRAW_NOTHING (-1) /* the logits are not finite */
struct draw {
    float scale;
    int32_t token;
    double u;
};

struct kernels_state;

/*
 * One device in one mode. Calls may use all its threads; a table is used by one thread at a time
 * (the worker owns one, the loader another). No call allocates, fails or locks.
 *
 * ---- Where memory lies ---------------------------------------------------------------------
 * A table computes in the host's memory or, with own_memory, in memory of its own, which the host
 * reaches through the slots for it alone. What numbers are (arrays of weights and rotations, x,
 * out, biases, norms, slopes, cos and sin, keys and values, act's buffer) lies where the table
 * computes. What says what to do (every struct, lists of jobs, groups, ids, rows, shares,
 * positions, pages and ends) is the host's in every table, and is free to change as soon as the
 * call returns. Slots of the loader (gemm to to_bytes) and of the sampler (likelihoods) are NULL in
 * a table with memory of its own: a CPU's does their work.
 *
 * Calls of the worker happen in order, but with own_memory perhaps after they have returned; what
 * fetch hands out is there.
 */
struct kernels {
    const char *device; /* "cpu", "cuda:0" */
    const char *isa;    /* "portable", "avx2", "avx512", "neon" */
    enum compute mode;
    int threads;
    struct kernels_state *state;

    /* The next are NULL without own_memory. Any thread may call alloc to fault at any time, also
     * while another one computes; they are the same for both modes of a device. */
    bool own_memory;
    /* bytes, 64-byte aligned and zeroed; NULL when there are no more. */
    void *(*alloc)(const struct kernels *self, size_t bytes);
    /* Of what no call will read any more; NULL is fine. */
    void (*release)(const struct kernels *self, void *p);
    /* Bytes that alloc may still give, about. */
    uint64_t (*available)(const struct kernels *self);
    /* From the host to what no call reads yet; calls that begin later see it. */
    void (*upload)(const struct kernels *self, void *to, const void *from, size_t bytes);
    /* Why nothing that the table has given or will give can be trusted; NULL: all is well. */
    const char *(*fault)(const struct kernels *self);
    /* The worker's, in order with its calls: from the host, to the host. */
    void (*send)(const struct kernels *self, void *to, const void *from, size_t bytes);
    void (*fetch)(const struct kernels *self, void *to, const void *from, size_t bytes);
    /* A pass begins whose kv_store and attention get this struct (positions, pages, ends). */
    void (*begin)(const struct kernels *self, const struct kv_rows *rows);

    /* Bytes a caller provides to prepare for `rows` rows of k inputs. */
    size_t (*act_bytes)(const struct kernels *self, int32_t rows, int64_t k);
    /* Several inputs in one parallel region, as far as none needs another pass. */
    void (*prepare)(const struct kernels *self, const struct prepare_job *jobs, int n);
    /* Several products in one parallel region. */
    void (*matmul)(const struct kernels *self, const struct matmul_job *jobs, int n);
    /* Rows [row, row + rows) of w, decoded and rounded, natural column order, out [rows, k] F32. */
    void (*dequantize)(const struct kernels *self, const struct weight *w, int64_t row,
                       int64_t rows, float *out);
    /* Rows ids[0..n) of w to out [n, ldo]. */
    void (*gather)(const struct kernels *self, const struct weight *w, const int32_t *ids,
                   int32_t n, float *out, int64_t ldo);
    /* x [rows, ldx] -> out [rows, ldo]; in place is allowed. */
    void (*norm)(const struct kernels *self, const struct norm_args *args, const float *x,
                 int64_t ldx, int32_t rows, float *out, int64_t ldo);
    /* x [rows, ld] in place: the first rot of each of `heads` heads' head_dim; pairs (i, i +
     * rot/2); cos, sin [rows, rot/2]. */
    void (*rope)(const struct kernels *self, float *x, int64_t ld, int32_t rows, int32_t heads,
                 int32_t head_dim, int32_t rot, const float *cos, const float *sin);
    /* k, v [rows, ld] (kv_heads * head_dim used) into the pages. */
    void (*kv_store)(const struct kernels *self, const struct kv *kv, int32_t layer,
                     const struct kv_rows *rows, const float *k, const float *v, int64_t ld);
    void (*attention)(const struct kernels *self, const struct attention_args *args);
    /* out = act(gate) * up; up may be NULL (1). [rows, ld...] of dim columns; in place on gate is
     * allowed. */
    void (*activate)(const struct kernels *self, enum activation act, const float *gate,
                     int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                     float *out, int64_t ldo);
    /* x [rows, ldx] += y [rows, ldy] (ldy 0: one row for all). */
    void (*add)(const struct kernels *self, float *x, int64_t ldx, const float *y, int64_t ldy,
                int32_t rows, int64_t dim);
    /* x [rows, dim] *= s */
    void (*scale)(const struct kernels *self, float *x, int64_t n, float s);
    /* out row i = row ids[i] of x, or row i (ids NULL); x NULL: zeros. No overlap. */
    void (*copy_rows)(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                      int32_t n, int64_t dim, float *out, int64_t ldo);
    /* out row ids[i] += shares[i] * row i of x, both operations rounded; ids are distinct. */
    void (*add_rows)(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                     const float *shares, int32_t n, int64_t dim, float *out, int64_t ldo);
    /* How likely each of n tokens is beside the likeliest: likely[i] = exp((x[i] - max) * scale),
     * 0 where that is below 2^-125; max is finite and no x is above it. sums [ceil(n /
     * DRAW_BLOCK)]: those of each block of DRAW_BLOCK, in the order of norm's. The same bits in
     * every table. */
    void (*likelihoods)(const struct kernels *self, const float *x, int64_t n, float max,
                        float scale, float *likely, float *sums);
    /* Of each row i of logits x [rows, ldx] with n columns whose draws[i] is not NULL: its token,
     * which is there when the call returns; DRAW_NOT_YET: rows are too long for it. NULL without
     * own_memory. */
    void (*draw)(const struct kernels *self, const float *x, int64_t ldx, int32_t rows, int64_t n,
                 struct draw *const *draws);
    /* C [m, n] = op(A) op(B), row-major f32 (BLAS; results may depend on the shape: loader and
     * merges only). */
    void (*gemm)(const struct kernels *self, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                 const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc);
    /* Solves A X = B in double, row-major, in place (A [n, n] and B [n, m] are overwritten); pivots
     * [n] is scratch. false: singular. */
    bool (*solve)(const struct kernels *self, int32_t n, int32_t m, double *a, double *b,
                  int32_t *pivots);

    /* What building a block of a rotation takes besides; the same bits in every table. */
    /* m = c0 I + c1 s + c2 p, all [b, b]; m may be p; with c2 0 p is not read. */
    void (*combine)(const struct kernels *self, int32_t b, float c0, float c1, const float *s,
                    float c2, const float *p, float *m);
    /* The sum of the squares of v [n], not finite where an element is not. */
    double (*squares)(const struct kernels *self, const float *v, int64_t n);
    /* Its largest magnitude, NaN where an element is. */
    float (*largest)(const struct kernels *self, const float *v, int64_t n);
    /* d [b, b] as I8 (struct rotation): a step is the 127th of the largest magnitude of its
     * column, a byte the nearest multiple. */
    void (*to_bytes)(const struct kernels *self, int32_t b, const float *d, void *out);

    void (*close)(struct kernels *self);
};

#ifdef __cplusplus
}
#endif
#endif
