/*
 * What Python's str knows of characters: white space, letters, digits, cases, what repr shows.
 */
#ifndef OFTD_CORE_TEMPLATE_CHARACTERS_H
#define OFTD_CORE_TEMPLATE_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool characters_space(uint32_t c);     /* str.isspace, \s */
bool characters_word(uint32_t c);      /* \w, and what an identifier may hold */
bool characters_printable(uint32_t c); /* str.isprintable */
bool characters_alpha(uint32_t c);
bool characters_decimal(uint32_t c);
bool characters_digit(uint32_t c); /* decimals, superscripts and their like */
bool characters_numeric(uint32_t c);
bool characters_is_upper(uint32_t c);
bool characters_is_lower(uint32_t c);
bool characters_is_title(uint32_t c);
bool characters_cased(uint32_t c);
bool characters_case_ignorable(uint32_t c); /* what a final sigma looks through */
/* The mappings of one character, one to three; they return how many. */
size_t characters_upper(uint32_t c, uint32_t to[3]);
size_t characters_lower(uint32_t c, uint32_t to[3]);
size_t characters_title(uint32_t c, uint32_t to[3]);

/* How many bytes of white space valid text v[0..n) begins and ends with. */
size_t characters_space_before(const char *v, size_t n);
size_t characters_space_behind(const char *v, size_t n);

#endif
