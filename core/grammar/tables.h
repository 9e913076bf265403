/*
 * What follow.c and parts.c share: the tables of a grammar as they grow while texts are followed,
 * and the arrays that they are made of. Nobody else includes it.
 */
#ifndef OFTD_CORE_GRAMMAR_TABLES_H
#define OFTD_CORE_GRAMMAR_TABLES_H

#include "core/grammar/follow.h"
#include "core/grammar/shift.h"

#define DEAD 0 /* the config of no reading */

/* below 0: nothing, the grammar's own end (or, within a part, the end of its rule). */
struct stack {
    int32_t state, below;
};

struct config {
    int32_t first, n;             /* of pool: what bytes led to */
    int32_t expanded, n_expanded; /* of pool: with the rules that it calls, and what they end in */
    bool ends;
};

struct array {
    void *v;
    size_t n, cap;
};

/* Finds numbers by hash: 0 is empty. */
struct index {
    int32_t *v;
    size_t size, n;
};

/* On the way down through the spellings. */
struct way {
    int32_t config, node;
    int32_t life; /* shifts that the text so far survives */
    bool fixed;   /* what follows is alike for all of them */
};

struct tables {
    const struct automaton *a;
    const struct spellings *s;
    size_t limit, used;
    uint32_t epoch;
    enum status status;
    bool warm;
    /* follow.c */
    struct array stacks, configs, pool, steps;
    struct index stack_index, config_index;
    struct array set; /* stacks of the config that is being made */
    /* parts.c */
    struct array parts;
    struct index part_index;
    struct shift shift;
    struct array families;
    int32_t *family_of,
        *place_of;      /* [n_states] a family, below 0: none; how many shifts from its root */
    int32_t exits_from; /* the first state of a rule that is called */
    struct way *way;    /* [deepest + 1] */
    uint64_t *found;    /* [words] tokens of the part that is being made */
    struct array exits; /* of the part or the family that is being made */
    struct array tokens, breaks, token_keys, exit_keys, break_keys; /* of the family */
    size_t walked; /* nodes of the spellings, ever */
};

/* Room for n more of `size` bytes; NULL: no memory, and the status says so. What was there keeps
 * its place in the array. */
void *tables_extend(struct tables *t, struct array *a, size_t n, size_t size);
bool tables_push(struct tables *t, struct array *a, int32_t value);
/* false, for a reason */
bool tables_fail(struct tables *t, enum status why);
uint64_t tables_mix(uint64_t h, uint64_t x);
/* Room for one more; hash_at tells the hash of an entry. */
bool tables_index_grow(struct tables *t, struct index *x,
                       uint64_t (*hash_at)(const struct tables *t, int32_t i));
static inline size_t tables_words(const struct tables *t)
{
    return ((size_t)t->s->vocab + 63) / 64;
}

/* The config of one state by itself; -1: failed. */
int32_t tables_config(struct tables *t, int32_t state);
/* The state of a config that such a one led to by bytes alone. */
int32_t tables_state(const struct tables *t, int32_t config);
int32_t tables_make_step(struct tables *t, int32_t config, uint8_t byte);

static inline const struct config *tables_config_at(const struct tables *t, int32_t i)
{
    return (const struct config *)t->configs.v + i;
}

static inline const struct stack *tables_stack_at(const struct tables *t, int32_t i)
{
    return (const struct stack *)t->stacks.v + i;
}

/* Where a byte leads; DEAD: nowhere; -1: failed. */
static inline int32_t tables_step(struct tables *t, int32_t config, uint8_t byte)
{
    int32_t next =
        ((const int32_t *)
             t->steps.v)[(size_t)config * (size_t)t->a->n_classes + t->a->class_of[byte]];
    return next < 0 ? tables_make_step(t, config, byte) : next;
}

/* What parts.c keeps beside the parts; families are looked for here. */
bool parts_open(struct tables *t);
void parts_close(struct tables *t);
/* Forgets all parts and what families found. */
void parts_empty(struct tables *t);
/* Adds the tokens that may come behind a text whose only reading is this stack. */
bool parts_allow(struct tables *t, int32_t stack, uint64_t *allowed);
/* Makes parts that texts are likely to need, as many as a compiling may take time for. */
bool parts_warm(struct tables *t);

#endif
