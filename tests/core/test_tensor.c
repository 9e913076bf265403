/* Scalar conversions against the definition: every f16, and f32 neighbours of every f16 boundary;
 * shapes and sizes. */
#include "core/tensor.h"

#include <math.h>
#include <string.h>

#include "tests/check_main.h"

static double f16_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 0x3ff;
    double v = e ? ldexp(1 + m / 1024.0, e - 15) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

START_TEST(every_f16)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        if ((h >> 10 & 31) == 31) {
            ck_assert((h & 0x3ff) ? isnan(f) : isinf(f));
            ck_assert((h & 0x3ff) ? isnan(f16_to_f32(f32_to_f16(f))) : f32_to_f16(f) == h);
            continue;
        }
        ck_assert(f == (float)f16_value((uint16_t)h));
        ck_assert_uint_eq(f32_to_f16(f), h);
    }
}
END_TEST

/* An array is converted as its elements are one by one, wherever it begins and ends. */
START_TEST(every_f16_in_arrays)
{
    static uint16_t halves[0x10000];
    static float got[0x10000];
    for (uint32_t h = 0; h < 0x10000; h++)
        halves[h] = (uint16_t)(h * 40503u); // odd: every half once, unlike ones side by side
    const struct tensor t = {.dtype = DT_F16, .data = halves};
    static const int64_t parts[][2] = {{0, 0x10000}, {1, 31}, {5, 32}, {7, 95}, {40000, 129}};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        tensor_to_f32(&t, parts[p][0], parts[p][1], got);
        for (int64_t i = 0; i < parts[p][1]; i++) {
            float want = f16_to_f32(halves[parts[p][0] + i]);
            ck_assert(memcmp(&got[i], &want, sizeof want) == 0);
        }
    }
}
END_TEST

/* Midpoints between neighbours go to the even one; the floats beside a midpoint go to the near
 * side. */
START_TEST(f16_ties)
{
    for (uint16_t h = 0; h < 0x7bff; h++) {
        float mid = (float)((f16_value(h) + f16_value(h + 1)) / 2); // exact in f32
        ck_assert_uint_eq(f32_to_f16(mid), h & 1 ? h + 1 : h);
        ck_assert_uint_eq(f32_to_f16(nextafterf(mid, 0)), h);
        ck_assert_uint_eq(f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        ck_assert_uint_eq(f32_to_f16(-mid), (h & 1 ? h + 1 : h) | 0x8000);
    }
    ck_assert_uint_eq(f32_to_f16(65519.996f), 0x7bff);
    ck_assert_uint_eq(f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(f32_to_f16(1e-30f), 0);
    ck_assert_uint_eq(f32_to_f16(-1e-30f), 0x8000);
}
END_TEST

START_TEST(bf16)
{
    ck_assert_uint_eq(f32_to_bf16(1.0f), 0x3f80);
    ck_assert_uint_eq(f32_to_bf16(1.00390625f), 0x3f80); // tie to even
    ck_assert_uint_eq(f32_to_bf16(1.01171875f), 0x3f82); // tie to even, up
    ck_assert_uint_eq(f32_to_bf16(3.4e38f), 0x7f80);     // overflows to Inf
    ck_assert(isnan(bf16_to_f32(f32_to_bf16(NAN))));
    for (uint32_t h = 0; h < 0x10000; h++)
        if ((h >> 7 & 255) != 255)
            ck_assert_uint_eq(f32_to_bf16(bf16_to_f32((uint16_t)h)), h);
}
END_TEST

START_TEST(shapes)
{
    struct tensor t = {.rank = 2, .shape = {4, 32}, .dtype = DT_F16};
    char buf[32];
    ck_assert_str_eq(tensor_shape_text(&t, buf, sizeof buf), "[4, 32]");
    ck_assert_int_eq(tensor_elements(&t), 128);
    ck_assert(tensor_shape_is(&t, 2, (int64_t[]){4, 32}));
    ck_assert(!tensor_shape_is(&t, 1, (int64_t[]){4}));
    int64_t p;
    ck_assert(size_product((int64_t[]){1 << 20, 1 << 20}, 2, &p) && p == (int64_t)1 << 40);
    ck_assert(!size_product((int64_t[]){INT64_MAX, 2}, 2, &p));
    ck_assert(!size_product((int64_t[]){-1, 2}, 2, &p));
    char small[4];
    ck_assert_str_eq(tensor_shape_text(&t, small, sizeof small), "[4,");
}
END_TEST

START_TEST(names)
{
    enum dtype d;
    ck_assert(dtype_parse("F8_E4M3", &d) && d == DT_F8_E4M3 && dtype_size(d) == 1);
    ck_assert(!dtype_parse("F4", &d));
    ck_assert(dtype_parse_torch("torch.bfloat16", &d) && d == DT_BF16);
    ck_assert(dtype_parse_torch("float32", &d) && d == DT_F32);
    ck_assert(!dtype_parse_torch("complex64", &d));
    ck_assert_str_eq(dtype_torch(DT_F16), "float16");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tensor");
    TCase *t = tcase_create("tensor");
    tcase_add_test(t, every_f16);
    tcase_add_test(t, every_f16_in_arrays);
    tcase_add_test(t, f16_ties);
    tcase_add_test(t, bf16);
    tcase_add_test(t, shapes);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
