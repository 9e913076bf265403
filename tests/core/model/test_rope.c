/* Frequencies by rope_type against families' formulas, and what is refused. */
#include "core/model/pass.h"
#include "tests/core/model/memory_checkpoint.h"

/* The config of a small llama with this rope; head_dim 64, 4096 positions. */
static void open_rope(struct memory_checkpoint *mc, const char *json)
{
    memory_checkpoint_llama(mc);
    json_t *rope = json_loads(json, 0, NULL);
    ck_assert_ptr_nonnull(rope);
    json_object_update(mc->cp.config, rope);
    json_decref(rope);
}

static const struct model_config *read_rope(struct memory_checkpoint *mc, struct model **m,
                                            const char *json, int64_t max_len)
{
    struct error err = ERROR_INIT;
    const struct model_options options = {.claim_only = true, .max_len = max_len};
    open_rope(mc, json);
    enum status s =
        model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, m, &err);
    ck_assert_msg(s == ST_OK, "%s: %s", json, err.text);
    return (*m)->config;
}

#define OLD(...) "{\"rope_theta\": 10000.0, \"rope_scaling\": {" __VA_ARGS__ "}}"
#define NEW(...) "{\"rope_parameters\": {\"rope_theta\": 10000.0, " __VA_ARGS__ "}}"

static double plain_frequency(double theta, int32_t i, int32_t d)
{
    return 1 / pow(theta, 2.0 * i / d);
}

static void close_rope(struct memory_checkpoint *mc, struct model *m)
{
    model_close(m);
    memory_checkpoint_free(mc);
}

/* The formula in double: what f32 steps may be away from it. as_the_library is the exact oracle. */
static void assert_near(float got, double want, int32_t i)
{
    ck_assert_msg(fabs(got - want) <= 5e-7 * fabs(want), "f[%d] = %.9g, expected %.9g", (int)i, got,
                  want);
}

/* tests/vectors/formats/rope.json, written by the transformers library: the same floats. */
START_TEST(as_the_library)
{
    json_t *cases = json_load_file("tests/vectors/formats/rope.json", 0, NULL);
    ck_assert_ptr_nonnull(cases);
    for (size_t n = 0; n < json_array_size(cases); n++) {
        const json_t *one = json_array_get(cases, n);
        const json_t *want = json_object_get(one, "inverse");
        struct memory_checkpoint mc;
        struct model *m;
        char *json = json_dumps(json_object_get(one, "rope_parameters"), 0), text[4096];
        snprintf(text, sizeof text, "{\"rope_parameters\": %s}", json);
        const struct model_config *c = read_rope(&mc, &m, text, 0);
        for (int32_t i = 0; i < 32; i++) {
            float f = (float)json_number_value(json_array_get(want, (size_t)i));
            ck_assert_msg(c->rope[0].inverse[i] == f, "%s: f[%d] = %.9g, expected %.9g", json,
                          (int)i, c->rope[0].inverse[i], f);
        }
        ck_assert(c->rope[0].factor ==
                  (float)json_number_value(json_object_get(one, "attention_factor")));
        free(json);
        close_rope(&mc, m);
    }
    json_decref(cases);
}
END_TEST

START_TEST(default_linear_dynamic)
{
    static const struct {
        const char *json;
        double theta, factor;
    } cases[] = {
        {"{\"rope_theta\": 500000, \"rope_scaling\": null}", 500000, 1},
        {"{}", 10000, 1},
        {NEW("\"rope_type\": \"default\""), 10000, 1},
        {OLD("\"type\": \"linear\", \"factor\": 4"), 10000, 4},
        {NEW("\"rope_type\": \"linear\", \"factor\": 2.5"), 10000, 2.5},
        {OLD("\"type\": \"dynamic\", \"factor\": 4.0"), 10000, 1},
    };
    struct memory_checkpoint mc;
    struct model *m;
    const struct model_config *c = read_rope(&mc, &m, cases[_i].json, 0);
    ck_assert_int_eq(c->rope[0].dim, 64);
    ck_assert(c->rope[0].factor == 1);
    for (int32_t i = 0; i < 32; i++)
        assert_near(c->rope[0].inverse[i],
                    plain_frequency(cases[_i].theta, i, 64) / cases[_i].factor, i);
    close_rope(&mc, m);
}
END_TEST

START_TEST(partial)
{
    struct memory_checkpoint mc;
    struct model *m;
    const struct model_config *c =
        read_rope(&mc, &m, NEW("\"rope_type\": \"default\", \"partial_rotary_factor\": 0.25"), 0);
    ck_assert_int_eq(c->rope[0].dim, 16);
    for (int32_t i = 0; i < 8; i++)
        assert_near(c->rope[0].inverse[i], plain_frequency(10000, i, 16), i);
    close_rope(&mc, m);
}
END_TEST

/* Three bands of wave lengths around o/high and o/low. */
START_TEST(llama3)
{
    struct memory_checkpoint mc;
    struct model *m;
    const struct model_config *c =
        read_rope(&mc, &m,
                  OLD("\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                      "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 1024"),
                  0);
    int bands[3] = {0};
    for (int32_t i = 0; i < 32; i++) {
        double f = plain_frequency(10000, i, 64), wave = 6.283185307179586 / f;
        double s = (1024 / wave - 1) / 3, want = (1 - s) * (f / 8) + s * f;
        if (wave > 1024)
            want = f / 8;
        if (wave < 256)
            want = f;
        bands[wave > 1024 ? 0 : wave < 256 ? 1 : 2]++;
        assert_near(c->rope[0].inverse[i], want, i);
    }
    ck_assert(bands[0] && bands[1] && bands[2]);
    close_rope(&mc, m);
}
END_TEST

/* Qwen2.5's long-context setting: the numbers were computed from the formula by hand, in Python:
 * d 64, o 1024, factor 4, lo = floor(64 ln(1024/(2 pi 32)) / (2 ln 10000)) = 5,
 * hi = ceil(64 ln(1024/(2 pi)) / (2 ln 10000)) = 18. */
START_TEST(yarn)
{
    struct memory_checkpoint mc;
    struct model *m;
    const struct model_config *c =
        read_rope(&mc, &m,
                  OLD("\"type\": \"yarn\", \"factor\": 4.0, "
                      "\"original_max_position_embeddings\": 1024, \"finetuned\": true"),
                  0);
    for (int32_t i = 0; i < 32; i++) {
        double f = plain_frequency(10000, i, 64), ramp = (i - 5) / 13.0;
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        assert_near(c->rope[0].inverse[i], f / 4 * ramp + f * (1 - ramp), i);
    }
    ck_assert_float_eq_tol(c->rope[0].factor, 1.1386294f, 1e-6f); // 0.1 ln 4 + 1
    close_rope(&mc, m);

    c = read_rope(&mc, &m,
                  OLD("\"type\": \"yarn\", \"factor\": 4.0, \"mscale\": 1.0, "
                      "\"mscale_all_dim\": 0.5, \"original_max_position_embeddings\": 1024"),
                  0);
    ck_assert_float_eq_tol(c->rope[0].factor, 1.1386294f / 1.0693147f, 1e-6f);
    close_rope(&mc, m);

    c = read_rope(&mc, &m,
                  NEW("\"rope_type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 0.75, "
                      "\"truncate\": false, \"original_max_position_embeddings\": 1024"),
                  0);
    ck_assert(c->rope[0].factor == 0.75f);
    double lo = 64 * log(1024 / (6.283185307179586 * 32)) / (2 * log(10000));
    double hi = 64 * log(1024 / 6.283185307179586) / (2 * log(10000));
    double ramp = (10 - lo) / (hi - lo), f = plain_frequency(10000, 10, 64);
    assert_near(c->rope[0].inverse[10], f / 4 * ramp + f * (1 - ramp), 10);
    close_rope(&mc, m);
}
END_TEST

/* cos and sin of one row by the formula, in double. */
static void assert_angles(const struct rope *rope, double theta, int32_t position, int32_t length)
{
    float scratch[32], cosines[32], sines[32];
    rope_fill(rope, &position, &length, 1, scratch, cosines, sines);
    for (int32_t i = 0; i < 32; i++) {
        double angle = position * plain_frequency(theta, i, 64);
        ck_assert_msg(fabs(cosines[i] - cos(angle)) < 1e-3 && fabs(sines[i] - sin(angle)) < 1e-3,
                      "length %d: cos[%d] = %g, expected %g", (int)length, (int)i, cosines[i],
                      cos(angle));
    }
}

/* Whatever the lengths of the rows before: 16384 positions of factor 4 are theta times 13^(64/62).
 */
START_TEST(dynamic_grows_with_the_length)
{
    struct memory_checkpoint mc;
    struct model *m;
    const struct model_config *c =
        read_rope(&mc, &m, OLD("\"type\": \"dynamic\", \"factor\": 4.0"), 16384);
    ck_assert_int_eq(m->max_len, 16384);
    ck_assert_int_eq(m->dynamic_at, 4096);
    ck_assert_int_eq(m->stretch_at, 0);
    assert_angles(&c->rope[0], 10000, 1000, 4096);
    assert_angles(&c->rope[0], 10000 * pow(13, 64.0 / 62), 1000, 16384);
    assert_angles(&c->rope[0], 10000 * pow(5, 64.0 / 62), 3000, 8192);
    float scratch[32], mixed[4 * 32], alone[32], sines[4 * 32];
    const int32_t positions[] = {7, 7, 7, 7}, lengths[] = {8192, 8192, 100, 16384};
    rope_fill(&c->rope[0], positions, lengths, 4, scratch, mixed, sines);
    for (int32_t r = 0; r < 4; r++) {
        rope_fill(&c->rope[0], positions + r, lengths + r, 1, scratch, alone, sines);
        ck_assert(!memcmp(alone, mixed + 32 * r, sizeof alone));
    }
    close_rope(&mc, m);
    read_rope(&mc, &m, OLD("\"type\": \"linear\", \"factor\": 4.0"), 16384);
    ck_assert_int_eq(m->dynamic_at, 0);
    close_rope(&mc, m);
}
END_TEST

static const struct {
    const char *json, *field;
    enum status code;
} bad[] = {
    {"{\"rope_theta\": 0}", "rope_theta", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_theta\": -1.5}", "rope_theta", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_theta\": 1e300}", "rope_theta", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_theta\": 1e-40}", "rope_theta", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_theta\": \"10000\"}", "rope_theta", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_theta\": 1e4, \"rope_parameters\": {\"rope_theta\": 2e4}}", "rope_theta",
     ST_CONFIG_INVALID_VALUE},
    {"{\"rope_scaling\": []}", "rope_scaling", ST_CONFIG_INVALID_VALUE},
    {"{\"rope_parameters\": 3}", "rope_parameters", ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"ntk\", \"factor\": 2"), "rope_scaling.type", ST_CONFIG_UNSUPPORTED},
    {OLD("\"type\": \"su\", \"long_factor\": [1], \"factor\": 2"), "rope_scaling.long_factor",
     ST_CONFIG_INVALID_VALUE},
    {NEW("\"rope_type\": \"longrope\", \"factor\": 2"), "rope_parameters.short_factor",
     ST_CONFIG_MISSING_FIELD},
    {OLD("\"type\": 7"), "rope_scaling.type", ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"linear\""), "rope_scaling.factor", ST_CONFIG_MISSING_FIELD},
    {OLD("\"type\": \"linear\", \"factor\": 0"), "rope_scaling.factor", ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"linear\", \"factor\": 2, \"mrope_section\": [1, 2]"),
     "rope_scaling.mrope_section", ST_CONFIG_UNSUPPORTED},
    {OLD("\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4"),
     "rope_scaling.high_freq_factor", ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1"),
     "rope_scaling.high_freq_factor", ST_CONFIG_MISSING_FIELD},
    {OLD("\"type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 0"),
     "rope_scaling.original_max_position_embeddings", ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"yarn\", \"factor\": 8, \"beta_fast\": -1"), "rope_scaling.beta_fast",
     ST_CONFIG_INVALID_VALUE},
    {OLD("\"type\": \"yarn\", \"factor\": 8, \"truncate\": 1"), "rope_scaling.truncate",
     ST_CONFIG_INVALID_VALUE},
    {"{\"partial_rotary_factor\": 1.5}", "partial_rotary_factor", ST_CONFIG_INVALID_VALUE},
    {"{\"partial_rotary_factor\": 0.02}", "partial_rotary_factor", ST_CONFIG_INVALID_VALUE},
};
#define N_BAD (int)(sizeof bad / sizeof *bad)

START_TEST(refused)
{
    struct memory_checkpoint mc;
    open_rope(&mc, bad[_i].json);
    memory_checkpoint_refused(&mc, bad[_i].json, bad[_i].code, bad[_i].field);
    memory_checkpoint_free(&mc);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/rope");
    TCase *t = tcase_create("rope");
    tcase_add_test(t, as_the_library);
    tcase_add_loop_test(t, default_linear_dynamic, 0, 6);
    tcase_add_test(t, partial);
    tcase_add_test(t, llama3);
    tcase_add_test(t, yarn);
    tcase_add_test(t, dynamic_grows_with_the_length);
    tcase_add_loop_test(t, refused, 0, N_BAD);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
