/*
 * Regular expressions as their users write them (the common part of ECMA 262 and Python): literals,
 * `.`, classes, \d \w \s and their complements, groups, alternatives, * + ? {m,n} (lazy ones mean
 * the same texts), ^ and $ around the whole. Refused by name: look-around, back references, word
 * boundaries, properties, possessive repetition, anchors elsewhere.
 */
#ifndef OFTD_CORE_GRAMMAR_REGEX_H
#define OFTD_CORE_GRAMMAR_REGEX_H

#include "core/grammar/builder.h"

enum regex_use {
    REGEX_WHOLE,      /* the text is what matches */
    REGEX_SEARCH,     /* the text holds a match */
    REGEX_JSON_SEARCH /* the content of a JSON string, as it is written, holds a match */
};

/* INVALID_VALUE names what is not understood and where. text is UTF-8. */
enum status regex_read(struct builder *b, const char *text, size_t len, enum regex_use use,
                       struct fragment *out, struct error *err);

#endif
