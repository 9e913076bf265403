/*
 * Owns the arithmetic of HQQ's Quantizer.quantize with its default solver
 * (optimize_weights_proximal_legacy of hqq 0.2.8.post1) on a CPU, in f32: every operation in the
 * library's order, every sum in torch's (torch_sum.c). That, and nothing else, makes codes, steps
 * and zeros equal the library's.
 *
 *   inverse step  s = v (1 / (max - min)), v = 2^bits - 1; 1 where max - min <= 1e-4; at most 2e4
 *   zero          z = -min s, rounded if round_zero
 *   at most 20 times, if optimize
 *     q = clamp(rne(w s + z), 0, v)          r = (q - z) / s
 *     e = shrink(w - r)                      shrink(x) = sign(x) max(|x| - |x|^-0.3 / 10, 0)
 *     z = mean over the group of q - (w - e) s
 *     stop unless the mean of |w - r| over the matrix became smaller; z stays as it is then
 *   code = clamp(rne(w s + z), 0, v)         step = 1 / s
 *
 * shrink is 0 up to |x| = 0.1702, which a step hardly ever exceeds: the power is only taken where a
 * run of elements has a larger residual.
 *
 * The matrix is walked in its order in memory, for the error is one long sum over it. axis 1: a
 * group is a run of elements. axis 0: the matrix is [group, n_groups] and each column a group, so a
 * row of sums is carried along.
 */
#include "backends/hqq_quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/torch_sum.h"
#include "core/turns.h"

#define ITERATIONS 20
#define RUN        1024 /* elements that are treated at once */
#define GROUPS     64   /* between two places where the background pauses */

/* The matrix and what an iteration needs. */
struct solver {
    const struct hqq_settings *h;
    const float *w;
    int64_t count, n_groups;
    float *s, *z;
    float *terms;    /* axis 1: [group] what z is the mean of */
    float *levels;   /* axis 0: [4 * columns] of a torch_sum */
    float *rest;     /* axis 0: [n_groups - columns, group] terms of the other columns */
    int64_t columns; /* axis 0: torch_sum_columns(n_groups) */
};

/* rne(clamp(x)): rounding to an integer commutes with clamping between integers, and below 2^22
 * adding 3 * 2^22 rounds. NaN becomes 0. */
static inline float quantized(float x, float top)
{
    x = x > 0 ? x : 0;
    x = x < top ? x : top;
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

static float shrink(float x)
{
    float size = fabsf(x), power = (float)pow((double)size, (double)-0.3f);
    float rest = size - 0.1f * power;
    rest = rest > 0 ? rest : 0;
    return x > 0 ? rest : x < 0 ? -rest : 0;
}

/* One step of a run of n elements: |w - r| to error, what z is the mean of to terms. step: 1 if
 * each element has its own s and z, 0 if all share one. */
static inline void residuals(const float *restrict w, int64_t n, const float *restrict s,
                             const float *restrict z, int step, float top, float *restrict error,
                             float *restrict terms)
{
    const float no_shrink = 0.17f;
    int32_t limit, bits, large = 0;
    memcpy(&limit, &no_shrink, sizeof limit);
    for (int64_t i = 0; i < n; i++) {
        float product = w[i] * s[i * step], q = quantized(product + z[i * step], top);
        terms[i] = q - product;
        error[i] = fabsf(w[i] - (q - z[i * step]) / s[i * step]);
    }
    for (int64_t i = 0; i < n; i++) { // not negative: ordered like their bits
        memcpy(&bits, &error[i], sizeof bits);
        large |= bits > limit;
    }
    for (int64_t i = 0; large && i < n; i++) {
        float q = quantized(w[i] * s[i * step] + z[i * step], top);
        float e = shrink(w[i] - (q - z[i * step]) / s[i * step]);
        terms[i] = q - (w[i] - e) * s[i * step];
    }
}

/* One iteration over rows that are groups; z becomes the next one. Returns the mean error. */
static float iterate_rows(struct solver *v)
{
    struct torch_stream errors;
    float error[RUN], top = (float)v->h->top;
    int64_t group = v->h->group;
    torch_stream_begin(&errors, v->count);
    for (int64_t g = 0; g < v->n_groups; g++) {
        if (g % GROUPS == 0)
            turns_pause();
        for (int64_t at = 0; at < group; at += RUN) {
            int64_t n = group - at < RUN ? group - at : RUN;
            residuals(v->w + g * group + at, n, &v->s[g], &v->z[g], 0, top, error, v->terms + at);
            torch_stream_add(&errors, error, n);
        }
        v->z[g] = torch_sum_vector(v->terms, group) / (float)group;
    }
    return torch_stream_end(&errors) / (float)v->count;
}

/* The same over columns that are groups. */
static float iterate_columns(struct solver *v)
{
    struct torch_stream errors;
    struct torch_sum sums;
    float error[RUN], terms[RUN], top = (float)v->h->top;
    int64_t group = v->h->group;
    torch_stream_begin(&errors, v->count);
    torch_sum_begin(&sums, v->levels, v->columns, group);
    for (int64_t row = 0; row < group; row++, torch_sum_next(&sums)) {
        for (int64_t at = 0; at < v->n_groups; at += RUN) {
            int64_t n = v->n_groups - at < RUN ? v->n_groups - at : RUN;
            turns_pause();
            residuals(v->w + row * v->n_groups + at, n, v->s + at, v->z + at, 1, top, error, terms);
            torch_stream_add(&errors, error, n);
            int64_t simple = v->columns - at < n ? v->columns - at : n;
            if (simple > 0)
                torch_sum_add(&sums, at, terms, simple);
            for (int64_t i = simple > 0 ? simple : 0; i < n; i++)
                v->rest[(at + i - v->columns) * group + row] = terms[i];
        }
    }
    const float *ends = torch_sum_end(&sums);
    for (int64_t i = 0; i < v->columns; i++)
        v->z[i] = ends[i] / (float)group;
    for (int64_t i = v->columns; i < v->n_groups; i++)
        v->z[i] = torch_sum_column(v->rest + (i - v->columns) * group, group) / (float)group;
    return torch_stream_end(&errors) / (float)v->count;
}

static void solve(struct solver *v)
{
    float best = INFINITY;
    for (int i = 0; i < ITERATIONS; i++) {
        // one group of all elements is a vector for torch, whichever axis
        bool rows = v->h->axis == 1 || v->n_groups == 1;
        float error = rows ? iterate_rows(v) : iterate_columns(v);
        if (!(error < best))
            return;
        best = error;
    }
}

/* ---- where the solver starts, and the codes ---- */

/* Least and greatest element of each group, to z and s. */
static void find_ranges(struct solver *v)
{
    int64_t group = v->h->group;
    for (int64_t g = 0; g < v->n_groups; g++) {
        const float *w = v->h->axis == 1 ? v->w + g * group : v->w + g;
        if (g % GROUPS == 0)
            turns_pause();
        v->z[g] = v->s[g] = *w;
        for (int64_t i = 1; v->h->axis == 1 && i < group; i++) {
            v->z[g] = w[i] < v->z[g] ? w[i] : v->z[g];
            v->s[g] = w[i] > v->s[g] ? w[i] : v->s[g];
        }
    }
    for (int64_t row = 1; v->h->axis == 0 && row < group; row++) {
        const float *w = v->w + row * v->n_groups;
        turns_pause();
        for (int64_t g = 0; g < v->n_groups; g++) {
            v->z[g] = w[g] < v->z[g] ? w[g] : v->z[g];
            v->s[g] = w[g] > v->s[g] ? w[g] : v->s[g];
        }
    }
}

static void start(struct solver *v)
{
    find_ranges(v);
    for (int64_t g = 0; g < v->n_groups; g++) {
        float least = v->z[g], range = v->s[g] - least;
        float s = 1.0f / range * (float)v->h->top;
        s = range <= 1e-4f ? 1.0f : s;
        v->s[g] = s > 2e4f ? 2e4f : s;
        v->z[g] = -least * v->s[g];
        if (v->h->round_zero)
            v->z[g] = rintf(v->z[g]);
    }
}

static void encode(const struct solver *v, uint8_t *codes)
{
    float top = (float)v->h->top;
    int64_t width = v->h->axis == 1 ? v->h->group : v->n_groups, rows = v->count / width;
    for (int64_t r = 0; r < rows; r++) {
        const float *w = v->w + r * width;
        uint8_t *to = codes + r * width;
        float s = v->s[r % v->n_groups], z = v->z[r % v->n_groups];
        if (v->h->axis == 0 || r % GROUPS == 0)
            turns_pause();
        for (int64_t i = 0; v->h->axis == 1 && i < width; i++)
            to[i] = (uint8_t)(int)quantized(w[i] * s + z, top);
        for (int64_t i = 0; v->h->axis == 0 && i < width; i++)
            to[i] = (uint8_t)(int)quantized(w[i] * v->s[i] + v->z[i], top);
    }
}

bool hqq_quantize(const struct hqq_settings *h, const float *w, int64_t count, uint8_t *codes,
                  float *steps, float *zeros)
{
    struct solver v = {.h = h, .w = w, .count = count, .n_groups = count / h->group};
    v.s = steps;
    v.z = zeros;
    v.columns = torch_sum_columns(v.n_groups);
    int64_t rest = v.n_groups - v.columns;
    v.terms = malloc((size_t)h->group * sizeof *v.terms);
    v.levels = malloc((size_t)(TORCH_LEVELS * v.columns + 1) * sizeof *v.levels);
    v.rest = malloc((size_t)(rest * h->group + 1) * sizeof *v.rest);
    bool ok = v.terms && v.levels && v.rest;
    if (ok) {
        start(&v);
        if (h->optimize)
            solve(&v);
        encode(&v, codes);
        for (int64_t g = 0; g < v.n_groups; g++)
            steps[g] = 1.0f / steps[g];
    }
    free(v.terms);
    free(v.levels);
    free(v.rest);
    return ok;
}
