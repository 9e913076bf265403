/* The tensors qweight, qzeros, scales and g_idx: the layout of GPTQ and of what auto-round packs
 * its way. Whose config gave the parameters is the caller's business. */
#ifndef OFTD_BACKENDS_GPTQ_LAYOUT_H
#define OFTD_BACKENDS_GPTQ_LAYOUT_H

#include "core/backend.h"

struct gptq_layout {
    int bits;      /* 2..8 */
    int64_t group; /* input channels a group has; < 1: all */
    bool planar;   /* bit planes instead of one bit stream per 32 codes */
    bool zeros_v1; /* stored zero = zero - 1 */
};

/* Are all tensors there, with the shapes that the parameters make? false: findings tell. */
bool gptq_layout_check(const struct module_spec *spec, const struct gptq_layout *layout,
                       struct findings *findings);
/* Loads a part of a checked module. Any part can be cut out; one whose groups are not those of
 * whole columns gets group_of. */
enum status gptq_layout_load(const struct module_spec *spec, const struct gptq_layout *layout,
                             struct slice slice, struct weight *out, struct error *err);
/* "4 bits, group 128, act-order" */
char *gptq_layout_describe(const struct weight *w, char *buf, size_t size);

#endif
