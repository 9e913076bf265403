/*
 * Owns attention over the paged keys and values on a device. What a row gets is
 * defined at the head of attention.c, in which order too. The order leaves room: spans of 1024 keys
 * are summed by blocks of their own, and whatever reads the same keys may read them together. So a
 * block of threads has a tile: a kv head, a span, and Q queries, which are the query heads of that
 * kv head, row by row, of up to 32 rows of one sequence that begin found side by side (kv_cuda.cu).
 * For every 64 keys of the span that one of them sees (attend_cuda.cuh)
 *
 *   K          is laid out in the block's memory once, as floats (bytes: as words of four), as many
 *              elements of the 64 keys at a time as there is room for
 *   scores     a thread has four queries times up to four keys; their chains go on from one part of
 *              the elements to the next
 *   softmax    16 lanes of keys a query, which up to 16 threads have, for all blocks of the span
 *   V          is laid out like K, as many keys at a time as there is room for, over it
 *   o          a thread has four queries times up to eight elements, in registers for all the span
 *
 * A query has its own [from, end): what it does not see is a share below 0, which is passed by, and
 * a block of keys of which it sees nothing leaves all that it has. Of bytes both products are sums
 * of words: two 16-bit ones of a query, or of its shares, with two bytes an instruction.
 *
 *   Q          32 up to 128 elements a head, 16 up to 256, 8 up to 512, 4 up to 1024; fewer where a
 *              tile has fewer queries, as one row has
 *
 * Rows by themselves (decode) go in one launch, the others in a second one. Rows that see one span
 * are done then; others leave parts, which a further launch adds in order.
 *
 * Roofline: a tile reads 8 bytes of keys and values (4 of halves, 2 of bytes) for each key and
 * element and does 4 operations with them for each query: 16 a byte with 32 queries (32, 64), 0.5
 * with one. An H100 does 20 while its memory gives a byte, and the tiles of a sequence read their
 * keys from its second cache once one of them has: prefill is bound by arithmetic, decode by the
 * memory. From the block's own memory a warp reads for 16 fma 3 times 128 bytes, which takes 3
 * cycles where the fma take 4; of bytes, for 32 sums of two products, 4 times. Not measured: this
 * was never run on a device.
 */
#include "backends/kernels/attend_cuda.cuh"

#define ATTEND_WORDS 11264 /* 32-bit words of a block's memory, but for struct tile */
#define STAGE_WORDS  4096  /* of them for keys or values, of 16 queries or more */

/* ---- a block of threads ---- */

/* What every query sees, and what some query does; nothing: there is no work. */
template <int Q>
DEVICE bool find_keys(const struct attend &a, const struct queries &qs, tile<Q> &m,
                      struct keys &all, struct keys &any)
{
    int t = threadIdx.x;
    struct keys none = {0, 0};
    if (qs.n <= 0)
        return false;
    if (t < Q) {
        m.seen[t] = t < qs.n ? keys_of(a, row_of(qs, t), (int)blockIdx.z) : none;
        m.slope[t] = t < qs.n && a.alibi ? a.alibi[head_of(qs, t)] : 0;
    }
    __syncthreads();
    all.from = any.end = 0;
    all.end = any.from = INT32_MAX;
    for (int i = 0; i < qs.n; i++) {
        const struct keys k = m.seen[i];
        all.from = k.from > all.from ? k.from : all.from;
        all.end = k.end < all.end ? k.end : all.end;
        if (k.from >= k.end)
            continue;
        any.from = k.from < any.from ? k.from : any.from;
        any.end = k.end > any.end ? k.end : any.end;
    }
    return any.from < any.end;
}

/* The pages of the keys at b of which somebody sees `in`; bytes: and their steps. */
template <typename T, int Q>
DEVICE void find_block(const struct attend &a, const struct queries &qs, tile<Q> &m,
                       const struct keys &in, int32_t b)
{
    int t = threadIdx.x, key = t * KV_PAGE;
    if (t < BLOCK_PAGES && key < in.end && key + KV_PAGE > in.from)
        m.page[t] = page_at(a.kv, a.rows, a.layer, qs.row, qs.kv_head, b + key);
    __syncthreads();
    if (staged<T>::PER == 4 && sees(in, t)) {
        m.key_step[t] = step_of(a.kv, (const char *)a.kv.k + m.page[t / KV_PAGE], t % KV_PAGE);
        m.value_step[t] = step_of(a.kv, (const char *)a.kv.v + m.page[t / KV_PAGE], t % KV_PAGE);
    }
}

/* The sums over the lanes, to m.total, and the largest scores, to m.most. */
template <int Q, int N> DEVICE void finish(const softmax<N> &x, float *p, tile<Q> &m)
{
    float *lanes = p + threadIdx.x * SHARE_STEP;
    __syncthreads();
#pragma unroll
    for (int l = 0; l < N; l++)
        if (x.query < Q)
            p[x.query * SHARE_STEP + x.lane + l] = x.sum[l];
    if (x.query < Q && x.lane == 0)
        m.most[x.query] = x.max;
    __syncthreads();
    if (threadIdx.x < Q) {
        m.total[threadIdx.x] = device_sum_of_lanes(lanes);
    }
    __syncthreads();
}

/* To out, or as parts. */
template <int Q>
DEVICE void put(const struct attend &a, const struct queries &qs, const tile<Q> &m,
                float o[shape<Q>::RUNS][4][shape<Q>::WIDE])
{
    enum { N = shape<Q>::WIDE, STEP = shape<Q>::VALUE_THREADS * N };
    int query = threadIdx.x / shape<Q>::VALUE_THREADS * 4;
    int32_t first = threadIdx.x % shape<Q>::VALUE_THREADS * N, dim = a.kv.head_dim;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (query + i >= qs.n || m.seen[query + i].from >= m.seen[query + i].end)
            continue;
        int32_t row = row_of(qs, query + i), head = head_of(qs, query + i);
        int64_t index = ((int64_t)blockIdx.y * a.most + row - qs.row) * a.heads + head;
        float *part = a.parts ? a.parts + (index * a.spans + blockIdx.z) * (dim + 2) : NULL;
        float *to = part ? part : a.out + row * a.ldo + (int64_t)head * dim;
        float total = m.total[query + i];
#pragma unroll
        for (int e = 0; e < 8; e++)
            if (first + e / N * STEP + e % N < dim)
                to[first + e / N * STEP + e % N] =
                    part ? o[e / N][i][e % N] : o[e / N][i][e % N] / total;
        if (part && first == 0) {
            part[dim] = m.most[query + i];
            part[dim + 1] = total;
        }
    }
}

/* Words of Q queries. */
template <typename T> static __host__ __device__ inline int32_t query_words(int32_t head_dim, int q)
{
    return (head_dim + 3) / 4 * 4 / staged<T>::PER * staged<T>::TERMS * q;
}

/* A block: x a kv head and a piece of its queries, y a tile, z a span. */
template <typename T, int Q>
__global__ void __launch_bounds__(ATTEND_THREADS, staged<T>::PER == 1 && Q >= 16 ? 4 : 3)
    attend(GRID_CONSTANT struct attend a)
{
    enum { LANES = shape<Q>::KEYS, N = shape<Q>::WIDE, PER = staged<T>::PER };
    SHARED tile<Q> m;
    DYNAMIC(memory);
    const struct queries qs = queries_of(a, Q);
    struct keys all, any;
    T *q = (T *)memory;
    float *p = memory + query_words<T>(a.kv.head_dim, Q), o[shape<Q>::RUNS][4][N];
    T *stage = (T *)(p + Q * SHARE_STEP);
    softmax<LANES> x = {};
    static_assert(sizeof m + ATTEND_WORDS * sizeof(float) <= 48 << 10, "a block's memory");
    if (!find_keys(a, qs, m, all, any))
        return; // for all threads
    x.query = (int)threadIdx.x / shape<Q>::LANE_THREADS;
    x.lane = (int)threadIdx.x % shape<Q>::LANE_THREADS * LANES;
    x.max = -INFINITY;
    if (x.query < Q)
        x.seen = m.seen[x.query];
    take_queries(a, qs, m, q);
#pragma unroll
    for (int i = 0; i < 32; i++)
        o[i / 4 / N][i % 4][i / 4 % N] = 0;
    for (int32_t b = any.from - any.from % ATTENTION_BLOCK; b < any.end; b += ATTENTION_BLOCK) {
        const struct keys in = {any.from > b ? any.from - b : 0,
                                any.end - b < ATTENTION_BLOCK ? any.end - b : ATTENTION_BLOCK};
        const struct keys rows = {PER == 4 ? in.from / 4 : in.from / 4 * 4,
                                  PER == 4 ? (in.end + 3) / 4 : in.end};
        int32_t most = value_rows<T>(a), n = rows.end - rows.from;
        bool whole = all.from <= b && all.end >= b + ATTENTION_BLOCK;
        find_block<T>(a, qs, m, in, b);
        score_block<T, Q>(a, qs, m, in, b, q, p, stage);
        stage_values<shape<Q>::AT_ONCE>(a, m.page, rows.from, n < most ? n : most, stage);
        softmax_most<T>(x, p, b, m);
        __syncthreads();
        softmax_shares<T>(x, p, b, m);
        __syncthreads();
        add_block(a, qs, m, rows, whole, (const T *)p, stage, o);
    }
    finish(x, p, m);
    put(a, qs, m, o);
}

/* A thread an element of the heads of a tile's rows: their parts, in order. */
__global__ void combine(GRID_CONSTANT struct attend a, int64_t threads)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= threads)
        return;
    int32_t dim = a.kv.head_dim, i = (int32_t)(at % dim), head = (int32_t)(at / dim % a.heads);
    int64_t index = at / dim / a.heads;
    const struct row_tile tile = a.rows.tiles[a.tile + index / a.most];
    int32_t within_tile = a.first + (int32_t)(index % a.most), row = tile.row + within_tile;
    if (within_tile >= tile.rows)
        return;
    const float *part = a.parts + (index * a.heads + head) * a.spans * (dim + 2);
    float o = 0, max = 0, sum = 0;
    bool first = true;
    for (int32_t span = 0; span < a.spans; span++, part += dim + 2) {
        const struct keys seen = keys_of(a, row, span);
        if (seen.from >= seen.end)
            continue;
        if (first) {
            o = part[i];
            max = part[dim];
            sum = part[dim + 1];
            first = false;
            continue;
        }
        float m = special_max(max, part[dim]);
        float c = special_exp(max - m), d = special_exp(part[dim] - m);
        o = o * c + part[i] * d;
        sum = sum * c + part[dim + 1] * d;
        max = m;
    }
    a.out[row * a.ldo + (int64_t)head * dim + i] = o / sum;
}

/* ---- launches ---- */

template <typename T, int Q>
static void launch_shape(struct kernels_state *s, struct attend a, int32_t tiles)
{
    int32_t group = a.heads / a.kv.kv_heads, pieces = (a.most * group + Q - 1) / Q;
    int32_t words = query_words<T>(a.kv.head_dim, Q) + Q * SHARE_STEP;
    int32_t whole = ATTENTION_BLOCK * ((a.kv.head_dim + 3) / 4 * 4) / staged<T>::PER;
    a.stage = Q >= 16 ? STAGE_WORDS : ATTEND_WORDS - words;
    a.stage = a.stage < whole ? a.stage : whole;
    auto *kernel = attend<T, Q>;
    LAUNCH(kernel, dim3((unsigned)(a.kv.kv_heads * pieces), (unsigned)tiles, (unsigned)a.spans),
           dim3(ATTEND_THREADS), (size_t)(words + a.stage) * sizeof(float), s, a);
}

template <int Q>
static void launch_queries(struct kernels_state *s, const struct attend &a, int32_t tiles)
{
    if (a.kv.dtype == DT_I8)
        launch_shape<int32_t, Q>(s, a, tiles);
    else
        launch_shape<float, Q>(s, a, tiles);
}

static void launch_tiles(struct kernels_state *s, const struct attend &a, int32_t tiles)
{
    int32_t queries = a.most * (a.heads / a.kv.kv_heads), dim = a.kv.head_dim;
    if (queries > 16 && dim <= 128)
        launch_queries<32>(s, a, tiles);
    else if (queries > 8 && dim <= 256)
        launch_queries<16>(s, a, tiles);
    else if (queries > 4 && dim <= 512)
        launch_queries<8>(s, a, tiles);
    else
        launch_queries<4>(s, a, tiles);
}

/* Tiles [tile, tile + n) of up to `rows` rows, of which `room` rows have parts at once. */
static void run_tiles(struct kernels_state *s, struct attend a, int32_t tile, int32_t n,
                      int32_t rows, int64_t room)
{
    a.most = rows < room ? rows : (int32_t)room;
    int64_t at_once = room / a.most < 32768 ? room / a.most : 32768;
    for (a.first = 0; a.first < rows; a.first += a.most)
        for (a.tile = tile; a.tile < tile + n; a.tile += (int32_t)at_once) {
            int64_t left = tile + n - a.tile, tiles = left < at_once ? left : at_once;
            int64_t threads = tiles * a.most * a.heads * a.kv.head_dim;
            launch_tiles(s, a, (int32_t)tiles);
            if (a.parts)
                LAUNCH_FREE(combine, device_grid(threads), dim3(THREADS), 0, s, a, threads);
        }
}

void attention_cuda_run(const struct kernels *self, const struct attention_args *args)
{
    struct kernels_state *s = self->state;
    if (!kv_cuda_has(self, args->rows))
        return;
    const struct pass_rows *pass = &s->pass;
    int32_t spans = (pass->last + ATTENTION_SPAN - 1) / ATTENTION_SPAN;
    size_t row_bytes =
        (size_t)args->heads * (size_t)spans * (size_t)(args->kv->head_dim + 2) * sizeof(float);
    int64_t room = spans > 1 ? (int64_t)(PARTS_BYTES / row_bytes) : INT32_MAX;
    struct attend a = {};
    a.kv = *args->kv;
    a.rows = *pass;
    a.q = args->q;
    a.alibi = args->alibi;
    a.out = args->out;
    a.parts = spans > 1 ? s->parts : NULL;
    a.ldq = args->ldq;
    a.ldo = args->ldo;
    a.layer = args->layer;
    a.heads = args->heads;
    a.spans = spans;
    a.window = args->window;
    a.scale = args->scale;
    a.softcap = args->softcap;
    device_enter(s);
    if (room < 1) {
        device_note(s, cudaErrorMemoryAllocation, "attention: a row has too many spans");
    } else {
        run_tiles(s, a, 0, pass->singles, 1, room);
        run_tiles(s, a, args->rows->rows - pass->others, pass->others, pass->most, room);
    }
    device_leave(s, "attention");
}
