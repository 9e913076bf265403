/* What engine.c and engine_admin.c share; nobody else includes it. */
#ifndef OFTD_CORE_ENGINE_STATE_H
#define OFTD_CORE_ENGINE_STATE_H

#include "core/arena.h"
#include "core/engine.h"
#include "core/jobs.h"
#include "core/run/chat.h"
#include "core/run/intake.h"
#include "core/run/merged.h"
#include "core/run/request.h"
#include "core/run/scheduler.h"
#include "core/run/stats.h"
#include "core/turns.h"

struct engine {
    struct engine_options o; /* strings in the arena; as resolved after the load */
    struct arena arena;
    struct checkpoint *checkpoint;
    struct model *model;
    struct tokenizer *tokenizer;
    struct chat_templates *chat;
    struct registry *registry;
    struct merged *merged;
    struct kvcache *kv;
    struct scratch *scratch[2]; /* by enum compute; the worker's */
    struct scheduler *scheduler;
    struct jobs *jobs;
    struct intake *intake;
    struct stats stats;
    struct turns turns; /* the loader's, between the worker's steps */
    struct request_host host;
    struct ticket_host tickets;
    _Atomic(double) progress;

    pthread_mutex_t lock; /* of what follows; a ticket's lock may be taken under it, not above */
    pthread_cond_t changed;
    enum engine_state state;
    const char *fault;   /* why a device has failed, of its table; NULL: none has */
    struct ticket *live; /* every ticket that has not ended */
    int32_t waiting;     /* those that count in the queue, and their tokens */
    int64_t waiting_tokens;
};

/* Makes the ticket live (queue: it counts against the queue's limits until it starts) and returns
 * ST_OK, or NOT_READY, DRAINING, OVERLOADED. */
enum status engine_admit(struct engine *e, struct ticket *t, bool queue, int64_t tokens,
                         struct error *err);

#endif
