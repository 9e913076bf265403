/* A weight of 8-bit floats and the scales that multiply it, however many: the layout of Neural
 * Compressor, auto-round and of transformers' block FP8. Whose config gave the parameters is the
 * caller's business. */
#ifndef OFTD_BACKENDS_FP8_LAYOUT_H
#define OFTD_BACKENDS_FP8_LAYOUT_H

#include "core/backend.h"

struct fp8_layout {
    bool transposed;      /* weight is stored [k, n] */
    const char *scale;    /* suffix of the scales */
    int64_t rows, cols;   /* rows and columns of W that share a scale; scales lie [ceil(n /
                             rows), ceil(k / cols)], row-major */
    enum dtype dtype;     /* the decoded element is rounded to */
    unsigned code_dtypes; /* SPEC_DTYPE's of the weight that are right */
};

/* How many scales there are. */
int64_t fp8_layout_scales(const struct module_spec *spec, const struct fp8_layout *layout);
/* The weight as wanted, and as many scales (of any shape) as the layout says? false: findings. */
bool fp8_layout_check(const struct module_spec *spec, const struct fp8_layout *layout,
                      struct findings *findings);
/* Loads a part of a checked module. Any part can be cut out. Codes and scales that are not finite
 * are refused. */
enum status fp8_layout_load(const struct module_spec *spec, const struct fp8_layout *layout,
                            struct slice slice, struct weight *out, struct error *err);
/* "float8_e4m3fn, scale per 128 columns" */
char *fp8_layout_describe(const struct weight *w, char *buf, size_t size);

#endif
