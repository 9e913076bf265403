/* The fault injector itself: each kind of allocation can be made to fail, once, from the program
 * and from inside libraries, and what is alive is counted. */
#include "tests/faults/fault.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include <jansson.h>

#include "tests/check_main.h"

static void *volatile kept; /* keeps the compiler from leaving an allocation out */

static void *idle(void *arg)
{
    return arg;
}

static bool by_malloc(void)
{
    kept = malloc(10);
    bool got = kept;
    free(kept);
    return got;
}
static bool by_calloc(void)
{
    kept = calloc(2, 10);
    bool got = kept;
    free(kept);
    return got;
}
static bool by_realloc(void)
{
    kept = realloc(NULL, 10);
    bool got = kept;
    free(kept);
    return got;
}
static bool by_aligned_alloc(void)
{
    kept = aligned_alloc(64, 128);
    bool got = kept;
    free(kept);
    return got;
}
static bool by_posix_memalign(void)
{
    void *p = NULL;
    bool got = !posix_memalign(&p, 64, 128);
    free(p);
    return got;
}
static bool by_strdup(void)
{
    kept = strdup("text");
    bool got = kept;
    free(kept);
    return got;
}
static bool by_library(void)
{
    json_t *v = json_string("text");
    json_decref(v);
    return v;
}
static bool by_mmap(void)
{
    void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    munmap(p, 4096);
    return true;
}
static bool by_thread(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, idle, NULL))
        return false;
    pthread_join(t, NULL);
    return true;
}

static bool (*const ways[])(void) = {by_malloc,        by_calloc,         by_realloc,
                                     by_aligned_alloc, by_posix_memalign, by_strdup,
                                     by_library,       by_mmap,           by_thread};

START_TEST(each_way)
{
    fault_arm(1);
    bool got = ways[_i]();
    bool fired = fault_disarm();
    ck_assert(got == !fired);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert(fired);
#endif
    ck_assert(ways[_i]()); // only once
}
END_TEST

START_TEST(rounds)
{
    int tries = 0, failures = 0;
    long before = fault_live();
    FAULT_EACH(n)
    {
        void *a = malloc(1), *b = malloc(1);
        kept = b;
        tries++;
        failures += !a + !b;
        fault_disarm();
        free(a);
        free(b);
        ck_assert_int_eq(fault_live(), before);
    }
    ck_assert_int_eq(tries, failures + 1);
    ck_assert(!fault_fired());
    kept = realloc(malloc(10), 1000);
    long now = fault_live();
    free(kept);
    ck_assert_int_ge(now, fault_live());
    ck_assert_int_eq(fault_live(), before);
}
END_TEST

static Suite *fault_suite(void)
{
    Suite *suite = suite_create("faults/fault");
    TCase *tc = tcase_create("fault");
    tcase_add_loop_test(tc, each_way, 0, (int)(sizeof ways / sizeof ways[0]));
    tcase_add_test(tc, rounds);
    suite_add_tcase(suite, tc);
    return suite;
}

CHECK_MAIN(fault_suite)
