#include "core/run/draft.h"

#include <stdlib.h>

#define LONG     3 /* tokens of a group */
#define SHORT    2
#define LEARNING 0.25f /* what one judgement counts */

/* Where the group of n tokens that ends before `end` has its place. */
static int32_t *place(const struct draft *d, const int32_t *tokens, int32_t end, int32_t n)
{
    uint64_t h = (uint64_t)n;
    for (int32_t i = end - n; i < end; i++)
        h = (h ^ (uint32_t)tokens[i]) * 0x9E3779B97F4A7C15u;
    return &d->behind[h >> 32 & d->mask];
}

/* Room for the groups of `len` tokens; where there is none, later groups take the earlier ones'
 * places. */
static void make_room(struct draft *d, int32_t len)
{
    int64_t places = 64;
    while (places < 2 * (int64_t)len)
        places *= 2;
    if (d->behind && (places <= (int64_t)d->mask + 1))
        return;
    int32_t *behind = calloc((size_t)places, sizeof *behind);
    if (!behind)
        return;
    free(d->behind);
    *d = (struct draft){
        .behind = behind, .mask = (uint32_t)places - 1, .right = {d->right[0], d->right[1]}};
}

/* Notes the groups that end before positions up to `end`. */
static void note(struct draft *d, const int32_t *tokens, int32_t end)
{
    for (; d->noted <= end; d->noted++)
        for (int32_t n = SHORT; n <= LONG && n <= d->noted; n++)
            *place(d, tokens, d->noted, n) = d->noted;
}

void draft_clear(struct draft *d)
{
    free(d->behind);
    *d = (struct draft){0};
}

/* Behind the last occurrence of the n tokens at the end of the text; 0: there was none. */
static int32_t find(const struct draft *d, const int32_t *tokens, int32_t len, int32_t n)
{
    int32_t at = len < n ? 0 : *place(d, tokens, len, n);
    for (int32_t i = 1; i <= n && at; i++)
        if (tokens[at - i] != tokens[len - i])
            return 0;
    return at;
}

void draft_guess(struct draft *d, int32_t *tokens, int32_t len, int32_t most)
{
    d->n = 0;
    make_room(d, len);
    if (!d->behind || most <= 0)
        return;
    note(d, tokens, len - 1);
    int32_t from = find(d, tokens, len, LONG);
    d->three = from > 0;
    if (!from)
        from = find(d, tokens, len, SHORT);
    if (!from)
        return;
    /* a text that repeats itself is copied from its own copy */
    for (; d->n < most && d->n < DRAFT_MAX; d->n++)
        tokens[len + d->n] = tokens[from + d->n];
}

void draft_judge(struct draft *d, bool right)
{
    float *share = &d->right[d->three];
    *share += LEARNING * ((right ? 1 : 0) - *share);
}

float draft_chance(const struct draft *d, int32_t n)
{
    float chance = 1;
    for (int32_t i = 0; i < n; i++)
        chance *= d->right[d->three];
    return chance;
}
