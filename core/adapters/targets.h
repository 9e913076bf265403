/*
 * Which modules an adapter's config selects: PEFT's rules (formats.md 12.12), over the model's
 * modules.
 */
#ifndef OFTD_CORE_ADAPTERS_TARGETS_H
#define OFTD_CORE_ADAPTERS_TARGETS_H

#include "core/adapters/oftconfig.h"

/* names [n_modules]: under which name each module is known to the adapter (canonical or alias);
 * present [n_modules]: whether the file holds a rotation for it. Sets selected [n_modules].
 * *usable is false when the config's own selection cannot be told (a bad pattern: in findings).
 * Returns OUT_OF_MEMORY or ST_OK. */
enum status targets_select(const struct oftconfig *c, const struct model *m,
                           const char *const *names, const bool *present, bool *selected,
                           bool *usable, struct findings *findings, struct error *err);

#endif
