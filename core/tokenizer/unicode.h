/*
 * The character classes of the tokenizers library, as its own crates have them. Regexes have
 * theirs in oniguruma.h.
 */
#ifndef OFTD_CORE_TOKENIZER_UNICODE_H
#define OFTD_CORE_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool unicode_space(uint32_t c);       /* White_Space */
bool unicode_numeric(uint32_t c);     /* Nd, Nl, No */
bool unicode_punctuation(uint32_t c); /* P*, and ASCII 33-47, 58-64, 91-96, 123-126 */
bool unicode_mark(uint32_t c);        /* M* */
bool unicode_nonspacing(uint32_t c);  /* Mn */
bool unicode_control(uint32_t c);     /* what BertNormalizer drops: Cc, Cf, Co but \t \n \r, FFFD */
bool unicode_ideograph(uint32_t c);   /* what BertNormalizer puts spaces around */
/* Lower case, one or two characters; returns how many. */
size_t unicode_lower(uint32_t c, uint32_t to[2]);

/* How many bytes of white space valid text p[0..n) begins and ends with. */
size_t unicode_spaces_at_start(const char *p, size_t n);
size_t unicode_spaces_at_end(const char *p, size_t n);

#endif
