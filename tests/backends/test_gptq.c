/*
 * The oracle: the fixtures that GPTQModel quantized and saved (decoded by its own code), the cases
 * of vectors/formats/make_gptq.py (an independent packer, one bit at a time) over bits, versions of
 * the zeros, planes, orders, group sizes and dtypes, and the worked examples of the format's
 * description.
 */
#include <math.h>

#include "tests/backends/faults.h"
#include "tests/backends/fixture.h"

#include "backends/backends.h"

static const struct backend *const gptq = &gptq_backend;

static struct module_spec fixture_module(const struct fixture *f, const char *module)
{
    struct module_spec spec = fixture_spec(f, module, 1, 1, NULL);
    spec.quant = json_object_get(f->config, "quantization_config");
    spec.n = spec_tensor(&spec, "scales")->shape[1];
    spec.k = spec_tensor(&spec, "g_idx")->shape[0];
    return spec;
}

static void check_fixture(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_module(&f, module);
        struct weight w = fixture_load(gptq, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, module);
        ck_assert_uint_gt(w.file_bytes, 0);
        weight_clear(&w);
    }
    struct module_spec plain =
        fixture_spec(&f, "lm_head", 512, 256, json_object_get(f.config, "quantization_config"));
    ck_assert_int_eq(gptq->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}

START_TEST(fixtures_decode)
{
    check_fixture("fixtures/gptq3");
    check_fixture("fixtures/gptq4-g32-actorder");
    if (fixture_exists("fixtures/gptq4-g128"))
        check_fixture("fixtures/gptq4-g128");
    if (fixture_exists("fixtures/gptq8-g-1"))
        check_fixture("fixtures/gptq8-g-1");
}
END_TEST

static void order_is_known(const struct weight *w, const json_t *c)
{
    const char *order = json_string_value(json_object_get(c, "order"));
    ck_assert_msg((w->perm != NULL) == !strcmp(order, "act"), "%s", order);
    ck_assert_msg((w->group_of != NULL) == !strcmp(order, "irregular"), "%s", order);
}

START_TEST(packed_cases)
{
    fixture_cases(gptq, "gptq", 13, order_is_known);
}
END_TEST

/* A module of a handful of words in memory. */
struct tiny {
    struct tensor t[6];
    struct module_spec spec;
    json_t *quant;
};

static void tiny_init(struct tiny *m, const char *config, int64_t k, const uint32_t *qweight,
                      int64_t words, const uint32_t *qzeros, const float *scales)
{
    memset(m, 0, sizeof *m);
    m->quant = json_loads(config, 0, NULL);
    ck_assert_ptr_nonnull(m->quant);
    const struct tensor t[3] = {
        {.name = "m.qweight",
         .dtype = DT_I32,
         .rank = 2,
         .shape = {words, 1},
         .data = qweight,
         .bytes = (size_t)words * 4},
        {.name = "m.qzeros",
         .dtype = DT_I32,
         .rank = 2,
         .shape = {1, 1},
         .data = qzeros,
         .bytes = 4},
        {.name = "m.scales",
         .dtype = DT_F32,
         .rank = 2,
         .shape = {1, 1},
         .data = scales,
         .bytes = 4},
    };
    memcpy(m->t, t, sizeof t);
    for (int i = 0; i < 3; i++)
        m->t[i].file = "model.safetensors";
    m->spec = (struct module_spec){.name = "m",
                                   .file = "m",
                                   .n = 1,
                                   .k = k,
                                   .tensors = m->t,
                                   .n_tensors = 3,
                                   .quant = m->quant};
}

START_TEST(worked_examples)
{
    struct tiny m;
    const uint32_t word = 0x91c80f73, zero = 7, three[3] = {0x7100252e, 0x2f25be4f, 0x3ae13317};
    const float half = 0.5f, one = 1;
    tiny_init(&m, "{\"quant_method\": \"gptq\", \"bits\": 4}", 8, &word, 1, &zero, &half);
    struct weight w = fixture_load(gptq, &m.spec);
    const float expected[8] = {-2.5f, -0.5f, 3.5f, -4, 0, 2, -3.5f, 0.5f};
    for (int k = 0; k < 8; k++)
        ck_assert_float_eq(weight_element(&w, 0, k), expected[k]);
    weight_clear(&w);
    json_decref(m.quant);

    // v1, so that a stored 7 is the zero 0
    tiny_init(&m, "{\"bits\": 3, \"group_size\": -1}", 32, three, 3, &zero, &one);
    w = fixture_load(gptq, &m.spec);
    const uint8_t codes[32] = {6, 5, 4, 2, 2, 0, 0, 0, 1, 6, 5, 7, 4, 4, 7, 5,
                               5, 4, 4, 7, 2, 6, 5, 0, 3, 6, 4, 0, 6, 5, 6, 1};
    for (int k = 0; k < 32; k++)
        ck_assert_float_eq(weight_element(&w, 0, k), codes[k]);
    weight_clear(&w);
    json_decref(m.quant);
}
END_TEST

/* Configs over one good 4-bit module: what claim says, and a word of the finding. */
static const struct {
    const char *config;
    enum claim claim;
    enum status code;
    const char *word;
} configs[] = {
    {"{\"quant_method\": \"gptq\", \"bits\": 4}", CLAIM_CLAIMED, ST_OK, NULL},
    {"{\"bits\": 4, \"group_size\": 8}", CLAIM_CLAIMED, ST_OK, NULL},
    {"{\"quant_method\": \"awq\", \"bits\": 4}", CLAIM_DECLINED, ST_OK, NULL},
    {"{\"quant_method\": \"auto-round\", \"bits\": 4}", CLAIM_DECLINED, ST_OK, NULL},
    {"{\"quant_method\": \"gptq\"}", CLAIM_FAILED, ST_CONFIG_MISSING_FIELD, "bits"},
    {"{\"quant_method\": \"gptq\", \"bits\": 9}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE, "bits"},
    {"{\"quant_method\": \"gptq\", \"bits\": \"4\"}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "bits"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 0}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "group_size"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 4}", CLAIM_FAILED,
     ST_TENSOR_SHAPE_MISMATCH, "m.qzeros"},
    {"{\"quant_method\": \"gptq\", \"bits\": 8}", CLAIM_FAILED, ST_TENSOR_SHAPE_MISMATCH,
     "m.qweight"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"gptq\", \"format\": "
     "\"gptq_v2\"}",
     CLAIM_FAILED, ST_CHECKPOINT_INVALID, "format"},
    {"{\"quant_method\": \"gptq\", \"method\": \"awq\", \"bits\": 4}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "method"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"format\": \"marlin\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "marlin"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"bitblas\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "bitblas"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"is_marlin_format\": true}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "marlin"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"pack_dtype\": \"int16\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "pack_dtype"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"pack_dtype\": \"int32\"}", CLAIM_CLAIMED, ST_OK,
     NULL},
    // one group: no order is needed
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"desc_act\": true}", CLAIM_CLAIMED, ST_OK, NULL},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 4, \"desc_act\": true}",
     CLAIM_FAILED, ST_TENSOR_MISSING, "g_idx"},
    // dynamic: the first entry that matches at the start of the name
    {"{\"quant_method\": \"gptq\", \"bits\": 8, \"dynamic\": {\"x\": {\"bits\": 2}, \"+:m$\": "
     "{\"bits\": 4}, \"m\": {\"bits\": 8}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"-:.*m\": {}}}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "dynamic"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"-:n\": {}, \"m\": {}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"-:(\": {}}}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "dynamic"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"m\": 4}}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "dynamic"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": []}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "dynamic"},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": null}", CLAIM_CLAIMED, ST_OK, NULL},
};

START_TEST(config_rules)
{
    struct tiny m;
    const uint32_t word = 0x91c80f73, zero = 7;
    const float half = 0.5f;
    struct findings findings = {0};
    tiny_init(&m, configs[_i].config, 8, &word, 1, &zero, &half);
    ck_assert_msg(gptq->claim(&m.spec, &findings) == configs[_i].claim, "%s: %s",
                  configs[_i].config, findings.n ? findings.v[0].message : "no finding");
    if (configs[_i].code) {
        const struct finding *f = fixture_finding(&findings, configs[_i].code);
        ck_assert_msg(strstr(f->message, configs[_i].word) != NULL, "%s", f->message);
    } else {
        ck_assert_uint_eq(findings.n, 0);
    }
    findings_clear(&findings);
    json_decref(m.quant);
}
END_TEST

/* A pattern that backtracks for ever ends at the match limit. */
START_TEST(dynamic_is_bounded)
{
    struct tiny m;
    const uint32_t word = 0, zero = 0;
    const float half = 0.5f;
    struct findings findings = {0};
    tiny_init(&m, "{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"(a+)+$\": {}}}", 8,
              &word, 1, &zero, &half);
    m.spec.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    ck_assert_int_eq(gptq->claim(&m.spec, &findings), CLAIM_FAILED);
    fixture_finding(&findings, ST_CONFIG_INVALID_VALUE);
    findings_clear(&findings);
    json_decref(m.quant);
}
END_TEST

START_TEST(foreign_tensors_are_refused_by_the_formats_name)
{
    struct tensor t[2] = {
        {.name = "m.B", .file = "f", .dtype = DT_I32, .rank = 2, .shape = {1, 1}},
        {.name = "m.s", .file = "f", .dtype = DT_F16, .rank = 2, .shape = {1, 1}}};
    json_t *quant = json_loads(
        "{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"marlin\"}", 0, NULL);
    struct module_spec spec = {
        .name = "m", .file = "m", .n = 1, .k = 8, .tensors = t, .n_tensors = 2, .quant = quant};
    struct findings findings = {0};
    ck_assert_int_eq(gptq->claim(&spec, &findings), CLAIM_FAILED);
    const struct finding *f = fixture_finding(&findings, ST_QUANT_METHOD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(f->message, "marlin"));
    findings_clear(&findings);
    json_decref(quant);
}
END_TEST

START_TEST(groups_outside_are_refused)
{
    struct fixture f = fixture_open("formats", "gptq.safetensors", "gptq.json");
    json_t *config =
        json_object_get(json_array_get(json_object_get(f.expected, "cases"), 1), "config");
    static const int32_t bad[2] = {2, -1};
    for (int i = 0; i < 2; i++) {
        struct module_spec spec = fixture_spec(&f, "case01", 24, 64, config);
        struct tensor t[8];
        int32_t g_idx[64];
        memcpy(t, spec.tensors, spec.n_tensors * sizeof t[0]);
        spec.tensors = t;
        struct tensor *g = &t[spec_tensor(&spec, "g_idx") - t];
        memcpy(g_idx, g->data, sizeof g_idx);
        g_idx[63] = bad[i];
        g->data = g_idx;
        struct weight w;
        struct error err = ERROR_INIT;
        ck_assert_int_eq(gptq->load(&spec, (struct slice){0}, &w, &err), ST_CHECKPOINT_INVALID);
        ck_assert_msg(strstr(err.text, "g_idx[63]") != NULL, "%s", err.text);
        ck_assert_ptr_null(w.data);
        t[0].name = "case01.extra";
        struct findings findings = {0};
        ck_assert_int_eq(gptq->claim(&spec, &findings), CLAIM_FAILED);
        fixture_finding(&findings, ST_TENSOR_UNEXPECTED);
        findings_clear(&findings);
    }
    fixture_close(&f);
}
END_TEST

START_TEST(scales_must_be_finite)
{
    struct tiny m;
    struct weight w;
    struct error err = ERROR_INIT;
    const uint32_t word = 0x91c80f73, zero = 7;
    const float infinite = INFINITY;
    tiny_init(&m, "{\"quant_method\": \"gptq\", \"bits\": 4}", 8, &word, 1, &zero, &infinite);
    ck_assert_int_eq(gptq->load(&m.spec, (struct slice){0}, &w, &err), ST_NON_FINITE_WEIGHTS);
    ck_assert_msg(strstr(err.text, "m.scales") != NULL, "%s", err.text);
    ck_assert_ptr_null(w.data);
    json_decref(m.quant);
}
END_TEST

/* "lm_head": true comes with the head's own entry in "dynamic". */
START_TEST(quantized_head)
{
    struct tiny m;
    const uint32_t words[2] = {0x91c80f73, 0}, zero = 7;
    const float half = 0.5f;
    tiny_init(&m,
              "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 4, \"lm_head\": true, "
              "\"dynamic\": {\"lm_head\": {\"bits\": 8, \"group_size\": 128}}}",
              8, words, 2, &zero, &half);
    m.spec.name = "lm_head";
    struct weight w = fixture_load(gptq, &m.spec);
    ck_assert_int_eq(w.bits, 8);
    ck_assert_float_eq(weight_element(&w, 0, 0), (0x73 - 8) * 0.5f);
    weight_clear(&w);
    json_decref(m.quant);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct fixture f = fixture_open("formats", "gptq.safetensors", "gptq.json");
    json_t *cases = json_object_get(f.expected, "cases");
    static const size_t some[] = {1, 5}; // act-order, irregular groups
    for (int i = 0; i < 2; i++) {
        json_t *c = json_array_get(cases, some[i]);
        struct module_spec spec =
            fixture_spec(&f, json_string_value(json_object_get(c, "name")),
                         json_integer_value(json_object_get(c, "n")),
                         json_integer_value(json_object_get(c, "k")), json_object_get(c, "config"));
        json_object_set_new(json_object_get(c, "config"), "dynamic", json_pack("{s{}}", "-:other"));
        faults_check_module(gptq, &spec);
    }
    fixture_close(&f);
}
END_TEST

START_TEST(described)
{
    struct fixture f =
        fixture_open("fixtures/gptq4-g32-actorder", "model.safetensors", "expected.json");
    struct module_spec spec = fixture_module(&f, "model.layers.0.self_attn.q_proj");
    struct weight w = fixture_load(gptq, &spec);
    char text[64];
    ck_assert_str_eq(gptq->describe(&w, text, sizeof text), "4 bits, group 32, act-order");
    ck_assert_ptr_null(gptq->requantize);
    ck_assert_ptr_null(gptq->store);
    weight_clear(&w);
    fixture_close(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/gptq");
    TCase *t = tcase_create("gptq");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixtures_decode);
    tcase_add_test(t, packed_cases);
    tcase_add_test(t, worked_examples);
    tcase_add_loop_test(t, config_rules, 0, (int)(sizeof configs / sizeof configs[0]));
    tcase_add_test(t, dynamic_is_bounded);
    tcase_add_test(t, foreign_tensors_are_refused_by_the_formats_name);
    tcase_add_test(t, groups_outside_are_refused);
    tcase_add_test(t, scales_must_be_finite);
    tcase_add_test(t, quantized_head);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, described);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
