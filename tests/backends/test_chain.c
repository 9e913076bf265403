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
static void claims_are_exclusive(const char *dir, const char *module, int64_t n, int64_t k,
                                 const char *expected)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
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
    const char *q = "model.layers.0.self_attn.q_proj";
    claims_are_exclusive("fixtures/plain-bf16", q, 256, 256, "default");
    claims_are_exclusive("fixtures/bnb4-nf4-dq", q, 256, 256, "bnb_4bit");
    claims_are_exclusive("fixtures/bnb4-nf4-dq", "lm_head", 512, 256, "default");
    claims_are_exclusive("fixtures/gptq3", q, 256, 256, "gptq");
    claims_are_exclusive("fixtures/gptq3", "model.embed_tokens", 512, 256, "default");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/chain");
    TCase *t = tcase_create("chain");
    tcase_add_test(t, rows_are_complete_and_in_pefts_order);
    tcase_add_test(t, one_row_answers);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
