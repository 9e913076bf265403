/*
 * Owns attention over the paged keys and values on a device, and storing them. What a row gets is
 * defined at the head of attention.c, in which order too, and the order has room: spans of 1024
 * keys are summed by blocks of their own, each for a row and a query head, and within a block of 64
 * keys
 *
 *   a score has a thread a key           one chain over the head's elements; sixteen neighbours
 *                                        read a line of K
 *   exp(s - max), and their lanes        a thread a key, then a thread a lane
 *   the sum of values has a thread an element, one chain over the keys
 *   bytes' words          a thread an element of the query, a thread a key
 *
 * Rows that see one span are done then; others leave parts, which a second launch adds in order.
 * Positions, ends and pages of a pass are sent once, by begin.
 */
#include "backends/kernels/attention.h"
#include "backends/kernels/device_cuda.cuh"
#include "backends/kernels/special_cuda.cuh"

#define ATTEND_THREADS 128
#define STORE_THREADS  64

/* ---- the rows of a pass ---- */

static int32_t end_of(const struct kv_rows *rows, int32_t i)
{
    return rows->ends ? rows->ends[i] : rows->positions[i] + 1;
}

/* Pages that row i needs; 0: the same list as the row before, which is long enough. */
static int64_t pages_of(const struct kv_rows *rows, int32_t i, int64_t *have)
{
    int64_t need = ((int64_t)end_of(rows, i) + KV_PAGE - 1) / KV_PAGE;
    if (need < (int64_t)rows->positions[i] / KV_PAGE + 1)
        need = (int64_t)rows->positions[i] / KV_PAGE + 1;
    if (i > 0 && rows->pages[i] == rows->pages[i - 1] && need <= *have)
        return 0;
    *have = need;
    return need;
}

void attention_cuda_begin(const struct kernels *self, const struct kv_rows *rows)
{
    struct kernels_state *s = self->state;
    int64_t n = rows->rows, total = 0, have = 0, at = 0, first = 0;
    s->pass.of = NULL;
    s->pass.last = 0;
    for (int32_t i = 0; i < n; i++)
        total += pages_of(rows, i, &have);
    device_enter(s);
    void *there;
    size_t bytes =
        (size_t)n * (sizeof(int64_t) + 2 * sizeof(int32_t)) + (size_t)total * sizeof(int32_t);
    char *here = (char *)device_room(s, &s->pages, bytes, &there);
    if (here && n > 0) {
        int64_t *first_page = (int64_t *)here;
        int32_t *positions = (int32_t *)(first_page + n), *ends = positions + n, *pages = ends + n;
        have = 0;
        for (int32_t i = 0; i < n; i++) {
            int64_t count = pages_of(rows, i, &have);
            if (count > 0) {
                first = at;
                memcpy(pages + at, rows->pages[i], (size_t)count * sizeof *pages);
                at += count;
            }
            first_page[i] = first;
            positions[i] = rows->positions[i];
            ends[i] = end_of(rows, i);
            s->pass.last = ends[i] > s->pass.last ? ends[i] : s->pass.last;
        }
        device_push(s, &s->pages, here, there, bytes);
        s->pass.of = rows;
        s->pass.first_page = (const int64_t *)there;
        s->pass.positions = (const int32_t *)(s->pass.first_page + n);
        s->pass.ends = s->pass.positions + n;
        s->pass.pages = s->pass.ends + n;
    }
    device_leave(s, "begin");
}

/* The rows on the device, sent now where no pass has begun with them. */
static bool pass_has(const struct kernels *self, const struct kv_rows *rows)
{
    if (self->state->pass.of != rows)
        attention_cuda_begin(self, rows);
    return self->state->pass.of == rows && rows->rows > 0;
}

/* ---- where keys lie ---- */

/* kv_fours and kv_within, and where bytes lie of a key and of a value. */
DEVICE int32_t fours(int32_t head_dim)
{
    return (head_dim + 3) / 4 * 4;
}
DEVICE int32_t within(int32_t i)
{
    return i % 4 / 2 + i % 2 * 2;
}
DEVICE int64_t key_byte(int32_t i, int slot)
{
    return (int64_t)(i / 4 * KV_PAGE + slot) * 4 + within(i);
}
DEVICE int64_t value_byte(int32_t dim, int32_t i, int slot)
{
    return ((int64_t)(slot / 4) * dim + i) * 4 + within(slot);
}

/* The page of key j of a row and one kv head, from the start of k or of v. */
DEVICE size_t page_at(const struct kv &kv, const struct pass_rows &rows, int32_t layer, int row,
                      int head, int32_t j)
{
    size_t page =
        (size_t)layer * (size_t)kv.n_pages + (size_t)rows.pages[rows.first_page[row] + j / KV_PAGE];
    size_t elements = (size_t)KV_PAGE * (size_t)kv.head_dim;
    size_t bytes = kv.dtype == DT_I8    ? KV_PAGE * ((size_t)fours(kv.head_dim) + sizeof(float))
                   : kv.dtype == DT_F16 ? elements * 2
                                        : elements * 4;
    return page * kv.page_bytes + (size_t)head * bytes;
}

DEVICE float stored(enum dtype dtype, const char *at, int64_t i)
{
    if (dtype == DT_F16)
        return device_of_f16(((const uint16_t *)at)[i]);
    return ((const float *)at)[i];
}

/* I8: the step of a slot. */
DEVICE float step_of(const struct kv &kv, const char *at, int slot)
{
    return ((const float *)(at + (size_t)KV_PAGE * (size_t)fours(kv.head_dim)))[slot];
}

/* The larger of two magnitudes; what is not finite gives a NaN, which stays one. */
DEVICE float larger(float peak, float x)
{
    bool finite = (device_bits(x) & 0x7f800000) != 0x7f800000;
    return finite && peak == peak ? fmaxf(peak, fabsf(x)) : device_float(0x7fc00000);
}

/* ---- storing ---- */

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
        peak = larger(peak, x[i]);
    peaks[t] = peak;
    __syncthreads();
    for (int i = 0; i < STORE_THREADS; i++)
        peak = larger(peak, peaks[i]);
    float d = peak < KV_LEAST_PEAK ? 0 : peak / 127;
    for (int32_t i = t; i < dim; i += STORE_THREADS) {
        int64_t at = blockIdx.z ? value_byte(dim, i, slot) : key_byte(i, slot);
        ((int8_t *)to)[at] = d > 0 ? (int8_t)rintf(x[i] * (127 / peak)) : 0;
    }
    if (t == 0)
        ((float *)(to + (size_t)KV_PAGE * (size_t)fours(dim)))[slot] = d;
}

void attention_cuda_kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                             const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    struct kernels_state *s = self->state;
    if (!pass_has(self, rows))
        return;
    const struct store store = {*kv, s->pass, k, v, ld, layer};
    int64_t threads = (int64_t)rows->rows * kv->kv_heads * kv->head_dim;
    device_enter(s);
    if (kv->dtype == DT_I8)
        LAUNCH(store_bytes, dim3((unsigned)kv->kv_heads, (unsigned)rows->rows, 2),
               dim3(STORE_THREADS), 0, s, store);
    else
        LAUNCH_FREE(store_floats, dim3((unsigned)((threads + THREADS - 1) / THREADS)),
                    dim3(THREADS), 0, s, store, threads);
    device_leave(s, "kv_store");
}

/* ---- attention ---- */

struct attend {
    struct kv kv;
    struct pass_rows rows;
    const float *q, *alibi;
    float *out, *parts; /* parts NULL: every row sees one span */
    int64_t ldq, ldo;
    int32_t layer, heads, row, spans, window; /* row: of the first block */
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

/* q: of bytes its words, each worth query_step. */
DEVICE float score(const struct attend &a, const float *q, float query_step, int row, int head,
                   int32_t j)
{
    const char *k = (const char *)a.kv.k +
                    page_at(a.kv, a.rows, a.layer, row, head / (a.heads / a.kv.kv_heads), j);
    int32_t dim = a.kv.head_dim, slot = j % KV_PAGE;
    float s = 0;
    if (a.kv.dtype == DT_I8) {
        int32_t sum = 0;
        for (int32_t i = 0; i < dim; i++)
            sum += (int32_t)q[i] * ((const int8_t *)k)[key_byte(i, slot)];
        s = (float)sum * step_of(a.kv, k, slot) * query_step;
    } else {
        for (int32_t i = 0; i < dim; i++)
            s = fmaf(q[i], stored(a.kv.dtype, k, (int64_t)i * KV_PAGE + slot), s);
    }
    if (a.alibi)
        s += device_round(a.alibi[head] * device_round((float)j, DT_BF16), DT_BF16);
    s *= a.scale;
    return a.softcap != 0 ? a.softcap * special_tanh(s / a.softcap) : s;
}

DEVICE const char *value_at(const struct attend &a, int row, int head, int32_t j)
{
    return (const char *)a.kv.v +
           page_at(a.kv, a.rows, a.layer, row, head / (a.heads / a.kv.kv_heads), j);
}

/* o goes on with the values of keys [from, end) of a block that begins at b; p: of bytes the words,
 * each worth unit. */
DEVICE float add_values(const struct attend &a, const float *p, float unit, int row, int head,
                        int32_t b, int32_t from, int32_t end, int32_t i, float o)
{
    int32_t dim = a.kv.head_dim, sum = 0;
    for (int32_t j = from; j < end; j++) {
        const char *v = value_at(a, row, head, j);
        int32_t slot = j % KV_PAGE;
        if (a.kv.dtype == DT_I8)
            sum += (int32_t)p[j - b] * ((const int8_t *)v)[value_byte(dim, i, slot)];
        else
            o = fmaf(p[j - b], stored(a.kv.dtype, v, (int64_t)slot * dim + i), o);
    }
    return a.kv.dtype == DT_I8 ? fmaf((float)sum, unit, o) : o;
}

/* A whole block's threads: q [dim] to words; returns what each is worth. */
DEVICE float query_words(float *q, int32_t dim, int t)
{
    float peak = 0;
    for (int32_t i = 0; i < dim; i++)
        peak = larger(peak, q[i]);
    __syncthreads();
    float step = peak < KV_LEAST_PEAK ? 0 : peak / QUERY_PEAK;
    for (int32_t i = t; i < dim; i += ATTEND_THREADS)
        q[i] = step > 0 ? rintf(q[i] * (QUERY_PEAK / peak)) : 0;
    __syncthreads();
    return step;
}

/* The same: p [ATTENTION_BLOCK], of which share is the largest, to words in place; the values'
 * steps to steps. */
DEVICE float share_words(const struct attend &a, float *p, float *steps, float share, int row,
                         int head, int32_t b, int32_t from, int32_t end, int t)
{
    int32_t j = b + t;
    bool mine = t < ATTENTION_BLOCK && j >= from && j < end;
    if (mine)
        steps[t] = step_of(a.kv, value_at(a, row, head, j), j % KV_PAGE);
    __syncthreads();
    float step = 0;
    for (int32_t i = from; i < end; i++)
        step = larger(step, steps[i - b]);
    float peak = share * step, unit = peak < KV_LEAST_PEAK ? 0 : peak / SHARE_PEAK;
    if (mine) {
        float x = p[t] * steps[t] * (SHARE_PEAK / peak);
        p[t] = unit > 0 && x == x ? rintf(x) : 0;
    }
    __syncthreads();
    return unit;
}

/* A block: head x, row a.row + y, span z. */
__global__ void attend(struct attend a)
{
    SHARED float p[ATTENTION_BLOCK], steps[ATTENTION_BLOCK], lane[16], shared_most;
    DYNAMIC(memory);
    int t = threadIdx.x, head = blockIdx.x, row = a.row + (int)blockIdx.y, span = blockIdx.z;
    int32_t dim = a.kv.head_dim;
    float *q = memory, *o = memory + dim, max = -INFINITY, sum = 0;
    const struct keys seen = keys_of(a, row, span);
    if (seen.from >= seen.end)
        return; // for all threads
    for (int32_t i = t; i < dim; i += ATTEND_THREADS) {
        q[i] = a.q[row * a.ldq + (int64_t)head * dim + i];
        o[i] = 0;
    }
    __syncthreads();
    float query_step = a.kv.dtype == DT_I8 ? query_words(q, dim, t) : 0;
    for (int32_t b = seen.from - seen.from % ATTENTION_BLOCK; b < seen.end; b += ATTENTION_BLOCK) {
        int32_t from = b < seen.from ? seen.from : b, before_end = seen.end - b;
        int32_t end = before_end < ATTENTION_BLOCK ? seen.end : b + ATTENTION_BLOCK, j = b + t;
        bool mine = t < ATTENTION_BLOCK && j >= from && j < end;
        if (mine)
            p[t] = score(a, q, query_step, row, head, j);
        __syncthreads();
        if (t == 0) {
            float m = -INFINITY;
            for (int32_t i = from; i < end; i++)
                m = special_max(m, p[i - b]);
            shared_most = m;
        }
        __syncthreads();
        float before = max, most = shared_most, unit = 0, c;
        max = special_max(before, most);
        c = special_exp(before - max);
        if (mine)
            p[t] = special_exp(p[t] - max);
        __syncthreads();
        if (t < 16) {
            sum *= c;
            for (int32_t i = t; i < ATTENTION_BLOCK; i += 16)
                if (b + i >= from && b + i < end)
                    sum += p[i];
        }
        if (a.kv.dtype == DT_I8) {
            __syncthreads(); // the sums are taken
            unit = share_words(a, p, steps, special_exp(most - max), row, head, b, from, end, t);
        }
        for (int32_t i = t; i < dim; i += ATTEND_THREADS)
            o[i] = add_values(a, p, unit, row, head, b, from, end, i, o[i] * c);
        __syncthreads();
    }
    if (t < 16)
        lane[t] = sum;
    __syncthreads();
    if (t == 0)
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++)
                lane[l] += lane[l + half];
    __syncthreads();
    int64_t part = (((int64_t)blockIdx.y * a.heads + head) * a.spans + span) * (dim + 2);
    for (int32_t i = t; i < dim; i += ATTEND_THREADS)
        if (a.parts)
            a.parts[part + i] = o[i];
        else
            a.out[row * a.ldo + (int64_t)head * dim + i] = o[i] / lane[0];
    if (t == 0 && a.parts) {
        a.parts[part + dim] = max;
        a.parts[part + dim + 1] = lane[0];
    }
}

/* A thread an element of a row's heads: its parts, in order. */
__global__ void combine(struct attend a, int64_t threads)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= threads)
        return;
    int32_t dim = a.kv.head_dim, i = (int32_t)(at % dim), head = (int32_t)(at / dim % a.heads);
    int64_t index = at / dim / a.heads;
    int row = a.row + (int)index;
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

void attention_cuda_run(const struct kernels *self, const struct attention_args *args)
{
    struct kernels_state *s = self->state;
    if (!pass_has(self, args->rows))
        return;
    int32_t dim = args->kv->head_dim, rows = args->rows->rows;
    struct attend a = {*args->kv, s->pass,   args->q,      args->alibi, args->out,
                       NULL,      args->ldq, args->ldo,    args->layer, args->heads,
                       0,         1,         args->window, args->scale, args->softcap};
    a.spans = (s->pass.last + ATTENTION_SPAN - 1) / ATTENTION_SPAN;
    size_t row_bytes = (size_t)a.heads * (size_t)a.spans * (size_t)(dim + 2) * sizeof(float);
    int64_t most = a.spans > 1 ? (int64_t)(PARTS_BYTES / row_bytes) : 32768;
    a.parts = a.spans > 1 ? s->parts : NULL;
    device_enter(s);
    if (most < 1)
        device_note(s, cudaErrorMemoryAllocation, "attention: a row has too many spans");
    for (; a.row < rows && most > 0; a.row += (int32_t)most) {
        int64_t n = rows - a.row < most ? rows - a.row : most;
        int64_t threads = n * a.heads * dim;
        LAUNCH(attend, dim3((unsigned)a.heads, (unsigned)n, (unsigned)a.spans),
               dim3(ATTEND_THREADS), 2 * (size_t)dim * sizeof(float), s, a);
        if (a.parts)
            LAUNCH_FREE(combine, dim3((unsigned)((threads + THREADS - 1) / THREADS)), dim3(THREADS),
                        0, s, a, threads);
    }
    device_leave(s, "attention");
}
