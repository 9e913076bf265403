/*
 * A compiled grammar: for every rule a deterministic automaton whose edges are ranges of bytes and
 * calls of rules; where several rules are possible at once, matcher.c follows all. Only what can
 * still end is left: from every state some text leads to the end of its rule. Immutable.
 */
#ifndef OFTD_CORE_GRAMMAR_AUTOMATON_H
#define OFTD_CORE_GRAMMAR_AUTOMATON_H

#include "core/grammar/builder.h"

#define AUTOMATON_STATES_MAX 200000
#define AUTOMATON_BYTES_MAX  ((size_t)64 << 20) /* while it is made */

struct byte_edge {
    uint8_t first, last;
    int32_t to; /* state */
};
struct call_edge {
    int32_t rule, to; /* to: where it goes on when the rule has ended */
};
struct automaton_state {
    int32_t bytes, n_bytes; /* of byte_edges, ascending, apart from each other */
    int32_t calls, n_calls; /* of call_edges */
    bool accepts;           /* the rule may end here */
};

struct automaton {
    struct automaton_state *states;
    struct byte_edge *byte_edges;
    struct call_edge *call_edges;
    int32_t *starts; /* state by rule; starts[0] is the grammar's */
    int32_t n_states, n_rules;
    uint8_t class_of[256]; /* bytes that no state tells apart have one class */
    int32_t n_classes;
};

/* Makes the rules of b deterministic. INVALID_VALUE: a rule is not defined, calls itself before
 * anything else (left recursion), no text matches, it grows too large or takes too much work,
 * which b counts. */
enum status automaton_build(struct builder *b, struct automaton *out, struct error *err);
void automaton_clear(struct automaton *a);
/* The state behind a byte, -1: none. */
int32_t automaton_step(const struct automaton *a, int32_t state, uint8_t byte);

#endif
