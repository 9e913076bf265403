/*
 * Owns the two measures that ratios are taken against. Both run a few times on our own pool and
 * report the median; neither touches a weight.
 */
#include "backends/kernels/probe.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/kernels/cpu.h"
#include "backends/kernels/pool.h"
#include "core/memory.h"

#define READ_BYTES ((size_t)512 << 20)
#define READ_LEAST ((size_t)64 << 20)
#define MOST_RUNS  15
#define SECONDS    0.4 /* of measuring, after the memory has been touched */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct probe {
    char *memory;
    size_t bytes; /* of each thread */
    probe_read *read;
    probe_fma *fma;
    long rounds;
    double work; /* of one thread */
    volatile float sink[64];
};

/* Reading what nobody has written reads one page of zeros over and over. */
static void touch_chunk(void *ctx, int64_t chunk, int thread)
{
    struct probe *p = ctx;
    (void)thread;
    memset(p->memory + (size_t)chunk * p->bytes, 1, p->bytes);
}

static void read_chunk(void *ctx, int64_t chunk, int thread)
{
    struct probe *p = ctx;
    p->sink[thread % 64] = p->read(p->memory + (size_t)chunk * p->bytes, p->bytes);
}

static void fma_chunk(void *ctx, int64_t chunk, int thread)
{
    struct probe *p = ctx;
    float sink;
    double work = p->fma(p->rounds, &sink);
    if (chunk == 0)
        p->work = work;
    p->sink[thread % 64] = sink;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the seconds that a job of one chunk a thread takes. */
static double median_seconds(struct pool *pool, pool_task *task, struct probe *p)
{
    double runs[MOST_RUNS], start = now();
    int n = 0;
    task(p, 0, 0); // settles clocks and fills p->work
    do {
        double t = now();
        pool_run(pool, pool_threads(pool), task, p);
        runs[n++] = now() - t;
    } while (n < MOST_RUNS && now() - start < SECONDS);
    qsort(runs, (size_t)n, sizeof *runs, by_value);
    return runs[n / 2];
}

struct loops {
    probe_read *read;
    probe_fma *fma;
};

/* The widest that the processor has. */
static const struct loops *loops(void)
{
    static const struct loops portable = {probe_read_portable, probe_fma_portable};
#if defined(__x86_64__)
    static const struct loops avx2 = {probe_read_avx2, probe_fma_avx2};
    static const struct loops avx512 = {probe_read_avx512, probe_fma_avx512};
    if (cpu_has("avx512"))
        return &avx512;
    if (cpu_has("avx2"))
        return &avx2;
#elif defined(__aarch64__)
    static const struct loops neon = {probe_read_neon, probe_fma_neon};
    if (cpu_has("neon"))
        return &neon;
#endif
    return &portable;
}

double probe_read_bandwidth(int threads)
{
    struct pool *pool = NULL;
    size_t bytes = READ_BYTES;
    while (bytes > READ_LEAST && bytes > memory_available() / 4)
        bytes /= 2;
    char *memory = memory_alloc(bytes);
    double result = 0;
    if (memory && pool_open(threads, &pool, NULL) == ST_OK) {
        struct probe p = {.memory = memory,
                          .bytes = bytes / (size_t)threads / PROBE_LINES * PROBE_LINES,
                          .read = loops()->read};
        pool_run(pool, threads, touch_chunk, &p);
        result = (double)p.bytes * threads / median_seconds(pool, read_chunk, &p);
    }
    pool_close(pool);
    memory_free(memory);
    return result;
}

float probe_read_portable(const char *memory, size_t bytes)
{
    const uint64_t *v = (const uint64_t *)memory;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes / sizeof *v; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += v[i + j];
    return (float)(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]);
}

double probe_fma_portable(long rounds, float *sink)
{
    float acc[16], x = 1.0f - 1e-6f;
    for (int i = 0; i < 16; i++)
        acc[i] = (float)i;
    for (long r = 0; r < rounds * 64; r++)
        for (int i = 0; i < 16; i++)
            acc[i] = acc[i] * x + 1e-6f;
    *sink = 0;
    for (int i = 0; i < 16; i++)
        *sink += acc[i];
    return 2.0 * 64 * 16 * (double)rounds;
}

double probe_fp32_peak(int threads)
{
    struct pool *pool = NULL;
    struct probe p = {.fma = loops()->fma, .rounds = 20000};
    if (pool_open(threads, &pool, NULL) != ST_OK)
        return 0;
    double seconds = median_seconds(pool, fma_chunk, &p);
    pool_close(pool);
    return p.work * threads / seconds;
}
