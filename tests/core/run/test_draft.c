/* Guesses: what they say, that they never change what is said (over the network of world.h, in
 * worlds of every size), and that rows are spent only where guesses turn out to be right. */
#include "tests/core/run/world.h"

#include "core/run/draft.h"
#include "tests/faults/fault.h"

static void expect_guess(struct draft *d, const char *text, int32_t most, const char *want)
{
    int32_t tokens[64] = {0}, len = (int32_t)strlen(text), n = (int32_t)strlen(want);
    for (int32_t i = 0; i < len; i++)
        tokens[i] = text[i];
    draft_guess(d, tokens, len, most);
    ck_assert_int_eq(d->n, n);
    for (int32_t i = 0; i < n; i++)
        ck_assert_int_eq(tokens[len + i], want[i]);
}

START_TEST(what_followed_before_follows_again)
{
    static const struct {
        const char *text, *want;
        int32_t most;
    } cases[] = {
        {"", "", 8},
        {"a", "", 8},
        {"abcdefgh", "", 8},
        {"xabcdefghabc", "defghabc", 8},
        {"xabcdefghabc", "de", 2},
        {"xabcdefghabc", "", 0},
        {"xabcdefgxyzbc", "defgxyzb", 8}, /* two tokens do where three are not there */
        {"xabcdabceabc", "eabceabc", 8},  /* the last occurrence */
        {"abcdbceabc", "dbceabcd", 8},    /* three before two, though earlier */
        {"abababab", "abababab", 8},      /* from its own copy */
        {"zzz", "zzzzzzzz", 8},
        {"zz", "", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = {0};
        expect_guess(&d, cases[i].text, cases[i].most, cases[i].want);
        draft_clear(&d);
    }
}
END_TEST

/* The table grows with the text and forgets nothing by it. */
START_TEST(a_long_text_is_known_from_its_beginning)
{
    enum { N = 20000 };
    int32_t *tokens = calloc(N + 2 * DRAFT_MAX, sizeof *tokens);
    struct draft d = {0};
    ck_assert_ptr_nonnull(tokens);
    for (int32_t i = 0; i < N; i++) {
        tokens[i] = i;
        draft_guess(&d, tokens, i + 1, DRAFT_MAX);
        ck_assert_int_eq(d.n, 0);
    }
    int found = 0;
    for (int32_t from = 10; from < N - 100; from += 97) {
        int32_t last[3];
        memcpy(last, tokens + N - 3, sizeof last);
        memcpy(tokens + N - 3, tokens + from, sizeof last);
        draft_guess(&d, tokens, N, DRAFT_MAX);
        ck_assert(!d.n || d.n == DRAFT_MAX);
        if (d.n) /* else another group has taken its place */
            ck_assert_mem_eq(tokens + N, tokens + from + 3, DRAFT_MAX * sizeof *tokens);
        found += d.n > 0;
        memcpy(tokens + N - 3, last, sizeof last);
    }
    ck_assert_int_gt(found, (N - 110) / 97 / 2);
    draft_clear(&d);
    free(tokens);
}
END_TEST

/* Where there is no memory there is no guess; the next one finds all. */
START_TEST(no_memory_no_guess)
{
    FAULT_EACH(n)
    {
        struct draft d = {0};
        int32_t tokens[16] = {1, 2, 3, 4, 1, 2, 3};
        draft_guess(&d, tokens, 7, 4);
        bool fired = fault_disarm();
        ck_assert_int_eq(d.n, fired ? 0 : 4);
        draft_guess(&d, tokens, 7, 4);
        ck_assert_int_eq(d.n, 4);
        ck_assert_int_eq(tokens[7], 4);
        draft_clear(&d);
    }
}
END_TEST

START_TEST(judgements_are_the_chance)
{
    struct draft d = {0};
    ck_assert(draft_chance(&d, 1) == 0);
    for (int i = 0; i < 40; i++)
        draft_judge(&d, true);
    ck_assert(draft_chance(&d, 1) > 0.99f && draft_chance(&d, 8) > 0.9f);
    ck_assert(draft_chance(&d, 8) < draft_chance(&d, 1));
    d.three = true; /* another matter */
    ck_assert(draft_chance(&d, 1) == 0);
    for (int i = 0; i < 1000; i++)
        draft_judge(&d, i % 2);
    ck_assert(draft_chance(&d, 1) > 0.3f && draft_chance(&d, 1) < 0.7f);
}
END_TEST

static struct engine_stats figures(struct world *w)
{
    struct engine_stats st;
    stats_read(&w->stats, &st);
    return st;
}

/* The crowds of test_scheduler.c, over texts that run in circles and over texts that do not. */
START_TEST(guesses_change_nothing)
{
    static const struct sizes all[] = {
        {256, 64, 32, 16, 1}, {256, 64, 32, 16, 2}, {24, 16, 4, 16, 1},  {16, 7, 3, 5, 1},
        {13, 128, 64, 4, 1},  {64, 33, 1, 33, 2},   {14, 16, 16, 6, 1},  {12, 40, 8, 1, 1},
        {13, 16, 8, 4, 0},    {256, 64, 32, 3, 1},  {256, 64, 32, 3, 0}, {8, 2, 1, 2, 1}};
    speculate = true;
    placeless = _i;
    uint64_t accepted = 0, preempted = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct world w;
        open_world(&w, all[i]);
        enum { N = 24 };
        struct ask a[N];
        struct ticket *t[N];
        for (int j = 0; j < N; j++) {
            a[j] = random_ask(mix(i * 100 + 3, (uint64_t)j));
            if (a[j].temperature > 0)
                a[j].temperature = 0.3f;
            t[j] = ask(&w, &a[j]);
            if (j % 3 == 0)
                scheduler_step(w.s);
        }
        run(&w);
        ck_assert_int_eq(w.ended, N);
        for (int j = 0; j < N; j++)
            expect(&w, t[j], &a[j]);
        struct engine_stats st = figures(&w);
        ck_assert_uint_le(st.accepted_tokens, st.draft_tokens);
        ck_assert_uint_le(st.drafts, st.draft_tokens);
        accepted += st.accepted_tokens;
        preempted += st.preemptions;
        close_world(&w);
    }
    ck_assert_uint_gt(preempted, 0);
    ck_assert(!placeless || accepted > 1000);
    placeless = speculate = false;
}
END_TEST

static uint64_t steps_of(bool guess, int32_t window, int32_t crowd, struct engine_stats *st)
{
    struct sizes z = roomy;
    struct world w;
    struct ticket *t[16];
    z.window = window;
    z.sequences = crowd;
    speculate = guess;
    open_world(&w, z);
    const struct ask a = {.prompt = 40, .text = 3, .max_tokens = 400};
    for (int32_t i = 0; i < crowd; i++)
        t[i] = ask(&w, &a);
    run(&w);
    for (int32_t i = 0; i < crowd; i++)
        expect(&w, t[i], &a);
    *st = figures(&w);
    close_world(&w);
    speculate = false;
    return st->steps;
}

/* Texts in circles: a fraction of the steps; in a wide batch no rows are spent. */
START_TEST(right_guesses_save_steps)
{
    struct engine_stats st;
    placeless = true;
    uint64_t without = steps_of(false, 1, 1, &st);
    ck_assert_uint_eq(st.draft_tokens, 0);
    uint64_t with = steps_of(true, 1, 1, &st);
    ck_assert_uint_lt(with * 5, without);
    ck_assert_uint_eq(st.generated_tokens, 400);
    ck_assert_uint_gt(st.accepted_tokens, 330);
    steps_of(true, 1, 16, &st); /* some as the first come and the last go */
    ck_assert_uint_lt(st.draft_tokens, st.generated_tokens / 50);
    placeless = false;
}
END_TEST

/* Guesses that are right as often as any would be cost next to nothing: 32 tokens, so that two of
 * them have stood before nearly always. */
START_TEST(wrong_guesses_cost_nothing)
{
    struct engine_stats st;
    uint64_t without = steps_of(false, 0, 1, &st), with = steps_of(true, 0, 1, &st);
    ck_assert_uint_le(without - with, st.accepted_tokens);
    ck_assert_uint_lt(st.draft_tokens, 400 / 50);
}
END_TEST

/* A page that a refused guess has begun goes back: with a window of 1 the text needs one. */
START_TEST(refused_guesses_hold_no_pages)
{
    struct world w;
    struct sizes z = roomy;
    z.window = 1;
    placeless = speculate = true;
    open_world(&w, z);
    const struct ask a = {.prompt = 40, .text = 3, .max_tokens = 400, .temperature = 0.25f};
    struct ticket *t = ask(&w, &a);
    bool decodes = false;
    while (scheduler_step(w.s)) {
        ck_assert(!decodes || kvcache_used(w.kv) <= 1);
        decodes = true;
    }
    expect(&w, t, &a);
    struct engine_stats st = figures(&w);
    ck_assert_uint_gt(st.draft_tokens, st.accepted_tokens + 20);
    close_world(&w);
    placeless = speculate = false;
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("draft");
    TCase *c = tcase_create("draft");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, what_followed_before_follows_again);
    tcase_add_test(c, a_long_text_is_known_from_its_beginning);
    tcase_add_test(c, no_memory_no_guess);
    tcase_add_test(c, judgements_are_the_chance);
    tcase_add_loop_test(c, guesses_change_nothing, 0, 2);
    tcase_add_test(c, right_guesses_save_steps);
    tcase_add_test(c, wrong_guesses_cost_nothing);
    tcase_add_test(c, refused_guesses_hold_no_pages);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
