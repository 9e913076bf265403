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

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/tokenizer");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, golden, 0, sizeof names / sizeof names[0]);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
