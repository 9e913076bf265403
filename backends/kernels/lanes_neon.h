/*
 * The sixteen lanes of lanes.h in four NEON registers (v[i] has lanes 4i..4i+3), for ARMv8.2 with
 * dot products of bytes. Comparisons and the choice between numbers are written so that NaN and
 * zeros of either sign come out as on the other machines; products of bytes need no detour, since
 * sdot takes signs on both sides.
 *
 * Checked against the portable twins by emulation only (tests/arm64.sh): the register blocks below
 * are chosen by the number of registers (32), not by a measurement.
 */
#ifndef OFTD_BACKENDS_KERNELS_LANES_NEON_H
#define OFTD_BACKENDS_KERNELS_LANES_NEON_H
#ifdef __ARM_FEATURE_DOTPROD

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "backends/kernels/lanes.h"

#define LANES          16
#define TWIN(name)     name##_neon
#define BLOCK_ROWS     6
#define BLOCK_TILES    1
#define FUSED_ROWS     4
#define FUSED_TILES    2
#define ATTEND_HEADS   2
#define ATTEND_VECTORS 2
#define ATTEND_MANY    2
#define ATTEND_FEW     2
#define PROBE_CHAINS   6
/* Whether codes that are wanted twice are made twice, for want of registers. */
#define CODES_AGAIN false
/* A statement for each of the four registers, i a constant: a loop's index would keep the compiler
 * from seeing registers in the arrays until late. */
#define EACH(...)                                                                                  \
    {                                                                                              \
        EACH_ONE(0, __VA_ARGS__)                                                                   \
        EACH_ONE(1, __VA_ARGS__)                                                                   \
        EACH_ONE(2, __VA_ARGS__)                                                                   \
        EACH_ONE(3, __VA_ARGS__)                                                                   \
    }
#define EACH_ONE(n, ...)                                                                           \
    {                                                                                              \
        enum { i = n };                                                                            \
        __VA_ARGS__;                                                                               \
    }
/* An expression for each of them. */
#define QUARTERS(e)                                                                                \
    {                                                                                              \
        {                                                                                          \
            e(0), e(1), e(2), e(3)                                                                 \
        }                                                                                          \
    }

typedef struct {
    float32x4_t v[4];
} vf;
typedef struct {
    int32x4_t v[4];
} vi;
typedef struct {
    uint8x16x4_t v;
} vt;
typedef struct {
    float32x4_t v[2];
} vh;

/* ---- integers ---- */

INLINE vi vi_set(int32_t i)
{
#define E(j) vdupq_n_s32(i)
    return (vi)QUARTERS(E);
#undef E
}
INLINE vi vi_iota(void)
{
    static const int32_t iota[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define E(j) vld1q_s32(iota + 4 * (j))
    return (vi)QUARTERS(E);
#undef E
}
INLINE vi vi_load(const void *p)
{
#define E(j) vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p + 16 * (j)))
    return (vi)QUARTERS(E);
#undef E
}
/* For what is used twice. */
INLINE vi vi_load_once(const void *p)
{
    return vi_load(p);
}
INLINE void vi_store(void *p, vi v)
{
    uint8_t *to = p;
    vst1q_u8(to, vreinterpretq_u8_s32(v.v[0]));
    vst1q_u8(to + 16, vreinterpretq_u8_s32(v.v[1]));
    vst1q_u8(to + 32, vreinterpretq_u8_s32(v.v[2]));
    vst1q_u8(to + 48, vreinterpretq_u8_s32(v.v[3]));
}
#define OF_TWO(type, name, instruction)                                                            \
    INLINE type name(type a, type b)                                                               \
    {                                                                                              \
        type out;                                                                                  \
        EACH(out.v[i] = instruction(a.v[i], b.v[i]))                                               \
        return out;                                                                                \
    }
OF_TWO(vi, vi_and, vandq_s32)
OF_TWO(vi, vi_or, vorrq_s32)
OF_TWO(vi, vi_add, vaddq_s32)
OF_TWO(vi, vi_sub, vsubq_s32)
OF_TWO(vi, vi_mul, vmulq_s32)
OF_TWO(vi, vi_min, vminq_s32)
OF_TWO(vi, vi_max, vmaxq_s32)
INLINE bool vi_same(vi a, vi b)
{
    uint32x4_t all = vdupq_n_u32(UINT32_MAX);
    EACH(all = vandq_u32(all, vceqq_s32(a.v[i], b.v[i])))
    return vminvq_u32(all) == UINT32_MAX;
}
INLINE vi vi_srl(vi v, int n)
{
    EACH(v.v[i] = vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v.v[i]), vdupq_n_s32(-n))))
    return v;
}
INLINE vi vi_sra(vi v, int n)
{
    EACH(v.v[i] = vshlq_s32(v.v[i], vdupq_n_s32(-n)))
    return v;
}
INLINE vi vi_sll(vi v, int n)
{
    EACH(v.v[i] = vshlq_s32(v.v[i], vdupq_n_s32(n)))
    return v;
}
INLINE bool vi_any_byte(vi v, int least)
{
    uint8x16_t any = vdupq_n_u8(0);
    EACH(any = vmaxq_u8(any, vandq_u8(vreinterpretq_u8_s32(v.v[i]), vdupq_n_u8(0x7f))))
    return vmaxvq_u8(any) >= least;
}
INLINE int32_t vi_sum(vi v)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(v.v[0], v.v[1]), vaddq_s32(v.v[2], v.v[3])));
}
INLINE int32_t vi_largest(vi v)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(v.v[0], v.v[1]), vmaxq_s32(v.v[2], v.v[3])));
}
INLINE vi vi_load_u8(const uint8_t *p)
{
    uint8x16_t b = vld1q_u8(p);
    uint16x8_t low = vmovl_u8(vget_low_u8(b)), high = vmovl_high_u8(b);
    return (vi){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
                 vreinterpretq_s32_u32(vmovl_high_u16(low)),
                 vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                 vreinterpretq_s32_u32(vmovl_high_u16(high))}};
}
INLINE vi vi_load_i8(const void *p)
{
    int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(p));
    int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_high_s8(b);
    return (vi){{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
                 vmovl_high_s16(high)}};
}
INLINE int16x8_t eight_i16(const void *p, int half)
{
    return vreinterpretq_s16_u8(vld1q_u8((const uint8_t *)p + 16 * half));
}
INLINE vi vi_load_i16(const void *p)
{
    int16x8_t low = eight_i16(p, 0), high = eight_i16(p, 1);
    return (vi){{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
                 vmovl_high_s16(high)}};
}
INLINE void vi_store_bytes(int8_t *p, vi v)
{
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(v.v[0]), v.v[1]);
    int16x8_t high = vqmovn_high_s32(vqmovn_s32(v.v[2]), v.v[3]);
    vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(low), high));
}
/* Bytes 0 to 3 of a lane: those of a to d; values -128..127. */
INLINE vi vi_bytes(vi a, vi b, vi c, vi d)
{
    static const uint8_t places[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    vi out;
    for (int j = 0; j < 4; j++) {
        int16x8_t low = vqmovn_high_s32(vqmovn_s32(a.v[j]), b.v[j]);
        int16x8_t high = vqmovn_high_s32(vqmovn_s32(c.v[j]), d.v[j]);
        int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(low), high);
        out.v[j] = vreinterpretq_s32_s8(vqtbl1q_s8(bytes, vld1q_u8(places)));
    }
    return out;
}
INLINE void vi_store_words(int16_t *p, vi v)
{
    vst1q_s16(p, vqmovn_high_s32(vqmovn_s32(v.v[0]), v.v[1]));
    vst1q_s16(p + 8, vqmovn_high_s32(vqmovn_s32(v.v[2]), v.v[3]));
}
INLINE vi vi_even_words(vi v)
{
    EACH(v.v[i] =
             vreinterpretq_s32_s16(vshrq_n_s16(vshlq_n_s16(vreinterpretq_s16_s32(v.v[i]), 8), 8)))
    return v;
}
INLINE vi vi_odd_words(vi v)
{
    EACH(v.v[i] = vreinterpretq_s32_s16(vshrq_n_s16(vreinterpretq_s16_s32(v.v[i]), 8)))
    return v;
}
INLINE int32x4_t four_add_words(int32x4_t acc, int16x8_t words, int16x8_t x)
{
    int32x4_t low = vmull_s16(vget_low_s16(words), vget_low_s16(x));
    return vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(words, x)));
}
INLINE vi vi_add_words(vi acc, vi words, const int16_t *q)
{
    int16x8_t x = vreinterpretq_s16_s32(vdupq_n_s32(four_at(q)));
    EACH(acc.v[i] = four_add_words(acc.v[i], vreinterpretq_s16_s32(words.v[i]), x))
    return acc;
}

/* ---- floats ---- */

INLINE vf vf_set(float f)
{
#define E(j) vdupq_n_f32(f)
    return (vf)QUARTERS(E);
#undef E
}
INLINE vf vf_zero(void)
{
    return vf_set(0);
}
INLINE vf vf_load(const float *p)
{
#define E(j) vld1q_f32(p + 4 * (j))
    return (vf)QUARTERS(E);
#undef E
}
INLINE vf vf_load_n(const float *p, int64_t n)
{
    float lanes[LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vf_load(lanes);
}
INLINE void vf_store(float *p, vf v)
{
    vst1q_f32(p, v.v[0]);
    vst1q_f32(p + 4, v.v[1]);
    vst1q_f32(p + 8, v.v[2]);
    vst1q_f32(p + 12, v.v[3]);
}
INLINE void vf_store_n(float *p, vf v, int64_t n)
{
    float lanes[LANES];
    vf_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
INLINE float32x4_t four_max(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
INLINE float32x4_t four_min(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
OF_TWO(vf, vf_add, vaddq_f32)
OF_TWO(vf, vf_sub, vsubq_f32)
OF_TWO(vf, vf_mul, vmulq_f32)
OF_TWO(vf, vf_div, vdivq_f32)
OF_TWO(vf, vf_max, four_max)
OF_TWO(vf, vf_min, four_min)
#undef OF_TWO
INLINE vf vf_fma(vf a, vf b, vf c)
{
    EACH(c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]))
    return c;
}
INLINE vi vi_of_bits(vf v)
{
#define E(j) vreinterpretq_s32_f32(v.v[j])
    return (vi)QUARTERS(E);
#undef E
}
INLINE vf vf_of_bits(vi v)
{
#define E(j) vreinterpretq_f32_s32(v.v[j])
    return (vf)QUARTERS(E);
#undef E
}
INLINE vf vf_less(vf a, vf b, vf x, vf y)
{
    EACH(y.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i]))
    return y;
}
INLINE vf vf_abs(vf v)
{
    EACH(v.v[i] = vabsq_f32(v.v[i]))
    return v;
}
INLINE uint32x4_t four_within(float32x4_t a, float low, float high)
{
    uint32x4_t in = vandq_u32(vcgeq_f32(a, vdupq_n_f32(low)), vcltq_f32(a, vdupq_n_f32(high)));
    return vorrq_u32(in, vceqzq_f32(a));
}
INLINE bool vf_within(vf v, float low, float high)
{
    uint32x4_t all = vdupq_n_u32(UINT32_MAX);
    EACH(all = vandq_u32(all, four_within(vabsq_f32(v.v[i]), low, high)))
    return vminvq_u32(all) == UINT32_MAX;
}
INLINE float32x4_t four_between(float32x4_t v, int32x4_t lane, int first, int end)
{
    uint32x4_t in =
        vandq_u32(vcgeq_s32(lane, vdupq_n_s32(first)), vcltq_s32(lane, vdupq_n_s32(end)));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), in));
}
INLINE vf vf_between(vf v, int first, int end)
{
    vi iota = vi_iota();
    EACH(v.v[i] = four_between(v.v[i], iota.v[i], first, end))
    return v;
}
INLINE vf vf_of_int(vi v)
{
#define E(j) vcvtq_f32_s32(v.v[j])
    return (vf)QUARTERS(E);
#undef E
}
INLINE vi vi_round(vf v)
{
#define E(j) vcvtnq_s32_f32(v.v[j])
    return (vi)QUARTERS(E);
#undef E
}
INLINE vf vf_load_f16(const void *p)
{
    float16x8_t low = vreinterpretq_f16_s16(eight_i16(p, 0));
    float16x8_t high = vreinterpretq_f16_s16(eight_i16(p, 1));
    return (vf){{vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low),
                 vcvt_f32_f16(vget_low_f16(high)), vcvt_high_f32_f16(high)}};
}
INLINE vf vf_load_bf16(const void *p)
{
    return vf_of_bits(vi_sll(vi_load_i16(p), 16));
}
INLINE void vf_store_f16(void *p, vf v)
{
    float16x8_t low = vcvt_high_f16_f32(vcvt_f16_f32(v.v[0]), v.v[1]);
    float16x8_t high = vcvt_high_f16_f32(vcvt_f16_f32(v.v[2]), v.v[3]);
    vst1q_u16(p, vreinterpretq_u16_f16(low));
    vst1q_u16((uint16_t *)p + 8, vreinterpretq_u16_f16(high));
}
INLINE vf vf_round_f16(vf v)
{
    EACH(v.v[i] = vcvt_f32_f16(vcvt_f16_f32(v.v[i])))
    return v;
}
INLINE vf vf_gather(const float *base, vi index)
{
    int32_t at[LANES];
    float lanes[LANES];
    EACH(vst1q_s32(at + 4 * i, index.v[i]))
    for (int i = 0; i < LANES; i++)
        lanes[i] = base[at[i]];
    return vf_load(lanes);
}
/* A look-up of floats is one of their bytes. */
INLINE vt vt_load(const float *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (vt){{{vld1q_u8(b), vld1q_u8(b + 16), vld1q_u8(b + 32), vld1q_u8(b + 48)}}};
}
INLINE float32x4_t four_look(vt table, int32x4_t index)
{
    int32x4_t bytes = vmulq_n_s32(vandq_s32(index, vdupq_n_s32(15)), 0x04040404);
    bytes = vaddq_s32(bytes, vdupq_n_s32(0x03020100));
    return vreinterpretq_f32_u8(vqtbl4q_u8(table.v, vreinterpretq_u8_s32(bytes)));
}
INLINE vf vt_look(vt table, vi index)
{
    vf out;
    EACH(out.v[i] = four_look(table, index.v[i]))
    return out;
}

/* ---- eight floats ---- */

INLINE vh vh_zero(void)
{
    return (vh){{vdupq_n_f32(0), vdupq_n_f32(0)}};
}
INLINE vh vh_load(const float *p)
{
    return (vh){{vld1q_f32(p), vld1q_f32(p + 4)}};
}
INLINE vh vh_load_f16(const void *p)
{
    float16x8_t h = vreinterpretq_f16_s16(eight_i16(p, 0));
    return (vh){{vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)}};
}
INLINE vh vh_load_bf16(const void *p)
{
    int16x8_t h = eight_i16(p, 0);
    return (vh){{vreinterpretq_f32_s32(vshll_n_s16(vget_low_s16(h), 16)),
                 vreinterpretq_f32_s32(vshll_high_n_s16(h, 16))}};
}
INLINE vh vh_add(vh a, vh b)
{
    return (vh){{vaddq_f32(a.v[0], b.v[0]), vaddq_f32(a.v[1], b.v[1])}};
}
INLINE vh vh_fma(vh a, vh b, vh c)
{
    return (vh){{vfmaq_f32(c.v[0], a.v[0], b.v[0]), vfmaq_f32(c.v[1], a.v[1], b.v[1])}};
}
INLINE void vh_store(float *p, vh v)
{
    vst1q_f32(p, v.v[0]);
    vst1q_f32(p + 4, v.v[1]);
}
INLINE float vh_sum(vh v)
{
    float32x4_t a = vaddq_f32(v.v[0], v.v[1]);
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
INLINE vf vf_of_halves(vh low, vh high)
{
    return (vf){{low.v[0], low.v[1], high.v[0], high.v[1]}};
}

/* ---- products of bytes ---- */

#define BYTE_BIAS 0
INLINE vi byte_table(const int8_t table[16])
{
    int32x4_t t = vreinterpretq_s32_s8(vld1q_s8(table));
    return (vi){{t, t, t, t}};
}
INLINE vi byte_look(vi table, vi index)
{
    EACH(index.v[i] = vreinterpretq_s32_u8(
             vqtbl1q_u8(vreinterpretq_u8_s32(table.v[i]),
                        vandq_u8(vreinterpretq_u8_s32(index.v[i]), vdupq_n_u8(15)))))
    return index;
}
INLINE vi bytes_centred(vi v)
{
    EACH(v.v[i] = veorq_s32(v.v[i], vdupq_n_s32((int32_t)0x80808080)))
    return v;
}
#define DOT_FOUR
INLINE vi dot_four(vi acc, vi w, const int8_t *q)
{
    int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four_at(q)));
    EACH(acc.v[i] = vdotq_s32(acc.v[i], vreinterpretq_s8_s32(w.v[i]), x))
    return acc;
}
#include "backends/kernels/lanes_dots.h"

INLINE vi lanes_add(vi acc, vi w, const void *q)
{
    vi x = vi_load(q);
    EACH(acc.v[i] = vdotq_s32(acc.v[i], vreinterpretq_s8_s32(w.v[i]), vreinterpretq_s8_s32(x.v[i])))
    return acc;
}
INLINE vi lanes_sum(vi acc)
{
    return acc;
}
INLINE vi dots_lanes(const vi w[8], const void *q)
{
    vi acc = vi_set(0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        acc = lanes_add(acc, w[i], (const int8_t *)q + 64 * i);
    return acc;
}
/* w is 128 less than the code. */
INLINE vi dots_lanes_bytes(const vi w[8], const void *q)
{
    vi one[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        one[i] = vi_set(0x01010101);
    return vi_add(dots_lanes(w, q), vi_sll(dots_lanes(one, q), 7));
}

/* 8-bit floats as integers: magnitudes 128 high + low of the codes 0 .. 127. */
struct float8_table {
    uint8x16x4_t high[2], low[2];
};
INLINE struct float8_table float8_load(const bool e5m2, float step, const uint8_t high[128],
                                       const uint8_t low[128])
{
    (void)e5m2;
    (void)step;
    return (struct float8_table){{vld1q_u8_x4(high), vld1q_u8_x4(high + 64)},
                                 {vld1q_u8_x4(low), vld1q_u8_x4(low + 64)}};
}
/* Entries of two times 64 bytes with the codes' signs. */
INLINE int32x4_t float8_part(const uint8x16x4_t table[2], int32x4_t codes)
{
    uint8x16_t at = vandq_u8(vreinterpretq_u8_s32(codes), vdupq_n_u8(0x7f));
    uint8x16_t upper = vsubq_u8(at, vdupq_n_u8(64)); // beyond the table where at < 64
    int8x16_t part = vreinterpretq_s8_u8(vqtbx4q_u8(vqtbl4q_u8(table[0], at), table[1], upper));
    uint8x16_t negative = vcltzq_s8(vreinterpretq_s8_s32(codes));
    return vreinterpretq_s32_s8(vbslq_s8(negative, vnegq_s8(part), part));
}
/* The codes of four columns, for dots_float8: w[0] the high parts, w[8] the low ones. */
INLINE void float8_bytes(const bool e5m2, const struct float8_table *t, vi codes, vi *w)
{
    (void)e5m2;
    EACH(w[0].v[i] = float8_part(t->high, codes.v[i]))
    EACH(w[8].v[i] = float8_part(t->low, codes.v[i]))
}
INLINE vi dots_float8(const vi w[16], const int8_t *q, int32_t sum)
{
    (void)sum;
    return vi_add(vi_sll(dots_signed(vi_set(0), w, q), 7), dots_signed(vi_set(0), w + 8, q));
}

/* ---- across lanes ---- */

INLINE void transpose_four(float32x4_t *a, float32x4_t *b, float32x4_t *c, float32x4_t *d)
{
    float64x2_t p = vreinterpretq_f64_f32(vtrn1q_f32(*a, *b));
    float64x2_t q = vreinterpretq_f64_f32(vtrn2q_f32(*a, *b));
    float64x2_t r = vreinterpretq_f64_f32(vtrn1q_f32(*c, *d));
    float64x2_t s = vreinterpretq_f64_f32(vtrn2q_f32(*c, *d));
    *a = vreinterpretq_f32_f64(vtrn1q_f64(p, r));
    *b = vreinterpretq_f32_f64(vtrn1q_f64(q, s));
    *c = vreinterpretq_f32_f64(vtrn2q_f64(p, r));
    *d = vreinterpretq_f32_f64(vtrn2q_f64(q, s));
}
INLINE void swap_fours(float32x4_t *a, float32x4_t *b)
{
    float32x4_t t = *a;
    *a = *b;
    *b = t;
}
INLINE void vf_transpose(vf v[16])
{
#pragma GCC unroll 4
    for (int r = 0; r < 16; r += 4)
        EACH(transpose_four(&v[r].v[i], &v[r + 1].v[i], &v[r + 2].v[i], &v[r + 3].v[i]))
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        EACH(if (i > 0) swap_fours(&v[4 * i + r].v[0], &v[r].v[i]))
        EACH(if (i > 1) swap_fours(&v[4 * i + r].v[1], &v[4 + r].v[i]))
        EACH(if (i > 2) swap_fours(&v[4 * i + r].v[2], &v[8 + r].v[i]))
    }
}
/* Four rows of four floats, `step` apart, to four columns, `to_step` apart. */
INLINE void floats_transpose(const float *from, int64_t step, float *to, int64_t to_step)
{
    float32x4_t a = vld1q_f32(from), b = vld1q_f32(from + step);
    float32x4_t c = vld1q_f32(from + 2 * step), d = vld1q_f32(from + 3 * step);
    transpose_four(&a, &b, &c, &d);
    vst1q_f32(to, a);
    vst1q_f32(to + to_step, b);
    vst1q_f32(to + 2 * to_step, c);
    vst1q_f32(to + 3 * to_step, d);
}
INLINE float vf_sum(vf v)
{
    float32x4_t a = vaddq_f32(vaddq_f32(v.v[0], v.v[2]), vaddq_f32(v.v[1], v.v[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
INLINE float vf_largest(vf v)
{
    float32x4_t a = four_max(four_max(v.v[0], v.v[1]), four_max(v.v[2], v.v[3]));
    float lanes[4];
    vst1q_f32(lanes, a);
    for (int i = 1; i < 4; i++)
        lanes[0] = lanes[0] > lanes[i] ? lanes[0] : lanes[i];
    return lanes[0];
}

#undef QUARTERS
#undef EACH
#endif
#endif
