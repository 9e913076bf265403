/* HQQ's quantizer (hqq 0.2.8 on a CPU, in f32) over plain arrays. */
#ifndef OFTD_BACKENDS_HQQ_QUANTIZE_H
#define OFTD_BACKENDS_HQQ_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

struct hqq_settings {
    int top;       /* the greatest code */
    int axis;      /* 1: groups of consecutive elements; 0: of elements count / group apart */
    int64_t group; /* elements of a group; divides count */
    bool optimize, round_zero;
};

/* w [count], finite -> codes [count]; steps and zeros [count / group], f32: w = (code - zero) *
 * step. False: out of memory. */
bool hqq_quantize(const struct hqq_settings *h, const float *w, int64_t count, uint8_t *codes,
                  float *steps, float *zeros);

#endif
