/*
 * Owns the arithmetic of bitsandbytes 0.50's quantize_4bit on a CPU (torch for the codes, C++ for
 * the nested absmax); formats.md 5.5 and 15.2. Every operation is one f32 rounding in the library's
 * order: that, and nothing else, makes the stored bytes equal.
 *
 *   whole block   a = max|w|, x = clamp(w * (1 / max(a, 1e-38)), -1, 1)     absmax = a
 *   last, short   a = max(max|w|, 1e-38), x = clamp(w / a, -1, 1)           absmax = a
 *   code          number of midpoints of the ascending table strictly below x, back through the
 *                 table's order. In FP4 the two zeros (codes 0 and 8) are neighbours with the
 *                 midpoint 0, so a small positive x gets code 8 and everything from 0 down code 0.
 *   nested        offset = mean(absmax), d = absmax - offset, blocks: s = max|d|, y = d * (1 / s),
 *                 code = lut[floor(fma((y + 1) / 2, 65535, 0.5))], where lut[i] is the number of
 *                 midpoints of the map strictly below -1 + 2 i / 65535; s = 0: code 0.
 */
#include "backends/bnb_4bit_quantize.h"

#include <math.h>

#include "backends/torch_sum.h"

#define SMALLEST 1e-38f
#define AT_ONCE  32

void bnb_4bit_bounds_init(struct bnb_4bit_bounds *b, const float table[16])
{
    for (int i = 0; i < 16; i++) { // a stable sort: of two equal values the lower code first
        int at = i;
        for (; at > 0 && table[b->order[at - 1]] > table[i]; at--)
            b->order[at] = b->order[at - 1];
        b->order[at] = (uint8_t)i;
    }
    for (int i = 0; i < 15; i++)
        b->bound[i] = (table[b->order[i]] + table[b->order[i + 1]]) / 2;
}

/* Number of bounds strictly below x, clamped to [-1, 1]. */
uint8_t bnb_4bit_code(const struct bnb_4bit_bounds *b, float x)
{
    x = x < -1 ? -1 : x > 1 ? 1 : x;
    int i = (x > b->bound[7]) << 3; // without branches: codes are random
    i |= (x > b->bound[i + 3]) << 2;
    i |= (x > b->bound[i + 1]) << 1;
    i |= x > b->bound[i];
    return b->order[i];
}

/* bnb_4bit_code of many, bound by bound: there is no branch and no look-up but the last. */
static void codes_of(const struct bnb_4bit_bounds *b, const float *x, uint8_t *codes)
{
    int32_t above[AT_ONCE] = {0};
    float clamped[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++)
        clamped[i] = x[i] < -1 ? -1 : x[i] > 1 ? 1 : x[i];
    for (int j = 0; j < 15; j++) {
        const float bound = b->bound[j];
        for (int i = 0; i < AT_ONCE; i++)
            above[i] += clamped[i] > bound;
    }
    for (int i = 0; i < AT_ONCE; i++)
        codes[i] = b->order[above[i]];
}

static float max_abs(const float *w, int64_t n)
{
    float most[8] = {0}, a = 0; // the largest, in whatever order; NaNs are none
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) {
            float m = fabsf(w[i + j]);
            most[j] = m > most[j] ? m : most[j];
        }
    for (; i < n; i++)
        most[0] = fabsf(w[i]) > most[0] ? fabsf(w[i]) : most[0];
    for (int j = 0; j < 8; j++)
        a = most[j] > a ? most[j] : a;
    return a;
}

void bnb_4bit_quantize_blocks(const struct bnb_4bit_bounds *b, const float *w, int64_t blocks,
                              int64_t block, uint8_t *codes, float *absmax)
{
    for (int64_t j = 0; j < blocks; j++, w += block, codes += block) {
        float a = max_abs(w, block), r = 1.0f / (a < SMALLEST ? SMALLEST : a);
        int64_t i = 0;
        absmax[j] = a;
        for (; i + AT_ONCE <= block; i += AT_ONCE) {
            float x[AT_ONCE];
            for (int at = 0; at < AT_ONCE; at++)
                x[at] = w[i + at] * r;
            codes_of(b, x, codes + i);
        }
        for (; i < block; i++)
            codes[i] = bnb_4bit_code(b, w[i] * r);
    }
}

void bnb_4bit_quantize_rest(const struct bnb_4bit_bounds *b, const float *w, int64_t n,
                            uint8_t *codes, float *absmax)
{
    float a = max_abs(w, n);
    a = a < SMALLEST ? SMALLEST : a;
    *absmax = a;
    for (int64_t i = 0; i < n; i++)
        codes[i] = bnb_4bit_code(b, w[i] / a);
}

float bnb_4bit_mean(const float *v, int64_t n)
{
    return torch_sum_vector(v, n) / (float)n;
}

/* Element i of torch's linspace(0.1, 1, n): it fills from both ends, fused. */
static float linspace(int i, int n)
{
    float step = (1.0f - 0.1f) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(n - 1 - i), 1.0f);
}

/* Seven decades, 10^-6 to 1, of 1, 2, 4, ... 64 values: the middles of so many equal parts of
 * [0.1, 1]; mirrored around 0, and 1 without its negative. */
void bnb_4bit_map_init(float map[256])
{
    static const float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};
    int at = 128;
    map[127] = 0;
    for (int d = 0; d < 7; d++)
        for (int i = 0; i < 1 << d; i++, at++) {
            int n = (1 << d) + 1;
            map[at] = (linspace(i, n) + linspace(i + 1, n)) / 2 * decades[d];
            map[254 - at] = -map[at];
        }
    map[255] = 1;
}

void bnb_4bit_lut_init(uint8_t *lut, const float map[256])
{
    int code = 0;
    for (int i = 0; i < BNB_4BIT_LUT; i++) {
        float value = -1.0f + 2.0f * (float)i / (BNB_4BIT_LUT - 1);
        while (code < 255 && 0.5f * (map[code] + map[code + 1]) < value)
            code++;
        lut[i] = (uint8_t)code;
    }
}

void bnb_4bit_quantize_nested(const uint8_t *lut, const float *v, int64_t n, float offset,
                              int64_t block, uint8_t *codes, float *scales)
{
    for (int64_t first = 0; first < n; first += block) {
        int64_t end = n - first < block ? n : first + block;
        float s = 0;
        for (int64_t i = first; i < end; i++) {
            float m = fabsf(v[i] - offset);
            s = m > s ? m : s;
        }
        scales[first / block] = s;
        float r = 1.0f / s;
        for (int64_t i = first; i < end; i++) {
            float y = (v[i] - offset) * r;
            y = y >= -1 ? y > 1 ? 1 : y : -1;
            codes[i] = s == 0 ? 0 : lut[(int)fmaf((y + 1) * 0.5f, BNB_4BIT_LUT - 1, 0.5f)];
        }
    }
}
