/*
 * Owns the finding of shifts. It begins with a guess, that most bytes use up one of what is
 * counted, and follows it: where the same byte leads from a state and from its image, the one
 * target must be the image of the other. What contradicts this is marked UNKNOWN, never repaired,
 * so that a wrong guess costs time and no correctness:
 *
 *   for every state s with an image, and every byte: the image of step(s, b) is step(image, b), or
 *   UNKNOWN; the image accepts where s does, takes no byte that s does not, and neither calls
 * rules.
 *
 * A state that is its own image is not looked into: what follows is the same. Each state gets one
 * image at most, so a round is linear in the edges of what it meets.
 */
#include "core/grammar/shift.h"

#include <stdlib.h>
#include <string.h>

#define ROUND_BYTES 4

enum status shift_open(const struct automaton *a, struct shift *out, struct error *err)
{
    size_t n = (size_t)a->n_states + 1;
    *out = (struct shift){.a = a};
    out->to = malloc(n * sizeof *out->to);
    out->life = malloc(n * sizeof *out->life);
    out->broken = malloc(n * sizeof *out->broken);
    out->stamp = calloc(n, sizeof *out->stamp);
    out->image = calloc(n, sizeof *out->image);
    out->met = malloc(n * sizeof *out->met);
    out->chain = malloc((n + 1) * sizeof *out->chain);
    if (out->to && out->life && out->broken && out->stamp && out->image && out->met && out->chain)
        return ST_OK;
    shift_close(out);
    return error_memory(err, "following a grammar");
}

void shift_close(struct shift *s)
{
    free(s->to);
    free(s->life);
    free(s->broken);
    free(s->stamp);
    free(s->image);
    free(s->met);
    free(s->chain);
    *s = (struct shift){0};
}

static bool known(const struct shift *s, int32_t state)
{
    return s->stamp[state] == s->round;
}

static void assign(struct shift *s, int32_t state, int32_t image)
{
    if (known(s, state)) {
        if (s->to[state] != image)
            s->to[state] = SHIFT_UNKNOWN;
        return;
    }
    s->stamp[state] = s->round;
    s->to[state] = image;
    s->met[s->n_met++] = state;
}

static int width(const struct byte_edge *e)
{
    return e->last - e->first + 1;
}

/* Meets the bytes of an edge among those of the image. *at: the image's first edge that does not
 * end before it. Returns how many of the image's bytes were there; with `set`, what they lead to
 * gets its image. */
static int meet(struct shift *s, const struct byte_edge *e, const struct automaton_state *y,
                int32_t *at, bool set)
{
    const struct byte_edge *v = s->a->byte_edges + y->bytes;
    int seen = 0;
    for (int first = e->first, last; first <= e->last; first = last + 1) {
        while (*at < y->n_bytes && v[*at].last < first)
            ++*at;
        bool inside = *at < y->n_bytes && v[*at].first <= first;
        last = inside ? v[*at].last : *at < y->n_bytes ? v[*at].first - 1 : e->last;
        last = last < e->last ? last : e->last;
        seen += inside ? last - first + 1 : 0;
        if (set)
            assign(s, e->to, inside ? v[*at].to : SHIFT_NOWHERE);
    }
    return seen;
}

static int meet_all(struct shift *s, const struct automaton_state *x,
                    const struct automaton_state *y, bool set)
{
    int32_t at = 0;
    int seen = 0;
    s->work += (size_t)x->n_bytes + (size_t)y->n_bytes;
    for (int32_t e = 0; e < x->n_bytes; e++)
        seen += meet(s, &s->a->byte_edges[x->bytes + e], y, &at, set);
    return seen;
}

/* Holds a state against its image. */
static void compare(struct shift *s, int32_t state)
{
    const struct automaton_state *x = &s->a->states[state], *y = &s->a->states[s->to[state]];
    int bytes = 0;
    for (int32_t e = 0; e < y->n_bytes; e++)
        bytes += width(&s->a->byte_edges[y->bytes + e]);
    if (x->accepts != y->accepts || x->n_calls || y->n_calls || meet_all(s, x, y, false) < bytes)
        s->to[state] = SHIFT_UNKNOWN;
    else
        meet_all(s, x, y, true);
}

/* Follows the images of one state to their end, or to what is known: their lives, all at once. */
static void find_life(struct shift *s, int32_t state)
{
    enum { ON_THE_WAY = -1 };
    int32_t n = 0, life, *way = s->chain;
    bool broken = false;
    while (known(s, state) && !s->life[state] && s->to[state] >= 0 && s->to[state] != state) {
        s->life[state] = ON_THE_WAY;
        way[n++] = state;
        state = s->to[state];
    }
    if (!known(s, state)) {
        life = 1;
        broken = true;
    } else {
        if (!s->life[state]) {
            s->life[state] = s->to[state] == state ? SHIFT_ENDLESS : 1;
            s->broken[state] = s->to[state] == SHIFT_UNKNOWN;
        }
        life = s->life[state] == ON_THE_WAY ? SHIFT_ENDLESS : s->life[state];
        broken = s->broken[state];
    }
    while (n-- > 0) {
        life = life == SHIFT_ENDLESS ? life : life + 1;
        s->life[way[n]] = life;
        s->broken[way[n]] = broken;
    }
}

/* Where most bytes of a state lead to another one; -1: there is none. */
static int32_t likely(const struct automaton *a, int32_t state)
{
    const struct automaton_state *x = &a->states[state];
    const struct byte_edge *v = x->n_bytes ? a->byte_edges + x->bytes : NULL; // may have none
    int most = 0;
    int32_t to = -1;
    for (int32_t e = 0; e < x->n_bytes; e++) {
        int bytes = 0;
        for (int32_t i = e; i < x->n_bytes; i++)
            bytes += v[i].to == v[e].to ? width(&v[i]) : 0;
        if (bytes > most) {
            most = bytes;
            to = v[e].to;
        }
    }
    return to == state ? -1 : to;
}

static void begin(struct shift *s)
{
    s->round++;
    s->n_met = 0;
}

void shift_root(struct shift *s, int32_t root)
{
    s->chain[0] = root;
    for (s->length = 1; s->life[root] != SHIFT_ENDLESS && s->length < s->life[root]; s->length++)
        s->chain[s->length] = s->to[s->chain[s->length - 1]];
}

/* Follows what was assigned; the chain is that of the root. */
static void complete(struct shift *s, int32_t root)
{
    for (size_t i = 0; i < s->n_met; i++) {
        int32_t image = s->to[s->met[i]];
        if (image >= 0 && image != s->met[i])
            compare(s, s->met[i]);
    }
    for (size_t i = 0; i < s->n_met; i++) {
        s->life[s->met[i]] = 0;
        s->broken[s->met[i]] = s->image[s->met[i]] = false;
    }
    for (size_t i = 0; i < s->n_met; i++) {
        int32_t image = s->to[s->met[i]];
        if (image >= 0 && image != s->met[i])
            s->image[image] = true;
    }
    for (size_t i = 0; i < s->n_met; i++)
        find_life(s, s->met[i]);
    shift_root(s, root);
}

/* Do both states take the same bytes? */
static bool alike(struct shift *s, int32_t one, int32_t other)
{
    const struct automaton_state *x = &s->a->states[one], *y = &s->a->states[other];
    int bytes[2] = {0, 0};
    if (x->accepts != y->accepts || x->n_calls || y->n_calls)
        return false;
    for (int32_t e = 0; e < x->n_bytes; e++)
        bytes[0] += width(&s->a->byte_edges[x->bytes + e]);
    for (int32_t e = 0; e < y->n_bytes; e++)
        bytes[1] += width(&s->a->byte_edges[y->bytes + e]);
    return bytes[0] == bytes[1] && meet_all(s, x, y, false) == bytes[0];
}

/* It lies beside the way that most bytes take, a few of them on, and takes the bytes that the state
 * takes. */
int32_t shift_round(struct shift *s, int32_t state, const int32_t *counted)
{
    int32_t at = s->a->states[state].n_calls ? -1 : likely(s->a, state), image = -1;
    for (int i = 0; i < ROUND_BYTES && at >= 0; i++) {
        const struct automaton_state *x = &s->a->states[at];
        int32_t next = x->n_calls ? -1 : likely(s->a, at);
        if (counted[at] != -1)
            return -1;
        s->work += (size_t)x->n_bytes * (size_t)x->n_bytes;
        for (int32_t e = 0; e < x->n_bytes && image < 0; e++) {
            int32_t to = s->a->byte_edges[x->bytes + e].to;
            if (to != state && to != next && to != at && alike(s, state, to))
                image = to;
        }
        at = next;
    }
    return image;
}

void shift_find(struct shift *s, int32_t state, int32_t image)
{
    const struct automaton_state *x = &s->a->states[state];
    int32_t to = x->n_calls ? -1 : image >= 0 ? image : likely(s->a, state);
    begin(s);
    s->work += 1 + (size_t)x->n_bytes * (size_t)x->n_bytes;
    s->length = 1;
    s->chain[0] = state;
    if (to < 0)
        return;
    assign(s, state, to);
    complete(s, state);
}

void shift_turn(struct shift *s)
{
    bool broken;
    int32_t length = s->length, state = s->chain[0], last = s->chain[length - 1];
    shift_life(s, state, &broken);
    int32_t behind = broken ? likely(s->a, last) : -1;
    if (length == 1 || behind < 0)
        return;
    begin(s);
    assign(s, behind, last);
    for (int32_t i = length - 1; i > 0; i--)
        assign(s, s->chain[i], s->chain[i - 1]);
    complete(s, behind);
    if (s->length <= length)
        shift_find(s, state, -1);
}

int32_t shift_life(const struct shift *s, int32_t state, bool *broken)
{
    *broken = !known(s, state) || s->broken[state];
    return known(s, state) ? s->life[state] : 1;
}

bool shift_fixed(const struct shift *s, int32_t state)
{
    return known(s, state) && s->to[state] == state;
}

bool shift_moves(const struct shift *s, int32_t state)
{
    return known(s, state) && s->to[state] != state && s->to[state] != SHIFT_UNKNOWN;
}

bool shift_first(const struct shift *s, int32_t state)
{
    return known(s, state) && !s->image[state];
}
