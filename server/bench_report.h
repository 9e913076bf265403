/* What `oftd bench` found, as figures: ratios of two things of the same run, with both parts. */
#ifndef OFTD_SERVER_BENCH_REPORT_H
#define OFTD_SERVER_BENCH_REPORT_H

#include "server/bench_run.h"

#define BENCH_SERIES_MAX 64

/* A case and its times in every round; one that generates one token measures prefill, else
 * decoding.
 */
struct bench_series {
    struct bench_case c;
    struct bench_times *times; /* [rounds] */
};

/* Everything that was measured; strings are borrowed. */
struct bench_result {
    const char *model, *architecture, *isa, *compute;
    int threads;
    int32_t batch, prompt, generate;
    size_t adapters, rounds;
    struct bench_series series[BENCH_SERIES_MAX];
    size_t n_series;
    struct bench_times *activation;    /* [rounds] or NULL */
    struct bench_times *entry;         /* [rounds] or NULL: a prompt of `prompt` tokens enters */
    struct bench_times *zipf, *single; /* [rounds] or NULL: traffic on `pool` adapters, on one */
    size_t pool;
    double *read, *peak;        /* [rounds] probes: bytes, fp32 operations a second */
    double *foreign;            /* [rounds] cores that other processes kept busy */
    double step_bytes;          /* weights that one step reads */
    double token_operations;    /* of one prompt token */
    double load_seconds;        /* of the base */
    double first_token_seconds; /* from before the load until a first token */
    double checkpoint_bytes, kv_bytes, adapter_bytes;
    double peak_bytes,
        anonymous_bytes; /* resident after round 0: the most, and what is no file's */
};

/* Prints the report on standard output; false when memory ran out. */
bool bench_report_text(const struct bench_result *r);
/* The same as JSON; NULL when memory ran out. */
json_t *bench_report_json(const struct bench_result *r);

#endif
