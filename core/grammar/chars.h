/*
 * Sets of characters (Unicode scalar values) and the bytes that they are in UTF-8, plain or inside
 * a JSON string. A builder may bar a character: no set has it, but a JSON string its escape.
 */
#ifndef OFTD_CORE_GRAMMAR_CHARS_H
#define OFTD_CORE_GRAMMAR_CHARS_H

#include "core/grammar/builder.h"

#define CHAR_LAST 0x10FFFFu

struct char_range {
    uint32_t first, last;
};
/* In b's arena, and counted as its work. Sorted and apart once chars_sort has run. */
struct chars {
    struct char_range *v;
    size_t n, cap;
};

void chars_add(struct builder *b, struct chars *set, uint32_t first, uint32_t last);
void chars_add_all(struct builder *b, struct chars *set, const struct chars *more);
void chars_sort(struct chars *set);
/* All others; surrogates are no characters. */
struct chars chars_not(struct builder *b, struct chars *set);
bool chars_has(const struct chars *set, uint32_t c); /* sorted */

/* One character of the set, as UTF-8. */
struct fragment chars_fragment(struct builder *b, struct chars *set);
/* The same as it stands in a JSON string: " and \ and controls escaped (the short form where there
 * is one), all others as they are. */
struct fragment chars_json(struct builder *b, struct chars *set);

#endif
