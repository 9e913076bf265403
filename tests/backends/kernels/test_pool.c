/* The pool: every chunk once, many small jobs, sleeping helpers, no chunk left behind. */
#include "tests/check_main.h"

#include <stdatomic.h>
#include <time.h>

#include "backends/kernels/pool.h"

enum { CHUNKS = 997 };
struct job {
    atomic_int count[CHUNKS];
    atomic_int threads;
    int most_threads;
};

static void task(void *ctx, int64_t chunk, int thread)
{
    struct job *j = ctx;
    ck_assert_int_lt(thread, j->most_threads);
    atomic_fetch_add(&j->count[chunk], 1);
    atomic_fetch_or(&j->threads, 1 << thread);
}

START_TEST(once)
{
    static const int threads[] = {1, 2, 5};
    struct pool *p = NULL;
    ck_assert_int_eq(pool_open(threads[_i], &p, NULL), ST_OK);
    ck_assert_int_eq(pool_threads(p), threads[_i]);
    struct job *j = calloc(1, sizeof *j);
    j->most_threads = threads[_i];
    for (int round = 1; round <= 300; round++) {
        int64_t chunks = round % 3 ? CHUNKS : round % 7;
        for (int i = 0; i < CHUNKS; i++)
            atomic_store(&j->count[i], 0);
        pool_run(p, chunks, task, j);
        for (int i = 0; i < CHUNKS; i++)
            ck_assert_int_eq(atomic_load(&j->count[i]), i < chunks);
        if (round % 60 == 0) { // helpers fall asleep in between
            struct timespec ms = {0, 2000000};
            nanosleep(&ms, NULL);
        }
    }
    pool_close(p);
    free(j);
}
END_TEST

static void slow(void *ctx, int64_t chunk, int thread)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
    task(ctx, chunk, thread);
}

/* Chunks that take long: helpers join, and the caller sleeps until the last is done. */
START_TEST(shared)
{
    struct pool *p = NULL;
    ck_assert_int_eq(pool_open(3, &p, NULL), ST_OK);
    struct job *j = calloc(1, sizeof *j);
    j->most_threads = 3;
    pool_run(p, 30, slow, j);
    ck_assert_int_eq(atomic_load(&j->threads), 7);
    pool_close(p);
    pool_close(NULL);
    free(j);
}
END_TEST

/* An idle pool takes no processor time. */
START_TEST(idle)
{
    struct pool *p = NULL;
    ck_assert_int_eq(pool_open(2, &p, NULL), ST_OK);
    struct timespec a, b, ms = {0, 300000000};
    nanosleep(&ms, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    nanosleep(&ms, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double used = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    ck_assert_double_lt(used, 0.01);
    pool_close(p);
}
END_TEST

static Suite *pool_suite(void)
{
    Suite *s = suite_create("pool");
    TCase *t = tcase_create("pool");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, once, 0, 3);
    tcase_add_test(t, shared);
    tcase_add_test(t, idle);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(pool_suite)
