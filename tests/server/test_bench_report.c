/* The figures of `oftd bench`, from times that were made up: medians, extremes, what is left out.
 */
#include <math.h>
#include <string.h>

#include "server/bench_report.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

#define ROUNDS 3

static struct bench_times one[ROUNDS], eight[ROUNDS], distinct[ROUNDS], prompt[ROUNDS],
    load[ROUNDS];
static struct bench_times busy[ROUNDS], near[ROUNDS], far[ROUNDS], slow_prompt[ROUNDS],
    entry[ROUNDS], zipf[ROUNDS], single[ROUNDS];
static double reads[ROUNDS], peaks[ROUNDS], foreign[ROUNDS];
static struct bench_result r;

static struct bench_case *add_series(int32_t sequences, int32_t adapters, int32_t tokens,
                                     int32_t generate, struct bench_times *times)
{
    struct bench_series *s = &r.series[r.n_series++];
    *s = (struct bench_series){
        .c = {.sequences = sequences, .adapters = adapters, .prompt = tokens, .generate = generate},
        .times = times};
    return &s->c;
}

/* A step of one takes 10, 20, 40 ms and reads 100 MB; the probe gives 20, 10, 5 GB/s. */
static void setup(void)
{
    static const double steps[] = {0.01, 0.02, 0.04}, probes[] = {20e9, 10e9, 5e9};
    r = (struct bench_result){.model = "m",
                              .architecture = "A",
                              .isa = "portable",
                              .compute = "fast",
                              .threads = 2,
                              .batch = 8,
                              .prompt = 100,
                              .generate = 32,
                              .adapters = 8,
                              .rounds = ROUNDS,
                              .read = reads,
                              .peak = peaks,
                              .foreign = foreign,
                              .activation = load,
                              .entry = entry,
                              .zipf = zipf,
                              .single = single,
                              .pool = 9,
                              .step_bytes = 100e6,
                              .token_operations = 1e9,
                              .load_seconds = 1.5,
                              .checkpoint_bytes = 100e6,
                              .kv_bytes = 60e6,
                              .adapter_bytes = 40e6,
                              .peak_bytes = 250e6,
                              .anonymous_bytes = 150e6};
    for (int i = 0; i < ROUNDS; i++) {
        one[i] = (struct bench_times){.first = 0.1, .step = steps[i], .gap = 2 * steps[i]};
        eight[i] = (struct bench_times){
            .first = 0.2, .step = 3 * steps[i], .wait_p50 = steps[i], .wait_p99 = 1.5 * steps[i]};
        distinct[i] = (struct bench_times){
            .first = 0.2, .step = 4 * steps[i], .first_p50 = 0.1, .first_p99 = 0.1 * (i + 1)};
        busy[i] = (struct bench_times){.step = 2 * steps[i]};
        near[i] = (struct bench_times){.step = steps[i]};
        far[i] = (struct bench_times){.step = 1.25 * steps[i]};
        slow_prompt[i] = (struct bench_times){.first = 2.5};
        entry[i] = (struct bench_times){.step = 0.01, .wait_p99 = 0.02 * (i + 1)};
        zipf[i] = (struct bench_times){.rate = 60};
        single[i] = (struct bench_times){.rate = 100 + 20.0 * i};
        prompt[i] = (struct bench_times){.first = 0.5 * (i + 1)};
        load[i] = (struct bench_times){
            .step = 0.01, .gap = 0.01 * (i + 1), .load = 0.1 * (i + 1), .alone = 0.01 * (i + 1)};
        reads[i] = probes[i];
        peaks[i] = 400e9;
    }
    add_series(1, 0, 32, 32, one);
    add_series(8, 0, 32, 32, eight);
    add_series(8, 8, 32, 32, distinct);
    add_series(1, 0, 100, 1, prompt);
    add_series(1, 0, 32, 32, busy)->busy = true;
    add_series(1, 0, 64, 32, near)->known = true;
    add_series(1, 0, 4000, 32, far)->known = true;
    add_series(1, 0, 100, 1, slow_prompt)->exact = true;
}

static void expect(const json_t *report, const char *name, double value, double low, double high,
                   double a, double b)
{
    const json_t *f = json_object_get(json_object_get(report, "figures"), name);
    ck_assert_msg(f != NULL, "%s is missing", name);
    const json_t *parts = json_object_get(f, "parts");
    ck_assert_double_eq_tol(json_number_value(json_object_get(f, "value")), value, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(f, "low")), low, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(f, "high")), high, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_array_get(parts, 0)), a, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_array_get(parts, 1)), b, 1e-9);
}

static double number(const json_t *report, const char *object, const char *member)
{
    return json_number_value(json_object_get(json_object_get(report, object), member));
}

START_TEST(ratios_are_medians_over_the_rounds)
{
    json_t *v = bench_report_json(&r);
    ck_assert_ptr_nonnull(v);
    // 10, 5, 2.5 GB/s of 20, 10, 5
    expect(v, "decode_1_of_read_bandwidth", 0.5, 0.5, 0.5, 5, 10);
    expect(v, "step_8_of_step_1", 3, 3, 3, 60, 20);
    expect(v, "sequences_8_adapters_8", 0.75, 0.75, 0.75, 100, 400.0 / 3);
    // 200, 100, 66.7 Gop/s of 400
    expect(v, "prefill_of_fp32_peak", 0.25, 1.0 / 6, 0.5, 100, 400);
    expect(v, "activation_gap_of_step", 2, 1, 3, 20, 10);
    expect(v, "quiet_gap_of_step", 2, 2, 2, 40, 20);
    expect(v, "peak_memory", 1.25, 1.25, 1.25, 250, 200);
    expect(v, "own_memory", 0.75, 0.75, 0.75, 150, 200);
    ck_assert_double_eq_tol(number(v, "decode", "tokens_per_second"), 400.0 / 3, 1e-9);
    ck_assert_double_eq_tol(number(v, "prefill", "tokens_per_second"), 100, 1e-9);
    ck_assert_double_eq_tol(number(v, "load", "adapter_seconds"), 0.02, 1e-9);
    ck_assert_double_eq_tol(number(v, "load", "adapter_beside_stream_seconds"), 0.2, 1e-9);
    ck_assert_double_eq_tol(number(v, "probes", "read_bytes_per_second"), 10e9, 1);
    ck_assert_uint_eq(json_array_size(json_object_get(v, "cases")), 8);
    json_decref(v);
}
END_TEST

START_TEST(cases_that_differ_in_one_thing_are_held_against_the_plain_one)
{
    json_t *v = bench_report_json(&r);
    expect(v, "busy_neighbour_of_idle", 0.5, 0.5, 0.5, 25, 50);
    expect(v, "context_long_of_short", 0.8, 0.8, 0.8, 40, 50);
    expect(v, "prefill_exact_of_fp32_peak", 0.1, 0.1, 0.1, 40, 400);
    expect(v, "first_token_p99_of_p50", 2, 1, 3, 200, 100);
    expect(v, "token_wait_p99_of_p50", 1.5, 1.5, 1.5, 30, 20);
    expect(v, "entry_wait_p99_of_p50", 4, 2, 6, 40, 10);
    expect(v, "zipf_of_one_adapter", 0.5, 60.0 / 140, 0.6, 60, 120);
    json_decref(v);
}
END_TEST

static double best(const json_t *report, const char *name)
{
    const json_t *f = json_object_get(json_object_get(report, "figures"), name);
    return json_number_value(json_object_get(f, "best"));
}

START_TEST(the_best_is_of_all_rounds)
{
    json_t *v = bench_report_json(&r);
    ck_assert_double_eq_tol(best(v, "decode_1_of_read_bandwidth"), 0.5, 1e-9); // 10 of 20 GB/s
    ck_assert_double_eq_tol(best(v, "prefill_of_fp32_peak"), 0.5, 1e-9);       // 200 of 400 Gop/s
    ck_assert_double_eq_tol(best(v, "activation_gap_of_step"), 1, 1e-9);       // 10 of 10 ms
    ck_assert_double_eq_tol(best(v, "zipf_of_one_adapter"), 60.0 / 140, 1e-9);
    json_decref(v);
}
END_TEST

START_TEST(an_even_number_of_rounds_takes_the_middle)
{
    r.rounds = 2;
    json_t *v = bench_report_json(&r);
    expect(v, "prefill_of_fp32_peak", 0.375, 0.25, 0.5, 150, 400);
    json_decref(v);
}
END_TEST

START_TEST(rounds_without_a_part_do_not_count)
{
    one[1].step = 0;
    json_t *v = bench_report_json(&r);
    expect(v, "decode_1_of_read_bandwidth", 0.5, 0.5, 0.5, 6.25, 12.5);
    json_decref(v);
    reads[0] = reads[2] = 0;
    v = bench_report_json(&r);
    ck_assert_ptr_null(
        json_object_get(json_object_get(v, "figures"), "decode_1_of_read_bandwidth"));
    json_decref(v);
}
END_TEST

START_TEST(without_adapters_nothing_is_said_of_them)
{
    r.activation = NULL;
    r.series[2] = r.series[3];
    r.n_series = 3;
    json_t *v = bench_report_json(&r);
    json_t *figures = json_object_get(v, "figures");
    ck_assert_ptr_null(json_object_get(figures, "sequences_8_adapters_8"));
    ck_assert_ptr_null(json_object_get(figures, "activation_gap_of_step"));
    ck_assert_ptr_nonnull(json_object_get(figures, "quiet_gap_of_step"));
    json_decref(v);
}
END_TEST

START_TEST(allocations_fail)
{
    FAULT_EACH(n)
    {
        long before = fault_live();
        json_t *v = bench_report_json(&r);
        bool fired = fault_disarm();
        ck_assert(fired == (v == NULL));
        json_decref(v);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *bench_report_suite(void)
{
    Suite *s = suite_create("server/bench_report");
    TCase *t = tcase_create("figures");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, ratios_are_medians_over_the_rounds);
    tcase_add_test(t, cases_that_differ_in_one_thing_are_held_against_the_plain_one);
    tcase_add_test(t, the_best_is_of_all_rounds);
    tcase_add_test(t, an_even_number_of_rounds_takes_the_middle);
    tcase_add_test(t, rounds_without_a_part_do_not_count);
    tcase_add_test(t, without_adapters_nothing_is_said_of_them);
    tcase_add_test(t, allocations_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(bench_report_suite)
