/*
 * The oracle: the fixtures that AutoAWQ packed, the cases of vectors/formats/make_awq.py (an
 * independent packer) over layouts, widths, groups, dtypes and who wrote them, the worked example
 * of the format's description, and random modules packed the other way round in here.
 */
#include "tests/backends/faults.h"
#include "tests/backends/made_module.h"

#include "backends/backends.h"

static const struct backend *const awq = &awq_backend;

/* ---- golden files ---- */

static void check_fixture(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    const json_t *quant = json_object_get(f.config, "quantization_config");
    bool gemm = !strcmp(json_string_value(json_object_get(quant, "version")), "gemm");
    bool gemv = !strcmp(json_string_value(json_object_get(quant, "version")), "gemv");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_spec(&f, module, 1, 1, quant);
        const struct tensor *codes = spec_tensor(&spec, "qweight");
        spec.n = gemm ? codes->shape[1] * 8 : codes->shape[0] * (gemv ? 1 : 4);
        spec.k = gemm ? codes->shape[0] : codes->shape[1] * (gemv ? 8 : 1);
        struct weight w = fixture_load(awq, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, module);
        ck_assert_uint_gt(w.file_bytes, 0);
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    struct module_spec plain = fixture_spec(&f, "lm_head", 512, 256, quant);
    ck_assert_int_eq(awq->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}

START_TEST(fixtures_decode)
{
    check_fixture("fixtures/awq4-gemm-g128");
    if (fixture_exists("fixtures/awq4-gemv"))
        check_fixture("fixtures/awq4-gemv");
    if (fixture_exists("fixtures/awq4-gemv-fast"))
        check_fixture("fixtures/awq4-gemv-fast");
}
END_TEST

START_TEST(packed_cases)
{
    fixture_cases(awq, "awq", 29, NULL);
}
END_TEST

/* ---- made modules ---- */

static json_t *config(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    ck_assert_msg(j != NULL, "%s", text);
    return j;
}

START_TEST(worked_example)
{
    struct made m;
    const uint32_t codes = 0x9c0718f3, zeros = 0x88888878;
    const uint16_t quarter[8] = {0x3400, 0x3400, 0x3400, 0x3400, 0x3400, 0x3400, 0x3400, 0x3400};
    const float expected[8] = {-1.25f, -0.25f, 2, -2, 0, 1, -1.75f, 0.25f};
    made_init(&m, 8, 1);
    made_put(&m, "qweight", DT_I32, 2, (int64_t[]){1, 1}, &codes);
    made_put(&m, "qzeros", DT_I32, 2, (int64_t[]){1, 1}, &zeros);
    made_put(&m, "scales", DT_F16, 2, (int64_t[]){1, 8}, quarter);
    json_t *quant = config("{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": -1}");
    m.spec.quant = quant;
    struct weight w = fixture_load(awq, &m.spec);
    for (int r = 0; r < 8; r++)
        ck_assert_float_eq(weight_element(&w, r, 0), expected[r]);
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

/* The same codes along k in GEMV's own order. */
START_TEST(worked_example_gemv)
{
    struct made m;
    const uint32_t codes = 0x91c80f73, zero = 8;
    const uint16_t quarter[8] = {0x3400};
    const uint8_t expected[8] = {3, 7, 15, 0, 8, 12, 1, 9};
    made_init(&m, 1, 128);
    uint32_t *words = made_put(&m, "qweight", DT_I32, 2, (int64_t[]){1, 16}, NULL);
    words[15] = codes;
    made_put(&m, "qzeros", DT_I32, 2, (int64_t[]){1, 1}, &zero);
    made_put(&m, "scales", DT_F16, 2, (int64_t[]){1, 8}, quarter);
    json_t *quant = config("{\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemv\"}");
    m.spec.quant = quant;
    struct weight w = fixture_load(awq, &m.spec);
    for (int k = 0; k < 128; k++)
        ck_assert_float_eq(weight_element(&w, 0, k),
                           (float)((k < 120 ? 0 : expected[k - 120]) - 8) / 4);
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A stream of bits in the other direction: one bit at a time to where it belongs. */
static void put_code(uint8_t *row, int bits, int64_t at, unsigned code)
{
    for (int b = 0; b < bits; b++) {
        int64_t i = at * bits + b;
        row[i / 8] |= (uint8_t)((code >> b & 1) << i % 8);
    }
}

/* GEMM of any width, in rows' order or by eights, against the double product. */
START_TEST(random_gemm)
{
    static const int64_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7}; // where each row goes
    static const int widths[] = {2, 3, 4, 5, 6, 7, 8, 5, 6, 7};
    uint32_t state = 77u + (uint32_t)_i;
    int bits = widths[_i];
    bool auto_round = _i >= 7, by_eights = bits == 4 || auto_round;
    int64_t n = 32 + 32 * (_i % 3), group = 8 + 8 * (_i % 4), k = group * (1 + _i % 5);
    int64_t words = n * bits / 32;
    struct made m;
    made_init(&m, n, k);
    uint8_t *q = made_put(&m, "qweight", DT_I32, 2, (int64_t[]){k, words}, NULL);
    uint8_t *z = made_put(&m, "qzeros", DT_I32, 2, (int64_t[]){k / group, words}, NULL);
    uint16_t *s = made_put(&m, "scales", DT_F16, 2, (int64_t[]){k / group, n}, NULL);
    unsigned *codes = malloc((size_t)(n * k) * sizeof *codes);
    unsigned *zeros = malloc((size_t)(n * k) * sizeof *zeros);
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < k; c++) {
            int64_t at = by_eights ? r / 8 * 8 + order[r % 8] : r, g = c / group;
            codes[r * k + c] = next(&state) & ((1u << bits) - 1);
            put_code(q + c * words * 4, bits, at, codes[r * k + c]);
            if (c % group == 0) {
                zeros[r * k + g] = next(&state) & ((1u << bits) - 1);
                put_code(z + g * words * 4, bits, at, zeros[r * k + g]);
                s[g * n + r] = f32_to_f16((float)(1 + next(&state) % 999) * 0.0003f);
            }
        }
    json_t *quant = json_pack("{ss si sI}", "quant_method", "awq", "bits", bits, "group_size",
                              (json_int_t)group);
    if (auto_round)
        json_object_set_new(quant, "provider", json_string("auto-round"));
    m.spec.quant = quant;
    struct weight w = fixture_load(awq, &m.spec);
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < k; c++) {
            double exact = ((double)codes[r * k + c] - zeros[r * k + c / group]) *
                           (double)f16_to_f32(s[c / group * n + r]);
            ck_assert_float_eq(weight_element(&w, r, c), f16_to_f32(f32_to_f16((float)exact)));
        }
    weight_clear(&w);
    free(codes);
    free(zeros);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

/* ---- what is refused ---- */

enum awq_made { GEMM, GEMV, FAST, LLM };

/* A good GEMM module of [16, 64], group 32, and of [8, 128] GEMV and GEMV-fast, group 128. */
static void make_good(struct made *m, enum awq_made kind)
{
    bool gemm = kind == GEMM;
    made_init(m, gemm ? 16 : 8, gemm ? 64 : 128);
    if (gemm) {
        made_put(m, "qweight", DT_I32, 2, (int64_t[]){64, 2}, NULL);
        made_put(m, "qzeros", DT_I32, 2, (int64_t[]){2, 2}, NULL);
        made_put(m, "scales", DT_F16, 2, (int64_t[]){2, 16}, NULL);
    } else if (kind == GEMV) {
        made_put(m, "qweight", DT_I32, 2, (int64_t[]){8, 16}, NULL);
        made_put(m, "qzeros", DT_I32, 2, (int64_t[]){8, 1}, NULL);
        made_put(m, "scales", DT_F16, 2, (int64_t[]){8, 8}, NULL);
    } else {
        made_put(m, "qweight", DT_I16, 2, (int64_t[]){2, 128}, NULL);
        made_put(m, kind == LLM ? "scaled_zeros" : "qzeros", DT_F16, 2, (int64_t[]){8, 8}, NULL);
        made_put(m, "scales", DT_F16, 2, (int64_t[]){8, 8}, NULL);
    }
}

#define AWQ "\"quant_method\": \"awq\", \"bits\": 4, "
/* Configs over a good module: what claim says, and a word of the finding. */
static const struct {
    enum awq_made kind;
    const char *config;
    enum claim claim;
    enum status code;
    const char *word;
} configs[] = {
    {GEMM, "{" AWQ "\"group_size\": 32}", CLAIM_CLAIMED, ST_OK, NULL},
    {GEMM, "{\"quant_method\": \"awq\", \"w_bit\": 4, \"q_group_size\": 32}", CLAIM_CLAIMED, ST_OK,
     NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"version\": \"IPEX\", \"do_fuse\": true}", CLAIM_CLAIMED,
     ST_OK, NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"checkpoint_format\": \"gptq\"}", CLAIM_CLAIMED, ST_OK,
     NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"backend\": \"torch_awq\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {GEMM, "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32}", CLAIM_DECLINED, ST_OK,
     NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"version\": \"marlin\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "marlin"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"format\": \"bitblas\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "bitblas"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"version\": 7}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "version"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"version\": \"gemv\"}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "GEMV, but its tensors are GEMM"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"version\": \"gemm\", \"format\": \"gemv\"}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "format"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"backend\": \"llm-awq\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "older llm-awq"},
    {GEMM, "{" AWQ "\"group_size\": 32, \"method\": \"gptq\"}", CLAIM_FAILED, ST_CHECKPOINT_INVALID,
     "method"},
    {GEMM, "{" AWQ "\"group_size\": 64}", CLAIM_FAILED, ST_TENSOR_SHAPE_MISMATCH, "m.qzeros"},
    {GEMM, "{" AWQ "\"group_size\": 48}", CLAIM_FAILED, ST_TENSOR_SHAPE_MISMATCH,
     "multiple of the group 48"},
    {GEMM, "{" AWQ "\"group_size\": 0}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE, "group_size"},
    {GEMM, "{" AWQ "\"group_size\": -32}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE, "group_size"},
    {GEMM, "{" AWQ "\"group_size\": 1e3}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE, "group_size"},
    {GEMM, "{" AWQ "\"group_size\": 99999999999999}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "group_size"},
    {GEMM, "{\"quant_method\": \"awq\", \"bits\": 8, \"group_size\": 32}", CLAIM_FAILED,
     ST_TENSOR_SHAPE_MISMATCH, "m.qweight"},
    {GEMM, "{\"quant_method\": \"awq\", \"bits\": 1, \"group_size\": 32}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "bits"},
    {GEMM,
     "{\"quant_method\": \"awq\", \"bits\": 8, \"group_size\": 32, \"provider\": \"auto-round\"}",
     CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED, "bits"},
    // lists of modules, and rules for one
    {GEMM, "{" AWQ "\"group_size\": 32, \"modules_to_not_convert\": [\"lm_head\", \"x.m\"]}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"modules_to_not_convert\": null}", CLAIM_CLAIMED, ST_OK,
     NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"modules_to_not_convert\": [\"lm_head\", \"m\"]}",
     CLAIM_FAILED, ST_CHECKPOINT_INVALID, "modules_to_not_convert"},
    {GEMM, "{" AWQ "\"group_size\": 99, \"dynamic\": {\"+:m$\": {\"group_size\": 32}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {GEMM, "{" AWQ "\"group_size\": 32, \"dynamic\": {\"-:m\": {}}}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "dynamic"},
    {GEMV, "{" AWQ "\"group_size\": 128, \"version\": \"gemv\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {GEMV, "{" AWQ "\"group_size\": 128}", CLAIM_CLAIMED, ST_OK, NULL},
    {GEMV, "{" AWQ "\"group_size\": 128, \"version\": \"gemm\"}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "GEMM, but its tensors are GEMV"},
    {GEMV, "{" AWQ "\"group_size\": 8, \"version\": \"gemv\"}", CLAIM_FAILED,
     ST_TENSOR_SHAPE_MISMATCH, "group of 16"},
    {GEMV, "{\"quant_method\": \"awq\", \"bits\": 8, \"version\": \"gemv\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "bits"},
    {FAST, "{" AWQ "\"version\": \"gemv_fast\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {FAST, "{" AWQ "\"version\": \"gemv\"}", CLAIM_FAILED, ST_CHECKPOINT_INVALID, "GEMV-fast"},
    {FAST, "{" AWQ "\"backend\": \"llm-awq\"}", CLAIM_FAILED, ST_TENSOR_MISSING, "m.scaled_zeros"},
    {LLM, "{" AWQ "\"backend\": \"llm-awq\", \"version\": \"gemm\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {LLM, "{" AWQ "\"version\": \"gemv_fast\"}", CLAIM_CLAIMED, ST_OK, NULL},
};

START_TEST(config_rules)
{
    struct made m;
    struct findings findings = {0};
    json_t *quant = config(configs[_i].config);
    make_good(&m, configs[_i].kind);
    m.spec.quant = quant;
    ck_assert_msg(awq->claim(&m.spec, &findings) == configs[_i].claim, "%s: %s", configs[_i].config,
                  findings.n ? findings.v[0].message : "no finding");
    if (configs[_i].code) {
        const struct finding *f = fixture_finding(&findings, configs[_i].code);
        ck_assert_msg(strstr(f->message, configs[_i].word) != NULL, "%s", f->message);
    } else {
        ck_assert_uint_eq(findings.n, 0);
    }
    findings_clear(&findings);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

/* A tensor that is not as it must be: of that dtype and shape, or not there at all (DT_COUNT_). */
static const struct {
    enum awq_made kind;
    const char *suffix;
    enum dtype dtype;
    int64_t shape[2];
    enum status code;
} damages[] = {
    {GEMM, "qweight", DT_I32, {64, 3}, ST_TENSOR_SHAPE_MISMATCH},
    {GEMM, "qweight", DT_F32, {64, 2}, ST_DTYPE_UNSUPPORTED},
    {GEMM, "qweight", DT_COUNT_, {0}, ST_TENSOR_MISSING},
    {GEMM, "qzeros", DT_COUNT_, {0}, ST_TENSOR_MISSING},
    {GEMM, "qzeros", DT_I32, {1, 2}, ST_TENSOR_SHAPE_MISMATCH},
    {GEMM, "scales", DT_COUNT_, {0}, ST_TENSOR_MISSING},
    {GEMM, "scales", DT_F32, {2, 16}, ST_DTYPE_UNSUPPORTED},
    {GEMM, "scales", DT_F16, {2, 17}, ST_TENSOR_SHAPE_MISMATCH},
    {GEMM, "g_idx", DT_I32, {64, 1}, ST_TENSOR_UNEXPECTED},
    {GEMM, "scaled_zeros", DT_F16, {2, 16}, ST_TENSOR_UNEXPECTED},
    {GEMV, "qzeros", DT_I32, {8, 2}, ST_TENSOR_SHAPE_MISMATCH},
    {GEMV, "scales", DT_BF16, {8, 8}, ST_DTYPE_UNSUPPORTED},
    {FAST, "qweight", DT_I16, {2, 64}, ST_TENSOR_SHAPE_MISMATCH},
    {FAST, "qzeros", DT_I32, {8, 8}, ST_DTYPE_UNSUPPORTED},
    {FAST, "scales", DT_F16, {1, 8}, ST_TENSOR_SHAPE_MISMATCH},
};

START_TEST(damaged_modules_fail_by_name)
{
    struct made m;
    json_t *quant =
        config("{" AWQ "\"group_size\": 32, \"dynamic\": {\"v\": {\"group_size\": 128}}}");
    make_good(&m, damages[_i].kind);
    m.spec.name = damages[_i].kind == GEMM ? "m" : "v";
    m.spec.quant = quant;
    if (damages[_i].dtype == DT_COUNT_)
        made_drop(&m, damages[_i].suffix);
    else
        made_put(&m, damages[_i].suffix, damages[_i].dtype, 2, damages[_i].shape, NULL);
    fixture_refused(awq, &m.spec, damages[_i].code, damages[_i].suffix);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

START_TEST(other_modules_are_refused)
{
    struct made m;
    json_t *quant = config("{" AWQ "\"group_size\": 32}");
    for (int i = 0; i < 3; i++) {
        struct findings findings = {0};
        make_good(&m, GEMM);
        m.spec.quant = quant;
        if (i == 0)
            m.spec.kind = MODULE_EMBEDDING;
        else if (i == 1)
            m.spec.k = INT64_MAX / 2;
        else
            m.spec.n = 12; // no whole words
        ck_assert_int_eq(awq->claim(&m.spec, &findings), CLAIM_FAILED);
        fixture_finding(&findings, i ? ST_TENSOR_SHAPE_MISMATCH : ST_QUANT_METHOD_UNSUPPORTED);
        findings_clear(&findings);
        made_clear(&m);
    }
    json_decref(quant);
}
END_TEST

START_TEST(scales_must_be_finite)
{
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e01};
    json_t *quant = config("{" AWQ "\"group_size\": -1}");
    for (int i = 0; i < 6; i++) {
        struct made m;
        struct weight w;
        struct error err = ERROR_INIT;
        make_good(&m, FAST);
        m.spec.quant = quant;
        const char *suffix = i < 3 ? "scales" : "qzeros";
        ((uint16_t *)spec_tensor(&m.spec, suffix)->data)[63] = bad[i % 3];
        ck_assert_int_eq(awq->load(&m.spec, (struct slice){0}, &w, &err), ST_NON_FINITE_WEIGHTS);
        ck_assert_msg(strstr(err.text, suffix) && strstr(err.text, "63"), "%s", err.text);
        ck_assert_ptr_null(w.data);
        made_clear(&m);
    }
    json_decref(quant);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    static const enum awq_made kinds[] = {GEMM, GEMV, FAST};
    json_t *quant = config("{" AWQ "\"group_size\": -1}");
    for (int i = 0; i < 3; i++) {
        struct made m;
        make_good(&m, kinds[i]);
        if (kinds[i] == GEMM) {
            made_put(&m, "qzeros", DT_I32, 2, (int64_t[]){1, 2}, NULL);
            made_put(&m, "scales", DT_F16, 2, (int64_t[]){1, 16}, NULL);
        }
        m.spec.quant = quant;
        faults_check_module(awq, &m.spec);
        made_clear(&m);
    }
    json_decref(quant);
}
END_TEST

START_TEST(described)
{
    struct fixture f =
        fixture_open("fixtures/awq4-gemm-g128", "model.safetensors", "expected.json");
    struct module_spec spec = fixture_spec(&f, "model.layers.0.self_attn.q_proj", 256, 256,
                                           json_object_get(f.config, "quantization_config"));
    struct weight w = fixture_load(awq, &spec);
    char text[64];
    ck_assert_str_eq(awq->describe(&w, text, sizeof text), "4 bits, group 128");
    ck_assert_ptr_null(awq->requantize);
    ck_assert_ptr_null(awq->store);
    weight_clear(&w);
    fixture_close(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/awq");
    TCase *t = tcase_create("awq");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixtures_decode);
    tcase_add_test(t, packed_cases);
    tcase_add_test(t, worked_example);
    tcase_add_test(t, worked_example_gemv);
    tcase_add_loop_test(t, random_gemm, 0, 10);
    tcase_add_loop_test(t, config_rules, 0, (int)(sizeof configs / sizeof configs[0]));
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, other_modules_are_refused);
    tcase_add_test(t, scales_must_be_finite);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, described);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
