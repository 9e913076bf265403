/* Processor time of the whole machine (/proc/stat) less this process's own is that of the others.
 */
#include "server/bench_cpu.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/bench_run.h"

/* Seconds in which any core ran anything (user, nice, system, irq, softirq); 0: unknown. */
static double all_busy(void)
{
    FILE *f = fopen("/proc/stat", "r");
    unsigned long long user, nice, system, idle, wait, irq, softirq;
    if (!f)
        return 0;
    int n = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait,
                   &irq, &softirq);
    fclose(f);
    return n == 7 ? (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK)
                  : 0;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

struct bench_cpu bench_cpu_read(const struct bench_neighbour *n)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct bench_cpu){.clock = bench_now(),
                              .all = all_busy(),
                              .own = seconds(usage.ru_utime) + seconds(usage.ru_stime) +
                                     bench_neighbour_seconds(n)};
}

double bench_cpu_foreign(const struct bench_cpu *since, const struct bench_neighbour *n)
{
    struct bench_cpu now = bench_cpu_read(n);
    double foreign = (now.all - since->all) - (now.own - since->own);
    return foreign > 0 && now.clock > since->clock ? foreign / (now.clock - since->clock) : 0;
}
