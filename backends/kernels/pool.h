/* A fixed set of threads that work off one job at a time: the caller and threads - 1 helpers. */
#ifndef OFTD_BACKENDS_KERNELS_POOL_H
#define OFTD_BACKENDS_KERNELS_POOL_H

#include <stdint.h>

#include "core/status.h"

struct pool;

/* One chunk of a job; thread is 0 .. threads - 1, 0 the caller. */
typedef void pool_task(void *ctx, int64_t chunk, int thread);

/* threads >= 1. A thread that cannot be started is an error, and none is left behind. */
enum status pool_open(int threads, struct pool **out, struct error *err);
/* NULL is fine. No job may be running. */
void pool_close(struct pool *pool);
int pool_threads(const struct pool *pool);
/* Runs task for every chunk 0 .. chunks - 1 (at most INT32_MAX), each once, and returns when all
 * are done. Called by one thread at a time. */
void pool_run(struct pool *pool, int64_t chunks, pool_task *task, void *ctx);

#endif
