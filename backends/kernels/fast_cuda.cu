/*
 * Owns fast mode's products in bytes on a device: rows of x become bytes, and bytes are multiplied
 * by the tensor cores, 16 rows of W, 8 of x and a chunk of 32 columns at a time, into exact
 * integers. The few floats behind them (core/kernels.h) go in the order of every other table, so
 * the bits are those of the CPU.
 *
 * An mma's operand A has four columns of a row in a register, which is what a dword of a code line
 * is (or half of one, 4-bit codes): nothing is laid out anew, a thread takes lines of two rows of
 * the tile from memory and what it needs of x, 8 bytes, likewise. Thread 4g + q of a warp has rows
 * g and g + 8, columns 8q to 8q + 7 of the chunk, and outputs of rows 2q and 2q + 1 of x. Since the
 * sum over a chunk is exact, its columns may stand in any order in which both sides agree.
 *
 *   up to 32 rows of x, or few blocks     a block has a tile. Its warps take a group of columns
 *   (`shared`)                            each (a chunk, where groups are long), leave its sums in
 *                                         the block's memory, and the outputs, a thread one or two,
 *                                         go on with them in order: a GPU has more to do at once
 *                                         than a matrix has tiles
 *   more (`alone`)                        a warp has a tile, 64 rows of x and all columns
 *
 * Roofline, instructions of a warp for a chunk of 512 weights with 4 bits (256 bytes) and 8 rows:
 * 2 loads, 22 that decode, 2 loads of x, an mma, 8 that bring it to f32, 5 at a group's end. At 40
 * instructions a multiprocessor that starts four a cycle takes 51 bytes a cycle, twice its share of
 * an H100's memory: the memory bounds one row and 8, arithmetic 64 (13 a further mma). What a
 * device reaches was not measured.
 */
#include "backends/kernels/fast_cuda.cuh"

#define WARP         32
#define WARPS        8   /* of a shared block */
#define LONG_GROUP   128 /* columns beyond which a warp's part is a chunk */
#define SHARED_MOST  4   /* blocks of rows that a shared block multiplies with */
#define ALONE_BLOCKS 8   /* ... that a warp alone does */
#define ALONE_WARPS  4
#define LINE         20 /* floats from a row of x to the next, where parts lie: no bank twice */
#define MAKE_THREADS 128

enum kind { KIND_TABLE4, KIND_BITS4, KIND_BITS8, KIND_BITS, KIND_FLOAT8 };

/* ---- where bytes lie ---- */

static size_t chunks_of(int64_t k)
{
    return (size_t)((k + TILE_K - 1) / TILE_K);
}

static size_t blocks_of(int32_t rows)
{
    return ((size_t)rows + FAST_ROWS - 1) / FAST_ROWS;
}

size_t fast_cuda_bytes(int32_t rows, int64_t k)
{
    size_t n = blocks_of(rows) * FAST_ROWS * chunks_of(k); // a chunk has at most four groups
    return 2 * n * TILE_K + 2 * device_lines(2 * n * sizeof(float)) + device_lines(n) +
           device_lines(4 * n * sizeof(float));
}

struct fast_x fast_cuda_at(const struct weight *w, int32_t rows, void *memory)
{
    struct fast_x x;
    size_t n = blocks_of(rows) * FAST_ROWS * chunks_of(w->k);
    char *at = (char *)memory;
    x.coarse = (int8_t *)at;
    x.fine = x.coarse + n * TILE_K;
    at += 2 * n * TILE_K;
    x.steps = (float *)at;
    at += device_lines(2 * n * sizeof(float));
    x.sums = (int32_t *)at;
    at += device_lines(2 * n * sizeof(float));
    x.has_fine = (uint8_t *)at;
    x.parts = (float *)(at + device_lines(n));
    x.chunks = (int64_t)chunks_of(w->k);
    x.group = fast_group(w);
    x.groups = fast_groups(w);
    x.blocks = (int32_t)blocks_of(rows);
    x.rows = rows;
    x.turned = w->encoding == ENC_TABLE4;
    return x;
}

/* Element [block][chunk][0][0] of steps and sums; of one array of each, [block][chunk][0]. */
DEVICE int64_t pair_at(const struct fast_x &x, int64_t block, int64_t chunk)
{
    return (block * x.chunks + chunk) * 2 * FAST_ROWS;
}

/* ---- rows become bytes ---- */

DEVICE void store_bytes(const uint32_t words[TILE_K / 4], bool turned, int8_t *to)
{
#pragma unroll
    for (int i = 0; i < TILE_K / 4; i += 2) {
        uint2 both = {words[i], words[i + 1]};
        if (turned) {
            both.x = __byte_perm(words[i], words[i + 1], 0x5140);
            both.y = __byte_perm(words[i], words[i + 1], 0x7362);
        }
        ((uint2 *)(void *)to)[i / 2] = both;
    }
}

/* A chunk of a row; v is 0 beyond its end. */
DEVICE void make_chunk(const struct fast_x &x, const float v[TILE_K], int64_t block, int row,
                       int64_t chunk)
{
    int64_t at = (block * x.chunks + chunk) * FAST_ROWS + row, pair = pair_at(x, block, chunk);
    const struct fast_bytes b = fast_bytes_of(v);
    store_bytes(b.q[0], x.turned, x.coarse + at * TILE_K);
    store_bytes(b.q[1], x.turned, x.fine + at * TILE_K);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        x.steps[pair + i * FAST_ROWS + row] = b.d[i];
        x.sums[pair + i * FAST_ROWS + row] = b.sum[i];
    }
    x.has_fine[at] = b.two;
}

/* Sum of q over columns [from, from + n) of a row's chunk; never turned. */
DEVICE int32_t sum_some(const int8_t *q, int64_t from, int64_t n)
{
    int32_t sum = 0;
    for (int64_t j = from; j < from + n; j++)
        sum += q[j];
    return sum;
}

/* fast_sum_part. */
DEVICE float part_of(const struct fast_x &x, int64_t block, int row, int64_t g)
{
    int64_t k = g * x.group, chunk = k / TILE_K, left = x.chunks * TILE_K - k;
    int64_t n = left < x.group ? left : x.group;
    float part = 0;
    if (n < TILE_K) {
        int64_t at = ((block * x.chunks + chunk) * FAST_ROWS + row) * TILE_K;
        const float *d = x.steps + pair_at(x, block, chunk) + row;
        part = fmaf(d[0], (float)sum_some(x.coarse + at, k % TILE_K, n), part);
        return fmaf(d[FAST_ROWS], (float)sum_some(x.fine + at, k % TILE_K, n), part);
    }
    for (; n > 0; n -= TILE_K, chunk++) {
        const float *d = x.steps + pair_at(x, block, chunk) + row;
        const int32_t *sum = x.sums + pair_at(x, block, chunk) + row;
        part = fmaf(d[FAST_ROWS], (float)sum[FAST_ROWS], fmaf(d[0], (float)sum[0], part));
    }
    return part;
}

/* A block a row: its threads have chunks, then groups. */
__global__ void make_bytes(const float *from, int64_t ldx, int64_t k, struct fast_x x)
{
    int64_t block = blockIdx.x / FAST_ROWS;
    int row = blockIdx.x % FAST_ROWS;
    bool there = (int32_t)blockIdx.x < x.rows;
    for (int64_t c = threadIdx.x; c < x.chunks; c += MAKE_THREADS) {
        int64_t left = there ? k - c * TILE_K : 0;
        float v[TILE_K];
#pragma unroll
        for (int j = 0; j < TILE_K; j++)
            v[j] = j < left ? from[blockIdx.x * ldx + c * TILE_K + j] : 0;
        make_chunk(x, v, block, row, c);
    }
    __syncthreads();
    for (int64_t g = threadIdx.x; g < x.groups; g += MAKE_THREADS)
        x.parts[(block * x.groups + g) * FAST_ROWS + row] = part_of(x, block, row, g);
}

void fast_cuda_quantize(struct kernels_state *s, const struct weight *w, const float *x,
                        int64_t ldx, const struct fast_x *to)
{
    if (to->blocks > 0)
        LAUNCH(make_bytes, dim3((unsigned)to->blocks * FAST_ROWS), dim3(MAKE_THREADS), 0, s, x, ldx,
               w->k, *to);
}

/* ---- weights ---- */

/* What lanes look up at different places, in a block's memory. */
struct fast_tables {
    struct tables of_groups;
    uint16_t words[256]; /* ENC_FLOAT8: of a code its high and, 8 bits up, its low byte */
};

DEVICE void fast_tables_fill(const struct weight &w, struct fast_tables *t)
{
    tables_fill(w, &t->of_groups, threadIdx.x, blockDim.x);
    for (int i = threadIdx.x; i < 256 && w.encoding == ENC_FLOAT8; i += blockDim.x) {
        int high = w.high_low[0][i & 127], low = w.high_low[1][i & 127];
        high = i < 128 ? high : -high;
        low = i < 128 ? low : -low;
        t->words[i] = (uint16_t)((high & 255) | (low & 255) << 8);
    }
}

/* The factors of four codes in the nibbles of `codes`, a byte each, in the table's 16 bytes. */
DEVICE uint32_t look_up(const uint32_t t[4], uint32_t codes)
{
    uint32_t low = __byte_perm(t[0], t[1], codes & 0x7777);
    uint32_t high = __byte_perm(t[2], t[3], codes & 0x7777);
    return __byte_perm(low, high, 0x3210 | (codes >> 1 & 0x4444));
}

/* A thread's part of operand A of a chunk: rows g and g + 8, their first and their second four
 * columns; of 8-bit floats the low bytes too. */
struct factors {
    uint32_t a[4], low[4];
};

DEVICE void float8_factors(const struct fast_tables &t, uint32_t codes, uint32_t *high,
                           uint32_t *low)
{
    *high = *low = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t word = t.words[codes >> 8 * i & 255];
        *high |= (word & 255) << 8 * i;
        *low |= (word >> 8) << 8 * i;
    }
}

template <int KIND>
DEVICE struct factors factors_of(const struct weight &w, const struct fast_tables &t, int64_t tile,
                                 int64_t chunk, int lane)
{
    struct factors f;
    int64_t row = tile * TILE_ROWS + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int64_t at = (tile * (w.k_padded / TILE_K) + chunk) * 64;
        int place = 4 * (lane / 4 + 8 * i);
        if (KIND == KIND_TABLE4 || KIND == KIND_BITS4) {
            uint32_t codes =
                *(const uint32_t *)((const uint8_t *)w.data + at * 4 + 64 * (lane % 4) + place);
            if (KIND == KIND_TABLE4) {
                const uint32_t *steps = (const uint32_t *)(const void *)w.steps;
                const uint32_t table[4] = {steps[0], steps[1], steps[2], steps[3]};
                f.a[i] = look_up(table, codes & 0xffff);
                f.a[i + 2] = look_up(table, codes >> 16);
            } else {
                f.a[i] = codes & 0x0f0f0f0f;
                f.a[i + 2] = codes >> 4 & 0x0f0f0f0f;
            }
            continue;
        }
        if (KIND == KIND_BITS) {
            int64_t k = chunk * TILE_K + 8 * (lane % 4);
            f.a[i] = element_codes(w, row + 8 * i, k);
            f.a[i + 2] = element_codes(w, row + 8 * i, k + 4);
            continue;
        }
        const uint8_t *line = (const uint8_t *)w.data + at * 8 + 128 * (lane % 4) + place;
        f.a[i] = *(const uint32_t *)line;
        f.a[i + 2] = *(const uint32_t *)(line + 64);
        if (KIND == KIND_FLOAT8) {
            float8_factors(t, f.a[i], &f.a[i], &f.low[i]);
            float8_factors(t, f.a[i + 2], &f.a[i + 2], &f.low[i + 2]);
        }
    }
    return f;
}

/* Scale and zero of a row's group g, which begins at column k, as integers are brought to floats
 * by; of padding 0. */
DEVICE void group_factors(const struct weight &w, const struct fast_tables &t, int64_t row,
                          int64_t g, int64_t k, float *scale, float *zero)
{
    *scale = *zero = 0;
    if (row >= w.n)
        return;
    element_params(w, t.of_groups, row, k,
                   w.grouping == GROUPS_OF_ROWS ? g : element_group(w, row, k), scale, zero);
    if (w.encoding == ENC_TABLE4) {
        *scale *= w.step;
        *zero = w.offset;
    } else if (w.encoding == ENC_FLOAT8) {
        *scale *= w.step;
    } else if (w.rule == RULE_FACTOR) {
        *scale *= w.factor;
    }
}

/* ---- sums ---- */

/* The dots of a chunk and eight rows; mask: 0 where a thread's columns do not count. */
template <int KIND>
DEVICE void dots(const struct factors &f, const int8_t *q, uint32_t mask, int32_t out[4])
{
    const uint2 both = *(const uint2 *)(const void *)q;
    const uint32_t b[2] = {both.x & mask, both.y & mask};
    const int32_t zero[4] = {0, 0, 0, 0};
    if (KIND == KIND_TABLE4) {
        mma_signed(f.a, b, zero, out);
    } else if (KIND == KIND_FLOAT8) {
        int32_t high[4];
        mma_signed(f.a, b, zero, high);
#pragma unroll
        for (int i = 0; i < 4; i++)
            high[i] *= 128;
        mma_signed(f.low, b, high, out);
    } else {
        mma_unsigned(f.a, b, zero, out);
    }
}

/* Whether one of a block's rows has a second part of a chunk: the same for all threads. */
DEVICE bool has_second(const struct fast_x &x, int64_t block, int64_t chunk)
{
    const uint2 v =
        *(const uint2 *)(const void *)(x.has_fine + (block * x.chunks + chunk) * FAST_ROWS);
    return (v.x | v.y) != 0;
}

DEVICE const int8_t *bytes_at(const struct fast_x &x, const int8_t *array, int64_t block,
                              int64_t chunk, int lane)
{
    return array + (block * x.chunks + chunk) * FAST_ROWS * TILE_K + lane * 8;
}

DEVICE void add_dots(const int32_t dot[4], const float2 d, float acc[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        acc[i] = fmaf(i % 2 ? d.y : d.x, (float)dot[i], acc[i]);
}

/* A thread's outputs of NB blocks go on with a chunk. */
template <int KIND, int NB>
DEVICE void add_chunk(const struct factors &f, const struct fast_x &x, int64_t first, int64_t chunk,
                      uint32_t mask, int lane, float acc[NB][4])
{
#pragma unroll
    for (int b = 0; b < NB; b++) {
        if (first + b >= x.blocks)
            break;
        const float *d = x.steps + pair_at(x, first + b, chunk) + lane % 4 * 2;
        int32_t dot[4];
        dots<KIND>(f, bytes_at(x, x.coarse, first + b, chunk, lane), mask, dot);
        add_dots(dot, *(const float2 *)(const void *)d, acc[b]);
        if (has_second(x, first + b, chunk)) {
            dots<KIND>(f, bytes_at(x, x.fine, first + b, chunk, lane), mask, dot);
            add_dots(dot, *(const float2 *)(const void *)(d + FAST_ROWS), acc[b]);
        }
    }
}

/* acc of group g, which begins at column k. */
template <int KIND, int NB>
DEVICE void add_columns(const struct weight &w, const struct fast_tables &t, const struct fast_x &x,
                        int64_t tile, int64_t first, int64_t k, int lane, float acc[NB][4])
{
    int64_t end = k + x.group < w.k_padded ? k + x.group : w.k_padded;
    uint32_t mask = 0xffffffff;
    if (x.group < TILE_K && 8 * (lane % 4) / x.group != k % TILE_K / x.group)
        mask = 0;
    __syncwarp();
    for (int64_t c = k / TILE_K; c * TILE_K < end; c++) {
        const struct factors f = factors_of<KIND>(w, t, tile, c, lane);
        add_chunk<KIND, NB>(f, x, first, c, mask, lane, acc);
    }
}

/* A group's acc joins an output's total. */
DEVICE float join(const struct weight &w, float scale, float zero, float part, float acc,
                  float total)
{
    if (w.rule == RULE_FMA)
        return fmaf(zero, part, fmaf(scale, acc, total));
    return fmaf(scale, fmaf(-zero, part, acc), total);
}

/* ---- a block a tile ---- */

/* What the warps of a block leave for the outputs: of each warp acc of its group, or (LONG) the
 * dots of its chunk and of its second part. */
template <int NB, bool LONG> struct pile {
    float v[LONG ? 2 : 1][WARPS][NB * FAST_ROWS * LINE];
    float scale[WARPS][TILE_ROWS], zero[WARPS][TILE_ROWS];
};

DEVICE void leave(const float acc[4], int block, int lane, float *v)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = block * FAST_ROWS + lane % 4 * 2 + i % 2;
        v[m * LINE + lane / 4 + i / 2 * 8] = acc[i];
    }
}

/* Warp `warp`'s group. */
template <int KIND, int NB>
DEVICE void leave_group(const struct weight &w, const struct fast_tables &t, const struct fast_x &x,
                        int64_t tile, int64_t first, int64_t g, int warp, int lane,
                        struct pile<NB, false> *to)
{
    float acc[NB][4];
#pragma unroll
    for (int i = 0; i < NB * 4; i++)
        acc[i / 4][i % 4] = 0;
    add_columns<KIND, NB>(w, t, x, tile, first, g * x.group, lane, acc);
#pragma unroll
    for (int b = 0; b < NB; b++)
        leave(acc[b], b, lane, to->v[0][warp]);
    if (lane < TILE_ROWS)
        group_factors(w, t, tile * TILE_ROWS + lane, g, g * x.group, &to->scale[warp][lane],
                      &to->zero[warp][lane]);
}

/* Warp `warp`'s chunk. */
template <int KIND, int NB>
DEVICE void leave_chunk(const struct weight &w, const struct fast_tables &t, const struct fast_x &x,
                        int64_t tile, int64_t first, int64_t chunk, int warp, int lane,
                        struct pile<NB, true> *to)
{
    const struct factors f = factors_of<KIND>(w, t, tile, chunk, lane);
    __syncwarp();
#pragma unroll
    for (int b = 0; b < NB; b++) {
        if (first + b >= x.blocks)
            break;
        bool two = has_second(x, first + b, chunk);
        for (int i = 0; i < 1 + two; i++) {
            int32_t dot[4];
            float v[4];
            dots<KIND>(f, bytes_at(x, i ? x.fine : x.coarse, first + b, chunk, lane), 0xffffffff,
                       dot);
#pragma unroll
            for (int e = 0; e < 4; e++)
                v[e] = (float)dot[e];
            leave(v, b, lane, to->v[i][warp]);
        }
    }
}

/* One output: row r of the tile, row m of the blocks from `first` on. */
struct output {
    int r, m;
    float acc, total;
};

DEVICE void take_group(const struct weight &w, const struct fast_x &x, int64_t first, int64_t g,
                       const float *v, float scale, float zero, struct output *o)
{
    int64_t block = first + o->m / FAST_ROWS;
    float part = x.parts[(block * x.groups + g) * FAST_ROWS + o->m % FAST_ROWS];
    o->total = join(w, scale, zero, part, v[o->m * LINE + o->r], o->total);
}

DEVICE void take_chunk(const struct weight &w, const struct fast_tables &t, const struct fast_x &x,
                       int64_t tile, int64_t first, int64_t chunk, const float *v,
                       const float *second, struct output *o)
{
    int64_t block = first + o->m / FAST_ROWS, g = chunk * TILE_K / x.group;
    const float *d = x.steps + pair_at(x, block, chunk) + o->m % FAST_ROWS;
    o->acc = fmaf(d[0], v[o->m * LINE + o->r], o->acc);
    if (has_second(x, block, chunk))
        o->acc = fmaf(d[FAST_ROWS], second[o->m * LINE + o->r], o->acc);
    if ((chunk + 1) * TILE_K < (g + 1) * x.group && chunk + 1 < x.chunks)
        return;
    float scale, zero, part = x.parts[(block * x.groups + g) * FAST_ROWS + o->m % FAST_ROWS];
    group_factors(w, t, tile * TILE_ROWS + o->r, g, g * x.group, &scale, &zero);
    o->total = join(w, scale, zero, part, o->acc, o->total);
    o->acc = 0;
}

/* Rows of the blocks [first, first + NB). */
template <int KIND, int NB, bool LONG>
__global__ void fast_shared(GRID_CONSTANT struct weight w, struct fast_x x, struct product p,
                            int64_t first)
{
    const int outputs = (NB * FAST_ROWS * TILE_ROWS + WARPS * WARP - 1) / (WARPS * WARP);
    SHARED struct fast_tables tables;
    SHARED struct pile<NB, LONG> left;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int64_t tile = blockIdx.x, units = LONG ? x.chunks : x.groups;
    struct output o[outputs];
#pragma unroll
    for (int i = 0; i < outputs; i++) {
        int at = threadIdx.x + i * WARPS * WARP;
        o[i].r = at % TILE_ROWS;
        o[i].m = at / TILE_ROWS;
        o[i].acc = o[i].total = 0;
    }
    fast_tables_fill(w, &tables);
    __syncthreads();
    for (int64_t u = 0; u < units; u += WARPS) {
        if (u + warp < units) {
            if constexpr (LONG)
                leave_chunk<KIND, NB>(w, tables, x, tile, first, u + warp, warp, lane, &left);
            else
                leave_group<KIND, NB>(w, tables, x, tile, first, u + warp, warp, lane, &left);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < outputs; i++)
            for (int v = 0; v < WARPS && u + v < units; v++) {
                if (first * FAST_ROWS + o[i].m >= p.rows)
                    break;
                if constexpr (LONG)
                    take_chunk(w, tables, x, tile, first, u + v, left.v[0][v], left.v[1][v], &o[i]);
                else
                    take_group(w, x, first, u + v, left.v[0][v], left.scale[v][o[i].r],
                               left.zero[v][o[i].r], &o[i]);
            }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < outputs; i++) {
        int64_t row = first * FAST_ROWS + o[i].m, n = tile * TILE_ROWS + o[i].r;
        if (row < p.rows && o[i].m < NB * FAST_ROWS && n < w.n)
            finish(p, row, n, o[i].total);
    }
}

/* ---- a warp a tile ---- */

template <int KIND>
__global__ void fast_alone(GRID_CONSTANT struct weight w, struct fast_x x, struct product p)
{
    const int NB = ALONE_BLOCKS;
    SHARED struct fast_tables tables;
    int lane = threadIdx.x % WARP;
    int64_t tile = (int64_t)blockIdx.x * ALONE_WARPS + threadIdx.x / WARP;
    int64_t first = (int64_t)blockIdx.y * NB, row = tile * TILE_ROWS + lane / 4;
    float total[NB][4];
#pragma unroll
    for (int i = 0; i < NB * 4; i++)
        total[i / 4][i % 4] = 0;
    fast_tables_fill(w, &tables);
    __syncthreads();
    if (tile >= w.n_tiles)
        return;
    for (int64_t g = 0; g < x.groups; g++) {
        float acc[NB][4], scale[2], zero[2];
#pragma unroll
        for (int i = 0; i < NB * 4; i++)
            acc[i / 4][i % 4] = 0;
        add_columns<KIND, NB>(w, tables, x, tile, first, g * x.group, lane, acc);
        group_factors(w, tables, row, g, g * x.group, &scale[0], &zero[0]);
        group_factors(w, tables, row + 8, g, g * x.group, &scale[1], &zero[1]);
#pragma unroll
        for (int b = 0; b < NB; b++) {
            if (first + b >= x.blocks)
                break;
            const float *part = x.parts + ((first + b) * x.groups + g) * FAST_ROWS + lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[b][i] =
                    join(w, scale[i / 2], zero[i / 2], part[i % 2], acc[b][i], total[b][i]);
        }
    }
#pragma unroll
    for (int b = 0; b < NB; b++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t m = (first + b) * FAST_ROWS + lane % 4 * 2 + i % 2, n = row + i / 2 * 8;
            if (m < p.rows && n < w.n)
                finish(p, m, n, total[b][i]);
        }
}

/* ---- launches ---- */

template <int KIND, int NB>
static void launch_shared(struct kernels_state *s, const struct weight &w, const struct fast_x &x,
                          const struct product &p, int64_t first)
{
    dim3 grid((unsigned)w.n_tiles), block(WARPS * WARP);
    const auto kernel =
        x.group > LONG_GROUP ? fast_shared<KIND, NB, true> : fast_shared<KIND, NB, false>;
    LAUNCH(kernel, grid, block, 0, s, w, x, p, first);
}

template <int KIND>
static void launch(struct kernels_state *s, const struct weight &w, const struct fast_x &x,
                   const struct product &p)
{
    int64_t columns = (w.n_tiles + ALONE_WARPS - 1) / ALONE_WARPS;
    int64_t rows = (x.blocks + ALONE_BLOCKS - 1) / ALONE_BLOCKS;
    if (x.blocks > SHARED_MOST && columns * rows >= 2 * s->processors) {
        LAUNCH(fast_alone<KIND>, dim3((unsigned)columns, (unsigned)rows), dim3(ALONE_WARPS * WARP),
               0, s, w, x, p);
        return;
    }
    for (int64_t first = 0; first < x.blocks; first += SHARED_MOST) {
        if (x.blocks - first > 2)
            launch_shared<KIND, SHARED_MOST>(s, w, x, p, first);
        else if (x.blocks - first == 2)
            launch_shared<KIND, 2>(s, w, x, p, first);
        else
            launch_shared<KIND, 1>(s, w, x, p, first);
    }
}

void fast_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct fast_x *x,
                        const struct product *p)
{
    if (w->encoding == ENC_TABLE4)
        launch<KIND_TABLE4>(s, *w, *x, *p);
    else if (w->encoding == ENC_FLOAT8)
        launch<KIND_FLOAT8>(s, *w, *x, *p);
    else if (w->bits == 4)
        launch<KIND_BITS4>(s, *w, *x, *p);
    else if (w->bits == 8)
        launch<KIND_BITS8>(s, *w, *x, *p);
    else
        launch<KIND_BITS>(s, *w, *x, *p);
}
