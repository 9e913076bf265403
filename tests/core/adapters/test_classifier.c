/* Classification heads in adapters' files: PEFT's own on every family, what is refused by name, and
 * memory that runs out. */
#include "tests/core/model/fixture.h"

#include "backends/kernels/cpu.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct kernels *cpu;
static struct findings found;
static const struct adapter_options strict;

static void setup(void)
{
    struct error err = ERROR_INIT;
    ck_assert(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &cpu, &err) == ST_OK);
    fixture_kernels = cpu;
    toy_dir();
}

static void teardown(void)
{
    findings_clear(&found);
    toy_remove_dir();
    fixture_kernels = &plain_kernels;
    cpu->close(cpu);
}

/* A base of tests/vectors/classes. */
struct base {
    struct checkpoint *cp;
    struct model *m;
};

static void base_open(struct base *b, const char *name)
{
    struct error err = ERROR_INIT;
    ck_assert_msg(checkpoint_open(fixture_path("classes", name), &b->cp, &err) == ST_OK, "%s",
                  err.text);
    ck_assert_msg(model_open(b->cp, &(struct model_options){0}, &chain_default, cpu, NULL, NULL,
                             &b->m, &err) == ST_OK,
                  "%s: %s", name, err.text);
}

static void base_close(struct base *b)
{
    model_close(b->m);
    checkpoint_close(b->cp);
}

static struct adapter *load(const struct base *b, const char *family, const char *name)
{
    struct error err = ERROR_INIT;
    struct adapter *a;
    char file[128];
    snprintf(file, sizeof file, "%s/adapters/%s", family, name);
    ck_assert_msg(adapter_load(b->m, cpu, fixture_path("classes", file), name, &strict, &a, &err) ==
                      ST_OK,
                  "%s: %s", file, err.text);
    ck_assert_int_eq(a->warnings.errors, 0);
    return a;
}

static const struct {
    const char *family;
    int layers; /* of a sequence's head */
    bool bias, tokens;
} families[] = {
    {"llama", 1, false, true},    {"mistral", 1, false, true},     {"qwen2", 1, false, true},
    {"qwen3", 1, false, true},    {"gemma", 1, false, true},       {"gemma2", 1, false, true},
    {"phi3", 1, false, true},     {"gpt2", 1, false, true},        {"gpt_neox", 1, false, true},
    {"falcon", 1, false, true},   {"opt", 1, false, false},        {"bert", 1, true, true},
    {"roberta", 2, true, true},   {"gemma/plain", 1, false, true}, {"llama/plain", 1, false, true},
    {"bert/plain", 1, true, true}};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

START_TEST(heads_of_each_family)
{
    struct base b;
    char family[32];
    snprintf(family, sizeof family, "%.*s", (int)strcspn(families[_i].family, "/"),
             families[_i].family);
    base_open(&b, families[_i].family);
    bool plain = strcmp(family, families[_i].family) != 0;
    ck_assert_int_eq(b.m->classifier, plain ? CLASSIFIER_NONE : CLASSIFIER_SEQUENCE);
    ck_assert_int_eq(b.m->labels, plain ? 0 : 3);
    struct adapter *a = load(&b, family, "a"), *all = load(&b, family, "b"), *rot = NULL;
    const struct classifier *head = a->adapted.classifier;
    ck_assert(head && head->kind == CLASSIFIER_SEQUENCE && head->labels == 3);
    ck_assert_int_eq(head->n_layers, families[_i].layers);
    for (int i = 0; i < head->n_layers; i++)
        ck_assert(head->layers[i].weight && !head->layers[i].bias == !families[_i].bias);
    const struct adapter *first, *second;
    ck_assert(adapter_heads_collide((struct adapter *[]){a, all}, 2, &first, &second));
    ck_assert(first == a && second == all);
    if (!plain) {
        rot = load(&b, family, "rot");
        ck_assert(!rot->adapted.classifier);
        ck_assert(!adapter_heads_collide((struct adapter *[]){rot, a}, 2, &first, &second));
    }
    struct adapter *half, *t = families[_i].tokens ? load(&b, family, "t") : NULL;
    ck_assert(!t || (t->adapted.classifier->kind == CLASSIFIER_TOKEN &&
                     t->adapted.classifier->labels == 4 && t->adapted.classifier->layers[0].bias));
    ck_assert(adapter_derive(b.m, cpu, a, 50, COMPUTE_EXACT, &half, NULL) == ST_OK);
    ck_assert(half->adapted.classifier == head); // a strength is of rotations
    adapter_unref(half);
    adapter_unref(a);
    adapter_unref(all);
    adapter_unref(rot);
    adapter_unref(t);
    base_close(&b);
}
END_TEST

/* ---- what is refused ---- */

#define ROTATION(layer) "model.layers." #layer ".self_attn.q_proj.oft_R.weight", DT_F32, 2, 28, 0.1f
#define SEQUENCE        "SEQ_CLS"
#define TOKENS          "TOKEN_CLS"

static const struct {
    const char *base, *task;
    struct toy_tensor head[3];
    enum status code;
    const char *field; /* that the finding names */
} refused[] = {
    {"llama", SEQUENCE, {{0}}, ST_TENSOR_MISSING, "base_model.model.score.weight"},
    {"llama", SEQUENCE, {{"score.weight", DT_F32, 3, 15, 1}}, ST_TENSOR_SHAPE_MISMATCH, "score"},
    {"llama", SEQUENCE, {{"score.weight", DT_F32, 3, -1, 1}}, ST_TENSOR_SHAPE_MISMATCH, "score"},
    {"llama", SEQUENCE, {{"score.weight", DT_F32, 0, 16, 1}}, ST_TENSOR_SHAPE_MISMATCH, "score"},
    {"llama", SEQUENCE, {{"score.weight", DT_I8, 3, 16, 1}}, ST_DTYPE_UNSUPPORTED, "score"},
    {"llama", SEQUENCE, {{"score.weight", DT_F32, 3, 16, NAN}}, ST_NON_FINITE_WEIGHTS, "score"},
    {"llama",
     SEQUENCE,
     {{"score.weight", DT_F32, 3, 16, 1}, {"score.bias", DT_F32, 3, -1, 1}},
     ST_TENSOR_UNEXPECTED,
     "score.bias"},
    {"llama", TOKENS, {{"score.weight", DT_F32, 3, 16, 1}}, ST_TENSOR_MISSING, "score.bias"},
    {"llama",
     TOKENS,
     {{"score.weight", DT_F32, 3, 16, 1}, {"score.bias", DT_F32, 4, -1, 1}},
     ST_TENSOR_SHAPE_MISMATCH,
     "score.bias"},
    {"llama",
     SEQUENCE,
     {{"score.weight", DT_F32, 3, 16, 1}, {"lm_head.weight", DT_F32, 40, 16, 1}},
     ST_MODULES_TO_SAVE_UNSUPPORTED,
     "lm_head.weight"},
    {"llama/plain",
     "CAUSAL_LM",
     {{"score.weight", DT_F32, 3, 16, 1}},
     ST_MODULES_TO_SAVE_UNSUPPORTED,
     "score.weight"},
};
#define N_REFUSED ((int)(sizeof refused / sizeof *refused))

static void write_adapter(const char *task, const char *targets, const struct toy_tensor *v,
                          size_t n)
{
    char config[512];
    snprintf(config, sizeof config,
             "{\"peft_type\":\"OFT\",\"oft_block_size\":8,\"target_modules\":[\"%s\"],"
             "\"task_type\":\"%s\",\"modules_to_save\":[\"classifier\",\"score\"],"
             "\"peft_version\":\"0.21.2\"}",
             targets, task);
    toy_adapter(toy_path("a"), config, v, n);
}

static void validate(const struct base *b)
{
    findings_clear(&found);
    ck_assert(adapter_validate(b->m, cpu, toy_path("a"), &strict, &found, NULL) == ST_OK);
}

START_TEST(refused_by_name)
{
    struct base b;
    struct toy_tensor v[5] = {{ROTATION(0)}, {ROTATION(1)}};
    size_t n = 2;
    base_open(&b, refused[_i].base);
    for (size_t i = 0; i < 3 && refused[_i].head[i].name; i++)
        v[n++] = refused[_i].head[i];
    write_adapter(refused[_i].task, "q_proj", v, n);
    validate(&b);
    ck_assert_msg(found.n == 1, "%d: %zu findings", _i, found.n);
    ck_assert_str_eq(status_code(found.v[0].code), status_code(refused[_i].code));
    ck_assert_msg(strstr(found.v[0].field, refused[_i].field) != NULL, "%s", found.v[0].field);
    base_close(&b);
}
END_TEST

/* Classes that the base cannot have: tokens of opt, and what reads a pooler that is not stored. */
START_TEST(no_such_class)
{
    static const struct {
        const char *base, *task, *target, *rotation;
    } cases[] = {{"opt", TOKENS, "fc1", "model.decoder.layers.0.fc1.oft_R.weight"},
                 {"bert/token", SEQUENCE, "query",
                  "bert.encoder.layer.0.attention.self.query.oft_R.weight"}};
    for (size_t i = 0; i < 2; i++) {
        struct base b;
        const struct toy_tensor v[] = {
            {cases[i].rotation, DT_F32, 2, 28, 0.1f},
            {"bert.encoder.layer.1.attention.self.query.oft_R.weight", DT_F32, 2, 28, 0.1f}};
        base_open(&b, cases[i].base);
        write_adapter(cases[i].task, cases[i].target, v, i + 1);
        validate(&b);
        ck_assert_int_eq(found.n, 1);
        ck_assert_str_eq(status_code(found.v[0].code), "modules_to_save_unsupported");
        ck_assert_str_eq(found.v[0].field, "modules_to_save");
        base_close(&b);
    }
}
END_TEST

/* "dense" selects bert's pooler in BertForSequenceClassification only: the class of tokens has
 * none, so a file without its rotation is whole. */
START_TEST(targets_of_the_class)
{
    static const char *const dense[] = {"attention.output", "intermediate", "output"};
    char names[6][96];
    struct toy_tensor v[9];
    struct base b;
    size_t n = 0;
    base_open(&b, "bert");
    for (int layer = 0; layer < 2; layer++)
        for (int i = 0; i < 3; i++, n++) {
            snprintf(names[n], sizeof names[n], "bert.encoder.layer.%d.%s.dense.oft_R.weight",
                     layer, dense[i]);
            v[n] = (struct toy_tensor){names[n], DT_F32, i == 2 ? 3 : 2, 28, 0.1f};
        }
    v[n++] = (struct toy_tensor){"classifier.weight", DT_F16, 5, 16, 1};
    v[n++] = (struct toy_tensor){"classifier.bias", DT_F16, 5, -1, 1};
    write_adapter(TOKENS, "dense", v, n);
    validate(&b);
    ck_assert_int_eq(found.n, 0);
    write_adapter(SEQUENCE, "dense", v, n);
    validate(&b);
    ck_assert_int_eq(found.n, 1);
    ck_assert(found.v[0].code == ST_TENSOR_MISSING && strstr(found.v[0].field, "pooler.dense"));
    base_close(&b);
}
END_TEST

START_TEST(out_of_memory)
{
    struct base b;
    char dir[512];
    base_open(&b, "roberta");
    snprintf(dir, sizeof dir, "%s", fixture_path("classes", "roberta/adapters/a"));
    FAULT_EACH(n)
    {
        struct adapter *a = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = adapter_load(b.m, cpu, dir, "a", &strict, &a, &err);
        bool fired = fault_disarm();
        ck_assert_msg(fired ? s != ST_OK || a : s == ST_OK, "call %ld: %s", n, err.text);
        ck_assert(s == ST_OK || !a);
        adapter_unref(a);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    base_close(&b);
}
END_TEST

START_TEST(out_of_memory_of_a_base)
{
    struct checkpoint *cp;
    struct error why = ERROR_INIT;
    ck_assert(checkpoint_open(fixture_path("classes", "roberta"), &cp, &why) == ST_OK);
    FAULT_EACH(n)
    {
        struct model *m = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = model_open(cp, &(struct model_options){.memory_limit = 1 << 30},
                                   &chain_default, cpu, NULL, NULL, &m, &err);
        bool fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "call %ld: %s", n, err.text);
        model_close(m);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    checkpoint_close(cp);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/classifier");
    TCase *t = tcase_create("heads");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, heads_of_each_family, 0, N_FAMILIES);
    tcase_add_loop_test(t, refused_by_name, 0, N_REFUSED);
    tcase_add_test(t, no_such_class);
    tcase_add_test(t, targets_of_the_class);
    tcase_add_test(t, out_of_memory);
    tcase_add_test(t, out_of_memory_of_a_base);
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
