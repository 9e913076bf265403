/*
 * SentencePiece's precompiled normalization: a double array of byte strings that are replaced.
 */
#ifndef OFTD_CORE_TOKENIZER_CHARSMAP_H
#define OFTD_CORE_TOKENIZER_CHARSMAP_H

#include "core/tokenizer/bytes.h"
#include "core/tokenizer/reader.h"

struct charsmap;

/* From base64, as in the file. */
enum status charsmap_read(struct reader *r, const char *base64, size_t n,
                          const struct charsmap **out);
/* Appends the normalized text; false when memory runs out. */
bool charsmap_apply(const struct charsmap *m, const char *text, size_t n, struct bytes *out);

#endif
