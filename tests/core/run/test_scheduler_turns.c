/* Who runs when: nobody starves, nobody waits for a cancelled one, and a failed allocation hits one
 * request alone. */
#include <sched.h>

#include "tests/core/run/world.h"
#include "tests/faults/fault.h"

/* One chain floods; the single requests of others start within a turn of each. */
START_TEST(a_flood_starves_nobody)
{
    struct world w;
    struct sizes z = roomy;
    z.sequences = 2;
    open_world(&w, z);
    enum { FLOOD = 60, OTHERS = 3 };
    struct ask flood = {.prompt = 20, .max_tokens = 4, .route = 1}, other[OTHERS];
    struct ticket *t[FLOOD], *o[OTHERS];
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        t[i] = ask(&w, &flood);
    }
    scheduler_step(w.s);
    for (int i = 0; i < OTHERS; i++) {
        other[i] = (struct ask){.prompt = 20, .max_tokens = 4, .route = 2 + i};
        o[i] = ask(&w, &other[i]);
    }
    /* each others' turn, and a turn of the flood: 4 turns on 2 slots, some steps each */
    for (int i = 0; i < 40; i++)
        scheduler_step(w.s);
    for (int i = 0; i < OTHERS; i++)
        ck_assert(ticket_ended(o[i]));
    ck_assert(!ticket_ended(t[FLOOD - 1]));
    /* a chain that comes back one by one does not push the flood aside either */
    int32_t ended = 0;
    for (int i = 0; i < FLOOD; i++)
        ended += ticket_ended(t[i]);
    struct ask again = {.prompt = 20, .max_tokens = 4, .route = 2};
    for (int round = 0; round < 8; round++) {
        struct ticket *x = ask(&w, &again);
        while (!ticket_ended(x))
            scheduler_step(w.s);
        expect(&w, x, &again);
    }
    int32_t now = 0;
    for (int i = 0; i < FLOOD; i++)
        now += ticket_ended(t[i]);
    ck_assert_int_ge(now - ended, 6);
    run(&w);
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        expect(&w, t[i], &flood);
    }
    for (int i = 0; i < OTHERS; i++)
        expect(&w, o[i], &other[i]);
    close_world(&w);
}
END_TEST

/* With one slot, a chain that comes back as soon as it was served takes turns with a flood: an
 * empty lane saves no credit. */
START_TEST(coming_back_wins_no_credit)
{
    struct world w;
    struct sizes z = roomy;
    z.sequences = 1;
    open_world(&w, z);
    enum { FLOOD = 20, ROUNDS = 8 };
    struct ask flood = {.prompt = 20, .max_tokens = 4, .route = 1}, again = flood;
    struct ticket *t[FLOOD];
    again.route = 2;
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        t[i] = ask(&w, &flood);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct ticket *x = ask(&w, &again);
        for (int i = 0; !ticket_ended(x); i++) {
            ck_assert_int_lt(i, 30);
            scheduler_step(w.s);
        }
        expect(&w, x, &again);
    }
    int32_t ended = 0;
    for (int i = 0; i < FLOOD; i++)
        ended += ticket_ended(t[i]);
    ck_assert_int_ge(ended, ROUNDS - 1);
    run(&w);
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        expect(&w, t[i], &flood);
    }
    close_world(&w);
}
END_TEST

/* While a giant prompt is read, a running choice gets a token every step and a short one gets in.
 */
START_TEST(a_giant_prompt_holds_nobody_up)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask small = {.prompt = 4, .text = 1, .max_tokens = 90};
    const struct ask giant = {.prompt = 2000, .text = 2, .max_tokens = 2};
    const struct ask late = {.prompt = 30, .text = 3, .max_tokens = 2, .route = 1};
    struct ticket *s = ask(&w, &small);
    scheduler_step(w.s);
    struct ticket *g = ask(&w, &giant), *l = NULL;
    struct usage before, after;
    for (int i = 0; i < 20; i++) {
        ticket_usage(s, &before);
        scheduler_step(w.s);
        ticket_usage(s, &after);
        ck_assert_int_eq(after.generated_tokens, before.generated_tokens + 1);
        if (i == 3)
            l = ask(&w, &late);
    }
    ck_assert(ticket_ended(l));
    ck_assert(!ticket_ended(g));
    ck_assert_int_le(w.max_rows_seen, 32 + 3);
    run(&w);
    expect(&w, s, &small);
    expect(&w, g, &giant);
    expect(&w, l, &late);
    close_world(&w);
}
END_TEST

START_TEST(cancel_frees_within_a_step)
{
    struct world w;
    open_world(&w, roomy);
    struct ask a = {.prompt = 100, .text = 1, .max_tokens = 1000, .n = 4, .temperature = 1};
    struct ask b = {.prompt = 50, .text = 2, .max_tokens = 20};
    struct ticket *t = ask(&w, &a), *u = ask(&w, &b);
    for (int i = 0; i < 8; i++)
        scheduler_step(w.s);
    ck_assert_int_gt(kvcache_used(w.kv), 7);
    ticket_cancel(t);
    scheduler_step(w.s);
    ck_assert(ticket_ended(t));
    ck_assert_int_eq(ticket_status(t, NULL), ST_CANCELLED);
    ck_assert_int_le(kvcache_used(w.kv), 5);
    ticket_free(t);
    t = ask(&w, &a); /* before it ever ran */
    ticket_free(t);
    scheduler_step(w.s);
    ck_assert_int_eq(w.ended, 2);
    run(&w);
    expect(&w, u, &b);
    close_world(&w);
}
END_TEST

START_TEST(cancelled_before_it_came)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 10, .text = 1, .max_tokens = 10};
    struct ticket *t = prepare(&w, &a, ST_OK);
    ticket_cancel(t);
    scheduler_step(w.s); /* eats the kick */
    scheduler_submit(w.s, t);
    scheduler_step(w.s);
    ck_assert_int_eq(ticket_status(t, NULL), ST_CANCELLED);
    ticket_free(t);
    close_world(&w);
}
END_TEST

/* ---- memory ---- */

/* One request from nothing to its end beside a running one, the nth allocation failing. */
static enum status submit_and_run(struct world *w, const struct generate_request *q)
{
    struct ticket *t = ticket_new(&w->tickets);
    if (!t)
        return ST_OUT_OF_MEMORY;
    enum status st = request_generate(t, &w->host, q, NULL);
    if (st == ST_OK) {
        set_route(w, &t->request->routes[0], 0);
        st = request_ids(t, NULL);
    }
    if (st == ST_OK)
        st = request_plan(t, NULL);
    if (st != ST_OK) {
        ticket_discard(t);
        return st;
    }
    scheduler_submit(w->s, t);
    while (!ticket_ended(t))
        scheduler_step(w->s);
    st = ticket_status(t, NULL);
    ticket_free(t);
    return st;
}

/* Whatever allocation fails, that request fails and no other; the rest goes on with the same bits
 * and nothing leaks. */
START_TEST(every_allocation_may_fail)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask b = {.prompt = 30, .text = 2, .max_tokens = 40, .route = 1};
    int32_t ids[20] = {1, 2, 3};
    const struct prompt prompt = {.ids = ids, .n_ids = 20};
    const struct generate_request q = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .n = 2,
                                       .max_tokens = 6,
                                       .min_tokens = UNSET_INT,
                                       .top_k = UNSET_INT,
                                       .logprobs = 2,
                                       .temperature = 1,
                                       .top_p = UNSET_FLOAT,
                                       .min_p = UNSET_FLOAT,
                                       .repetition_penalty = UNSET_FLOAT,
                                       .presence_penalty = UNSET_FLOAT,
                                       .frequency_penalty = UNSET_FLOAT,
                                       .echo = true,
                                       .compute = COMPUTE_EXACT};
    long alive = 0;
    bool fired = true;
    for (long n = 1; fired; n++) {
        ck_assert_int_lt(n, 2000);
        struct ticket *u = ask(&w, &b);
        scheduler_step(w.s);
        fault_arm(n);
        enum status st = submit_and_run(&w, &q);
        fired = fault_disarm();
        run(&w);
        if (!fired || st != ST_OK) {
            ck_assert_int_eq(st, fired ? ST_OUT_OF_MEMORY : ST_OK);
            expect(&w, u, &b);
        } else { /* it hit the other one */
            ck_assert_int_eq(ticket_status(u, NULL), ST_OUT_OF_MEMORY);
            ticket_free(u);
        }
        if (n > 1)
            ck_assert_int_eq(fault_live(), alive);
        alive = fault_live();
    }
    close_world(&w);
}
END_TEST

/* ---- with its thread ---- */

static void *submit_some(void *arg)
{
    struct world *w = arg;
    for (int i = 0; i < 30; i++) {
        const struct ask a = {.prompt = 10 + i, .text = (uint32_t)i, .max_tokens = 10};
        struct ticket *t = ask(w, &a);
        if (i % 3 == 0) {
            ticket_free(t);
            continue;
        }
        ticket_join(t);
        expect(w, t, &a);
    }
    return NULL;
}

START_TEST(from_several_threads)
{
    struct world w;
    struct sizes z = roomy;
    z.pages = 20;
    open_world(&w, z);
    ck_assert_int_eq(scheduler_start(w.s, NULL), ST_OK);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_some, &w), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    close_world(&w);
    ck_assert_int_eq(w.ended, 90);
}
END_TEST

/* What computes beside the worker, in units. */
struct background {
    struct world *w;
    atomic_int units;
    atomic_bool stop;
};

static void *beside(void *arg)
{
    struct background *b = arg;
    turns_enter(&b->w->turns);
    while (!atomic_load(&b->stop)) {
        turns_pause();
        atomic_fetch_add(&b->units, 1);
    }
    turns_leave();
    return NULL;
}

/* During a step the background comes to wait, sooner or later. */
static void until_it_waits(struct world *w)
{
    while (!atomic_load(&w->turns.waiting))
        sched_yield();
}

/* After every step the background has a turn, and a worker that stops leaves nobody waiting. */
START_TEST(the_background_has_its_turns)
{
    struct world w;
    open_world(&w, roomy);
    w.within = until_it_waits;
    struct background b = {.w = &w};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, beside, &b), 0);
    ck_assert_int_eq(scheduler_start(w.s, NULL), ST_OK);
    const struct ask a = {.prompt = 10, .text = 1, .max_tokens = 100};
    struct ticket *t = ask(&w, &a);
    ticket_join(t);
    expect(&w, t, &a);
    t = ask(&w, &a); /* runs or not when the worker stops */
    scheduler_stop(w.s);
    ck_assert_uint_ge(w.turns.count, 99);
    ticket_free(t);
    int before = atomic_load(&b.units);
    while (atomic_load(&b.units) <= before)
        sched_yield();
    atomic_store(&b.stop, true);
    pthread_join(thread, NULL);
    close_world(&w);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("scheduler_turns");
    TCase *c = tcase_create("scheduler_turns");
    tcase_add_test(c, a_flood_starves_nobody);
    tcase_add_test(c, coming_back_wins_no_credit);
    tcase_add_test(c, a_giant_prompt_holds_nobody_up);
    tcase_add_test(c, cancel_frees_within_a_step);
    tcase_add_test(c, cancelled_before_it_came);
    tcase_add_test(c, every_allocation_may_fail);
    tcase_add_test(c, from_several_threads);
    tcase_add_test(c, the_background_has_its_turns);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
