/*
 * Owns what a block means.
 *
 *     Q4_0   d F16, 16 bytes        w = d (q - 8)       q 0..15
 *     Q4_1   d, m F16, 16 bytes     w = d q + m         q 0..15
 *     Q8_0   d F16, 32 bytes        w = d q             q -128..127
 *
 *     byte i of the 16:  low nibble q of weight i, high nibble q of weight 16 + i
 *
 * The same as steps, (code - zero) * scale in float32:
 *
 *     Q4_0   code q        zero 8       scale d       exact: 11 bits times 4
 *     Q8_0   code q + 128  zero 128     scale d       exact: 11 bits times 8
 *     Q4_1   code q        zero -m/d    scale d       -m/d is rounded, and so is code - zero:
 * within one float32 step of the block's largest weight Q4_1 with d = 0      code 0       zero -1
 * scale m: every weight is m, exactly
 *
 * A scale of 0, which no quantizer writes and none can requantize, is written as 1 with codes that
 * equal the zero.
 */
#include "core/files/gguf_blocks.h"

#include <math.h>

size_t gguf_block_bytes(enum gguf_type type)
{
    switch (type) {
    case GGUF_Q4_0:
        return 18;
    case GGUF_Q4_1:
        return 20;
    case GGUF_Q8_0:
        return 34;
    case GGUF_F32:
    case GGUF_F16:
        break;
    }
    return 0;
}

int gguf_block_bits(enum gguf_type type)
{
    return type == GGUF_Q8_0 ? 8 : 4;
}

/* d and, of a Q4_1 block, m; what q has added to it, and the first of the code bytes. */
struct head {
    float d, m;
    int bias;
    const uint8_t *q;
};

static struct head read_head(enum gguf_type type, const uint8_t *block)
{
    struct head h = {.d = f16_to_f32(load_u16(block)), .q = block + 2};
    if (type == GGUF_Q4_1) {
        h.m = f16_to_f32(load_u16(block + 2));
        h.q = block + 4;
    } else {
        h.bias = type == GGUF_Q4_0 ? 8 : 128;
    }
    return h;
}

void gguf_block_codes(enum gguf_type type, const uint8_t *block, uint8_t codes[GGUF_BLOCK])
{
    const struct head h = read_head(type, block);
    if (h.d == 0) {
        memset(codes, h.bias, GGUF_BLOCK);
        return;
    }
    for (int i = 0; i < GGUF_BLOCK; i++) {
        if (type == GGUF_Q8_0)
            codes[i] = (uint8_t)(h.q[i] ^ 0x80); // two's complement + 128
        else
            codes[i] = i < 16 ? h.q[i] & 15 : h.q[i - 16] >> 4;
    }
}

bool gguf_block_steps(enum gguf_type type, const uint8_t *block, float *scale, float *zero)
{
    const struct head h = read_head(type, block);
    *scale = h.d != 0 ? h.d : 1;
    *zero = type == GGUF_Q4_1 ? -h.m / *scale : (float)h.bias;
    if (h.d == 0 && h.m != 0) {
        *scale = h.m;
        *zero = -1;
    }
    return isfinite(h.d) && isfinite(h.m);
}

bool gguf_block_floats(enum gguf_type type, const uint8_t *block, float out[GGUF_BLOCK])
{
    const struct head h = read_head(type, block);
    uint8_t codes[GGUF_BLOCK];
    gguf_block_codes(type, block, codes);
    for (int i = 0; i < GGUF_BLOCK; i++)
        out[i] = h.d * (float)(codes[i] - h.bias) + h.m;
    return isfinite(h.d) && isfinite(h.m);
}
