/* bitsandbytes' 4-bit quantization on a CPU, bit for bit, over plain arrays. */
#ifndef OFTD_BACKENDS_BNB_4BIT_QUANTIZE_H
#define OFTD_BACKENDS_BNB_4BIT_QUANTIZE_H

#include <stdint.h>

/* A table of 16 values in ascending order: code order[i] for x between bound[i - 1] (excluded) and
 * bound[i] (included). */
struct bnb_4bit_bounds {
    float bound[15];
    uint8_t order[16];
};
/* The code of x, clamped to [-1, 1]. */
uint8_t bnb_4bit_code(const struct bnb_4bit_bounds *b, float x);
void bnb_4bit_bounds_init(struct bnb_4bit_bounds *b, const float table[16]);

/* Codes (one byte each) and absmax of `blocks` whole blocks of w. */
void bnb_4bit_quantize_blocks(const struct bnb_4bit_bounds *b, const float *w, int64_t blocks,
                              int64_t block, uint8_t *codes, float *absmax);
/* The same for the short block of n < block elements at the end, which has rules of its own. */
void bnb_4bit_quantize_rest(const struct bnb_4bit_bounds *b, const float *w, int64_t n,
                            uint8_t *codes, float *absmax);

/* Mean of n >= 1 floats in the summation order of torch's CPU kernel. */
float bnb_4bit_mean(const float *v, int64_t n);

/* The library's map for nested absmax: 256 ascending values, of which 0 is the 127th and 1 the
 * last.
 */
void bnb_4bit_map_init(float map[256]);

#define BNB_4BIT_LUT 65536
/* lut[BNB_4BIT_LUT] for a map of 256 ascending values. */
void bnb_4bit_lut_init(uint8_t *lut, const float map[256]);
/* Quantizes v[n] - offset to codes in blocks: scales[ceil(n / block)]. */
void bnb_4bit_quantize_nested(const uint8_t *lut, const float *v, int64_t n, float offset,
                              int64_t block, uint8_t *codes, float *scales);

#endif
