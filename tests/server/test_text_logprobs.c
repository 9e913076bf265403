/*
 * Whose a token's logprob is, by what its bytes made grow: texts, thoughts and calls, tags, bytes
 * that are held back, tokens without bytes; what frames have told; memory that runs out is said.
 */
#include "server/text_logprobs.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/check_main.h"
#include "tests/faults/fault.h"

struct step {
    const char *token;
    struct text_growth g; /* its bytes are the token's */
};
#define SAID(at, by)                                                                               \
    {                                                                                              \
        0, 0, at, by, false                                                                        \
    }
#define HELD(n)                                                                                    \
    {                                                                                              \
        0, n, NO_TEXT, 0, false                                                                    \
    }
#define TAG                                                                                        \
    {                                                                                              \
        0, 0, NO_TEXT, 0, false                                                                    \
    }
#define OTHER                                                                                      \
    {                                                                                              \
        0, 0, NO_TEXT, 0, true                                                                     \
    }

static const struct {
    struct step steps[8];
    const char *want[2]; /* the tokens of the texts 0 and 2 */
} rows[] = {
    {{{"a", SAID(0, 1)}, {"bc", SAID(0, 2)}, {"", TAG}}, {"a bc  ", ""}},
    {{{"", TAG}, {"a", SAID(0, 1)}}, {" a ", ""}},
    /* a tag that was none, and one that was */
    {{{"a", SAID(0, 1)}, {"<t", HELD(2)}, {"u", SAID(0, 3)}}, {"a <t u ", ""}},
    {{{"a", SAID(0, 1)},
      {"<t", HELD(2)},
      {">f", OTHER},
      {"<", HELD(1)},
      {"/t>", TAG},
      {"b", SAID(2, 1)}},
     {"a ", "b "}},
    /* a header, of which all is held until it ends, and then text in the same token */
    {{{"<m", HELD(2)}, {">b", SAID(2, 1)}, {"c", SAID(2, 1)}}, {"", ">b c "}},
    /* half a character belongs with the next byte, the end with the text at hand */
    {{{"f", OTHER}, {"", TAG}, {"b", SAID(2, 1)}, {"", TAG}}, {"", " b  "}},
    {{{"f", OTHER}, {"", TAG}, {"</t>", TAG}, {"b", SAID(2, 1)}}, {"", "b "}},
    {{{"a", SAID(0, 1)}, {"f", OTHER}, {"", TAG}}, {"a ", ""}},
    /* one that ends a text and begins a tag */
    {{{"a <", {0, 1, 0, 2, false}}, {"t>f", OTHER}, {"", TAG}}, {"a < ", ""}},
};

/* The tokens of a list of entries, each with a space behind it. */
static void read_tokens(const struct buffer *list, char *out)
{
    json_t *v;
    size_t i;
    char *text = NULL;
    ck_assert_int_ge(asprintf(&text, "[%.*s]", (int)list->len, list->len ? list->v : ""), 0);
    json_t *all = json_loads(text, 0, NULL);
    ck_assert_msg(all != NULL, "%s", text);
    *out = 0;
    json_array_foreach(all, i, v)
    {
        strcat(out, json_string_value(json_object_get(v, "token")));
        strcat(out, " ");
    }
    json_decref(all);
    free(text);
}

static void check_text(struct text_logprobs *l, size_t slot, const char *want)
{
    struct buffer out = {0};
    char got[200];
    text_logprobs_write(l, slot, false, &out);
    read_tokens(&out, got);
    ck_assert_str_eq(got, want);
    buffer_free(&out);
}

/* Reads the tokens; told: what frames tell of the texts after each. */
static void take(struct text_logprobs *l, const struct step *steps, struct buffer *told)
{
    for (size_t i = 0; i < 8 && steps[i].token; i++) {
        struct text_growth g = steps[i].g;
        const struct token_info t = {
            .piece = steps[i].token, .piece_len = strlen(steps[i].token), .logprob = -1};
        g.bytes = t.piece_len;
        text_logprobs_read(l, &g);
        text_logprobs_add(l, &t);
        for (size_t slot = 0; told && slot <= 2; slot += 2) {
            struct buffer some = {0};
            text_logprobs_write(l, slot, true, &some);
            buffer_text(told, told->len && some.len ? "," : "");
            buffer_add(told, some.v, some.len);
            buffer_free(&some);
        }
    }
}

START_TEST(test_rows)
{
    struct text_logprobs l = {0};
    struct buffer told = {0};
    char got[200], want[200];
    take(&l, rows[_i].steps, &told);
    ck_assert(!text_logprobs_failed(&l));
    check_text(&l, 0, rows[_i].want[0]);
    check_text(&l, 2, rows[_i].want[1]);
    check_text(&l, 4, "");
    read_tokens(&told, got);
    snprintf(want, sizeof want, "%s%s", rows[_i].want[0], rows[_i].want[1]);
    ck_assert_str_eq(got, want);
    buffer_free(&told);
    text_logprobs_free(&l);
}
END_TEST

START_TEST(test_faults)
{
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct text_logprobs l = {0};
        take(&l, rows[_i].steps, NULL);
        bool fired = fault_disarm();
        ck_assert_msg(text_logprobs_failed(&l) == fired, "allocation %ld", n);
        if (!fired)
            check_text(&l, 0, rows[_i].want[0]);
        text_logprobs_free(&l);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/text_logprobs");
    TCase *c = tcase_create("all");
    tcase_add_loop_test(c, test_rows, 0, sizeof rows / sizeof rows[0]);
    tcase_add_loop_test(c, test_faults, 0, sizeof rows / sizeof rows[0]);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
