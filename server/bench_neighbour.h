/* A process that computes all the time, to measure beside it. */
#ifndef OFTD_SERVER_BENCH_NEIGHBOUR_H
#define OFTD_SERVER_BENCH_NEIGHBOUR_H

#include <sys/types.h>

#include "core/status.h"

struct bench_neighbour {
    pid_t pid; /* 0: there is none (any more) */
};

/* A child that sleeps. To be called before there are threads: it takes no memory of ours along. */
enum status bench_neighbour_start(struct bench_neighbour *n, struct error *err);
/* Lets it compute, lets it sleep; it sleeps when the second returns. */
void bench_neighbour_run(const struct bench_neighbour *n);
void bench_neighbour_rest(struct bench_neighbour *n);
/* Seconds of processor time that it has had; 0 when there is none. */
double bench_neighbour_seconds(const struct bench_neighbour *n);
/* Ends it; a zeroed one is fine. */
void bench_neighbour_end(struct bench_neighbour *n);

#endif
