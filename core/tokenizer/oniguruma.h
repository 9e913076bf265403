/*
 * A pattern in Oniguruma's syntax, with Oniguruma's meaning, as a pattern for PCRE2.
 */
#ifndef OFTD_CORE_TOKENIZER_ONIGURUMA_H
#define OFTD_CORE_TOKENIZER_ONIGURUMA_H

#include "core/tokenizer/bytes.h"

enum oniguruma { ONIGURUMA_OK, ONIGURUMA_UNKNOWN, ONIGURUMA_NO_MEMORY };

/* Appends the translation to out (for PCRE2_UTF | PCRE2_UCP, newline LF). UNKNOWN: the construct
 * at pattern[*at] is not one that we know to mean the same. pattern is valid UTF-8. */
enum oniguruma oniguruma_translate(const char *pattern, size_t n, struct bytes *out, size_t *at);

#endif
