/* What auto-round writes under its own name; inc.c, whose maker's it is, asks here. */
#ifndef OFTD_BACKENDS_AUTO_ROUND_H
#define OFTD_BACKENDS_AUTO_ROUND_H

#include "backends/awq_layout.h"
#include "backends/fp8_layout.h"
#include "backends/gptq_layout.h"

enum auto_round_kind { AUTO_ROUND_GPTQ, AUTO_ROUND_AWQ, AUTO_ROUND_FP8 };

struct auto_round {
    enum auto_round_kind kind;
    union {
        struct gptq_layout gptq;
        struct awq_layout awq;
        struct fp8_layout fp8;
    };
};

/* Does the config say auto-round, or fp8 (which it also writes), and are there its tensors? */
bool auto_round_is(const struct module_spec *spec);
/* Reads config and tensors, checks everything; false with findings. */
bool auto_round_examine(const struct module_spec *spec, struct auto_round *out,
                        struct findings *findings);
/* Loads a part of an examined module. */
enum status auto_round_load(const struct module_spec *spec, const struct auto_round *a,
                            struct slice slice, struct weight *out, struct error *err);

#endif
