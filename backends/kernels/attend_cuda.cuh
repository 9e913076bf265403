/* What a block of threads of attention does with its tile (attention_cuda.cu). */
#ifndef OFTD_BACKENDS_KERNELS_ATTEND_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_ATTEND_CUDA_CUH

#include "backends/kernels/kv_cuda.cuh"
#include "backends/kernels/special_cuda.cuh"

#define ATTEND_THREADS 128
#define BLOCK_PAGES    (ATTENTION_BLOCK / KV_PAGE)
#define SHARE_STEP     (ATTENTION_BLOCK + 4) /* floats from one query's shares to the next's */

/* ---- a tile ---- */

struct attend {
    struct kv kv;
    struct pass_rows rows;
    const float *q, *alibi;
    float *out, *parts; /* parts NULL: every row sees one span */
    int64_t ldq, ldo;
    int32_t layer, heads, spans, window;
    int32_t tile;        /* of the first blocks */
    int32_t first, most; /* rows [first, first + most) of each tile */
    int32_t stage;       /* words that keys or values are laid out in */
    float scale, softcap;
};

/* What is seen of a span: [from, end). */
struct keys {
    int32_t from, end;
};

DEVICE struct keys keys_of(const struct attend &a, int row, int span)
{
    int32_t pos = a.rows.positions[row], end = a.rows.ends[row];
    int32_t first = a.window > 0 && pos >= a.window ? pos - a.window + 1 : 0;
    int32_t from = span * ATTENTION_SPAN, to = from + ATTENTION_SPAN;
    struct keys k = {from < first ? first : from, end < to ? end : to};
    return k;
}

DEVICE bool sees(const struct keys &k, int32_t j)
{
    return j >= k.from && j < k.end;
}

/* The queries of a block of threads: the group's heads of a row, then of the next. */
struct queries {
    int32_t row, kv_head, group, first, n;
};

DEVICE struct queries queries_of(const struct attend &a, int32_t most)
{
    const struct row_tile tile = a.rows.tiles[a.tile + (int)blockIdx.y];
    int32_t group = a.heads / a.kv.kv_heads, pieces = (int32_t)gridDim.x / a.kv.kv_heads;
    int32_t rows = tile.rows - a.first < a.most ? tile.rows - a.first : a.most;
    int32_t piece = (int32_t)blockIdx.x % pieces, left = rows * group - piece * most;
    struct queries q = {tile.row + a.first, (int32_t)blockIdx.x / pieces, group, piece * most,
                        left < most ? left : most};
    return q;
}
DEVICE int32_t row_of(const struct queries &q, int i)
{
    return q.row + (q.first + i) / q.group;
}
DEVICE int32_t head_of(const struct queries &q, int i)
{
    return q.kv_head * q.group + (q.first + i) % q.group;
}

/* What the threads tell each other of Q queries, and of 64 keys. */
template <int Q> struct tile {
    struct keys seen[Q];
    float slope[Q], query_step[Q];
    float change[Q]; /* exp(m - m') */
    float unit[Q];   /* what a word of the shares is worth; below 0: nothing is seen */
    float total[Q];  /* the sum of shares */
    float most[ATTEND_THREADS], step[ATTEND_THREADS];
    size_t page[BLOCK_PAGES]; /* from the start of k and of v */
    float key_step[ATTENTION_BLOCK], value_step[ATTENTION_BLOCK];
};

/* How Q queries are shared by the threads. */
template <int Q> struct shape {
    enum {
        KEYS = Q >= 8 ? Q / 8 : 1,              /* of a thread's scores; lanes of its softmax */
        KEY_THREADS = ATTENTION_BLOCK / KEYS,   /* ... of four queries */
        LANE_THREADS = 16 / KEYS,               /* ... of a query */
        VALUE_THREADS = ATTEND_THREADS * 4 / Q, /* that add values of four queries */
        WIDE = Q >= 16 ? 4 : 1,                 /* elements side by side of a thread */
        RUNS = 8 / WIDE,                        /* of such elements */
        AT_ONCE = Q <= 8 ? 8 : 64 / Q           /* loads of a thread */
    };
};

/* What is laid out: floats, or words of four bytes. PER: elements of a key, or keys of an element,
 * that one has; TERMS: words of a query, or of its shares, that it is multiplied with. */
template <typename T> struct staged {
    enum { PER = 1, TERMS = 1 };
};
template <> struct staged<int32_t> {
    enum { PER = 4, TERMS = 2 };
};

/* Neighbours that are loaded at once. */
template <typename T, int N> struct alignas(sizeof(T) * N) pack {
    T v[N];
};

template <int N, typename T> DEVICE pack<T, N> load(const T *at)
{
    return *(const pack<T, N> *)at;
}

template <int N, typename T> DEVICE void keep(T *at, const pack<T, N> &x)
{
    *(pack<T, N> *)at = x;
}

/* ---- queries ---- */

/* q [dim][Q] */
template <int Q>
DEVICE void take_queries(const struct attend &a, const struct queries &qs, tile<Q> &, float *q)
{
    int t = threadIdx.x, i = t % Q;
    const float *x =
        a.q + row_of(qs, i < qs.n ? i : 0) * a.ldq + (int64_t)head_of(qs, i) * a.kv.head_dim;
    for (int32_t e = t / Q; e < a.kv.head_dim; e += ATTEND_THREADS / Q)
        q[e * Q + i] = i < qs.n ? x[e] : 0;
}

DEVICE int32_t words(float low, float high)
{
    return (int32_t)((uint32_t)(int32_t)high << 16 | (uint16_t)(int32_t)low);
}

/* Bytes: words, elements 0 and 2, and 1 and 3, of each four: q [fours / 2][Q]. */
template <int Q>
DEVICE void take_queries(const struct attend &a, const struct queries &qs, tile<Q> &m, int32_t *q)
{
    int t = threadIdx.x, i = t % Q;
    int32_t dim = a.kv.head_dim, n = i < qs.n ? dim : 0;
    const float *x = a.q + row_of(qs, i < qs.n ? i : 0) * a.ldq + (int64_t)head_of(qs, i) * dim;
    float peak = 0;
    for (int32_t e = t / Q; e < n; e += ATTEND_THREADS / Q)
        peak = device_larger(peak, x[e]);
    m.most[t] = peak;
    __syncthreads();
    for (int other = i; other < ATTEND_THREADS; other += Q)
        peak = device_larger(peak, m.most[other]);
    float step = peak < KV_LEAST_PEAK ? 0 : peak / QUERY_PEAK, times = QUERY_PEAK / peak;
    if (t < Q)
        m.query_step[t] = step;
    n = step > 0 ? n : 0;
    for (int32_t pair = t / Q; pair < fours(dim) / 2; pair += ATTEND_THREADS / Q) {
        int32_t e = pair / 2 * 4 + pair % 2;
        q[pair * Q + i] =
            words(e < n ? rintf(x[e] * times) : 0, e + 2 < n ? rintf(x[e + 2] * times) : 0);
    }
}

/* ---- laying out keys and values ---- */

/* Four as they are stored, as they are multiplied. */
DEVICE pack<float, 4> given(const pack<float, 4> &x)
{
    return x;
}
DEVICE pack<int32_t, 4> given(const pack<int32_t, 4> &x)
{
    return x;
}
DEVICE pack<float, 4> given(const pack<uint16_t, 4> &x)
{
    pack<float, 4> y;
#pragma unroll
    for (int i = 0; i < 4; i++)
        y.v[i] = device_of_f16(x.v[i]);
    return y;
}

/* Rows [row, row + rows) of K, an element or four of all keys, to stage [rows][ATTENTION_BLOCK]; S
 * is stored. in: the keys of the block that somebody sees. */
template <int AT_ONCE, typename S, typename T>
DEVICE void lay_keys(const struct attend &a, const size_t *pages, const struct keys &in,
                     int32_t row, int32_t rows, T *stage)
{
    const int32_t across = ATTENTION_BLOCK / 4, down = ATTEND_THREADS / across;
    int at = threadIdx.x % across, page = at * 4 / KV_PAGE;
    if (page * KV_PAGE >= in.end || (page + 1) * KV_PAGE <= in.from)
        return;
    const S *from =
        (const S *)((const char *)a.kv.k + pages[page]) + row * KV_PAGE + at * 4 % KV_PAGE;
    for (int32_t r = threadIdx.x / across; r < rows; r += AT_ONCE * down) {
        pack<S, 4> x[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (r + i * down < rows)
                x[i] = load<4>(from + (r + i * down) * KV_PAGE);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (r + i * down < rows)
                keep<4>(stage + (r + i * down) * ATTENTION_BLOCK + at * 4, given(x[i]));
    }
}

template <int AT_ONCE>
DEVICE void stage_keys(const struct attend &a, const size_t *pages, const struct keys &in,
                       int32_t row, int32_t rows, float *stage)
{
    if (a.kv.dtype == DT_F16)
        lay_keys<AT_ONCE, uint16_t>(a, pages, in, row, rows, stage);
    else
        lay_keys<AT_ONCE, float>(a, pages, in, row, rows, stage);
}
template <int AT_ONCE>
DEVICE void stage_keys(const struct attend &a, const size_t *pages, const struct keys &in,
                       int32_t row, int32_t rows, int32_t *stage)
{
    lay_keys<AT_ONCE, int32_t>(a, pages, in, row, rows, stage);
}

/* Rows of V that there is room for: a row is a key's, or of four. */
template <typename T> DEVICE int32_t value_rows(const struct attend &a)
{
    int32_t rows = a.stage / fours(a.kv.head_dim);
    return staged<T>::PER == 1 ? rows / 4 * 4 : rows;
}

/* Row `row` of V, counted from the block's first key. */
template <typename S, typename T>
DEVICE const S *value_row(const struct attend &a, const size_t *pages, int32_t row, const T *)
{
    const int32_t per_page = KV_PAGE / staged<T>::PER;
    const char *page = (const char *)a.kv.v + pages[row / per_page];
    return (const S *)page + row % per_page * a.kv.head_dim;
}

/* Rows [row, row + rows) of V to stage [rows][fours]. */
template <int AT_ONCE, typename S, typename T>
DEVICE void lay_values(const struct attend &a, const size_t *pages, int32_t row, int32_t rows,
                       T *stage)
{
    const int32_t n = fours(a.kv.head_dim) / 4, all = rows * n;
    const int32_t down = ATTEND_THREADS / n, right = ATTEND_THREADS % n;
    int32_t r = threadIdx.x / n, e = threadIdx.x % n;
    for (int32_t u = threadIdx.x; u < all; u += AT_ONCE * ATTEND_THREADS) {
        pack<S, 4> x[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            if (u + i * ATTEND_THREADS < all)
                x[i] = load<4>(value_row<S>(a, pages, row + r, stage) + e * 4);
            r += e + right >= n ? down + 1 : down;
            e = e + right >= n ? e + right - n : e + right;
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (u + i * ATTEND_THREADS < all)
                keep<4>(stage + (u + i * ATTEND_THREADS) * 4, given(x[i]));
    }
}

/* The same where rows are no multiples of four, and so may begin anywhere. */
template <typename S, typename T>
DEVICE void lay_odd_values(const struct attend &a, const size_t *pages, int32_t row, int32_t rows,
                           T *stage)
{
    const int32_t dim = a.kv.head_dim, ld = fours(dim);
    for (int32_t u = threadIdx.x; u < rows * ld; u += ATTEND_THREADS) {
        int32_t e = u % ld;
        pack<S, 4> four = {};
        if (e < dim)
            four.v[0] = value_row<S>(a, pages, row + u / ld, stage)[e];
        stage[u] = given(four).v[0];
    }
}

template <int AT_ONCE, typename S, typename T>
DEVICE void lay_any_values(const struct attend &a, const size_t *pages, int32_t row, int32_t rows,
                           T *stage)
{
    if (a.kv.head_dim % 4)
        lay_odd_values<S>(a, pages, row, rows, stage);
    else
        lay_values<AT_ONCE, S>(a, pages, row, rows, stage);
}

template <int AT_ONCE>
DEVICE void stage_values(const struct attend &a, const size_t *pages, int32_t row, int32_t rows,
                         float *stage)
{
    if (a.kv.dtype == DT_F16)
        lay_any_values<AT_ONCE, uint16_t>(a, pages, row, rows, stage);
    else
        lay_any_values<AT_ONCE, float>(a, pages, row, rows, stage);
}
template <int AT_ONCE>
DEVICE void stage_values(const struct attend &a, const size_t *pages, int32_t row, int32_t rows,
                         int32_t *stage)
{
    lay_any_values<AT_ONCE, int32_t>(a, pages, row, rows, stage);
}

/* ---- scores ---- */

/* Goes on with the products of four queries and N keys over some elements: q [rows][Q], k
 * [rows][ATTENTION_BLOCK]. */
template <int Q, int N>
DEVICE void multiply(const float *q, const float *k, int32_t rows, float acc[4][N])
{
#pragma unroll 4
    for (int32_t i = 0; i < rows; i++) {
        const pack<float, 4> x = load<4>(q + i * Q);
        const pack<float, N> y = load<N>(k + i * ATTENTION_BLOCK);
#pragma unroll
        for (int j = 0; j < 4 * N; j++)
            acc[j / N][j % N] = fmaf(x.v[j / N], y.v[j % N], acc[j / N][j % N]);
    }
}

template <int Q, int N>
DEVICE void multiply(const int32_t *q, const int32_t *k, int32_t rows, int32_t acc[4][N])
{
#pragma unroll 4
    for (int32_t i = 0; i < rows; i++) {
        const pack<int32_t, 4> even = load<4>(q + 2 * i * Q), odd = load<4>(q + (2 * i + 1) * Q);
        const pack<int32_t, N> y = load<N>(k + i * ATTENTION_BLOCK);
#pragma unroll
        for (int j = 0; j < 4 * N; j++)
            acc[j / N][j % N] = __dp2a_hi(odd.v[j / N], y.v[j % N],
                                          __dp2a_lo(even.v[j / N], y.v[j % N], acc[j / N][j % N]));
    }
}

DEVICE float product(float sum, float, float)
{
    return sum;
}
DEVICE float product(int32_t sum, float key_step, float query_step)
{
    return (float)sum * key_step * query_step;
}

DEVICE float score(const struct attend &a, float s, float slope, int32_t j)
{
    if (a.alibi)
        s += device_round(slope * device_round((float)j, DT_BF16), DT_BF16);
    s *= a.scale;
    return a.softcap != 0 ? a.softcap * special_tanh(s / a.softcap) : s;
}

/* All scores of the block of keys at b, to p [Q][SHARE_STEP]. */
template <typename T, int Q>
DEVICE void score_block(const struct attend &a, const struct queries &qs, const tile<Q> &m,
                        const struct keys &in, int32_t b, const T *q, float *p, T *stage)
{
    enum { N = shape<Q>::KEYS, PER = staged<T>::PER };
    int query = threadIdx.x / shape<Q>::KEY_THREADS * 4;
    int key = threadIdx.x % shape<Q>::KEY_THREADS * N;
    int32_t rows = (a.kv.head_dim + PER - 1) / PER, most = a.stage / ATTENTION_BLOCK;
    T acc[4][N];
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        acc[i / N][i % N] = 0;
    for (int32_t row = 0; row < rows; row += most) {
        int32_t n = rows - row < most ? rows - row : most;
        stage_keys<shape<Q>::AT_ONCE>(a, m.page, in, row, n, stage);
        __syncthreads();
        if (query < qs.n)
            multiply<Q, N>(q + row * staged<T>::TERMS * Q + query, stage + key, n, acc);
        if (row + n < rows)
            __syncthreads();
    }
    if (query < qs.n)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            pack<float, N> s;
#pragma unroll
            for (int k = 0; k < N; k++)
                s.v[k] = score(a, product(acc[i][k], m.key_step[key + k], m.query_step[query + i]),
                               m.slope[query + i], b + key + k);
            keep<N>(p + (query + i) * SHARE_STEP + key, s);
        }
    __syncthreads();
}

/* ---- softmax ---- */

/* What a thread keeps of a query: lanes [lane, lane + LANES) of its sums. */
template <int LANES> struct softmax {
    int32_t query, lane;
    struct keys seen;
    float max, sum[LANES], s[4][LANES]; /* s: the block's scores of these lanes */
};

/* The block's scores, and the largest of those seen, to m.most; bytes: of the values' steps too. */
template <typename T, int Q, int N>
DEVICE void softmax_most(softmax<N> &x, const float *p, int32_t b, tile<Q> &m)
{
    float most = -INFINITY, step = 0;
    if (x.query >= Q)
        return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int key = i * 16 + x.lane;
        const pack<float, N> s = load<N>(p + x.query * SHARE_STEP + key);
#pragma unroll
        for (int l = 0; l < N; l++) {
            x.s[i][l] = s.v[l];
            if (!sees(x.seen, b + key + l))
                continue;
            most = special_max(most, s.v[l]);
            if (staged<T>::PER == 4)
                step = device_larger(step, m.value_step[key + l]);
        }
    }
    m.most[threadIdx.x] = most;
    m.step[threadIdx.x] = step;
}

/* A block's shares, whose largest is share, as they are multiplied. */
template <int Q, int N>
DEVICE void put_shares(const softmax<N> &x, float, int32_t b, tile<Q> &, float *p)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pack<float, N> s;
#pragma unroll
        for (int l = 0; l < N; l++)
            s.v[l] = sees(x.seen, b + i * 16 + x.lane + l) ? x.s[i][l] : -1;
        keep<N>(p + x.query * SHARE_STEP + i * 16 + x.lane, s);
    }
}

/* Bytes: words of the keys 0 and 2, and 1 and 3, of each four. */
template <int Q, int N>
DEVICE void put_shares(const softmax<N> &x, float share, int32_t b, tile<Q> &m, int32_t *p)
{
    int16_t *to = (int16_t *)(p + x.query * SHARE_STEP);
    float step = 0;
    for (int i = 0; i < 16 / N; i++)
        step = device_larger(step, m.step[x.query * (16 / N) + i]);
    float peak = share * step, unit = peak < KV_LEAST_PEAK ? 0 : peak / SHARE_PEAK;
#pragma unroll
    for (int i = 0; i < 4 * N; i++) {
        int key = i / N * 16 + x.lane + i % N;
        float w = x.s[i / N][i % N] * m.value_step[key] * (SHARE_PEAK / peak);
        bool is = sees(x.seen, b + key) && unit > 0 && w == w;
        to[key / 4 * 4 + within(key)] = is ? (int16_t)rintf(w) : 0;
    }
    if (x.lane == 0)
        m.unit[x.query] = unit;
}

/* A block that the query sees nothing of. */
template <int Q, int N> DEVICE void put_nothing(const softmax<N> &x, tile<Q> &m, float *p)
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        p[x.query * SHARE_STEP + i / N * 16 + x.lane + i % N] = -1;
    if (x.lane == 0) {
        m.change[x.query] = 1;
        m.unit[x.query] = -1;
    }
}

/* Goes on with max and sum, and puts what the values are multiplied with to p. */
template <typename T, int Q, int N>
DEVICE void softmax_shares(softmax<N> &x, float *p, int32_t b, tile<Q> &m)
{
    float most = -INFINITY, before = x.max;
    if (x.query >= Q)
        return;
    if (x.seen.from >= x.seen.end || x.seen.from >= b + ATTENTION_BLOCK || x.seen.end <= b) {
        put_nothing(x, m, p);
        return;
    }
    for (int i = 0; i < 16 / N; i++)
        most = special_max(most, m.most[x.query * (16 / N) + i]);
    x.max = special_max(before, most);
    float c = special_exp(before - x.max);
#pragma unroll
    for (int l = 0; l < N; l++)
        x.sum[l] *= c;
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        if (sees(x.seen, b + i / N * 16 + x.lane + i % N)) {
            x.s[i / N][i % N] = special_exp(x.s[i / N][i % N] - x.max);
            x.sum[i % N] += x.s[i / N][i % N];
        }
    if (x.lane == 0)
        m.change[x.query] = c;
    put_shares(x, special_exp(most - x.max), b, m, (T *)p);
}

/* ---- values ---- */

/* acc [4 queries][N elements] goes on with `rows` keys: p [4][SHARE_STEP], v [rows][ld]. WHOLE: all
 * queries see all of them. */
template <bool WHOLE, int N>
DEVICE void add_values(const float *p, const float *v, int32_t ld, int32_t rows, float acc[4][N])
{
    for (int32_t j = 0; j < rows; j += 4) {
        pack<float, 4> w[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[i] = load<4>(p + i * SHARE_STEP + j);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const pack<float, N> x = load<N>(v + (j + k) * ld);
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (WHOLE || !(w[i].v[k] < 0))
#pragma unroll
                    for (int e = 0; e < N; e++)
                        acc[i][e] = fmaf(w[i].v[k], x.v[e], acc[i][e]);
        }
    }
}

/* Bytes: rows of four keys; a word of what is not seen is 0. */
template <bool WHOLE, int N>
DEVICE void add_values(const int32_t *p, const int32_t *v, int32_t ld, int32_t rows,
                       int32_t acc[4][N])
{
#pragma unroll 2
    for (int32_t j = 0; j < rows; j++) {
        const pack<int32_t, N> x = load<N>(v + j * ld);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const pack<int32_t, 2> w = load<2>(p + i * SHARE_STEP + 2 * j);
#pragma unroll
            for (int e = 0; e < N; e++)
                acc[i][e] = __dp2a_hi(w.v[1], x.v[e], __dp2a_lo(w.v[0], x.v[e], acc[i][e]));
        }
    }
}

/* acc goes on with the block's keys that rows [rows.from, rows.end) of V have; the first of them
 * are laid out already. */
template <typename T, int Q>
DEVICE void add_rows(const struct attend &a, const struct queries &qs, const tile<Q> &m,
                     const struct keys &rows, bool whole, const T *p, T *stage,
                     T acc[shape<Q>::RUNS][4][shape<Q>::WIDE])
{
    enum { N = shape<Q>::WIDE, STEP = shape<Q>::VALUE_THREADS * N };
    int query = threadIdx.x / shape<Q>::VALUE_THREADS * 4;
    int32_t first = threadIdx.x % shape<Q>::VALUE_THREADS * N;
    int32_t dim = a.kv.head_dim, most = value_rows<T>(a);
    for (int32_t row = rows.from; row < rows.end; row += most) {
        int32_t n = rows.end - row < most ? rows.end - row : most;
        const T *shares = p + query * SHARE_STEP + row * staged<T>::TERMS;
        if (row > rows.from) {
            __syncthreads();
            stage_values<shape<Q>::AT_ONCE>(a, m.page, row, n, stage);
            __syncthreads();
        }
#pragma unroll
        for (int r = 0; r < shape<Q>::RUNS; r++)
            if (query < qs.n && first + r * STEP < dim) {
                const T *v = stage + first + r * STEP;
                if (N > 1 && whole)
                    add_values<true, N>(shares, v, fours(dim), n, acc[r]);
                else
                    add_values<false, N>(shares, v, fours(dim), n, acc[r]);
            }
    }
}

/* o goes on with a block's values. */
template <int Q>
DEVICE void add_block(const struct attend &a, const struct queries &qs, const tile<Q> &m,
                      const struct keys &rows, bool whole, const float *p, float *stage,
                      float o[shape<Q>::RUNS][4][shape<Q>::WIDE])
{
    enum { N = shape<Q>::WIDE };
    int query = threadIdx.x / shape<Q>::VALUE_THREADS * 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int e = 0; e < 8; e++)
            o[e / N][i][e % N] *= m.change[query + i];
    add_rows<float, Q>(a, qs, m, rows, whole, p, stage, o);
}

template <int Q>
DEVICE void add_block(const struct attend &a, const struct queries &qs, const tile<Q> &m,
                      const struct keys &rows, bool whole, const int32_t *p, int32_t *stage,
                      float o[shape<Q>::RUNS][4][shape<Q>::WIDE])
{
    enum { N = shape<Q>::WIDE };
    int query = threadIdx.x / shape<Q>::VALUE_THREADS * 4;
    int32_t sum[shape<Q>::RUNS][4][N];
    (void)whole; // what is not seen adds 0
#pragma unroll
    for (int i = 0; i < 32; i++)
        sum[i / 4 / N][i % 4][i / 4 % N] = 0;
    add_rows<int32_t, Q>(a, qs, m, rows, false, p, stage, sum);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float change = m.change[query + i], unit = m.unit[query + i];
#pragma unroll
        for (int e = 0; e < 8; e++)
            if (!(unit < 0))
                o[e / N][i][e % N] =
                    fmaf((float)sum[e / N][i][e % N], unit, o[e / N][i][e % N] * change);
    }
}

#endif
