/*
 * Calls of functions in texts (core/grammar/calls.h): what the description says is taken and
 * nothing else, whatever tokens it comes in; where an error lies; memory that runs out.
 */
#include <stdlib.h>
#include <string.h>

#include "core/grammar/calls.h"
#include "core/grammar/grammar.h"
#include "core/tokenizer/bytes.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static struct tokenizer *tokenizer;
static struct grammars *grammars;

static void setup(void)
{
    ck_assert_int_eq(tokenizer_load("demo/base", &tokenizer, NULL), ST_OK);
    ck_assert_int_eq(grammars_open(tokenizer, tokenizer_size(tokenizer), &grammars, NULL), ST_OK);
}

static void teardown(void)
{
    grammars_close(grammars);
    tokenizer_free(tokenizer);
}

static struct grammar *get(const char *text)
{
    struct grammar *g = NULL;
    struct error err = ERROR_INIT;
    enum status s = grammars_get(grammars, GRAMMAR_CALLS, text, strlen(text), &g, &err);
    ck_assert_msg(s == ST_OK, "%s: %s", text, err.text);
    return g;
}

static bool takes(struct grammar *g, const char *text)
{
    bool alive = false, ends = false;
    ck_assert_int_eq(follow_text(grammar_tables(g), text, strlen(text), &alive, &ends, NULL),
                     ST_OK);
    return alive && ends;
}

/* Calls as some families write them; "s" is strict: {"a": 1 to 9}, "any" is not. */
#define CALLS(around)                                                                              \
    "{" around                                                                                     \
    ",\"calls\":[{\"name\":\"\\\"s\\\"\",\"param\":\"tools[0].p\",\"schema\":{\"type\":"           \
    "\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9}},"        \
    "\"required\":[\"a\"],\"additionalProperties\":false}},{\"name\":\"\\\"any\\\"\"}]}"
#define WRITING "\"head\":\"{ \\\"name\\\": \",\"middle\":\", \\\"arguments\\\": \",\"tail\":\" }\""
#define TAGGED  "\"open\":\"<tool>\",\"begin\":\" \",\"end\":\" </tool>\",\"free\":true," WRITING
#define BARE                                                                                       \
    "\"open\":\"<py>\",\"begin\":\"\",\"end\":\"\",\"between\":\"; "                               \
    "\",\"free\":true,\"bare\":true," WRITING
#define LISTED "\"open\":\"\",\"begin\":\"[ \",\"between\":\", \",\"end\":\" ]\"," WRITING
#define GOOD   "{\"name\": \"s\", \"arguments\": {\"a\": 7}}"
#define BAD    "{\"name\": \"s\", \"arguments\": {\"a\": 10}}"
#define ANY    "{\"name\": \"any\", \"arguments\": {\"a\": [10]}}"

/* Arguments in tags and as keywords; "any" is not bound. */
#define BOUND                                                                                      \
    ",\"calls\":[{\"name\":\"s\",\"schema\":{\"type\":\"object\",\"properties\":{\"t\":{\"type\":" \
    "\"string\"},\"n\":{\"$ref\":\"#/$defs/n\"},\"e\":{\"enum\":[\"a\",\"it's "                    \
    "\\\"b\\\"\",null]},\"p\":{"                                                                   \
    "\"type\":\"string\",\"pattern\":\"^x.*$\"},\"o\":{\"type\":\"object\","                       \
    "\"additionalProperties\":"                                                                    \
    "{\"type\":[\"string\",\"boolean\"]}},\"u\":{\"type\":[\"string\",\"integer\",\"null\"],"      \
    "\"maxLength\":2}},\"required\":[\"n\"],\"$defs\":{\"n\":{\"type\":\"integer\",\"minimum\":1," \
    "\"maximum\":9}}}},{\"name\":\"any\"}]}"
#define TAGS                                                                                       \
    "{\"open\":\"<tool>\",\"begin\":\"\",\"end\":\"</"                                             \
    "tool>\",\"free\":true,\"head\":\"<f=\",\"middle\":"                                           \
    "\">\",\"tail\":\"</f>\",\"key\":\"<p=\",\"value\":\">\\n\",\"close\":\"\\n</"                 \
    "p>\\n\",\"stop\":\"</p>\"" BOUND
#define KEYWORDS                                                                                   \
    "{\"open\":\"<tool>\",\"begin\":\"[\",\"end\":\"]\",\"free\":true,\"head\":\"\",\"middle\":"   \
    "\"\","                                                                                        \
    "\"tail\":\"\",\"between\":\", \",\"python\":true" BOUND
/* Tags that tell what is a string, with a special token in them. */
#define TOLD                                                                                         \
    "{\"open\":\"<｜D｜calls>\",\"begin\":\"\\n\",\"end\":\"</｜D｜calls>\",\"free\":true,"      \
    "\"head\":\"<｜D｜f~n='\",\"middle\":\"'>\\n^\",\"tail\":\"</｜D｜f>\\n\",\"between\":\"\"," \
    "\"key\":\"<｜D｜p~n='\",\"value\":\"'~s>\",\"other\":\"'>\",\"close\":\"</｜D｜p>\\n\","    \
    "\"stop\":\"</｜D｜p>\"" BOUND
#define ASKED(arguments) "<｜D｜calls>\n<｜D｜f n='s'>\n" arguments "</｜D｜f>\n</｜D｜calls>"
#define ONE(name, value) "<｜D｜p n='" name ">" value "</｜D｜p>\n"
#define NUMBER_3         ONE("n'", "3")
#define N_3              "<p=n>\n3\n</p>\n"
#define SAID(arguments)  "<tool><f=s>" arguments "</f></tool>"

static const struct {
    const char *grammar, *yes[16], *no[16];
} calls[] = {
    {TAGS,
     {SAID(N_3), SAID("<p=t>\nif a < b:\n  </pre>\n\n</p>\n" N_3),
      SAID(N_3 "<p=e>\nit's \"b\"\n</p>\n"), SAID(N_3 "<p=e>\nNone\n</p>\n"),
      SAID(N_3 "<p=p>\nxyz\n</p>\n"),
      SAID(N_3 "<p=o>\n{\"k\": true, \"l\": \"\\u003c/p>\"}\n</p>\n"),
      SAID(N_3 "<p=u>\n12\n</p>\n"), SAID(N_3 "<p=u>\nnull\n</p>\n"), "<tool><f=any></f></tool>",
      "<tool><f=any><p=x_1>\n{[<\n</p>\n</f></tool> text"},
     {SAID(""), SAID("<p=n>\n10\n</p>\n"), SAID("<p=n>3</p>\n"), SAID(N_3 "<p=t>\nx\n</p>\n"),
      SAID("<p=t>\nx</p>y\n</p>\n" N_3), SAID("<p=t>\nx\xFF<end>\n</p>\n" N_3),
      SAID(N_3 "<p=e>\nb\n</p>\n"), SAID(N_3 "<p=p>\nx<y\n</p>\n"), SAID(N_3 "<p=p>\ny\n</p>\n"),
      SAID(N_3 "<p=o>\n{\"k\": \"</p>\"}\n</p>\n"), SAID(N_3 "<p=o>\n{\"k\": 1}\n</p>\n"),
      SAID(N_3 "<p=u>\n123\n</p>\n"), SAID(N_3 "<p=w>\n1\n</p>\n"), "<tool><f=t></f></tool>"}},
    {KEYWORDS,
     {"<tool>[s(n=3)]",
      "<tool>[s(t='it\\'s \"b\"\\x00', n=3), any(), any(a=[None, {'k': True}], b=-1.5e3)]",
      "<tool>[s(t=\"\\u00e9'\", n=3, e='it\\'s \"b\"')]", "<tool>[s(n=3, e=\"it's \\\"b\\\"\")]",
      "<tool>[s(n=3, e=None)]", "<tool>[s(n=3, p=\"xy\")]",
      "<tool>[s(n=3, o={'k': False, \"l\": 'm'})]", "<tool>[s(n=3, u=12)]", "text"},
     {"<tool>[s()]", "<tool>[s(n=10)]", "<tool>[s(3)]", "<tool>[s(n=3, e='b')]",
      "<tool>[s(n=3, e=null)]", "<tool>[s(n=3, t='x')]", "<tool>[s(n=3, o={'k': false})]",
      "<tool>[s(n=3, p='y')]", "<tool>[s(t='a\\/b', n=3)]", "<tool>[s(t='a\nb', n=3)]",
      "<tool>[s(n=3, u='123')]", "<tool>[any(a-b=1)]", "<tool>[s(n=3, w=1)]"}},
    {TOLD,
     {ASKED(NUMBER_3), ASKED(ONE("t' s", " if a < b:\n</｜D｜q>\n") NUMBER_3),
      ASKED(NUMBER_3 ONE("e' s", "it's \"b\"")), ASKED(NUMBER_3 ONE("e'", "null")),
      ASKED(NUMBER_3 ONE("o'", "{\"k\": true, \"l\": \"m\"}")), ASKED(NUMBER_3 ONE("u' s", "12")),
      ASKED(NUMBER_3 ONE("u'", "123")), ASKED(NUMBER_3 ONE("u'", "null")),
      "<｜D｜calls>\n<｜D｜f n='any'>\n\n</｜D｜f>\n<｜D｜f n='any'>\n" ONE("x' s", "{[")
          ONE("y'", "[{}, \"z\"]") "</｜D｜f>\n</｜D｜calls> text",
      "<\xFF｜D｜calls>\n<\xFF｜D｜f n='any'>\n</\xFF｜D｜f>\n</\xFF｜D｜calls>", "a <\xFF｜D｜x"},
     {ASKED(""), ASKED(ONE("n' s", "3")), ASKED(ONE("n'", "10")), ASKED(ONE("t'", "x") NUMBER_3),
      ASKED(ONE("t' s", "x</｜D｜p>") NUMBER_3), ASKED(ONE("t' s", "x\xFF<end>") NUMBER_3),
      ASKED(NUMBER_3 ONE("e'", "None")), ASKED(NUMBER_3 ONE("e' s", "null")),
      ASKED(NUMBER_3 ONE("e'", "\"a\"")), ASKED(NUMBER_3 ONE("u' s", "123")),
      ASKED(NUMBER_3 ONE("w' s", "1")), "<｜D｜calls>",
      "<｜D｜calls>\n<｜D｜f n='any'>\n </｜D｜f>\n</｜D｜calls>", "<\xFF｜D｜calls> x",
      "<｜D｜calls>\n</｜D｜calls>"}},
    {CALLS(TAGGED),
     {"", "any <t text <tool\xFF<end>", "<tool>" GOOD "</tool>",
      "So: <tool>\n" GOOD "\n</tool> and <", "<tool>" ANY "</tool><tool>" GOOD "</tool>",
      "\xFF<tool>" GOOD "\xFF</tool>", "<too<tool>" ANY "</tool>", BAD},
     {"<tool>", "<tool>" BAD "</tool>", "<tool>" GOOD, "a <tool> b", "<tool>{\"name\": \"t\"",
      "<tool>" GOOD "</tool><tool>" BAD "</tool>",
      "<tool>{\"name\": \"any\", \"arguments\": 3}</tool>", "<tool>" GOOD GOOD "</tool>"}},
    {CALLS(TAGGED ",\"most\":1"),
     {"", "a <tool>" GOOD "</tool> b"},
     {"<tool>" ANY "</tool><tool>" GOOD "</tool>"}},
    {CALLS(BARE),
     {"", " ", "text {", GOOD, " " GOOD "; " ANY "\n", "x <py>" GOOD "; " GOOD, "<py>" ANY " and"},
     {"{", "[1]", " {}", BAD, GOOD "; " BAD, GOOD " and", "<py>" BAD}},
    {CALLS(LISTED),
     {"[" GOOD "]", "[ " ANY ", " GOOD " ]"},
     {"", "[]", "[" BAD "]", GOOD, "[" GOOD, "[" GOOD "] "}},
    {CALLS(LISTED ",\"most\":1"), {"[" GOOD "]"}, {"[" ANY "," GOOD "]"}},
    {CALLS("\"open\":\"<c>\",\"begin\":\"<d>\",\"end\":\"\",\"free\":true,\"head\":\"#<s>\","
           "\"middle\":\"\",\"tail\":\"\""),
     {"<c><d>12<s>\"any\"{}", "<c>\xFF<d>1\xFF<s>\"s\"{\"a\": 1}"},
     {"<c><d><s>\"any\"{}", "<c>\xFF\xFF<d>1<s>\"any\"{}", "<c><d>1234567<s>\"any\"{}"}},
};

START_TEST(calls_in_text)
{
    struct grammar *g = get(calls[_i].grammar);
    for (int i = 0; i < 16 && calls[_i].yes[i]; i++)
        ck_assert_msg(takes(g, calls[_i].yes[i]), "%s", calls[_i].yes[i]);
    for (int i = 0; i < 16 && calls[_i].no[i]; i++)
        ck_assert_msg(!takes(g, calls[_i].no[i]), "%s", calls[_i].no[i]);
    grammar_unref(g);
}
END_TEST

/* Is the byte that marks special tokens part of this one's text? */
static bool poses(int32_t id)
{
    struct bytes text = {0};
    ck_assert_int_eq(tokenizer_bytes(tokenizer, id, &text, NULL), ST_OK);
    bool has = text.n && memchr(text.v, SPECIAL_BYTE, text.n);
    bytes_free(&text);
    return has;
}

/* Any token may come in free text, special ones too, but none that is no UTF-8 and looks like a
 * special one; within a call no special one. */
START_TEST(special_tokens_of_calls)
{
    struct grammar *g = get(calls[3].grammar);
    int32_t n = tokenizer_size(tokenizer), special = 0, posing = 0;
    uint64_t *bits = calloc((size_t)grammar_words(g), sizeof *bits);
    struct follower f = {0};
    bool ends, any, alive;
    ck_assert_int_eq(follow_allowed(grammar_tables(g), &f, NULL, 0, bits, &ends, &any, NULL),
                     ST_OK);
    ck_assert(ends && any);
    for (int32_t id = 0; id < n; id++)
        if (tokenizer_special(tokenizer, id)) {
            struct follower again = {0};
            ck_assert_msg(bits[id / 64] >> id % 64 & 1, "token %d", id);
            ck_assert_int_eq(follow_tokens(grammar_tables(g), &again, &id, 1, &alive, NULL), ST_OK);
            ck_assert(alive);
            special++;
        } else if (poses(id)) {
            ck_assert_msg(!(bits[id / 64] >> id % 64 & 1), "token %d", id);
            posing++;
        }
    ck_assert_int_gt(special, 2);
    ck_assert_int_gt(posing, 0);
    grammar_unref(g);
    g = get(calls[6].grammar);
    f = (struct follower){0};
    ck_assert_int_eq(follow_allowed(grammar_tables(g), &f, NULL, 0, bits, &ends, &any, NULL),
                     ST_OK);
    for (int32_t id = 0; id < n; id++)
        ck_assert(!tokenizer_special(tokenizer, id) || !(bits[id / 64] >> id % 64 & 1));
    free(bits);
    grammar_unref(g);
}
END_TEST

static const struct {
    enum grammar_kind kind;
    const char *text, *param;
} places[] = {
    {GRAMMAR_JSON_SCHEMA, "{\"not\":{}}", ".not"},
    {GRAMMAR_JSON_SCHEMA, "{\"properties\":{\"a\":{\"anyOf\":[{},{\"not\":{}}]}}}",
     ".properties.a.anyOf[1].not"},
    {GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#/$defs/x\",\"$defs\":{\"x\":{\"pattern\":\"(\"}}}",
     ".$defs.x.pattern"},
    {GRAMMAR_CALLS,
     "{\"python\":true,\"calls\":[{\"name\":\"f\",\"param\":\"p\",\"schema\":{\"properties\":{\"a-"
     "b\":{}}}}]}",
     "p.properties.a-b"},
    {GRAMMAR_CALLS,
     "{\"python\":true,\"calls\":[{\"name\":\"f\",\"param\":\"p\",\"schema\":{\"anyOf\":[{}]}}]}",
     "p.anyOf"},
    {GRAMMAR_CALLS,
     "{" LISTED ",\"calls\":[{\"name\":\"f\",\"param\":\"tools[3].function.parameters\","
     "\"schema\":{\"properties\":{\"b\":{\"not\":{}}}}}]}",
     "tools[3].function.parameters.properties.b.not"},
};

START_TEST(errors_name_the_place)
{
    struct error err = ERROR_INIT;
    struct automaton a;
    ck_assert_int_eq(
        grammar_compile(places[_i].kind, places[_i].text, strlen(places[_i].text), &a, &err),
        ST_INVALID_VALUE);
    ck_assert_msg(!strcmp(err.param, places[_i].param), "%s: %s", err.text, err.param);
    automaton_clear(&a);
    error_clear(&err);
}
END_TEST

/* With the N-th allocation failing it says so and leaks nothing. */
START_TEST(memory_runs_out)
{
    const char *text = calls[_i].grammar;
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct automaton a;
        struct error err = ERROR_INIT;
        enum status s = grammar_compile(GRAMMAR_CALLS, text, strlen(text), &a, &err);
        bool fired = fault_disarm();
        ck_assert_msg(s == (fired ? ST_OUT_OF_MEMORY : ST_OK), "%ld: %s", n, err.text);
        automaton_clear(&a);
        error_clear(&err);
        ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("grammar/calls");
    TCase *t = tcase_create("calls");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, calls_in_text, 0, sizeof calls / sizeof calls[0]);
    tcase_add_test(t, special_tokens_of_calls);
    tcase_add_loop_test(t, errors_name_the_place, 0, sizeof places / sizeof places[0]);
    tcase_add_loop_test(t, memory_runs_out, 0, 6);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
