/* The special functions against libm in double, and the error bounds that special.h claims. */
#include "tests/check_main.h"

#include <math.h>

#include "backends/kernels/special.h"

/* |got - want| in units of want's last place (subnormals: the smallest). */
static double ulps(float got, double want)
{
    int e;
    frexp(want, &e);
    if (e < -125)
        e = -125;
    return fabs((double)got - want) / ldexp(1, e - 24);
}

/* The largest error over every `step`-th float of [low, high] and its negative. */
static double worst(float (*f)(float), double (*g)(double), float low, float high, int step)
{
    double most = 0;
    for (int32_t i = special_bits(low); i <= special_bits(high); i += step)
        for (int s = 0; s < 2; s++) {
            float x = s ? -special_of_bits(i) : special_of_bits(i);
            double u = ulps(f(x), g((double)x));
            if (u > most)
                most = u;
        }
    return most;
}

START_TEST(bounds)
{
    ck_assert_double_le(worst(special_exp, exp, 1e-10f, 88.7f, 997), 1.5);
    for (float x = -103; x < -80; x += 0.003f)
        ck_assert_double_le(ulps(special_exp(x), exp((double)x)), 1.5);
    for (float x = -125; x <= 0; x += 0.0007f)
        ck_assert_double_le(ulps(special_power(x), exp2((double)x)), 2.1);
    ck_assert_double_le(worst(special_tanh, tanh, 1e-10f, 12.0f, 499), 2.5);
    ck_assert_double_le(worst(special_erf, erf, 1e-10f, 6.0f, 499), 2.0);
}
END_TEST

START_TEST(ends)
{
    ck_assert(special_exp(-INFINITY) == 0 && special_exp(-200) == 0 && special_exp(0) == 1);
    ck_assert(special_power(-INFINITY) == 0 && special_power(-125.1f) == 0);
    ck_assert(special_power(0) == 1 && special_power(-1) == 0.5f &&
              special_power(-124) == 0x1p-124f);
    ck_assert(isinf(special_exp(INFINITY)) && isinf(special_exp(89.5f)));
    ck_assert(special_tanh(INFINITY) == 1 && special_tanh(-1e30f) == -1 && special_tanh(0) == 0);
    ck_assert(special_erf(INFINITY) == 1 && special_erf(-1e30f) == -1 && special_erf(0) == 0);
    ck_assert(isnan(special_exp(NAN)) && isnan(special_tanh(NAN)) && isnan(special_erf(NAN)));
}
END_TEST

static Suite *special_suite(void)
{
    Suite *s = suite_create("special");
    TCase *t = tcase_create("special");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, bounds);
    tcase_add_test(t, ends);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(special_suite)
