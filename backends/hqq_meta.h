/* What an HQQ module says of itself in its small tensors, and quantization_config beside it. */
#ifndef OFTD_BACKENDS_HQQ_META_H
#define OFTD_BACKENDS_HQQ_META_H

#include "backends/hqq_layout.h"
#include "core/backend.h"

/* The small tensors, in the order of their table in hqq_meta.c. */
enum hqq_field {
    HQQ_SHAPE,
    HQQ_NBITS,
    HQQ_GROUP_SIZE,
    HQQ_AXIS,
    HQQ_PACKING,
    HQQ_UNPACK_VIEW_DTYPE,
    HQQ_VIEW_AS_FLOAT,
    HQQ_COMPUTE_DTYPE,
    HQQ_QUANT_SCALE,
    HQQ_QUANT_ZERO,
    HQQ_CHANNEL_WISE,
    HQQ_OPTIMIZE,
    HQQ_ROUND_ZERO,
    HQQ_OFFLOAD_META,
    HQQ_ENCODED_STATE_DICT,
    HQQ_STORES_QUANT_CONFIG,
    HQQ_FIELDS
};
extern const char *const hqq_field_names[HQQ_FIELDS + 1]; /* NULL-ended */

struct hqq_meta {
    unsigned present; /* 1 << field: the file has it */
    int64_t n, k, group;
    int axis;
    float nbits; /* 8, 6, 5, 4, 3, 2, 1.58 or 1 */
    const struct hqq_packing *packing;
    enum dtype compute; /* F16, BF16 or F32: what weights decode to */
    bool flags[HQQ_FIELDS];
};
static inline bool hqq_meta_has(const struct hqq_meta *m, enum hqq_field f)
{
    return m->present >> f & 1;
}
/* The greatest code, and the bits it takes. */
int hqq_meta_top(const struct hqq_meta *m);
int hqq_meta_bits(const struct hqq_meta *m);

/* Reads the small tensors and holds the config against them; false: findings tell. */
bool hqq_meta_read(const struct module_spec *spec, struct hqq_meta *m, struct findings *findings);
/* What the library writes for a module that it quantizes along rows (axis 1) with its defaults;
 * bits: 8, 6, 5, 4, 3, 2 or 1. */
void hqq_meta_plan(struct hqq_meta *m, int64_t n, int64_t k, int bits, int64_t group,
                   enum dtype compute);
/* The small tensors again, those that the file has. */
enum status hqq_meta_store(const struct hqq_meta *m, struct tensor_sink *sink, struct error *err);

/* A finding about this module: what (a tensor's suffix, a key) was expected, what is there. */
void hqq_complain(const struct module_spec *spec, struct findings *findings, enum status code,
                  const char *what, const char *expected, const char *got);
/* quantization_config against the tensors' m; what the file leaves out is taken from it. */
void hqq_config_check(const struct module_spec *spec, struct hqq_meta *m,
                      struct findings *findings);

#endif
