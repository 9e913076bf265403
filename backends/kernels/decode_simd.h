/*
 * Decoding in registers: four consecutive columns of a tile's 16 rows at a time, straight from the
 * tile layout (core/kernels.h). Shared by the panel decoder (decode_panel_simd.h) and the fused
 * products (matmul_simd.h).
 *
 * A dword of a line holds four codes of its row as bytes, so code j of a quad is dword >> 8j:
 *
 *   TABLE4, 4 bits   the table look-up uses the low four bits alone: shift, look up, no mask
 *   BITS4            the same look-up with the table 0, 1, .. 15 makes floats of integer codes
 *   BITS8            shift, mask, convert
 *   BITS2, 3, BITS   the quad is put together from its planes first, then as BITS8
 *   E4M3, E5M2       the byte's sign, exponent and mantissa are moved to where a float has them;
 *                    that is the value over 2^120 (2^112), subnormals included, which the scale
 *                    makes good: (v / 2^120) (scale 2^120) and v scale are roundings of one number
 */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/special_simd.h"

#ifdef LANES

#include "core/kernels.h"

enum kind {
    KIND_F32,
    KIND_F16,
    KIND_BF16,
    KIND_CODEBOOK,
    KIND_TABLE4,
    KIND_BITS4,
    KIND_BITS8,
    KIND_BITS2,
    KIND_BITS3,
    KIND_BITS, /* other widths */
    KIND_E4M3,
    KIND_E5M2
};

/* Where the scale and the zero of a column are found. */
enum places {
    PLACES_RUNS,    /* one for a run of whole eights of columns, 16 rows side by side */
    PLACES_COLUMNS, /* one for each column (group_of, odd groups), 16 rows side by side */
    PLACES_ROWS     /* each row has its own places (flat and strided groups) */
};

/* Where a tile is read. */
struct reader {
    const struct weight *w;
    int64_t tile;
    const uint8_t *data; /* the tile's first byte */
    vt table;
    float scale_low, scale_high; /* scales that make a group plain */
    vf scale, zero;
    vi first_block, nested_block; /* nested: of the rows' first blocks, and whose absmax this is */
    vf nested_absmax;
    int64_t group, next; /* current group and the column where the next one begins */
    bool plain;          /* the fast forms of reader_element are right for the whole group */
};

INLINE bool is_float8(const enum kind kind)
{
    return kind == KIND_E4M3 || kind == KIND_E5M2;
}

/* The nested absmax needs its block's flat index in 32 bits, by shifts, in groups that do not
 * straddle rows. */
INLINE bool nesting_is_regular(const struct weight *w)
{
    int64_t b = w->nested_block;
    return b > 0 && !(b & (b - 1)) && w->flat_k % w->group == 0 && w->flat_col % w->group == 0 &&
           w->n_nested > 0 &&
           (w->flat_row + w->n_tiles * TILE_ROWS) * (w->flat_k / w->group) < INT32_MAX;
}

INLINE enum kind reader_kind(const struct weight *w)
{
    switch (w->encoding) {
    case ENC_DENSE:
        return w->dtype == DT_F32 ? KIND_F32 : w->dtype == DT_F16 ? KIND_F16 : KIND_BF16;
    case ENC_CODEBOOK:
        return KIND_CODEBOOK;
    case ENC_TABLE4:
        return KIND_TABLE4;
    case ENC_FLOAT8:
        return w->code_dtype == DT_F8_E5M2 ? KIND_E5M2 : KIND_E4M3;
    case ENC_GROUP:
        break;
    }
    switch (w->bits) {
    case 2:
        return KIND_BITS2;
    case 3:
        return KIND_BITS3;
    case 4:
        return KIND_BITS4;
    case 8:
        return KIND_BITS8;
    default:
        return KIND_BITS;
    }
}

INLINE enum places reader_places(const struct weight *w)
{
    if (w->encoding == ENC_DENSE || w->encoding == ENC_CODEBOOK)
        return PLACES_RUNS;
    if (w->grouping != GROUPS_OF_ROWS || (w->nested && !nesting_is_regular(w)))
        return PLACES_ROWS;
    return w->group_of || w->group % 8 != 0 ? PLACES_COLUMNS : PLACES_RUNS;
}

/* Sixteen parameters. */
INLINE vf reader_parameter(const void *p, enum dtype d, int64_t index)
{
    switch (d) {
    case DT_F32:
        return vf_load((const float *)p + index);
    case DT_F16:
        return vf_load_f16((const uint16_t *)p + index);
    case DT_BF16:
        return vf_load_bf16((const uint16_t *)p + index);
    case DT_I16:
        return vf_of_int(vi_load_i16((const uint16_t *)p + index));
    default:
        return vf_of_int(vi_load_u8((const uint8_t *)p + index));
    }
}

/* Flat indices of the blocks with which the tile's rows begin. */
INLINE vi reader_first_blocks(const struct weight *w, int64_t tile)
{
    int64_t per_row = w->flat_k / w->group;
    int64_t first = (w->flat_row + tile * TILE_ROWS) * per_row + w->flat_col / w->group;
    return vi_add(vi_set((int32_t)first), vi_mul(vi_iota(), vi_set((int32_t)per_row)));
}

/* The absmax of r->group; the nested ones seldom change from group to group. */
INLINE vf reader_nested(struct reader *r, int64_t index)
{
    const struct weight *w = r->w;
    vi block = vi_add(r->first_block, vi_set((int32_t)r->group));
    block = vi_srl(block, __builtin_ctzll((unsigned long long)w->nested_block));
    block = vi_min(block, vi_set((int32_t)w->n_nested - 1)); // rows beyond the end
    if (!vi_same(block, r->nested_block)) {
        r->nested_block = block;
        r->nested_absmax = vf_gather(w->nested_absmax, block);
    }
    vf map = vf_gather(w->nested_map, vi_load_u8((const uint8_t *)w->scales + index));
    return vf_add(vf_mul(map, r->nested_absmax), vf_set(w->nested_offset));
}

INLINE bool all_integers(vf v)
{
    vf whole = vf_sub(vf_add(v, vf_set(SPECIAL_MAGIC)), vf_set(SPECIAL_MAGIC));
    return vf_within(vf_sub(v, whole), 1, 2);
}

/*
 * round_split is right for all elements of a group if none is beyond what D holds nor, 0 aside,
 * below its normal numbers. An element is table[code], code - zero or an 8-bit float, times the
 * scale: the magnitudes of the first factor bound those of the scale, once for the weight. 8-bit
 * floats also need a scale that stays finite times 2^120.
 */
INLINE void reader_bound_scales(const enum kind kind, struct reader *r)
{
    const enum dtype d = r->w->dtype;
    if (is_float8(kind)) {
        r->scale_low = d == DT_BF16 ? 0x1p-100f : 0;
        r->scale_high = 0x1p7f;
        return;
    }
    bool f16 = d == DT_F16;
    float top = f16 ? 0x1p14f + 255 : 0x1p31f, least = f16 ? 1 : 0x1p-60f;
    if (kind == KIND_TABLE4) {
        vf table = vf_abs(vf_load(r->w->table));
        vf negative = vf_less(vf_zero(), table, vf_sub(vf_zero(), table), vf_set(-INFINITY));
        top = vf_largest(table);
        least = -vf_largest(negative);
    }
    // the factors 0.9 and 1.1: these quotients are rounded
    r->scale_low = 1.1f * (f16 ? 0x1p-14f : 0x1p-120f) / least;
    r->scale_high = 0.9f * (f16 ? 0x1p15f : 0x1p60f) / top;
}

INLINE bool is_plain(const enum kind kind, const struct reader *r)
{
    const struct weight *w = r->w;
    if (is_float8(kind))
        return vf_within(r->scale, r->scale_low, r->scale_high);
    if (w->dtype == DT_F32)
        return true;
    if (kind != KIND_TABLE4 && (w->rule == RULE_FMA || w->rule == RULE_FACTOR))
        return true; // these never split
    if (kind != KIND_TABLE4 && w->dtype == DT_F16 && w->rule == RULE_STEPS &&
        w->zero_dtype == DT_F16)
        // eleven bits: code - zero is 0 or at least 2^-11; the product does not split
        return !w->zeros || vf_within(r->zero, 0x1p-11f, 0x1p14f);
    if (!vf_within(r->scale, r->scale_low, r->scale_high))
        return false;
    if (kind == KIND_TABLE4 || !w->zeros || w->zero_dtype == DT_U8)
        return true;
    if (w->dtype == DT_F16) // then code - zero is 0 or at least 1
        return vf_within(r->zero, 0, 0x1p14f) && all_integers(r->zero);
    return vf_within(r->zero, 0x1p-60f, 0x1p30f);
}

/* Scale and zero of r->group. */
INLINE void reader_load_group(struct reader *r)
{
    const struct weight *w = r->w;
    int64_t index = (r->tile * w->n_groups + r->group) * TILE_ROWS;
    r->scale =
        w->nested ? reader_nested(r, index) : reader_parameter(w->scales, w->scale_dtype, index);
    r->zero = w->zeros ? reader_parameter(w->zeros, w->zero_dtype, index) : vf_zero();
}

/* At column k of a tile, before its group is entered. */
INLINE void reader_open(const enum kind kind, struct reader *r, const struct weight *w,
                        int64_t tile, int64_t k)
{
    static const float integers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int64_t chunks = w->k_padded / TILE_K;
    *r = (struct reader){.w = w, .tile = tile, .next = INT64_MAX, .plain = true};
    r->zero = r->scale = vf_zero();
    if (kind < KIND_TABLE4) {
        r->data = (const uint8_t *)w->data +
                  tile * TILE_ROWS * w->k_padded * (int64_t)dtype_size(w->dtype);
        return;
    }
    r->data = (const uint8_t *)w->data + tile * chunks * 64 * w->bits;
    r->table = vt_load(kind == KIND_TABLE4 ? w->table : integers);
    reader_bound_scales(kind, r);
    if (w->nested && nesting_is_regular(w))
        r->first_block = reader_first_blocks(w, tile);
    r->nested_block = vi_set(-1);
    r->group = k / w->group - 1;
    r->next = (r->group + 1) * w->group;
}

/* Enters the next group if column k is beyond the current one; runs only. */
INLINE void reader_advance(const enum kind kind, struct reader *r, int64_t k)
{
    if (kind < KIND_TABLE4 || k < r->next)
        return;
    r->group++;
    r->next += r->w->group;
    reader_load_group(r);
    r->plain = is_plain(kind, r);
}

/*
 * v rounded to 24 - s bits, c = 2^s + 1 (Veltkamp's splitting). g = v c is rounded where v's new
 * last bit will be; ties go to even as they should, because a tie's v is an even multiple of its
 * old last bit. Half the cost of the conversion instructions; right for every normal v, as long as
 * nothing overflows (checked over all mantissas: test_matmul.c).
 */
INLINE vf round_split(vf v, const float c)
{
    vf g = vf_mul(v, vf_set(c));
    return vf_sub(g, vf_sub(g, v));
}

/* split: v is normal in d, or 0. */
INLINE vf round_to(const enum dtype d, const bool split, vf v)
{
    if (d == DT_F16)
        return split ? round_split(v, 0x1p13f + 1) : vf_round_f16(v);
    if (d == DT_BF16)
        return split ? round_split(v, 0x1p16f + 1) : vf_round_bf16(v);
    return v;
}

/* What an 8-bit float's bits in the places of a float's are short of its value. */
INLINE float float8_unit(const enum kind kind)
{
    return kind == KIND_E4M3 ? 0x1p120f : 0x1p112f;
}

/* The scale that reader_element wants. */
INLINE vf reader_scale(const enum kind kind, const bool plain, vf scale)
{
    return is_float8(kind) && plain ? vf_mul(scale, vf_set(float8_unit(kind))) : scale;
}

/* An element from its code as a float; w's rule is a constant of the loops that this stands in. */
INLINE vf reader_element(const enum kind kind, const enum dtype d, const bool plain,
                         const struct weight *w, vf v, vf scale, vf zero)
{
    if (is_float8(kind)) {
        v = plain ? v : vf_mul(v, vf_set(float8_unit(kind)));
        return round_to(d, plain && d == DT_BF16, vf_mul(v, scale));
    }
    if (kind == KIND_TABLE4)
        return round_to(d, plain, vf_mul(v, scale));
    if (w->rule == RULE_FMA)
        return round_to(d, false, vf_fma(v, scale, zero));
    v = vf_sub(v, zero);
    if (w->rule == RULE_STEPS) {
        v = vf_mul(round_to(d, plain, v), scale);
        return round_to(d, plain && d == DT_BF16, v);
    }
    v = vf_mul(v, scale);
    if (w->rule == RULE_FACTOR)
        return round_to(d, false, vf_mul(v, vf_set(w->factor)));
    return round_to(d, plain, v);
}

INLINE int kind_bits(const enum kind kind, const struct weight *w)
{
    switch (kind) {
    case KIND_BITS2:
        return 2;
    case KIND_BITS3:
        return 3;
    case KIND_TABLE4:
    case KIND_BITS4:
        return 4;
    case KIND_BITS8:
    case KIND_E4M3:
    case KIND_E5M2:
        return 8;
    default:
        return w->bits;
    }
}

/* Four codes of each row, as bytes; k is the quad's first column, upper whether k % 8 is 4. */
INLINE vi reader_codes(const enum kind kind, const struct reader *r, int64_t k, const bool upper)
{
    const int bits = kind_bits(kind, r->w);
    if (bits == 8)
        return vi_load(r->data + 64 * (k / 4));
    if (kind == KIND_TABLE4 || kind == KIND_BITS4) {
        vi line = vi_load(r->data + 64 * (k / 8));
        return upper ? vi_srl(line, 4) : line;
    }
    const uint8_t *plane = r->data + 64 * bits * (k / TILE_K);
    int quad = (int)(k % TILE_K) / 4, shift = 0;
    vi codes = vi_set(0);
#pragma GCC unroll 3
    for (int width = 4; width; width /= 2) {
        if (!(bits & width))
            continue;
        vi line = vi_load(plane + 64 * (quad * width / 8));
        int from = width * (quad % (8 / width)) - shift; // to its place in the codes at once
        vi field = from < 0 ? vi_sll(line, -from) : vi_srl(line, from);
        codes = vi_or(codes, vi_and(field, vi_set(((1 << width) - 1) * 0x01010101 << shift)));
        plane += 64 * width;
        shift += width;
    }
    return codes;
}

/* Code j of a quad as a float, before scale and zero. */
INLINE vf code_value(const enum kind kind, const struct reader *r, vi codes, const int j)
{
    if (kind == KIND_TABLE4 || kind == KIND_BITS4)
        return vt_look(r->table, vi_srl(codes, 8 * j));
    if (!is_float8(kind))
        return vf_of_int(vi_and(vi_srl(codes, 8 * j), vi_set(255)));
    vi high = vi_sll(codes, 24 - 8 * j);
    return vf_of_bits(kind == KIND_E4M3 ? vi_and(vi_sra(high, 4), vi_set((int32_t)0x87f00000))
                                        : vi_and(vi_sra(high, 3), vi_set((int32_t)0x8fe00000)));
}

/* Whether a quad has a code of infinity or NaN. */
INLINE bool has_special(const enum kind kind, vi codes)
{
    return is_float8(kind) && vi_any_byte(codes, kind == KIND_E4M3 ? 0x7f : 0x7c);
}

/* code_value with infinities and NaNs in their places. */
INLINE vf special_value(const enum kind kind, const struct reader *r, vi codes, const int j)
{
    vf v = code_value(kind, r, codes, j);
    if (!is_float8(kind))
        return v;
    vi least = vi_set(kind == KIND_E4M3 ? 0x7f << 20 : 0x7c << 21);
    vf special = vf_of_bits(vi_or(vi_of_bits(v), vi_set(0x7f800000)));
    return vf_less(vf_abs(v), vf_of_bits(least), v, special);
}

/* A quad of 8-bit floats with special codes. */
static __attribute__((noinline)) void special_quad(enum kind kind, const struct reader *r, vi codes,
                                                   vf scale, vf out[4])
{
    const struct weight *w = r->w;
    for (int j = 0; j < 4; j++)
        out[j] = kind == KIND_E4M3
                     ? reader_element(KIND_E4M3, w->dtype, false, w,
                                      special_value(KIND_E4M3, r, vi_srl(codes, 8 * j), 0), scale,
                                      vf_zero())
                     : reader_element(KIND_E5M2, w->dtype, false, w,
                                      special_value(KIND_E5M2, r, vi_srl(codes, 8 * j), 0), scale,
                                      vf_zero());
}

/* Columns k .. k + 3 of a dense weight. */
INLINE void dense_quad(const enum kind kind, const struct reader *r, int64_t k, vf out[4])
{
    if (kind == KIND_BF16) {
#pragma GCC unroll 2
        for (int j = 0; j < 4; j += 2) {
            vi pair = vi_load(r->data + (k + j) * TILE_ROWS * 2);
            out[j] = vf_of_bits(vi_sll(pair, 16));
            out[j + 1] = vf_of_bits(vi_and(pair, vi_set((int32_t)0xffff0000)));
        }
        return;
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = kind == KIND_F32 ? vf_load((const float *)r->data + (k + j) * TILE_ROWS)
                                  : vf_load_f16((const uint16_t *)r->data + (k + j) * TILE_ROWS);
}

/* Columns k .. k + 3 of one group; d and plain are constants where speed counts, scale is as
 * reader_scale gives it. upper: k % 8 is 4, else it is 0. */
INLINE void reader_quad(const enum kind kind, const enum dtype d, const bool plain,
                        const struct reader *r, vf scale, vf zero, int64_t k, const bool upper,
                        vf out[4])
{
    if (kind < KIND_CODEBOOK) {
        dense_quad(kind, r, k, out);
        return;
    }
    vi codes = reader_codes(kind, r, k, upper);
    if (__builtin_expect(has_special(kind, codes), 0)) {
        vf unit = vf_set(plain ? 1 / float8_unit(kind) : 1);
        special_quad(kind, r, codes, vf_mul(scale, unit), out);
        return;
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = code_value(kind, r, codes, j);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = reader_element(kind, d, plain, r->w, out[j], scale, zero);
}

#endif
#endif
