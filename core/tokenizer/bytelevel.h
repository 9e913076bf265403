/*
 * The byte-level alphabet: every byte as a visible letter.
 */
#ifndef OFTD_CORE_TOKENIZER_BYTELEVEL_H
#define OFTD_CORE_TOKENIZER_BYTELEVEL_H

#include "core/tokenizer/bytes.h"

/* Appends the letters of the bytes; false when memory runs out. */
bool bytelevel_encode(const char *data, size_t n, struct bytes *out);
/* Appends the bytes that valid text stands for if all its letters are of the alphabet, else the
 * text itself; false when memory runs out. */
bool bytelevel_decode(const char *text, size_t n, struct bytes *out);

#endif
