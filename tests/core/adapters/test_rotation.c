#include "core/adapters/rotation.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"

/* ---- an oracle in double: the definition, term by term ---- */

static void oracle_skew(const float *v, int b, double scale, double *s)
{
    for (int p = 0; p < b; p++)
        for (int q = p + 1; q < b; q++) {
            double x = scale * v[p * (2 * b - p - 1) / 2 + q - p - 1];
            s[p * b + q] = x;
            s[q * b + p] = -x;
        }
}

static void oracle_multiply(int b, const double *x, const double *y, double *out)
{
    for (int i = 0; i < b; i++)
        for (int j = 0; j < b; j++) {
            double sum = 0;
            for (int k = 0; k < b; k++)
                sum += x[i * b + k] * y[k * b + j];
            out[i * b + j] = sum;
        }
}

/* PEFT's own loops: R = I, then powers of S added one after another. */
static void oracle_neumann(int b, const double *s, int terms, bool old, double *r)
{
    size_t n = (size_t)(b * b);
    double *power = calloc(n, sizeof *power), *next = calloc(n, sizeof *next);
    memset(r, 0, n * sizeof *r);
    for (int i = 0; i < b; i++)
        r[i * b + i] = power[i * b + i] = 1;
    int last = terms - 1;
    if (!old && terms == 3)
        last = 3;
    for (int p = 1; p <= last; p++) {
        oracle_multiply(b, power, s, next);
        memcpy(power, next, n * sizeof *power);
        double c = p == last && p > 1 && !old ? 1 : 2;
        for (size_t i = 0; i < n; i++)
            r[i] += c * power[i];
    }
    free(power);
    free(next);
}

/* R = (I - S) (I + S)^-1, the inverse computed by itself. */
static void oracle_exact(int b, const double *s, double *r)
{
    size_t n = (size_t)(b * b);
    double *plus = calloc(n, sizeof *plus), *minus = calloc(n, sizeof *minus);
    double *inverse = calloc(n, sizeof *inverse);
    for (size_t i = 0; i < n; i++) {
        plus[i] = s[i];
        minus[i] = -s[i];
    }
    for (int i = 0; i < b; i++) {
        plus[i * b + i] = minus[i * b + i] = inverse[i * b + i] = 1;
    }
    toy_solve(NULL, b, b, plus, inverse, NULL);
    oracle_multiply(b, minus, inverse, r);
    free(plus);
    free(minus);
    free(inverse);
}

static struct tensor packed_of(const float *v, int64_t rows, int64_t cols)
{
    return (struct tensor){.dtype = DT_F32,
                           .rank = 2,
                           .shape = {rows, cols},
                           .data = v,
                           .bytes = (size_t)(rows * cols) * sizeof *v};
}

static void build(const struct rotation_rule *rule, const float *v, int64_t rows, int b, float *out,
                  struct rotation_stats *stats)
{
    struct tensor t = packed_of(v, rows, rotation_packed(b));
    memset(stats, 0, sizeof *stats);
    ck_assert_int_eq(rotation_build(&toy_kernels, rule, &t, b, DT_F32, out, stats, NULL), ST_OK);
}

static void expect(const float *r, const double *want, int n, double tolerance)
{
    for (int i = 0; i < n; i++)
        ck_assert_msg(fabs((double)r[i] - want[i]) <= tolerance, "%d: %.9g, expected %.9g", i, r[i],
                      want[i]);
}

static void fill(float *v, int n, float scale, unsigned seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        v[i] = scale * ((float)(int32_t)seed / 2147483648.0f);
    }
}

/* ---- the worked examples of the format's description ---- */

START_TEST(examples)
{
    static const float v[3] = {0.1f, -0.2f, 0.3f};
    static const struct {
        struct rotation_rule rule;
        double r[9];
    } cases[] = {
        {{.neumann = false, .strength = 1},
         {0.91228070, -0.07017544, 0.40350877, 0.28070175, 0.82456140, -0.49122807, -0.29824561,
          0.56140351, 0.77192982}},
        {{.neumann = true, .terms = 0, .strength = 1}, {1, 0, 0, 0, 1, 0, 0, 0, 1}},
        {{.neumann = true, .terms = 1, .strength = 1}, {1, 0, 0, 0, 1, 0, 0, 0, 1}},
        {{.neumann = true, .terms = 2, .strength = 1}, {1, 0.2, -0.4, -0.2, 1, 0.6, 0.4, -0.6, 1}},
        {{.neumann = true, .terms = 3, .strength = 1},
         {0.9, 0.306, -0.312, -0.066, 0.8, 0.598, 0.432, -0.518, 0.74}},
        {{.neumann = true, .terms = 4, .strength = 1},
         {0.9, 0.306, -0.312, -0.066, 0.8, 0.598, 0.432, -0.518, 0.74}},
        {{.neumann = true, .terms = 5, .strength = 1},
         {0.907, 0.2836, -0.2882, -0.0604, 0.814, 0.5532, 0.3998, -0.4788, 0.7582}},
        {{.neumann = true, .terms = 6, .strength = 1},
         {0.914, 0.27716, -0.29632, -0.07076, 0.828, 0.55628, 0.39952, -0.48748, 0.7764}},
        {{.neumann = true, .terms = 3, .old = true, .strength = 1},
         {0.9, 0.32, -0.34, -0.08, 0.8, 0.64, 0.46, -0.56, 0.74}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        float r[9];
        struct rotation_stats stats;
        build(&cases[c].rule, v, 1, 3, r, &stats);
        expect(r, cases[c].r, 9, 1e-7);
        ck_assert_int_eq(stats.divergent, 0);
    }
}
END_TEST

START_TEST(example_of_two)
{
    static const float v[1] = {0.5f};
    float r[4];
    struct rotation_stats stats;
    struct rotation_rule rule = {.strength = 1};
    build(&rule, v, 1, 2, r, &stats);
    expect(r, (const double[]){0.6, -0.8, 0.8, 0.6}, 4, 1e-7);
    ck_assert_double_le(stats.defect, 1e-6);
    rule = (struct rotation_rule){.neumann = true, .terms = 5, .strength = 1};
    build(&rule, v, 1, 2, r, &stats);
    expect(r, (const double[]){0.5625, 0.75, -0.75, 0.5625}, 4, 1e-7);
    ck_assert_double_eq_tol(stats.defect, 1 - (0.5625 * 0.5625 + 0.75 * 0.75), 1e-6);
}
END_TEST

START_TEST(projection)
{
    static const float v[6] = {0.3f, 0.4f, 0, 1e-4f, 0, 0}; // one block outside, one inside
    struct rotation_rule rule = {
        .neumann = true, .terms = 2, .coft = true, .eps = 0.01, .strength = 1};
    float r[18];
    struct rotation_stats stats;
    build(&rule, v, 2, 3, r, &stats);
    expect(r, (const double[]){1, 0.006, 0.008, -0.006, 1, 0, -0.008, 0, 1}, 9, 1e-9);
    expect(r + 9, (const double[]){1, 2e-4, 0, -2e-4, 1, 0, 0, 0, 1}, 9, 1e-9);
    ck_assert_int_eq(stats.projected, 1);
    rule.strength = 0.5; // the projection comes first
    build(&rule, v, 2, 3, r, &stats);
    expect(r, (const double[]){1, 0.003, 0.004, -0.003, 1, 0, -0.004, 0, 1}, 9, 1e-9);
    rule.eps = 0;
    build(&rule, v, 2, 3, r, &stats);
    expect(r, (const double[]){1, 0, 0, 0, 1, 0, 0, 0, 1}, 9, 0);
    const float edge[3] = {0.003f, 0.004f, 0}; // projected before: on the ball up to rounding
    rule.eps = sqrt(2) * 0.005;
    build(&rule, edge, 1, 3, r, &stats);
    ck_assert_int_eq(stats.projected, 0);
}
END_TEST

START_TEST(random_against_double)
{
    static const int sizes[] = {2, 3, 5, 8, 13, 16, 32, 48};
    static const int terms[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 17, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int b = sizes[i], n = b * (b - 1) / 2;
        float *v = malloc((size_t)n * sizeof *v), *r = malloc((size_t)(b * b) * sizeof *r);
        double *s = calloc((size_t)(b * b), sizeof *s), *want = calloc((size_t)(b * b), sizeof *s);
        struct rotation_stats stats;
        fill(v, n, 0.6f / sqrtf((float)b), (unsigned)b);
        for (int strength = 1; strength <= 2; strength++) {
            double t = strength == 1 ? 1 : 0.37;
            oracle_skew(v, b, t, s);
            oracle_exact(b, s, want);
            struct rotation_rule rule = {.strength = t};
            build(&rule, v, 1, b, r, &stats);
            expect(r, want, b * b, 1e-6);
            ck_assert_double_le(stats.defect, 1e-6);
            for (size_t j = 0; j < 2 * sizeof terms / sizeof terms[0]; j++) {
                bool old = j % 2;
                rule = (struct rotation_rule){
                    .neumann = true, .terms = terms[j / 2], .old = old, .strength = t};
                oracle_neumann(b, s, terms[j / 2], old, want);
                build(&rule, v, 1, b, r, &stats);
                expect(r, want, b * b, 1e-6);
            }
        }
        free(v);
        free(r);
        free(s);
        free(want);
    }
}
END_TEST

/* The two forms are each other's transpose in the limit. */
START_TEST(series_runs_towards_the_transpose)
{
    float v[28], exact[64], series[64];
    struct rotation_stats stats;
    fill(v, 28, 0.2f, 3);
    build(&(struct rotation_rule){.strength = 1}, v, 1, 8, exact, &stats);
    build(&(struct rotation_rule){.neumann = true, .terms = 60, .strength = 1}, v, 1, 8, series,
          &stats);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            ck_assert_float_eq_tol(exact[i * 8 + j], series[j * 8 + i], 1e-6f);
}
END_TEST

START_TEST(zero_is_identity)
{
    static const float v[496];
    float r[1024];
    struct rotation_stats stats;
    for (int neumann = 0; neumann < 2; neumann++) {
        struct rotation_rule rule = {.neumann = neumann, .terms = 5, .strength = 1};
        build(&rule, v, 1, 32, r, &stats);
        for (int i = 0; i < 1024; i++)
            ck_assert(r[i] == (i % 33 == 0));
        ck_assert(stats.defect == 0);
    }
    build(&(struct rotation_rule){.strength = 1}, v, 3, 1, r, &stats);
    ck_assert(r[0] == 1 && r[1] == 1 && r[2] == 1);
}
END_TEST

static int64_t divergent(const float *v, int b, double *norm)
{
    float *r = malloc((size_t)(b * b) * sizeof *r);
    struct rotation_stats stats;
    struct rotation_rule rule = {.neumann = true, .terms = 5, .strength = 1};
    build(&rule, v, 1, b, r, &stats);
    free(r);
    *norm = stats.norm;
    return stats.divergent;
}

START_TEST(divergence)
{
    double norm;
    // one plane: the spectral norm is the entry itself
    ck_assert_int_eq(divergent((const float[]){0.999f}, 2, &norm), 0);
    ck_assert_int_eq(divergent((const float[]){1}, 2, &norm), 1);
    ck_assert_double_eq_tol(norm, 1, 1e-6);
    ck_assert_int_eq(divergent((const float[]){-1.5f}, 2, &norm), 1);
    ck_assert_double_eq_tol(norm, 1.5, 1e-6);
    // planes (0,1), (2,3), ... of norm 0.9 each: the Frobenius norm is far above 1
    float v[496] = {0};
    for (int p = 0; p < 32; p += 2)
        v[p * (64 - p - 1) / 2] = 0.9f;
    ck_assert_int_eq(divergent(v, 32, &norm), 0);
    v[30 * (64 - 31) / 2] = 1.0001f; // the last plane alone is just above
    ck_assert_int_eq(divergent(v, 32, &norm), 1);
    ck_assert_double_eq_tol(norm, 1.0001, 1e-4);
    // an exact transform has no series
    float r[4];
    struct rotation_stats stats;
    build(&(struct rotation_rule){.strength = 1}, (const float[]){100}, 1, 2, r, &stats);
    ck_assert_int_eq(stats.divergent, 0);
    ck_assert_double_le(stats.defect, 1e-6);
}
END_TEST

START_TEST(huge_and_non_finite)
{
    float r[9];
    struct rotation_stats stats;
    struct rotation_rule rule = {.neumann = true, .terms = 5, .strength = 1};
    build(&rule, (const float[]){1e30f, 1e30f, 1}, 1, 3, r, &stats);
    ck_assert_int_eq(stats.divergent, 1);
    ck_assert(isinf(stats.defect));
    build(&rule, (const float[]){0.1f, NAN, 0.1f}, 1, 3, r, &stats);
    ck_assert_int_eq(stats.non_finite, 1);
    build(&rule, (const float[]){0.1f, INFINITY, 0.1f}, 1, 3, r, &stats);
    ck_assert_int_eq(stats.non_finite, 1);
    rule.neumann = false;
    build(&rule, (const float[]){1e5f, -2e5f, 3e5f}, 1, 3, r, &stats);
    ck_assert_double_le(stats.defect, 1e-5);
    build(&rule, (const float[]){3e38f, -3e38f, 3e38f}, 1, 3, r, &stats); // singular in double
    ck_assert(isinf(stats.defect));
}
END_TEST

START_TEST(half_precision_files)
{
    float v[28], r32[64], r16[64];
    uint16_t h[28];
    struct rotation_stats stats = {0};
    struct rotation_rule rule = {.neumann = true, .terms = 5, .strength = 1};
    fill(v, 28, 0.2f, 5);
    for (int bf = 0; bf < 2; bf++) {
        for (int i = 0; i < 28; i++) {
            h[i] = bf ? f32_to_bf16(v[i]) : f32_to_f16(v[i]);
            v[i] = bf ? bf16_to_f32(h[i]) : f16_to_f32(h[i]);
        }
        struct tensor t = packed_of(v, 1, 28);
        t.dtype = bf ? DT_BF16 : DT_F16;
        t.data = h;
        t.bytes = sizeof h;
        ck_assert_int_eq(rotation_build(&toy_kernels, &rule, &t, 8, DT_F32, r16, &stats, NULL),
                         ST_OK);
        build(&rule, v, 1, 8, r32, &stats);
        ck_assert_mem_eq(r16, r32, sizeof r16);
    }
}
END_TEST

START_TEST(block_sizes)
{
    static const int64_t cases[][3] = {
        {100, 32, 25}, {30, 32, 30}, {45, 32, 45},  {11008, 48, 43}, {144, 5, 4},
        {14, 4, 2},    {7, 3, 1},    {256, 32, 32}, {13, 7, 1},      {64, 2147483647, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_int_eq(rotation_block(cases[i][0], 0, cases[i][1]), cases[i][2]);
    ck_assert_int_eq(rotation_block(100, 4, 0), 25);
    ck_assert_int_eq(rotation_block(100, 30, 0), 4); // 25 blocks are nearer than 50
    ck_assert_int_eq(rotation_block(100, 1000, 0), 1);
    for (int64_t b = 1; b < 3000; b++)
        ck_assert_int_eq(rotation_unpacked(rotation_packed(b)), b);
    ck_assert_int_eq(rotation_unpacked(2), 0);
    ck_assert_int_eq(rotation_unpacked(4), 0);
    ck_assert_int_eq(rotation_unpacked(rotation_packed(100000)), 100000);
}
END_TEST

/* D of rows blocks is the R of the same blocks less I, and no other number differs. */
static void expect_near(const struct rotation_rule *rule, const float *v, int rows, int b)
{
    struct rotation_stats stats, same = {0};
    float r[4 * 64];
    uint16_t d[4 * 64];
    build(rule, v, rows, b, r, &stats);
    const struct tensor t = {
        .dtype = DT_F32, .rank = 2, .shape = {rows, rotation_packed(b)}, .data = v};
    ck_assert_int_eq(rotation_build(&toy_kernels, rule, &t, b, DT_F16, d, &same, NULL), ST_OK);
    for (int i = 0; i < rows * b * b; i++)
        ck_assert_int_eq(d[i], f32_to_f16(i % (b * b) % (b + 1) == 0 ? r[i] - 1 : r[i]));
    same.beyond = stats.beyond;
    ck_assert_mem_eq(&same, &stats, sizeof stats);
}

START_TEST(near)
{
    float v[4 * 28];
    for (int i = 0; i < 4 * 28; i++)
        v[i] = 0.2F * sinf((float)i);
    for (int terms = 1; terms < 7; terms++)
        expect_near(&(struct rotation_rule){.neumann = true, .terms = terms, .strength = 0.7}, v, 4,
                    8);
    const struct rotation_rule exact = {.strength = 1};
    expect_near(&exact, v, 3, 8);
    expect_near(&exact, v, 3, 1);
}
END_TEST

/* Each entry of D within half a step, the steps being the 127th parts of the columns' peaks. */
static void expect_bytes(const struct rotation_rule *rule, const float *v, int rows, int b)
{
    struct rotation_stats stats, same = {0};
    float r[4 * 64], steps[8];
    char bytes[4 * (64 + 4 * 8)];
    size_t size = rotation_block_bytes(DT_I8, b);
    build(rule, v, rows, b, r, &stats);
    const struct tensor t = {
        .dtype = DT_F32, .rank = 2, .shape = {rows, rotation_packed(b)}, .data = v};
    ck_assert_int_eq(rotation_build(&toy_kernels, rule, &t, b, DT_I8, bytes, &same, NULL), ST_OK);
    ck_assert_mem_eq(&same, &stats, sizeof stats);
    for (int i = 0; i < rows; i++) {
        const signed char *q = (const signed char *)bytes + (size_t)i * size;
        memcpy(steps, q + rotation_steps_at(b), (size_t)b * sizeof *steps);
        for (int c = 0; c < b; c++) {
            double peak = 0;
            for (int k = 0; k < b; k++) {
                double d = r[(i * b + k) * b + c] - (k == c);
                ck_assert_double_le(fabs(d - (double)q[k * b + c] * steps[c]), 0.501 * steps[c]);
                peak = fmax(peak, fabs(d));
            }
            ck_assert_double_le(fabs(steps[c] - peak / 127), 1e-6 * peak);
        }
    }
}

START_TEST(in_bytes)
{
    float v[4 * 28];
    for (int i = 0; i < 4 * 28; i++)
        v[i] = 0.2F * sinf((float)i);
    const struct rotation_rule rule = {.neumann = true, .terms = 5, .strength = 0.7},
                               exact = {.strength = 1};
    expect_bytes(&rule, v, 4, 8);
    expect_bytes(&rule, v, 4, 3);
    expect_bytes(&exact, v, 4, 8);
    expect_bytes(&exact, v, 4, 1);
}
END_TEST

/* Bytes where D is small, which is measured here on D itself: the error of an output of inputs that
 * are one. */
START_TEST(form_of_near)
{
    static const struct {
        float scale, strength;
        enum dtype form;
    } cases[] = {{0.02F, 1, DT_I8}, {0.05F, 1, DT_I8}, {0.3F, 1, DT_F16}, {0.3F, 0.1F, DT_I8},
                 {1000, 1, DT_F16}, {NAN, 1, DT_F16},  {0, 1, DT_I8}};
    float v[496];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int e = 0; e < 496; e++)
            v[e] = cases[i].scale * sinf((float)(e * e));
        const struct rotation_rule rule = {
            .neumann = true, .terms = 5, .strength = (double)cases[i].strength};
        const struct tensor t = {.dtype = DT_F32, .rank = 2, .shape = {1, 496}, .data = v};
        ck_assert_msg(rotation_near(&toy_kernels, &rule, &t, 32) == cases[i].form, "case %zu", i);
    }
}
END_TEST

START_TEST(beyond_halves)
{
    const struct rotation_rule rule = {.neumann = true, .terms = 2, .strength = 1}; // I + 2 S
    const float v[] = {1, 32752, -32759.9F, 32760}; // 65520 rounds to infinity
    const struct tensor t = {.dtype = DT_F32, .rank = 2, .shape = {4, 1}, .data = v};
    uint16_t d[16];
    struct rotation_stats stats = {0};
    ck_assert_int_eq(rotation_build(&toy_kernels, &rule, &t, 2, DT_F16, d, &stats, NULL), ST_OK);
    ck_assert_int_eq(stats.beyond, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/rotation");
    TCase *t = tcase_create("all");
    tcase_add_test(t, examples);
    tcase_add_test(t, near);
    tcase_add_test(t, in_bytes);
    tcase_add_test(t, form_of_near);
    tcase_add_test(t, beyond_halves);
    tcase_add_test(t, example_of_two);
    tcase_add_test(t, projection);
    tcase_add_test(t, random_against_double);
    tcase_add_test(t, series_runs_towards_the_transpose);
    tcase_add_test(t, zero_is_identity);
    tcase_add_test(t, divergence);
    tcase_add_test(t, huge_and_non_finite);
    tcase_add_test(t, half_precision_files);
    tcase_add_test(t, block_sizes);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
