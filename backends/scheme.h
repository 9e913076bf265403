/* The words of --quantize. */
#ifndef OFTD_BACKENDS_SCHEME_H
#define OFTD_BACKENDS_SCHEME_H

#include "core/backend.h"

/* Reads "bnb-nf4", "bnb-nf4-dq", "bnb-fp4", "bnb-fp4-dq", "bnb-int8" or "hqq-BITS[-gGROUP]".
 * INVALID_VALUE says what there is. On success the caller clears *out. */
enum status scheme_parse(const char *word, struct scheme *out, struct error *err);
/* What --head 8 makes of the output layer: bytes, in groups of 128 or 64 columns or else of a row.
 */
extern const struct scheme scheme_head8[];
void scheme_clear(struct scheme *s); /* a zeroed one is fine */

#endif
