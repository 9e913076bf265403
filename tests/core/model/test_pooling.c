/* What sentence-transformers' files in a model's folder say about its embedding. The numbers of
 * each mode are held against the real library by tests/live/test_embeddings.py. */
#include "tests/core/model/memory_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/faults/fault.h"

static char folder[] = "/tmp/test_pooling_XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

static void make_folder(void)
{
    char path[128];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (const char *const *p = (const char *const[]){"1_Pooling", "9_P", NULL}; *p; p++) {
        snprintf(path, sizeof path, "%s/%s", folder, *p);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
}

static void remove_folder(void)
{
    char path[128];
    write_file("modules.json", NULL);
    write_file("1_Pooling/config.json", NULL);
    write_file("9_P/config.json", NULL);
    for (const char *const *p = (const char *const[]){"1_Pooling", "9_P", "", NULL}; *p; p++) {
        snprintf(path, sizeof path, "%s/%s", folder, *p);
        rmdir(path);
    }
}

static enum status open_there(struct memory_checkpoint *mc, struct model **m, struct error *err)
{
    const struct model_options options = {.claim_only = true};
    mc->cp.dir = folder;
    return model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, m, err);
}

#define STEP(type, path) "{\"idx\":0,\"name\":\"0\",\"path\":\"" path "\",\"type\":\"" type "\"}"
#define POOLING(path)    STEP("sentence_transformers.models.Pooling", path)

static const struct {
    const char *steps, *file, *config;
    enum pooling pooling; /* POOLING_NONE: none, because `word` */
    const char *word;     /* of the reason; a code's: the folder is refused */
} cases[] = {
    {NULL, NULL, NULL, POOLING_LAST, NULL},
    {NULL, "1_Pooling", "{}", POOLING_MEAN, NULL},
    {NULL, "1_Pooling", "{\"pooling_mode\":\"cls\",\"embedding_dimension\":128}", POOLING_FIRST,
     NULL},
    {NULL, "1_Pooling", "{\"pooling_mode\":[\"weightedmean\"]}", POOLING_WEIGHTED, NULL},
    {NULL, "1_Pooling", "{\"pooling_mode_max_tokens\":true,\"pooling_mode_mean_tokens\":false}",
     POOLING_MAX, NULL},
    {NULL, "1_Pooling", "{\"pooling_mode_mean_tokens\":false,\"word_embedding_dimension\":128}",
     POOLING_MEAN, NULL},
    {NULL, "1_Pooling", "{\"pooling_mode_lasttoken\":true,\"pooling_mode_cls_token\":true}",
     POOLING_NONE, "several"},
    {NULL, "1_Pooling", "{\"pooling_mode\":[\"cls\",\"max\"]}", POOLING_NONE, "several"},
    {"[" STEP("Transformer", "") "," POOLING("9_P") "," STEP("a.Normalize", "") "]", "9_P",
     "{\"pooling_mode\":\"mean_sqrt_len_tokens\"}", POOLING_MEAN_SQRT, NULL},
    {"[" STEP("Transformer", "") "]", "9_P", "{}", POOLING_LAST, NULL},
    {"[" POOLING("9_P") "," STEP("a.b.Dense", "2_Dense") "]", "9_P", "{}", POOLING_NONE, "Dense"},
    {"[" POOLING("9_P") "]", NULL, NULL, POOLING_NONE, "file_unreadable"},
    {"[" POOLING("..") "]", NULL, NULL, POOLING_NONE, "config_invalid_value"},
    {"[" POOLING("a/b") "]", NULL, NULL, POOLING_NONE, "config_invalid_value"},
    {"[" POOLING("") "]", NULL, NULL, POOLING_NONE, "config_invalid_value"},
    {"[{\"type\":3}]", NULL, NULL, POOLING_NONE, "config_invalid_value"},
    {"{}", NULL, NULL, POOLING_NONE, "checkpoint_invalid"},
    {"[", NULL, NULL, POOLING_NONE, "checkpoint_invalid"},
    {NULL, "1_Pooling", "[]", POOLING_NONE, "checkpoint_invalid"},
    {NULL, "1_Pooling", "{\"pooling_mode\":\"median\"}", POOLING_NONE, "config_invalid_value"},
    {NULL, "1_Pooling", "{\"pooling_mode\":[]}", POOLING_NONE, "config_invalid_value"},
    {NULL, "1_Pooling", "{\"pooling_mode_cls_token\":\"yes\"}", POOLING_NONE,
     "config_invalid_value"},
    {NULL, "1_Pooling", "{\"embedding_dimension\":127}", POOLING_NONE, "config_invalid_value"},
};

static void put_files(int i)
{
    char path[64];
    write_file("modules.json", cases[i].steps);
    write_file("1_Pooling/config.json", NULL);
    write_file("9_P/config.json", NULL);
    if (!cases[i].file)
        return;
    snprintf(path, sizeof path, "%s/config.json", cases[i].file);
    write_file(path, cases[i].config);
}

START_TEST(folders)
{
    struct memory_checkpoint mc;
    struct model *m;
    struct error err = ERROR_INIT;
    memory_checkpoint_llama(&mc);
    put_files(_i);
    enum status s = open_there(&mc, &m, &err);
    if (s) {
        ck_assert_str_eq(status_code(s), cases[_i].word);
        ck_assert_uint_eq(err.findings.errors, 1);
        error_clear(&err);
    } else {
        ck_assert_int_eq(m->pooling, cases[_i].pooling);
        ck_assert_int_eq(m->score == SCORE_OTHER,
                         cases[_i].word && !strcmp(cases[_i].word, "Dense"));
        ck_assert_int_eq(m->no_embedding != NULL, m->pooling == POOLING_NONE);
        if (m->no_embedding)
            ck_assert_ptr_nonnull(strstr(m->no_embedding, cases[_i].word));
        model_close(m);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

/* What the logit of a pair goes through. */
static const struct {
    bool listed;             /* there is a modules.json */
    const char *own;         /* config_sentence_transformers.json */
    const char *key, *value; /* of config.json */
    int score;               /* -1: the folder is refused */
} scores[] = {
    {false, NULL, NULL, NULL, SCORE_SIGMOID},
    {true, "{\"activation_fn\":\"torch.nn.modules.linear.Identity\"}", NULL, NULL, SCORE_LOGIT},
    {true, "{\"activation_fn\":\"torch.nn.modules.activation.Tanh\"}", NULL, NULL, SCORE_OTHER},
    {true, "{\"activation_fn\":\"mine.Tanh\"}", NULL, NULL, SCORE_SIGMOID},
    {true, "{\"activation_fn\":null}", "sbert_ce_default_activation_function",
     "torch.nn.modules.linear.Identity", SCORE_LOGIT},
    {true, "{\"activation_fn\":\"torch.nn.modules.activation.Sigmoid\"}",
     "sbert_ce_default_activation_function", "torch.nn.modules.linear.Identity", SCORE_SIGMOID},
    {false, "{\"activation_fn\":\"torch.nn.modules.linear.Identity\"}", NULL, NULL, SCORE_SIGMOID},
    {true, "[]", NULL, NULL, -1},
};

START_TEST(scoring)
{
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    put_files(0);
    write_file("modules.json", scores[_i].listed ? "[" STEP("a.Transformer", "") "]" : NULL);
    write_file("config_sentence_transformers.json", scores[_i].own);
    if (scores[_i].key)
        json_object_set_new(mc.cp.config, scores[_i].key, json_string(scores[_i].value));
    enum status s = open_there(&mc, &m, NULL);
    write_file("config_sentence_transformers.json", NULL);
    ck_assert_int_eq(s == ST_OK, scores[_i].score >= 0);
    if (!s) {
        ck_assert_int_eq(m->score, scores[_i].score);
        ck_assert_int_eq(m->other_score != NULL, m->score == SCORE_OTHER);
        model_close(m);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(memory_runs_out)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    put_files(_i);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct model *m;
        struct error err = ERROR_INIT;
        enum status s = open_there(&mc, &m, &err);
        bool fired = fault_disarm();
        ck_assert_msg(!s || (fired && s == ST_OUT_OF_MEMORY), "call %ld: %s", n, err.text);
        if (!s) {
            ck_assert_int_eq(m->pooling, cases[_i].pooling);
            model_close(m);
        }
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pooling");
    TCase *t = tcase_create("pooling");
    int n = (int)(sizeof cases / sizeof cases[0]);
    tcase_add_unchecked_fixture(t, make_folder, remove_folder);
    tcase_add_loop_test(t, folders, 0, n);
    tcase_add_loop_test(t, scoring, 0, (int)(sizeof scores / sizeof scores[0]));
    tcase_add_loop_test(t, memory_runs_out, 8, 11);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
