/* Every golden case of the thirteen published configurations. */
#include "tests/core/tokenizer/cases.h"

static const char *const names[] = {"gpt2",     "opt",         "llama3",
                                    "qwen2",    "deepseek-v3", "falcon",
                                    "gpt-neox", "llama2",      "llama1-normalized",
                                    "phi3",     "gemma",       "bert-uncased",
                                    "t5"};

START_TEST(golden)
{
    cases_run("tokenizers", names[_i]);
}
END_TEST

/* The demo's own: a byte-level vocabulary gives every text back. */
START_TEST(demo)
{
    static const char text[] =
        "It's  1984,\r\n na\xC3\xAFve \xE6\x9D\xB1\xE4\xBA\xAC \xF0\x9F\x98\x80 \0 end";
    struct tokenizer *t = cases_load("demo/base");
    struct token_ids ids = {0};
    char *back;
    size_t len;
    ck_assert_int_eq(tokenizer_size(t), 4096);
    ck_assert_int_eq(tokenizer_encode(t, text, sizeof text - 1, true, &ids, NULL), ST_OK);
    ck_assert_int_eq(ids.v[0], tokenizer_id(t, "<|begin|>"));
    ck_assert_int_eq(tokenizer_decode(t, ids.v, ids.n, true, &back, &len, NULL), ST_OK);
    ck_assert(len == sizeof text - 1 && !memcmp(back, text, len));
    free(back);
    token_ids_free(&ids);
    tokenizer_free(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/tokenizer");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, golden, 0, sizeof names / sizeof names[0]);
    tcase_add_test(c, demo);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
