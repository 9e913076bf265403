/*
 * Owns the bits of HQQ's W_q. W [n, k] is regrouped, without moving an element, to A: [M/G, G] for
 * axis 1 (a row is a group), [G, M/G] for axis 0 (a column is), M = n * k. Rows of A are then dealt
 * out: row r goes to row r % step of W_q, to field r / step of its words, the highest field first.
 *
 *   8bit_u8   one byte a code (8, 6 and 5 bits)        step = rows
 *   4bit_u8   |r < R/2 |r >= R/2|                      step = rows / 2
 *   2bit_u8   |0.. |R/4.. |R/2.. |3R/4.. |             step = rows / 4      (2 and 1.58 bits)
 *   1bit_u8   eight fields                             step = rows / 8
 *   3bit_32   I32: bits 31, 30 unused, |0..|step..| ten fields, step = ceil(rows / 10); rows beyond
 *             the last are 0
 *
 *   [[1,2],[3,4],[5,6],[7,8]] in 4 bits: [[0x15,0x26],[0x37,0x48]]
 */
#include "backends/hqq_layout.h"

#include "core/turns.h"

#define UNIT 16384 /* codes between two places where the background pauses */

static const struct hqq_packing packings[] = {
    {"8bit_u8", "torch.uint8", DT_U8, 8, 1},   {"4bit_u8", "torch.uint8", DT_U8, 4, 2},
    {"2bit_u8", "torch.uint8", DT_U8, 2, 4},   {"1bit_u8", "torch.uint8", DT_U8, 1, 8},
    {"3bit_32", "torch.int32", DT_I32, 3, 10},
};

const struct hqq_packing *hqq_packing_find(const char *name)
{
    for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++)
        if (!strcmp(packings[i].name, name))
            return &packings[i];
    return NULL;
}

struct hqq_layout hqq_layout_of(const struct hqq_packing *packing, int64_t n, int64_t k, int axis,
                                int64_t group)
{
    int64_t groups = n * k / group, fields = packing->fields;
    struct hqq_layout l = {packing, axis ? groups : group, axis ? group : groups, 0};
    l.step = l.rows / fields + (l.rows % fields != 0);
    return l;
}

bool hqq_layout_fits(const struct hqq_layout *l)
{
    return l->packing->word == DT_I32 || l->rows % l->packing->fields == 0;
}

int64_t hqq_layout_bytes(const struct hqq_layout *l)
{
    return l->step * l->columns * (int64_t)dtype_size(l->packing->word);
}

/* One field of n words. */
static void take_u8(const uint8_t *restrict words, int64_t n, int shift, int width,
                    uint8_t *restrict codes)
{
    int mask = (1 << width) - 1;
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(words[i] >> shift & mask);
}

static void take_i32(const char *words, int64_t n, int shift, int width, uint8_t *codes)
{
    uint32_t mask = (1u << width) - 1;
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(load_u32(words + 4 * i) >> shift & mask);
}

/* Where row r lies: the shift of its field, and the index of its first word. */
static int field_of(const struct hqq_layout *l, int64_t row, int64_t *word)
{
    *word = row % l->step * l->columns;
    return l->packing->width * (l->packing->fields - 1 - (int)(row / l->step));
}

void hqq_unpack(const struct hqq_layout *l, const void *packed, int64_t first, int64_t n,
                uint8_t *codes)
{
    int64_t row = first / l->columns, column = first % l->columns, word;
    for (; n > 0; row++, column = 0) {
        int64_t some = l->columns - column < n ? l->columns - column : n;
        int shift = field_of(l, row, &word), width = l->packing->width;
        word += column;
        if (l->packing->word == DT_U8)
            take_u8((const uint8_t *)packed + word, some, shift, width, codes);
        else
            take_i32((const char *)packed + 4 * word, some, shift, width, codes);
        codes += some;
        n -= some;
    }
}

void hqq_pack(const struct hqq_layout *l, const uint8_t *codes, void *packed)
{
    int64_t word;
    for (int64_t row = 0; row < l->rows; row++, codes += l->columns) {
        if (row * l->columns % UNIT < l->columns)
            turns_pause();
        int shift = field_of(l, row, &word);
        if (l->packing->word == DT_U8) {
            uint8_t *to = (uint8_t *)packed + word;
            for (int64_t i = 0; i < l->columns; i++)
                to[i] = (uint8_t)(to[i] | codes[i] << shift);
            continue;
        }
        for (int64_t i = 0; i < l->columns; i++) {
            char *to = (char *)packed + 4 * (word + i);
            uint32_t v = load_u32(to) | (uint32_t)codes[i] << shift;
            memcpy(to, &v, sizeof v);
        }
    }
}
