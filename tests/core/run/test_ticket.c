#include "tests/check_main.h"

#include <string.h>
#include <unistd.h>

#include "core/run/ticket.h"

static atomic_int kicks, ended, wakes;

static void kick(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&kicks, 1);
}

static void gone(void *ctx, struct ticket *t)
{
    (void)ctx;
    atomic_fetch_add(&ended, 1);
    ticket_unref(t);
}

static const struct ticket_host host = {.kick = kick, .ended = gone};

static void count_wake(void *arg)
{
    (void)arg;
    atomic_fetch_add(&wakes, 1);
}

static void reset(void)
{
    atomic_store(&kicks, 0);
    atomic_store(&ended, 0);
    atomic_store(&wakes, 0);
}

static void emit(struct ticket *t, int choice)
{
    ck_assert_int_eq(ticket_emit(t, &(struct piece){.choice = choice}), ST_OK);
}

START_TEST(pieces_come_in_order_and_wake_once)
{
    struct ticket *t = ticket_new(&host);
    struct piece p;
    ck_assert(!ticket_read(t, &p));
    ck_assert(ticket_wait(t, TICKET_EVENT, count_wake, NULL));
    emit(t, 1);
    emit(t, 2);
    ck_assert_int_eq(wakes, 1);
    ck_assert(!ticket_wait(t, TICKET_EVENT, count_wake, NULL));
    ck_assert(ticket_read(t, &p) && p.choice == 1);
    ck_assert(ticket_read(t, &p) && p.choice == 2);
    ck_assert(!ticket_read(t, &p));
    ck_assert(ticket_wait(t, TICKET_END, count_wake, NULL));
    emit(t, 3);
    ck_assert_int_eq(wakes, 1); /* it waits for the end */
    ticket_end(t, ST_OK, NULL);
    ck_assert_int_eq(wakes, 2);
    ck_assert(!ticket_wait(t, TICKET_END, count_wake, NULL));
    ck_assert(ticket_read(t, &p) && p.choice == 3);
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    ticket_free(t);
}
END_TEST

START_TEST(outcome_is_copied_with_findings)
{
    struct ticket *t = ticket_new(&host);
    struct error err = ERROR_INIT, got = ERROR_INIT;
    findings_add(&err.findings, SEVERITY_ERROR, ST_TENSOR_MISSING, "m", "f", "a", "b", "gone");
    error_param(&err, ST_INVALID_VALUE, "prompt", "no good");
    ticket_end(t, ST_INVALID_VALUE, &err);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(ticket_status(t, &got), ST_INVALID_VALUE);
        ck_assert_str_eq(got.text, "no good");
        ck_assert_str_eq(got.param, "prompt");
        ck_assert_uint_eq(got.findings.n, 1);
        ck_assert_str_eq(got.findings.v[0].message, "gone");
    }
    error_clear(&got);
    error_clear(&err);
    ticket_free(t);
}
END_TEST

START_TEST(cancel_kicks_until_the_end)
{
    struct ticket *t = ticket_new(&host);
    ticket_cancel(t);
    ticket_cancel(t);
    ck_assert(ticket_cancelled(t));
    ck_assert_int_eq(kicks, 2);
    ticket_end(t, ST_CANCELLED, NULL);
    ticket_cancel(t); /* the host may be gone */
    ck_assert_int_eq(kicks, 2);
    struct error err = ERROR_INIT;
    ck_assert_int_eq(ticket_status(t, &err), ST_CANCELLED);
    ck_assert(err.text[0]);
    error_clear(&err);
    ticket_free(t);
    ck_assert_int_eq(kicks, 2);
}
END_TEST

START_TEST(free_cancels_and_detach_does_not)
{
    struct ticket *t = ticket_new(&host);
    ticket_free(t);
    ck_assert_int_eq(kicks, 1);
    ticket_end(t, ST_CANCELLED, NULL); /* the host's reference was the last */
    t = ticket_new(&host);
    ticket_detach(t);
    ck_assert_int_eq(kicks, 1);
    ck_assert(!ticket_cancelled(t));
    ticket_end(t, ST_OK, NULL);
    ck_assert_int_eq(ended, 2);
    ticket_free(NULL);
}
END_TEST

/* A connection that resumes on its own thread and frees the ticket from within a wake-up. */
static void free_inside(void *arg)
{
    count_wake(NULL);
    ticket_free(*(struct ticket **)arg);
}

START_TEST(free_inside_a_wake_up)
{
    struct ticket *t = ticket_new(&host);
    ck_assert(ticket_wait(t, TICKET_END, free_inside, &t));
    ticket_end(t, ST_OK, NULL);
    ck_assert_int_eq(wakes, 1);
    ck_assert_int_eq(ended, 1);
}
END_TEST

static void slow_wake(void *arg)
{
    usleep(20000);
    atomic_store((atomic_int *)arg, 1);
}

static void *end_later(void *arg)
{
    ticket_end(arg, ST_OK, NULL);
    return NULL;
}

START_TEST(free_waits_for_a_running_wake_up)
{
    for (int i = 0; i < 5; i++) {
        atomic_int done = 0;
        struct ticket *t = ticket_new(&host);
        ck_assert(ticket_wait(t, TICKET_END, slow_wake, &done));
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, end_later, t), 0);
        while (!ticket_ended(t))
            usleep(100);
        ticket_free(t);
        ck_assert_int_eq(atomic_load(&done), 1);
        pthread_join(thread, NULL);
    }
}
END_TEST

enum { PIECES = 2000 };

static void *produce(void *arg)
{
    struct ticket *t = arg;
    for (int i = 0; i < PIECES; i++)
        if (ticket_emit(t, &(struct piece){.choice = i}) != ST_OK)
            return NULL;
    ticket_end(t, ST_OK, NULL);
    return NULL;
}

struct bell {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    bool ring;
};

static void ring(void *arg)
{
    struct bell *b = arg;
    pthread_mutex_lock(&b->lock);
    b->ring = true;
    pthread_cond_signal(&b->rung);
    pthread_mutex_unlock(&b->lock);
}

/* Reader and producer race: nothing is lost, nothing wakes for ever. */
START_TEST(no_wake_up_is_lost)
{
    struct bell b = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct ticket *t = ticket_new(&host);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, produce, t), 0);
    int next = 0;
    for (struct piece p;;) {
        while (ticket_read(t, &p))
            ck_assert_int_eq(p.choice, next++);
        if (next == PIECES && ticket_ended(t))
            break;
        if (!ticket_wait(t, TICKET_EVENT, ring, &b))
            continue;
        pthread_mutex_lock(&b.lock);
        while (!b.ring)
            pthread_cond_wait(&b.rung, &b.lock);
        b.ring = false;
        pthread_mutex_unlock(&b.lock);
    }
    pthread_join(thread, NULL);
    ticket_free(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ticket");
    TCase *c = tcase_create("ticket");
    tcase_add_checked_fixture(c, reset, NULL);
    tcase_add_test(c, pieces_come_in_order_and_wake_once);
    tcase_add_test(c, outcome_is_copied_with_findings);
    tcase_add_test(c, cancel_kicks_until_the_end);
    tcase_add_test(c, free_cancels_and_detach_does_not);
    tcase_add_test(c, free_inside_a_wake_up);
    tcase_add_test(c, free_waits_for_a_running_wake_up);
    tcase_add_test(c, no_wake_up_is_lost);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
