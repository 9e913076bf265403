/*
 * Decoding in registers: four consecutive columns of a tile's 16 rows at a time, straight from the
 * tile layout (core/kernels.h). Shared by the panel decoder (decode_avx2.c, decode_avx512.c) and
 * the fused products (matmul_simd.h).
 *
 * A dword of a line holds four codes of its row as bytes, so code j of a quad is dword >> 8j:
 *
 *   TABLE4, 4 bits   the table look-up uses the low four bits alone: shift, look up, no mask
 *   BITS4            the same look-up with the table 0, 1, .. 15 makes floats of integer codes
 *   BITS8            shift, mask, convert
 *   BITS             the quad is put together from its planes first, then as BITS8
 *
 * Scale and zero are loaded when a quad begins a new group.
 */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/special.h"

#ifdef LANES

#include "core/kernels.h"

enum kind {
    KIND_NONE,
    KIND_F32,
    KIND_F16,
    KIND_BF16,
    KIND_TABLE4,
    KIND_BITS4,
    KIND_BITS8,
    KIND_BITS
};

/* Where a tile is read. */
struct reader {
    const struct weight *w;
    int64_t tile;
    const uint8_t *data; /* the tile's first byte */
    vt table;
    float scale_low, scale_high; /* scales with which round_split is right */
    vf scale, zero;
    vi first_block, nested_block; /* nested: of the rows' first blocks, and whose absmax this is */
    vf nested_absmax;
    int64_t group, next; /* current group and the column where the next one begins */
    bool plain;          /* round_split is right for all elements of the group */
};

INLINE bool is_parameter(enum dtype d)
{
    return dtype_is_float(d) || d == DT_U8 || d == DT_I16;
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

/* How w is read; KIND_NONE: by the portable decoder (groups that straddle rows, and the like). */
INLINE enum kind reader_kind(const struct weight *w)
{
    if (w->encoding == ENC_DENSE)
        return w->dtype == DT_F32 ? KIND_F32 : w->dtype == DT_F16 ? KIND_F16 : KIND_BF16;
    if ((w->encoding != ENC_TABLE4 && w->encoding != ENC_GROUP) || w->rule == RULE_FACTOR ||
        w->rule == RULE_FMA || w->grouping != GROUPS_OF_ROWS || !is_parameter(w->scale_dtype) ||
        (w->nested && !nesting_is_regular(w)))
        return KIND_NONE;
    if (w->encoding == ENC_TABLE4)
        return KIND_TABLE4;
    if (w->zeros && !is_parameter(w->zero_dtype))
        return KIND_NONE;
    return w->bits == 4 ? KIND_BITS4 : w->bits == 8 ? KIND_BITS8 : KIND_BITS;
}

/* Whether groups are runs of whole eights of columns. */
INLINE bool reader_by_runs(const struct weight *w)
{
    return w->encoding == ENC_DENSE || (!w->group_of && w->group % 8 == 0);
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
 * below its normal numbers. An element is table[code] or code - zero, times the scale: the
 * magnitudes of the first factor bound those of the scale, once for the weight.
 */
INLINE void reader_bound_scales(const enum kind kind, struct reader *r)
{
    bool f16 = r->w->dtype == DT_F16;
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
    if (!vf_within(r->scale, r->scale_low, r->scale_high))
        return false;
    if (kind == KIND_TABLE4 || !w->zeros || w->zero_dtype == DT_U8)
        return true;
    if (w->dtype == DT_F16) // then code - zero is 0 or at least 1
        return vf_within(r->zero, 0, 0x1p14f) && all_integers(r->zero);
    return vf_within(r->zero, 0x1p-60f, 0x1p30f);
}

/* Scale and zero of r->group. */
INLINE void reader_load_group(const enum kind kind, struct reader *r)
{
    const struct weight *w = r->w;
    int64_t index = (r->tile * w->n_groups + r->group) * TILE_ROWS;
    r->scale =
        w->nested ? reader_nested(r, index) : reader_parameter(w->scales, w->scale_dtype, index);
    r->zero = w->zeros ? reader_parameter(w->zeros, w->zero_dtype, index) : vf_zero();
    r->plain = w->dtype == DT_F32 || is_plain(kind, r);
}

INLINE void reader_open(const enum kind kind, struct reader *r, const struct weight *w,
                        int64_t tile, int64_t k)
{
    static const float integers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    r->w = w;
    r->tile = tile;
    size_t element = kind == KIND_F32 ? 4 : 2;
    size_t bytes = kind < KIND_TABLE4 ? (size_t)w->k_padded * TILE_ROWS * element
                                      : (size_t)(w->k_padded / TILE_K) * 64 * (size_t)w->bits;
    r->data = (const uint8_t *)w->data + (size_t)tile * bytes;
    r->scale = r->zero = r->nested_absmax = vf_zero();
    r->first_block = r->nested_block = vi_set(-1);
    r->scale_low = r->scale_high = 0;
    r->plain = true;
    r->group = 0;
    r->next = w->k_padded;
    if (kind < KIND_TABLE4)
        return;
    r->table = vt_load(kind == KIND_TABLE4 ? w->table : integers);
    reader_bound_scales(kind, r);
    if (w->nested)
        r->first_block = reader_first_blocks(w, tile);
    r->group = w->group_of ? w->group_of[k] : k / w->group;
    r->next = (r->group + 1) * w->group;
    reader_load_group(kind, r);
}

/* Enters the next group if column k is its first. */
INLINE void reader_advance(const enum kind kind, struct reader *r, int64_t k)
{
    if (kind < KIND_TABLE4 || k < r->next)
        return;
    r->group++;
    r->next += r->w->group;
    reader_load_group(kind, r);
}

INLINE vf round_bf16(vf v)
{
    vi u = vi_of_bits(v);
    vi odd = vi_and(vi_srl(u, 16), vi_set(1));
    u = vi_add(vi_add(u, vi_set(0x7fff)), odd);
    return vf_of_bits(vi_and(u, vi_set((int32_t)0xffff0000)));
}

INLINE vf round_to(enum dtype d, vf v)
{
    return d == DT_F16 ? vf_round_f16(v) : d == DT_BF16 ? round_bf16(v) : v;
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

/* plain: as is_plain says of the group. */
INLINE void round_four(const enum dtype d, const bool plain, vf v[4])
{
    if (d == DT_F32)
        return;
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        v[j] = !plain        ? round_to(d, v[j])
               : d == DT_F16 ? round_split(v[j], 0x1p13f + 1)
                             : round_split(v[j], 0x1p16f + 1);
}

/* Four codes of each row, as bytes; k is the quad's first column, upper whether k % 8 is 4. */
INLINE vi reader_codes(const enum kind kind, const struct reader *r, int64_t k, const bool upper)
{
    if (kind == KIND_TABLE4 || kind == KIND_BITS4) {
        vi line = vi_load(r->data + 64 * (k / 8));
        return upper ? vi_srl(line, 4) : line;
    }
    if (kind == KIND_BITS8)
        return vi_load(r->data + 64 * (k / 4));
    const uint8_t *plane = r->data + 64 * r->w->bits * (k / TILE_K);
    int quad = (int)(k % TILE_K) / 4, bits = r->w->bits, shift = 0;
    vi codes = vi_set(0);
    for (int width = 4; width; width /= 2) {
        if (!(bits & width))
            continue;
        vi line = vi_load(plane + 64 * (quad * width / 8));
        vi field = vi_srl(line, width * (quad % (8 / width)));
        field = vi_and(field, vi_set(((1 << width) - 1) * 0x01010101));
        codes = vi_or(codes, vi_sll(field, shift));
        plane += 64 * width;
        shift += width;
    }
    return codes;
}

/* A row's codes as a float, before scale and zero. */
INLINE vf code_value(const enum kind kind, const struct reader *r, vi codes)
{
    if (kind == KIND_TABLE4 || kind == KIND_BITS4)
        return vt_look(r->table, codes);
    return vf_of_int(vi_and(codes, vi_set(255)));
}

/* Columns k .. k + 3 of a weight that is read by quads, in the reader's group; d and plain are
 * constants where speed counts. upper: k % 8 is 4, else it is 0. */
INLINE void reader_quad(const enum kind kind, const enum dtype d, const bool plain,
                        const struct reader *r, int64_t k, const bool upper, vf out[4])
{
    if (kind == KIND_F32 || kind == KIND_F16) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            out[j] = kind == KIND_F32
                         ? vf_load((const float *)r->data + (k + j) * TILE_ROWS)
                         : vf_load_f16((const uint16_t *)r->data + (k + j) * TILE_ROWS);
        return;
    }
    if (kind == KIND_BF16) {
#pragma GCC unroll 2
        for (int j = 0; j < 4; j += 2) {
            vi pair = vi_load(r->data + (k + j) * TILE_ROWS * 2);
            out[j] = vf_of_bits(vi_sll(pair, 16));
            out[j + 1] = vf_of_bits(vi_and(pair, vi_set((int32_t)0xffff0000)));
        }
        return;
    }
    vi codes = reader_codes(kind, r, k, upper);
    out[0] = code_value(kind, r, codes);
    out[1] = code_value(kind, r, vi_srl(codes, 8));
    out[2] = code_value(kind, r, vi_srl(codes, 16));
    out[3] = code_value(kind, r, vi_srl(codes, 24));
    if (kind != KIND_TABLE4) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            out[j] = vf_sub(out[j], r->zero);
        if (r->w->rule == RULE_STEPS)
            round_four(d, plain, out);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = vf_mul(out[j], r->scale);
    round_four(d, plain, out);
}

/* The same where each column may have its own group (group_of, groups of no multiple of 4); n of 4.
 */
INLINE void reader_singles(const enum kind kind, struct reader *r, int64_t k, int64_t n, vf out[4])
{
    enum dtype d = r->w->dtype;
    vi codes = reader_codes(kind, r, k, k & 4);
    for (int64_t j = 0; j < n; j++) {
        r->group = r->w->group_of ? r->w->group_of[k + j] : (k + j) / r->w->group;
        reader_load_group(kind, r);
        vf v = code_value(kind, r, vi_srl(codes, (int)(8 * j)));
        if (kind != KIND_TABLE4) {
            v = vf_sub(v, r->zero);
            if (r->w->rule == RULE_STEPS)
                v = round_to(d, v);
        }
        out[j] = round_to(d, vf_mul(v, r->scale));
    }
}

#endif
#endif
