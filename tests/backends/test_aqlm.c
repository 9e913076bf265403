/*
 * The oracle is the library's _dequantize_weight: the fixtures, and the cases that
 * vectors/formats/make_aqlm.py made over numbers and sizes of codebooks, groups and dtypes; random
 * modules against the definition; and the worked example of the format's description.
 */
#include "tests/backends/faults.h"
#include "tests/backends/made_module.h"

#include <math.h>

#include "backends/backends.h"

static const struct backend *const aqlm = &aqlm_backend;

/* ---- the library's files ---- */

static const char *const fixtures[] = {"fixtures/aqlm-2x8", "fixtures/aqlm-1x16"};

START_TEST(fixtures_decode)
{
    if (!fixture_exists(fixtures[_i])) {
        ck_assert_int_gt(_i, 0); // the first is the repository's own
        return;
    }
    struct fixture f = fixture_open(fixtures[_i], "model.safetensors", "expected.json");
    const json_t *quant = json_object_get(f.config, "quantization_config");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_spec(&f, module, 1, 1, quant);
        const struct tensor *t = spec_tensor(&spec, "codes");
        spec.n = t->shape[0];
        spec.k = t->shape[1] * 8;
        struct weight w = fixture_load(aqlm, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", fixtures[_i], module);
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    struct module_spec plain = fixture_spec(&f, "lm_head", 512, 256, quant);
    ck_assert_int_eq(aqlm->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}
END_TEST

START_TEST(library_cases)
{
    struct fixture f = fixture_open("formats", "aqlm.safetensors", "aqlm.json");
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = fixture_spec(&f, json_string_value(json_object_get(c, "name")), 1,
                                               1, c); // a case has the config's keys
        spec.n = json_integer_value(json_object_get(c, "n"));
        spec.k = json_integer_value(json_object_get(c, "k"));
        struct weight w = fixture_load(aqlm, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(c, "sha256"))), "%s",
                      spec.name);
        fixture_glue(aqlm, &spec, 3 * w.out_group, 2 * w.in_group);
        weight_clear(&w);
    }
    ck_assert_uint_gt(i, 10);
    fixture_close(&f);
}
END_TEST

/* ---- modules made here ---- */

static uint32_t seed = 1;
static uint32_t next(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static const struct shape {
    int64_t books;
    int bits;
    int64_t out_group, in_group, n, k;
    enum dtype dtype, codes;
} shapes[] = {
    {1, 8, 1, 8, 20, 48, DT_F16, DT_I8},   {2, 3, 2, 4, 6, 20, DT_BF16, DT_I8},
    {3, 12, 1, 3, 7, 9, DT_F32, DT_I16},   {1, 16, 1, 1, 2, 5, DT_F16, DT_I16},
    {4, 10, 5, 7, 10, 21, DT_F16, DT_I32}, {2, 1, 1, 2, 3, 8, DT_F32, DT_I64},
    {2, 8, 1, 8, 5, 32, DT_BF16, DT_I16},
};

static void put_floats(struct made *m, const char *suffix, enum dtype dtype, int rank,
                       const int64_t *shape, const float *v)
{
    int64_t n;
    ck_assert(size_product(shape, rank, &n));
    char *to = made_put(m, suffix, dtype, rank, shape, NULL);
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = dtype == DT_F16 ? f32_to_f16(v[i]) : f32_to_bf16(v[i]);
        memcpy(to + dtype_size(dtype) * (size_t)i, dtype == DT_F32 ? (const void *)&v[i] : &half,
               dtype_size(dtype));
    }
}

static int64_t book_size(const struct shape *s)
{
    return s->out_group * s->in_group << s->bits;
}

static void make(struct made *m, const struct shape *s, int64_t *codes, float *books, float *scales)
{
    int64_t out = s->n / s->out_group, in = s->k / s->in_group, ends = (int64_t)1 << s->bits;
    made_init(m, s->n, s->k);
    char *to = made_put(m, "codes", s->codes, 3, (int64_t[]){out, in, s->books}, NULL);
    size_t size = dtype_size(s->codes);
    for (int64_t i = 0; i < out * in * s->books; i++) {
        codes[i] = next((uint32_t)ends);
        int64_t stored = codes[i] < ends / 2 ? codes[i] : codes[i] - ends;
        memcpy(to + size * (size_t)i, &stored, size); // the low bytes of a two's complement number
    }
    for (int64_t i = 0; i < s->books * book_size(s); i++)
        books[i] = round_to_dtype((float)next(20001) / 10000 - 1, s->dtype);
    for (int64_t i = 0; i < out; i++)
        scales[i] = round_to_dtype((float)next(1000) / 777, s->dtype);
    put_floats(m, "codebooks", s->dtype, 4, (int64_t[]){s->books, ends, s->out_group, s->in_group},
               books);
    put_floats(m, "scales", s->dtype, 4, (int64_t[]){out, 1, 1, 1}, scales);
}

START_TEST(random_modules_decode_by_the_definition)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        int64_t in = s->k / s->in_group, piece = s->out_group * s->in_group;
        int64_t *codes = malloc((size_t)(s->n * s->k * s->books) * sizeof *codes);
        float *books = malloc((size_t)(s->books * book_size(s)) * sizeof *books);
        float *scales = malloc((size_t)s->n * sizeof *scales);
        struct made m;
        make(&m, s, codes, books, scales);
        struct weight w = fixture_load(aqlm, &m.spec);
        for (int64_t row = 0; row < s->n; row++) {
            for (int64_t col = 0; col < s->k; col++) {
                int64_t o = row / s->out_group, j = col / s->in_group;
                int64_t at = row % s->out_group * s->in_group + col % s->in_group;
                float sum = 0;
                for (int64_t b = 0; b < s->books; b++)
                    sum +=
                        books[b * book_size(s) + codes[(o * in + j) * s->books + b] * piece + at];
                float v = round_to_dtype(round_to_dtype(sum, s->dtype) * scales[o], s->dtype);
                ck_assert_msg(weight_element(&w, row, col) == v, "shape %zu, [%lld, %lld]", i,
                              (long long)row, (long long)col);
            }
        }
        weight_clear(&w);
        fixture_glue(aqlm, &m.spec, s->out_group, s->in_group);
        faults_check_module(aqlm, &m.spec);
        made_clear(&m);
        free(codes);
        free(books);
        free(scales);
    }
}
END_TEST

START_TEST(worked_example)
{
    struct made m;
    const float books[] = {0.5f, -1, 1.5f, 2, 0.25f, 0.5f, -0.5f, 1}, scale = 2;
    made_init(&m, 1, 4);
    put_floats(&m, "codebooks", DT_F16, 4, (int64_t[]){2, 2, 1, 2}, books);
    put_floats(&m, "scales", DT_F16, 4, (int64_t[]){1, 1, 1, 1}, &scale);
    made_put(&m, "codes", DT_I8, 3, (int64_t[]){1, 2, 2}, (int8_t[]){0, -1, -1, 0});
    struct weight w = fixture_load(aqlm, &m.spec);
    for (int k = 0; k < 4; k++)
        ck_assert_float_eq(weight_element(&w, 0, k), ((float[]){0, 0, 3.5f, 5})[k]);
    char text[64];
    ck_assert_str_eq(aqlm->describe(&w, text, sizeof text),
                     "2x1 (2 codebooks of 1 bit), groups of 1 x 2");
    weight_clear(&w);
    made_put(&m, "codes", DT_I64, 3, (int64_t[]){1, 2, 2}, (int64_t[]){0, 1, 1, 0}); // unsigned
    w = fixture_load(aqlm, &m.spec);
    ck_assert_float_eq(weight_element(&w, 0, 3), 5);
    weight_clear(&w);
    made_clear(&m);
}
END_TEST

/* The shape of codes that ran on a CPU: [k / in_group, n / out_group, C], 256 vectors a book. */
START_TEST(turned_codes_are_turned_back)
{
    const struct shape s = {2, 8, 1, 4, 6, 32, DT_F16, DT_I8};
    int64_t codes[6 * 8 * 2];
    float *books = malloc((size_t)(s.books * book_size(&s)) * sizeof *books), scales[6];
    struct made m;
    make(&m, &s, codes, books, scales);
    struct weight usual = fixture_load(aqlm, &m.spec);
    int8_t turned[8 * 6 * 2];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 8; j++)
            for (int b = 0; b < 2; b++)
                turned[(j * 6 + i) * 2 + b] = (int8_t)codes[(i * 8 + j) * 2 + b];
    made_put(&m, "codes", DT_I8, 3, (int64_t[]){8, 6, 2}, turned);
    struct weight w = fixture_load(aqlm, &m.spec);
    ck_assert_mem_eq(w.data, usual.data, usual.data_bytes);
    fixture_glue(aqlm, &m.spec, 4, 12);
    weight_clear(&w);
    weight_clear(&usual);
    made_clear(&m);
    free(books);
}
END_TEST

/* ---- what is refused ---- */

struct damage {
    void (*change)(struct made *m);
    enum status code;
    const char *word;
};

static void as_conv(struct made *m)
{
    m->spec.kind = MODULE_CONV2D;
}
static void no_codes(struct made *m)
{
    made_drop(m, "codes");
}
static void no_books(struct made *m)
{
    made_drop(m, "codebooks");
}
static void no_scales(struct made *m)
{
    made_drop(m, "scales");
}
static void odd_size(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 255, 1, 8}, NULL);
}
static void one_vector(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 1, 1, 8}, NULL);
}
static void huge_book(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 1 << 17, 1, 1}, NULL);
}
static void no_book(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){0, 256, 1, 8}, NULL);
}
static void flat_books(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 3, (int64_t[]){256, 1, 8}, NULL);
}
static void int_books(struct made *m)
{
    made_put(m, "codebooks", DT_I16, 4, (int64_t[]){1, 256, 1, 8}, NULL);
}
static void odd_in_group(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 256, 1, 7}, NULL);
}
static void odd_out_group(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 256, 3, 8}, NULL);
}
static void empty_group(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 256, 0, 8}, NULL);
}
static void short_codes(struct made *m)
{
    made_put(m, "codes", DT_I8, 3, (int64_t[]){20, 5, 1}, NULL);
}
static void float_codes(struct made *m)
{
    made_put(m, "codes", DT_F16, 3, (int64_t[]){20, 6, 1}, NULL);
}
static void narrow_codes(struct made *m)
{
    made_put(m, "codebooks", DT_F16, 4, (int64_t[]){1, 512, 1, 8}, NULL);
}
static void turned_512(struct made *m)
{
    narrow_codes(m);
    made_put(m, "codes", DT_I16, 3, (int64_t[]){6, 20, 1}, NULL);
}
static void other_scales(struct made *m)
{
    made_put(m, "scales", DT_F32, 4, (int64_t[]){20, 1, 1, 1}, NULL);
}
static void short_scales(struct made *m)
{
    made_put(m, "scales", DT_F16, 4, (int64_t[]){19, 1, 1, 1}, NULL);
}
static void stranger(struct made *m)
{
    made_put(m, "weight", DT_F16, 0, NULL, NULL);
}
static void huge(struct made *m)
{
    m->spec.n = INT64_MAX / 2;
}

static const struct damage damages[] = {
    {as_conv, ST_QUANT_METHOD_UNSUPPORTED, "linear modules"},
    {no_codes, ST_TENSOR_MISSING, "m.codes"},
    {no_books, ST_TENSOR_MISSING, "m.codebooks"},
    {no_scales, ST_TENSOR_MISSING, "m.scales"},
    {odd_size, ST_TENSOR_SHAPE_MISMATCH, "is 255"},
    {one_vector, ST_TENSOR_SHAPE_MISMATCH, "codebook size"},
    {huge_book, ST_TENSOR_SHAPE_MISMATCH, "131072"},
    {no_book, ST_TENSOR_SHAPE_MISMATCH, "number of codebooks is 0"},
    {flat_books, ST_TENSOR_SHAPE_MISMATCH, "m.codebooks"},
    {int_books, ST_DTYPE_UNSUPPORTED, "I16"},
    {odd_in_group, ST_TENSOR_SHAPE_MISMATCH, "in_group_size"},
    {odd_out_group, ST_TENSOR_SHAPE_MISMATCH, "out_group_size"},
    {empty_group, ST_TENSOR_SHAPE_MISMATCH, "out_group_size"},
    {short_codes, ST_TENSOR_SHAPE_MISMATCH, "[20, 6, 1]"},
    {float_codes, ST_DTYPE_UNSUPPORTED, "m.codes"},
    {narrow_codes, ST_DTYPE_UNSUPPORTED, "I8"},
    {turned_512, ST_TENSOR_SHAPE_MISMATCH, "m.codes"},
    {other_scales, ST_DTYPE_UNSUPPORTED, "expected F16"},
    {short_scales, ST_TENSOR_SHAPE_MISMATCH, "[20, 1, 1, 1]"},
    {stranger, ST_TENSOR_UNEXPECTED, "m.weight"},
    {huge, ST_TENSOR_SHAPE_MISMATCH, "cannot be served"},
};

static void make_good(struct made *m)
{
    int64_t codes[20 * 6];
    float scales[20], *books = malloc((size_t)book_size(&shapes[0]) * sizeof *books);
    make(m, &shapes[0], codes, books, scales);
    free(books);
}

START_TEST(damaged_modules_fail_by_name)
{
    struct made m;
    make_good(&m);
    damages[_i].change(&m);
    fixture_refused(aqlm, &m.spec, damages[_i].code, damages[_i].word);
    made_clear(&m);
}
END_TEST

START_TEST(damaged_data_fails_by_name)
{
    struct made m;
    make_good(&m);
    int32_t *wide = made_put(&m, "codes", DT_I32, 3, (int64_t[]){20, 6, 1}, NULL);
    wide[3] = 255; // unsigned codes are fine
    struct weight w = fixture_load(aqlm, &m.spec);
    ck_assert_uint_eq(((uint8_t *)w.data)[3 * BOOK_LINE], 255);
    weight_clear(&w);
    wide[119] = 256;
    fixture_load_fails(aqlm, &m.spec, ST_CHECKPOINT_INVALID,
                       "m.codes holds the code 256, expected -128 to 255");
    wide[119] = -129;
    fixture_load_fails(aqlm, &m.spec, ST_CHECKPOINT_INVALID, "-129");
    wide[119] = 0;
    uint16_t *scales = (void *)spec_tensor(&m.spec, "scales")->data;
    scales[19] = 0x7c00;
    fixture_load_fails(aqlm, &m.spec, ST_NON_FINITE_WEIGHTS, "element 19 of tensor m.scales");
    scales[19] = 0;
    ((uint16_t *)spec_tensor(&m.spec, "codebooks")->data)[2047] = 0x7e01;
    fixture_load_fails(aqlm, &m.spec, ST_NON_FINITE_WEIGHTS, "element 2047 of tensor m.codebooks");
    made_clear(&m);
}
END_TEST

START_TEST(config_must_agree)
{
    static const struct {
        const char *text, *word; /* NULL: claimed */
    } cases[] = {
        {"{\"quant_method\": \"aqlm\"}", NULL},
        {"{\"quant_method\": \"aqlm\", \"in_group_size\": 8, \"out_group_size\": 1, "
         "\"num_codebooks\": 1, \"nbits_per_codebook\": 8, "
         "\"linear_weights_not_to_quantize\": [\"m.weight\"]}",
         NULL},
        {"{\"quant_method\": \"gptq\"}", "quant_method"},
        {"{\"in_group_size\": 16}", "in_group_size"},
        {"{\"out_group_size\": 2}", "out_group_size"},
        {"{\"num_codebooks\": 2}", "num_codebooks"},
        {"{\"nbits_per_codebook\": 16}", "nbits_per_codebook"},
        {"{\"nbits_per_codebook\": \"8\"}", "nbits_per_codebook"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made m;
        struct findings findings = {0};
        json_t *quant = json_loads(cases[i].text, 0, NULL);
        make_good(&m);
        m.spec.quant = quant;
        enum claim claim = aqlm->claim(&m.spec, &findings);
        ck_assert_msg(claim == (cases[i].word ? CLAIM_FAILED : CLAIM_CLAIMED), "%s", cases[i].text);
        if (cases[i].word)
            ck_assert_msg(strstr(findings.v[0].message, cases[i].word) != NULL, "%s",
                          findings.v[0].message);
        findings_clear(&findings);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

START_TEST(slices_name_their_units)
{
    const struct shape s = {1, 3, 2, 4, 6, 20, DT_F16, DT_I8};
    int64_t codes[60];
    float books[64], scales[6];
    struct made m;
    struct weight w;
    struct error err = ERROR_INIT;
    make(&m, &s, codes, books, scales);
    ck_assert_int_eq(aqlm->load(&m.spec, (struct slice){.col = 2}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "columns can only be cut at multiples of 4"));
    ck_assert_int_eq(aqlm->load(&m.spec, (struct slice){.rows = 3}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "rows can only be cut at multiples of 2"));
    ck_assert_int_eq(aqlm->load(&m.spec, (struct slice){.row = 6}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_ptr_null(aqlm->requantize);
    made_clear(&m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/aqlm");
    TCase *t = tcase_create("aqlm");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, fixtures_decode, 0, 2);
    tcase_add_test(t, library_cases);
    tcase_add_test(t, random_modules_decode_by_the_definition);
    tcase_add_test(t, worked_example);
    tcase_add_test(t, turned_codes_are_turned_back);
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, damaged_data_fails_by_name);
    tcase_add_test(t, config_must_agree);
    tcase_add_test(t, slices_name_their_units);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
