/*
 * A ticket: work that somebody waits for. Refcounted, on the heap. The submitter holds one
 * reference, the engine another until the work has ended.
 *
 * Who touches what:
 *   - .lock guards the outcome, the pieces' list, the wake-up, the times and the usage;
 *   - .arena, .request and .job belong to the thread that works on the ticket at that moment (the
 *     submitter, an intake thread, the loader, the worker); it is handed on through a queue's
 *     mutex, and after the end nobody writes any more;
 *   - .prev, .next are the engine's list of live tickets, .queued the link of the queue it is in.
 *
 * Lock order: a ticket's lock may be held while a queue's is taken (ticket_cancel kicks under it,
 * so that a ticket that ended never reaches into an engine that is gone); never the other way.
 */
#ifndef OFTD_CORE_RUN_TICKET_H
#define OFTD_CORE_RUN_TICKET_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/arena.h"
#include "core/engine.h"

struct request; /* request.h */
struct job;     /* jobs.h */

/* Who runs tickets. It outlives every ticket that has not ended. */
struct ticket_host {
    void *ctx;
    /* Some ticket was cancelled: whoever holds it should look. Takes no ticket's lock. */
    void (*kick)(void *ctx);
    /* The ticket has ended; the host forgets it and drops its reference. */
    void (*ended)(void *ctx, struct ticket *t);
};

struct event {
    struct event *next;
    struct piece piece;
};

struct ticket {
    atomic_int refs;
    atomic_bool cancelled;
    struct ticket *prev, *next, *queued;
    struct arena arena;
    struct request *request;           /* generation, raw passes, modules, text; or NULL */
    struct job *job;                   /* work of the loader; or NULL */
    void (*release)(struct ticket *t); /* frees request and job with the last reference */
    atomic_bool thinks;                /* its prompt ends within a thought */
    atomic_int running, waiting;       /* sequences, for the figures */
    int64_t queue_tokens; /* what it counts for in the queue's limits (host's lock); < 0: nothing */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    const struct ticket_host *host; /* NULL once it ended */
    bool ended, waking;
    pthread_t waker;
    enum ticket_until until;
    ticket_wake *wake;
    void *wake_arg;
    struct event *unread, *last;
    enum status status;
    struct error error;
    int64_t submitted, admitted, first_token, end; /* CLOCK_MONOTONIC ns; 0: not reached */
    struct usage usage;
    const struct adapter_ref *adapters;
    size_t n_adapters;
    const struct forward_row *rows;
    size_t n_rows;
};

int64_t ticket_now(void); /* CLOCK_MONOTONIC, ns */

/* Two references: the submitter's and the host's. NULL when memory runs out. */
struct ticket *ticket_new(const struct ticket_host *host);
/* Frees a ticket that was never handed to the host. */
void ticket_discard(struct ticket *t);
void ticket_unref(struct ticket *t);
bool ticket_cancelled(const struct ticket *t);

/* Appends a piece (its memory is the ticket's already) and wakes the reader. OUT_OF_MEMORY: nothing
 * was appended. */
enum status ticket_emit(struct ticket *t, const struct piece *piece);
/* Marks the moment at which it first ran; true: it was the first time. */
bool ticket_admit(struct ticket *t);
/* Adds to the usage; the first generated token marks its moment. Returns the moment of submission.
 */
int64_t ticket_count(struct ticket *t, const struct usage *more);
void ticket_set_adapters(struct ticket *t, const struct adapter_ref *refs, size_t n);
void ticket_set_rows(struct ticket *t, const struct forward_row *rows, size_t n);

/* The outcome (moves err, which may be NULL), the last wake-up, and the host's reference with it:
 * the caller must not touch t afterwards. Called once. */
void ticket_end(struct ticket *t, enum status status, struct error *err);

#endif
