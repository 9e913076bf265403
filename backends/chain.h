/* THE dispatcher chain. */
#ifndef OFTD_BACKENDS_CHAIN_H
#define OFTD_BACKENDS_CHAIN_H

#include "core/backend.h"

/* Every back end of this build in PEFT's order; its last row is the plain one. Constant. */
extern const struct chain chain_default;

#endif
