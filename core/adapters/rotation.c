/*
 * THE algebra. A block of R comes from a strict upper triangle, stored row by row,
 *
 *        [  0   v0   v1  v2 ]
 *    S = [ -v0   0   v3  v4 ]
 *        [ -v1 -v3   0   v5 ]     in a block of size B (p, q), p < q, has the index
 *        [ -v2 -v4 -v5   0  ]     p (2B - p - 1) / 2 + q - p - 1
 *
 * in one of two ways:
 *
 *    exact     R = (I - S) (I + S)^-1, solved in double. The factors commute, so (I + S) R = I - S.
 *    Neumann   R = I + 2 (S + ... + S^(n-2)) + S^(n-1)    n terms; n <= 1: I; 2: I + 2S; 3: as 4
 *    old       R = I + 2 (S + ... + S^(n-1))              before PEFT 0.18
 *
 * The series runs towards (I + S) (I - S)^-1, the transpose of the exact form: the flag is no speed
 * switch. With P = S^2 it is a polynomial in P whose coefficients are c_2i I + c_2i+1 S, evaluated
 * by Horner: for the usual n = 5, R = I + 2S + P (2I + 2S + P), two products instead of three.
 *
 * The series is only meaningful while the spectral norm s of S is below 1. S is skew, so its
 * singular values come in pairs: s <= |v|, and s^4 <= |P|_F^2 / 2. Where neither bound is below 1
 * the question is decided, not estimated: I - S^T S = I + P is positive definite if and only if
 * s < 1, and Cholesky in double finds out. Above CHOLESKY_MAX power iteration answers instead.
 *
 * Products are f32 (PEFT's own precision), through the table's gemm; R is never assumed orthogonal,
 * max |R^T R - I| is measured on the very numbers that rotate activations.
 */
#include "core/adapters/rotation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/turns.h"

#define CHOLESKY_MAX 512
#define POWER_STEPS  200
/* What an input may lose by a rotation in bytes: a third of what fast mode takes from it anyhow
 * when it becomes bytes itself (about 0.7 %). */
#define BYTES_MAY_LOSE 0.0025

int64_t rotation_packed(int64_t block)
{
    return block * (block - 1) / 2;
}

int64_t rotation_unpacked(int64_t packed)
{
    int64_t b = (int64_t)((1 + sqrt(1 + 8 * (double)packed)) / 2);
    for (int64_t c = b > 1 ? b - 1 : 1; c <= b + 1; c++)
        if (rotation_packed(c) == packed)
            return c;
    return 0;
}

/* The divisor of dim nearest to p. */
static int64_t adjust(int64_t dim, int64_t p)
{
    if (p >= dim)
        return dim;
    int64_t low = p, high = p;
    while (dim % low)
        low--;
    while (dim % high)
        high++;
    return p - low <= high - p ? low : high;
}

int64_t rotation_block(int64_t dim, int64_t blocks, int64_t block)
{
    return blocks ? dim / adjust(dim, blocks) : adjust(dim, block);
}

/* Buffers of one block; f are block^2 floats each. */
struct scratch {
    int32_t b;
    const struct kernels *k;
    float *v;             /* packed vector */
    float *s, *p, *acc;   /* S, S^2, Horner's value */
    float *r;             /* R on its way to D */
    double *da, *db, *dv; /* block^2 doubles; a vector of 2 block */
    int32_t *pivots;
    void *memory;
};

static enum status scratch_open(struct scratch *w, const struct kernels *k, int32_t b,
                                struct error *err)
{
    size_t n = (size_t)b * (size_t)b;
    w->b = b;
    w->k = k;
    w->memory = memory_alloc(n * (5 * sizeof(float) + 2 * sizeof(double)) +
                             (size_t)b * (2 * sizeof(double) + sizeof(int32_t)));
    if (!w->memory)
        return error_memory(err, "building rotations");
    w->da = w->memory;
    w->db = w->da + n;
    w->dv = w->db + n;
    void *floats = w->dv + 2 * b; // doubles first: what follows needs less alignment
    w->s = floats;
    w->p = w->s + n;
    w->acc = w->p + n;
    w->r = w->acc + n;
    w->v = w->r + n;
    void *ints = w->v + n;
    w->pivots = ints;
    return ST_OK;
}

static void multiply(const struct scratch *w, bool ta, const float *a, const float *b, float *c)
{
    w->k->gemm(w->k, ta, false, w->b, w->b, w->b, a, w->b, b, w->b, c, w->b);
}

/* S = scale * skew(v), v being scaled on the way. */
static void skew(const struct scratch *w, double scale)
{
    float *v = w->v, *restrict s = w->s;
    size_t b = (size_t)w->b;
    for (int64_t i = 0, n = rotation_packed(w->b); i < n && scale != 1; i++)
        v[i] = (float)(scale * v[i]);
    for (size_t p = 0; p < b; p++) {
        s[p * b + p] = 0;
        memcpy(s + p * b + p + 1, v, (b - p - 1) * sizeof *v);
        for (size_t q = p + 1; q < b; q++)
            s[q * b + p] = -*v++;
    }
}

static void exact(const struct scratch *w, float *r)
{
    size_t n = (size_t)w->b * (size_t)w->b;
    for (size_t i = 0; i < n; i++) {
        w->da[i] = w->s[i];
        w->db[i] = -(double)w->s[i];
    }
    for (size_t i = 0; i < n; i += (size_t)w->b + 1)
        w->da[i] = w->db[i] = 1;
    // I + S is never singular, but in double it looks so where S is beyond 1e16: no R then
    bool solved = w->k->solve(w->k, w->b, w->b, w->da, w->db, w->pivots);
    for (size_t i = 0; i < n; i++)
        r[i] = solved ? (float)w->db[i] : NAN;
}

/* Coefficient of S^i in a series whose last power is `last`. */
static float coefficient(const struct rotation_rule *rule, int32_t i, int32_t last)
{
    if (i > last)
        return 0;
    if (i == 0)
        return 1;
    return i == last && last > 1 && !rule->old ? 1 : 2;
}

/* m = c0 I + c1 S + c2 p */
static void combine(const struct scratch *w, float c0, float c1, float c2, const float *p, float *m)
{
    w->k->combine(w->k, w->b, c0, c1, w->s, c2, p, m);
}

/* P = S^2 is there. */
static void neumann(const struct scratch *w, const struct rotation_rule *rule, float *r)
{
    int32_t last = rule->terms - 1;
    if (!rule->old && last == 2)
        last = 3;
    if (last <= 0) {
        combine(w, 1, 0, 0, NULL, r);
        return;
    }
    int32_t top = last / 2 * 2;
    float square = 0;
    if (top && coefficient(rule, top + 1, last) == 0) { // P times c I needs no product
        square = coefficient(rule, top, last);
        top -= 2;
    }
    // the value of an even number of products is born where it shall end
    float *value = top / 2 % 2 ? w->acc : r, *next = top / 2 % 2 ? r : w->acc;
    combine(w, coefficient(rule, top, last), coefficient(rule, top + 1, last), square, w->p, value);
    for (top -= 2; top >= 0; top -= 2) {
        multiply(w, false, w->p, value, next);
        combine(w, coefficient(rule, top, last), coefficient(rule, top + 1, last), 1, next, next);
        float *swap = value;
        value = next;
        next = swap;
    }
}

/* Is I + P (P = S^2) positive definite? */
static bool contracts(const struct scratch *w)
{
    int32_t b = w->b;
    double *l = w->da;
    for (int32_t i = 0; i < b; i++)
        for (int32_t j = 0; j <= i; j++) {
            double sum = i == j;
            for (int32_t k = 0; k < b; k++)
                sum -= (double)w->s[i * (size_t)b + k] * w->s[j * (size_t)b + k];
            for (int32_t k = 0; k < j; k++)
                sum -= l[i * (size_t)b + k] * l[j * (size_t)b + k];
            if (i != j)
                l[i * (size_t)b + j] = sum / l[j * (size_t)b + j];
            else if (sum > 0)
                l[i * (size_t)b + i] = sqrt(sum);
            else
                return false;
        }
    return true;
}

/* y = S x; returns |y|. */
static double apply(const struct scratch *w, const double *x, double *y)
{
    double sum = 0;
    for (int32_t i = 0; i < w->b; i++) {
        y[i] = 0;
        for (int32_t j = 0; j < w->b; j++)
            y[i] += w->s[i * (size_t)w->b + j] * x[j];
        sum += y[i] * y[i];
    }
    return sqrt(sum);
}

/* The spectral norm of S, from below. */
static double spectral_norm(const struct scratch *w)
{
    double *x = w->dv, *y = w->dv + w->b, norm = 0;
    uint32_t seed = 1;
    for (int32_t i = 0; i < w->b; i++)
        x[i] = (double)((seed = seed * 1664525 + 1013904223) >> 8) / 0x1p24 - 0.5;
    for (int step = 0; step < POWER_STEPS; step++) {
        double before = norm;
        double length = apply(w, x, y);
        if (length == 0)
            break;
        for (int32_t i = 0; i < w->b; i++)
            y[i] /= length;
        norm = apply(w, y, x);
        if (norm == 0)
            break;
        for (int32_t i = 0; i < w->b; i++)
            x[i] /= norm;
        if (fabs(norm - before) <= 1e-9 * norm)
            break;
    }
    return norm;
}

/* Is the spectral norm of S at least 1? length is |v|, P = S^2 is there. */
static void check_contraction(const struct scratch *w, double length, struct rotation_stats *stats)
{
    if (length < 1)
        return;
    double sum = 0;
    size_t n = (size_t)w->b * (size_t)w->b;
    for (size_t i = 0; i < n; i++)
        sum += (double)w->p[i] * w->p[i];
    if (sum < 1.99)
        return;
    bool small = w->b <= CHOLESKY_MAX;
    if (small && contracts(w))
        return;
    double norm = spectral_norm(w);
    if (!small && norm < 1)
        return;
    stats->divergent++;
    stats->norm = fmax(stats->norm, fmax(norm, 1));
}

/* max |R^T R - I| of one block; infinite where R is not finite. The diagonal tells: its elements
 * are the squared lengths of R's columns, and no product of two columns is larger than both. */
static double defect(const struct scratch *w, const float *r)
{
    size_t n = (size_t)w->b * (size_t)w->b;
    bool finite = true;
    multiply(w, true, r, r, w->acc);
    for (size_t i = 0; i < n; i += (size_t)w->b + 1) {
        finite &= isfinite(w->acc[i]) != 0;
        w->acc[i] -= 1;
    }
    return finite ? (double)w->k->largest(w->k, w->acc, (int64_t)n) : (double)INFINITY;
}

/* How far a projected vector may leave its ball by being rounded to the dtype of its file. */
static double coft_slack(enum dtype d)
{
    return d == DT_F32 ? 1e-5 : 1e-2;
}

static void build_block(const struct scratch *w, const struct rotation_rule *rule,
                        const struct tensor *packed, float *r, struct rotation_stats *stats)
{
    int64_t n = rotation_packed(w->b);
    double sum = w->k->squares(w->k, w->v, n), scale = rule->strength;
    if (!isfinite(sum)) {
        stats->non_finite++;
        memset(w->v, 0, (size_t)n * sizeof *w->v);
        sum = 0;
    }
    double length = sqrt(sum);
    if (rule->coft) {
        double radius = rule->eps / sqrt((double)packed->shape[0]), norm = sqrt(2) * length;
        if (norm > radius) {
            stats->projected += norm > radius * (1 + coft_slack(packed->dtype));
            scale *= radius / norm;
        }
    }
    skew(w, scale);
    if (rule->neumann) {
        multiply(w, false, w->s, w->s, w->p);
        check_contraction(w, scale * length, stats);
        neumann(w, rule, r);
    } else {
        exact(w, r);
    }
    stats->defect = fmax(stats->defect, defect(w, r));
}

/* What bytes would lose of a block, squared, in parts of its inputs: an output's error is that of
 * `block` inputs times bytes that are off by a part of a step that is uniform, and the step of a
 * column is the 127th of its largest entry. That is estimated: D is about 2 S, and on its diagonal
 * 2 S^2. sum: of v's squares. */
static double bytes_lose(int32_t block, double most, double sum)
{
    double linear = 2 * most, square = 4 * sum / block;
    double step = (linear > square ? linear : square) / 127; // NaN where sum is
    return block * step * step / 12;
}

enum dtype rotation_near(const struct kernels *k, const struct rotation_rule *rule,
                         const struct tensor *packed, int32_t block)
{
    float v[1024];
    int64_t rows = packed->shape[0], n = rotation_packed(block);
    double lost = 0, t = rule->strength;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0, most = 0;
        turns_pause();
        for (int64_t at = 0; at < n; at += 1024) {
            int64_t some = n - at < 1024 ? n - at : 1024;
            tensor_to_f32(packed, i * n + at, some, v);
            sum += k->squares(k, v, some);
            most = fmax(most, k->largest(k, v, some));
        }
        lost += bytes_lose(block, t * most, t * t * sum);
    }
    return lost <= BYTES_MAY_LOSE * BYTES_MAY_LOSE * (double)rows ? DT_I8 : DT_F16;
}

/* D of the block whose R is in w->r, in halves; false: an entry is beyond what F16 holds. */
static bool store_halves(const struct scratch *w, uint16_t *out)
{
    size_t n = (size_t)w->b * (size_t)w->b;
    uint32_t beyond = 0;
    tensor_from_f32(w->r, (int64_t)n, DT_F16, out);
    for (size_t i = 0; i < n; i++)
        beyond |= (out[i] & 0x7c00) == 0x7c00;
    return !beyond;
}

/* false: the form does not hold D. */
static bool store_near(const struct scratch *w, enum dtype dtype, void *out)
{
    size_t n = (size_t)w->b * (size_t)w->b;
    for (size_t i = 0; i < n; i += (size_t)w->b + 1)
        w->r[i] -= 1;
    if (dtype == DT_F16)
        return store_halves(w, out);
    w->k->to_bytes(w->k, w->b, w->r, out);
    return true;
}

enum status rotation_build(const struct kernels *k, const struct rotation_rule *rule,
                           const struct tensor *packed, int32_t block, enum dtype dtype, void *out,
                           struct rotation_stats *stats, struct error *err)
{
    int64_t rows = packed->shape[0], n = rotation_packed(block);
    size_t step = rotation_block_bytes(dtype, block);
    stats->rows += rows;
    if (block == 1) {
        memset(out, 0, (size_t)rows * step);
        for (int64_t i = 0; i < rows && dtype == DT_F32; i++)
            ((float *)out)[i] = 1;
        return ST_OK;
    }
    struct scratch w = {0};
    enum status s = scratch_open(&w, k, block, err);
    if (s)
        return s;
    for (int64_t i = 0; i < rows; i++) {
        void *to = (char *)out + (size_t)i * step;
        turns_pause();
        tensor_to_f32(packed, i * n, n, w.v);
        if (dtype == DT_F32) {
            build_block(&w, rule, packed, to, stats);
        } else {
            build_block(&w, rule, packed, w.r, stats);
            stats->beyond += !store_near(&w, dtype, to);
        }
    }
    memory_free(w.memory);
    return ST_OK;
}
