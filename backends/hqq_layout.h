/* How HQQ packs codes: BitPack of the hqq library. */
#ifndef OFTD_BACKENDS_HQQ_LAYOUT_H
#define OFTD_BACKENDS_HQQ_LAYOUT_H

#include "core/tensor.h"

struct hqq_packing {
    const char *name, *view; /* as the file names it, and the dtype of its words */
    enum dtype word;         /* U8 or I32 */
    int width, fields;       /* bits of a field, fields of a word */
};
/* By the file's name; NULL: unknown. */
const struct hqq_packing *hqq_packing_find(const char *name);

/* The regrouped matrix A [rows, columns] and its packed form [step, columns] of words. */
struct hqq_layout {
    const struct hqq_packing *packing;
    int64_t rows, columns, step;
};
/* axis 1: rows are groups; axis 0: columns are. group divides n * k. */
struct hqq_layout hqq_layout_of(const struct hqq_packing *packing, int64_t n, int64_t k, int axis,
                                int64_t group);
/* Can A's rows be dealt out to the fields of words? (The library makes broken files of others.) */
bool hqq_layout_fits(const struct hqq_layout *l);
/* Bytes of the packed form. */
int64_t hqq_layout_bytes(const struct hqq_layout *l);

/* Elements [first, first + n) of A, which are those of the row-major W, one byte each. */
void hqq_unpack(const struct hqq_layout *l, const void *packed, int64_t first, int64_t n,
                uint8_t *codes);
/* All codes of A to packed, which was zeroed. */
void hqq_pack(const struct hqq_layout *l, const uint8_t *codes, void *packed);

#endif
