/*
 * NFC, NFD, NFKC, NFKD in linear time.
 */
#ifndef OFTD_CORE_TOKENIZER_CANONICAL_H
#define OFTD_CORE_TOKENIZER_CANONICAL_H

#include "core/tokenizer/bytes.h"

/* Appends the normal form of valid text to out; false when memory runs out. */
bool canonical_form(const char *text, size_t n, bool compatible, bool composed, struct bytes *out);

#endif
