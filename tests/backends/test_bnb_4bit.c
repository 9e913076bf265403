/*
 * The oracle is the library: modules that it quantized itself (fixtures, and the cases that
 * vectors/formats/make_bnb_4bit.py made with all blocks, storages, dtypes and shapes that divide
 * nothing) must decode to its hash, come out of requantize + store as its bytes; and the worked
 * examples of the format's description.
 */
#include "tests/backends/fixture.h"

#include <math.h>

#include "backends/backends.h"
#include "backends/bnb_4bit_quantize.h"
#include "backends/bnb_4bit_state.h"

static const struct backend *const bnb = &bnb_4bit_backend;

/* The shape that a module's quant state tells. */
static void state_shape(const struct fixture *f, const char *module, int64_t *n, int64_t *k)
{
    struct module_spec any = fixture_spec(f, module, 1, 1, NULL);
    const struct tensor *t = NULL;
    for (int i = 0; i < BNB_4BIT_TYPES && !t; i++)
        t = spec_tensor(&any, bnb_4bit_state_suffixes[i]);
    ck_assert_ptr_nonnull(t);
    json_t *root = json_loadb(t->data, t->bytes, 0, NULL), *shape = json_object_get(root, "shape");
    *n = json_integer_value(json_array_get(shape, 0));
    *k = json_integer_value(json_array_get(shape, 1));
    json_decref(root);
}

static const json_t *quant_of(const struct fixture *f)
{
    return json_object_get(f->config, "quantization_config");
}

/* Every module of a fixture decodes to its hash and is stored as its own bytes. */
static void check_fixture(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        int64_t n, k;
        char hex[2 * DIGEST_SIZE + 1];
        state_shape(&f, module, &n, &k);
        struct module_spec spec = fixture_spec(&f, module, n, k, quant_of(&f));
        struct weight w = fixture_load(bnb, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, module);
        fixture_stored_is(bnb, &w, &spec);
        weight_clear(&w);
    }
    fixture_close(&f);
}

START_TEST(fixtures_decode_and_store)
{
    if (fixture_exists("fixtures/bnb4-fp4"))
        check_fixture("fixtures/bnb4-fp4");
    check_fixture("fixtures/bnb4-nf4-dq");
}
END_TEST

/* merged.qv.<module> of expected.safetensors -> stored_sha256 (where the full fixtures are there).
 */
static void check_merged(const char *dir)
{
    struct fixture f = fixture_open(dir, "model.safetensors", "expected.json");
    json_t *merge = json_object_get(json_object_get(f.expected, "merge"), "qv");
    json_t *stored = json_object_get(merge, "stored_sha256"), *hash;
    size_t n_tensors = 0;
    const struct tensor *t =
        f.expected_file ? safetensors_tensors(f.expected_file, &n_tensors) : NULL;
    for (size_t i = 0; i < n_tensors; i++) {
        if (strncmp(t[i].name, "merged.qv.", 10))
            continue;
        const char *module = t[i].name + 10;
        int64_t n, k;
        char name[256], hex[2 * DIGEST_SIZE + 1];
        state_shape(&f, module, &n, &k);
        struct module_spec spec = fixture_spec(&f, module, n, k, quant_of(&f));
        struct weight w = fixture_load(bnb, &spec), merged;
        float *values = malloc((size_t)(n * k) * sizeof *values);
        tensor_to_f32(&t[i], 0, n * k, values);
        for (int64_t j = 0; j < n * k; j++)
            values[j] = round_to_dtype(values[j], w.dtype);
        ck_assert_int_eq(bnb->requantize(&w, values, &merged, NULL), ST_OK);
        struct stored s = {.sink = {.put = stored_put}};
        ck_assert_int_eq(bnb->store(&merged, &s.sink, NULL), ST_OK);
        for (size_t j = 0; j < s.n; j++) {
            snprintf(name, sizeof name, "%s.%s", module, s.t[j].suffix);
            hash = json_object_get(stored, name);
            ck_assert_msg(hash != NULL, "%s", name);
            fixture_hex(s.t[j].data, s.t[j].bytes, hex);
            ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", dir, name);
        }
        stored_clear(&s);
        free(values);
        weight_clear(&w);
        weight_clear(&merged);
    }
    fixture_close(&f);
}

START_TEST(fixtures_requantize_to_the_librarys_bytes)
{
    if (fixture_exists("fixtures/bnb4-fp4"))
        check_merged("fixtures/bnb4-fp4");
    check_merged("fixtures/bnb4-nf4-dq");
}
END_TEST

/* The float matrix that a case was made from. */
static float *case_input(const struct fixture *f, const json_t *c, enum dtype dtype, int64_t m)
{
    float *w = malloc((size_t)m * sizeof *w);
    tensor_to_f32(safetensors_find(f->file, "pool"), json_integer_value(json_object_get(c, "skip")),
                  m, w);
    size_t i;
    json_t *range;
    json_array_foreach(json_object_get(c, "zero"), i, range)
    {
        for (json_int_t j = json_integer_value(json_array_get(range, 0));
             j < json_integer_value(json_array_get(range, 1)); j++)
            w[j] = 0;
    }
    for (int64_t j = 0; j < m; j++)
        w[j] = round_to_dtype(w[j], dtype);
    return w;
}

START_TEST(library_cases)
{
    struct fixture f = fixture_open("formats", "bnb_4bit.safetensors", "bnb_4bit.json");
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        int64_t n = json_integer_value(json_object_get(c, "n"));
        int64_t k = json_integer_value(json_object_get(c, "k"));
        int64_t block = json_integer_value(json_object_get(c, "block"));
        const char *name = json_string_value(json_object_get(c, "name"));
        struct module_spec spec = fixture_spec(&f, name, n, k, NULL);
        struct weight w = fixture_load(bnb, &spec), again;
        char hex[2 * DIGEST_SIZE + 1];
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(c, "sha256"))), "%s decodes",
                      name);
        fixture_stored_is(bnb, &w, &spec);
        float *input = case_input(&f, c, w.dtype, n * k);
        ck_assert_int_eq(bnb->requantize(&w, input, &again, NULL), ST_OK);
        fixture_stored_is(bnb, &again, &spec);
        fixture_glue(bnb, &spec, 5, k % block ? 7 : block);
        free(input);
        weight_clear(&w);
        weight_clear(&again);
    }
    fixture_close(&f);
}
END_TEST

/* ---- the worked examples ---- */

static const float example[8] = {0.5f, -0.25f, 0.1f, 0, -0.5f, 0.33f, 0.02f, -0.04f};

static void check_example(enum bnb_4bit_type type, const uint8_t codes[8], const float values[8])
{
    struct bnb_4bit_bounds bounds;
    uint8_t got[8];
    float absmax;
    bnb_4bit_bounds_init(&bounds, bnb_4bit_tables[type]);
    bnb_4bit_quantize_blocks(&bounds, example, 1, 8, got, &absmax);
    ck_assert_float_eq(absmax, 0.5f);
    ck_assert_mem_eq(got, codes, 8);
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq_tol(bnb_4bit_tables[type][got[i]] * absmax, values[i], 1e-8f);
}

START_TEST(worked_examples)
{
    check_example(BNB_4BIT_NF4, (const uint8_t[]){15, 2, 9, 7, 0, 14, 8, 6},
                  (const float[]){0.5f, -0.26253653f, 0.0804651f, 0, -0.5f, 0.36147842f,
                                  0.03979015f, -0.04552502f});
    check_example(BNB_4BIT_FP4, (const uint8_t[]){3, 13, 6, 0, 11, 2, 8 - 7, 9},
                  (const float[]){0.5f, -0.25f, 0.083333336f, 0, -0.5f, 0.33333334f, 0.0026041667f,
                                  -0.0026041667f});
    const float absmax[4] = {0.5f, 0.25f, 1, 0.75f};
    struct fixture f = fixture_open("fixtures/bnb4-nf4-dq", "model.safetensors", "expected.json");
    float map[256], scale;
    const struct tensor *t =
        safetensors_find(f.file, "model.layers.0.self_attn.q_proj.weight.nested_quant_map");
    memcpy(map, t->data, sizeof map);
    uint8_t *lut = malloc(BNB_4BIT_LUT), codes[4];
    bnb_4bit_lut_init(lut, map);
    float offset = bnb_4bit_mean(absmax, 4);
    ck_assert_float_eq(offset, 0.625f);
    bnb_4bit_quantize_nested(lut, absmax, 4, offset, 256, codes, &scale);
    ck_assert_float_eq(scale, 0.375f);
    ck_assert_mem_eq(codes, ((const uint8_t[]){47, 0, 255, 207}), 4);
    const float decoded[4] = {0.50048828f, 0.25263673f, 1, 0.74951172f};
    for (int i = 0; i < 4; i++) {
        float product = map[codes[i]] * scale;
        ck_assert_float_eq_tol(product + offset, decoded[i], 1e-8f);
    }
    free(lut);
    fixture_close(&f);
}
END_TEST

START_TEST(tables_have_the_librarys_bits)
{
    const uint32_t nf4[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0,
                              0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
                              0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                              0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
    const uint32_t fp4[8] = {0x00000000, 0x3baaaaab, 0x3f2aaaab, 0x3f800000,
                             0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000};
    ck_assert_mem_eq(bnb_4bit_tables[BNB_4BIT_NF4], nf4, sizeof nf4);
    ck_assert_mem_eq(bnb_4bit_tables[BNB_4BIT_FP4], fp4, sizeof fp4);
    for (int i = 1; i < 8; i++)
        ck_assert_float_eq(bnb_4bit_tables[BNB_4BIT_FP4][8 + i], -bnb_4bit_tables[BNB_4BIT_FP4][i]);
}
END_TEST

/* ---- the quant state's text ---- */

static struct findings parse(const char *text, int64_t n, int64_t k, struct bnb_4bit_state *out)
{
    struct findings findings = {0};
    struct tensor t = {.name = "m.weight.quant_state.bitsandbytes__nf4",
                       .file = "f",
                       .dtype = DT_U8,
                       .rank = 1,
                       .shape = {(int64_t)strlen(text)},
                       .data = text,
                       .bytes = strlen(text)};
    struct module_spec spec = {
        .name = "m", .file = "m", .n = n, .k = k, .tensors = &t, .n_tensors = 1};
    bool ok = bnb_4bit_state_parse(&spec, &t, BNB_4BIT_NF4, out, &findings);
    ck_assert(ok == !findings.errors);
    return findings;
}

#define STATE(rest) "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float16\"" rest
#define NESTED(o)                                                                                  \
    ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": " o "}"

START_TEST(state_text_round_trips)
{
    static const char *const texts[] = {
        STATE(", \"shape\": [256, 512]}"),
        STATE(", \"shape\": [256, 512]" NESTED("0.19510963559150696")),
        STATE(", \"shape\": [256, 512]" NESTED("1.0")),
        STATE(", \"shape\": [256, 512]" NESTED("0.0")),
        STATE(", \"shape\": [256, 512]" NESTED("123456.0")),
        STATE(", \"shape\": [256, 512]" NESTED("100000.0")),
        STATE(", \"shape\": [256, 512]" NESTED("1.0000000116860974e-07")),
        STATE(", \"shape\": [256, 512]" NESTED("9.999999747378752e-05")),
        STATE(", \"shape\": [256, 512]" NESTED("0.0010000000474974513")),
        STATE(", \"shape\": [256, 512]" NESTED("1e+30")),
        STATE(", \"shape\": [256, 512]" NESTED("-2.5")),
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bnb_4bit_state s;
        struct findings findings = parse(texts[i], 256, 512, &s);
        ck_assert_msg(!findings.errors, "%s", findings.n ? findings.v[0].message : "");
        char buf[BNB_4BIT_STATE_MAX];
        size_t n = bnb_4bit_state_print(&s, buf);
        ck_assert_uint_eq(n, strlen(buf));
        if (!strstr(texts[i], "1e+30")) // the nearest float has more digits
            ck_assert_str_eq(buf, texts[i]);
        else
            ck_assert_ptr_nonnull(strstr(buf, "1.0000000150474662e+30"));
        findings_clear(&findings);
    }
}
END_TEST

START_TEST(state_text_is_strict)
{
    static const struct {
        const char *text;
        enum status code;
        const char *word; /* in the sentence */
    } cases[] = {
        {"", ST_CHECKPOINT_INVALID, "m.weight.quant_state"},
        {"[1]", ST_CHECKPOINT_INVALID, "object"},
        {"{\"a\": 1, \"a\": 2}", ST_CHECKPOINT_INVALID, "a"},
        {STATE(", \"shape\": [4, 8], \"extra\": 1}"), ST_CONFIG_UNKNOWN_FIELD, "extra"},
        {STATE("}"), ST_CONFIG_MISSING_FIELD, "shape"},
        {STATE(", \"shape\": [8, 4]}"), ST_TENSOR_SHAPE_MISMATCH, "[4, 8]"},
        {STATE(", \"shape\": [32]}"), ST_TENSOR_SHAPE_MISMATCH, "[4, 8]"},
        {STATE(", \"shape\": null}"), ST_TENSOR_SHAPE_MISMATCH, "[4, 8]"},
        {"{\"quant_type\": \"fp4\", \"blocksize\": 64, \"dtype\": \"float16\", \"shape\": [4, 8]}",
         ST_CONFIG_INVALID_VALUE, "quant_type"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 48, \"dtype\": \"float16\", \"shape\": [4, 8]}",
         ST_CONFIG_INVALID_VALUE, "blocksize"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 8192, \"dtype\": \"float16\", \"shape\": [4, "
         "8]}",
         ST_CONFIG_INVALID_VALUE, "blocksize"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64.0, \"dtype\": \"float16\", \"shape\": [4, "
         "8]}",
         ST_CONFIG_INVALID_VALUE, "blocksize"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float64\", \"shape\": [4, 8]}",
         ST_DTYPE_UNSUPPORTED, "dtype"},
        {STATE(", \"shape\": [4, 8], \"nested_offset\": 1.0}"), ST_CONFIG_MISSING_FIELD,
         "nested_blocksize"},
        {STATE(", \"shape\": [4, 8]" NESTED("\"1\"")), ST_CONFIG_INVALID_VALUE, "nested_offset"},
        {STATE(", \"shape\": [4, 8]" NESTED("1e300")), ST_CONFIG_INVALID_VALUE, "nested_offset"},
        {STATE(", \"shape\": [4, 8], \"nested_blocksize\": 256, \"nested_dtype\": \"float16\", "
               "\"nested_offset\": 1}"),
         ST_CONFIG_UNSUPPORTED, "nested_dtype"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnb_4bit_state s;
        struct findings findings = parse(cases[i].text, 4, 8, &s);
        const struct finding *f = fixture_finding(&findings, cases[i].code);
        ck_assert_msg(strstr(f->message, cases[i].word) != NULL, "%s", f->message);
        findings_clear(&findings);
    }
}
END_TEST

/* ---- claims ---- */

#define MODULE "model.layers.0.self_attn.q_proj"

/* One change to a good module (a copy of its tensors) and what must come of it. */
struct damage {
    void (*change)(struct module_spec *spec, struct tensor *t, size_t n);
    enum status code;
    const char *word;
};

static struct tensor *named(struct tensor *t, size_t n, const char *suffix)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(t[i].name + strlen(MODULE) + 1, suffix))
            return &t[i];
    ck_abort_msg("no tensor %s", suffix);
    return NULL;
}

static void short_absmax(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight.absmax")->shape[0]--;
}
static void float_absmax(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight.absmax")->dtype = DT_F32;
}
static void long_weight(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight")->shape[0]++;
}
static void int_weight(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight")->dtype = DT_I32;
}
static void odd_name(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight.quant_map")->name = MODULE ".weight.quant_mop";
}
static void no_nested(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight.nested_absmax")->name = "elsewhere.weight";
}
static void no_state(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)spec;
    named(t, n, "weight.quant_state.bitsandbytes__nf4")->name = "elsewhere.state";
}
static void nan_map(struct module_spec *spec, struct tensor *t, size_t n)
{
    static const float bad[16] = {NAN};
    (void)spec;
    named(t, n, "weight.quant_map")->data = bad;
}
static void as_conv(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)t;
    (void)n;
    spec->kind = MODULE_CONV2D;
}
static void other_shape(struct module_spec *spec, struct tensor *t, size_t n)
{
    (void)t;
    (void)n;
    spec->k = 128;
}

static const struct damage damages[] = {
    {short_absmax, ST_TENSOR_SHAPE_MISMATCH, "absmax"},
    {float_absmax, ST_DTYPE_UNSUPPORTED, "absmax"},
    {long_weight, ST_TENSOR_SHAPE_MISMATCH, MODULE ".weight"},
    {int_weight, ST_DTYPE_UNSUPPORTED, "I32"},
    {odd_name, ST_TENSOR_UNEXPECTED, "quant_mop"},
    {no_nested, ST_TENSOR_MISSING, "nested_absmax"},
    {no_state, ST_CHECKPOINT_INVALID, "quant_state"},
    {nan_map, ST_CHECKPOINT_INVALID, "quant_map"},
    {as_conv, ST_CHECKPOINT_INVALID, "convolution"},
    {other_shape, ST_TENSOR_SHAPE_MISMATCH, "[256, 128]"},
};

START_TEST(damaged_modules_fail_by_name)
{
    struct fixture f = fixture_open("fixtures/bnb4-nf4-dq", "model.safetensors", "expected.json");
    struct tensor t[16];
    struct module_spec spec = fixture_spec(&f, MODULE, 256, 256, quant_of(&f));
    ck_assert_uint_le(spec.n_tensors, 16);
    memcpy(t, spec.tensors, spec.n_tensors * sizeof t[0]);
    spec.tensors = t;
    damages[_i].change(&spec, t, spec.n_tensors);
    fixture_refused(bnb, &spec, damages[_i].code, damages[_i].word);
    fixture_close(&f);
}
END_TEST

START_TEST(config_must_agree)
{
    struct fixture f = fixture_open("fixtures/bnb4-nf4-dq", "model.safetensors", "expected.json");
    static const struct {
        const char *text;
        enum claim claim;
    } cases[] = {
        {"{\"quant_method\": \"gptq\"}", CLAIM_FAILED},
        {"{\"quant_method\": \"bitsandbytes\"}", CLAIM_FAILED},
        {"{\"quant_method\": \"bitsandbytes\", \"load_in_8bit\": true}", CLAIM_FAILED},
        {"{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}", CLAIM_CLAIMED},
        {"{\"load_in_4bit\": true}", CLAIM_CLAIMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *quant = json_loads(cases[i].text, 0, NULL);
        struct module_spec spec = fixture_spec(&f, MODULE, 256, 256, quant);
        struct findings findings = {0};
        ck_assert_int_eq(bnb->claim(&spec, &findings), cases[i].claim);
        ck_assert(!findings.errors == (cases[i].claim == CLAIM_CLAIMED));
        findings_clear(&findings);
        json_decref(quant);
    }
    struct module_spec plain = fixture_spec(&f, "lm_head", 512, 256, quant_of(&f));
    ck_assert_int_eq(bnb->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}
END_TEST

START_TEST(slices)
{
    struct fixture f = fixture_open("fixtures/bnb4-nf4-dq", "model.safetensors", "expected.json");
    struct module_spec spec =
        fixture_spec(&f, "model.layers.0.self_attn.k_proj", 128, 256, quant_of(&f));
    fixture_glue(bnb, &spec, 37, 128);
    struct weight w;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(bnb->load(&spec, (struct slice){.cols = 32}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "64"));
    ck_assert_int_eq(bnb->load(&spec, (struct slice){.row = 128}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(bnb->load(&spec, (struct slice){.rows = 3}, &w, &err), ST_OK);
    struct weight again;
    ck_assert_int_eq(bnb->requantize(&w, NULL, &again, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(bnb->store(&w, NULL, &err), ST_NOT_SUPPORTED);
    char text[64];
    ck_assert_str_eq(bnb->describe(&w, text, sizeof text), "nf4, block 64, double-quantized");
    weight_clear(&w);
    fixture_close(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/bnb_4bit");
    TCase *t = tcase_create("bnb_4bit");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fixtures_decode_and_store);
    tcase_add_test(t, fixtures_requantize_to_the_librarys_bytes);
    tcase_add_test(t, library_cases);
    tcase_add_test(t, worked_examples);
    tcase_add_test(t, tables_have_the_librarys_bits);
    tcase_add_test(t, state_text_round_trips);
    tcase_add_test(t, state_text_is_strict);
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, config_must_agree);
    tcase_add_test(t, slices);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
