/*
 * The oracle is the library: modules that it quantized itself (fixtures, and the cases that
 * vectors/formats/make_hqq.py made over all bits, axes, packings, dtypes and settings) must decode
 * to its hash, and come out of requantize and store as its bytes; random modules that are packed
 * here element by element and decoded by the definition; and the worked examples of the format's
 * description.
 */
#include "tests/backends/faults.h"
#include "tests/backends/made_module.h"

#include <math.h>

#include "backends/backends.h"
#include "backends/hqq_quantize.h"

static const struct backend *const hqq = &hqq_backend;

/* A module whose tensor `shape` tells the shape. */
static struct module_spec file_module(const struct fixture *f, const char *module)
{
    struct module_spec spec =
        fixture_spec(f, module, 1, 1, json_object_get(f->config, "quantization_config"));
    const struct tensor *t = spec_tensor(&spec, "shape");
    ck_assert_ptr_nonnull(t);
    memcpy(&spec.n, t->data, sizeof spec.n);
    memcpy(&spec.k, (const char *)t->data + sizeof spec.n, sizeof spec.k);
    return spec;
}

/* ---- the library's files ---- */

static const char *const fixtures[] = {"fixtures/hqq2-g16-axis0", "fixtures/hqq3-g64-axis1",
                                       "fixtures/hqq4-g64-axis1", "fixtures/hqq8-g128-axis1"};

START_TEST(fixtures_decode_and_store)
{
    if (!fixture_exists(fixtures[_i])) {
        ck_assert_int_gt(_i, 0); // the first is the repository's own
        return;
    }
    struct fixture f = fixture_open(fixtures[_i], "model.safetensors", "expected.json");
    const char *module;
    json_t *hash;
    json_object_foreach(json_object_get(f.expected, "dequant_sha256"), module, hash)
    {
        char hex[2 * DIGEST_SIZE + 1];
        struct module_spec spec = file_module(&f, module);
        struct weight w = fixture_load(hqq, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(hash)), "%s: %s", fixtures[_i], module);
        fixture_stored_is(hqq, &w, &spec);
        ck_assert_uint_le(weight_bytes(&w), w.file_bytes + w.file_bytes / 10);
        weight_clear(&w);
    }
    struct module_spec plain =
        fixture_spec(&f, "lm_head", 512, 256, json_object_get(f.config, "quantization_config"));
    ck_assert_int_eq(hqq->claim(&plain, &(struct findings){0}), CLAIM_DECLINED);
    fixture_close(&f);
}
END_TEST

/* merged.qv.<module> of expected.safetensors -> stored_sha256 (where the full fixtures are there).
 */
START_TEST(fixtures_requantize_to_the_librarys_bytes)
{
    if (!fixture_exists(fixtures[_i]))
        return;
    struct fixture f = fixture_open(fixtures[_i], "model.safetensors", "expected.json");
    json_t *merge = json_object_get(json_object_get(f.expected, "merge"), "qv");
    json_t *stored = json_object_get(merge, "stored_sha256");
    size_t n_tensors = 0;
    const struct tensor *t = safetensors_tensors(f.expected_file, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        if (strncmp(t[i].name, "merged.qv.", 10))
            continue;
        struct module_spec spec = file_module(&f, t[i].name + 10);
        struct weight w = fixture_load(hqq, &spec), merged;
        float *values = malloc((size_t)(w.n * w.k) * sizeof *values);
        tensor_to_f32(&t[i], 0, w.n * w.k, values);
        for (int64_t j = 0; j < w.n * w.k; j++)
            values[j] = round_to_dtype(values[j], w.dtype);
        ck_assert_int_eq(hqq->requantize(&w, values, &merged, NULL), ST_OK);
        struct stored s = {.sink = {.put = stored_put}};
        ck_assert_int_eq(hqq->store(&merged, &s.sink, NULL), ST_OK);
        for (size_t j = 0; j < 3; j++) { // W_q, scale, zero; the rest are settings
            char name[256], hex[2 * DIGEST_SIZE + 1];
            snprintf(name, sizeof name, "%s.%s", spec.name, s.t[j].suffix);
            fixture_hex(s.t[j].data, s.t[j].bytes, hex);
            ck_assert_msg(json_object_get(stored, name) != NULL, "%s", name);
            ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(stored, name))), "%s",
                          name);
        }
        stored_clear(&s);
        free(values);
        weight_clear(&w);
        weight_clear(&merged);
    }
    fixture_close(&f);
}
END_TEST

/* The float matrix that a case was made from. */
static float *case_input(const struct fixture *f, const json_t *c, enum dtype dtype, int64_t m)
{
    float *w = malloc((size_t)m * sizeof *w);
    float gain = (float)json_number_value(json_object_get(c, "gain"));
    tensor_to_f32(safetensors_find(f->file, "pool"), json_integer_value(json_object_get(c, "skip")),
                  m, w);
    for (int64_t j = 0; j < m; j++)
        w[j] *= gain;
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
    struct fixture f = fixture_open("formats", "hqq.safetensors", "hqq.json");
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        json_t *quant = json_pack("{s:s, s:{s:O}}", "quant_method", "hqq", "quant_config",
                                  "weight_quant_params", json_object_get(c, "params"));
        struct module_spec spec = file_module(&f, name);
        spec.quant = quant;
        struct weight w = fixture_load(hqq, &spec), again;
        char hex[2 * DIGEST_SIZE + 1];
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(c, "sha256"))), "%s decodes",
                      name);
        fixture_stored_is(hqq, &w, &spec);
        float *input = case_input(&f, c, w.dtype, w.n * w.k);
        ck_assert_int_eq(hqq->requantize(&w, input, &again, NULL), ST_OK);
        fixture_stored_is(hqq, &again, &spec);
        fixture_glue(hqq, &spec, 5, w.grouping == GROUPS_OF_ROWS ? w.group : 7);
        free(input);
        weight_clear(&w);
        weight_clear(&again);
        json_decref(quant);
    }
    ck_assert_uint_gt(i, 25);
    fixture_close(&f);
}
END_TEST

/* ---- modules made here ---- */

static void put_text(struct made *m, const char *suffix, const char *text)
{
    made_put(m, suffix, DT_U8, 1, (int64_t[]){(int64_t)strlen(text)}, text);
}
static void put_int(struct made *m, const char *suffix, int32_t v)
{
    made_put(m, suffix, DT_I32, 0, NULL, &v);
}
static void put_flag(struct made *m, const char *suffix, uint8_t v)
{
    made_put(m, suffix, DT_U8, 0, NULL, &v);
}

static uint32_t seed = 1;
static uint32_t next(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static const struct shape {
    int bits, axis;
    int64_t group, n, k;
    enum dtype dtype;
} shapes[] = {
    {4, 1, 8, 4, 16, DT_F16},    {4, 1, 24, 4, 36, DT_BF16},  {4, 0, 6, 9, 10, DT_F32},
    {3, 1, 8, 21, 8, DT_F16},    {3, 0, 23, 23, 5, DT_BF16},  {3, 1, 30, 7, 60, DT_F32},
    {2, 1, 5, 4, 10, DT_F16},    {2, 0, 8, 3, 40, DT_F16},    {1, 1, 6, 16, 33, DT_BF16},
    {1, 0, 16, 10, 24, DT_F32},  {5, 1, 7, 5, 14, DT_F16},    {6, 0, 9, 6, 15, DT_BF16},
    {8, 1, 40, 33, 40, DT_BF16}, {8, 0, 100, 10, 30, DT_F16}, {8, 1, 1, 2, 3, DT_F32},
};

static int fields_of(int bits)
{
    return bits == 3 ? 10 : bits > 4 ? 1 : 8 / bits;
}

/* Fills m with a random module; codes [n * k] of the flat matrix, zero and scale [groups]. */
static void make(struct made *m, const struct shape *s, uint8_t *codes, float *zero, float *scale)
{
    static const char *const packings[9] = {"",        "1bit_u8", "2bit_u8", "3bit_32", "4bit_u8",
                                            "8bit_u8", "8bit_u8", "",        "8bit_u8"};
    int64_t count = s->n * s->k, groups = count / s->group, fields = fields_of(s->bits);
    int64_t rows = s->axis ? groups : s->group, columns = count / rows;
    int64_t step = (rows + fields - 1) / fields;
    bool words = s->bits == 3;
    made_init(m, s->n, s->k);
    uint8_t *bytes =
        made_put(m, "W_q", words ? DT_I32 : DT_U8, 2, (int64_t[]){step, columns}, NULL);
    for (int64_t f = 0; f < count; f++) {
        int64_t row = f / columns, word = row % step * columns + f % columns;
        int width = words ? 3 : s->bits > 4 ? 8 : s->bits;
        int at = width * (int)(fields - 1 - row / step); // the lowest bit of the field
        codes[f] = (uint8_t)next(1u << s->bits);
        for (int b = 0; b < s->bits; b++) {
            int64_t bit = word * (words ? 32 : 8) + at + b;
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] | (codes[f] >> b & 1) << bit % 8);
        }
    }
    int64_t shape[2] = {s->axis ? groups : 1, s->axis ? 1 : groups};
    for (int64_t g = 0; g < groups; g++) {
        zero[g] = round_to_dtype((float)next(4000) / 250 - 1, s->dtype);
        scale[g] = round_to_dtype((float)next(1000) / 7777, s->dtype);
    }
    for (int i = 0; i < 2; i++) {
        char *to = made_put(m, i ? "zero" : "scale", s->dtype, 2, shape, NULL);
        for (int64_t g = 0; g < groups; g++) {
            float v = i ? zero[g] : scale[g];
            uint16_t half = s->dtype == DT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
            if (s->dtype == DT_F32)
                memcpy(to + 4 * g, &v, 4);
            else
                memcpy(to + 2 * g, &half, 2);
        }
    }
    char dtype[32];
    snprintf(dtype, sizeof dtype, "torch.%s", dtype_torch(s->dtype));
    made_put(m, "shape", DT_I64, 1, (int64_t[]){2}, (int64_t[]){s->n, s->k});
    put_int(m, "nbits", s->bits);
    put_int(m, "axis", s->axis);
    put_int(m, "group_size", (int32_t)s->group);
    put_text(m, "packing", packings[s->bits]);
    put_text(m, "compute_dtype", dtype);
    put_flag(m, "view_as_float", 0);
}

START_TEST(random_modules_decode_by_the_definition)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        int64_t count = s->n * s->k, groups = count / s->group;
        uint8_t *codes = malloc((size_t)count);
        float *zero = malloc((size_t)groups * 4), *scale = malloc((size_t)groups * 4);
        struct made m;
        make(&m, s, codes, zero, scale);
        struct weight w = fixture_load(hqq, &m.spec);
        for (int64_t f = 0; f < count; f++) {
            int64_t g = s->axis ? f / s->group : f % groups;
            // each operation is exact in double for these numbers
            float v = round_to_dtype((float)((double)codes[f] - (double)zero[g]), s->dtype);
            v = round_to_dtype((float)((double)v * (double)scale[g]), s->dtype);
            ck_assert_msg(weight_element(&w, f / s->k, f % s->k) == v, "shape %zu, element %lld", i,
                          (long long)f);
        }
        fixture_stored_is(hqq, &w, &m.spec);
        fixture_glue(hqq, &m.spec, 3, w.grouping == GROUPS_OF_ROWS ? w.group : 3);
        faults_check_module(hqq, &m.spec);
        weight_clear(&w);
        made_clear(&m);
        free(codes);
        free(zero);
        free(scale);
    }
}
END_TEST

/* ---- the worked examples ---- */

START_TEST(worked_examples)
{
    struct made m;
    float zero[8], scale[8];
    uint8_t codes[16];
    struct shape four = {4, 1, 2, 2, 4, DT_F32}, three = {3, 0, 12, 12, 1, DT_F32};
    make(&m, &four, codes, zero, scale);
    memcpy((void *)spec_tensor(&m.spec, "W_q")->data, (uint8_t[]){0x15, 0x26, 0x37, 0x48}, 4);
    struct weight w = fixture_load(hqq, &m.spec);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(tile_code(w.data, w.k_padded, 4, i / 4, i % 4), (unsigned)i + 1);
    weight_clear(&w);
    made_clear(&m);
    make(&m, &three, codes, zero, scale);
    memcpy((void *)spec_tensor(&m.spec, "W_q")->data, (uint32_t[]){0x02982000, 0x0bbcb000}, 8);
    w = fixture_load(hqq, &m.spec);
    for (int i = 0; i < 12; i++)
        ck_assert_uint_eq(tile_code(w.data, w.k_padded, 3, i, 0), (unsigned)i % 8);
    weight_clear(&w);
    made_clear(&m);

    const float matrix[8] = {0.1f, -0.2f, 0.35f, 0, -0.41f, 0.22f, 0.07f, -0.13f};
    const struct hqq_settings h = {
        .top = 15, .axis = 1, .group = 8, .optimize = true, .round_zero = true};
    ck_assert(hqq_quantize(&h, matrix, 8, codes, scale, zero));
    ck_assert_mem_eq(codes, ((const uint8_t[]){10, 4, 15, 8, 0, 12, 9, 5}), 8);
    ck_assert_float_eq_tol(*zero, 7.875f, 1e-6f);
    ck_assert_float_eq_tol(*scale, 0.0506667f, 1e-7f);
}
END_TEST

START_TEST(steps_stay_in_their_bounds)
{
    const struct hqq_settings h = {.top = 15, .axis = 1, .group = 4, .round_zero = true};
    const float matrix[12] = {0.5f,   0.5f,    0.5f,  0.5f,   // nothing to divide by: step 1
                              0,      1.2e-4f, 5e-5f, 6e-5f,  // the smallest step, 1 / 20000
                              -1e30f, 1e30f,   0,     3e38f}; // s underflows nowhere
    uint8_t codes[12];
    float scale[3], zero[3];
    ck_assert(hqq_quantize(&h, matrix, 12, codes, scale, zero));
    ck_assert_float_eq(scale[0], 1);
    ck_assert_float_eq(scale[1], 1.0f / 2e4f);
    ck_assert(isfinite(scale[2]) && codes[8] == 0 && codes[11] == 15);
}
END_TEST

/* Far from 0 and close together: a zero of -75000 code units. */
START_TEST(zeros_beyond_the_dtype_are_refused)
{
    const struct shape s = {4, 1, 8, 2, 8, DT_F16};
    struct made m;
    struct weight w, again;
    struct error err = ERROR_INIT;
    uint8_t codes[16];
    float zero[2], scale[2], values[16];
    make(&m, &s, codes, zero, scale);
    w = fixture_load(hqq, &m.spec);
    for (int i = 0; i < 16; i++)
        values[i] = 5 + (float)(i % 8) / 7000;
    ck_assert_int_eq(hqq->requantize(&w, values, &again, &err), ST_MERGE_NON_FINITE);
    ck_assert_ptr_null(again.data);
    ck_assert_ptr_nonnull(strstr(err.text, "F16"));
    weight_clear(&w);
    made_clear(&m);
}
END_TEST

/* ---- what is refused ---- */

/* One change to a good module and what must come of it. */
struct damage {
    void (*change)(struct made *m);
    enum status code;
    const char *word;
};

static void other_shape(struct made *m)
{
    m->spec.k = 32;
}
static void as_conv(struct made *m)
{
    m->spec.kind = MODULE_CONV2D;
}
static void as_embedding(struct made *m)
{
    m->spec.kind = MODULE_EMBEDDING;
}
static void no_codes(struct made *m)
{
    made_drop(m, "W_q");
}
static void no_scale(struct made *m)
{
    made_drop(m, "scale");
}
static void no_group(struct made *m)
{
    made_drop(m, "group_size");
}
static void stacked(struct made *m)
{
    made_drop(m, "scale");
    made_put(m, "zero_scale", DT_F16, 3, (int64_t[]){2, 8, 1}, NULL);
}
static void quantized_scale(struct made *m)
{
    put_flag(m, "quant_scale", 1);
}
static void quantized_zero(struct made *m)
{
    put_flag(m, "quant_zero", 1);
}
static void one_group(struct made *m)
{
    put_flag(m, "channel_wise", 0);
}
static void odd_flag(struct made *m)
{
    put_flag(m, "optimize", 7);
}
static void odd_bits(struct made *m)
{
    put_int(m, "nbits", 7);
}
static void other_bits(struct made *m)
{
    put_int(m, "nbits", 2);
}
static void negative_group(struct made *m)
{
    put_int(m, "group_size", -8);
}
static void odd_group(struct made *m)
{
    put_int(m, "group_size", 7);
}
static void odd_axis(struct made *m)
{
    put_int(m, "axis", 2);
}
static void long_group(struct made *m)
{
    made_put(m, "group_size", DT_I64, 0, NULL, NULL);
}
static void odd_packing(struct made *m)
{
    put_text(m, "packing", "4bit_u9");
}
static void no_packing_text(struct made *m)
{
    made_put(m, "packing", DT_U8, 1, (int64_t[]){0}, NULL);
}
static void huge_text(struct made *m)
{
    made_put(m, "packing", DT_U8, 1, (int64_t[]){100000}, NULL);
}
static void odd_view(struct made *m)
{
    put_text(m, "unpack_view_dtype", "torch.int32");
}
static void code_as_dtype(struct made *m)
{
    put_text(m, "compute_dtype", "__import__('os')");
}
static void double_dtype(struct made *m)
{
    put_text(m, "compute_dtype", "torch.float64");
}
static void short_scale(struct made *m)
{
    made_put(m, "scale", DT_F16, 2, (int64_t[]){7, 1}, NULL);
}
static void turned_scale(struct made *m)
{
    made_put(m, "scale", DT_F16, 2, (int64_t[]){1, 8}, NULL);
}
static void int_zero(struct made *m)
{
    made_put(m, "zero", DT_I32, 2, (int64_t[]){8, 1}, NULL);
}
static void long_codes(struct made *m)
{
    made_put(m, "W_q", DT_U8, 2, (int64_t[]){5, 8}, NULL);
}
static void float_codes(struct made *m)
{
    made_put(m, "W_q", DT_F16, 2, (int64_t[]){4, 4}, NULL);
}
static void float_view(struct made *m)
{
    put_flag(m, "view_as_float", 1);
}
static void odd_float_view(struct made *m)
{
    put_flag(m, "view_as_float", 1);
    put_int(m, "group_size", 2);
    made_put(m, "scale", DT_F16, 2, (int64_t[]){32, 1}, NULL);
    made_put(m, "zero", DT_F16, 2, (int64_t[]){32, 1}, NULL);
    made_put(m, "W_q", DT_F32, 2, (int64_t[]){16, 0}, NULL);
}
static void odd_rows(struct made *m)
{
    m->spec.n = 3;
    made_put(m, "shape", DT_I64, 1, (int64_t[]){2}, (int64_t[]){3, 16});
    put_int(m, "group_size", 16);
}
static void stranger(struct made *m)
{
    put_flag(m, "weight", 1);
}
static void huge(struct made *m)
{
    m->spec.n = m->spec.k = INT64_MAX / 2;
}

static const struct damage damages[] = {
    {other_shape, ST_TENSOR_SHAPE_MISMATCH, "[4, 16], expected [4, 32]"},
    {as_conv, ST_QUANT_METHOD_UNSUPPORTED, "convolution"},
    {as_embedding, ST_QUANT_METHOD_UNSUPPORTED, "embedding"},
    {no_codes, ST_TENSOR_MISSING, "m.W_q"},
    {no_scale, ST_TENSOR_MISSING, "m.scale"},
    {no_group, ST_TENSOR_MISSING, "m.group_size"},
    {stacked, ST_QUANT_METHOD_UNSUPPORTED, "zero_scale"},
    {quantized_scale, ST_QUANT_METHOD_UNSUPPORTED, "quant_scale"},
    {quantized_zero, ST_QUANT_METHOD_UNSUPPORTED, "quant_zero"},
    {one_group, ST_QUANT_METHOD_UNSUPPORTED, "channel_wise"},
    {odd_flag, ST_CHECKPOINT_INVALID, "\"optimize\" is 7"},
    {odd_bits, ST_CHECKPOINT_INVALID, "\"nbits\" is 7"},
    {other_bits, ST_CHECKPOINT_INVALID, "\"packing\" is 4bit_u8, expected 2bit_u8"},
    {negative_group, ST_CHECKPOINT_INVALID, "\"group_size\" is -8"},
    {odd_group, ST_CHECKPOINT_INVALID, "\"group_size\" is 7"},
    {odd_axis, ST_CHECKPOINT_INVALID, "\"axis\" is 2"},
    {long_group, ST_DTYPE_UNSUPPORTED, "I64"},
    {odd_packing, ST_CHECKPOINT_INVALID, "4bit_u9"},
    {no_packing_text, ST_CHECKPOINT_INVALID, "packing"},
    {huge_text, ST_CHECKPOINT_INVALID, "packing"},
    {odd_view, ST_CHECKPOINT_INVALID, "torch.int32"},
    {code_as_dtype, ST_DTYPE_UNSUPPORTED, "__import__"},
    {double_dtype, ST_DTYPE_UNSUPPORTED, "float64"},
    {short_scale, ST_TENSOR_SHAPE_MISMATCH, "[8, 1]"},
    {turned_scale, ST_TENSOR_SHAPE_MISMATCH, "[8, 1]"},
    {int_zero, ST_DTYPE_UNSUPPORTED, "m.zero"},
    {long_codes, ST_TENSOR_SHAPE_MISMATCH, "[4, 8]"},
    {float_codes, ST_DTYPE_UNSUPPORTED, "W_q"},
    {float_view, ST_DTYPE_UNSUPPORTED, "W_q"},
    {odd_float_view, ST_CHECKPOINT_INVALID, "view_as_float"},
    {odd_rows, ST_CHECKPOINT_INVALID, "4bit_u8"},
    {stranger, ST_TENSOR_UNEXPECTED, "m.weight"},
    {huge, ST_TENSOR_SHAPE_MISMATCH, "cannot be served"},
};

static const struct shape good = {4, 1, 8, 4, 16, DT_F16};

static void make_good(struct made *m)
{
    uint8_t codes[64];
    float zero[8], scale[8];
    make(m, &good, codes, zero, scale);
}

START_TEST(damaged_modules_fail_by_name)
{
    struct made m;
    make_good(&m);
    damages[_i].change(&m);
    fixture_refused(hqq, &m.spec, damages[_i].code, damages[_i].word);
    made_clear(&m);
}
END_TEST

START_TEST(damaged_data_fails_by_name)
{
    struct made m;
    make_good(&m);
    uint16_t *scale = (void *)spec_tensor(&m.spec, "scale")->data, kept = scale[5];
    scale[5] = 0x7e00;
    fixture_load_fails(hqq, &m.spec, ST_NON_FINITE_WEIGHTS, "m.scale[5]");
    scale[5] = kept;
    ((uint16_t *)spec_tensor(&m.spec, "zero")->data)[7] = 0xfc00;
    fixture_load_fails(hqq, &m.spec, ST_NON_FINITE_WEIGHTS, "m.zero[7]");
    made_clear(&m);

    uint8_t codes[64];
    float zero[8], of_scale[8], large = 1e6f;
    const struct shape five = {5, 1, 8, 4, 16, DT_F16};
    make(&m, &five, codes, zero, of_scale);
    ((uint8_t *)spec_tensor(&m.spec, "W_q")->data)[11] = 32;
    fixture_load_fails(hqq, &m.spec, ST_CHECKPOINT_INVALID, "code 32, expected at most 31");
    ((uint8_t *)spec_tensor(&m.spec, "W_q")->data)[11] = 31;
    float *wide = made_put(&m, "scale", DT_F32, 2, (int64_t[]){8, 1}, NULL); // is cast to F16
    struct weight w = fixture_load(hqq, &m.spec);
    ck_assert_int_eq(w.scale_dtype, DT_F16);
    weight_clear(&w);
    memcpy(&wide[2], &large, sizeof large);
    fixture_load_fails(hqq, &m.spec, ST_NON_FINITE_WEIGHTS, "m.scale[2]");
    made_clear(&m);
}
END_TEST

START_TEST(config_must_agree)
{
#define ALL(params)                                                                                \
    "{\"quant_method\": \"hqq\", \"quant_config\": {\"weight_quant_params\": {" params "}}}"
#define TAG(tag, params)                                                                           \
    "{\"quant_method\": \"hqq\", \"quant_config\": {\"" tag                                        \
    "\": {\"weight_quant_params\": {" params "}}, \"mlp.up_proj\": {\"weight_quant_params\": "     \
    "{\"nbits\": 2}}}}"
    static const struct {
        const char *text, *word; /* NULL: claimed */
    } cases[] = {
        {"{\"quant_method\": \"hqq\"}", NULL},
        {"{\"quant_method\": \"hqq\", \"quant_config\": null, \"skip_modules\": [\"q_proj\"]}",
         NULL},
        {ALL("\"nbits\": 4, \"group_size\": 8, \"axis\": 1, \"view_as_float\": false, "
             "\"channel_wise\": true, \"optimize\": true, \"round_zero\": false"),
         NULL},
        {ALL(""), NULL},
        {TAG("self_attn.q_proj", "\"nbits\": 4, \"group_size\": 8"), NULL},
        {"{\"quant_method\": \"gptq\"}", "quant_method"},
        {"{\"quant_method\": 3}", "quant_method"},
        {"{\"quant_method\": \"hqq\", \"quant_config\": 4}", "quant_config"},
        {"{\"quant_method\": \"hqq\", \"quant_config\": {\"weight_quant_params\": 4}}",
         "weight_quant_params"},
        {ALL("\"nbits\": 3"), "nbits"},
        {ALL("\"nbits\": \"4\""), "nbits"},
        {ALL("\"group_size\": 64"), "group_size"},
        {ALL("\"group_size\": null"), "group_size"},
        {ALL("\"axis\": 0"), "axis"},
        {ALL("\"axis\": true"), "axis"},
        {ALL("\"view_as_float\": true"), "view_as_float"},
        {ALL("\"channel_wise\": false"), "channel_wise"},
        {TAG("self_attn.k_proj", "\"nbits\": 4"), "linear tag"},
        {TAG("self_attn.q_proj", "\"nbits\": 8"), "nbits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made m;
        struct findings findings = {0};
        json_t *quant = json_loads(cases[i].text, 0, NULL);
        ck_assert_msg(quant != NULL, "%s", cases[i].text);
        make_good(&m);
        m.spec.quant = quant;
        m.spec.name = "model.layers.0.self_attn.q_proj";
        enum claim claim = hqq->claim(&m.spec, &findings);
        ck_assert_msg(claim == (cases[i].word ? CLAIM_FAILED : CLAIM_CLAIMED), "%s: %s",
                      cases[i].text, findings.n ? findings.v[0].message : "");
        if (cases[i].word)
            ck_assert_msg(strstr(findings.v[0].message, cases[i].word) &&
                              strstr(findings.v[0].message, m.spec.name),
                          "%s", findings.v[0].message);
        findings_clear(&findings);
        made_clear(&m);
        json_decref(quant);
    }
}
END_TEST

START_TEST(slices_and_words)
{
    struct made m;
    struct weight w, again;
    struct error err = ERROR_INIT;
    char text[64];
    make_good(&m);
    ck_assert_int_eq(hqq->load(&m.spec, (struct slice){.cols = 4}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "multiples of 8"));
    ck_assert_int_eq(hqq->load(&m.spec, (struct slice){.row = 4}, &w, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(hqq->load(&m.spec, (struct slice){.rows = 3}, &w, &err), ST_OK);
    ck_assert_int_eq(hqq->requantize(&w, NULL, &again, &err), ST_NOT_SUPPORTED);
    ck_assert_int_eq(hqq->store(&w, NULL, &err), ST_NOT_SUPPORTED);
    ck_assert_str_eq(hqq->describe(&w, text, sizeof text), "4 bits, group 8, axis 1, float16");
    weight_clear(&w);
    made_clear(&m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/hqq");
    TCase *t = tcase_create("hqq");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, fixtures_decode_and_store, 0, 4);
    tcase_add_loop_test(t, fixtures_requantize_to_the_librarys_bytes, 0, 4);
    tcase_add_test(t, library_cases);
    tcase_add_test(t, random_modules_decode_by_the_definition);
    tcase_add_test(t, worked_examples);
    tcase_add_test(t, steps_stay_in_their_bounds);
    tcase_add_test(t, zeros_beyond_the_dtype_are_refused);
    tcase_add_loop_test(t, damaged_modules_fail_by_name, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, damaged_data_fails_by_name);
    tcase_add_test(t, config_must_agree);
    tcase_add_test(t, slices_and_words);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
