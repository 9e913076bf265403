/*
 * Guesses of what a text says next, from what it has said: prompt look-up. Where its last three
 * tokens (else its last two) stood before, what followed them then is expected to follow again. A
 * guess is free; what costs is to compute it, as rows behind the token that is due (scheduler.c),
 * so it is judged whether or not it was computed: the share of right ones lately, kept for threes
 * and twos apart, is the chance that the next one is worth its row.
 *
 * A guess never changes what is said: the sampler draws every token as it would without it.
 *
 *   tokens    [ ... a b c d e ... a b c ]               len
 *                         `---------->  d e ...         guessed: tokens[len .. len + n)
 *
 * The table knows for each group of tokens the place behind its last occurrence; one that another
 * group has taken is a guess less. Noting a token and guessing take the same time in every text.
 */
#ifndef OFTD_CORE_RUN_DRAFT_H
#define OFTD_CORE_RUN_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

#define DRAFT_MAX 8 /* tokens guessed at once */

/* Zeroed: nothing is known yet. */
struct draft {
    int32_t *behind; /* [mask + 1] by hash; 0: nothing; it grows with the text */
    uint32_t mask;
    int32_t noted;  /* groups that end before this position are in the table */
    int32_t n;      /* tokens of the guess that stands */
    bool three;     /* it was found by three tokens */
    float right[2]; /* share of right guesses lately, by .three */
};

void draft_clear(struct draft *d);
/* Guesses what follows tokens[0, len): writes at most `most` tokens (and DRAFT_MAX) behind them and
 * sets d->n; none when memory runs out. The text must begin as at the last call. */
void draft_guess(struct draft *d, int32_t *tokens, int32_t len, int32_t most);
/* The next token of the guess was right, or it was not. */
void draft_judge(struct draft *d, bool right);
/* The chance that the first n tokens of the guess are right. */
float draft_chance(const struct draft *d, int32_t n);

#endif
