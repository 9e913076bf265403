/*
 * The oracle: the fixtures that Neural Compressor and auto-round saved, the cases of
 * vectors/formats/make_inc.py (an independent packer and decoder) over layouts, widths, rules for
 * one module and kinds of scales, the worked example of the format's description, and random FP8
 * modules against the definition in double.
 */
#include <math.h>

#include "tests/backends/faults.h"
#include "tests/backends/made_module.h"

#include "backends/backends.h"

static const struct backend *const inc = &inc_backend;

/* ---- golden files ---- */

/* n and k from the tensors that each layout has. */
static void set_sizes(struct module_spec *spec)
{
    const struct tensor *codes = spec_tensor(spec, "qweight"), *t = spec_tensor(spec, "weight");
    const struct tensor *scales = spec_tensor(spec, "scales");
    spec->n = codes ? scales->shape[1] : t->shape[1];
    spec->k = !codes                       ? t->shape[0]
              : codes->shape[1] == spec->n ? codes->shape[0] * 8
                                           : codes->shape[0];
}

static void check_fixture(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    const json_t *quant = json_object_get(f.config, "quantization_config");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_spec(&f, module, 1, 1, quant);
        set_sizes(&spec);
        struct weight w = fixture_load(inc, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, module);
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    struct module_spec plain = fixture_spec(&f, "lm_head", 512, 256, quant);
    ck_assert_int_eq(inc->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}

START_TEST(fixtures_decode)
{
    static const char *const dirs[] = {"fixtures/inc-fp8", "fixtures/inc-fp8-qdq",
                                       "fixtures/autoround4", "fixtures/autoround4-asym-awq"};
    for (int i = 0; i < 4; i++)
        if (i % 2 == 0 || fixture_exists(dirs[i]))
            check_fixture(dirs[i]);
}
END_TEST

START_TEST(packed_cases)
{
    fixture_cases(inc, "inc", 13, NULL);
}
END_TEST

/* ---- made modules ---- */

#define INC   "\"fp8_config\": \"E4M3\", \"mode\": \"LOAD\", \"hp_dtype\": \"bf16\""
#define ROUND "\"quant_method\": \"auto-round\", "
#define FP8                                                                                        \
    "\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round:fp8_static\", "            \
    "\"data_type\": \"fp\", \"bits\": 8"

static json_t *config(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    ck_assert_msg(j != NULL, "%s", text);
    return j;
}

START_TEST(worked_example)
{
    struct made m;
    const uint8_t codes[4] = {0x38, 0x40, 0xb8, 0x01};
    const uint16_t half = 0x3f00; // BF16
    made_init(&m, 2, 2);
    made_put(&m, "weight", DT_F8_E4M3, 2, (int64_t[]){2, 2}, codes);
    made_put(&m, "scale_weight", DT_BF16, 0, NULL, &half);
    json_t *quant = config("{" INC "}");
    m.spec.quant = quant;
    struct weight w = fixture_load(inc, &m.spec);
    ck_assert_float_eq(weight_element(&w, 0, 0), 0.5f);
    ck_assert_float_eq(weight_element(&w, 1, 0), 1);
    ck_assert_float_eq(weight_element(&w, 0, 1), -0.5f);
    ck_assert_float_eq(weight_element(&w, 1, 1), 0.0009765625f);
    char text[64];
    ck_assert_str_eq(inc->describe(&w, text, sizeof text), "float8_e4m3fn, a scale for each row");
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

/* An 8-bit float by its definition. */
static double float8(uint8_t code, bool e5m2)
{
    int mantissa = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7;
    int e = (code & 0x7f) >> mantissa, m = code & ((1 << mantissa) - 1);
    double v = e ? ldexp(1 + ldexp(m, -mantissa), e - bias) : ldexp(m, 1 - bias - mantissa);
    return code & 0x80 ? -v : v;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Blocks of any shape, which need not divide the weight, all finite codes, against the double. */
START_TEST(random_blocks)
{
    uint32_t state = 5u + (uint32_t)_i;
    bool e5m2 = _i % 2;
    int64_t n = 1 + next(&state) % 40, k = 1 + next(&state) % 90;
    int64_t rows = 1 + next(&state) % 20, cols = 1 + next(&state) % 50;
    int64_t down = (n + rows - 1) / rows, across = (k + cols - 1) / cols;
    struct made m;
    made_init(&m, n, k);
    uint8_t *codes =
        made_put(&m, "weight", e5m2 ? DT_F8_E5M2 : DT_F8_E4M3, 2, (int64_t[]){n, k}, NULL);
    uint16_t *scales = made_put(&m, "weight_scale_inv", DT_F16, 2, (int64_t[]){down, across}, NULL);
    for (int64_t i = 0; i < n * k; i++) {
        codes[i] = (uint8_t)next(&state);
        if ((codes[i] & 0x7f) >= (e5m2 ? 0x7c : 0x7f))
            codes[i] &= 0x83;
    }
    for (int64_t i = 0; i < down * across; i++)
        scales[i] = f32_to_f16((float)(1 + next(&state) % 999) * 0.0001f);
    json_t *quant = json_pack("{ss ss s[ii]}", "quant_method", "auto-round", "fmt",
                              e5m2 ? "e5m2" : "e4m3", "group_size", (int)rows, (int)cols);
    m.spec.quant = quant;
    struct weight w = fixture_load(inc, &m.spec);
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < k; c++) {
            double exact = float8(codes[r * k + c], e5m2) *
                           (double)f16_to_f32(scales[r / rows * across + c / cols]);
            ck_assert_float_eq(weight_element(&w, r, c), f16_to_f32(f32_to_f16((float)exact)));
        }
    fixture_glue(inc, &m.spec, 9, 31);
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

/* ---- what is refused ---- */

enum inc_made { NATIVE, QDQ, CODES, AWQ, STATIC, BLOCK };

/* Good modules of [32, 64]; groups of 32, blocks of [16, 32]. */
static void make_good(struct made *m, enum inc_made kind)
{
    const int64_t kn[] = {64, 32}, nk[] = {32, 64}, per_row[] = {32}, blocks[] = {2, 2};
    made_init(m, 32, 64);
    switch (kind) {
    case NATIVE:
        made_put(m, "weight", DT_F8_E4M3, 2, kn, NULL);
        made_put(m, "scale_weight", DT_BF16, 0, NULL, NULL);
        made_put(m, "scale_input", DT_BF16, 0, NULL, NULL);
        made_put(m, "quant_input.scale_inv", DT_BF16, 0, NULL, NULL);
        break;
    case QDQ:
        made_put(m, "weight", DT_F8_E4M3, 2, kn, NULL);
        made_put(m, "dequant_weights.scale", DT_BF16, 1, per_row, NULL);
        made_put(m, "dequant_weights.zero_point", DT_F32, 0, NULL, NULL);
        break;
    case CODES:
        made_put(m, "qweight", DT_I32, 2, (int64_t[]){8, 32}, NULL);
        made_put(m, "qzeros", DT_I32, 2, (int64_t[]){2, 4}, NULL);
        made_put(m, "scales", DT_F16, 2, (int64_t[]){2, 32}, NULL);
        break;
    case AWQ:
        made_put(m, "qweight", DT_I32, 2, (int64_t[]){64, 4}, NULL);
        made_put(m, "qzeros", DT_I32, 2, (int64_t[]){2, 4}, NULL);
        made_put(m, "scales", DT_F16, 2, (int64_t[]){2, 32}, NULL);
        break;
    case STATIC:
        made_put(m, "weight", DT_F8_E4M3, 2, nk, NULL);
        made_put(m, "weight_scale", DT_BF16, 1, per_row, NULL);
        made_put(m, "input_scale", DT_BF16, 1, (int64_t[]){1}, NULL);
        break;
    case BLOCK:
        made_put(m, "weight", DT_F8_E4M3, 2, nk, NULL);
        made_put(m, "weight_scale_inv", DT_F32, 2, blocks, NULL);
        break;
    }
}

#define G32 ROUND "\"bits\": 4, \"group_size\": 32"
/* Configs over a good module: what claim says, and a word of the finding. */
static const struct {
    enum inc_made kind;
    const char *config;
    enum claim claim;
    enum status code;
    const char *word;
} configs[] = {
    {NATIVE, "{" INC "}", CLAIM_CLAIMED, ST_OK, NULL},
    {NATIVE, "{" INC ", \"quant_method\": \"inc\", \"fake_quant\": \"False\"}", CLAIM_CLAIMED,
     ST_OK, NULL},
    {NATIVE, "{\"fp8_config\": \"E4M3\"}", CLAIM_DECLINED, ST_OK, NULL},
    {NATIVE, "{" INC ", \"quant_method\": \"awq\"}", CLAIM_DECLINED, ST_OK, NULL},
    {NATIVE, "{\"fp8_config\": \"E5M2\", \"mode\": \"LOAD\"}", CLAIM_FAILED, ST_DTYPE_UNSUPPORTED,
     "F8_E4M3, expected F8_E5M2"},
    {NATIVE, "{\"fp8_config\": \"E3M4\", \"mode\": \"LOAD\"}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "fp8_config"},
    {NATIVE, "{\"fp8_config\": \"E4M3\", \"mode\": \"LOAD\", \"hp_dtype\": \"int8\"}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "hp_dtype"},
    {NATIVE, "{" INC ", \"fake_quant\": \"True\"}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "fake_quant"},
    {QDQ, "{" INC ", \"use_qdq\": \"True\"}", CLAIM_CLAIMED, ST_OK, NULL},
    // integer codes
    {CODES, "{" G32 "}", CLAIM_CLAIMED, ST_OK, NULL},
    {CODES, "{" G32 ", \"packing_format\": \"auto_round:auto_gptq:tritonv2\"}", CLAIM_CLAIMED,
     ST_OK, NULL},
    {CODES, "{" G32 ", \"packing_format\": \"auto_round:exllamav2\", \"sym\": false}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {CODES, "{" G32 ", \"backend\": \"auto\", \"data_type\": \"int\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {CODES, "{" G32 ", \"backend\": \"gptqmodel:marlin\", \"act_bits\": 16}", CLAIM_CLAIMED, ST_OK,
     NULL},
    {CODES, "{" G32 ", \"backend\": \"auto_round:exllamav2\", \"sym\": false}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "backend"},
    {CODES, "{" G32 ", \"packing_format\": \"auto_round:llm_compressor\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "llm_compressor"},
    {CODES, "{" G32 ", \"packing_format\": \"mlx\"}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "mlx"},
    {CODES, "{" G32 ", \"packing_format\": \"auto_rounds\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "packing_format"},
    {CODES, "{" G32 ", \"packing_format\": \"auto_round:auto_gptq:gptqmodel\"}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "packing_format"},
    {CODES, "{" G32 ", \"packing_format\": 4}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "packing_format"},
    {CODES, "{" G32 ", \"data_type\": \"mx_fp\"}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "mx_fp"},
    {CODES, "{" G32 ", \"data_type\": \"int_asym_dq\"}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED,
     "int_asym_dq"},
    {CODES, "{" G32 ", \"act_bits\": 8}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED, "act_bits"},
    {CODES, "{" G32 ", \"rotation_config\": {\"hadamard\": true}}", CLAIM_FAILED,
     ST_QUANT_METHOD_UNSUPPORTED, "rotation_config"},
    {CODES, "{" ROUND "\"bits\": 8, \"group_size\": 32}", CLAIM_FAILED, ST_TENSOR_SHAPE_MISMATCH,
     "m.qweight"},
    {CODES, "{" ROUND "\"bits\": 9, \"group_size\": 32}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "bits"},
    {CODES, "{" ROUND "\"bits\": 4, \"group_size\": 0}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "group_size"},
    {CODES, "{" G32 ", \"packing_format\": \"auto_round:auto_awq\"}", CLAIM_FAILED,
     ST_TENSOR_SHAPE_MISMATCH, "m.qweight"},
    {AWQ, "{" G32 ", \"packing_format\": \"auto_round:auto_awq\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {AWQ, "{" G32 ", \"packing_format\": \"auto_round:awq:marlin\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {AWQ, "{" ROUND "\"bits\": 8, \"group_size\": 32, \"packing_format\": \"auto_round:awq\"}",
     CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED, "bits"},
    // the rules for one module
    {CODES, "{" G32 ", \"extra_config\": {\"m\": {\"bits\": 16}}}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "16"},
    {CODES, "{" G32 ", \"extra_config\": {\"^m$\": {\"bits\": 16}}}", CLAIM_FAILED,
     ST_CHECKPOINT_INVALID, "16"},
    {CODES,
     "{" G32 ", \"extra_config\": {\".*m.*\": {}, \"m\": {\"bits\": 4}, \"^m\": {\"bits\": 2}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {CODES, "{" G32 ", \"extra_config\": {\"m.x\": {\"bits\": 2}, \"(\": {\"bits\": 2}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    {CODES, "{" G32 ", \"extra_config\": [\"m\"]}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "extra_config"},
    {CODES,
     "{" ROUND "\"bits\": 2, \"group_size\": 8, \"extra_config\": {\".*m\": {\"bits\": 4, "
     "\"group_size\": 32}}}",
     CLAIM_CLAIMED, ST_OK, NULL},
    // FP8
    {STATIC, "{" FP8 ", \"act_bits\": 8, \"fmt\": \"e4m3\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {STATIC, "{" FP8 ", \"fmt\": \"e5m2\"}", CLAIM_FAILED, ST_DTYPE_UNSUPPORTED, "m.weight"},
    {STATIC, "{" FP8 ", \"fmt\": \"e3m4\"}", CLAIM_FAILED, ST_QUANT_METHOD_UNSUPPORTED, "fmt"},
    {STATIC, "{\"quant_method\": \"fp8\"}", CLAIM_CLAIMED, ST_OK, NULL},
    {STATIC, "{\"quant_method\": \"compressed-tensors\"}", CLAIM_DECLINED, ST_OK, NULL},
    {BLOCK, "{\"quant_method\": \"fp8\", \"weight_block_size\": [16, 32]}", CLAIM_CLAIMED, ST_OK,
     NULL},
    {BLOCK, "{" FP8 ", \"group_size\": [16, 32]}", CLAIM_CLAIMED, ST_OK, NULL},
    {BLOCK, "{" FP8 ", \"group_size\": [16, 16]}", CLAIM_FAILED, ST_TENSOR_SHAPE_MISMATCH,
     "m.weight_scale_inv"},
    {BLOCK, "{" FP8 ", \"group_size\": [16, 0]}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE,
     "group_size"},
    {BLOCK, "{" FP8 ", \"group_size\": 32}", CLAIM_FAILED, ST_CONFIG_INVALID_VALUE, "group_size"},
    {BLOCK, "{\"quant_method\": \"fp8\", \"weight_block_size\": \"128\"}", CLAIM_FAILED,
     ST_CONFIG_INVALID_VALUE, "weight_block_size"},
};

START_TEST(config_rules)
{
    struct made m;
    struct findings findings = {0};
    json_t *quant = config(configs[_i].config);
    make_good(&m, configs[_i].kind);
    m.spec.quant = quant;
    ck_assert_msg(inc->claim(&m.spec, &findings) == configs[_i].claim, "%s: %s", configs[_i].config,
                  findings.n ? findings.v[0].message : "no finding");
    if (configs[_i].code) {
        const struct finding *f = fixture_finding(&findings, configs[_i].code);
        ck_assert_msg(strstr(f->message, configs[_i].word) != NULL, "%s", f->message);
    } else {
        ck_assert_msg(findings.n == 0, "%s", findings.v[0].message);
    }
    findings_clear(&findings);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

static const char *config_of(enum inc_made kind)
{
    static const char *const texts[] = {
        [NATIVE] = "{" INC "}",
        [QDQ] = "{" INC "}",
        [CODES] = "{" G32 ", \"extra_config\": {\".*x\": {\"bits\": 2}}}",
        [AWQ] = "{" G32 ", \"packing_format\": \"auto_round:auto_awq\"}",
        [STATIC] = "{" FP8 "}",
        [BLOCK] = "{\"quant_method\": \"fp8\", \"weight_block_size\": [16, 32]}",
    };
    return texts[kind];
}

/* A tensor that is not as it must be: of that dtype and shape, or not there at all (DT_COUNT_). */
static const struct {
    enum inc_made kind;
    const char *suffix;
    enum dtype dtype;
    int rank;
    int64_t shape[3];
    enum status code;
} damages[] = {
    {NATIVE, "weight", DT_F8_E4M3, 2, {32, 64}, ST_TENSOR_SHAPE_MISMATCH},
    {NATIVE, "weight", DT_U8, 2, {64, 32}, ST_DTYPE_UNSUPPORTED},
    {NATIVE, "weight", DT_COUNT_, 0, {0}, ST_TENSOR_MISSING},
    {NATIVE, "scale_weight", DT_COUNT_, 0, {0}, ST_TENSOR_MISSING},
    {NATIVE, "scale_weight", DT_BF16, 1, {31}, ST_TENSOR_SHAPE_MISMATCH},
    {NATIVE, "scale_weight", DT_BF16, 3, {1, 1, 1}, ST_TENSOR_SHAPE_MISMATCH},
    {NATIVE, "scale_weight", DT_I32, 0, {0}, ST_DTYPE_UNSUPPORTED},
    {NATIVE, "scale_input", DT_BF16, 1, {64}, ST_QUANT_METHOD_UNSUPPORTED},
    {NATIVE, "quant_input.scale_inv", DT_BF16, 2, {64, 1}, ST_QUANT_METHOD_UNSUPPORTED},
    {NATIVE, "weight_0_2", DT_F8_E4M3, 2, {64, 16}, ST_QUANT_METHOD_UNSUPPORTED},
    {NATIVE, "weight_scale", DT_BF16, 0, {0}, ST_TENSOR_UNEXPECTED},
    {QDQ, "dequant_weights.zero_point", DT_F32, 1, {32}, ST_TENSOR_SHAPE_MISMATCH},
    {QDQ, "scale_weight_0_2", DT_BF16, 0, {0}, ST_QUANT_METHOD_UNSUPPORTED},
    {CODES, "qzeros", DT_COUNT_, 0, {0}, ST_TENSOR_MISSING},
    {CODES, "qweight", DT_I16, 2, {8, 32}, ST_DTYPE_UNSUPPORTED},
    {CODES, "weight_packed", DT_U8, 2, {32, 32}, ST_QUANT_METHOD_UNSUPPORTED},
    {CODES, "act_scales", DT_BF16, 1, {1}, ST_TENSOR_UNEXPECTED},
    {CODES, "g_idx", DT_I32, 1, {63}, ST_TENSOR_SHAPE_MISMATCH},
    {AWQ, "scales", DT_F16, 2, {2, 31}, ST_TENSOR_SHAPE_MISMATCH},
    {AWQ, "g_idx", DT_I32, 1, {64}, ST_TENSOR_UNEXPECTED},
    {STATIC, "weight_scale", DT_COUNT_, 0, {0}, ST_TENSOR_MISSING},
    {STATIC, "weight_scale", DT_F8_E8M0, 1, {32}, ST_DTYPE_UNSUPPORTED},
    {STATIC, "weight_scale", DT_BF16, 1, {64}, ST_TENSOR_SHAPE_MISMATCH},
    {STATIC, "weight_zp", DT_BF16, 1, {32}, ST_TENSOR_UNEXPECTED},
    {BLOCK, "weight", DT_F8_E5M2, 2, {32, 64}, ST_DTYPE_UNSUPPORTED},
    {BLOCK, "weight_scale_inv", DT_F32, 2, {2, 3}, ST_TENSOR_SHAPE_MISMATCH},
};

START_TEST(damaged_modules_fail_by_name)
{
    struct made m;
    json_t *quant = config(config_of(damages[_i].kind));
    make_good(&m, damages[_i].kind);
    m.spec.quant = quant;
    if (damages[_i].dtype == DT_COUNT_)
        made_drop(&m, damages[_i].suffix);
    else
        made_put(&m, damages[_i].suffix, damages[_i].dtype, damages[_i].rank, damages[_i].shape,
                 NULL);
    bool packed = !strcmp(damages[_i].suffix, "weight_packed");
    fixture_refused(inc, &m.spec, damages[_i].code, packed ? "llm-compressor" : damages[_i].suffix);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

START_TEST(other_modules_are_refused)
{
    static const enum module_kind kinds[] = {MODULE_CONV2D, MODULE_EMBEDDING, MODULE_CONV1D};
    for (int i = 0; i < 18; i++) {
        struct made m;
        struct findings findings = {0};
        enum inc_made kind = (enum inc_made)(i / 3);
        json_t *quant = config(config_of(kind));
        make_good(&m, kind);
        m.spec.quant = quant;
        m.spec.kind = kinds[i % 3];
        bool codes = kind == CODES || kind == AWQ; // always [k, n]: a Conv1D lies like a Linear
        enum claim claim = codes && kinds[i % 3] == MODULE_CONV1D ? CLAIM_CLAIMED : CLAIM_FAILED;
        ck_assert_int_eq(inc->claim(&m.spec, &findings), claim);
        findings_clear(&findings);
        m.spec.kind = MODULE_LINEAR;
        m.spec.n = INT64_MAX / 3;
        ck_assert_int_eq(inc->claim(&m.spec, &findings), CLAIM_FAILED);
        fixture_finding(&findings, ST_TENSOR_SHAPE_MISMATCH);
        findings_clear(&findings);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

/* Content: a code or a scale that is not finite, and a zero point that is not zero. */
START_TEST(content_is_checked)
{
    static const struct {
        enum inc_made kind;
        const char *suffix;
        uint32_t value;
        enum status code;
    } bad[] = {
        {NATIVE, "weight", 0x7f, ST_NON_FINITE_WEIGHTS},
        {STATIC, "weight", 0xff, ST_NON_FINITE_WEIGHTS},
        {NATIVE, "scale_weight", 0x7f80, ST_NON_FINITE_WEIGHTS},
        {QDQ, "dequant_weights.scale", 0xffc0, ST_NON_FINITE_WEIGHTS},
        {QDQ, "dequant_weights.zero_point", 0x3f800000, ST_NOT_SUPPORTED},
        {CODES, "scales", 0x7c00, ST_NON_FINITE_WEIGHTS},
        {BLOCK, "weight_scale_inv", 0x7f800001, ST_NON_FINITE_WEIGHTS},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct made m;
        struct weight w;
        struct error err = ERROR_INIT;
        json_t *quant = config(config_of(bad[i].kind));
        make_good(&m, bad[i].kind);
        m.spec.quant = quant;
        const struct tensor *t = spec_tensor(&m.spec, bad[i].suffix);
        memcpy((void *)t->data, &bad[i].value, dtype_size(t->dtype));
        ck_assert_int_eq(inc->load(&m.spec, (struct slice){0}, &w, &err), bad[i].code);
        ck_assert_msg(strstr(err.text, bad[i].suffix) != NULL, "%s", err.text);
        ck_assert_ptr_null(w.data);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

/* E5M2 also has infinities. */
START_TEST(infinite_codes_are_refused)
{
    struct made m;
    struct weight w;
    struct error err = ERROR_INIT;
    json_t *quant = config("{\"fp8_config\": \"E5M2\", \"mode\": \"LOAD\"}");
    make_good(&m, NATIVE);
    m.spec.quant = quant;
    uint8_t *codes = made_put(&m, "weight", DT_F8_E5M2, 2, (int64_t[]){64, 32}, NULL);
    codes[63 * 32 + 31] = 0x7b; // the greatest
    w = fixture_load(inc, &m.spec);
    weight_clear(&w);
    codes[63 * 32 + 31] = 0xfc;
    ck_assert_int_eq(inc->load(&m.spec, (struct slice){0}, &w, &err), ST_NON_FINITE_WEIGHTS);
    ck_assert_msg(strstr(err.text, "0xfc of tensor m.weight for output 31, input 63") != NULL, "%s",
                  err.text);
    ck_assert_int_eq(inc->load(&m.spec, (struct slice){.cols = 63}, &w, &err), ST_OK);
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    for (int i = 0; i < 6; i++) {
        struct made m;
        json_t *quant = config(config_of((enum inc_made)i));
        make_good(&m, (enum inc_made)i);
        m.spec.quant = quant;
        faults_check_module(inc, &m.spec);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

/* A pattern that backtracks for ever ends at the match limit, and then is none. */
START_TEST(patterns_are_bounded)
{
    struct made m;
    json_t *quant = config("{" G32 ", \"extra_config\": {\"(a+)+$\": {\"bits\": 2}}}");
    make_good(&m, CODES);
    m.spec.quant = quant;
    m.spec.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    struct weight w = fixture_load(inc, &m.spec);
    ck_assert_ptr_null(inc->requantize);
    ck_assert_ptr_null(inc->store);
    weight_clear(&w);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

START_TEST(patterns_are_counted)
{
    struct made m;
    struct findings findings = {0};
    json_t *quant = config("{" G32 "}"), *extra = json_object();
    for (int i = 0; i < 1025; i++) {
        char key[16];
        snprintf(key, sizeof key, "x%d.*", i);
        json_object_set_new(extra, key, json_pack("{si}", "bits", 2));
    }
    json_object_set_new(quant, "extra_config", extra);
    make_good(&m, CODES);
    m.spec.quant = quant;
    ck_assert_int_eq(inc->claim(&m.spec, &findings), CLAIM_FAILED);
    const struct finding *f = fixture_finding(&findings, ST_CONFIG_INVALID_VALUE);
    ck_assert_msg(strstr(f->message, "extra_config") != NULL, "%s", f->message);
    findings_clear(&findings);
    json_object_del(extra, "x7.*");
    ck_assert_int_eq(inc->claim(&m.spec, &findings), CLAIM_CLAIMED);
    made_clear(&m);
    json_decref(quant);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/inc");
    TCase *t = tcase_create("inc");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixtures_decode);
    tcase_add_test(t, packed_cases);
    tcase_add_test(t, worked_example);
    tcase_add_loop_test(t, random_blocks, 0, 24);
    tcase_add_loop_test(t, config_rules, 0, (int)(sizeof configs / sizeof configs[0]));
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, other_modules_are_refused);
    tcase_add_test(t, content_is_checked);
    tcase_add_test(t, infinite_codes_are_refused);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, patterns_are_bounded);
    tcase_add_test(t, patterns_are_counted);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
