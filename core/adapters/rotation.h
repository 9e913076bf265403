/*
 * THE algebra: from the packed vectors of an adapter file to the blocks R that rotate activations.
 * What R is, is defined here and nowhere else (formats.md 12.4 to 12.7).
 */
#ifndef OFTD_CORE_ADAPTERS_ROTATION_H
#define OFTD_CORE_ADAPTERS_ROTATION_H

#include "core/kernels.h"
#include "core/status.h"
#include "core/tensor.h"

#define ROTATION_TERMS_MAX 64

/* How an adapter's vectors become R; the same for all its modules. */
struct rotation_rule {
    bool neumann;  /* truncated series, else the exact Cayley transform */
    int32_t terms; /* num_cayley_neumann_terms, 0..ROTATION_TERMS_MAX */
    bool old;      /* the series of PEFT before 0.18 */
    bool coft;     /* project each block into the ball of radius eps / sqrt(rows) */
    double eps;
    double strength; /* t of R(t S), 0..1; applied after the projection */
};

/* What was seen while building one module's blocks. */
struct rotation_stats {
    double defect;      /* max |R^T R - I| */
    int64_t rows;       /* blocks built */
    int64_t projected;  /* blocks that lay outside the COFT ball */
    int64_t divergent;  /* Neumann: blocks whose S has a spectral norm >= 1 */
    double norm;        /* the largest such spectral norm, if any */
    int64_t non_finite; /* vectors that hold NaN or Inf; their R is I */
    int64_t beyond;     /* F16: blocks with an entry of D that it does not hold */
};

/* Entries a block's packed vector has: block (block - 1) / 2. */
int64_t rotation_packed(int64_t block);
/* The inverse: the block size of a vector of `packed` entries; 0 if there is none (0 gives 1). */
int64_t rotation_unpacked(int64_t packed);
/* The block size PEFT uses on dim inputs when the config says `blocks` blocks or, with blocks 0,
 * `block` inputs a block: the divisor of dim that is nearest (ties go down). dim >= 1, one of the
 * two is >= 1. */
int64_t rotation_block(int64_t dim, int64_t blocks, int64_t block);

/* The form in which fast mode shall have the rotations of packed: I8 where that loses little, else
 * F16. */
enum dtype rotation_near(const struct kernels *k, const struct rotation_rule *rule,
                         const struct tensor *packed, int32_t block);

/* Builds the R of every row of packed [rows, rotation_packed(block)] (F32, F16 or BF16) into out,
 * rows blocks of rotation_block_bytes, as R (dtype F32) or as D = R - I (F16, I8; kernels.h), and
 * adds what it saw to *stats (which starts zeroed). OUT_OF_MEMORY. */
enum status rotation_build(const struct kernels *k, const struct rotation_rule *rule,
                           const struct tensor *packed, int32_t block, enum dtype dtype, void *out,
                           struct rotation_stats *stats, struct error *err);

#endif
