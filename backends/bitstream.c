/*
 * Owns the two ways in which 32 codes of b bits take b words:
 *
 *   stream    code j is bits [j b, j b + b) of the words from the lowest bit up (2, 4, 8 bits:
 *             32 / b codes a word; 3 bits: codes 10 and 21 straddle words):
 *             |0..9, 10 low|10 high, 11..20, 21 low|21 high, 22..31|
 *   planes    widths 4, 2, 1 from the low bits up (3 = 2+1, 5 = 4+1, 6 = 4+2, 7 = 4+2+1); a plane
 *             of width v is v words, word i holding codes i (32 / v) + j at shift v j
 *
 * Source: AutoGPTQ's qlinear_cuda, GPTQModel's planar_packing, auto-round's bit_packing.
 */
#include "backends/bitstream.h"

#include <string.h>

static void unpack_stream(const uint32_t *words, int bits, uint8_t *codes)
{
    uint32_t mask = (1u << bits) - 1;
    for (int j = 0; j < BITSTREAM_CODES; j++) {
        int at = j * bits, shift = at % 32;
        uint32_t v = words[at / 32] >> shift;
        if (shift + bits > 32)
            v |= words[at / 32 + 1] << (32 - shift);
        codes[j] = (uint8_t)(v & mask);
    }
}

static void unpack_planes(const uint32_t *words, int bits, uint8_t *codes)
{
    memset(codes, 0, BITSTREAM_CODES);
    for (int width = 8, shift = 0; width; width /= 2) {
        if (!(bits & width))
            continue;
        for (int j = 0; j < BITSTREAM_CODES; j++) {
            uint32_t v = words[j * width / 32] >> j * width % 32;
            codes[j] |= (uint8_t)((v & ((1u << width) - 1)) << shift);
        }
        words += width;
        shift += width;
    }
}

/* 4 bits: a word's 8 nibbles to 8 bytes, the lowest first. */
static void unpack_nibbles(const uint32_t *words, uint8_t *codes)
{
    for (int i = 0; i < 4; i++) {
        uint64_t v = words[i];
        v = (v | v << 16) & 0x0000ffff0000ffff;
        v = (v | v << 8) & 0x00ff00ff00ff00ff;
        v = (v | v << 4) & 0x0f0f0f0f0f0f0f0f;
        memcpy(codes + 8 * i, &v, sizeof v);
    }
}

void bitstream_unpack(const uint32_t *words, int bits, bool planar, uint8_t codes[BITSTREAM_CODES])
{
    if (bits == 4)
        unpack_nibbles(words, codes);
    else if (planar)
        unpack_planes(words, bits, codes);
    else
        unpack_stream(words, bits, codes);
}
