/* 32 codes in `bits` little-endian words, as GPTQ, AWQ and auto-round lay them. */
#ifndef OFTD_BACKENDS_BITSTREAM_H
#define OFTD_BACKENDS_BITSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#define BITSTREAM_CODES 32 /* codes that share `bits` words */
#define BITSTREAM_WORDS 8  /* at most */

/* bits 1..8; planar: planes of bits instead of one stream. */
void bitstream_unpack(const uint32_t *words, int bits, bool planar, uint8_t codes[BITSTREAM_CODES]);

#endif
