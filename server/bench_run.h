/* One round of what `oftd bench` measures: sequences through the engine, and when their tokens
 * came. */
#ifndef OFTD_SERVER_BENCH_RUN_H
#define OFTD_SERVER_BENCH_RUN_H

#include "core/engine.h"

/* The engine that is measured, and what the rounds so far left behind. */
struct bench_host {
    struct engine *engine; /* loaded */
    enum compute compute;
    const char *const *adapters; /* [n_adapters] names, loaded */
    size_t n_adapters;
    uint64_t random;   /* state of the prompts' ids */
    uint64_t kv_pages; /* that the sequences so far have filled (at most: none was found again) */
};

/* What runs at once. Sequence i runs on adapter i % adapters; adapters 0: on the base. */
struct bench_case {
    int32_t sequences, adapters;
    int32_t prompt, generate; /* tokens of each sequence */
};

struct bench_times { /* seconds */
    double first;    /* until every sequence had its first token */
    double step;     /* between two tokens of a sequence while all run; 0: one token each */
    double gap;      /* the longest between two tokens of a sequence */
    double load;     /* of the adapter (bench_activation), else 0 */
};

/* Runs the case once on fresh random prompts. Refusals are the engine's (a prompt that is too long,
 * ...). */
enum status bench_round(struct bench_host *host, const struct bench_case *c,
                        struct bench_times *out, struct error *err);
/* Loads and publishes adapter (replacing the one of its name) while one sequence of the base
 * generates: step is that sequence's step before, gap its longest wait from the load's submission
 * until a few tokens after its end. */
enum status bench_activation(struct bench_host *host, const struct adapter_request *adapter,
                             int32_t prompt, struct bench_times *out, struct error *err);
/* Loads an adapter and waits for it. */
enum status bench_load(struct engine *engine, const struct adapter_request *adapter,
                       struct error *err);
/* A clock, in seconds. */
double bench_now(void);

#endif
