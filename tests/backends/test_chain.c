/* The order is PEFT's, the last row is the plain one, and every row is a whole back end. */
#include "tests/backends/fixture.h"

#include "backends/chain.h"

START_TEST(rows_are_complete_and_in_pefts_order)
{
    static const char *const order[] = {"bnb_8bit", "bnb_4bit", "eetq", "aqlm",   "awq",
                                        "gptq",     "hqq",      "inc",  "default"};
    const struct backend *const *row = chain_default.backends;
    size_t at = 0;
    for (; *row; row++) {
        while (at < 9 && strcmp(order[at], (*row)->name) != 0)
            at++;
        ck_assert_msg(at < 9, "%s is out of order", (*row)->name);
        ck_assert((*row)->claim && (*row)->load && (*row)->describe);
        ck_assert_msg(!(*row)->requantize == !(*row)->store, "%s", (*row)->name);
    }
    ck_assert_ptr_ne(row, chain_default.backends);
    ck_assert_str_eq(row[-1]->name, "default");
    ck_assert_ptr_nonnull(row[-1]->requantize);
}
END_TEST

/* Exactly one row answers for each module of a checkpoint. */
static void claims_are_exclusive(const char *dir, const char *module, const char *rows,
                                 const char *expected)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    int64_t n = json_integer_value(json_object_get(f.config, rows));
    int64_t k = json_integer_value(json_object_get(f.config, "hidden_size"));
    struct module_spec spec =
        fixture_spec(&f, module, n, k, json_object_get(f.config, "quantization_config"));
    for (const struct backend *const *row = chain_default.backends; *row; row++) {
        struct findings findings = {0};
        enum claim claim = (*row)->claim(&spec, &findings);
        bool mine = !strcmp((*row)->name, expected);
        ck_assert_msg((claim == CLAIM_CLAIMED) == mine, "%s: %s, %s", dir, module, (*row)->name);
        findings_clear(&findings);
    }
    fixture_close(&f);
}

START_TEST(one_row_answers)
{
    static const char *const q = "model.layers.0.self_attn.q_proj";
    static const struct {
        const char *dir, *backend;
    } fixtures[] = {
        {"fixtures/plain-f16", "default"},       {"fixtures/plain-bf16", "default"},
        {"fixtures/bnb8", "bnb_8bit"},           {"fixtures/bnb4-fp4", "bnb_4bit"},
        {"fixtures/bnb4-nf4-dq", "bnb_4bit"},    {"fixtures/eetq8", "eetq"},
        {"fixtures/aqlm-1x16", "aqlm"},          {"fixtures/aqlm-2x8", "aqlm"},
        {"fixtures/awq4-gemm-g128", "awq"},      {"fixtures/awq4-gemv", "awq"},
        {"fixtures/awq4-gemv-fast", "awq"},      {"fixtures/gptq3", "gptq"},
        {"fixtures/gptq4-g128", "gptq"},         {"fixtures/gptq4-g32-actorder", "gptq"},
        {"fixtures/gptq8-g-1", "gptq"},          {"fixtures/hqq2-g16-axis0", "hqq"},
        {"fixtures/hqq3-g64-axis1", "hqq"},      {"fixtures/hqq4-g64-axis1", "hqq"},
        {"fixtures/hqq8-g128-axis1", "hqq"},     {"fixtures/autoround4", "inc"},
        {"fixtures/autoround4-asym-awq", "inc"}, {"fixtures/inc-fp8", "inc"},
        {"fixtures/inc-fp8-qdq", "inc"},
    };
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        if (!fixture_exists(fixtures[i].dir))
            continue;
        claims_are_exclusive(fixtures[i].dir, q, "hidden_size", fixtures[i].backend);
        claims_are_exclusive(fixtures[i].dir, "model.embed_tokens", "vocab_size", "default");
    }
}
END_TEST

/* ---- neighbours ---- */

/* A module that has what two neighbours of the chain look for: tensors by suffix (NULL-ended,
 * sorted), and a config. exclusive: their conditions contradict each other. */
static const struct {
    const char *first, *second, *config;
    const char *suffixes[5];
    bool exclusive;
} neighbours[] = {
    {"bnb_8bit", "bnb_4bit", NULL, {"SCB", "weight", "weight.absmax"}, false},
    {"bnb_4bit", "eetq", NULL, {"weight", "weight.absmax", "weight_scales"}, false},
    {"eetq", "aqlm", NULL, {"codebooks", "codes", "scales", "weight_scales"}, false},
    {"aqlm", "awq", "{\"quant_method\": \"awq\"}", {"codebooks", "codes", "qweight"}, false},
    {"awq", "gptq", "{\"quant_method\": \"awq\"}", {"qweight", "qzeros", "scales"}, true},
    {"gptq", "hqq", "{\"quant_method\": \"gptq\"}", {"W_q", "qweight", "scale", "zero"}, false},
    {"hqq", "inc", "{\"quant_method\": \"auto-round\"}", {"W_q", "qweight"}, false},
    {"inc", "default", "{\"quant_method\": \"auto-round\"}", {"qweight", "scales"}, false},
};

static const struct backend *row_named(const char *name)
{
    for (const struct backend *const *row = chain_default.backends; *row; row++)
        if (!strcmp((*row)->name, name))
            return *row;
    ck_abort_msg("no back end %s", name);
    return NULL;
}

static bool answers(const struct backend *b, const struct module_spec *spec)
{
    struct findings findings = {0};
    enum claim claim = b->claim(spec, &findings);
    findings_clear(&findings);
    return claim != CLAIM_DECLINED;
}

START_TEST(the_first_of_two_neighbours_answers)
{
    char names[4][64];
    float data[16] = {0};
    struct tensor t[4];
    size_t n = 0;
    for (; n < 4 && neighbours[_i].suffixes[n]; n++) {
        snprintf(names[n], sizeof names[n], "m.%s", neighbours[_i].suffixes[n]);
        t[n] = (struct tensor){.name = names[n],
                               .file = "f",
                               .dtype = DT_I8,
                               .rank = 2,
                               .shape = {4, 4},
                               .data = data,
                               .bytes = 16};
    }
    json_t *quant = neighbours[_i].config ? json_loads(neighbours[_i].config, 0, NULL) : NULL;
    struct module_spec spec = {
        .name = "m", .file = "m", .n = 4, .k = 4, .tensors = t, .n_tensors = n, .quant = quant};
    ck_assert(answers(row_named(neighbours[_i].first), &spec));
    ck_assert(answers(row_named(neighbours[_i].second), &spec) != neighbours[_i].exclusive);
    const struct backend *const *row = chain_default.backends;
    while (*row && !answers(*row, &spec))
        row++;
    ck_assert_str_eq((*row)->name, neighbours[_i].first);
    json_decref(quant);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/chain");
    TCase *t = tcase_create("chain");
    tcase_add_test(t, rows_are_complete_and_in_pefts_order);
    tcase_add_test(t, one_row_answers);
    tcase_add_loop_test(t, the_first_of_two_neighbours_answers, 0,
                        (int)(sizeof neighbours / sizeof neighbours[0]));
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
