/*
 * Structured outputs: what Python's re and jsonschema say of texts (tests/vectors/grammar), the
 * allowed tokens against their definition, hostile sizes, and memory that runs out.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/grammar/grammar.h"
#include "core/grammar/schema_merge.h"
#include "core/tokenizer/bytes.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

#define RANDOM_SETS 6 /* of grammars */
#define RANDOM_EACH 4

static struct tokenizer *tokenizer;
static struct grammars *grammars;
static json_t *cases;

static void setup(void)
{
    ck_assert_int_eq(tokenizer_load("demo/base", &tokenizer, NULL), ST_OK);
    ck_assert_int_eq(grammars_open(tokenizer, tokenizer_size(tokenizer), &grammars, NULL), ST_OK);
    cases = json_load_file("tests/vectors/grammar/cases.json", 0, NULL);
    ck_assert_uint_gt(json_array_size(cases), 90);
}

static void teardown(void)
{
    json_decref(cases);
    grammars_close(grammars);
    tokenizer_free(tokenizer);
}

static enum grammar_kind kind_of(const json_t *c)
{
    return strcmp(json_string_value(json_object_get(c, "kind")), "regex") ? GRAMMAR_JSON_SCHEMA
                                                                          : GRAMMAR_REGEX;
}

static struct grammar *get(enum grammar_kind kind, const char *text)
{
    struct grammar *g = NULL;
    struct error err = ERROR_INIT;
    enum status s = grammars_get(grammars, kind, text, strlen(text), &g, &err);
    ck_assert_msg(s == ST_OK, "%s: %s", text, err.text);
    return g;
}

static bool takes(struct grammar *g, const char *text, size_t len)
{
    bool alive = false, ends = false;
    ck_assert_int_eq(follow_text(grammar_tables(g), text, len, &alive, &ends, NULL), ST_OK);
    ck_assert(alive || !ends);
    return ends;
}

static void check_texts(const json_t *c, const char *key, bool wanted)
{
    const char *text = json_string_value(json_object_get(c, "text"));
    struct grammar *g = get(kind_of(c), text);
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(c, key), i, one)
    {
        ck_assert_msg(takes(g, json_string_value(one), json_string_length(one)) == wanted,
                      "%s should %stake %s", text, wanted ? "" : "not ", json_string_value(one));
    }
    grammar_unref(g);
}

START_TEST(as_the_libraries_say)
{
    size_t i;
    json_t *c;
    json_array_foreach(cases, i, c)
    {
        const char *text = json_string_value(json_object_get(c, "text"));
        const char *why = json_string_value(json_object_get(c, "refused"));
        if (!why) {
            check_texts(c, "yes", true);
            check_texts(c, "no", false);
            continue;
        }
        struct error err = ERROR_INIT;
        struct grammar *g = NULL;
        ck_assert_int_eq(grammars_get(grammars, kind_of(c), text, strlen(text), &g, &err),
                         ST_INVALID_VALUE);
        ck_assert_msg(!g && strstr(err.text, why), "%s: %s", text, err.text);
    }
}
END_TEST

/* GRAMMAR_SUITE: a file of such cases that are somebody else's. What is not supported is refused;
 * of what compiles no invalid text is taken. Prints how much of it that was. */
START_TEST(somebodys_suite)
{
    json_t *all = json_load_file(getenv("GRAMMAR_SUITE"), 0, NULL), *c, *one;
    size_t i, k, compiled = 0, valid = 0, valid_taken = 0, invalid = 0;
    ck_assert_ptr_nonnull(all);
    json_array_foreach(all, i, c)
    {
        const char *text = json_string_value(json_object_get(c, "text"));
        const char *name = json_string_value(json_object_get(c, "name"));
        struct error err = ERROR_INIT;
        struct grammar *g = NULL;
        if (grammars_get(grammars, kind_of(c), text, strlen(text), &g, &err)) {
            ck_assert_msg(err.code == ST_INVALID_VALUE && *err.text, "%s", name);
            continue;
        }
        compiled++;
        json_array_foreach(json_object_get(c, "yes"), k, one)
        {
            valid++;
            valid_taken += takes(g, json_string_value(one), json_string_length(one));
        }
        json_array_foreach(json_object_get(c, "no"), k, one)
        {
            invalid++;
            ck_assert_msg(!takes(g, json_string_value(one), json_string_length(one)),
                          "%s: %s takes %s", name, text, json_string_value(one));
        }
        grammar_unref(g);
    }
    printf("suite schemas=%zu compiled=%zu valid=%zu valid_taken=%zu invalid=%zu\n",
           json_array_size(all), compiled, valid, valid_taken, invalid);
    json_decref(all);
}
END_TEST

static const struct {
    const char *grammar, *yes[4], *no[4];
} gbnf[] = {
    {"root ::= \"a\" b*\nb ::= [0-9] | \"(\" b \")\"", {"a", "a1", "a(1)2"}, {"", "ab", "a(1"}},
    {"root ::= (\n \"a\" |\n \"b\" ){2,3} # c\n", {"ab", "aba"}, {"a", "abab"}},
    {"root ::= item+\nitem ::= \"- \" [^\\n]+ \"\\n\"", {"- x\n", "- x\n- y\n"}, {"- \n", "- x"}},
    {"root ::= \"\\x41\\u00e9\" .",
     {"A\xC3\xA9\xE6\x97\xA5"},
     {"A\xC3\xA9", "A\xC3\xA9"
                   "ab"}},
    {"root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9]+ | \"(\" e \")\"",
     {"1+(2+3)", "((4))"},
     {"1+(", "()"}},
    {"root ::= r?\nr ::= \"x\" r |\n  \"y\"", {"", "xxxy"}, {"xx"}},
    {"root ::= \"a\"{2} \"b\"{1,} \"c\"{,2}", {"aab", "aabbcc"}, {"ab", "aabccc"}},
};

START_TEST(gbnf_grammars)
{
    struct grammar *g = get(GRAMMAR_GBNF, gbnf[_i].grammar);
    for (int i = 0; i < 4 && gbnf[_i].yes[i]; i++)
        ck_assert_msg(takes(g, gbnf[_i].yes[i], strlen(gbnf[_i].yes[i])), "%s", gbnf[_i].yes[i]);
    for (int i = 0; i < 4 && gbnf[_i].no[i]; i++)
        ck_assert_msg(!takes(g, gbnf[_i].no[i], strlen(gbnf[_i].no[i])), "%s", gbnf[_i].no[i]);
    grammar_unref(g);
}
END_TEST

static const struct {
    enum grammar_kind kind;
    const char *text, *says;
} refused[] = {
    {GRAMMAR_GBNF, "root ::= x", "no rule 'x'"},
    {GRAMMAR_GBNF, "x ::= \"a\"", "no rule 'root'"},
    {GRAMMAR_GBNF, "", "no rule 'root'"},
    {GRAMMAR_GBNF, "root ::= root \"a\" | \"b\"", "left recursion"},
    {GRAMMAR_GBNF, "root ::= a\na ::= \"\" b\nb ::= a \"x\" | \"y\"", "left recursion"},
    {GRAMMAR_GBNF, "root ::= \"a\"\nroot ::= \"b\"", "line 2: a rule is defined twice"},
    {GRAMMAR_GBNF, "root = \"a\"", "line 1: ::="},
    {GRAMMAR_GBNF, "root ::= \"a", "not closed"},
    {GRAMMAR_GBNF, "root ::= [a", "not closed"},
    {GRAMMAR_GBNF, "root ::= (\"a\"", "not closed"},
    {GRAMMAR_GBNF, "root ::= \"\\q\"", "escape"},
    {GRAMMAR_GBNF, "root ::= \"a\" x\nx ::= \"b\" x", "no text"},
    {GRAMMAR_GBNF, "root ::= \"\xC3\"", "UTF-8"},
    {GRAMMAR_CHOICE, "[]", "list"},
    {GRAMMAR_CHOICE, "[1]", "no string"},
    {GRAMMAR_CHOICE, "{", "choice"},
    {GRAMMAR_JSON_SCHEMA, "{", "schema"},
    {GRAMMAR_REGEX, "[ab]*a[ab]{30}", "too large"},
};

START_TEST(refusals)
{
    struct error err = ERROR_INIT;
    struct grammar *g = NULL;
    enum status s = grammars_get(grammars, refused[_i].kind, refused[_i].text,
                                 strlen(refused[_i].text), &g, &err);
    ck_assert_int_ne(s, ST_OK);
    ck_assert_msg(!g && strstr(err.text, refused[_i].says), "%s", err.text);
}
END_TEST

/* ---- allowed tokens ---- */

static const struct {
    enum grammar_kind kind;
    const char *text;
} walked[] = {
    {GRAMMAR_JSON_OBJECT, ""},
    {GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
     "\"integer\"},\"s\":{\"type\":\"string\",\"maxLength\":5}},\"required\":[\"n\"]}}"},
    {GRAMMAR_JSON_SCHEMA,
     "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"anyOf\":[{\"type\":\"null\"},"
     "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}]}}}"},
    {GRAMMAR_REGEX, "(?:the |a ){1,3}[a-z]+(?:, [a-z]+)*\\."},
    {GRAMMAR_REGEX, ".*"},
    {GRAMMAR_REGEX, "([A-Z]?[a-z]{1,6}[,;]? ){3,9}[a-z]{1,6}\\."},
    {GRAMMAR_CHOICE, "[\"yes\",\"yesterday\",\"no\",\" no\",\"\xE6\x97\xA5\"]"},
    {GRAMMAR_GBNF, "root ::= s \"!\"\ns ::= \"(\" s \")\" s | [a-c ]*"},
};

/* A token is allowed if it has bytes and the text goes on with them. */
static bool defined(struct grammar *g, const struct bytes *text, int32_t id)
{
    struct bytes whole = {0};
    bool alive = false, ends;
    if (tokenizer_special(tokenizer, id))
        return false;
    ck_assert(bytes_append(&whole, text->v ? text->v : "", text->n));
    ck_assert_int_eq(tokenizer_bytes(tokenizer, id, &whole, NULL), ST_OK);
    if (whole.n > text->n)
        ck_assert_int_eq(follow_text(grammar_tables(g), whole.v, whole.n, &alive, &ends, NULL),
                         ST_OK);
    bytes_free(&whole);
    return alive;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Every token of the vocabulary behind every token of random texts. */
static void check_walks(struct grammar *g, const char *name, int walks, int32_t steps,
                        uint32_t *random)
{
    int32_t vocab = tokenizer_size(tokenizer), words = grammar_words(g), tokens[32];
    uint64_t *bits = calloc((size_t)words, sizeof *bits);
    for (int walk = 0; walk < walks; walk++) {
        struct follower f = {0};
        struct bytes text = {0};
        for (int32_t n = 0; n < steps; n++) {
            bool ends, any;
            ck_assert_int_eq(
                follow_allowed(grammar_tables(g), &f, tokens, n, bits, &ends, &any, NULL), ST_OK);
            ck_assert_int_eq(ends, takes(g, text.v ? text.v : "", text.n));
            int32_t count = 0;
            for (int32_t id = 0; id < vocab; id++) {
                bool may = bits[id / 64] >> id % 64 & 1;
                count += may;
                ck_assert_msg(may == defined(g, &text, id), "%s: token %d at %d of walk %d", name,
                              id, n, walk);
            }
            ck_assert(any == (count > 0) && (any || ends));
            if (!any)
                break;
            int32_t pick = (int32_t)(next_random(random) % (uint32_t)count), id = -1;
            while (pick >= 0) {
                id++;
                pick -= bits[id / 64] >> id % 64 & 1;
            }
            tokens[n] = id;
            ck_assert_int_eq(tokenizer_bytes(tokenizer, id, &text, NULL), ST_OK);
        }
        bytes_free(&text);
    }
    free(bits);
}

START_TEST(allowed_by_definition)
{
    struct grammar *g = get(walked[_i].kind, walked[_i].text);
    uint32_t random = 7;
    check_walks(g, walked[_i].text, 2, 16, &random);
    grammar_unref(g);
}
END_TEST

/* ---- random grammars: counted repetitions in each other, behind each other, beside each other
 * ---- */

struct writer {
    char text[4096];
    size_t n;
    uint32_t random;
};

static int roll(struct writer *w, int n)
{
    return (int)(next_random(&w->random) % (uint32_t)n);
}

static void put(struct writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    w->n += (size_t)vsnprintf(w->text + w->n, sizeof w->text - w->n, format, args);
    va_end(args);
    ck_assert_uint_lt(w->n, sizeof w->text);
}

static void put_repeat(struct writer *w)
{
    int from = roll(w, 4), to = from + roll(w, 9);
    switch (roll(w, 6)) {
    case 0:
        put(w, "%c", "?*+"[roll(w, 3)]);
        break;
    case 1:
        put(w, "{%d}", from + 1);
        break;
    case 2:
        put(w, "{%d,}", from);
        break;
    default:
        put(w, "{%d,%d}", from, to + 1);
    }
}

static void put_regex(struct writer *w, int depth)
{
    static const char *const atoms[] = {"[a-z]", "[a-m ]", "[^a-f]",  ".", "[A-Za-z ,]",
                                        "e",     "th",     "[aeiou]", "é", "[^ ]"};
    for (int i = 1 + roll(w, 3); i > 0; i--) {
        if (depth && !roll(w, 3)) {
            put(w, "(");
            put_regex(w, depth - 1);
            if (!roll(w, 2)) {
                put(w, "|");
                put_regex(w, depth - 1);
            }
            put(w, ")");
        } else {
            put(w, "%s", atoms[roll(w, 10)]);
        }
        if (roll(w, 3))
            put_repeat(w);
    }
}

static void put_schema(struct writer *w, int depth)
{
    int from = roll(w, 5);
    switch (roll(w, depth ? 6 : 4)) {
    case 0:
        put(w, "{\"type\":\"string\",\"maxLength\":%d}", roll(w, 12));
        break;
    case 1:
        put(w, "{\"type\":\"string\",\"minLength\":%d,\"maxLength\":%d}", from, from + roll(w, 9));
        break;
    case 2:
        put(w, "{\"type\":\"string\",\"pattern\":\"^");
        put_regex(w, 1);
        put(w, "$\"}");
        break;
    case 3:
        put(w, "{\"type\":\"string\",\"minLength\":%d}", from);
        break;
    case 4:
        put(w, "{\"type\":\"array\",\"minItems\":1,\"maxItems\":%d,\"items\":", 1 + from);
        put_schema(w, depth - 1);
        put(w, "}");
        break;
    default:
        put(w, "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":");
        put_schema(w, depth - 1);
        put(w, ",\"the\":");
        put_schema(w, depth - 1);
        put(w, "}}");
    }
}

/* Words of bounded length, so many of them. */
static void put_list(struct writer *w)
{
    static const char *const firsts[] = {"", "[A-Z]?", "(the|a)?", "\"?", "[A-Z]"};
    static const char *const letters[] = {"[a-z]", "[a-m]", "[^ ]", "[a-zé]", "."};
    static const char *const lasts[] = {"", "[,;]?", "(, )?", "[.]{0,2}", "-?"};
    static const char *const ends[] = {"", "[a-z]{1,4}\\.", "the", "[a-z]*", "\\.?"};
    int least = 1 + roll(w, 3), from = roll(w, 5);
    const char *end = ends[roll(w, 5)]; // one by one: arguments have no order
    int to = from + 1 + roll(w, 9);
    const char *last = lasts[roll(w, 5)];
    int most = least + 1 + roll(w, 7);
    const char *letter = letters[roll(w, 5)], *first = firsts[roll(w, 5)];
    put(w, "(%s%s{%d,%d}%s ){%d,%d}%s", first, letter, least, most, last, from, to, end);
}

START_TEST(lists_by_definition)
{
    struct writer w = {.random = 77000 * (uint32_t)_i};
    put_list(&w);
    struct grammar *g = get(GRAMMAR_REGEX, w.text);
    check_walks(g, w.text, 1, 12, &w.random);
    grammar_unref(g);
}
END_TEST

START_TEST(random_by_definition)
{
    for (uint32_t i = 0; i < RANDOM_EACH; i++) {
        struct writer w = {.random = 1000 * (uint32_t)_i + i};
        struct grammar *g = NULL;
        bool schema = i % 2;
        if (schema)
            put_schema(&w, 2);
        else
            put_regex(&w, 1);
        struct error err = ERROR_INIT;
        enum status s = grammars_get(grammars, schema ? GRAMMAR_JSON_SCHEMA : GRAMMAR_REGEX, w.text,
                                     w.n, &g, &err);
        ck_assert_msg(!s || s == ST_INVALID_VALUE, "%s: %s", w.text, err.text);
        if (!s)
            check_walks(g, w.text, 1, 8, &w.random);
        grammar_unref(g);
    }
}
END_TEST

/* Set back, forgotten, or with tables that begin anew all the time: the same tokens are allowed. */
START_TEST(followers_are_notes)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
        "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}}}";
    static const char text[] = "{\"name\": \"the wife\", \"tags\": [\"of\", \"captain\"]}";
    struct token_ids ids = {0};
    struct automaton a;
    struct spellings *s;
    struct tables *large, *small;
    int32_t vocab = tokenizer_size(tokenizer);
    size_t words = ((size_t)vocab + 63) / 64;
    uint64_t *one = calloc(words, sizeof *one), *two = calloc(words, sizeof *two);
    struct follower f = {0}, back = {0}, other = {0};
    bool ends[2], any[2], alive;
    ck_assert_int_eq(tokenizer_encode(tokenizer, text, strlen(text), false, &ids, NULL), ST_OK);
    ck_assert_int_eq(grammar_compile(GRAMMAR_JSON_SCHEMA, schema, strlen(schema), &a, NULL), ST_OK);
    ck_assert_int_eq(spellings_open(tokenizer, vocab, &s, NULL), ST_OK);
    ck_assert_int_eq(tables_open(&a, s, (size_t)64 << 20, &large, NULL), ST_OK);
    ck_assert_int_eq(tables_open(&a, s, 1, &small, NULL), ST_OK);
    for (int32_t n = 0; n <= (int32_t)ids.n; n++) {
        ck_assert_int_eq(follow_allowed(large, &f, ids.v, n, one, &ends[0], &any[0], NULL), ST_OK);
        ck_assert_int_eq(follow_allowed(small, &other, ids.v, n, two, &ends[1], &any[1], NULL),
                         ST_OK);
        ck_assert(!memcmp(one, two, words * sizeof *one) && ends[0] == ends[1] && any[0] == any[1]);
        ck_assert_int_eq(follow_tokens(large, &back, ids.v, n / 2, &alive, NULL), ST_OK);
        ck_assert_int_eq(follow_allowed(large, &back, ids.v, n, two, &ends[1], &any[1], NULL),
                         ST_OK);
        ck_assert(!memcmp(one, two, words * sizeof *one));
    }
    ck_assert(ends[0] && f.config > 1);
    ids.v[0] = vocab + 5; // no token
    ck_assert_int_eq(follow_tokens(large, &(struct follower){0}, ids.v, 2, &alive, NULL), ST_OK);
    ck_assert(!alive);
    tables_close(large);
    tables_close(small);
    spellings_close(s);
    automaton_clear(&a);
    token_ids_free(&ids);
    free(one);
    free(two);
}
END_TEST

START_TEST(one_shelf)
{
    struct grammar *a = get(GRAMMAR_REGEX, "a+"), *b = get(GRAMMAR_REGEX, "a+");
    struct grammar *c = get(GRAMMAR_GBNF, "root ::= \"a\"");
    char text[32];
    ck_assert(a == b && a != c);
    for (int i = 0; i < 40; i++) { // it leaves the shelf and stays ours
        snprintf(text, sizeof text, "b{%d}", i + 1);
        grammar_unref(get(GRAMMAR_REGEX, text));
    }
    ck_assert(takes(a, "aa", 2));
    b = get(GRAMMAR_REGEX, "a+");
    ck_assert(a != b);
    grammar_unref(a);
    grammar_unref(a);
    grammar_unref(b);
    grammar_unref(c);
}
END_TEST

/* Every reading of "aaaa..." as one-or-two a's ends on another stack. */
START_TEST(too_ambiguous)
{
    char text[3001];
    bool alive, ends;
    struct error err = ERROR_INIT;
    struct grammar *g = get(GRAMMAR_GBNF, "root ::= x\nx ::= \"a\" x \"b\" | \"a\" x \"c\" | y\n"
                                          "y ::= \"a\" y \"d\" | \"e\"");
    memset(text, 'a', sizeof text - 1);
    text[3000] = 0;
    ck_assert_int_eq(follow_text(grammar_tables(g), text, 3000, &alive, &ends, &err),
                     ST_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "ambiguous"));
    ck_assert_int_eq(follow_text(grammar_tables(g), "aed", 3, &alive, &ends, &err), ST_OK);
    ck_assert(ends);
    grammar_unref(g);
}
END_TEST

/* Nothing of either schema is left out. */
START_TEST(memory_runs_out_in_a_merge)
{
    json_t *schema =
        json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{}}, s:[{s:{s:{s:i}, s:{s:s}}, s:[s]}]}", "type",
                  "object", "properties", "a", "type", "string", "b", "type", "null", "c", "allOf",
                  "properties", "a", "maxLength", 3, "d", "type", "number", "required", "a");
    json_t *whole = NULL;
    struct builder b = {0};
    char why[128];
    ck_assert_int_eq(schema_merge(&b, schema, schema, "allOf", NULL, &whole, why, sizeof why),
                     ST_OK);
    ck_assert_uint_eq(json_object_size(json_object_get(whole, "properties")), 4);
    FAULT_EACH(n)
    {
        long before = fault_live();
        json_t *merged = NULL;
        enum status s = schema_merge(&b, schema, schema, "allOf", NULL, &merged, why, sizeof why);
        bool fired = fault_disarm();
        ck_assert_int_eq(s, fired ? ST_OUT_OF_MEMORY : ST_OK);
        ck_assert_msg(s || json_equal(merged, whole), "allocation %ld", n);
        json_decref(merged);
        ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
    }
    json_decref(whole);
    json_decref(schema);
}
END_TEST

START_TEST(memory_runs_out)
{
    const char *text = walked[_i].text;
    int32_t tokens[2] = {0};
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct grammars *all = NULL;
        struct grammar *g = NULL;
        struct follower f = {0};
        uint64_t bits[64];
        bool ends, any;
        struct error err = ERROR_INIT;
        enum status s = grammars_open(tokenizer, tokenizer_size(tokenizer), &all, &err);
        s = s ? s : grammars_get(all, walked[_i].kind, text, strlen(text), &g, &err);
        s = s ? s : follow_allowed(grammar_tables(g), &f, tokens, 0, bits, &ends, &any, &err);
        bool fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "%ld: %s", n, err.text);
        if (g) { // and again, with memory
            ck_assert_int_eq(
                follow_allowed(grammar_tables(g), &f, tokens, 0, bits, &ends, &any, &err), ST_OK);
            ck_assert(any);
        }
        grammar_unref(g);
        grammars_close(all);
        error_clear(&err);
        ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("grammar");
    TCase *t = tcase_create("grammar");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, as_the_libraries_say);
    tcase_add_loop_test(t, gbnf_grammars, 0, sizeof gbnf / sizeof gbnf[0]);
    tcase_add_loop_test(t, refusals, 0, sizeof refused / sizeof refused[0]);
    tcase_add_loop_test(t, allowed_by_definition, 0, sizeof walked / sizeof walked[0]);
    tcase_add_loop_test(t, random_by_definition, 0, RANDOM_SETS);
    tcase_add_loop_test(t, lists_by_definition, 0, RANDOM_SETS);
    tcase_add_test(t, followers_are_notes);
    tcase_add_test(t, one_shelf);
    tcase_add_test(t, too_ambiguous);
    tcase_add_loop_test(t, memory_runs_out, 1, sizeof walked / sizeof walked[0]);
    tcase_add_test(t, memory_runs_out_in_a_merge);
    suite_add_tcase(s, t);
    if (!getenv("GRAMMAR_SUITE"))
        return s;
    t = tcase_create("suite");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 600);
    tcase_add_test(t, somebodys_suite);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
