/*
 * Fast mode's products with codebooks (the definition is in core/kernels.h), for the files of this
 * folder only: how the tables lie, and which weights have them.
 */
#ifndef OFTD_BACKENDS_KERNELS_LOOKUP_H
#define OFTD_BACKENDS_KERNELS_LOOKUP_H

#include "core/kernels.h"

#define LOOKUP_LINES 16 /* most lines of a product */
/* What one row's tables may take, and the tables of a product's rows. */
#define LOOKUP_ROW_BYTES ((size_t)4 << 20)
#define LOOKUP_JOBS      4
#define LOOKUP_COLUMNS   256 /* most columns of all books */
#define LOOKUP_BYTES     (LOOKUP_JOBS * LOOKUP_ROW_BYTES)

/* A table of each look-up of a chunk: s of core/kernels.h, as it is or, for AVX-512, the 256 low
 * bytes before the 256 high ones. */
struct lookup_chunk {
    union {
        int16_t s[BOOK_LOOKUPS][256];
        uint8_t bytes[BOOK_LOOKUPS][512];
    };
    float scale, pad[15];
};

/* The tables of LOOKUP_WIDE rows side by side, for as many look-ups with one code; no more room
 * than theirs take one by one. */
#define LOOKUP_WIDE       16
#define LOOKUP_WIDE_LINES 8 /* most lines of such a product */
struct lookup_wide {
    int16_t s[BOOK_LOOKUPS][256][LOOKUP_WIDE];
    float scale[LOOKUP_WIDE];
};

/* Groups of a chunk, and the chunks of a row. */
static inline int64_t lookup_groups(const struct weight *w)
{
    return BOOK_LOOKUPS / w->books;
}
static inline int64_t lookup_chunks(const struct weight *w)
{
    return (w->k / w->in_group + lookup_groups(w) - 1) / lookup_groups(w);
}
/* Whether tables are worth their making, and fit. */
static inline bool lookup_has(const struct weight *w)
{
    return w->encoding == ENC_CODEBOOK && w->bits <= 8 && w->out_group == 1 &&
           w->books <= BOOK_LOOKUPS && 4 * w->books <= w->in_group &&
           w->in_group * w->books <= LOOKUP_COLUMNS &&
           (size_t)lookup_chunks(w) * sizeof(struct lookup_chunk) <= LOOKUP_ROW_BYTES;
}

/* Codes too large for tables, of vectors of eight columns. */
static inline bool eights_has(const struct weight *w)
{
    return w->encoding == ENC_CODEBOOK && w->bits > 8 && w->in_group == 8 && w->out_group == 1;
}

#endif
