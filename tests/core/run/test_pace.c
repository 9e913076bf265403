/* How many prompt rows beside sequences that generate: the rule alone on times that are given, then
 * the scheduler on a machine whose every step takes what a formula says. */
#include "core/run/pace.h"
#include "tests/core/run/world.h"
#include "tests/faults/fault.h"

#define MS 1000000

static int32_t rows_of(const struct pace *p, int32_t generating)
{
    return pace_rows(p, generating, 1, 128);
}

/* A pace that has seen steps of 10 ms with 8 sequences, and `row` ns more for each prompt row. */
static void open_taught(struct pace *p, double bound, int64_t row)
{
    ck_assert(pace_open(p, bound, 16));
    pace_note(p, 8, 0, 10 * MS);
    pace_note(p, 8, 16, 10 * MS + 16 * row);
}

START_TEST(no_bound_where_nobody_generates)
{
    struct pace p;
    open_taught(&p, 2, MS);
    ck_assert_int_eq(pace_rows(&p, 0, 1, 512), 512);
    pace_close(&p);
    open_taught(&p, 0, MS); // and none at all
    ck_assert_int_eq(pace_rows(&p, 8, 1, 512), 512);
    pace_close(&p);
}
END_TEST

START_TEST(the_bound_is_what_the_times_say)
{
    struct pace p;
    open_taught(&p, 2.5, MS);
    ck_assert_int_eq(rows_of(&p, 8), 15); // 10 + 15 = 2.5 * 10
    ck_assert_int_eq(pace_rows(&p, 8, 1, 9), 9);
    ck_assert_int_eq(pace_rows(&p, 8, 1, 0), 0);
    ck_assert_int_eq(pace_rows(&p, 8, 2, 128), 15);
    ck_assert_int_eq(pace_rows(&p, 8, 4, 128), 60); // 2 * 4 * 4 / 8
    ck_assert_int_eq(pace_rows(&p, 8, 16, 128), 128);
    pace_close(&p);
}
END_TEST

/* What is not known is asked for once: what such a step takes, then what a row adds. */
START_TEST(what_is_not_known_is_asked_for)
{
    struct pace p;
    ck_assert(pace_open(&p, 2, 16));
    ck_assert_int_eq(rows_of(&p, 3), 0);
    pace_note(&p, 3, 0, 10 * MS);
    int32_t first = rows_of(&p, 3);
    ck_assert(first > 0 && first < 64);
    pace_note(&p, 3, first, 10 * MS + first * 2 * MS);
    ck_assert_int_eq(rows_of(&p, 3), 5);
    ck_assert_int_eq(rows_of(&p, 4), 0); // one more is another step
    pace_close(&p);
}
END_TEST

/* Steps with prompts follow each other for ever: now and then one without them tells anew. */
START_TEST(it_looks_again)
{
    struct pace p;
    open_taught(&p, 2, MS);
    int without = 0, steps = 1000;
    int64_t step = 30 * MS; // three times what it knows
    for (int i = 0; i < steps; i++) {
        int32_t n = rows_of(&p, 8);
        without += n == 0;
        pace_note(&p, 8, n, step + n * MS);
    }
    ck_assert(without > 5 && without < steps / 20);
    pace_note(&p, 8, 0, step);
    ck_assert_int_ge(rows_of(&p, 8), 29);
    ck_assert_int_le(rows_of(&p, 8), 30);
    pace_close(&p);
}
END_TEST

/* One step that was held up for a second changes little, and what was learned wrong is forgotten.
 */
START_TEST(a_step_that_was_held_up_is_no_measure)
{
    struct pace p;
    open_taught(&p, 3, MS);
    ck_assert_int_eq(rows_of(&p, 8), 20);
    pace_note(&p, 8, 20, 1000 * MS);
    ck_assert_int_ge(rows_of(&p, 8), 15);
    pace_note(&p, 8, 0, 1000 * MS);
    ck_assert_int_le(rows_of(&p, 8), 25);
    for (int i = 0; i < 20; i++)
        pace_note(&p, 8, 0, 10 * MS);
    for (int i = 0; i < 20; i++)
        pace_note(&p, 8, 10, 20 * MS);
    ck_assert_int_ge(rows_of(&p, 8), 19);
    ck_assert_int_le(rows_of(&p, 8), 20);
    pace_close(&p);
    ck_assert(pace_open(&p, 3, 16)); // the first of all was held up
    pace_note(&p, 8, 0, 1000 * MS);
    for (int i = 0; i < 30; i++)
        pace_note(&p, 8, 0, 10 * MS);
    pace_note(&p, 8, 10, 20 * MS);
    ck_assert_int_le(rows_of(&p, 8), 21);
    pace_close(&p);
}
END_TEST

/* However dear a row is and whatever the clock says, a prompt goes on. */
START_TEST(nobody_starves)
{
    static const int64_t rows[] = {0, 1, MS, 1000 * (int64_t)MS, INT64_MAX / 64};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        struct pace p;
        open_taught(&p, 1.01, rows[k]);
        int32_t read = 0;
        for (int i = 0; i < 200; i++) {
            int32_t n = rows_of(&p, 8);
            read += n;
            pace_note(&p, 8, n, k ? 10 * MS + n * (rows[k] / 128) : 0);
        }
        ck_assert_int_ge(read, 190);
        pace_close(&p);
    }
}
END_TEST

START_TEST(without_memory)
{
    FAULT_EACH(n)
    {
        struct pace p;
        bool opened = pace_open(&p, 2, 16);
        ck_assert(opened == !fault_disarm());
        pace_close(&p);
    }
}
END_TEST

/* ---- in the scheduler ---- */

static int64_t world_time;

static int64_t world_now(void)
{
    return world_time;
}

/* Half a millisecond a row and a token that is drawn: n sequences take 2 + n ms, a prompt row half
 * a millisecond more, and the last one of a prompt draws a token. */
static void takes_time(struct world *w)
{
    world_time += 2 * MS + (w->rows + w->drawn) * (int64_t)MS / 2;
}

/* While `many` generate a prompt of 1000 tokens enters; returns in how many steps it was read, and
 * how long the longest was beside one without it. */
static int32_t enter(double bound, int32_t many, double *longest)
{
    struct world w;
    struct ask a[8];
    struct ticket *t[8];
    stretch = bound;
    now_of_world = world_now;
    struct sizes z = roomy;
    z.max_rows = 256;
    z.chunk = 128;
    open_world(&w, z);
    w.within = takes_time;
    for (int32_t i = 0; i < many; i++) {
        a[i] = (struct ask){
            .prompt = 8, .text = (uint32_t)i, .max_tokens = many > 1 ? 300 : 800, .route = i % 3};
        t[i] = ask(&w, &a[i]);
    }
    for (int i = 0; i < 100; i++)
        scheduler_step(w.s);
    const struct ask big = {.prompt = 1000, .text = 20, .max_tokens = 1};
    struct ticket *b = ask(&w, &big);
    int32_t steps = 0;
    *longest = 0;
    for (; !ticket_ended(b); steps++) {
        int64_t start = world_time;
        scheduler_step(w.s);
        double ratio = (double)(world_time - start) / ((2 + many) * MS);
        *longest = ratio > *longest ? ratio : *longest;
    }
    expect(&w, b, &big);
    run(&w);
    for (int32_t i = 0; i < many; i++)
        expect(&w, t[i], &a[i]);
    close_world(&w);
    stretch = 0;
    now_of_world = ticket_now;
    return steps;
}

/* The steps are as long as they may be, and a prompt that may take a part of the time takes that
 * part: of stretch steps all but one. */
START_TEST(a_prompt_enters_at_its_pace)
{
    double longest;
    ck_assert_int_eq(enter(0, 8, &longest), 8);
    ck_assert(longest > 7);
    static const double bounds[] = {1.5, 2.3, 4};
    for (size_t k = 0; k < 3; k++)
        for (int32_t many = 1; many <= 8; many += 7) {
            double rows = (bounds[k] - 1) * (2 + many) * 2;
            int32_t steps = enter(bounds[k], many, &longest);
            // the first prompt rows are those that show what a row takes
            double first = 1 + 8.0 / (2 + many), last = 0.5 / (2 + many);
            ck_assert(longest <= fmax(bounds[k], first) + last + 1e-9);
            ck_assert_int_ge(steps, (int32_t)(1000 / rows));
            ck_assert_int_le(steps, (int32_t)(1000 / floor(rows) * 1.1) + 6);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pace");
    TCase *c = tcase_create("pace");
    tcase_add_test(c, no_bound_where_nobody_generates);
    tcase_add_test(c, the_bound_is_what_the_times_say);
    tcase_add_test(c, what_is_not_known_is_asked_for);
    tcase_add_test(c, it_looks_again);
    tcase_add_test(c, a_step_that_was_held_up_is_no_measure);
    tcase_add_test(c, nobody_starves);
    tcase_add_test(c, without_memory);
    tcase_add_test(c, a_prompt_enters_at_its_pace);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
