/* The back ends, one const struct each, in PEFT's dispatch order; chain.c is their only reader. */
#ifndef OFTD_BACKENDS_BACKENDS_H
#define OFTD_BACKENDS_BACKENDS_H

#include "core/backend.h"

extern const struct backend bnb_8bit_backend;
extern const struct backend bnb_4bit_backend;
extern const struct backend eetq_backend;
extern const struct backend aqlm_backend;
extern const struct backend awq_backend;
extern const struct backend gptq_backend;
extern const struct backend hqq_backend;
extern const struct backend inc_backend;
extern const struct backend default_backend;

#endif
