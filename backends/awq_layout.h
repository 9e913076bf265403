/* The tensors qweight, qzeros (or scaled_zeros) and scales in AWQ's layouts, which AutoAWQ,
 * GPTQModel, llm-awq and auto-round write. Whose config gave the parameters is the caller's
 * business. */
#ifndef OFTD_BACKENDS_AWQ_LAYOUT_H
#define OFTD_BACKENDS_AWQ_LAYOUT_H

#include "core/backend.h"

enum awq_kind { AWQ_GEMM, AWQ_GEMV, AWQ_GEMV_FAST };

struct awq_layout {
    enum awq_kind kind;
    int bits;          /* GEMM: 2..8, the others: 4 */
    int64_t group;     /* input channels a group has; < 1: all */
    bool interleaved;  /* GEMM: 8 outputs in the order 0 2 4 6 1 3 5 7, not their own */
    bool scaled_zeros; /* GEMV-fast: the zeros are so called (llm-awq) */
};

/* "GEMV-fast" */
const char *awq_layout_name(enum awq_kind kind);
/* Which of them the tensors of a module with qweight are; GEMM unless they can only be another. */
enum awq_kind awq_layout_kind(const struct module_spec *spec);
/* Are all tensors there, with the shapes that the parameters make? false: findings tell. */
bool awq_layout_check(const struct module_spec *spec, const struct awq_layout *layout,
                      struct findings *findings);
/* Loads a part of a checked module. Any part can be cut out. */
enum status awq_layout_load(const struct module_spec *spec, const struct awq_layout *layout,
                            struct slice slice, struct weight *out, struct error *err);
/* "4 bits, group 128, GEMM" */
char *awq_layout_describe(const struct weight *w, char *buf, size_t size);

#endif
