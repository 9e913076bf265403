#include "core/run/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GREEDY_BELOW 1e-5f
#define BLOCK        256 /* of draw_all */

struct candidate {
    float x;
    int32_t id;
};

struct sampler {
    int32_t vocab;
    float *x;               /* [vocab] processed logits */
    int32_t *count;         /* [vocab] zero between calls */
    struct candidate *heap; /* [vocab] */
    uint64_t *bits;         /* [(vocab + 63) / 64] */
    double *sums;           /* [vocab / BLOCK + 1] */
};

enum status sampler_open(int32_t vocab, struct sampler **out, struct error *err)
{
    *out = NULL;
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "the sampler");
    s->vocab = vocab;
    s->x = malloc((size_t)vocab * sizeof *s->x);
    s->count = calloc((size_t)vocab, sizeof *s->count);
    s->heap = malloc((size_t)vocab * sizeof *s->heap);
    s->bits = malloc(((size_t)vocab + 63) / 64 * sizeof *s->bits);
    s->sums = malloc(((size_t)vocab / BLOCK + 1) * sizeof *s->sums);
    if (!s->x || !s->count || !s->heap || !s->bits || !s->sums) {
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
    free(s->count);
    free(s->heap);
    free(s->bits);
    free(s->sums);
    free(s);
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

/* The first of the largest; none is NaN. */
static int32_t argmax(const float *x, int32_t n)
{
    float max[8] = {x[0], x[0], x[0], x[0], x[0], x[0], x[0], x[0]};
    int32_t i = 0, best = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            max[j] = x[i + j] > max[j] ? x[i + j] : max[j];
    for (; i < n; i++)
        max[0] = x[i] > max[0] ? x[i] : max[0];
    for (int j = 1; j < 8; j++)
        max[0] = max[j] > max[0] ? max[j] : max[0];
    while (best < n - 1 && x[best] != max[0])
        best++;
    return best;
}

double sampler_log_sum(const float *x, int32_t n)
{
    float max = x[argmax(x, n)];
    double sum = expf(x[0] - max);
    for (int32_t i = 1; i < n; i++)
        sum += expf(x[i] - max);
    return (double)max + log(sum);
}

int32_t sampler_top(const float *x, int32_t n, double log_sum, int32_t k, struct token_logprob *out)
{
    int32_t got = 0;
    for (int32_t id = 0; id < n && k > 0; id++) {
        float v = sampler_logprob(x[id], log_sum);
        if (got == k && !(v > out[k - 1].logprob))
            continue;
        int32_t at = got < k ? got++ : k - 1;
        for (; at > 0 && out[at - 1].logprob < v; at--)
            out[at] = out[at - 1];
        out[at] = (struct token_logprob){.id = id, .logprob = v};
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

void sampler_log_softmax(float *x, int32_t n)
{
    double log_sum = sampler_log_sum(x, n);
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

/* The logits after penalties, biases and forbidden tokens: the model's own where nothing changes.
 */
static const float *process(struct sampler *s, const struct sampling *p, const struct history *h,
                            const float *logits)
{
    bool penalties = p->repetition != 1 || p->presence != 0 || p->frequency != 0;
    bool forbid = h->len - h->prompt_len < p->min_tokens && p->n_stops > 0;
    if (!penalties && !forbid && !p->n_bias && !h->allowed)
        return logits;
    memcpy(s->x, logits, (size_t)s->vocab * sizeof *s->x);
    if (penalties)
        penalize(s, p, h);
    for (size_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token >= 0 && p->bias[i].token < s->vocab)
            s->x[p->bias[i].token] += p->bias[i].bias;
    if (forbid)
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

static float weight(float x, float max, float scale)
{
    return x == -INFINITY ? 0 : expf((x - max) * scale);
}

/* The first whose sum, of it and all before, is above u times the sum of all. The sums at the
 * blocks' ends are kept, so that only one block is looked at twice. */
static int32_t draw_all(const struct sampler *s, const float *x, float max, float scale, double u)
{
    double sum = 0;
    int32_t n = s->vocab;
    for (int32_t i = 0; i < n; i++) {
        if (i % BLOCK == 0)
            s->sums[i / BLOCK] = sum;
        sum += weight(x[i], max, scale);
    }
    double goal = u * sum;
    int32_t block = (n - 1) / BLOCK;
    while (block && s->sums[block] > goal)
        block--;
    double acc = s->sums[block];
    for (int32_t i = block * BLOCK; i < n; i++) {
        float e = weight(x[i], max, scale);
        acc += e;
        if (e > 0 && acc > goal)
            return i;
    }
    while (n > 1 && weight(x[n - 1], max, scale) == 0) // what rounding left over
        n--;
    return n - 1;
}

/* Candidates leave the heap in order until top_k, top_p or min_p says that the rest is out. */
static int32_t draw_filtered(struct sampler *s, const struct sampling *p, const float *x, float max,
                             float scale, double u)
{
    int32_t n = s->vocab, k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    for (int32_t i = 0; i < n; i++)
        s->heap[i] = (struct candidate){x[i], i};
    for (int32_t i = n / 2; i-- > 0;)
        sift(s->heap, n, i);

    int32_t left = n;
    double total = 0; /* of what top_k leaves */
    if (k < n) {
        while (left > n - k)
            total += expf((take(s->heap, left--).x - max) * scale);
    } else {
        for (int32_t i = 0; i < n; i++)
            total += expf((x[i] - max) * scale);
    }
    /* entry j of the order is heap[n - 1 - j]; those not taken yet are taken on the way */
    double sum = 0;
    int32_t kept = 0;
    for (; kept < k; kept++) {
        if (kept == n - left)
            take(s->heap, left--);
        float e = expf((s->heap[n - 1 - kept].x - max) * scale);
        if (kept && (e == 0 || e < p->min_p || sum >= (double)p->top_p * total))
            break;
        sum += e;
    }
    double acc = 0, goal = u * sum;
    for (int32_t j = 0; j < kept; j++) {
        acc += expf((s->heap[n - 1 - j].x - max) * scale);
        if (acc > goal)
            return s->heap[n - 1 - j].id;
    }
    return s->heap[n - kept].id;
}

int32_t sampler_pick(struct sampler *s, const struct sampling *p, const struct history *h,
                     const float *logits)
{
    const float *x = process(s, p, h, logits);
    int32_t best = argmax(x, s->vocab);
    if (p->temperature < GREEDY_BELOW || x[best] == -INFINITY)
        return best;
    double u = sampler_uniform(p->seed, h->choice, h->len);
    float scale = 1 / p->temperature;
    bool filtered = (p->top_k > 0 && p->top_k < s->vocab) || p->top_p < 1 || p->min_p > 0;
    return filtered ? draw_filtered(s, p, x, x[best], scale, u) : draw_all(s, x, x[best], scale, u);
}
