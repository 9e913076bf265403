#include "core/adapters/pattern.h"

#include <string.h>
#include <time.h>

#include "tests/check_main.h"
#include "tests/faults/fault.h"

#define NAME "model.layers.0.self_attn.q_proj"

/* 1: matches, 0: does not, -1: refused. */
static int full(const char *pattern, const char *name)
{
    struct pattern *p;
    char why[PATTERN_WHY] = "";
    bool yes = false;
    enum status s = pattern_open(NULL, pattern, NULL, &p, why);
    if (!s)
        s = pattern_full(p, name, &yes, why);
    pattern_close(p);
    if (s) {
        ck_assert_int_eq(s, ST_CONFIG_INVALID_VALUE);
        ck_assert(why[0]);
        return -1;
    }
    return yes;
}

START_TEST(full_match)
{
    ck_assert_int_eq(full(".*q_proj", NAME), 1);
    ck_assert_int_eq(full("q_proj", NAME), 0);
    ck_assert_int_eq(full(".*q_pro", NAME), 0);
    ck_assert_int_eq(full("model", NAME), 0);
    ck_assert_int_eq(full(".*\\.(q|v)_proj", NAME), 1);
    ck_assert_int_eq(full("q|.*q_proj", NAME), 1); // alternatives are tried until one is full
    ck_assert_int_eq(full(".*\\d\\..*", NAME), 1);
    ck_assert_int_eq(full("(?i).*Q_PROJ", NAME), 1);
    ck_assert_int_eq(full("(?P<a>model).*", NAME), 1);
    ck_assert_int_eq(full("(?:model|m)\\.layers\\.[0-3]\\..*", NAME), 1);
    ck_assert_int_eq(full(".*(?<!k)_proj", NAME), 1);
    ck_assert_int_eq(full(".*(?<!q)_proj", NAME), 0);
    ck_assert_int_eq(full("\\Amodel.*\\Z", NAME), 1);
    ck_assert_int_eq(full(".*(?#comment)q_proj$", NAME), 1);
}
END_TEST

START_TEST(python_reads_it_so)
{
    ck_assert_int_eq(full("a{,2}", "aa"), 1); // PCRE2 10.42 would take it literally
    ck_assert_int_eq(full("a{,2}", "aaa"), 0);
    ck_assert_int_eq(full("a{2}", "aa"), 1);
    ck_assert_int_eq(full("a{1,}", "aaaa"), 1);
    ck_assert_int_eq(full("a{x}", "a{x}"), 1);
    ck_assert_int_eq(full("a{1, 2}", "a{1, 2}"), 1);
    ck_assert_int_eq(full("[[:alpha:]]", "a]"), 1); // a set of "[:alph", then "]"
    ck_assert_int_eq(full("[[:alpha:]]", "b"), 0);
    ck_assert_int_eq(full("[]a]+", "]a"), 1);
    ck_assert_int_eq(full("[^]a]", "b"), 1);
    ck_assert_int_eq(full("\\x61", "a"), 1);
    ck_assert_int_eq(full("(a)\\1", "aa"), 1);
}
END_TEST

START_TEST(refused)
{
    static const char *const patterns[] = {
        "(",     "[a",    "a\\",     "\\Ka",    "\\Qa\\E", "\\R",       "\\h",      "\\p{L}",
        "(?R)",  "(?1)",  "(?|a|b)", "(*FAIL)", "(?<n>a)", "a(?i)b",    "\\N{DOT}", "\\u0061",
        "\\x6",  "\\0",   "\\12",    "(?C1)",   "(?&n)",   "(?(1)a|b)", "\\G",      "\\z",
        "[\\K]", "[\\1]", "(?x)a",   "*a",      "a**",     "(?#",       "\\C",      "\\1",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        ck_assert_msg(full(patterns[i], "aaaa") == -1, "%s was accepted", patterns[i]);
}
END_TEST

START_TEST(hostile)
{
    static const char *const patterns[] = {
        "(a+)+b",
        "(.*)*x",
        "(.*.*.*.*.*.*.*.*)x",
        "((a|a)+)+b",
        "(((((.+)+)+)+)+)+x",
        "(?=(a+))(a+a+)+(a+a+)+b",
        "((((a{0,500}){0,500}){0,500}){0,500})b",
        "(?:(?:a?){100}){100}b",
    };
    char name[200];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        clock_t start = clock();
        ck_assert_msg(full(patterns[i], name) <= 0, "%s", patterns[i]);
        double ms = 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC;
        ck_assert_msg(ms < 200, "%s took %g ms", patterns[i], ms);
    }
    char *large = malloc(100001);
    memset(large, '(', 100000);
    large[100000] = 0;
    ck_assert_int_eq(full(large, name), -1);
    large[1000] = 0;
    ck_assert_int_eq(full(large, name), -1);
    free(large);
}
END_TEST

static int64_t layer(const char *pattern, const char *name)
{
    struct pattern *p;
    char why[PATTERN_WHY];
    bool yes;
    int64_t index = -2;
    ck_assert_int_eq(pattern_open(".*?\\.", pattern, "\\.(\\d+)\\.", &p, why), ST_OK);
    ck_assert_int_eq(pattern_index(p, name, &yes, &index, why), ST_OK);
    pattern_close(p);
    return yes ? index : -1;
}

START_TEST(layer_index)
{
    ck_assert_int_eq(layer("[^.]*", "model.layers.12.self_attn.q_proj"), 12);
    ck_assert_int_eq(layer("layers", "model.layers.7.mlp.experts.3.w1"), 7);
    ck_assert_int_eq(layer("experts", "model.layers.7.mlp.experts.3.w1"), 3);
    ck_assert_int_eq(layer("[^.]*", "layers.0.q_proj"), -1); // a component must come first
    ck_assert_int_eq(layer("h", "model.layers.7.q"), -1);
    ck_assert_int_eq(layer("(l)ayers", "model.layers.7.q"), -1); // its own group is no number
}
END_TEST

START_TEST(memory_runs_out)
{
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct pattern *p;
        char why[PATTERN_WHY] = "";
        bool yes = false;
        enum status s = pattern_open("a", "(b{,2}|[[])+", NULL, &p, why);
        if (!s)
            s = pattern_full(p, "abb", &yes, why);
        bool fired = fault_disarm();
        ck_assert(fired ? s == ST_OUT_OF_MEMORY || yes : yes);
        pattern_close(p);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/pattern");
    TCase *t = tcase_create("all");
    tcase_add_test(t, full_match);
    tcase_add_test(t, python_reads_it_so);
    tcase_add_test(t, refused);
    tcase_add_test(t, hostile);
    tcase_add_test(t, layer_index);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
