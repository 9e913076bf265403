/* Errors as JSON: what an error brings is all there, or memory ran out and nothing is. */
#include "server/reply.h"

#include <string.h>

#include "core/buffer.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static struct error err;

static void setup(void)
{
    memset(&err, 0, sizeof err);
    error_param(&err, ST_MERGE_ERROR_ABOVE_BOUND, "max_error", "0.2 is above 0.1");
}

static void teardown(void)
{
    error_clear(&err);
}

static void add_report(void)
{
    err.details = json_pack("{s:{s:f, s:f}, s:i, s:[s, s]}", "rel_fro", "max", 0.2, "mean", 0.1,
                            "modules", 2, "names", "q_proj", "v_proj");
}

static void add_findings(void)
{
    findings_add(&err.findings, SEVERITY_ERROR, ST_TENSOR_MISSING, "q_proj", "weight", "a tensor",
                 "none", "q_proj: its tensor is missing");
    findings_add(&err.findings, SEVERITY_WARNING, ST_CONFIG_UNKNOWN_FIELD, NULL, "caf\xE9", NULL,
                 NULL, "an unknown field");
}

START_TEST(members)
{
    add_report();
    add_findings();
    err.findings.lost = true;
    json_t *body = reply_error_json(&err);
    json_t *want = json_pack(
        "{s:{s:s, s:s, s:s, s:s, s:{s:O, s:O, s:O, s:o, s:b}}}", "error", "message",
        "0.2 is above 0.1", "type", "invalid_request_error", "param", "max_error", "code",
        "merge_error_above_bound", "details", "rel_fro", json_object_get(err.details, "rel_fro"),
        "modules", json_object_get(err.details, "modules"), "names",
        json_object_get(err.details, "names"), "findings",
        json_pack("[{s:s, s:s, s:b, s:s, s:s, s:s, s:s, s:s}, {s:s, s:s, s:b, s:s, s:s}]", "code",
                  "tensor_missing", "severity", "error", "permanent", 1, "message",
                  "q_proj: its tensor is missing", "module", "q_proj", "field", "weight",
                  "expected", "a tensor", "got", "none", "code", "config_unknown_field", "severity",
                  "warning", "permanent", 1, "message", "an unknown field", "field",
                  "caf\xEF\xBF\xBD"),
        "findings_incomplete", 1);
    ck_assert(want && json_equal(body, want));
    ck_assert_uint_eq(json_object_size(err.details), 3); // and is left as it was
    json_decref(want);
    json_decref(body);
}
END_TEST

/* What could be left out without an error: members of a report, findings, a text that is no UTF-8.
 */
START_TEST(memory_runs_out)
{
    if (_i & 1)
        add_report();
    if (_i & 2)
        add_findings();
    json_t *whole = reply_error_json(&err);
    ck_assert_ptr_nonnull(whole);
    FAULT_EACH(n)
    {
        long before = fault_live();
        json_t *body = reply_error_json(&err);
        bool fired = fault_disarm();
        ck_assert_msg(body ? json_equal(body, whole) : fired, "allocation %ld", n);
        json_decref(body);
        ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
    }
    json_decref(whole);
}
END_TEST

/* One failure costs the details at most. */
START_TEST(a_body_is_never_cut)
{
    struct request q = {.path = _i ? "/v2/models" : "/v1/merge"};
    add_report();
    add_findings();
    FAULT_EACH(n)
    {
        struct buffer b = {0};
        buffer_text(&b, "data: ");
        if (b.failed)
            continue;
        reply_error_body(&q, &err, &b);
        fault_disarm();
        ck_assert_uint_gt(b.len, 6);
        json_t *body = json_loadb(b.v + 6, b.len - 6, 0, NULL);
        const json_t *error = json_object_get(body, "error");
        const char *said = json_string_value(_i ? error : json_object_get(error, "message"));
        ck_assert_msg(said && !strcmp(said, err.text), "allocation %ld", n);
        json_decref(body);
        buffer_free(&b);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/reply");
    TCase *t = tcase_create("errors");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, members);
    tcase_add_loop_test(t, memory_runs_out, 0, 4);
    tcase_add_loop_test(t, a_body_is_never_cut, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
