/* What `oftd bench` measures: sequences through the engine, and when their tokens came. */
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
    bool exact;               /* computed in exact mode, whatever the host's is */
    bool known;               /* the same prompts each time: the prefix cache has them */
    bool busy;                /* beside a process that computes all the time (the caller sees to it)
                               */
};

struct bench_times { /* seconds */
    double first;    /* until every sequence had its first token */
    double step;     /* between two tokens of a sequence while all run; 0: one token each */
    double gap;      /* the longest between two tokens of a sequence */
    double load;     /* of the adapter beside a stream (bench_activation), else 0 */
    double alone;    /* the same while nobody is served */
    double first_p50, first_p99; /* until a sequence had its first token */
    double wait_p50, wait_p99;   /* between two tokens of a sequence while all run */
    double rate;                 /* tokens a second (bench_traffic), else 0 */
};

/* Runs the case once. Refusals are the engine's (a prompt that is too long, ...). */
enum status bench_round(struct bench_host *host, const struct bench_case *c,
                        struct bench_times *out, struct error *err);
/* Loads and publishes adapter (replacing the one of its name) while one sequence of the base
 * generates: step is that sequence's step before, gap its longest wait from the load's submission
 * until a few tokens after its end. Then loads it again, alone. */
enum status bench_activation(struct bench_host *host, const struct adapter_request *adapter,
                             int32_t prompt, struct bench_times *out, struct error *err);
/* The case's sequences run on the base when another one arrives with a prompt of `entrant` tokens:
 * step is the median of their waits before, wait_p50 and wait_p99 are those until its first token.
 */
enum status bench_entry(struct bench_host *host, const struct bench_case *c, int32_t entrant,
                        struct bench_times *out, struct error *err);
/* Requests one after another on the case's sequences, each on one of names (n of them): the one of
 * rank i is drawn with a share of 1 / i (Zipf's law with exponent 1). Adapters that are not in
 * memory are loaded when a request names them. rate is that of the tokens until the last request
 * was sent. */
enum status bench_traffic(struct bench_host *host, const struct bench_case *c,
                          const char *const *names, size_t n, size_t requests,
                          struct bench_times *out, struct error *err);
/* cumulative [n], malloc'ed: the share of ranks 0..i of n by Zipf's law; NULL without memory. */
double *bench_zipf(size_t n);
/* A rank below n by those shares. */
size_t bench_draw(const double *cumulative, size_t n, uint64_t *state);
/* Loads an adapter, waits for it and tells how long it took (seconds may be NULL). */
enum status bench_load(struct engine *engine, const struct adapter_request *adapter,
                       double *seconds, struct error *err);
/* A clock, in seconds. */
double bench_now(void);
/* The next random number below 2^31. */
uint64_t bench_random(uint64_t *state);

#endif
