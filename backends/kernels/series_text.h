/* The loops of series.c, for an instruction set whose files they are compiled in: NAME(x) is x of
 * that set. */
#ifndef OFTD_BACKENDS_KERNELS_SERIES_TEXT_H
#define OFTD_BACKENDS_KERNELS_SERIES_TEXT_H

#include <math.h>
#include <string.h>

#include "backends/kernels/twins.h"

#ifdef NAME

#define CHAINS  16 /* of a sum */
#define COLUMNS 64 /* of a block at a time */

/* Where c2 is 0 p, which may have overflowed, is left out. */
static void combine(int32_t b, float c0, float c1, const float *s, float c2, const float *p,
                    float *m)
{
    size_t n = (size_t)b * (size_t)b;
    if (c2 != 0)
#pragma GCC ivdep // element by element, also where m is p
        for (size_t i = 0; i < n; i++)
            m[i] = c2 * p[i] + c1 * s[i];
    else
        for (size_t i = 0; i < n; i++)
            m[i] = c1 * s[i];
    for (size_t i = 0; i < n; i += (size_t)b + 1)
        m[i] += c0;
}

static double squares(const float *v, int64_t n)
{
    double sum[CHAINS] = {0};
    int64_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (int l = 0; l < CHAINS; l++)
            sum[l] += (double)v[i + l] * v[i + l];
    for (int l = 0; i + l < n; l++)
        sum[l] += (double)v[i + l] * v[i + l];
    for (int half = CHAINS / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            sum[l] += sum[l + half];
    return sum[0];
}

/* Without their signs floats are ordered as integers, whose maximum has one instruction. */
static float largest(const float *v, int64_t n)
{
    int32_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t u;
        memcpy(&u, v + i, sizeof u);
        u &= INT32_MAX;
        most = u > most ? u : most;
    }
    float f;
    memcpy(&f, &most, sizeof f);
    return f;
}

/* n <= COLUMNS columns of a block from d on. */
static void columns_to_bytes(size_t b, size_t n, const float *d, int8_t *q, float *steps)
{
    float peak[COLUMNS] = {0}, inverse[COLUMNS];
    for (size_t k = 0; k < b; k++)
        for (size_t c = 0; c < n; c++) {
            float a = fabsf(d[k * b + c]);
            peak[c] = a > peak[c] ? a : peak[c];
        }
    for (size_t c = 0; c < n; c++) {
        inverse[c] = peak[c] > 0 ? 127 / peak[c] : 0;
        steps[c] = peak[c] / 127;
    }
    for (size_t k = 0; k < b; k++)
        for (size_t c = 0; c < n; c++) {
            // the sum's last bits are the product rounded to an integer
            float sum = d[k * b + c] * inverse[c] + 0x1.8p23f;
            uint32_t u;
            memcpy(&u, &sum, sizeof u);
            q[k * b + c] = (int8_t)u;
        }
}

static void to_bytes(int32_t b, const float *d, void *out)
{
    size_t n = (size_t)b;
    int8_t *q = out;
    for (size_t c = 0; c < n; c += COLUMNS) {
        float steps[COLUMNS];
        size_t some = n - c < COLUMNS ? n - c : COLUMNS;
        columns_to_bytes(n, some, d + c, q + c, steps);
        memcpy(q + rotation_steps_at(b) + c * sizeof *steps, steps, some * sizeof *steps);
    }
}

void NAME(series)(struct twins *t)
{
    t->combine = combine;
    t->squares = squares;
    t->largest = largest;
    t->to_bytes = to_bytes;
}

#endif
#endif
