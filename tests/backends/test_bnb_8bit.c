/*
 * The oracle is the library: modules that it quantized itself (fixture, and the cases that
 * vectors/formats/make_bnb_8bit.py made with all dtypes, shapes that divide nothing, rows of zeros,
 * large and tiny values) must decode to its hash and come out of requantize and store as its bytes;
 * and the worked examples of the format's description.
 */
#include "tests/backends/faults.h"

#include <math.h>

#include "backends/backends.h"

static const struct backend *const bnb = &bnb_8bit_backend;

/* A module whose weight tells the shape. */
static struct module_spec fixture_module(const struct fixture *f, const char *module)
{
    struct module_spec spec =
        fixture_spec(f, module, 1, 1, json_object_get(f->config, "quantization_config"));
    const struct tensor *t = spec_tensor(&spec, "weight");
    ck_assert_ptr_nonnull(t);
    spec.n = t->shape[0];
    spec.k = t->shape[1];
    return spec;
}

#define FIXTURE "fixtures/bnb8"
#define MODULE  "model.layers.0.self_attn.q_proj"

START_TEST(fixture_decodes_and_stores)
{
    struct fixture f = fixture_open(FIXTURE, "model.safetensors", "expected.json");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1], text[64];
        struct module_spec spec = fixture_module(&f, module);
        struct weight w = fixture_load(bnb, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s", module);
        fixture_stored_is(bnb, &w, &spec);
        ck_assert_str_eq(bnb->describe(&w, text, sizeof text), "int8, a scale a row");
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    fixture_close(&f);
}
END_TEST

/* merged.qv.<module> of expected.safetensors -> stored_sha256 (where the full fixtures are there).
 */
START_TEST(fixture_requantizes_to_the_librarys_bytes)
{
    struct fixture f = fixture_open(FIXTURE, "model.safetensors", "expected.json");
    json_t *merge = json_object_get(json_object_get(f.expected, "merge"), "qv");
    json_t *stored = json_object_get(merge, "stored_sha256");
    size_t n_tensors = 0;
    const struct tensor *t =
        f.expected_file ? safetensors_tensors(f.expected_file, &n_tensors) : NULL;
    for (size_t i = 0; i < n_tensors; i++) {
        if (strncmp(t[i].name, "merged.qv.", 10))
            continue;
        char name[256], hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_module(&f, t[i].name + 10);
        struct weight w = fixture_load(bnb, &spec), merged;
        float *values = malloc((size_t)(w.n * w.k) * sizeof *values);
        tensor_to_f32(&t[i], 0, w.n * w.k, values);
        ck_assert_int_eq(bnb->requantize(&w, values, &merged, NULL), ST_OK);
        struct stored s = {.sink = {.put = stored_put}};
        ck_assert_int_eq(bnb->store(&merged, &s.sink, NULL), ST_OK);
        ck_assert_uint_eq(s.n, 3);
        for (size_t j = 0; j < 2; j++) { // the third is weight_format
            snprintf(name, sizeof name, "%s.%s", spec.name, s.t[j].suffix);
            fixture_hex(s.t[j].data, s.t[j].bytes, hex);
            ck_assert_msg(json_object_get(stored, name) != NULL, "%s", name);
            ck_assert_str_eq(hex, json_string_value(json_object_get(stored, name)));
        }
        stored_clear(&s);
        free(values);
        weight_clear(&w);
        weight_clear(&merged);
    }
    fixture_close(&f);
}
END_TEST

/* ---- the library's cases ---- */

/* The float matrix that a case was made from. */
static float *case_input(const struct fixture *f, const json_t *c, int64_t n, int64_t k)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } dtypes[] = {{"float16", DT_F16}, {"bfloat16", DT_BF16}, {"float32", DT_F32}};
    const char *name = json_string_value(json_object_get(c, "dtype"));
    float factor = (float)json_number_value(json_object_get(c, "factor"));
    enum dtype dtype = DT_F32;
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(dtypes[i].name, name))
            dtype = dtypes[i].dtype;
    float *w = malloc((size_t)(n * k) * sizeof *w);
    tensor_to_f32(safetensors_find(f->file, "pool"), json_integer_value(json_object_get(c, "skip")),
                  n * k, w);
    for (int64_t i = 0; i < n * k; i++)
        w[i] = round_to_dtype(w[i] * factor, dtype);
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(c, "zero"), i, row)
        memset(w + json_integer_value(row) * k, 0, (size_t)k * sizeof *w);
    return w;
}

START_TEST(library_cases)
{
    struct fixture f = fixture_open("formats", "bnb_8bit.safetensors", "bnb_8bit.json");
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        int64_t n = json_integer_value(json_object_get(c, "n"));
        int64_t k = json_integer_value(json_object_get(c, "k"));
        const char *name = json_string_value(json_object_get(c, "name"));
        struct module_spec spec = fixture_spec(&f, name, n, k, NULL);
        struct weight w = fixture_load(bnb, &spec), again;
        char hex[2 * DIGEST_SIZE + 1];
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(c, "sha256"))), "%s decodes",
                      name);
        fixture_stored_is(bnb, &w, &spec);
        float *input = case_input(&f, c, n, k);
        ck_assert_int_eq(bnb->requantize(&w, input, &again, NULL), ST_OK);
        fixture_stored_is(bnb, &again, &spec);
        fixture_glue(bnb, &spec, 5, 7);
        free(input);
        weight_clear(&w);
        weight_clear(&again);
    }
    fixture_close(&f);
}
END_TEST

/* ---- a small module of our own ---- */

struct tiny {
    struct module_spec spec;
    struct tensor t[4];
    int8_t codes[6];
    float scb[2];
    uint8_t format;
};

/* The two rows of the format's worked example; tensors sorted by name. */
static void tiny_init(struct tiny *m)
{
    *m = (struct tiny){.codes = {127, -64, 25, 64, -127, 32}, .scb = {0.5f, 3}};
    m->t[0] = (struct tensor){.name = "m.SCB",
                              .file = "f",
                              .dtype = DT_F32,
                              .rank = 1,
                              .shape = {2},
                              .data = m->scb,
                              .bytes = sizeof m->scb};
    m->t[1] = (struct tensor){.name = "m.weight",
                              .file = "f",
                              .dtype = DT_I8,
                              .rank = 2,
                              .shape = {2, 3},
                              .data = m->codes,
                              .bytes = sizeof m->codes};
    m->t[2] = (struct tensor){
        .name = "m.weight_format", .file = "f", .dtype = DT_U8, .data = &m->format, .bytes = 1};
    m->spec = (struct module_spec){
        .name = "m", .file = "m", .n = 2, .k = 3, .tensors = m->t, .n_tensors = 3};
}

START_TEST(worked_example)
{
    static const float values[6] = {0.5f, -0.2519685f, 0.098425195f, 1.511811f, -3.0f, 0.7559055f};
    static const float rows[6] = {0.5f, -0.25f, 0.1f, 1.5f, -3, 0.75f};
    struct tiny m;
    tiny_init(&m);
    struct weight w = fixture_load(bnb, &m.spec), again;
    for (int64_t i = 0; i < 6; i++)
        ck_assert_float_eq_tol(weight_element(&w, i / 3, i % 3), values[i], 1e-7f);
    ck_assert_int_eq(bnb->requantize(&w, rows, &again, NULL), ST_OK);
    fixture_stored_is(bnb, &again, &m.spec);
    weight_clear(&again);
    weight_clear(&w);
}
END_TEST

/* Without weight_format a file is row-major, and stored without it again. A Conv1D lies like a
 * linear module, its bias is not the back end's. */
START_TEST(older_files)
{
    struct tiny m;
    tiny_init(&m);
    float bias[2] = {1, 2};
    m.t[2] = m.t[1];
    m.t[1] = (struct tensor){.name = "m.bias",
                             .file = "f",
                             .dtype = DT_F32,
                             .rank = 1,
                             .shape = {2},
                             .data = bias,
                             .bytes = sizeof bias};
    m.spec.kind = MODULE_CONV1D;
    struct weight w = fixture_load(bnb, &m.spec);
    fixture_stored_is(bnb, &w, &m.spec);
    ck_assert_uint_eq(w.file_bytes, sizeof m.codes + sizeof m.scb);
    weight_clear(&w);
}
END_TEST

/* Against the definition in double: the decoded element within two roundings, and requantizing
 * twice changes nothing. */
START_TEST(random_modules)
{
    uint32_t seed = 7;
    for (int round = 0; round < 40; round++) {
        int64_t n = 1 + round * 7 % 40, k = 1 + round * 13 % 90;
        int8_t *codes = malloc((size_t)(n * k));
        float *scb = malloc((size_t)n * sizeof *scb), *values;
        for (int64_t i = 0; i < n * k; i++)
            codes[i] = (int8_t)((seed = seed * 1664525 + 1013904223) >> 24);
        for (int64_t i = 0; i < n; i++)
            scb[i] = (float)((seed = seed * 1664525 + 1013904223) >> 8) * 0x1p-20f;
        struct tensor t[2] = {{.name = "m.SCB", .file = "f", .dtype = DT_F32, .rank = 1},
                              {.name = "m.weight", .file = "f", .dtype = DT_I8, .rank = 2}};
        t[0].shape[0] = t[1].shape[0] = n;
        t[1].shape[1] = k;
        t[0].data = scb;
        t[1].data = codes;
        t[0].bytes = (size_t)n * sizeof *scb;
        t[1].bytes = (size_t)(n * k);
        struct module_spec spec = {
            .name = "m", .file = "m", .n = n, .k = k, .tensors = t, .n_tensors = 2};
        struct weight w = fixture_load(bnb, &spec), once, twice;
        values = fixture_decode(&w);
        for (int64_t i = 0; i < n * k; i++) {
            double exact = (double)codes[i] * (double)scb[i / k] * (1.0 / 127.0);
            ck_assert_double_le(fabs((double)values[i] - exact), fabs(exact) * 2.5e-7);
        }
        ck_assert_int_eq(bnb->requantize(&w, values, &once, NULL), ST_OK);
        float *again = fixture_decode(&once);
        ck_assert_int_eq(bnb->requantize(&once, again, &twice, NULL), ST_OK);
        ck_assert_mem_eq(once.data, twice.data, once.data_bytes);
        fixture_glue(bnb, &spec, 17, 33);
        free(again);
        free(values);
        free(codes);
        free(scb);
        weight_clear(&w);
        weight_clear(&once);
        weight_clear(&twice);
    }
}
END_TEST

/* ---- what is refused ---- */

static void no_scb(struct tiny *m)
{
    m->t[0].name = "elsewhere.SCB";
}
static void short_scb(struct tiny *m)
{
    m->t[0].shape[0] = 1;
}
static void half_scb(struct tiny *m)
{
    m->t[0].dtype = DT_F16;
}
static void unsigned_weight(struct tiny *m)
{
    m->t[1].dtype = DT_U8;
}
static void turned_weight(struct tiny *m)
{
    m->t[1].shape[0] = 3;
    m->t[1].shape[1] = 2;
}
static void no_weight(struct tiny *m)
{
    m->t[1].name = "elsewhere.weight";
}
static void turing(struct tiny *m)
{
    m->format = 2;
}
static void unknown_format(struct tiny *m)
{
    m->format = 200;
}
static void long_format(struct tiny *m)
{
    m->t[2].rank = 1;
    m->t[2].shape[0] = 1;
}
static void odd_name(struct tiny *m)
{
    m->t[2].name = "m.weight_formats";
}
static void as_embedding(struct tiny *m)
{
    m->spec.kind = MODULE_EMBEDDING;
}
static void as_conv(struct tiny *m)
{
    m->spec.kind = MODULE_CONV2D;
}
static void too_large(struct tiny *m)
{
    m->spec.n = (int64_t)1 << 40;
}
static void empty(struct tiny *m)
{
    m->spec.k = m->t[1].shape[1] = 0;
}

static const struct {
    void (*change)(struct tiny *m);
    enum status code;
    const char *word; /* in the sentence */
} damages[] = {
    {no_scb, ST_TENSOR_MISSING, "m.SCB"},
    {short_scb, ST_TENSOR_SHAPE_MISMATCH, "m.SCB has shape [1], expected [2]"},
    {half_scb, ST_DTYPE_UNSUPPORTED, "m.SCB is F16"},
    {unsigned_weight, ST_DTYPE_UNSUPPORTED, "m.weight is U8, expected I8"},
    {turned_weight, ST_TENSOR_SHAPE_MISMATCH, "[3, 2], expected [2, 3]"},
    {no_weight, ST_TENSOR_MISSING, "m.weight"},
    {turing, ST_QUANT_METHOD_UNSUPPORTED, "m.weight_format is 2 (col_turing)"},
    {unknown_format, ST_QUANT_METHOD_UNSUPPORTED, "200 (unknown)"},
    {long_format, ST_TENSOR_SHAPE_MISMATCH, "m.weight_format"},
    {odd_name, ST_TENSOR_UNEXPECTED, "m.weight_formats"},
    {as_embedding, ST_QUANT_METHOD_UNSUPPORTED, "linear"},
    {as_conv, ST_QUANT_METHOD_UNSUPPORTED, "linear"},
    {too_large, ST_TENSOR_SHAPE_MISMATCH, "module m"},
    {empty, ST_TENSOR_SHAPE_MISMATCH, "module m"},
};

START_TEST(damaged_modules_fail_by_name)
{
    struct tiny m;
    tiny_init(&m);
    damages[_i].change(&m);
    fixture_refused(bnb, &m.spec, damages[_i].code, damages[_i].word);
}
END_TEST

START_TEST(config_must_agree)
{
    static const struct {
        const char *text;
        enum claim claim;
    } cases[] = {
        {"{\"quant_method\": \"bitsandbytes\", \"load_in_8bit\": true}", CLAIM_CLAIMED},
        {"{\"load_in_8bit\": true}", CLAIM_CLAIMED},
        {"{\"load_in_8bit\": true, \"load_in_4bit\": true}", CLAIM_CLAIMED},
        {"{\"load_in_8bit\": true, \"llm_int8_skip_modules\": [\"m\"]}", CLAIM_CLAIMED},
        {"{\"quant_method\": \"bitsandbytes\"}", CLAIM_FAILED},
        {"{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}", CLAIM_FAILED},
        {"{\"quant_method\": \"eetq\", \"load_in_8bit\": true}", CLAIM_FAILED},
        {"{\"quant_method\": 8, \"load_in_8bit\": true}", CLAIM_FAILED},
        {"{\"load_in_8bit\": true, \"llm_int8_has_fp16_weight\": true}", CLAIM_FAILED},
    };
    struct tiny m;
    tiny_init(&m);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *quant = json_loads(cases[i].text, 0, NULL);
        struct findings findings = {0};
        m.spec.quant = quant;
        ck_assert_msg(bnb->claim(&m.spec, &findings) == cases[i].claim, "%s", cases[i].text);
        ck_assert(!findings.errors == (cases[i].claim == CLAIM_CLAIMED));
        findings_clear(&findings);
        json_decref(quant);
    }
}
END_TEST

/* In a mixed checkpoint floats are somebody else's; codes without their scales are broken. */
START_TEST(mixed_checkpoints)
{
    struct tiny m;
    struct findings findings = {0};
    tiny_init(&m);
    json_t *quant =
        json_loads("{\"load_in_8bit\": true, \"llm_int8_has_fp16_weight\": false}", 0, NULL);
    json_t *kept =
        json_loads("{\"load_in_8bit\": true, \"llm_int8_has_fp16_weight\": true}", 0, NULL);
    m.spec.tensors = &m.t[1];
    m.spec.n_tensors = 1;
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_DECLINED);
    m.spec.quant = quant;
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_FAILED);
    fixture_finding(&findings, ST_TENSOR_MISSING);
    findings_clear(&findings);

    m.t[1].dtype = DT_F16;
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_DECLINED);
    m.spec.kind = MODULE_CONV1D;
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_DECLINED);
    m.spec.quant = kept; // [n, k] where it was replaced, [k, n] where it was skipped
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_FAILED);
    fixture_finding(&findings, ST_QUANT_METHOD_UNSUPPORTED);
    findings_clear(&findings);
    m.spec.kind = MODULE_LINEAR;
    ck_assert_int_eq(bnb->claim(&m.spec, &findings), CLAIM_DECLINED);
    json_decref(quant);
    json_decref(kept);
}
END_TEST

START_TEST(scales_must_be_finite)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct tiny m;
        struct error err = ERROR_INIT;
        struct weight w;
        tiny_init(&m);
        m.scb[1] = bad[i];
        ck_assert_int_eq(bnb->load(&m.spec, (struct slice){0}, &w, &err), ST_NON_FINITE_WEIGHTS);
        ck_assert_msg(strstr(err.text, "element 1 of tensor m.SCB") != NULL, "%s", err.text);
        ck_assert_ptr_null(w.data);
    }
}
END_TEST

/* What cannot be an F16, which the library makes of it first, cannot be quantized. */
START_TEST(merged_rows_must_be_finite)
{
    static const float bad[] = {NAN, INFINITY, 65520, -1e30f};
    struct tiny m;
    tiny_init(&m);
    struct weight w = fixture_load(bnb, &m.spec), again;
    for (int i = 0; i < 4; i++) {
        float rows[6] = {1, 2, 3, 4, bad[i], 6};
        struct error err = ERROR_INIT;
        ck_assert_int_eq(bnb->requantize(&w, rows, &again, &err), ST_MERGE_NON_FINITE);
        ck_assert_ptr_nonnull(strstr(err.text, "row 1"));
        ck_assert_ptr_null(again.data);
    }
    weight_clear(&w);
}
END_TEST

START_TEST(parts)
{
    struct tiny m;
    struct error err = ERROR_INIT;
    struct weight w, again;
    tiny_init(&m);
    ck_assert_int_eq(bnb->load(&m.spec, (struct slice){.row = 2}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(bnb->load(&m.spec, (struct slice){.col = 1, .cols = 3}, &w, &err),
                     ST_NOT_SUPPORTED);
    ck_assert_int_eq(bnb->load(&m.spec, (struct slice){.col = 1}, &w, &err), ST_OK);
    ck_assert_int_eq(bnb->requantize(&w, NULL, &again, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(bnb->store(&w, NULL, &err), ST_NOT_SUPPORTED);
    weight_clear(&w);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct tiny m;
    tiny_init(&m);
    faults_check_module(bnb, &m.spec);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/bnb_8bit");
    TCase *t = tcase_create("bnb_8bit");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixture_decodes_and_stores);
    tcase_add_test(t, fixture_requantizes_to_the_librarys_bytes);
    tcase_add_test(t, library_cases);
    tcase_add_test(t, worked_example);
    tcase_add_test(t, older_files);
    tcase_add_test(t, random_modules);
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, config_must_agree);
    tcase_add_test(t, mixed_checkpoints);
    tcase_add_test(t, scales_must_be_finite);
    tcase_add_test(t, merged_rows_must_be_finite);
    tcase_add_test(t, parts);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
