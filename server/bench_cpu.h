/* Whether a measure had the machine to itself. */
#ifndef OFTD_SERVER_BENCH_CPU_H
#define OFTD_SERVER_BENCH_CPU_H

#include "server/bench_neighbour.h"

struct bench_cpu { /* seconds */
    double clock, all, own;
};

/* The neighbour's time is our own. */
struct bench_cpu bench_cpu_read(const struct bench_neighbour *n);
/* Cores that other processes kept busy since then; 0 where the system does not tell. */
double bench_cpu_foreign(const struct bench_cpu *since, const struct bench_neighbour *n);

#endif
