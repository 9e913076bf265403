/*
 * Plain modules against the fixtures' hashes and against hand-made tensors of every kind; what is
 * no plain module is refused by name.
 */
#include "tests/backends/fixture.h"

#include "backends/backends.h"

static const struct backend *const plain = &default_backend;

static void check_fixture(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    json_t *merge = json_object_get(json_object_get(f.expected, "merge"), "qv");
    json_t *stored = json_object_get(merge, "stored_sha256"), *hash;
    const char *module;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1], name[256];
        struct module_spec spec = fixture_spec(&f, module, 1, 1, NULL);
        spec.n = spec.tensors[0].shape[0];
        spec.k = spec.tensors[0].shape[1];
        struct weight w, merged;
        ck_assert_int_eq(plain->claim(&spec, &(struct findings){0}), CLAIM_CLAIMED);
        ck_assert_int_eq(plain->load(&spec, (struct slice){0}, &w, NULL), ST_OK);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, module);
        fixture_stored_is(plain, &w, &spec);

        snprintf(name, sizeof name, "merged.qv.%s", module);
        const struct tensor *input =
            f.expected_file ? safetensors_find(f.expected_file, name) : NULL;
        if (input) { // only the full fixtures have it
            float *values = malloc((size_t)(spec.n * spec.k) * sizeof *values);
            tensor_to_f32(input, 0, spec.n * spec.k, values);
            ck_assert_int_eq(plain->requantize(&w, values, &merged, NULL), ST_OK);
            struct stored s = {.sink = {.put = stored_put}};
            ck_assert_int_eq(plain->store(&merged, &s.sink, NULL), ST_OK);
            fixture_hex(s.t[0].data, s.t[0].bytes, hex);
            snprintf(name, sizeof name, "%s.weight", module);
            ck_assert_str_eq(hex, json_string_value(json_object_get(stored, name)));
            stored_clear(&s);
            weight_clear(&merged);
            free(values);
        }
        weight_clear(&w);
    }
    fixture_close(&f);
}

START_TEST(fixtures_decode_store_and_round)
{
    if (fixture_exists("fixtures/plain-f16"))
        check_fixture("fixtures/plain-f16");
    check_fixture("fixtures/plain-bf16");
}
END_TEST

/* One module in memory: element i of the file is i (exact in every dtype used here). */
#define ELEMENTS (19 * 12)

struct made {
    struct tensor t[2];
    char bytes[4 * ELEMENTS + 1];
    struct module_spec spec;
};

static void made_init(struct made *m, enum module_kind kind, enum dtype dtype, int rank,
                      const int64_t *shape, int64_t n, int64_t k)
{
    memset(m, 0, sizeof *m);
    char *data = m->bytes + 1; // unaligned, as in a file
    for (int i = 0; i < ELEMENTS; i++) {
        float f = (float)i;
        uint16_t h = dtype == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
        if (dtype == DT_F32)
            memcpy(data + 4 * i, &f, 4);
        else
            memcpy(data + 2 * i, &h, 2);
    }
    m->t[0] = (struct tensor){
        .name = "m.bias", .file = "f", .dtype = dtype, .rank = 1, .shape = {n}, .data = data};
    m->t[1] = (struct tensor){.name = "m.weight",
                              .file = "f",
                              .dtype = dtype,
                              .rank = rank,
                              .data = data,
                              .bytes = ELEMENTS * dtype_size(dtype)};
    memcpy(m->t[1].shape, shape, (size_t)rank * sizeof *shape);
    m->spec = (struct module_spec){
        .name = "m", .file = "m", .kind = kind, .n = n, .k = k, .tensors = m->t, .n_tensors = 2};
}

static void check_made(struct made *m, bool transposed)
{
    struct weight w, copy;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(plain->claim(&m->spec, &(struct findings){0}), CLAIM_CLAIMED);
    enum status st = plain->load(&m->spec, (struct slice){0}, &w, &err);
    ck_assert_msg(!st, "%s", err.text);
    ck_assert_int_eq(w.encoding, ENC_DENSE);
    for (int64_t r = 0; r < w.n; r++)
        for (int64_t k = 0; k < w.k; k++)
            ck_assert_float_eq(weight_element(&w, r, k),
                               (float)(transposed ? k * w.n + r : r * w.k + k));
    fixture_stored_is(plain, &w, &m->spec);
    float *values = fixture_decode(&w);
    ck_assert_int_eq(plain->requantize(&w, values, &copy, NULL), ST_OK);
    fixture_stored_is(plain, &copy, &m->spec);
    fixture_glue(plain, &m->spec, 5, 7);
    free(values);
    weight_clear(&w);
    weight_clear(&copy);
}

START_TEST(kinds_and_dtypes)
{
    static const enum dtype dtypes[3] = {DT_F32, DT_F16, DT_BF16};
    struct made m;
    enum dtype d = dtypes[_i];
    made_init(&m, MODULE_LINEAR, d, 2, (int64_t[]){19, 12}, 19, 12);
    check_made(&m, false);
    made_init(&m, MODULE_EMBEDDING, d, 2, (int64_t[]){12, 19}, 12, 19);
    check_made(&m, false);
    made_init(&m, MODULE_CONV1D, d, 2, (int64_t[]){12, 19}, 19, 12);
    check_made(&m, true);
    made_init(&m, MODULE_CONV2D, d, 4, (int64_t[]){19, 2, 3, 2}, 19, 12);
    memcpy(m.spec.conv, ((int64_t[]){2, 3, 2, 1}), sizeof m.spec.conv);
    check_made(&m, false);
}
END_TEST

/* Merge `into`: a like that says nothing but dtype and size. */
START_TEST(dense_copies)
{
    const float values[6] = {1, 2.0001f, -3, 65504, 1e-8f, 0.1f};
    struct weight like = {.dtype = DT_F16, .n = 2, .k = 3}, w;
    ck_assert_int_eq(plain->requantize(&like, values, &w, NULL), ST_OK);
    for (int i = 0; i < 6; i++)
        ck_assert_float_eq(weight_element(&w, i / 3, i % 3), round_to_dtype(values[i], DT_F16));
    struct stored s = {.sink = {.put = stored_put}};
    ck_assert_int_eq(plain->store(&w, &s.sink, NULL), ST_OK);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_str_eq(s.t[0].suffix, "weight");
    ck_assert(s.t[0].rank == 2 && s.t[0].shape[0] == 2 && s.t[0].shape[1] == 3);
    char text[32];
    ck_assert_str_eq(plain->describe(&w, text, sizeof text), "float16");
    stored_clear(&s);
    weight_clear(&w);
}
END_TEST

static const struct {
    const char *name; /* the second tensor's, instead of bias */
    enum status code;
    const char *word;
} companions[] = {
    {"m.qweight", ST_QUANT_METHOD_UNSUPPORTED, "GPTQ"},
    {"m.W_q", ST_QUANT_METHOD_UNSUPPORTED, "HQQ"},
    {"m.codes", ST_QUANT_METHOD_UNSUPPORTED, "AQLM"},
    {"m.weight.absmax", ST_QUANT_METHOD_UNSUPPORTED, "4-bit"},
    {"m.weight.quant_state.bitsandbytes__nf4", ST_QUANT_METHOD_UNSUPPORTED, "4-bit"},
    {"m.SCB", ST_QUANT_METHOD_UNSUPPORTED, "8-bit"},
    {"m.weight_scales", ST_QUANT_METHOD_UNSUPPORTED, "EETQ"},
    {"m.scale_weight", ST_QUANT_METHOD_UNSUPPORTED, "FP8"},
    {"m.weight_scale", ST_QUANT_METHOD_UNSUPPORTED, "FP8"},
    {"m.weight_scale_inv", ST_QUANT_METHOD_UNSUPPORTED, "FP8"},
    {"m.dequant_weights.scale", ST_QUANT_METHOD_UNSUPPORTED, "FP8"},
    {"m.weight_g", ST_TENSOR_UNEXPECTED, "m.weight_g"},
};

START_TEST(quantized_modules_are_refused_by_name)
{
    struct made m;
    made_init(&m, MODULE_LINEAR, DT_F16, 2, (int64_t[]){19, 12}, 19, 12);
    m.t[0].name = companions[_i].name;
    struct findings findings = {0};
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    const struct finding *f = fixture_finding(&findings, companions[_i].code);
    ck_assert_msg(strstr(f->message, companions[_i].word) != NULL, "%s", f->message);
    ck_assert_str_eq(f->module, "m");
    findings_clear(&findings);
}
END_TEST

START_TEST(wrong_tensors_fail)
{
    struct made m;
    struct findings findings = {0};
    made_init(&m, MODULE_LINEAR, DT_F16, 2, (int64_t[]){12, 19}, 19, 12);
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    const struct finding *f = fixture_finding(&findings, ST_TENSOR_SHAPE_MISMATCH);
    ck_assert_str_eq(f->expected, "[19, 12]");
    ck_assert_str_eq(f->got, "[12, 19]");
    ck_assert_str_eq(f->field, "m.weight");
    findings_clear(&findings);

    m.t[1].dtype = DT_I8;
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    f = fixture_finding(&findings, ST_DTYPE_UNSUPPORTED);
    ck_assert_str_eq(f->expected, "F16, BF16 or F32");
    findings_clear(&findings);

    m.spec.n_tensors = 1;
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    f = fixture_finding(&findings, ST_TENSOR_MISSING);
    ck_assert_str_eq(f->field, "m.weight");
    findings_clear(&findings);

    m.spec.n = 0;
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    fixture_finding(&findings, ST_TENSOR_SHAPE_MISMATCH);
    findings_clear(&findings);

    made_init(&m, MODULE_CONV2D, DT_F16, 4, (int64_t[]){19, 2, 3, 2}, 19, 12);
    memcpy(m.spec.conv, ((int64_t[]){2, 3, 3, 1}), sizeof m.spec.conv);
    ck_assert_int_eq(plain->claim(&m.spec, &findings), CLAIM_FAILED);
    fixture_finding(&findings, ST_TENSOR_SHAPE_MISMATCH);
    findings_clear(&findings);

    made_init(&m, MODULE_LINEAR, DT_F16, 2, (int64_t[]){19, 12}, 19, 12);
    static const struct slice outside[] = {
        {.row = 19}, {.row = -1}, {.rows = 20}, {.rows = -1}, {.col = 12}, {.col = 1, .cols = 12},
    };
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        struct weight w;
        ck_assert_int_eq(plain->load(&m.spec, outside[i], &w, NULL), ST_NOT_SUPPORTED);
        ck_assert_ptr_null(w.data);
    }
    struct weight part;
    ck_assert_int_eq(plain->load(&m.spec, (struct slice){.rows = 3}, &part, NULL), ST_OK);
    ck_assert_int_eq(plain->store(&part, NULL, NULL), ST_NOT_SUPPORTED);
    weight_clear(&part);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/default");
    TCase *t = tcase_create("default");
    tcase_add_test(t, fixtures_decode_store_and_round);
    tcase_add_loop_test(t, kinds_and_dtypes, 0, 3);
    tcase_add_test(t, dense_copies);
    tcase_add_loop_test(t, quantized_modules_are_refused_by_name, 0,
                        (int)(sizeof companions / sizeof companions[0]));
    tcase_add_test(t, wrong_tensors_fail);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
