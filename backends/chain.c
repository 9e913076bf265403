/*
 * Owns the order in which back ends are asked, which is PEFT's: bnb_8bit bnb_4bit eetq aqlm awq
 * gptq hqq inc default. The first that claims a module has it. `default` is last because it also
 * answers for modules that nobody claimed: it names the quantization that it cannot read. A back
 * end is added by one row here and its line in backends.h.
 */
#include "backends/chain.h"

#include "backends/backends.h"

static const struct backend *const rows[] = {
    &bnb_8bit_backend, &bnb_4bit_backend, &eetq_backend, &aqlm_backend,    &awq_backend,
    &gptq_backend,     &hqq_backend,      &inc_backend,  &default_backend, NULL,
};

const struct chain chain_default = {.backends = rows};
