/* The rest of the ground floor: errors and findings, arena, JSON limits, digests. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/digest.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/status.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

START_TEST(codes)
{
    ck_assert_str_eq(status_code(ST_MERGE_FORBIDDEN_GPTQ), "merge_forbidden_gptq");
    for (int a = 0; a < ST_COUNT_; a++) // a code names one thing
        for (int b = 0; b < a; b++)
            ck_assert_str_ne(status_code((enum status)a), status_code((enum status)b));
}
END_TEST

START_TEST(findings)
{
    struct findings f = {0};
    struct error e = ERROR_INIT;
    ck_assert_int_eq(error_from_findings(&e, &f), ST_OK);
    findings_add(&f, SEVERITY_WARNING, ST_COFT_OUT_OF_BOUNDS, "m", NULL, NULL, NULL, "projected");
    ck_assert_int_eq(findings_first(&f), ST_OK);
    findings_add(&f, SEVERITY_ERROR, ST_TENSOR_MISSING, "m", "oft_R", "[1]", NULL, "%s: gone", "f");
    findings_add(&f, SEVERITY_ERROR, ST_NON_FINITE_WEIGHTS, NULL, NULL, NULL, NULL, "nan");
    ck_assert_int_eq(error_from_findings(&e, &f), ST_TENSOR_MISSING);
    ck_assert_str_eq(e.text, "f: gone (and 1 more)");
    ck_assert_uint_eq(e.findings.n, 3);
    ck_assert(e.findings.v[1].permanent);
    for (int i = 0; i < FINDINGS_MAX + 5; i++)
        findings_add(&f, SEVERITY_ERROR, ST_TENSOR_MISSING, NULL, NULL, NULL, NULL, "%d", i);
    ck_assert(f.lost && f.n == FINDINGS_MAX && f.errors == FINDINGS_MAX + 5);
    findings_clear(&f);
    struct error to = ERROR_INIT;
    error_move(&to, &e);
    ck_assert_int_eq(to.code, ST_TENSOR_MISSING);
    ck_assert_uint_eq(e.findings.n, 0);
    error_clear(&to);
    ck_assert_int_eq(error_set(NULL, ST_INTERNAL, NULL), ST_INTERNAL);
}
END_TEST

START_TEST(arena)
{
    struct arena a = {0};
    for (size_t i = 1; i < 3000; i += 7) {
        char *p = arena_alloc(&a, i);
        ck_assert(p && (uintptr_t)p % 16 == 0 && !p[0] && !p[i - 1]);
        memset(p, 1, i);
    }
    ck_assert_str_eq(arena_strndup(&a, "abc", 2), "ab");
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX - 8));
    arena_free(&a);
    ck_assert_uint_eq(a.total, 0);
}
END_TEST

static enum status parse(const char *text, int depth)
{
    json_t *j = NULL;
    struct error e = ERROR_INIT;
    enum status s = json_parse(text, strlen(text), depth, "text", &j, &e);
    ck_assert((s == ST_OK) == (j != NULL));
    json_decref(j);
    error_clear(&e);
    return s;
}

START_TEST(json_limits)
{
    ck_assert_int_eq(parse("{\"a\":[1]}", 2), ST_OK);
    ck_assert_int_eq(parse("{\"a\":[1]}", 1), ST_INVALID_JSON);
    ck_assert_int_eq(parse("{\"a\":\"[[[\\\"[\"}", 1), ST_OK);
    ck_assert_int_eq(parse("{\"a\":1,\"a\":1}", 9), ST_CONFIG_DUPLICATE_KEY);
    ck_assert_int_eq(parse("{\"a\":1e999}", 9), ST_INVALID_JSON);
    ck_assert_int_eq(parse("\"\\u0000\"", 9), ST_OK);
    ck_assert_int_eq(parse("\"\xff\"", 9), ST_INVALID_JSON);
    ck_assert_int_eq(parse("", 9), ST_INVALID_JSON);
    json_t *j;
    ck_assert_int_eq(json_read("/nonexistent", 10, &j, NULL), ST_FILE_UNREADABLE);
    ck_assert_int_eq(json_read("/", 10, &j, NULL), ST_FILE_UNREADABLE);
}
END_TEST

/* A long list whose end is wrong is refused in time that grows with its length, not with its square
 * (which took a minute here). */
/* All texts of seven of these bytes, by the definition, byte by byte. */
START_TEST(json_shapes)
{
    static const char letters[] = "\"\\[},a";
    char text[7];
    for (int code = 0; code < 279936; code++) {
        struct json_shape want = {0}, got;
        bool string = false, escaped = false;
        int depth = 0, rest = code;
        for (size_t i = 0; i < sizeof text; i++, rest /= 6) {
            char c = text[i] = letters[rest % 6];
            bool quote = c == '"' && !escaped;
            escaped = string && !escaped && c == '\\';
            string ^= quote;
            want.marks += !string && !quote && (c == '[' || c == ',');
            depth += string || quote ? 0 : (c == '[') - (c == '}');
            want.depth = depth > want.depth ? depth : want.depth;
        }
        got = json_shape(text, sizeof text);
        ck_assert_msg(got.marks == want.marks && got.depth == want.depth, "%.7s: %zu %d", text,
                      got.marks, got.depth);
    }
}
END_TEST

START_TEST(json_long_and_wrong)
{
    const size_t n = 300000;
    char *text = malloc(2 * n + 3);
    text[0] = '[';
    for (size_t i = 0; i < n; i++)
        memcpy(text + 1 + 2 * i, "1,", 2);
    memcpy(text + 1 + 2 * n, "x", 2);
    ck_assert_int_eq(parse(text, 9), ST_INVALID_JSON);
    memcpy(text + 2 * n, "]", 2);
    ck_assert_int_eq(parse(text, 9), ST_OK);
    free(text);
}
END_TEST

/* Values of all kinds and sizes, right and wrong at the end, while memory runs out. */
START_TEST(json_faults)
{
    char text[2048] = "[{\"key\":[";
    size_t len = strlen(text);
    for (int i = 0; i < 60; i++)
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%d,{\"a\":\"%0*d\"},", i, i % 20, 7);
    for (int wrong = 0; wrong < 2; wrong++) {
        snprintf(text + len, sizeof text - len, wrong ? "1]},2,x" : "1]},2]");
        FAULT_EACH(n)
        {
            long before = fault_live();
            struct error e = ERROR_INIT;
            json_t *j;
            enum status s = json_parse(text, strlen(text), 9, "text", &j, &e);
            enum status want = wrong ? ST_INVALID_JSON : ST_OK;
            ck_assert_int_eq(s, fault_disarm() ? ST_OUT_OF_MEMORY : want);
            ck_assert((s == ST_OK) == (j != NULL));
            json_decref(j);
            error_clear(&e);
            ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
        }
    }
}
END_TEST

/* Keys that come just where the text has to grow. */
START_TEST(texts_are_whole)
{
    json_t *j = json_object();
    char key[41] = "";
    for (int i = 0; i < 40; i++) {
        key[i] = 'k';
        json_object_set_new(j, key, json_integer(i));
    }
    char *whole = json_dumps(j, JSON_COMPACT);
    FAULT_EACH(n)
    {
        long before = fault_live();
        char *text = json_text(j, JSON_COMPACT);
        bool fired = fault_disarm();
        ck_assert(fired ? !text : text && !strcmp(text, whole));
        free(text);
        ck_assert_int_eq(fault_live(), before);
    }
    free(whole);
    json_decref(j);
    ck_assert_ptr_null(json_text(NULL, JSON_ENCODE_ANY));
}
END_TEST

START_TEST(words_and_numbers)
{
    const char *const keys[] = {"temperature", "top_p", "top_k"};
    ck_assert_str_eq(nearest_word("temprature", keys, 3), "temperature");
    ck_assert_ptr_null(nearest_word("zebra", keys, 3));
    char buf[32];
    const float hard[] = {0.1f,    1.0f / 3, FLT_MIN,     FLT_TRUE_MIN,
                          FLT_MAX, -0.0f,    16777217.0f, 1e-8f};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        ck_assert_int_eq(format_f32(hard[i], buf), (int)strlen(buf));
        ck_assert(strtof(buf, NULL) == hard[i]);
    }
}
END_TEST

START_TEST(digest)
{
    uint8_t d[DIGEST_SIZE];
    char text[DIGEST_TEXT];
    digest_bytes("abc", 3, d); // FIPS 180-2, appendix B.1
    digest_text(d, text);
    ck_assert_str_eq(text,
                     "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
END_TEST

START_TEST(memory)
{
    char *p = memory_alloc(100);
    ck_assert(p && (uintptr_t)p % 64 == 0 && !p[99]);
    memory_free(p);
    ck_assert_ptr_null(memory_alloc(SIZE_MAX - 100));
    ck_assert_uint_gt(memory_available(), 0);
}
END_TEST

START_TEST(copies_are_whole)
{
    json_t *j = json_pack("{s:i, s:[i], s:{s:s}, s:n}", "a", 1, "b", 2, "c", "d", "e", "f");
    FAULT_EACH(n)
    {
        long before = fault_live();
        json_t *copy = json_copy_object(j);
        bool fired = fault_disarm();
        ck_assert(fired ? !copy : json_equal(copy, j));
        if (copy)
            ck_assert(json_object_get(copy, "b") == json_object_get(j, "b"));
        json_decref(copy);
        ck_assert_int_eq(fault_live(), before);
    }
    json_decref(j);
    ck_assert_ptr_null(json_copy_object(NULL));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("ground");
    tcase_add_test(t, codes);
    tcase_add_test(t, findings);
    tcase_add_test(t, arena);
    tcase_add_test(t, json_limits);
    tcase_add_test(t, json_shapes);
    tcase_add_test(t, json_long_and_wrong);
    tcase_add_test(t, json_faults);
    tcase_add_test(t, copies_are_whole);
    tcase_add_test(t, texts_are_whole);
    tcase_add_test(t, words_and_numbers);
    tcase_add_test(t, digest);
    tcase_add_test(t, memory);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
