/*
 * Owns attention over the paged keys and values, and storing them. One row and one kv head with all
 * its query heads is one task; what it computes depends on the row's own position, window and pages
 * only, so batch, chunking and threads cannot change a bit. Scratch is bounded whatever the length:
 * softmax runs online over blocks of 64 keys that are aligned to absolute positions.
 *
 *   for each block [b, b + 64) that meets [first, end):
 *     s_j  = scale * (q . k_j [+ B(slope * B(j))]), q . k_j one chain of fma from 0, i ascending;
 *            alibi in brackets, B: rounded to bf16; softcap: s = softcap * tanh(s / softcap);
 *            bytes: q . k_j is multiplied by k_j's step
 *     m'   = max(m, s_j ...);  c = exp(m - m');  p_j = exp(s_j - m')
 *     L_l  = L_l * c + p_l + p_(l+16) + ...   (lane l has the keys j % 16 == l)
 *     o    = o * c, then o = fma(p_j, v_j, o), j ascending; bytes: p_j times v_j's step
 *   out = o / tree(L)
 *
 * o lives in the output row. Keys outside [first, end) are never read.
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

/* Element i of what is stored. */
static float element(enum dtype dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case DT_F16:
        return f16_to_f32(((const uint16_t *)data)[i]);
    case DT_I8:
        return ((const int8_t *)data)[i];
    default:
        return ((const float *)data)[i];
    }
}

static float score(const struct attention_args *a, const float *q, const char *k, int32_t head,
                   int32_t j)
{
    int32_t dim = a->kv->head_dim, slot = j % KV_PAGE;
    float s = 0;
    for (int32_t i = 0; i < dim; i++)
        s = fmaf(q[i], element(a->kv->dtype, k, (int64_t)i * KV_PAGE + slot), s);
    if (a->kv->dtype == DT_I8)
        s *= attention_steps(k, dim)[slot];
    if (a->alibi)
        s += round_to_dtype(a->alibi[head] * round_to_dtype((float)j, DT_BF16), DT_BF16);
    s *= a->scale;
    return a->softcap != 0 ? a->softcap * special_tanh(s / a->softcap) : s;
}

/* out += p v_j */
static void add_value(const struct attention_args *a, const char *v, int32_t j, float p, float *out)
{
    int32_t dim = a->kv->head_dim, slot = j % KV_PAGE;
    if (a->kv->dtype == DT_I8)
        p *= attention_steps(v, dim)[slot];
    for (int32_t i = 0; i < dim; i++)
        out[i] = fmaf(p, element(a->kv->dtype, v, (int64_t)slot * dim + i), out[i]);
}

/* One query head. */
static void attend_head(const struct attention_args *a, int32_t row, int32_t kv_head, int32_t head)
{
    int32_t dim = a->kv->head_dim, pos = a->rows->positions[row];
    const int32_t *pages = a->rows->pages[row];
    const float *q = a->q + row * a->ldq + (int64_t)head * dim;
    float *out = a->out + row * a->ldo + (int64_t)head * dim;
    float max = -INFINITY, sum[16] = {0}, p[ATTENTION_BLOCK];
    memset(out, 0, (size_t)dim * sizeof *out);
    int32_t first = attention_first(a, pos);
    int32_t last = attention_end(a, row);
    for (int32_t b = first - first % ATTENTION_BLOCK; b < last; b += ATTENTION_BLOCK) {
        int32_t from = b < first ? first : b;
        int32_t end = last - b < ATTENTION_BLOCK ? last : b + ATTENTION_BLOCK;
        float before = max;
        for (int32_t j = from; j < end; j++) {
            p[j - b] =
                score(a, q, (const char *)a->kv->k + attention_page(a, pages, kv_head, j), head, j);
            max = special_max(max, p[j - b]);
        }
        float c = special_exp(before - max);
        for (int l = 0; l < 16; l++)
            sum[l] *= c;
        for (int32_t i = 0; i < dim; i++)
            out[i] *= c;
        for (int32_t j = from; j < end; j++) {
            float pj = special_exp(p[j - b] - max);
            sum[j % 16] += pj;
            add_value(a, (const char *)a->kv->v + attention_page(a, pages, kv_head, j), j, pj, out);
        }
    }
    float total = tree(sum);
    for (int32_t i = 0; i < dim; i++)
        out[i] = out[i] / total;
}

static void attend(const struct attention_args *a, int32_t row, int32_t kv_head, float *scratch)
{
    int32_t heads = a->heads / a->kv->kv_heads;
    (void)scratch;
    for (int32_t h = kv_head * heads; h < (kv_head + 1) * heads; h++)
        attend_head(a, row, kv_head, h);
}

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

static void kv_pack(enum dtype dtype, const float *x, int32_t dim, int64_t step, void *out,
                    float *d)
{
    float peak = dtype == DT_I8 ? peak_of(x, dim) : 0;
    if (dtype == DT_I8)
        *d = peak < KV_LEAST_PEAK ? 0 : peak / 127;
    for (int32_t i = 0; i < dim; i++)
        switch (dtype) {
        case DT_F16:
            ((uint16_t *)out)[i * step] = f32_to_f16(x[i]);
            break;
        case DT_I8:
            ((int8_t *)out)[i * step] = *d > 0 ? (int8_t)rintf(x[i] * (127 / peak)) : 0;
            break;
        default:
            ((float *)out)[i * step] = x[i];
        }
}

void attention_portable(struct twins *t)
{
    t->attend = attend;
    t->kv_pack = kv_pack;
}

struct attention_job {
    const struct kernels_state *state;
    const struct attention_args *args;
    int64_t units, chunks;
};

/* Units are ordered by kv head, then row: neighbours share keys. */
static void attention_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct attention_job *j = ctx;
    int64_t first, end, rows = j->args->rows->rows;
    chunk_range(j->units, j->chunks, chunk, &first, &end);
    for (int64_t u = first; u < end; u++)
        j->state->twins.attend(j->args, (int32_t)(u % rows), (int32_t)(u / rows),
                               j->state->scratch[thread]);
}

void attention_run(const struct kernels *self, const struct attention_args *args)
{
    struct attention_job j = {.state = self->state, .args = args};
    double keys = 0;
    for (int32_t i = 0; i < args->rows->rows; i++)
        keys += attention_end(args, i) - attention_first(args, args->rows->positions[i]);
    j.units = (int64_t)args->rows->rows * args->kv->kv_heads;
    if (!j.units)
        return;
    double cycles = keys * args->heads * args->kv->head_dim * 0.25;
    j.chunks = chunk_count(self, j.units, cycles / (double)j.units);
    pool_run(self->state->pool, j.chunks, attention_chunk, &j);
}

struct store_job {
    const struct kernels_state *state;
    const struct attention_args *at; /* the pages; no query */
    const float *k, *v;
    int64_t ld, chunks;
};

/* Units are the kv heads of the rows. */
static void store_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct store_job *j = ctx;
    const struct kv *kv = j->at->kv;
    const struct kv_rows *rows = j->at->rows;
    int32_t dim = kv->head_dim;
    size_t element_bytes = dtype_size(kv->dtype);
    int64_t first, end;
    (void)thread;
    chunk_range((int64_t)rows->rows * kv->kv_heads, j->chunks, chunk, &first, &end);
    for (int64_t u = first; u < end; u++) {
        int32_t row = (int32_t)(u / kv->kv_heads), h = (int32_t)(u % kv->kv_heads);
        int32_t pos = rows->positions[row], slot = pos % KV_PAGE;
        size_t page = attention_page(j->at, rows->pages[row], h, pos);
        char *k = (char *)kv->k + page, *v = (char *)kv->v + page;
        int64_t from = row * j->ld + h * (int64_t)dim;
        size_t steps = (size_t)KV_PAGE * (size_t)dim + (size_t)slot * sizeof(float);
        j->state->twins.kv_pack(kv->dtype, j->k + from, dim, KV_PAGE,
                                k + (size_t)slot * element_bytes, (float *)(void *)(k + steps));
        j->state->twins.kv_pack(kv->dtype, j->v + from, dim, 1,
                                v + (size_t)slot * (size_t)dim * element_bytes,
                                (float *)(void *)(v + steps));
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
