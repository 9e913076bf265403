/*
 * What every back end asks of a module before it looks at its format: is this tensor there with
 * this dtype and shape, is there anything that does not belong, which part is wanted. Each wrong
 * thing becomes a finding that names module, tensor, expected and got.
 */
#ifndef OFTD_BACKENDS_SPEC_H
#define OFTD_BACKENDS_SPEC_H

#include "core/backend.h"

#define SPEC_DTYPE(d) (1u << DT_##d)
#define SPEC_FLOATS   (SPEC_DTYPE(F32) | SPEC_DTYPE(F16) | SPEC_DTYPE(BF16))

struct spec_want {
    const char *suffix;
    unsigned dtypes; /* SPEC_DTYPE's, or-ed */
    int rank;
    int64_t shape[4];
    bool optional;
};

/* The tensor as wanted; NULL if it is absent or wrong (findings: TENSOR_MISSING unless optional,
 * DTYPE_UNSUPPORTED, TENSOR_SHAPE_MISMATCH). */
const struct tensor *spec_want(const struct module_spec *spec, const struct spec_want *want,
                               struct findings *findings);
/* Every tensor of the module must have one of these suffixes (NULL-ended): TENSOR_UNEXPECTED. */
void spec_only(const struct module_spec *spec, const char *const *suffixes,
               struct findings *findings);
/* What follows the module's prefix and dot in the tensor's name; NULL if it is not below it. */
const char *spec_suffix(const struct module_spec *spec, const struct tensor *t);
/* Is every element of a float tensor (F32, F16, BF16) finite? Else NON_FINITE_WEIGHTS with the
 * place of the first that is not. */
enum status spec_finite(const struct module_spec *spec, const struct tensor *t, struct error *err);
/* 1 <= n, k <= INT32_MAX (so no product here overflows); else TENSOR_SHAPE_MISMATCH. */
bool spec_sizes(const struct module_spec *spec, struct findings *findings);

/* slice with its zeros replaced. A part that does not lie in the module, or whose columns do not
 * begin and end at multiples of `unit` (the end of a row is always one), is NOT_SUPPORTED. */
enum status spec_slice(const struct module_spec *spec, struct slice slice, int64_t unit,
                       struct slice *out, struct error *err);
/* Sets n, k and what follows from them. */
void spec_weight_sizes(struct weight *w, int64_t n, int64_t k);
/* Bytes that this part of the module takes in the file, its bias not counted. */
size_t spec_file_bytes(const struct module_spec *spec, const struct slice *part);

#endif
