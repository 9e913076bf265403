/*
 * Following a text through a grammar, token by token: which tokens may come next?
 *
 * A follower is nothing but a note of where a choice's tokens have led; it can be copied, set back
 * or thrown away, since it can always be made again from the tokens. What is expensive is kept by
 * the tables, which every text of the grammar shares. Tables and followers belong to one thread at
 * a time.
 */
#ifndef OFTD_CORE_GRAMMAR_FOLLOW_H
#define OFTD_CORE_GRAMMAR_FOLLOW_H

#include "core/grammar/automaton.h"
#include "core/grammar/spellings.h"

struct tables;

/* Zeroed: before the first token. */
struct follower {
    uint32_t epoch;
    int32_t config, n; /* where the first n tokens led */
};

/* a and s must stay. memory: bytes that the tables may take before they begin anew. */
enum status tables_open(const struct automaton *a, const struct spellings *s, size_t memory,
                        struct tables **out, struct error *err);
void tables_close(struct tables *t);
/* Does now what would be slow in the midst of a text. Cheap the second time. */
enum status tables_warm(struct tables *t, struct error *err);

/* Goes to the end of tokens[0..n). *alive: the grammar takes these tokens. NOT_SUPPORTED: so many
 * readings are possible at once that the grammar cannot be followed. */
enum status follow_tokens(struct tables *t, struct follower *f, const int32_t *tokens, int32_t n,
                          bool *alive, struct error *err);
/* Behind those tokens (the same arguments): bit i of allowed [(vocab + 63) / 64] says whether token
 * i may come; *ends: the text may be complete; *any: some token may come. */
enum status follow_allowed(struct tables *t, struct follower *f, const int32_t *tokens, int32_t n,
                           uint64_t *allowed, bool *ends, bool *any, struct error *err);
/* A text instead of tokens: *alive and *ends. */
enum status follow_text(struct tables *t, const char *text, size_t len, bool *alive, bool *ends,
                        struct error *err);

#endif
