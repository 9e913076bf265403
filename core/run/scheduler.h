/*
 * The worker: the one thread that computes. It owns all that changes with a step (sequences, lanes,
 * pages, the sampler's scratch); other threads only put tickets into its inbox or kick it.
 *
 * A step: take what came in, drop what was cancelled, admit from the lanes while there are slots
 * and pages, plan rows, one pass for each (view, mode), draw and emit, then a slice of a module
 * request if there is one, then end what is done. Between two steps work in the background has its
 * turn, half as long as steps were of late: a long prompt's chunk does not lend its length to the
 * next token of a stream.
 *
 *   rows   every running sequence whose prompt is read gets one row. The rest of the step, at most
 *          prefill_chunk rows while others decode and no more than pace.h allows, reads prompts:
 *          half for the oldest, then the shortest first, so that neither a crowd of short ones nor
 *          a giant keeps others waiting for ever.
 *   guesses  of what a sequence says next (draft.h) get rows where few others do: as rows of the
 *          same sequence, each seeing the guesses before it. The sampler then draws position by
 *          position; what was computed behind the first token that is not the guess is dropped.
 *          They take what prompts have left.
 *   pages  a prompt's are taken when it starts. When none is left the newest running sequence gives
 *          all of its back and returns to the front of its lane; later it computes its tokens again
 *          and goes on, with the same bits. The oldest is never interrupted and no sequence can
 *          need more than there are (max_len), so there is always progress.
 */
#ifndef OFTD_CORE_RUN_SCHEDULER_H
#define OFTD_CORE_RUN_SCHEDULER_H

#include "core/run/kvcache.h"
#include "core/run/stats.h"
#include "core/run/ticket.h"
#include "core/turns.h"

struct scheduler;

struct scheduler_options {
    const struct model *model;
    const struct kernels *kernels; /* borrowed: the sampler's */
    struct kvcache *kv;            /* borrowed, the worker's alone */
    struct stats *stats;
    struct turns *turns;                            /* of work in the background */
    int32_t max_rows, prefill_chunk, max_sequences; /* max_rows >= max_sequences */
    double prefill_stretch;                         /* of a step that reads prompts (pace.h) */
    bool speculate;                                 /* guesses are computed where that pays */
    bool can_draw;        /* the passes' tables may draw tokens themselves (struct draw) */
    int64_t (*now)(void); /* nanoseconds, of a step; tests bring their own */
    /* The arithmetic: one pass; from row (or image) `first` of a module or image request at most
     * `most`, returns how many, 0: err tells what failed. */
    void (*forward)(void *ctx, enum compute mode, struct batch *b);
    int32_t (*module)(void *ctx, struct request *r, int32_t first, int32_t most, struct error *err);
    void (*started)(void *ctx, struct ticket *t); /* all of it runs or ran; once a ticket */
    void *ctx;
};

enum status scheduler_open(const struct scheduler_options *o, struct scheduler **out,
                           struct error *err);
enum status scheduler_start(struct scheduler *s, struct error *err); /* the thread */
/* Ends the thread and with CANCELLED what is left; nothing may be submitted any more. */
void scheduler_stop(struct scheduler *s);
void scheduler_close(struct scheduler *s);

/* A ticket whose request is planned; the scheduler ends it. */
void scheduler_submit(struct scheduler *s, struct ticket *t);
/* Look for cancelled tickets. */
void scheduler_kick(struct scheduler *s);
/* One step on the calling thread (the thread's body; tests call it instead of starting one). False:
 * there was nothing to do. */
bool scheduler_step(struct scheduler *s);

struct scheduler_figures {
    int32_t pages, pages_used;
};
void scheduler_figures(const struct scheduler *s, struct scheduler_figures *out);

#endif
