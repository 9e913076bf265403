/*
 * Grammars in GBNF, the notation of llama.cpp: rules `name ::= ...` of "text", [classes], `.`,
 * names, (groups), alternatives and repetition; `root` is the start; # begins a comment.
 */
#ifndef OFTD_CORE_GRAMMAR_GBNF_H
#define OFTD_CORE_GRAMMAR_GBNF_H

#include "core/grammar/builder.h"

/* Defines all rules. INVALID_VALUE names line and what is wrong. */
enum status gbnf_read(struct builder *b, const char *text, size_t len, struct error *err);

#endif
