/*
 * Structured outputs through a running engine: whatever the temperature, the adapter and the crowd,
 * a choice that ends by itself is a text of its grammar; and the same request gives the same bits
 * alone and in a crowd.
 */
#include <jansson.h>
#include <stdio.h>

#include "tests/core/engine_fixture.h"

static const char person[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"age\":{"
    "\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"tags\":{\"type\":\"array\",\"items\":{"
    "\"enum\":[\"a\",\"bc\"]},\"minItems\":1,\"maxItems\":3}},\"required\":[\"name\",\"age\","
    "\"tags\"]}";

static struct generate_request structured(const struct prompt *p, const char *const *adapter,
                                          enum grammar_kind kind, const char *text)
{
    struct generate_request q = ask(p, adapter, 400);
    q.grammar = kind;
    q.grammar_text = (struct text){text, strlen(text)};
    q.temperature = 1.5f;
    q.has_seed = true;
    q.logprobs = 0;
    q.ignore_eos = false;
    return q;
}

static void check_person(const struct answer *a)
{
    json_t *v = json_loadb(a->text, a->len, 0, NULL), *tags = json_object_get(v, "tags");
    json_int_t age = json_integer_value(json_object_get(v, "age"));
    ck_assert_msg(a->finish == FINISH_STOP && v, "%s", a->text);
    ck_assert(json_is_string(json_object_get(v, "name")) && json_object_size(v) == 3);
    ck_assert(json_is_integer(json_object_get(v, "age")) && age >= 0 && age <= 150);
    ck_assert(json_array_size(tags) >= 1 && json_array_size(tags) <= 3);
    json_decref(v);
}

START_TEST(a_schema_holds)
{
    static struct answer a;
    const struct prompt p = text_prompt("What is a");
    const char *const adapter = _i % 3 ? names[_i % 4] : NULL;
    struct generate_request q = structured(&p, &adapter, GRAMMAR_JSON_SCHEMA, person);
    q.seed = (uint64_t)_i;
    collect(submit(e, &q), &a);
    check_person(&a);
}
END_TEST

START_TEST(alone_and_in_a_crowd)
{
    static struct answer alone[6], crowd[6];
    static const char *const texts[] = {person, "[a-z ]{5,40}\\.", "[\"yes\",\"no\"]",
                                        "root ::= \"(\" root \")\" | [a-z]+"};
    static const enum grammar_kind kinds[] = {GRAMMAR_JSON_SCHEMA, GRAMMAR_REGEX, GRAMMAR_CHOICE,
                                              GRAMMAR_GBNF};
    const struct prompt p = text_prompt("The wife of the captain");
    struct generate_request q[6];
    struct ticket *t[6];
    for (int i = 0; i < 6; i++) {
        q[i] = structured(&p, i < 4 ? &names[i] : NULL, kinds[i % 4], texts[i % 4]);
        q[i].seed = (uint64_t)(40 + i);
        q[i].max_tokens = 60;
        collect(submit(e, &q[i]), &alone[i]);
    }
    for (int i = 0; i < 6; i++)
        t[i] = submit(e, &q[i]);
    for (int i = 0; i < 6; i++) {
        collect(t[i], &crowd[i]);
        expect_same(&alone[i], &crowd[i]);
        ck_assert_int_eq(alone[i].finish, crowd[i].finish);
    }
    ck_assert(!strcmp(alone[2].text, "yes") || !strcmp(alone[2].text, "no"));
    ck_assert_int_eq(alone[2].finish, FINISH_STOP);
}
END_TEST

/* Nothing of a grammar is left, although end tokens are ignored: the choice ends, with no token. */
START_TEST(it_ends_where_nothing_is_left)
{
    static struct answer a;
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = structured(&p, NULL, GRAMMAR_CHOICE, "[\"captain\"]");
    q.ignore_eos = true;
    q.min_tokens = 50;
    collect(submit(e, &q), &a);
    ck_assert_str_eq(a.text, "captain");
    ck_assert_int_eq(a.finish, FINISH_STOP);
    ck_assert_int_eq(a.stop_token, -1);
    q.min_tokens = UNSET_INT;
    q.max_tokens = 1;
    q.grammar_text = (struct text){"[\"the captain of the house\"]", 28};
    collect(submit(e, &q), &a);
    ck_assert_int_eq(a.finish, FINISH_LENGTH);
}
END_TEST

START_TEST(every_choice)
{
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = structured(&p, NULL, GRAMMAR_REGEX, "[0-9]{2}-[0-9]{2}");
    struct piece piece;
    char text[8][64] = {{0}};
    q.n = 8;
    struct ticket *t = submit(e, &q);
    ticket_join(t);
    while (ticket_read(t, &piece))
        strncat(text[piece.choice], piece.text.v, piece.text.len);
    int differ = 0;
    for (int i = 0; i < 8; i++) {
        int a, b, n = 0;
        ck_assert_msg(sscanf(text[i], "%2d-%2d%n", &a, &b, &n) == 2 && n == 5, "%s", text[i]);
        differ += strcmp(text[i], text[0]) != 0;
    }
    ck_assert_int_gt(differ, 0);
    ticket_free(t);
}
END_TEST

START_TEST(what_is_wrong_is_told)
{
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = structured(&p, NULL, GRAMMAR_REGEX, "(a");
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(engine_generate(e, &q, &t, &err), ST_OK);
    ticket_join(t);
    ck_assert_int_eq(ticket_status(t, &err), ST_INVALID_VALUE);
    ck_assert_ptr_nonnull(strstr(err.text, "not closed"));
    ticket_free(t);
    error_clear(&err);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_grammar");
    TCase *c = tcase_create("engine_grammar");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, a_schema_holds, 0, 6);
    tcase_add_test(c, alone_and_in_a_crowd);
    tcase_add_test(c, it_ends_where_nothing_is_left);
    tcase_add_test(c, every_choice);
    tcase_add_test(c, what_is_wrong_is_told);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
