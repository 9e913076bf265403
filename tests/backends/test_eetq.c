/*
 * The oracle is the library: codes that EETQ's own compiled quantizer laid out for several GPUs
 * (the fixture, and the cases of vectors/formats/make_eetq.py) must decode to the product of the
 * codes and scales that it gives before laying them out. The layouts are written again here from
 * the format's closed form, the other way round: from (row, column) to the byte.
 */
#include "tests/backends/faults.h"

#include <math.h>

#include "backends/backends.h"

static const struct backend *const eetq = &eetq_backend;

START_TEST(fixture_decodes)
{
    struct fixture f = fixture_open("fixtures/eetq8", "model.safetensors", "expected.json");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1], text[96];
        struct module_spec spec =
            fixture_spec(&f, module, 1, 1, json_object_get(f.config, "quantization_config"));
        const struct tensor *t = spec_tensor(&spec, "weight");
        spec.k = t->shape[0];
        spec.n = t->shape[1];
        struct weight w = fixture_load(eetq, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s", module);
        ck_assert_str_eq(eetq->describe(&w, text, sizeof text),
                         "int8, a scale a row, layout of compute capability 7.5");
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    fixture_close(&f);
}
END_TEST

START_TEST(library_cases)
{
    struct fixture f = fixture_open("formats", "eetq.safetensors", "eetq.json");
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        bool sm70 = json_integer_value(json_object_get(c, "sm")) < 75;
        const char *special = json_string_value(json_object_get(c, "special"));
        // few different values: both layouts are plausible, and nothing but the user can tell
        bool vague = !strcmp(special, "constant") || !strcmp(special, "tiny");
        const char *name = json_string_value(json_object_get(c, "name"));
        const char *sha256 = json_string_value(json_object_get(c, "sha256"));
        char hex[2 * DIGEST_SIZE + 1], text[96];
        json_t *told = json_pack("{ss}", "eetq_layout", sm70 ? "sm70" : "sm75");
        const json_t *quants[] = {NULL, told};
        for (int q = vague && sm70; q < 2; q++) {
            struct module_spec spec =
                fixture_spec(&f, name, json_integer_value(json_object_get(c, "n")),
                             json_integer_value(json_object_get(c, "k")), quants[q]);
            struct weight w = fixture_load(eetq, &spec);
            fixture_hash(&w, hex);
            ck_assert_msg(!strcmp(hex, sha256), "%s", name);
            eetq->describe(&w, text, sizeof text);
            ck_assert_ptr_nonnull(strstr(text, sm70 ? "7.0" : "7.5"));
            ck_assert(!strstr(text, "assumed") || (vague && !q));
            fixture_glue(eetq, &spec, 17, 27);
            weight_clear(&w);
        }
        json_decref(told);
    }
    fixture_close(&f);
}
END_TEST

/* ---- modules of our own ---- */

struct made {
    struct module_spec spec;
    struct tensor t[2];
    int8_t *bytes, *codes; /* as saved; [n, k] */
    uint16_t *scales;
};

/* The closed form: where the byte of (n, k) is. */
static int64_t place_sm75(int64_t k_count, int64_t n, int64_t k)
{
    static const int swapped[4] = {0, 2, 1, 3};
    int64_t g = k / 16, r = k % 16;
    int64_t kp = 16 * g + 4 * (r % 8 / 2) + 2 * (r / 8) + r % 2;
    int64_t word = 32 * (kp / 4 / 16) + 16 * (n % 2) + kp / 4 % 16;
    return 4 * (n / 2 * (k_count / 2) + word) + swapped[kp % 4];
}
static int64_t place_sm70(int64_t n_count, int64_t n, int64_t k)
{
    static const int swapped[4] = {0, 2, 1, 3};
    int64_t at = k * n_count + n;
    return at / 4 * 4 + swapped[at % 4];
}

/* Codes below `most` in size, but for one in each row. */
static void made_init(struct made *m, int64_t n, int64_t k, bool sm70, int most, int extreme,
                      uint32_t seed)
{
    *m = (struct made){.bytes = malloc((size_t)(n * k)),
                       .codes = malloc((size_t)(n * k)),
                       .scales = malloc((size_t)n * 2)};
    for (int64_t r = 0; r < n; r++) {
        int64_t at = ((seed = seed * 1664525 + 1013904223) >> 9) % k;
        m->scales[r] = (uint16_t)(0x1400 + r % 977);
        for (int64_t c = 0; c < k; c++) {
            int code = (int)((seed = seed * 1664525 + 1013904223) >> 16) % (2 * most + 1) - most;
            m->codes[r * k + c] = (int8_t)(c == at ? extreme : code);
            m->bytes[sm70 ? place_sm70(n, r, c) : place_sm75(k, r, c)] =
                (int8_t)(m->codes[r * k + c] + 128);
        }
    }
    m->t[0] = (struct tensor){.name = "m.weight",
                              .file = "f",
                              .dtype = DT_I8,
                              .rank = 2,
                              .shape = {k, n},
                              .data = m->bytes,
                              .bytes = (size_t)(n * k)};
    m->t[1] = (struct tensor){.name = "m.weight_scales",
                              .file = "f",
                              .dtype = DT_F16,
                              .rank = 1,
                              .shape = {n},
                              .data = m->scales,
                              .bytes = (size_t)n * 2};
    m->spec = (struct module_spec){
        .name = "m", .file = "m", .n = n, .k = k, .tensors = m->t, .n_tensors = 2};
}

static void made_clear(struct made *m)
{
    free(m->bytes);
    free(m->codes);
    free(m->scales);
}

/* Every element is the code times the scale, rounded once. */
static void made_check(const struct made *m, const struct weight *w)
{
    for (int64_t r = 0; r < m->spec.n; r++)
        for (int64_t c = 0; c < m->spec.k; c++) {
            double exact = (double)m->codes[r * m->spec.k + c] * (double)f16_to_f32(m->scales[r]);
            ck_assert_float_eq(weight_element(w, r, c), f16_to_f32(f32_to_f16((float)exact)));
        }
}

START_TEST(both_layouts)
{
    for (uint32_t round = 0; round < 24; round++) {
        static const int extremes[3] = {127, -128, -127};
        struct made m;
        char text[96];
        bool sm70 = round & 1;
        made_init(&m, 64 * (1 + round % 3), 64 * (1 + round % 5), sm70, 126, extremes[round % 3],
                  round);
        struct weight w = fixture_load(eetq, &m.spec);
        made_check(&m, &w);
        ck_assert_ptr_nonnull(strstr(eetq->describe(&w, text, sizeof text), sm70 ? "7.0" : "7.5"));
        weight_clear(&w);
        made_clear(&m);
    }
}
END_TEST

/* The worked example, widened: row 0 has the codes k, row 1 -k - 1. */
START_TEST(worked_example)
{
    static const uint8_t even[12] = {128, 136, 129, 137, 130, 138, 131, 139, 132, 140, 133, 141};
    static const uint8_t odd[8] = {127, 119, 126, 118, 125, 117, 124, 116};
    struct made m;
    made_init(&m, 64, 64, false, 100, 127, 1);
    for (int64_t k = 0; k < 64; k++) {
        m.codes[k] = (int8_t)k;
        m.codes[64 + k] = (int8_t)(-k - 1);
        m.bytes[place_sm75(64, 0, k)] = (int8_t)(k + 128);
        m.bytes[place_sm75(64, 1, k)] = (int8_t)(-k - 1 + 128);
    }
    ck_assert_mem_eq(m.bytes, even, sizeof even);
    ck_assert_mem_eq(m.bytes + 64, odd, sizeof odd);
    struct weight w = fixture_load(eetq, &m.spec);
    made_check(&m, &w);
    char text[96]; // the two rows have no code that the quantizer would have made
    ck_assert_ptr_nonnull(strstr(eetq->describe(&w, text, sizeof text), "7.5 (assumed"));
    weight_clear(&w);
    made_clear(&m);
}
END_TEST

/* Whatever the bytes look like, what the config tells counts. */
START_TEST(layout_may_be_told)
{
    for (int i = 0; i < 2; i++) {
        struct made m;
        made_init(&m, 64, 128, i, 100, 100, 5);
        json_t *quant =
            json_pack("{ssss}", "quant_method", "eetq", "eetq_layout", i ? "sm70" : "sm75");
        m.spec.quant = quant;
        struct weight w = fixture_load(eetq, &m.spec);
        made_check(&m, &w);
        weight_clear(&w);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

/* F32 scales are taken as they are; qweight is what the library calls the codes. */
START_TEST(names_and_dtypes)
{
    struct made m;
    made_init(&m, 64, 64, false, 126, 127, 3);
    float scales[64];
    for (int r = 0; r < 64; r++)
        scales[r] = 0.001f * (float)(r + 1);
    m.t[0].name = "m.qweight";
    m.t[1].dtype = DT_F32;
    m.t[1].data = scales;
    m.t[1].bytes = sizeof scales;
    json_t *quant =
        json_loads("{\"quant_method\": \"eetq\", \"zero_point\": false, \"bits\": 8}", 0, NULL);
    m.spec.quant = quant;
    struct weight w = fixture_load(eetq, &m.spec);
    for (int64_t i = 0; i < 64 * 64; i++) {
        float product = (float)m.codes[i] * scales[i / 64];
        ck_assert_float_eq(weight_element(&w, i / 64, i % 64), f16_to_f32(f32_to_f16(product)));
    }
    ck_assert_ptr_null(eetq->requantize);
    weight_clear(&w);
    json_decref(quant);
    made_clear(&m);
}
END_TEST

/* ---- what is refused ---- */

static void no_scales(struct made *m)
{
    m->t[1].name = "elsewhere.weight_scales";
}
static void short_scales(struct made *m)
{
    m->t[1].shape[0] = 63;
}
static void bf16_scales(struct made *m)
{
    m->t[1].dtype = DT_BF16;
}
static void no_weight(struct made *m)
{
    m->t[0].name = "elsewhere.weight";
}
static void float_weight(struct made *m)
{
    m->t[0].dtype = DT_F16;
}
static void turned_weight(struct made *m)
{
    m->t[0].shape[0] = 64;
    m->t[0].shape[1] = 128;
}
static void odd_name(struct made *m)
{
    m->t[0].name = "m.qweights";
}
static void narrow(struct made *m)
{
    m->spec.k = m->t[0].shape[0] = 96;
}
static void thin(struct made *m)
{
    m->spec.n = m->t[0].shape[1] = m->t[1].shape[0] = 32;
}
static void as_embedding(struct made *m)
{
    m->spec.kind = MODULE_EMBEDDING;
}
static void as_conv1d(struct made *m)
{
    m->spec.kind = MODULE_CONV1D;
}
static void too_large(struct made *m)
{
    m->spec.n = (int64_t)1 << 40;
}

static const struct {
    void (*change)(struct made *m);
    enum status code;
    const char *word; /* in the sentence */
} damages[] = {
    {no_scales, ST_TENSOR_MISSING, "m.weight_scales"},
    {short_scales, ST_TENSOR_SHAPE_MISMATCH, "m.weight_scales has shape [63], expected [64]"},
    {bf16_scales, ST_DTYPE_UNSUPPORTED, "m.weight_scales is BF16"},
    {no_weight, ST_TENSOR_MISSING, "m.weight"},
    {float_weight, ST_DTYPE_UNSUPPORTED, "m.weight is F16, expected I8"},
    {turned_weight, ST_TENSOR_SHAPE_MISMATCH, "[64, 128], expected [128, 64]"},
    {odd_name, ST_TENSOR_UNEXPECTED, "m.qweights"},
    {narrow, ST_TENSOR_SHAPE_MISMATCH, "[64, 96] to be multiples of 64"},
    {thin, ST_TENSOR_SHAPE_MISMATCH, "[32, 128] to be multiples of 64"},
    {as_embedding, ST_QUANT_METHOD_UNSUPPORTED, "linear"},
    {as_conv1d, ST_QUANT_METHOD_UNSUPPORTED, "linear"},
    {too_large, ST_TENSOR_SHAPE_MISMATCH, "module m"},
};

START_TEST(damaged_modules_fail_by_name)
{
    struct made m;
    made_init(&m, 64, 128, false, 126, 127, 9);
    json_t *quant = json_loads("{\"quant_method\": \"eetq\"}", 0, NULL);
    m.spec.quant = quant;
    damages[_i].change(&m);
    fixture_refused(eetq, &m.spec, damages[_i].code, damages[_i].word);
    json_decref(quant);
    made_clear(&m);
}
END_TEST

START_TEST(config_must_agree)
{
    static const struct {
        const char *text;
        enum claim claim;
        const char *word;
    } cases[] = {
        {"{}", CLAIM_CLAIMED, ""},
        {"{\"quant_method\": \"eetq\", \"weights\": \"int8\", \"modules_to_not_convert\": null}",
         CLAIM_CLAIMED, ""},
        {"{\"quant_method\": \"gptq\"}", CLAIM_FAILED, "quant_method"},
        {"{\"quant_method\": \"eetq\", \"weights\": \"int4\"}", CLAIM_FAILED, "weights"},
        {"{\"quant_method\": \"eetq\", \"bits\": 4}", CLAIM_FAILED, "bits"},
        {"{\"quant_method\": \"eetq\", \"bits\": \"8\"}", CLAIM_FAILED, "bits"},
        {"{\"quant_method\": \"eetq\", \"zero_point\": true}", CLAIM_FAILED, "zero_point"},
        {"{\"quant_method\": \"eetq\", \"eetq_layout\": \"sm90\"}", CLAIM_FAILED, "eetq_layout"},
        {"{\"quant_method\": \"eetq\", \"eetq_layout\": 70}", CLAIM_FAILED, "eetq_layout"},
    };
    struct made m;
    made_init(&m, 64, 64, false, 126, 127, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *quant = json_loads(cases[i].text, 0, NULL);
        struct findings findings = {0};
        m.spec.quant = quant;
        ck_assert_msg(eetq->claim(&m.spec, &findings) == cases[i].claim, "%s", cases[i].text);
        ck_assert(!findings.errors == (cases[i].claim == CLAIM_CLAIMED));
        if (findings.n)
            ck_assert_ptr_nonnull(strstr(findings.v[0].message, cases[i].word));
        findings_clear(&findings);
        json_decref(quant);
    }
    m.spec.quant = NULL; // codes alone are nobody's
    m.spec.n_tensors = 1;
    ck_assert_int_eq(eetq->claim(&m.spec, &(struct findings){0}), CLAIM_DECLINED);
    made_clear(&m);
}
END_TEST

START_TEST(scales_must_be_finite)
{
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e01};
    for (int i = 0; i < 3; i++) {
        struct made m;
        struct error err = ERROR_INIT;
        struct weight w;
        made_init(&m, 64, 64, false, 126, 127, 2);
        m.scales[63] = bad[i];
        ck_assert_int_eq(eetq->load(&m.spec, (struct slice){0}, &w, &err), ST_NON_FINITE_WEIGHTS);
        ck_assert_msg(strstr(err.text, "element 63 of tensor m.weight_scales") != NULL, "%s",
                      err.text);
        ck_assert_ptr_null(w.data);
        ck_assert_int_eq(eetq->load(&m.spec, (struct slice){.row = 64}, &w, &err),
                         ST_NOT_SUPPORTED);
        made_clear(&m);
    }
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct made m;
    made_init(&m, 64, 64, true, 126, 127, 2);
    faults_check_module(eetq, &m.spec);
    made_clear(&m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/eetq");
    TCase *t = tcase_create("eetq");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixture_decodes);
    tcase_add_test(t, library_cases);
    tcase_add_test(t, both_layouts);
    tcase_add_test(t, worked_example);
    tcase_add_test(t, layout_may_be_told);
    tcase_add_test(t, names_and_dtypes);
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, config_must_agree);
    tcase_add_test(t, scales_must_be_finite);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
