/*
 * Owns attention over the paged keys and values, and storing them. One row and one kv head with all
 * its query heads is one task; what it computes depends on the row's own position, window and pages
 * only, so batch, chunking and threads cannot change a bit. Scratch is bounded whatever the length:
 * softmax runs online over blocks of 64 keys that are aligned to absolute positions.
 *
 *   for each block [b, b + 64) that meets [first, end):
 *     s_j  = scale * (q . k_j [+ B(slope * B(j))]), 16 lanes of fma, lanes added by the tree + 8,
 *            + 4, + 2, + 1; alibi in brackets, B: rounded to bf16;
 *            softcap: s = softcap * tanh(s / softcap)
 *     m'   = max(m, s_j ...);  c = exp(m - m');  p_j = exp(s_j - m')
 *     L_l  = L_l * c + p_l + p_(l+16) + ...   (lane l has the keys j % 16 == l)
 *     o    = o * c, then o = fma(p_j, v_j, o), j ascending
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

static float score(const struct attention_args *a, const float *q, const float *k, int32_t head,
                   int32_t j)
{
    float lane[16] = {0};
    for (int32_t i = 0; i < a->kv->head_dim; i++)
        lane[i % 16] = fmaf(q[i], k[i], lane[i % 16]);
    float s = tree(lane);
    if (a->alibi)
        s += round_to_dtype(a->alibi[head] * round_to_dtype((float)j, DT_BF16), DT_BF16);
    s *= a->scale;
    return a->softcap != 0 ? a->softcap * special_tanh(s / a->softcap) : s;
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
            const float *k = (const float *)a->kv->k + attention_page(a, pages, kv_head, j);
            p[j - b] = score(a, q, k + (int64_t)(j % KV_PAGE) * dim, head, j);
            max = special_max(max, p[j - b]);
        }
        float c = special_exp(before - max);
        for (int l = 0; l < 16; l++)
            sum[l] *= c;
        for (int32_t i = 0; i < dim; i++)
            out[i] *= c;
        for (int32_t j = from; j < end; j++) {
            const float *v = (const float *)a->kv->v + attention_page(a, pages, kv_head, j) +
                             (int64_t)(j % KV_PAGE) * dim;
            float pj = special_exp(p[j - b] - max);
            sum[j % 16] += pj;
            for (int32_t i = 0; i < dim; i++)
                out[i] = fmaf(pj, v[i], out[i]);
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

void attention_portable(struct twins *t)
{
    t->attend = attend;
}

/* Rough cycles for an element of a key and its value: brought from memory, and multiplied with a
 * query head's. */
#define CYCLES_READ 1.5
#define CYCLES_HEAD 0.25

struct attention_job {
    const struct kernels_state *state;
    const struct attention_args *args;
    int64_t units, chunks;
};

/* Fetches the first block of a unit's keys: pages lie scattered, so nothing else foresees them. */
static void fetch_keys(const struct attention_args *a, int64_t unit)
{
    int32_t row = (int32_t)(unit % a->rows->rows), kv_head = (int32_t)(unit / a->rows->rows);
    int32_t j = attention_first(a, a->rows->positions[row]), end = attention_end(a, row);
    int32_t block = j - j % ATTENTION_BLOCK + ATTENTION_BLOCK;
    for (end = end < block ? end : block; j < end; j += KV_PAGE - j % KV_PAGE) {
        int64_t dim = a->kv->head_dim, slots = end - j + j % KV_PAGE;
        const float *page =
            (const float *)a->kv->k + attention_page(a, a->rows->pages[row], kv_head, j);
        for (int64_t i = j % KV_PAGE * dim; i < (slots < KV_PAGE ? slots : KV_PAGE) * dim; i += 16)
            __builtin_prefetch(page + i, 0, 2);
    }
}

/* Units are ordered by kv head, then row: neighbours share keys. */
static void attention_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct attention_job *j = ctx;
    int64_t first, end, rows = j->args->rows->rows;
    const int32_t *const *pages = j->args->rows->pages;
    chunk_range(j->units, j->chunks, chunk, &first, &end);
    for (int64_t u = first; u < end; u++) {
        if (u + 1 < end && (rows == 1 || pages[u % rows] != pages[(u + 1) % rows]))
            fetch_keys(j->args, u + 1);
        j->state->twins.attend(j->args, (int32_t)(u % rows), (int32_t)(u / rows),
                               j->state->scratch[thread]);
    }
}

void attention_run(const struct kernels *self, const struct attention_args *args)
{
    struct attention_job j = {.state = self->state, .args = args};
    double keys = 0;
    for (int32_t i = 0; i < args->rows->rows; i++) {
        keys += attention_end(args, i) - attention_first(args, args->rows->positions[i]);
    }
    j.units = (int64_t)args->rows->rows * args->kv->kv_heads;
    if (!j.units)
        return;
    double cycles =
        keys * args->kv->head_dim * (CYCLES_READ * args->kv->kv_heads + CYCLES_HEAD * args->heads);
    j.chunks = chunk_count(self, j.units, cycles / (double)j.units);
    pool_run(self->state->pool, j.chunks, attention_chunk, &j);
}

void attention_kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                        const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    struct attention_args a = {.kv = kv, .layer = layer};
    size_t dim = (size_t)kv->head_dim;
    (void)self;
    for (int32_t i = 0; i < rows->rows; i++)
        for (int32_t h = 0; h < kv->kv_heads; h++) {
            int32_t pos = rows->positions[i];
            size_t at = attention_page(&a, rows->pages[i], h, pos) + (size_t)(pos % KV_PAGE) * dim;
            int64_t from = i * ld + h * (int64_t)dim;
            memcpy((float *)kv->k + at, k + from, dim * sizeof *k);
            memcpy((float *)kv->v + at, v + from, dim * sizeof *v);
        }
}
