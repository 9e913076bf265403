/* Rounds of `oftd bench` on the demo's engine: times that fit together, refusals, failing memory.
 */
#include "server/bench_run.h"

#include "tests/core/engine_fixture.h"
#include "tests/faults/fault.h"

static struct bench_host host(void)
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
    struct bench_host h = host();
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
    struct bench_host h = host();
    const struct bench_case c = {.sequences = 1, .prompt = 20, .generate = 1};
    struct bench_times t = {.step = 1};
    ck_assert_int_eq(bench_round(&h, &c, &t, NULL), ST_OK);
    ck_assert(t.first > 0 && t.step <= 0 && t.gap <= 0);
}
END_TEST

START_TEST(prompts_differ_between_rounds)
{
    static struct engine_stats stats;
    struct bench_host h = host();
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
    struct bench_host h = host();
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
    ck_assert_int_ne(bench_load(e, &r, &err), ST_OK);
    error_clear(&err);
}
END_TEST

START_TEST(an_activation_replaces_the_adapter_while_a_stream_runs)
{
    struct bench_host h = host();
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
    ck_assert(t.step > 0 && t.load > 0);
    adapter_info_clear(&before);
    adapter_info_clear(&after);
}
END_TEST

START_TEST(allocations_fail)
{
    const struct bench_case c = {.sequences = 2, .adapters = 2, .prompt = 8, .generate = 4};
    const struct adapter_request r = again();
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 10) {
        struct bench_host h = host();
        struct bench_times t;
        struct error err = ERROR_INIT;
        fault_arm(n);
        enum status s = bench_round(&h, &c, &t, &err);
        if (s == ST_OK)
            s = bench_activation(&h, &r, 8, &t, &err);
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
    tcase_add_test(t, allocations_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(bench_run_suite)
