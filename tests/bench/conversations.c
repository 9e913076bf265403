/*
 * conversations DIR [TEMPLATE.jinja]: what a request of 8 KB costs before the model sees it:
 * reading its JSON (beside it: by jansson), rendering the base's chat template, tokenizing the
 * text, each apart. DIR holds tokenizer.json and the template, unless another one is named. Prints
 * microseconds of processor time, the median and the least of many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/json.h"
#include "core/template/template.h"
#include "core/tokenizer/tokenizer.h"

#define TIMES 301
#define SIZE  8192

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void must(enum status s, const struct error *err)
{
    if (!s)
        return;
    fprintf(stderr, "conversations: %s\n", err->text);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *times)
{
    qsort(times, TIMES, sizeof *times, by_size);
    printf("%-12s %8.1f %8.1f\n", what, times[TIMES / 2], times[0]);
}

/* A conversation of n messages, SIZE bytes of JSON together. */
static size_t write_body(char *text, int messages)
{
    static const char words[] =
        "The wife of the captain saw the old house, and \\\"he\\\" said: it is so. ";
    size_t n = (size_t)sprintf(text, "{\"model\":\"base\",\"messages\":[");
    for (int i = 0; i < messages; i++) {
        n += (size_t)sprintf(text + n, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "",
                             i % 2 ? "assistant" : "user");
        size_t until = 30 + (SIZE - 60) * (size_t)(i + 1) / (size_t)messages;
        while (n + sizeof words < until)
            n += (size_t)sprintf(text + n, "%s", words);
        n += (size_t)sprintf(text + n, "\"}");
    }
    return n + (size_t)sprintf(text + n, "],\"add_generation_prompt\":true,\"bos_token\":\"<s>\","
                                         "\"eos_token\":\"</s>\"}");
}

static void measure(const struct template *t, const struct tokenizer *tokenizer, int messages)
{
    static double parse[TIMES], jansson[TIMES], render[TIMES], encode[TIMES];
    struct error err = ERROR_INIT;
    char *body = malloc(2 * SIZE);
    size_t len = write_body(body, messages), out_len = 0;
    struct token_ids ids = {0};
    for (int i = 0; i < TIMES; i++) {
        json_t *v;
        struct buffer out = {0};
        double other = now();
        v = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        jansson[i] = now() - other;
        json_decref(v);
        double start = now();
        must(json_parse(body, len, JSON_DEPTH_MAX, "the body", &v, &err), &err);
        double parsed = now();
        must(template_render(t, v, 0, NULL, &out, &err), &err);
        double rendered = now();
        ids.n = 0;
        out_len = out.len;
        must(tokenizer_encode(tokenizer, out.v, out.len, true, &ids, &err), &err);
        encode[i] = now() - rendered;
        render[i] = rendered - parsed;
        parse[i] = parsed - start;
        buffer_free(&out);
        json_decref(v);
    }
    printf("\n%d messages, %zu bytes of JSON, %zu of prompt, %zu tokens\n%-12s %8s %8s\n", messages,
           len, out_len, (size_t)ids.n, "us", "median", "least");
    print("JSON", parse);
    print("  jansson", jansson);
    print("template", render);
    print("tokens", encode);
    token_ids_free(&ids);
    free(body);
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    struct tokenizer *tokenizer;
    struct template *t;
    char path[4096], *text;
    size_t len;
    if (argc < 2) {
        fprintf(stderr, "usage: conversations DIR [TEMPLATE.jinja]\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/chat_template.jinja", argv[1]);
    must(tokenizer_load(argv[1], &tokenizer, &err), &err);
    if (!tokenizer) {
        fprintf(stderr, "conversations: %s has no tokenizer.json\n", argv[1]);
        return 1;
    }
    must(json_read_text(argc > 2 ? argv[2] : path, 1 << 20, &text, &len, &err), &err);
    must(template_parse(text, len, &t, &err), &err);
    for (int messages = 1; messages <= 65; messages *= 8)
        measure(t, tokenizer, messages | 1);
    template_free(t);
    tokenizer_free(tokenizer);
    free(text);
    return 0;
}
