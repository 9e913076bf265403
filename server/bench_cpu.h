/* Whether a measure had the machine to itself. */
#ifndef OFTD_SERVER_BENCH_CPU_H
#define OFTD_SERVER_BENCH_CPU_H

struct bench_cpu { /* seconds */
    double clock, all, own;
};

struct bench_cpu bench_cpu_read(void);
/* Cores that other processes kept busy since then; 0 where the system does not tell. */
double bench_cpu_foreign(const struct bench_cpu *since);

#endif
