/*
 * Owns attention over the paged keys and values, and storing them. What a row gets depends on its
 * own position, window and pages only, so batch, chunking and threads cannot change a bit. Scratch
 * is bounded whatever the length: softmax runs online over spans of 1024 keys and in them over
 * blocks of 64, both aligned to absolute positions. A task is a row and the query heads of one kv
 * head, over all spans, or where there are too few of these for the threads, over one.
 *
 *   for each block [b, b + 64) of a span, as far as it meets [first, end), from m = -Inf, L = o =
 * 0: s_j  = scale * (q . k_j [+ B(slope * B(j))]), q . k_j one chain of fma from 0, i ascending;
 *            alibi in brackets, B: rounded to bf16; softcap: s = softcap * tanh(s / softcap)
 *     m'   = max(m, s_j ...);  c = exp(m - m');  p_j = exp(s_j - m')
 *     L_l  = L_l * c + p_l + p_(l+16) + ...   (lane l has the keys j % 16 == l)
 *     o    = o * c, then o = fma(p_j, v_j, o), j ascending
 *   of the first span o, m, l = tree(L); each further one (o', m', l') is added:
 *     M = max(m, m');  c = exp(m - M);  d = exp(m' - M);  o = o * c + o' * d;  l = l * c + l' * d
 *   out = o / l
 *
 * Bytes are multiplied as integers, whose sums are exact, with 16-bit ones in place of q and p:
 *
 *   q . k_j = sum of Q_i k_ij * k_j's step * (peak / 16383), Q_i = q_i * (16383 / peak) to the
 *             nearest, peak = max |q_i|
 *   o       = fma(sum of W_j v_j, P / 32767, o * c), W_j = p_j * v_j's step * (32767 / P) to the
 *             nearest, P = exp(max s_j - m') * the largest step of the block
 *
 * where a peak below 2^-100 is 0, and what is not finite gives NaN. What W_j loses is a 65534th of
 * the block's largest, not of the text's: a block of small ones loses no more of itself.
 *
 * Keys outside [first, end) are never used.
 */
#include "backends/kernels/attention.h"

#include <math.h>
#include <string.h>

#include "backends/kernels/special.h"
#include "backends/kernels/twins.h"

static float tree(const float lanes[16])
{
    float l[16];
    memcpy(l, lanes, sizeof l);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            l[i] += l[i + half];
    return l[0];
}

/* A head's query; bytes: as words, each worth a step. */
struct query {
    const float *q;
    int16_t words[HEAD_DIM_MAX];
    float step;
};

/* The largest magnitude; NaN: not all of them are finite. */
static float peak_of(const float *x, int32_t n)
{
    float peak = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return NAN;
        peak = fmaxf(peak, fabsf(x[i]));
    }
    return peak;
}

static void query_words(struct query *q, int32_t dim)
{
    float peak = peak_of(q->q, dim);
    q->step = peak < KV_LEAST_PEAK ? 0 : peak / QUERY_PEAK;
    for (int32_t i = 0; i < dim; i++)
        q->words[i] = q->step > 0 ? (int16_t)rintf(q->q[i] * (QUERY_PEAK / peak)) : 0;
}

/* Element i of what is stored. */
static float element(enum dtype dtype, const void *data, int64_t i)
{
    return dtype == DT_F16 ? f16_to_f32(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

static float product(enum dtype dtype, const struct query *q, const char *k, int32_t dim,
                     int32_t slot)
{
    float s = 0;
    int32_t sum = 0;
    if (dtype == DT_I8) {
        const int8_t *bytes = (const int8_t *)k + slot * 4;
        for (int32_t i = 0; i < dim; i++)
            sum += q->words[i] * bytes[i / 4 * 4 * KV_PAGE + kv_within(i)];
        return (float)sum * attention_steps(k, dim)[slot] * q->step;
    }
    for (int32_t i = 0; i < dim; i++)
        s = fmaf(q->q[i], element(dtype, k, (int64_t)i * KV_PAGE + slot), s);
    return s;
}

static float score(const struct attention_args *a, const struct query *q, const char *k,
                   int32_t head, int32_t j)
{
    float s = product(a->kv->dtype, q, k, a->kv->head_dim, j % KV_PAGE);
    if (a->alibi)
        s += round_to_dtype(a->alibi[head] * round_to_dtype((float)j, DT_BF16), DT_BF16);
    s *= a->scale;
    return a->softcap != 0 ? a->softcap * special_tanh(s / a->softcap) : s;
}

/* The values of a block's keys [from, end), of which p[j - b] is a key's share. */
struct values {
    const struct attention_args *a;
    const int32_t *pages;
    int32_t kv_head, b, from, end;
    const float *p;
};

static const char *value_at(const struct values *v, int32_t j)
{
    return (const char *)v->a->kv->v + attention_page(v->a, v->pages, v->kv_head, j);
}

static void add_floats(const struct values *v, float *out)
{
    int32_t dim = v->a->kv->head_dim;
    for (int32_t j = v->from; j < v->end; j++) {
        const char *page = value_at(v, j);
        int64_t first = (int64_t)(j % KV_PAGE) * dim;
        for (int32_t i = 0; i < dim; i++)
            out[i] = fmaf(v->p[j - v->b], element(v->a->kv->dtype, page, first + i), out[i]);
    }
}

/* The same of bytes; share: the largest of p. */
static void add_bytes(const struct values *v, float share, float *out)
{
    int32_t dim = v->a->kv->head_dim;
    int32_t sum[HEAD_DIM_MAX] = {0};
    float step = 0;
    for (int32_t j = v->from; j < v->end; j++) {
        float d = attention_steps(value_at(v, j), dim)[j % KV_PAGE];
        step = isnan(d) || isnan(step) ? NAN : fmaxf(step, d);
    }
    float peak = share * step, unit = peak < KV_LEAST_PEAK ? 0 : peak / SHARE_PEAK;
    for (int32_t j = v->from; j < v->end; j++) {
        const char *page = value_at(v, j);
        int32_t slot = j % KV_PAGE;
        float w = v->p[j - v->b] * attention_steps(page, dim)[slot] * (SHARE_PEAK / peak);
        int32_t word = unit > 0 && isfinite(w) ? (int32_t)rintf(w) : 0;
        const int8_t *bytes = (const int8_t *)page + slot / 4 * dim * 4 + kv_within(slot);
        for (int32_t i = 0; i < dim; i++)
            sum[i] += word * bytes[i * 4];
    }
    for (int32_t i = 0; i < dim; i++)
        out[i] = fmaf((float)sum[i], unit, out[i]);
}

/* One query head. */
static void attend_head(const struct attention_args *a, int32_t row, int32_t head, int32_t first,
                        int32_t last, float *o, float *out_max, float *out_sum)
{
    int32_t dim = a->kv->head_dim, kv_head = head / (a->heads / a->kv->kv_heads);
    const int32_t *pages = a->rows->pages[row];
    float max = -INFINITY, sum[16] = {0}, p[ATTENTION_BLOCK];
    bool bytes = a->kv->dtype == DT_I8;
    struct query q = {.q = a->q + row * a->ldq + (int64_t)head * dim};
    if (bytes)
        query_words(&q, dim);
    memset(o, 0, (size_t)dim * sizeof *o);
    for (int32_t b = first - first % ATTENTION_BLOCK; b < last; b += ATTENTION_BLOCK) {
        int32_t from = b < first ? first : b;
        int32_t end = last - b < ATTENTION_BLOCK ? last : b + ATTENTION_BLOCK;
        const struct values values = {a, pages, kv_head, b, from, end, p};
        float before = max, most = -INFINITY;
        for (int32_t j = from; j < end; j++) {
            const char *k = (const char *)a->kv->k + attention_page(a, pages, kv_head, j);
            p[j - b] = score(a, &q, k, head, j);
            most = special_max(most, p[j - b]);
        }
        max = special_max(before, most);
        float c = special_exp(before - max);
        for (int l = 0; l < 16; l++)
            sum[l] *= c;
        for (int32_t i = 0; i < dim; i++)
            o[i] *= c;
        for (int32_t j = from; j < end; j++) {
            p[j - b] = special_exp(p[j - b] - max);
            sum[j % 16] += p[j - b];
        }
        if (bytes)
            add_bytes(&values, special_exp(most - max), o);
        else
            add_floats(&values, o);
    }
    *out_max = max;
    *out_sum = tree(sum);
}

static void attend(const struct attention_args *a, int32_t row, int32_t head, int32_t heads,
                   int32_t from, int32_t end, const struct attention_part *out, float *scratch)
{
    (void)scratch;
    for (int32_t h = 0; h < heads; h++)
        attend_head(a, row, head + h, from, end, out->o + (int64_t)h * a->kv->head_dim,
                    &out->max[h], &out->sum[h]);
}

static void kv_pack(enum dtype dtype, const float *x, int32_t dim, void *out, float *d)
{
    float peak = dtype == DT_I8 ? peak_of(x, dim) : 0;
    if (dtype == DT_I8)
        *d = peak < KV_LEAST_PEAK ? 0 : peak / 127;
    for (int32_t i = 0; i < dim; i++)
        switch (dtype) {
        case DT_F16:
            ((uint16_t *)out)[i] = f32_to_f16(x[i]);
            break;
        case DT_I8:
            ((int8_t *)out)[i] = *d > 0 ? (int8_t)rintf(x[i] * (127 / peak)) : 0;
            break;
        default:
            ((float *)out)[i] = x[i];
        }
}

void attention_portable(struct twins *t)
{
    t->attend = attend;
    t->kv_pack = kv_pack;
}

/* Rough cycles for an element of a key and its value: brought from memory, and multiplied with a
 * query head's. */
#define CYCLES_READ 1.5
#define CYCLES_HEAD 0.17

/* Adds the next span's part. */
static void add_part(const struct attention_part *to, const struct attention_part *part,
                     int32_t heads, int32_t dim)
{
    for (int32_t h = 0; h < heads; h++) {
        float max = special_max(to->max[h], part->max[h]);
        float c = special_exp(to->max[h] - max), d = special_exp(part->max[h] - max);
        float *o = to->o + (int64_t)h * dim;
        const float *more = part->o + (int64_t)h * dim;
        for (int32_t i = 0; i < dim; i++)
            o[i] = o[i] * c + more[i] * d;
        to->sum[h] = to->sum[h] * c + part->sum[h] * d;
        to->max[h] = max;
    }
}

static void divide(const struct attention_part *p, int32_t heads, int32_t dim)
{
    for (int32_t h = 0; h < heads; h++)
        for (int32_t i = 0; i < dim; i++)
            p->o[(int64_t)h * dim + i] /= p->sum[h];
}

/* A unit is a row and some query heads of one kv head. */
struct attention_job {
    const struct kernels_state *state;
    const struct attention_args *args;
    int32_t shared, groups; /* query heads of a kv head; groups of ATTENTION_HEADS that they make */
    int64_t units, chunks;
    int32_t span, spans; /* parts: of these spans */
    float *parts;        /* [units, spans] each part_floats */
};

struct unit {
    int32_t row, head, heads, first, end;
    float *out;
};

/* Units are ordered by their heads, then row: neighbours share keys. */
static struct unit unit_of(const struct attention_job *j, int64_t u)
{
    const struct attention_args *a = j->args;
    int32_t rows = a->rows->rows, group = (int32_t)(u / rows), row = (int32_t)(u % rows);
    int32_t within = group % j->groups * ATTENTION_HEADS;
    struct unit unit = {.row = row,
                        .head = group / j->groups * j->shared + within,
                        .heads = j->shared - within < ATTENTION_HEADS ? j->shared - within
                                                                      : ATTENTION_HEADS,
                        .first = attention_first(a, a->rows->positions[row]),
                        .end = attention_end(a, row)};
    unit.out = a->out + row * a->ldo + (int64_t)unit.head * a->kv->head_dim;
    return unit;
}

static size_t part_floats(int32_t dim)
{
    return ATTENTION_HEADS * ((size_t)dim + 2);
}

_Static_assert(HEADS_SCRATCH + ATTENTION_HEADS * (HEAD_DIM_MAX / 2 + 2 * (HEAD_DIM_MAX + 2)) <=
                   SCRATCH_FLOATS,
               "attend()'s and two parts fit");

/* How many a thread's scratch has room for. */
static int64_t parts_room(int32_t dim)
{
    return (int64_t)((SCRATCH_FLOATS - attend_scratch(dim)) / part_floats(dim));
}

static struct attention_part part_at(float *at, int32_t dim)
{
    float *behind = at + (size_t)ATTENTION_HEADS * (size_t)dim;
    return (struct attention_part){at, behind, behind + ATTENTION_HEADS};
}

/* One span of a unit; false: it sees no key of it. */
static bool attend_span(const struct attention_job *j, const struct unit *u, int32_t span,
                        const struct attention_part *out, float *scratch)
{
    int32_t from = span * ATTENTION_SPAN, end = from + ATTENTION_SPAN;
    from = from < u->first ? u->first : from;
    end = end < u->end ? end : u->end;
    if (from < end)
        j->state->twins.attend(j->args, u->row, u->head, u->heads, from, end, out, scratch);
    return from < end;
}

/* Fetches the keys that unit i begins with: what follows them is fetched on the way (products_of,
 * values_of in attention_simd.h). */
static void fetch_keys(const struct attention_job *j, int64_t i)
{
    const struct attention_args *a = j->args;
    const struct unit u = unit_of(j, i);
    int32_t key = u.first - u.first % KV_PAGE;
    int32_t end = u.first - u.first % ATTENTION_BLOCK + ATTENTION_BLOCK;
    size_t bytes = kv_head_bytes(a->kv->dtype, a->kv->head_dim);
    for (end = end < u.end ? end : u.end; key < end; key += KV_PAGE) {
        const char *k = (const char *)a->kv->k +
                        attention_page(a, a->rows->pages[u.row], u.head / j->shared, key);
        for (size_t at = 0; at < bytes; at += 64)
            __builtin_prefetch(k + at);
    }
}

/* Units, all spans of each. */
static void attention_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct attention_job *j = ctx;
    int32_t dim = j->args->kv->head_dim;
    float *scratch = j->state->scratch[thread];
    float *parts = scratch + attend_scratch(dim);
    struct attention_part more = part_at(parts, dim), all = part_at(parts + part_floats(dim), dim);
    int64_t first, end;
    chunk_range(j->units, j->chunks, chunk, &first, &end);
    for (int64_t i = first; i < end; i++) {
        const struct unit u = unit_of(j, i);
        int32_t span = u.first / ATTENTION_SPAN;
        if (i + 1 < end)
            fetch_keys(j, i + 1);
        all.o = u.out;
        attend_span(j, &u, span, &all, scratch);
        while (attend_span(j, &u, ++span, &more, scratch))
            add_part(&all, &more, u.heads, dim);
        divide(&all, u.heads, dim);
    }
}

/* Spans of units, each to a part of its own. */
static void parts_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct attention_job *j = ctx;
    int32_t dim = j->args->kv->head_dim;
    int64_t first, end;
    chunk_range(j->units * j->spans, j->chunks, chunk, &first, &end);
    for (int64_t i = first; i < end; i++) {
        const struct unit u = unit_of(j, i / j->spans);
        struct attention_part part = part_at(j->parts + (size_t)i * part_floats(dim), dim);
        attend_span(j, &u, j->span + (int32_t)(i % j->spans), &part, j->state->scratch[thread]);
    }
}

/* Every span by itself, as many at once as there is room for parts; then they are added. */
static void run_parts(const struct kernels *self, struct attention_job *j, int32_t last,
                      double cycles)
{
    int32_t dim = j->args->kv->head_dim;
    size_t floats = part_floats(dim);
    float *at = self->state->scratch[0] + attend_scratch(dim);
    j->parts = at + (size_t)j->units * floats; // behind the sums so far
    int64_t room = parts_room(dim) - j->units;
    int32_t most = (int32_t)(room / j->units);
    for (j->span = 0; j->span < last; j->span += j->spans) {
        j->spans = last - j->span < most ? last - j->span : most;
        j->chunks = chunk_count(self, j->units * j->spans, cycles);
        pool_run(self->state->pool, j->chunks, parts_chunk, j);
        for (int64_t i = 0; i < j->units; i++) {
            const struct unit u = unit_of(j, i);
            struct attention_part all = part_at(at + (size_t)i * floats, dim);
            all.o = u.out;
            for (int32_t s = j->span; s < j->span + j->spans; s++) {
                size_t index = (size_t)(i * j->spans + s - j->span);
                struct attention_part part = part_at(j->parts + index * floats, dim);
                if (s == u.first / ATTENTION_SPAN) {
                    memcpy(all.o, part.o, (size_t)(u.heads * dim) * sizeof *all.o);
                    memcpy(all.max, part.max, (size_t)u.heads * sizeof *all.max);
                    memcpy(all.sum, part.sum, (size_t)u.heads * sizeof *all.sum);
                } else if (s > u.first / ATTENTION_SPAN && s <= (u.end - 1) / ATTENTION_SPAN) {
                    add_part(&all, &part, u.heads, dim);
                }
                if (s == (u.end - 1) / ATTENTION_SPAN)
                    divide(&all, u.heads, dim);
            }
        }
    }
}

void attention_run(const struct kernels *self, const struct attention_args *args)
{
    struct attention_job j = {.state = self->state, .args = args};
    int32_t rows = args->rows->rows, kv_heads = args->kv->kv_heads, last = 0;
    double keys = 0;
    if (!rows)
        return;
    for (int32_t i = 0; i < rows; i++) {
        int32_t end = attention_end(args, i);
        keys += end - attention_first(args, args->rows->positions[i]);
        last = end > last ? end : last;
    }
    j.shared = args->heads / kv_heads;
    j.groups = (j.shared + ATTENTION_HEADS - 1) / ATTENTION_HEADS;
    j.units = (int64_t)rows * kv_heads * j.groups;
    int32_t spans = (last + ATTENTION_SPAN - 1) / ATTENTION_SPAN;
    double cycles = keys * args->kv->head_dim *
                    (CYCLES_READ * kv_heads + CYCLES_HEAD * args->heads) / (double)j.units;
    int64_t room = parts_room(args->kv->head_dim);
    if (spans > 1 && self->threads > 1 && j.units < 4 * self->threads && room >= 2 * j.units) {
        run_parts(self, &j, spans, cycles / spans);
        return;
    }
    j.chunks = chunk_count(self, j.units, cycles);
    pool_run(self->state->pool, j.chunks, attention_chunk, &j);
}

struct store_job {
    const struct kernels_state *state;
    const struct attention_args *at; /* the pages; no query */
    const float *k, *v;
    int64_t ld, chunks;
};

/* A head's elements, in order, to a slot of its page of keys or of values. */
static void lay(const struct kv *kv, const char *elements, int32_t slot, bool keys, char *page)
{
    int32_t dim = kv->head_dim;
    size_t size = dtype_size(kv->dtype);
    if (kv->dtype == DT_I8) {
        char *to = page + (keys ? slot * 4 : slot / 4 * dim * 4 + kv_within(slot));
        for (int32_t i = 0; i < dim; i++)
            to[keys ? i / 4 * 4 * KV_PAGE + kv_within(i) : i * 4] = elements[i];
    } else if (keys) {
        for (int32_t i = 0; i < dim; i++)
            memcpy(page + (size_t)(i * KV_PAGE + slot) * size, elements + (size_t)i * size, size);
    } else {
        memcpy(page + (size_t)(slot * dim) * size, elements, (size_t)dim * size);
    }
}

/* Units are the kv heads of the rows. */
static void store_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct store_job *j = ctx;
    const struct kv *kv = j->at->kv;
    const struct kv_rows *rows = j->at->rows;
    int32_t dim = kv->head_dim;
    void *elements = j->state->scratch[thread];
    int64_t first, end;
    chunk_range((int64_t)rows->rows * kv->kv_heads, j->chunks, chunk, &first, &end);
    for (int64_t u = first; u < end; u++) {
        int32_t row = (int32_t)(u / kv->kv_heads), h = (int32_t)(u % kv->kv_heads);
        int32_t pos = rows->positions[row], slot = pos % KV_PAGE;
        size_t page = attention_page(j->at, rows->pages[row], h, pos);
        int64_t from = row * j->ld + h * (int64_t)dim;
        for (int keys = 0; keys < 2; keys++) {
            char *to = (char *)(keys ? kv->k : kv->v) + page;
            float step;
            j->state->twins.kv_pack(kv->dtype, (keys ? j->k : j->v) + from, dim, elements, &step);
            lay(kv, elements, slot, keys, to);
            if (kv->dtype == DT_I8)
                memcpy(to + KV_PAGE * (size_t)kv_fours(dim) + (size_t)slot * sizeof step, &step,
                       sizeof step);
        }
    }
}

void attention_kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                        const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    const struct attention_args at = {.kv = kv, .layer = layer, .rows = rows};
    struct store_job j = {.state = self->state, .at = &at, .k = k, .v = v, .ld = ld};
    int64_t units = (int64_t)rows->rows * kv->kv_heads;
    if (!units)
        return;
    j.chunks = chunk_count(self, units, 4.0 * kv->head_dim);
    pool_run(self->state->pool, j.chunks, store_chunk, &j);
}
