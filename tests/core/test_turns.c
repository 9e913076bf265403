/* The rule of turns, on a clock that only units of work move: what a turn lets happen is counted,
 * not timed. The test's thread is the worker. */
#include "core/turns.h"

#include <sched.h>
#include <semaphore.h>

#include "tests/check_main.h"

/* A turn's length, but where a test says otherwise: the worker's patience, which is as long, is of
 * the real clock. */
#define HOUR ((int64_t)3600 * 1000000000)

static struct turns turns;
static _Atomic(int64_t) fake; /* nanoseconds */

static int64_t fake_now(void)
{
    return atomic_load(&fake);
}

static void setup(void)
{
    ck_assert(turns_open(&turns));
    turns.now = fake_now;
    atomic_store(&fake, 1);
}

static void teardown(void)
{
    turns_close(&turns);
}

/* A background thread that works units of `cost` each until it is told to stop. */
struct background {
    pthread_t thread;
    int64_t cost;
    atomic_int units;
    atomic_bool stop;
};

static void *work(void *arg)
{
    struct background *b = arg;
    turns_enter(&turns);
    while (!atomic_load(&b->stop)) {
        turns_pause();
        atomic_fetch_add(&fake, b->cost);
        atomic_fetch_add(&b->units, 1);
    }
    turns_leave();
    return NULL;
}

static void start(struct background *b, int64_t cost)
{
    *b = (struct background){.cost = cost};
    ck_assert_int_eq(pthread_create(&b->thread, NULL, work, b), 0);
}

static void finish(struct background *b)
{
    atomic_store(&b->stop, true);
    turns_busy(&turns, false);
    pthread_join(b->thread, NULL);
}

static void until_waiting(int n)
{
    while (atomic_load(&turns.waiting) != n)
        sched_yield();
}

/* Whoever never entered, and whoever works while the worker sleeps, is held up by nothing. */
START_TEST(others_pass)
{
    turns_busy(&turns, true);
    for (int i = 0; i < 1000; i++)
        turns_pause();
    turns_away();
    turns_leave();
    turns_busy(&turns, false);
    turns_enter(&turns);
    for (int i = 0; i < 1000; i++)
        turns_pause();
    turns_leave();
    ck_assert_uint_eq(turns.count, 0);
}
END_TEST

/* As many units as the turn is long, all of them within turns. */
START_TEST(a_turn_is_as_long_as_it_says)
{
    struct background b;
    turns_busy(&turns, true);
    turns_give(&turns, HOUR); // nobody is there
    start(&b, HOUR / 10);
    for (int i = 1; i <= 50; i++) {
        until_waiting(1);
        ck_assert_int_eq(atomic_load(&b.units), 10 * (i - 1));
        turns_give(&turns, HOUR);
        ck_assert_int_eq(atomic_load(&b.units), 10 * i);
    }
    ck_assert_uint_eq(turns.count, 50);
    finish(&b);
}
END_TEST

/* A unit is longer than any turn: one each. */
START_TEST(every_turn_brings_a_unit)
{
    struct background b;
    turns_busy(&turns, true);
    start(&b, 2 * HOUR);
    for (int i = 1; i <= 50; i++) {
        until_waiting(1);
        turns_give(&turns, HOUR);
        ck_assert_int_eq(atomic_load(&b.units), i);
    }
    finish(&b);
}
END_TEST

/* Several share a turn, and each has its unit in every one. */
START_TEST(several_at_once)
{
    enum { N = 4 };
    struct background b[N];
    turns_busy(&turns, true);
    for (int i = 0; i < N; i++)
        start(&b[i], HOUR / 100);
    for (int i = 1; i <= 50; i++) {
        int sum = 0, least = INT32_MAX;
        until_waiting(N);
        turns_give(&turns, HOUR);
        for (int k = 0; k < N; k++) {
            int units = atomic_load(&b[k].units);
            sum += units;
            least = units < least ? units : least;
        }
        ck_assert_int_ge(least, i);
        ck_assert_int_ge(sum, 100 * i);
        ck_assert_int_le(sum, (100 + N) * i);
    }
    for (int i = 0; i < N; i++)
        finish(&b[i]);
}
END_TEST

/* Who waits goes on when the worker has nothing more to do, and stops again when it has. */
START_TEST(a_worker_that_sleeps_lets_all_go_on)
{
    struct background b;
    turns_busy(&turns, true);
    start(&b, 1);
    for (int i = 0; i < 20; i++) {
        until_waiting(1);
        int before = atomic_load(&b.units);
        turns_busy(&turns, false);
        while (atomic_load(&b.units) < before + 100)
            sched_yield();
        turns_busy(&turns, true);
    }
    until_waiting(1);
    ck_assert_uint_eq(turns.count, 0);
    finish(&b);
}
END_TEST

struct guest {
    sem_t inside, go;
    bool away;
    atomic_bool done;
};

/* One unit that ends only when the test says so. */
static void *stay(void *arg)
{
    struct guest *g = arg;
    turns_enter(&turns);
    turns_pause();
    if (g->away)
        turns_away();
    sem_post(&g->inside);
    sem_wait(&g->go);
    turns_pause();
    atomic_store(&g->done, true);
    turns_leave();
    return NULL;
}

/* The worker does not wait for one that waits for something else, and for one that works on it
 * waits no longer than the turn and the grace; both come back through a turn. */
static void stays(bool away)
{
    struct guest g = {.away = away};
    pthread_t thread;
    sem_init(&g.inside, 0, 0);
    sem_init(&g.go, 0, 0);
    turns_busy(&turns, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, stay, &g), 0);
    until_waiting(1);
    turns_give(&turns, away ? HOUR : 1000); // returns, though the unit goes on
    sem_wait(&g.inside);
    turns_give(&turns, HOUR); // nobody waits: at once
    ck_assert_uint_eq(turns.count, 1);
    sem_post(&g.go);
    until_waiting(1);
    ck_assert(!atomic_load(&g.done));
    turns_give(&turns, HOUR);
    pthread_join(thread, NULL);
    ck_assert(atomic_load(&g.done));
    ck_assert_int_eq(turns.inside, 0);
    turns_busy(&turns, false);
    sem_destroy(&g.inside);
    sem_destroy(&g.go);
}

START_TEST(the_disk_holds_nobody_up)
{
    stays(true);
}
END_TEST

START_TEST(a_long_unit_is_not_waited_for)
{
    stays(false);
}
END_TEST

/* The end of a thread's work ends its part in the turn. */
START_TEST(leaving_ends_a_turn)
{
    struct background b;
    turns_busy(&turns, true);
    start(&b, 0);
    until_waiting(1);
    atomic_store(&b.stop, true);
    turns_give(&turns, HOUR);
    ck_assert_int_eq(turns.inside, 0);
    ck_assert_int_eq(atomic_load(&b.units), 1);
    finish(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("turns");
    TCase *c = tcase_create("turns");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, others_pass);
    tcase_add_test(c, a_turn_is_as_long_as_it_says);
    tcase_add_test(c, every_turn_brings_a_unit);
    tcase_add_test(c, several_at_once);
    tcase_add_test(c, a_worker_that_sleeps_lets_all_go_on);
    tcase_add_test(c, the_disk_holds_nobody_up);
    tcase_add_test(c, a_long_unit_is_not_waited_for);
    tcase_add_test(c, leaving_ends_a_turn);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
