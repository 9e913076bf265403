/*
 * A block of GGUF's Q4_0, Q4_1 and Q8_0: 32 weights of a row and one or two F16 numbers.
 */
#ifndef OFTD_CORE_FILES_GGUF_BLOCKS_H
#define OFTD_CORE_FILES_GGUF_BLOCKS_H

#include "core/files/gguf.h"

#define GGUF_BLOCK 32

/* Bytes of a block; 0 for F32 and F16, which have none. */
size_t gguf_block_bytes(enum gguf_type type);
/* Bits of a code: 4 or 8. */
int gguf_block_bits(enum gguf_type type);
/* The codes, all unsigned. */
void gguf_block_codes(enum gguf_type type, const uint8_t *block, uint8_t codes[GGUF_BLOCK]);
/* Such that a weight is (code - zero) * scale in float32; false if the block's numbers are not
 * finite. */
bool gguf_block_steps(enum gguf_type type, const uint8_t *block, float *scale, float *zero);
/* The weights by GGUF's own formula in float32; false as above. */
bool gguf_block_floats(enum gguf_type type, const uint8_t *block, float out[GGUF_BLOCK]);

#endif
