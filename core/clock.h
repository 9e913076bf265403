/* The clock that everything is timed by: CLOCK_MONOTONIC in nanoseconds. */
#ifndef OFTD_CORE_CLOCK_H
#define OFTD_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The same moment as pthread_cond_timedwait wants it. */
static inline struct timespec clock_timespec(int64_t ns)
{
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

#endif
