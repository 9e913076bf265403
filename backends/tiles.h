/* Whole weights out of the tile layout, in the order of the file: what `store` begins with. */
#ifndef OFTD_BACKENDS_TILES_H
#define OFTD_BACKENDS_TILES_H

#include "core/kernels.h"

/* Codes of all rows, one after another: codes [n, k], a byte each. false: out of memory. */
bool tiles_codes(const struct weight *w, uint8_t *codes);
/* One parameter of each group, `size` bytes each, from w's scales or zeros to flat order: row after
 * row where groups lie in rows, else as they are. */
void tiles_parameters(const struct weight *w, const void *from, size_t size, void *to);

#endif
