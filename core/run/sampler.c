#include "core/run/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GREEDY_BELOW 1e-5f
#define PART         64   /* logits of which the largest is kept */
#define SUM_PART     2048 /* whose exponentials are summed at a time */
#define NEAR         8.0f /* exp(-8): what is less likely is seldom looked at */

struct candidate {
    float x;
    int32_t id;
};

struct sampler {
    const struct kernels *kernels;
    int32_t vocab, parts;
    float *x;               /* [vocab] processed logits */
    float *likely;          /* [vocab] beside the likeliest */
    float *sums;            /* [vocab / DRAW_BLOCK + 1] of them */
    float *largest;         /* [parts] */
    int32_t *count;         /* [vocab] zero between calls */
    struct candidate *heap; /* [vocab] */
    uint64_t *bits;         /* [(vocab + 63) / 64] */
};

enum status sampler_open(const struct kernels *kernels, int32_t vocab, struct sampler **out,
                         struct error *err)
{
    *out = NULL;
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "the sampler");
    s->kernels = kernels;
    s->vocab = vocab;
    s->parts = (vocab + PART - 1) / PART;
    s->x = malloc((size_t)vocab * sizeof *s->x);
    s->likely = malloc((size_t)vocab * sizeof *s->likely);
    s->sums = malloc(((size_t)vocab / DRAW_BLOCK + 1) * sizeof *s->sums);
    s->largest = malloc((size_t)s->parts * sizeof *s->largest);
    s->count = calloc((size_t)vocab, sizeof *s->count);
    s->heap = malloc((size_t)vocab * sizeof *s->heap);
    s->bits = malloc(((size_t)vocab + 63) / 64 * sizeof *s->bits);
    if (!s->x || !s->likely || !s->sums || !s->largest || !s->count || !s->heap || !s->bits) {
        sampler_close(s);
        return error_memory(err, "the sampler");
    }
    *out = s;
    return ST_OK;
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    free(s->x);
    free(s->likely);
    free(s->sums);
    free(s->largest);
    free(s->count);
    free(s->heap);
    free(s->bits);
    free(s);
}

const struct kernels *sampler_kernels(const struct sampler *s)
{
    return s->kernels;
}

uint64_t *sampler_bits(struct sampler *s)
{
    return s->bits;
}

void sampler_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                            (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u; /* the golden ratio and sqrt(3) - 1 */
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

double sampler_uniform(uint64_t seed, int32_t choice, int32_t position)
{
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)choice, 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t r[4];
    sampler_philox(counter, key, r);
    uint64_t bits = (uint64_t)r[0] << 32 | r[1];
    return (double)(bits >> 11) * 0x1p-53;
}

bool sampler_finite(const float *x, int64_t n)
{
    /* x * 0 is 0 for a finite x and NaN for every other */
    float sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += x[i + j] * 0.0f;
    for (; i < n; i++)
        sum[0] += x[i] * 0.0f;
    for (int j = 1; j < 8; j++)
        sum[0] += sum[j];
    return sum[0] == 0;
}

bool sampler_is_stop(const struct sampling *p, int32_t token)
{
    for (size_t i = 0; i < p->n_stops; i++)
        if (p->stops[i] == token)
            return true;
    return false;
}

/* None is NaN. */
static float largest(const float *x, int32_t n)
{
    float max[8] = {x[0], x[0], x[0], x[0], x[0], x[0], x[0], x[0]};
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            max[j] = x[i + j] > max[j] ? x[i + j] : max[j];
    for (; i < n; i++)
        max[0] = x[i] > max[0] ? x[i] : max[0];
    for (int j = 1; j < 8; j++)
        max[0] = max[j] > max[0] ? max[j] : max[0];
    return max[0];
}

/* The first of the largest; each part's largest is kept. */
static int32_t argmax(struct sampler *s, const float *x)
{
    for (int32_t i = 0; i < s->parts; i++)
        s->largest[i] = largest(x + i * PART, i < s->parts - 1 ? PART : s->vocab - i * PART);
    float max = largest(s->largest, s->parts);
    int32_t part = 0, best;
    while (s->largest[part] != max)
        part++;
    for (best = part * PART; x[best] != max;)
        best++;
    return best;
}

double sampler_log_sum(const struct kernels *kernels, const float *x, int32_t n)
{
    float max = largest(x, n), likely[SUM_PART], sums[SUM_PART / DRAW_BLOCK];
    double sum = 0;
    for (int32_t i = 0; i < n; i += SUM_PART) {
        int32_t part = n - i < SUM_PART ? n - i : SUM_PART;
        kernels->likelihoods(kernels, x + i, part, max, 1, likely, sums);
        for (int32_t k = 0; k * DRAW_BLOCK < part; k++)
            sum += (double)sums[k];
    }
    return (double)max + log(fmax(sum, 1)); /* the likeliest is 1 itself */
}

/* Puts x[id] in its place among the k most likely of those before it. */
static int32_t rank_in(struct token_logprob *out, int32_t got, int32_t k, int32_t id, float v)
{
    if (got == k && !(v > out[k - 1].logprob))
        return got;
    int32_t at = got < k ? got++ : k - 1;
    for (; at > 0 && out[at - 1].logprob < v; at--)
        out[at] = out[at - 1];
    out[at] = (struct token_logprob){.id = id, .logprob = v};
    return got;
}

int32_t sampler_top(const float *x, int32_t n, double log_sum, int32_t k, struct token_logprob *out)
{
    int32_t got = 0;
    for (int32_t from = 0; from < n && k > 0; from += PART) {
        int32_t end = from + PART < n ? from + PART : n;
        if (got == k && largest(x + from, end - from) <= x[out[k - 1].id])
            continue;
        for (int32_t id = from; id < end; id++)
            got = rank_in(out, got, k, id, sampler_logprob(x[id], log_sum));
    }
    return got;
}

int32_t sampler_rank(const float *x, int32_t n, int32_t token)
{
    int32_t rank = 0;
    for (int32_t i = 0; i < n; i++)
        rank += x[i] >= x[token];
    return rank;
}

void sampler_log_softmax(const struct kernels *kernels, float *x, int32_t n)
{
    double log_sum = sampler_log_sum(kernels, x, n);
    for (int32_t i = 0; i < n; i++)
        x[i] = sampler_logprob(x[i], log_sum);
}

/* ---- processing ---- */

static void penalize(struct sampler *s, const struct sampling *p, const struct history *h)
{
    /* count: 1 + occurrences in the output; each token is handled where it is first met */
    for (int32_t i = 0; i < h->len; i++) {
        int32_t t = h->tokens[i];
        if (t < 0 || t >= s->vocab)
            continue;
        if (!s->count[t]) {
            s->count[t] = 1;
            s->x[t] = s->x[t] < 0 ? s->x[t] * p->repetition : s->x[t] / p->repetition;
        }
        s->count[t] += i >= h->prompt_len;
    }
    for (int32_t i = 0; i < h->len; i++) {
        int32_t t = h->tokens[i];
        if (t < 0 || t >= s->vocab || !s->count[t])
            continue;
        if (s->count[t] > 1)
            s->x[t] -= p->frequency * (float)(s->count[t] - 1) + p->presence;
        s->count[t] = 0;
    }
}

static void forbid_others(float *x, int32_t n, const uint64_t *allowed)
{
    for (int32_t i = 0; i < n; i += 64) {
        uint64_t bits = allowed[i / 64];
        for (int32_t j = 0; bits != UINT64_MAX && j < 64 && i + j < n; j++)
            x[i + j] = bits >> j & 1 ? x[i + j] : -INFINITY;
    }
}

static bool has_penalties(const struct sampling *p)
{
    return p->repetition != 1 || p->presence != 0 || p->frequency != 0;
}

static bool has_forbidden(const struct sampling *p, const struct history *h)
{
    return h->len - h->prompt_len < p->min_tokens && p->n_stops > 0;
}

/* Does a token's logit change before it is drawn? */
static bool changes(const struct sampling *p, const struct history *h)
{
    return has_penalties(p) || has_forbidden(p, h) || p->n_bias || h->allowed;
}

static bool is_filtered(const struct sampling *p, int32_t vocab)
{
    return (p->top_k > 0 && p->top_k < vocab) || p->top_p < 1 || p->min_p > 0;
}

/* 0: the largest is picked. */
static float scale_of(const struct sampling *p)
{
    return p->temperature < GREEDY_BELOW ? 0 : 1 / p->temperature;
}

bool sampler_draws(const struct sampling *p, const struct history *h, int32_t vocab,
                   struct draw *out)
{
    *out = (struct draw){.scale = scale_of(p), .token = DRAW_NOT_YET};
    if (changes(p, h) || p->logprobs >= 0 || (out->scale > 0 && is_filtered(p, vocab)))
        return false;
    out->u = sampler_uniform(p->seed, h->choice, h->len);
    return true;
}

/* The logits after penalties, biases and forbidden tokens: the model's own where nothing changes.
 */
static const float *process(struct sampler *s, const struct sampling *p, const struct history *h,
                            const float *logits)
{
    if (!changes(p, h))
        return logits;
    memcpy(s->x, logits, (size_t)s->vocab * sizeof *s->x);
    if (has_penalties(p))
        penalize(s, p, h);
    for (size_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token >= 0 && p->bias[i].token < s->vocab)
            s->x[p->bias[i].token] += p->bias[i].bias;
    if (has_forbidden(p, h))
        for (size_t i = 0; i < p->n_stops; i++)
            if (p->stops[i] >= 0 && p->stops[i] < s->vocab)
                s->x[p->stops[i]] = -INFINITY;
    if (h->allowed)
        forbid_others(s->x, s->vocab, h->allowed);
    return s->x;
}

/* ---- drawing ---- */

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->x > b->x || (a->x == b->x && a->id < b->id);
}

static void sift(struct candidate *heap, int32_t n, int32_t at)
{
    struct candidate v = heap[at];
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &v))
            break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}

/* Moves the first of the order to the end of the heap; the sorted ones grow down from the end. */
static struct candidate take(struct candidate *heap, int32_t n)
{
    struct candidate first = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = first;
    sift(heap, n - 1, 0);
    return first;
}

static double sum_of_all(const struct sampler *s)
{
    double sum = 0;
    for (int32_t i = 0; i < s->vocab; i += DRAW_BLOCK)
        sum += (double)s->sums[i / DRAW_BLOCK];
    return sum;
}

/* The first whose sum, of it and all before, is above u times the sum of all. The sums of blocks
 * say in which one it is; where theirs and its own differ by rounding, the last that can be. */
static int32_t draw_all(const struct sampler *s, double u)
{
    double goal = u * sum_of_all(s), sum = 0;
    int32_t last = (s->vocab - 1) / DRAW_BLOCK, block = 0, found = 0;
    while (block < last && sum + (double)s->sums[block] <= goal)
        sum += (double)s->sums[block++];
    while (s->sums[block] == 0)
        block--;
    int32_t end = block < last ? (block + 1) * DRAW_BLOCK : s->vocab;
    for (int32_t i = block * DRAW_BLOCK; i < end && sum <= goal; i++) {
        sum += (double)s->likely[i];
        found = s->likely[i] > 0 ? i : found;
    }
    return found;
}

/* The heap of all that are not below cut; returns how many. */
static int32_t gather(struct sampler *s, const float *x, float cut)
{
    int32_t n = 0;
    for (int32_t part = 0; part < s->parts; part++) {
        int32_t end = part < s->parts - 1 ? (part + 1) * PART : s->vocab;
        if (s->largest[part] < cut)
            continue;
        for (int32_t i = part * PART; i < end; i++) {
            s->heap[n] = (struct candidate){x[i], i};
            n += x[i] >= cut;
        }
    }
    for (int32_t i = n / 2; i-- > 0;)
        sift(s->heap, n, i);
    return n;
}

/* A logit that at least k are not below, or all that may be drawn: the k-th of the parts' largest.
 */
static float cut_of(struct sampler *s, int32_t k)
{
    if (k > s->parts)
        return -FLT_MAX;
    for (int32_t i = 0; i < s->parts; i++)
        s->heap[i] = (struct candidate){s->largest[i], i};
    for (int32_t i = s->parts / 2; i-- > 0;)
        sift(s->heap, s->parts, i);
    float cut = 0;
    for (int32_t i = 0; i < k; i++)
        cut = take(s->heap, s->parts - i).x;
    return fmaxf(cut, -FLT_MAX);
}

/* The order, as far as it is known: entry j is heap[n - 1 - j]. */
struct order {
    int32_t n, taken;
};

static const struct candidate *entry(struct sampler *s, struct order *o, int32_t j)
{
    while (o->taken <= j)
        take(s->heap, o->n - o->taken++);
    return &s->heap[o->n - 1 - j];
}

/* How many of the first k of the order top_p of `total` and min_p keep, and the sum of those. */
static int32_t keep(struct sampler *s, const struct sampling *p, struct order *o, int32_t k,
                    double total, double *sum)
{
    *sum = 0;
    int32_t kept = 0;
    for (; kept < k; kept++) {
        float e = s->likely[entry(s, o, kept)->id];
        if (kept && (e == 0 || e < p->min_p || *sum >= (double)p->top_p * total))
            break;
        *sum += (double)e;
    }
    return kept;
}

/* Candidates leave the heap in order until top_k, top_p or min_p says that the rest is out. Only
 * those near the likeliest are in it, all if these were not enough. */
static int32_t draw_filtered(struct sampler *s, const struct sampling *p, const float *x, float max,
                             float scale, double u)
{
    struct order o = {0, 0};
    double total = 0, sum;
    int32_t kept;
    if (p->top_k > 0 && p->top_k < s->vocab) {
        o.n = gather(s, x, cut_of(s, p->top_k));
        int32_t k = p->top_k < o.n ? p->top_k : o.n;
        for (int32_t j = 0; j < k; j++)
            total += (double)s->likely[entry(s, &o, j)->id];
        kept = keep(s, p, &o, k, total, &sum);
    } else {
        total = sum_of_all(s);
        o.n = gather(s, x, max - NEAR / scale);
        kept = keep(s, p, &o, o.n, total, &sum);
        if (kept == o.n && o.n < s->vocab) {
            o = (struct order){gather(s, x, -FLT_MAX), 0};
            kept = keep(s, p, &o, o.n, total, &sum);
        }
    }
    double acc = 0, goal = u * sum;
    int32_t id = 0;
    for (int32_t j = 0; j < kept && acc <= goal; j++) {
        id = entry(s, &o, j)->id;
        acc += (double)s->likely[id];
    }
    return id;
}

int32_t sampler_pick(struct sampler *s, const struct sampling *p, const struct history *h,
                     const float *logits)
{
    const float *x = process(s, p, h, logits);
    int32_t best = argmax(s, x);
    float scale = scale_of(p);
    if (scale == 0 || x[best] == -INFINITY)
        return best;
    double u = sampler_uniform(p->seed, h->choice, h->len);
    s->kernels->likelihoods(s->kernels, x, s->vocab, x[best], scale, s->likely, s->sums);
    return is_filtered(p, s->vocab) ? draw_filtered(s, p, x, x[best], scale, u) : draw_all(s, u);
}
