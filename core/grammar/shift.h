/*
 * States of one rule that differ in nothing but how much is left: of a string of at most 200
 * characters, the state behind the first one and the state behind the second.
 *
 * A shift maps each state to the one that has one less left, so that bytes lead alike from both:
 * shift(step(s, b)) = step(shift(s), b). What a text meets from the n-th shift of a state is then
 * the n-th shift of what it meets from the state itself, until one of those is nowhere.
 */
#ifndef OFTD_CORE_GRAMMAR_SHIFT_H
#define OFTD_CORE_GRAMMAR_SHIFT_H

#include "core/grammar/automaton.h"

#define SHIFT_NOWHERE                                                                              \
    (-1)                   /* this byte leads nowhere when one less is left, nor when still less   \
                            */
#define SHIFT_UNKNOWN (-2) /* follow the text itself */
#define SHIFT_ENDLESS INT32_MAX

/* Room for one shift at a time. */
struct shift {
    const struct automaton *a;
    int32_t *to;     /* [n_states] a state, NOWHERE, UNKNOWN; itself: all that follows is alike */
    int32_t *life;   /* [n_states] shifts until it is NOWHERE or UNKNOWN; ENDLESS */
    bool *broken;    /* [n_states] UNKNOWN is what it comes to */
    uint32_t *stamp; /* [n_states] round in which `to` was set */
    bool *image;     /* [n_states] of those that are known: another one's image */
    uint32_t round;
    int32_t *met,
        *chain; /* [n_states] states with a stamp; [n_states + 1] the root and its shifts */
    size_t n_met;
    int32_t length; /* of chain */
    size_t work;    /* edges looked at, of all rounds */
};

enum status shift_open(const struct automaton *a, struct shift *out, struct error *err);
void shift_close(struct shift *s);
/* The shift that takes `state` to `image`; below 0: to where most of its bytes lead. Its chain is 1
 * long if there is none. */
void shift_find(struct shift *s, int32_t state, int32_t image);
/* Where a repetition that a text from the state is in begins anew, by a guess; -1: there is none,
 * or the text comes to what is counted [n_states] already (not -1). What a shift to there counts is
 * how often it may. */
int32_t shift_round(struct shift *s, int32_t state, const int32_t *counted);
/* Makes the chain that of another root, which the shift has met. */
void shift_root(struct shift *s, int32_t root);
/* Of what has to come m times and may come n times, the first m states are a chain which ends in
 * what that shift does not know. From behind it all is known the other way round: one more has to
 * come and one more may. Turns to that, if so: the root is then the state behind the m-th. */
void shift_turn(struct shift *s);
/* Of a state that a text from the root has met. */
int32_t shift_life(const struct shift *s, int32_t state, bool *broken);
bool shift_fixed(const struct shift *s, int32_t state); /* it is its own image */
bool shift_moves(const struct shift *s, int32_t state); /* it has another one, or is nowhere */
bool shift_first(const struct shift *s, int32_t state); /* it is no other one's image */

#endif
