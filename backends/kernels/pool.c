/*
 * Owns threads and the barrier at the end of a job. Knows no arithmetic.
 *
 * Every thread has a share of a job's chunks, one run of them, the first thread the first; when its
 * own is worked off it takes from the others'. So what a thread wrote or fetched for a part of one
 * job is in its own cache for the same part of the next, and still a thread that the system stopped
 * holds up no more than the chunk it is at.
 *
 *   share   generation (high 32 bits) | chunks nobody has taken yet (low 32 bits)
 *
 * A chunk is taken by a compare-and-swap that lowers the low half. The job's other fields are read
 * only after a chunk was taken: the job cannot end before that chunk is done, so the fields are
 * stable, and a helper that was asleep or preempted all along finds nothing to take and holds
 * nobody up. The caller waits for chunks, never for threads. The generation is told last: who has
 * not seen it may already find chunks, who has seen it finds all that are left.
 *
 * Waiting is spinning for SPIN_NS, because the next job of a step comes within microseconds, and
 * then sleeping on a condition, because an idle daemon must take no processor time and a preempted
 * helper may need our core. Whoever goes to sleep raises a flag and then looks again; whoever
 * changes the state looks at the flag afterwards (both sequentially consistent): no wake-up is
 * lost.
 */
#include "backends/kernels/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define SPIN_NS   70000
#define SPIN_STEP 32 /* pauses between looks at the clock */

struct helper {
    struct pool *pool;
    pthread_t thread;
    int index;
    uint32_t seen; /* the generation it has worked for */
};

struct share {
    _Alignas(64) atomic_uint_fast64_t word;
};

struct pool {
    _Alignas(64) atomic_uint_fast32_t generation; /* of the job that may be worked for */
    _Alignas(64) atomic_int_fast64_t done;        /* chunks that are finished */
    _Alignas(64) atomic_int sleepers;             /* helpers that wait for `work` */
    atomic_bool caller_sleeps;                    /* the caller waits for `finished` */
    atomic_bool stop;
    int64_t chunks; /* of the job */
    pool_task *task;
    void *ctx;

    pthread_mutex_t lock; /* for the two conditions only */
    pthread_cond_t work, finished;
    int threads, started;
    struct helper *helpers; /* [threads] that of the caller is no thread */
    struct share *shares;   /* [threads] */
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A job that it has not worked for. */
static bool has_work(const struct helper *h)
{
    return atomic_load(&h->pool->generation) != h->seen || atomic_load(&h->pool->stop);
}

static bool is_done(const struct helper *caller)
{
    return atomic_load(&caller->pool->done) == caller->pool->chunks;
}

/* Spins until ready; false when that took too long. */
static bool spin(const struct helper *h, bool (*ready)(const struct helper *))
{
    int64_t until = 0;
    for (;;) {
        for (int i = 0; i < SPIN_STEP; i++) {
            if (ready(h))
                return true;
            relax();
        }
        int64_t now = clock_ns();
        if (!until)
            until = now + SPIN_NS;
        else if (now > until)
            return false;
    }
}

/* The first chunk of a share. */
static int64_t share_start(const struct pool *p, int share)
{
    return p->chunks * share / p->threads;
}

/* Works on what is left of a share. */
static void take_share(struct pool *p, int share, int thread)
{
    atomic_uint_fast64_t *left = &p->shares[share].word;
    uint_fast64_t word = atomic_load(left);
    while ((uint32_t)word) {
        if (!atomic_compare_exchange_weak(left, &word, word - 1))
            continue;
        int64_t chunks = p->chunks;
        p->task(p->ctx, share_start(p, share + 1) - (int64_t)(uint32_t)word, thread);
        // after this the caller may return and p's job fields may change
        if (atomic_fetch_add(&p->done, 1) + 1 == chunks && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->lock);
        }
        word = atomic_load(left);
    }
}

/* Works on the current job until no chunk is left. */
static void take_chunks(struct pool *p, int thread)
{
    for (int i = 0; i < p->threads; i++)
        take_share(p, (thread + i) % p->threads, thread);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    while (!atomic_load(&p->stop)) {
        h->seen = (uint32_t)atomic_load(&p->generation);
        take_chunks(p, h->index);
        if (spin(h, has_work))
            continue;
        pthread_mutex_lock(&p->lock);
        atomic_fetch_add(&p->sleepers, 1);
        while (!has_work(h))
            pthread_cond_wait(&p->work, &p->lock);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

static void wake_helpers(struct pool *p)
{
    if (!atomic_load(&p->sleepers))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, int64_t chunks, pool_task *task, void *ctx)
{
    if (chunks <= 1 || p->threads == 1) {
        for (int64_t c = 0; c < chunks; c++)
            task(ctx, c, 0);
        return;
    }
    uint32_t generation = (uint32_t)atomic_load(&p->generation) + 1;
    p->chunks = chunks;
    p->task = task;
    p->ctx = ctx;
    atomic_store(&p->done, 0);
    for (int i = 0; i < p->threads; i++)
        atomic_store(&p->shares[i].word, (uint64_t)generation << 32 |
                                             (uint32_t)(share_start(p, i + 1) - share_start(p, i)));
    atomic_store(&p->generation, generation);
    wake_helpers(p);
    take_chunks(p, 0);
    if (is_done(p->helpers) || spin(p->helpers, is_done))
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (!is_done(p->helpers))
        pthread_cond_wait(&p->finished, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

/* Starts the helpers with all signals blocked: those are the main thread's business. */
static bool start_helpers(struct pool *p)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool ok = true;
    for (int i = 1; i < p->threads && ok; i++) {
        p->helpers[i].pool = p;
        p->helpers[i].index = i;
        ok = !pthread_create(&p->helpers[i].thread, NULL, helper_main, &p->helpers[i]);
        if (ok)
            p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

enum status pool_open(int threads, struct pool **out, struct error *err)
{
    *out = NULL;
    struct pool *p = NULL;
    if (posix_memalign((void **)&p, 64, sizeof *p))
        return error_memory(err, "starting the compute threads");
    memset(p, 0, sizeof *p);
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    p->helpers = calloc((size_t)threads, sizeof *p->helpers);
    size_t bytes = (size_t)threads * sizeof *p->shares;
    if (!p->helpers || posix_memalign((void **)&p->shares, 64, bytes)) {
        p->shares = NULL;
        pool_close(p);
        return error_memory(err, "starting the compute threads");
    }
    p->helpers[0].pool = p;
    memset(p->shares, 0, bytes);
    if (!start_helpers(p)) {
        int started = p->started;
        pool_close(p);
        return error_set(err, ST_OUT_OF_MEMORY,
                         "the system refused compute thread %d of %d: use fewer threads",
                         started + 2, threads);
    }
    *out = p;
    return ST_OK;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->finished);
    pthread_mutex_destroy(&p->lock);
    free(p->helpers);
    free(p->shares);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}
