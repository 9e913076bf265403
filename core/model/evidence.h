/* Why a back end has a module: what of the checkpoint decided. */
#ifndef OFTD_CORE_MODEL_EVIDENCE_H
#define OFTD_CORE_MODEL_EVIDENCE_H

#include "core/arena.h"
#include "core/backend.h"

/* "SCB F32 [256], weight I8 [256, 256]; quant_method bitsandbytes": the tensors of the module
 * (biases decide nothing) and, unless `plain`, what names the format. In a; NULL: out of memory. */
const char *evidence_text(const struct module_spec *spec, bool plain, struct arena *a);

/* The same sentence and one reason more: "...; what value". NULL: no memory. */
const char *evidence_with(const char *why, const char *what, const char *value, struct arena *a);

#endif
