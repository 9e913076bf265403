/*
 * Structured outputs: what a request says its text must be, compiled once and shared by all
 * requests that say the same.
 */
#ifndef OFTD_CORE_GRAMMAR_GRAMMAR_H
#define OFTD_CORE_GRAMMAR_GRAMMAR_H

#include "core/grammar/follow.h"
#include "core/grammar/kind.h"

struct grammar; /* counted references; its tables belong to the worker */

/* What a grammar compiles to. INVALID_VALUE says what is not supported or wrong. */
enum status grammar_compile(enum grammar_kind kind, const char *text, size_t len,
                            struct automaton *out, struct error *err);

/* The grammars of one model. Any thread. t must stay; vocab: the model's. */
struct grammars;
enum status grammars_open(const struct tokenizer *t, int32_t vocab, struct grammars **out,
                          struct error *err);
void grammars_close(struct grammars *g); /* NULL is fine; no grammar may be in use */
/* A reference, compiled and warm, of the same text's grammar if there is one. Errors as above, and
 * NOT_SUPPORTED (tokenizer_bytes, follow_tokens). Takes up to some tens of milliseconds. */
enum status grammars_get(struct grammars *g, enum grammar_kind kind, const char *text, size_t len,
                         struct grammar **out, struct error *err);
void grammar_unref(struct grammar *g); /* NULL is fine */

struct tables *grammar_tables(struct grammar *g);
int32_t grammar_words(const struct grammar *g); /* of a set of allowed tokens, of 64 bits each */

#endif
