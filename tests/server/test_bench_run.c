/* Rounds of `oftd bench` on the demo's engine: times that fit together, refusals, failing memory.
 */
#include "server/bench_run.h"

#include <signal.h>

#include "server/bench_cpu.h"
#include "server/bench_crowd.h"
#include "tests/core/engine_fixture.h"
#include "tests/faults/fault.h"

static struct bench_host this_host(void)
{
    return (struct bench_host){
        .engine = e, .compute = COMPUTE_FAST, .adapters = names, .n_adapters = 4, .random = 1};
}

static struct adapter_request again(void)
{
    return (struct adapter_request){
        .name = "devil", .path = paths[1], .trusted = true, .replace = REPLACE_ALWAYS};
}

static uint64_t tokens_generated(void)
{
    static struct engine_stats stats;
    engine_stats(e, &stats);
    return stats.generated_tokens;
}

/* On a starved machine all tokens may be read at once, and have no step: again then. */
#define UNTIL_MEASURED(t, tries)                                                                   \
    for (int tries = 0; !tries || ((t).step <= 0 && tries < 20); tries++)

START_TEST(a_round_runs_what_the_case_says)
{
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 3, .adapters = 2, .prompt = 20, .generate = 30};
    struct bench_times t = {0};
    struct error err = ERROR_INIT;
    double whole = 0;
    UNTIL_MEASURED(t, i)
    {
        uint64_t before = tokens_generated();
        double start = bench_now();
        h.kv_pages = 0;
        ck_assert_msg(bench_round(&h, &c, &t, &err) == ST_OK, "%s", err.text);
        whole = bench_now() - start;
        ck_assert_uint_eq(tokens_generated() - before, 90);
        ck_assert_uint_eq(h.kv_pages, 3 * ((20 + 30 + KV_PAGE - 1) / KV_PAGE));
    }
    ck_assert(t.first > 0 && t.step > 0 && t.gap > 0 && t.load <= 0);
    ck_assert(t.first <= whole && 29 * t.step <= 3 * whole && t.gap <= whole);
}
END_TEST

START_TEST(one_token_has_no_step)
{
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 1, .prompt = 20, .generate = 1};
    struct bench_times t = {.step = 1};
    ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    ck_assert(t.first > 0 && t.step <= 0 && t.gap <= 0);
}
END_TEST

START_TEST(prompts_differ_between_rounds)
{
    static struct engine_stats stats;
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 1, .prompt = 64, .generate = 2};
    struct bench_times t;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    engine_stats(e, &stats);
    ck_assert_uint_eq(stats.cached_tokens, 0);
}
END_TEST

START_TEST(what_the_engine_refuses_is_said)
{
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 2, .prompt = 5000, .generate = 4};
    struct bench_times t;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(bench_round(&h, &c, &t, &err), ST_CONTEXT_LENGTH_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.text, "5000"));
    error_clear(&err);
    struct adapter_request r = again();
    r.path = "demo/nowhere";
    ck_assert_int_ne(bench_activation(&h, &r, 20, &t, &err), ST_OK);
    error_clear(&err);
    ck_assert_int_ne(bench_load(e, &r, NULL, &err), ST_OK);
    error_clear(&err);
}
END_TEST

START_TEST(an_activation_replaces_the_adapter_while_a_stream_runs)
{
    struct bench_host h = this_host();
    const struct adapter_request r = again();
    struct bench_times t = {0};
    struct error err = ERROR_INIT;
    struct adapter_info before, after;
    ck_assert_int_eq(engine_adapter_info(e, "devil", &before, &err), ST_OK);
    UNTIL_MEASURED(t, i)
    ck_assert_msg(bench_activation(&h, &r, 20, &t, &err) == ST_OK, "%s", err.text);
    ck_assert_int_eq(engine_adapter_info(e, "devil", &after, &err), ST_OK);
    ck_assert_uint_gt(after.generation, before.generation);
    ck_assert_str_eq(after.digest, before.digest);
    ck_assert(t.step > 0 && t.load > 0 && t.alone > 0);
    adapter_info_clear(&before);
    adapter_info_clear(&after);
}
END_TEST

START_TEST(waits_are_told_by_their_ranks)
{
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 4, .adapters = 4, .prompt = 20, .generate = 30};
    struct bench_times t = {0};
    UNTIL_MEASURED(t, i)
    ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    ck_assert(t.first_p50 > 0 && t.first_p50 <= t.first_p99 && t.first_p99 <= t.first);
    ck_assert(t.wait_p50 <= t.wait_p99 && t.wait_p99 <= t.gap);
}
END_TEST

START_TEST(percentiles_are_nearest_ranks)
{
    double v[] = {5, 1, 4, 2, 3}, hundred[100];
    ck_assert_double_eq(bench_percentile(v, 5, 0.5), 3);
    ck_assert_double_eq(bench_percentile(v, 5, 0.99), 5);
    ck_assert_double_eq(bench_percentile(v, 5, 0), 1);
    ck_assert_double_eq(bench_percentile(v, 5, 1), 5);
    ck_assert_double_eq(bench_percentile(v, 0, 0.5), 0);
    for (int i = 0; i < 100; i++)
        hundred[i] = 100 - i;
    ck_assert_double_eq(bench_percentile(hundred, 100, 0.99), 99);
    ck_assert_double_eq(bench_percentile(hundred, 100, 0.5), 50);
}
END_TEST

/* Streams 0 and 1 at 1, 2, 4 and 1, 3, 5; the third one is not asked for. */
START_TEST(waits_lie_within_their_time)
{
    struct crowd c;
    static const double times[3][3] = {{1, 2, 4}, {1, 3, 5}, {1, 2, 3}};
    ck_assert_int_eq(crowd_open(&c, 3, 3, NULL), ST_OK);
    for (int i = 0; i < 3; i++) {
        memcpy(c.streams[i].times, times[i], sizeof times[i]);
        c.streams[i].n = 3;
    }
    ck_assert_uint_eq(crowd_waits(&c, 2, 0, 9), 4);
    ck_assert_uint_eq(crowd_waits(&c, 3, 0, 9), 6);
    ck_assert_uint_eq(crowd_waits(&c, 2, 1.5, 4), 1);
    ck_assert_double_eq(c.waits[0], 2);
    crowd_close(&c);
}
END_TEST

START_TEST(known_prompts_are_found_again)
{
    static struct engine_stats stats;
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 2, .prompt = 64, .generate = 2, .known = true};
    struct bench_times t;
    ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    engine_stats(e, &stats);
    ck_assert_uint_eq(stats.cached_tokens, 0);
    ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    engine_stats(e, &stats);
    ck_assert_uint_ge(stats.cached_tokens, 2 * 48);
}
END_TEST

START_TEST(a_prompt_enters_beside_streams)
{
    static struct engine_stats stats;
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 2, .prompt = 20, .generate = 200};
    struct bench_times t = {0};
    struct error err = ERROR_INIT;
    UNTIL_MEASURED(t, i)
    ck_assert_msg(bench_entry(&h, &c, 300, &t, &err) == ST_OK, "%s", err.text);
    ck_assert(t.first > 0 && t.wait_p50 <= t.wait_p99 && t.wait_p99 > 0);
    engine_stats(e, &stats);
    ck_assert_uint_ge(stats.prompt_tokens, 340);
    ck_assert_int_eq(bench_entry(&h, &c, 5000, &t, &err), ST_CONTEXT_LENGTH_EXCEEDED);
    error_clear(&err);
}
END_TEST

START_TEST(traffic_runs_all_requests)
{
    struct bench_host h = this_host();
    const struct bench_case c = {.sequences = 3, .prompt = 8, .generate = 6};
    struct bench_times t = {0};
    struct error err = ERROR_INIT;
    uint64_t before = tokens_generated();
    ck_assert_msg(bench_traffic(&h, &c, names, 4, 20, &t, &err) == ST_OK, "%s", err.text);
    ck_assert_uint_eq(tokens_generated() - before, 20 * 6);
    ck_assert(t.rate > 0);
    const char *none = "nobody";
    ck_assert_int_eq(bench_traffic(&h, &c, &none, 1, 3, &t, &err), ST_ADAPTER_NOT_FOUND);
    error_clear(&err);
}
END_TEST

/* A share of 1 / rank: of three names 6, 3 and 2 elevenths. */
START_TEST(traffic_follows_zipf)
{
    enum { DRAWN = 110000 };
    double *shares = bench_zipf(3);
    uint64_t state = 1;
    int counts[3] = {0};
    for (int i = 0; i < DRAWN; i++) {
        size_t k = bench_draw(shares, 3, &state);
        ck_assert_uint_lt(k, 3);
        counts[k]++;
    }
    for (int i = 0; i < 3; i++) // four standard deviations are below 700
        ck_assert_int_le(abs(counts[i] - DRAWN / 11 * (6 / (i + 1))), 700);
    free(shares);
}
END_TEST

static const struct timespec moment = {.tv_nsec = 50000000};

/* A process that has been seen to stop has still to leave its processor. */
static double seconds_at_rest(const struct bench_neighbour *n)
{
    nanosleep(&moment, NULL);
    return bench_neighbour_seconds(n);
}

START_TEST(a_neighbour_computes_when_it_is_told_to)
{
    struct bench_neighbour n = {0};
    ck_assert_double_eq(bench_neighbour_seconds(&n), 0);
    bench_neighbour_run(&n); // there is none
    ck_assert_int_eq(bench_neighbour_start(&n, NULL), ST_OK);
    double asleep = seconds_at_rest(&n);
    ck_assert_double_eq(seconds_at_rest(&n), asleep);
    bench_neighbour_run(&n);
    while (bench_neighbour_seconds(&n) < asleep + 0.02)
        nanosleep(&moment, NULL);
    bench_neighbour_rest(&n);
    double worked = seconds_at_rest(&n);
    ck_assert_double_eq(seconds_at_rest(&n), worked);
    const struct bench_cpu before = bench_cpu_read(&(struct bench_neighbour){0}),
                           with = bench_cpu_read(&n);
    ck_assert_double_ge(with.own - before.own, worked);
    bench_neighbour_end(&n);
    ck_assert_int_eq(n.pid, 0);
    bench_neighbour_end(&n);
}
END_TEST

START_TEST(a_neighbour_that_has_ended_is_none)
{
    struct bench_neighbour n = {0};
    ck_assert_int_eq(bench_neighbour_start(&n, NULL), ST_OK);
    bench_neighbour_run(&n);
    ck_assert_int_eq(kill(n.pid, SIGKILL), 0);
    bench_neighbour_rest(&n);
    ck_assert_int_eq(n.pid, 0);
    ck_assert_double_eq(bench_neighbour_seconds(&n), 0);
    bench_neighbour_end(&n);
}
END_TEST

START_TEST(allocations_fail)
{
    const struct bench_case c = {.sequences = 2, .adapters = 2, .prompt = 8, .generate = 4};
    const struct adapter_request r = again();
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 10) {
        struct bench_host h = this_host();
        struct bench_times t;
        struct error err = ERROR_INIT;
        fault_arm(n);
        enum status s = bench_round(&h, &c, &t, &err);
        if (s == ST_OK)
            s = bench_activation(&h, &r, 8, &t, &err);
        if (s == ST_OK)
            s = bench_entry(&h, &c, 9, &t, &err);
        if (s == ST_OK)
            s = bench_traffic(&h, &c, names, 2, 4, &t, &err);
        fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "allocation %ld: %s", n,
                      status_code(s));
        error_clear(&err);
    }
}
END_TEST

static Suite *bench_run_suite(void)
{
    Suite *s = suite_create("server/bench_run");
    TCase *t = tcase_create("rounds");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_round_runs_what_the_case_says);
    tcase_add_test(t, one_token_has_no_step);
    tcase_add_test(t, prompts_differ_between_rounds);
    tcase_add_test(t, what_the_engine_refuses_is_said);
    tcase_add_test(t, an_activation_replaces_the_adapter_while_a_stream_runs);
    tcase_add_test(t, waits_are_told_by_their_ranks);
    tcase_add_test(t, percentiles_are_nearest_ranks);
    tcase_add_test(t, waits_lie_within_their_time);
    tcase_add_test(t, known_prompts_are_found_again);
    tcase_add_test(t, a_prompt_enters_beside_streams);
    tcase_add_test(t, traffic_runs_all_requests);
    tcase_add_test(t, traffic_follows_zipf);
    tcase_add_test(t, a_neighbour_computes_when_it_is_told_to);
    tcase_add_test(t, a_neighbour_that_has_ended_is_none);
    tcase_add_test(t, allocations_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(bench_run_suite)
