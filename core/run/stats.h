/* Figures of the engine (core/engine.h), off the hot path: the worker reports once a step. */
#ifndef OFTD_CORE_RUN_STATS_H
#define OFTD_CORE_RUN_STATS_H

#include <pthread.h>

#include "core/engine.h"

enum timing {
    TIMING_FIRST_TOKEN,
    TIMING_INTER_TOKEN,
    TIMING_END_TO_END,
    TIMING_QUEUE,
    TIMING_ADAPTER_LOAD,
    TIMING_COUNT_
};

struct step_counts {
    uint64_t prompt_tokens, generated_tokens, cached_tokens, preemptions, steps;
    uint64_t drafts, draft_tokens, accepted_tokens;
    uint64_t finished[FINISH_ERROR + 1];
    int64_t step_ns, pass_ns; /* of the worker; of that, in passes through the model */
};

struct stats {
    pthread_mutex_t lock;
    struct histogram timings[TIMING_COUNT_];
    struct step_counts counts;
};

bool stats_open(struct stats *s);
void stats_close(struct stats *s);
void stats_time(struct stats *s, enum timing which, double seconds);
void stats_count(struct stats *s, const struct step_counts *more);
/* The members of out that are known here. */
void stats_read(struct stats *s, struct engine_stats *out);

#endif
