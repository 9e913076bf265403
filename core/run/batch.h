/*
 * The rows of one step. The scheduler has decided how many positions each sequence gets
 * (sequence.rows); here they become passes: sorted by (view, mode, route), so that one pass serves
 * one view and mode and rows with the same adapters are neighbours, and every row that must deliver
 * has a place for its logits. All arrays are made once, at their largest.
 */
#ifndef OFTD_CORE_RUN_BATCH_H
#define OFTD_CORE_RUN_BATCH_H

#include "core/run/sequence.h"

/* Rows of echoed prompts that may deliver logits in one step, besides one row a sequence. */
#define ECHO_ROWS 32

struct step {
    int32_t max_rows, max_sequences, slots;
    struct sequence **items; /* [max_sequences] */
    int32_t n_items;
    float *logits;      /* [slots, vocab]: of generating sequences; a raw pass has its own place */
    struct draw *draws; /* [slots] */
    bool can_draw;      /* tables may; else all are DRAW_NOT_YET for ever */
    int32_t vocab, used;

    int32_t *tokens, *types, *positions; /* [max_rows]; of the pass that was built last */
    const int32_t **pages;
    int32_t *lengths; /* [max_rows] */
    int32_t *ends;    /* [max_rows]; encoders */
    struct row_output *outputs;
    struct row_group *groups; /* [max_sequences] */
};

enum status step_open(struct step *s, int32_t vocab, int32_t max_rows, int32_t max_sequences,
                      bool can_draw, struct error *err);
void step_close(struct step *s);

/* Collects those of the n running sequences that have rows, in the order of their passes. */
void step_collect(struct step *s, struct sequence *const *running, int32_t n);
/* Builds the pass that begins with items[first] into b (kernels apart); returns the item behind it.
 * Sets each sequence's slot. */
int32_t step_pass(struct step *s, int32_t first, const struct kv *kv, struct batch *b);
/* Positions of this step from which logits of the prompt are wanted: [*from, *end). */
void step_prompt_rows(const struct sequence *q, int32_t *from, int32_t *end);
/* What has been drawn of a slot's logits already. */
static inline const struct draw *step_draw(const struct step *s, int32_t slot)
{
    return &s->draws[slot];
}
static inline float *step_logits(const struct step *s, int32_t slot)
{
    return s->logits + (size_t)slot * (size_t)s->vocab;
}

#endif
