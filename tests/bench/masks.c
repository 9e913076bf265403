/*
 * masks DIR...: what structured outputs cost a step, for each kind of grammar and each folder's
 * tokenizer.json: random texts of the grammar, every step timed, on tables that have seen nothing
 * but their warming ("first") and again ("later"). Prints microseconds: the mean and the worst.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/grammar/grammar.h"

#define TEXTS 6
#define STEPS 160

static const struct {
    const char *name;
    enum grammar_kind kind;
    const char *text;
} kinds[] = {
    {"any object", GRAMMAR_JSON_OBJECT, ""},
    {"object of a schema", GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
     "\"integer\",\"minimum\":0,\"maximum\":150},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":["
     "\"red\",\"green\",\"blue\"]}},\"note\":{\"type\":\"string\"}},\"required\":[\"name\",\"age\","
     "\"tags\",\"note\"]}"},
    {"maxLength 200", GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"maxLength\":200}"},
    {"minLength 20, maxLength 200", GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"string\",\"minLength\":20,\"maxLength\":200}"},
    {"four bounded strings", GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":20},\"b\":{"
     "\"type\":\"string\",\"maxLength\":50},\"c\":{\"type\":\"string\",\"maxLength\":100},\"d\":{"
     "\"type\":\"string\",\"maxLength\":200}},\"required\":[\"a\",\"b\",\"c\",\"d\"]}"},
    {"pattern [a-zA-Z ]{3,80}", GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"string\",\"pattern\":\"^[a-zA-Z ]{3,80}$\"}"},
    {"regex .{1,500}", GRAMMAR_REGEX, ".{1,500}"},
    {"regex of words", GRAMMAR_REGEX, "([A-Z]?[a-z]{1,12}[,;]? ){3,40}[a-z]{1,12}\\."},
    {"regex .*", GRAMMAR_REGEX, ".*"},
    {"GBNF", GRAMMAR_GBNF,
     "root ::= line+\nline ::= \"- \" word (\" \" word)* \"\\n\"\nword ::= [a-z]+ | \"(\" word "
     "\")\""},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void must(enum status s, const struct error *err)
{
    if (!s)
        return;
    fprintf(stderr, "masks: %s\n", err->text);
    exit(1);
}

struct times {
    double sum, worst;
    int n;
};

/* A token of the set, chosen at random; -1: none. */
static int32_t pick(const uint64_t *bits, int32_t words, uint32_t *random)
{
    int32_t from = (int32_t)(next_random(random) % (uint32_t)words);
    for (int32_t i = 0; i < words; i++) {
        int32_t at = (from + i) % words;
        if (!bits[at])
            continue;
        uint64_t all = bits[at];
        for (uint32_t skip = next_random(random) % (uint32_t)__builtin_popcountll(all); skip--;)
            all &= all - 1;
        return at * 64 + __builtin_ctzll(all);
    }
    return -1;
}

static struct times texts(struct grammar *g)
{
    struct times t = {0};
    struct error err = ERROR_INIT;
    int32_t tokens[STEPS], words = grammar_words(g);
    uint64_t *bits = calloc((size_t)words, sizeof *bits);
    uint32_t random = 1;
    for (int i = 0; bits && i < TEXTS; i++) {
        struct follower f = {0};
        for (int32_t n = 0; n < STEPS; n++) {
            bool ends, any;
            double start = now();
            must(follow_allowed(grammar_tables(g), &f, tokens, n, bits, &ends, &any, &err), &err);
            double took = now() - start;
            t.sum += took;
            t.worst = took > t.worst ? took : t.worst;
            t.n++;
            if (!any)
                break;
            tokens[n] = pick(bits, words, &random);
        }
    }
    free(bits);
    return t;
}

static void measure(const char *dir)
{
    struct tokenizer *tokenizer;
    struct grammars *all;
    struct error err = ERROR_INIT;
    must(tokenizer_load(dir, &tokenizer, &err), &err);
    must(grammars_open(tokenizer, tokenizer_size(tokenizer), &all, &err), &err);
    struct grammar *g;
    must(grammars_get(all, GRAMMAR_REGEX, "a", 1, &g, &err), &err); // reads the spellings
    grammar_unref(g);
    printf("\n%d tokens\n%-28s %10s %9s %9s %9s %9s\n", tokenizer_size(tokenizer),
           "us a step (compiling: ms)", "compiling", "first", "worst", "later", "worst");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        double start = now();
        must(grammars_get(all, kinds[i].kind, kinds[i].text, strlen(kinds[i].text), &g, &err),
             &err);
        double compiled = now() - start;
        struct times first = texts(g), later = texts(g);
        printf("%-28s %10.1f %9.1f %9.1f %9.1f %9.1f\n", kinds[i].name, compiled / 1e3,
               first.sum / first.n, first.worst, later.sum / later.n, later.worst);
        grammar_unref(g);
    }
    grammars_close(all);
    tokenizer_free(tokenizer);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: masks DIR...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        measure(argv[i]);
    return 0;
}
