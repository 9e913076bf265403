/*
 * Compiling takes bounded work, whatever a body of some megabytes says: what is refused is refused
 * by name, long before a person would look at the clock. That these cases end at all is half of
 * the test; each is of a kind that once took seconds, or for ever.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grammar/grammar.h"
#include "tests/check_main.h"

struct made {
    char *text;
    size_t len, cap;
};

static void add(struct made *m, const char *format, ...)
{
    va_list args;
    if (m->cap - m->len < 256) {
        m->cap = 2 * m->cap + 4096;
        m->text = realloc(m->text, m->cap);
        ck_assert_ptr_nonnull(m->text);
    }
    va_start(args, format);
    int n = vsnprintf(m->text + m->len, m->cap - m->len, format, args);
    va_end(args);
    ck_assert(n >= 0 && (size_t)n < m->cap - m->len);
    m->len += (size_t)n;
}

/* format has one place for a number, from..to-1. */
static void add_each(struct made *m, const char *format, int from, int to)
{
    for (int i = from; i < to; i++)
        add(m, format, i, i + 1);
}

/* want: what the sentence says; NULL: it is compiled. */
static void check(enum grammar_kind kind, struct made *m, const char *want)
{
    struct automaton a;
    struct error err = ERROR_INIT;
    enum status s = grammar_compile(kind, m->text, m->len, &a, &err);
    ck_assert_msg(s == (want ? ST_INVALID_VALUE : ST_OK), "%.60s: %s", m->text, err.text);
    ck_assert_msg(!want || strstr(err.text, want), "%.60s: %s", m->text, err.text);
    automaton_clear(&a);
    error_clear(&err);
    free(m->text);
    *m = (struct made){0};
}

#define WORK "too much work"

static const struct {
    const char *text, *want;
} regexes[] = {
    {"([a-z]{2,9} ){3,12}[^a]{1,20}", NULL},
    {"[^a]{1,3000}", NULL},
    {"(a*b?){500}", NULL},
    {"((a?){100}){100}", WORK},
    {"(a|b|ab|ba){1,2000}", WORK},
    {"(.{1,50}x){20}", WORK},
    {"([^0]?[^1]?[^2]?[^3]?[^4]?[^5]?[^6]?[^7]?){90}", WORK},
    {"(\\D{1,20}\\W){1,20}", "too large"},
    {"((((a{0,9999}){0}){9999}){9999}){9999}", "too large"},
};

START_TEST(counted_repeats)
{
    struct made m = {0};
    add(&m, "%s", regexes[_i].text);
    check(GRAMMAR_REGEX, &m, regexes[_i].want);
}
END_TEST

START_TEST(long_classes)
{
    static const char *const classes[] = {"[^\\d", "[\\D", "[^\\w", "[\\W"}; // as wide as they are
    for (size_t k = 0; k < sizeof classes / sizeof classes[0]; k++) {
        struct made m = {0};
        add(&m, "%s", classes[k]);
        for (int i = 0; i < 200000; i++)
            add(&m, "%s", strchr(classes[k], '\\'));
        add(&m, "]");
        check(GRAMMAR_REGEX, &m, WORK);
    }
    struct made m = {0};
    for (int i = 0; i < 400; i++)
        add(&m, "\\D");
    check(GRAMMAR_REGEX, &m, "too large");
}
END_TEST

/* Two ways through each of them, and each may be nothing. */
START_TEST(rules_that_may_be_nothing)
{
    struct made m = {0};
    add(&m, "a ::= \"p\"?\nb ::= \"q\"?\nroot ::= \"\" ");
    add_each(&m, "(a|b) ", 0, 200);
    add(&m, "\"x\"");
    check(GRAMMAR_GBNF, &m, NULL);
    add(&m, "a ::= \"p\"?\nb ::= \"q\"?\nroot ::= \"\" ");
    add_each(&m, "(a|b) ", 0, 200);
    add(&m, "root");
    check(GRAMMAR_GBNF, &m, "left recursion");
}
END_TEST

START_TEST(chains_of_rules)
{
    struct made m = {0};
    add(&m, "root ::= r0\n");
    add_each(&m, "r%d ::= \"a\" r%d \"b\"\n", 0, 4000);
    add(&m, "r4000 ::= \"x\"\n");
    check(GRAMMAR_GBNF, &m, NULL);
    add(&m, "root ::= r0\nr4000 ::= \"x\"\n"); // names are met from the last one back
    for (int i = 4000; i-- > 0;)
        add(&m, "r%d ::= \"a\" r%d \"b\"\n", i, i + 1);
    check(GRAMMAR_GBNF, &m, NULL);
    add(&m, "root ::= \"x\"");
    add_each(&m, " | r%d", 0, 9000);
    add_each(&m, "\nr%d ::= \"y\"", 0, 9000);
    check(GRAMMAR_GBNF, &m, NULL);
    add(&m, "root ::= \"x\"");
    add_each(&m, " | r%d", 0, 9000);
    add_each(&m, "\nr%d ::= [yz] r8999 r8998 r8997 r8996 r8995 r8994 r8993 r8992", 0, 9000);
    check(GRAMMAR_GBNF, &m, WORK);
}
END_TEST

START_TEST(schemas_in_lists)
{
    struct made m = {0};
    add(&m, "{\"oneOf\": [{\"const\": -1}");
    add_each(&m, ", {\"const\": %d}", 0, 20000);
    add(&m, "]}");
    check(GRAMMAR_JSON_SCHEMA, &m, WORK);
    add(&m, "{\"allOf\": [{\"enum\": [-1");
    add_each(&m, ", %d", 0, 60000);
    add(&m, "]}, {\"enum\": [-2");
    add_each(&m, ", %d", 60000, 120000);
    add(&m, "]}]}");
    check(GRAMMAR_JSON_SCHEMA, &m, WORK);
    add(&m, "{\"enum\": [-1");
    add_each(&m, ", %d", 0, 10000);
    add(&m, "]}");
    check(GRAMMAR_JSON_SCHEMA, &m, NULL);
}
END_TEST

START_TEST(schemas_with_references)
{
    struct made m = {0};
    add(&m, "{\"$ref\": \"#/$defs/a0\", \"$defs\": {\"z\": {}"); // twenty times twenty times ...
    for (int i = 0; i < 7; i++) {
        add(&m, ", \"a%d\": {\"allOf\": [{}", i);
        for (int k = 0; k < 20; k++)
            add(&m, ", {\"$ref\": \"#/$defs/a%d\"}", i + 1);
        add(&m, "]}");
    }
    add(&m, ", \"a7\": {\"type\": \"null\"}}}");
    check(GRAMMAR_JSON_SCHEMA, &m, WORK);
    add(&m, "{\"$ref\": \"#/$defs/a0\", \"$defs\": {\"a7000\": {\"type\": \"null\"}");
    add_each(&m, ", \"a%d\": {\"anyOf\": [{\"$ref\": \"#/$defs/a%d\"}, {\"type\": \"null\"}]}", 0,
             7000);
    add(&m, "}}");
    check(GRAMMAR_JSON_SCHEMA, &m, "nests too deep");
}
END_TEST

START_TEST(schemas_with_many_properties)
{
    struct made m = {0};
    add(&m, "{\"properties\": {\"z\": {}");
    add_each(&m, ", \"p%d\": {\"type\": \"null\"}", 0, 2000);
    add(&m, "}, \"required\": [\"z\"");
    add_each(&m, ", \"p%d\"", 0, 2000);
    add(&m, "]}");
    check(GRAMMAR_JSON_SCHEMA, &m, NULL);
    add(&m, "{\"properties\": {\"z\": {}"); // none of them is there
    add_each(&m, ", \"p%d\": {}", 0, 90000);
    add(&m, "}, \"required\": [\"z\"");
    add_each(&m, ", \"q%d\"", 0, 90000);
    add(&m, "]}");
    check(GRAMMAR_JSON_SCHEMA, &m, "too ");
    add(&m, "{\"properties\": {\"");
    add_each(&m, "name %d", 0, 50000); // it is told below it, once for each
    add(&m, "\": {\"properties\": {\"z\": {\"type\": \"none\"}");
    add_each(&m, ", \"p%d\": {}", 0, 50000);
    add(&m, "}}}}");
    check(GRAMMAR_JSON_SCHEMA, &m, "expected object, array");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("grammar/work");
    TCase *t = tcase_create("work");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, counted_repeats, 0, sizeof regexes / sizeof regexes[0]);
    tcase_add_test(t, long_classes);
    tcase_add_test(t, rules_that_may_be_nothing);
    tcase_add_test(t, chains_of_rules);
    tcase_add_test(t, schemas_in_lists);
    tcase_add_test(t, schemas_with_references);
    tcase_add_test(t, schemas_with_many_properties);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
