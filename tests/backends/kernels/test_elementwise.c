/* norm, activate, likelihoods, rope, add, scale, gemm, solve and what builds a rotation's blocks
 * against their definitions in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

enum { ROWS = 3, DIM = 77 };

static double activation(enum activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case ACT_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case ACT_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_TANH:
        return tanh(x);
    case ACT_NONE:
        break;
    }
    return x;
}

START_TEST(activate)
{
    float gate[ROWS * DIM], up[ROWS * DIM], out[ROWS * DIM];
    random_floats(gate, ROWS * DIM);
    random_floats(up, ROWS * DIM);
    for (int i = 0; i < ROWS * DIM; i++)
        gate[i] *= 15;
    struct kernels *t = open_table(isas[_i], 1);
    for (int act = ACT_NONE; act <= ACT_QUICK_GELU; act++)
        for (int with_up = 0; with_up < 2; with_up++) {
            t->activate(t, (enum activation)act, gate, DIM, with_up ? up : NULL, DIM, ROWS, DIM,
                        out, DIM);
            for (int i = 0; i < ROWS * DIM; i++) {
                double want = activation((enum activation)act, (double)gate[i]);
                want *= with_up ? (double)up[i] : 1;
                ck_assert_double_eq_tol((double)out[i], want, 1e-6 + 4e-7 * fabs(want));
            }
            gate[5] = NAN; // never hidden
            t->activate(t, (enum activation)act, gate, DIM, NULL, 0, 1, DIM, out, DIM);
            ck_assert(isnan(out[5]));
            gate[5] = 0.5f;
        }
    t->close(t);
}
END_TEST

START_TEST(likelihoods)
{
    enum { N = 2 * DRAW_BLOCK + 77 };
    float x[N], likely[N], sums[3];
    random_floats(x, N);
    x[5] = -INFINITY;
    x[9] = 20;
    x[DRAW_BLOCK] = -90;
    struct kernels *t = open_table(isas[_i], 1);
    t->likelihoods(t, x, N, 20, 1.25f, likely, sums);
    t->close(t);
    ck_assert(likely[5] == 0 && likely[9] == 1);
    for (int b = 0; b < 3; b++) {
        double sum = 0;
        for (int i = b * DRAW_BLOCK; i < N && i < (b + 1) * DRAW_BLOCK; i++) {
            double want = exp((double)((x[i] - 20) * 1.25f));
            if (want < 0x1p-126) // special.h
                ck_assert(likely[i] == 0);
            else
                ck_assert_double_le(fabs((double)likely[i] - want), 3e-6 * want);
            sum += (double)likely[i];
        }
        ck_assert_double_eq_tol((double)sums[b], sum, 1e-6 * sum);
    }
}
END_TEST

START_TEST(norm)
{
    float x[ROWS * DIM], w[DIM], b[DIM], out[ROWS * DIM];
    random_floats(x, ROWS * DIM);
    random_floats(w, DIM);
    random_floats(b, DIM);
    struct kernels *t = open_table(isas[_i], 1);
    for (int kind = 0; kind < 8; kind++) {
        struct norm_args a = {.kind = kind & 1 ? NORM_LAYER : NORM_RMS,
                              .weight = w,
                              .bias = kind & 2 ? b : NULL,
                              .eps = 1e-3f,
                              .plus_one = kind & 4,
                              .dim = DIM};
        memcpy(out, x, sizeof out);
        t->norm(t, &a, out, DIM, ROWS, out, DIM); // in place
        for (int r = 0; r < ROWS; r++) {
            double mean = 0, square = 0;
            for (int i = 0; i < DIM && kind & 1; i++)
                mean += (double)x[r * DIM + i] / DIM;
            for (int i = 0; i < DIM; i++)
                square += pow((double)x[r * DIM + i] - mean, 2) / DIM;
            for (int i = 0; i < DIM; i++) {
                double y = ((double)x[r * DIM + i] - mean) / sqrt(square + 1e-3) *
                           (kind & 4 ? 1 + (double)w[i] : (double)w[i]);
                y += kind & 2 ? (double)b[i] : 0;
                ck_assert_double_eq_tol((double)out[r * DIM + i], y, 2e-6);
            }
        }
    }
    t->close(t);
}
END_TEST

/* Heads of 10 of which 6 turn: pairs (i, i + 3); the rest stays. */
START_TEST(rope)
{
    enum { HEADS = 2, HEAD = 10, ROT = 6 };
    float x[ROWS * HEADS * HEAD], y[ROWS * HEADS * HEAD], cos[ROWS * 3], sin[ROWS * 3];
    random_floats(x, ROWS * HEADS * HEAD);
    random_floats(cos, ROWS * 3);
    random_floats(sin, ROWS * 3);
    memcpy(y, x, sizeof y);
    struct kernels *t = open_table(isas[_i], 1);
    t->rope(t, y, HEADS * HEAD, ROWS, HEADS, HEAD, ROT, cos, sin);
    for (int i = 0; i < ROWS * HEADS * HEAD; i++) {
        int e = i % HEAD, r = i / (HEADS * HEAD), p = e % 3;
        float c = cos[r * 3 + p], s = sin[r * 3 + p], want = x[i];
        if (e < 3)
            want = x[i] * c - x[i + 3] * s;
        else if (e < ROT)
            want = x[i] * c + x[i - 3] * s;
        ck_assert(y[i] == want);
    }
    t->add(t, y, HEADS * HEAD, x, 0, ROWS, HEADS * HEAD); // one row for all
    t->scale(t, y, ROWS * HEADS * HEAD, 3);
    ck_assert(y[HEADS * HEAD + 9] == 3 * (x[HEADS * HEAD + 9] + x[9]));
    t->close(t);
}
END_TEST

/* [m, n, k]: for BLAS, and blocks of rotations. */
static const int gemm_shapes[][3] = {{150, 40, 33}, {150, 32, 32}, {64, 64, 64}, {7, 20, 20}};

START_TEST(gemm)
{
    enum { MOST = 150 * 67, PAD = 3 };
    const int m = gemm_shapes[_i][0], n = gemm_shapes[_i][1], l = gemm_shapes[_i][2];
    static float a[MOST], b[MOST], c[MOST];
    random_floats(a, MOST);
    random_floats(b, MOST);
    struct kernels *t = open_table("auto", 2);
    for (int kind = 0; kind < 8; kind++) {
        bool ta = kind & 1, tb = kind & 2;
        int pad = kind & 4 ? PAD : 0, lda = (ta ? m : l) + pad, ldb = (tb ? l : n) + pad;
        t->gemm(t, ta, tb, m, n, l, a, lda, b, ldb, c, n + pad);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double want = 0;
                for (int k = 0; k < l; k++)
                    want += (double)a[ta ? k * lda + i : i * lda + k] *
                            (double)b[tb ? j * ldb + k : k * ldb + j];
                ck_assert_double_eq_tol((double)c[i * (n + pad) + j], want, 1e-5);
            }
    }
    t->close(t);
}
END_TEST

START_TEST(solve)
{
    enum { N = 37, M = 11 };
    double a[N * N], lu[N * N], x[N * M], b[N * M];
    int32_t pivots[N];
    for (int i = 0; i < N * N; i++)
        lu[i] = a[i] = (double)random_float();
    for (int i = 0; i < N * M; i++)
        x[i] = (double)random_float();
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++) {
            b[i * M + j] = 0;
            for (int k = 0; k < N; k++)
                b[i * M + j] += a[i * N + k] * x[k * M + j];
        }
    struct kernels *t = open_table("auto", 1);
    ck_assert(t->solve(t, N, M, lu, b, pivots));
    for (int i = 0; i < N * M; i++)
        ck_assert_double_eq_tol(b[i], x[i], 1e-10);
    double singular[4] = {1, 2, 2, 4}, rhs[2] = {1, 1};
    ck_assert(!t->solve(t, 2, 1, singular, rhs, pivots));
    t->close(t);
}
END_TEST

/* The terms of a block of 37, apart and in place. */
START_TEST(combine)
{
    enum { B = 37 };
    static float s[B * B], p[B * B], out[3][B * B];
    random_floats(s, B * B);
    random_floats(p, B * B);
    memcpy(out[2], p, sizeof p);
    struct kernels *t = open_table(isas[_i], 1);
    t->combine(t, B, 1, 2, s, 0, NULL, out[0]);
    t->combine(t, B, 1, 2, s, 3, p, out[1]);
    t->combine(t, B, 1, 2, s, 3, out[2], out[2]);
    for (int i = 0; i < B * B; i++) {
        double linear = 2.0 * (double)s[i] + (i % (B + 1) == 0);
        ck_assert_double_eq_tol((double)out[0][i], linear, 1e-6);
        ck_assert_double_eq_tol((double)out[1][i], linear + 3.0 * (double)p[i], 1e-6);
        ck_assert(out[2][i] == out[1][i]);
    }
    t->close(t);
}
END_TEST

START_TEST(sums)
{
    enum { N = 1000 };
    float v[N];
    random_floats(v, N);
    struct kernels *t = open_table(isas[_i], 1);
    for (int n = 0; n < N; n = n < 40 ? n + 1 : n + 197) {
        double squares = 0, largest = 0;
        for (int i = 0; i < n; i++) {
            squares += (double)v[i] * (double)v[i];
            largest = fmax(largest, fabs((double)v[i]));
        }
        ck_assert_double_le(fabs(t->squares(t, v, n) - squares), 1e-12 * squares);
        ck_assert((double)t->largest(t, v, n) == largest);
    }
    for (int i = 0; i < N; i += 37) {
        float was = v[i];
        v[i] = -INFINITY;
        ck_assert(isinf(t->squares(t, v, N)) && isinf(t->largest(t, v, N)));
        v[i] = NAN;
        ck_assert(isnan(t->squares(t, v, N)) && isnan(t->largest(t, v, N)));
        v[i] = was;
    }
    v[0] = 3e38f; // its square is no float
    ck_assert(isfinite(t->squares(t, v, N)));
    t->close(t);
}
END_TEST

/* Blocks of 3 and of more columns than are taken at a time; a column of zeros has no step. */
START_TEST(to_bytes)
{
    enum { MOST = 70 };
    static const int sides[] = {3, 32, MOST};
    static float d[MOST * MOST];
    static int8_t out[MOST * MOST + 4 + 4 * MOST];
    struct kernels *t = open_table(isas[_i], 1);
    for (int which = 0; which < 3; which++) {
        int b = sides[which];
        random_floats(d, b * b);
        for (int k = 0; k < b; k++)
            d[k * b + 1] = 0;
        t->to_bytes(t, b, d, out);
        for (int c = 0; c < b; c++) {
            float step, most = 0;
            int8_t peak = 0;
            memcpy(&step, out + rotation_steps_at(b) + 4 * c, sizeof step);
            for (int k = 0; k < b; k++) {
                int8_t q = out[k * b + c];
                ck_assert_double_le(fabs((double)d[k * b + c] - (double)step * q),
                                    0.5001 * (double)step);
                peak = (int8_t)abs(q) > peak ? (int8_t)abs(q) : peak;
                most = fmaxf(most, fabsf(d[k * b + c]));
            }
            ck_assert_int_eq(peak, c == 1 ? 0 : 127);
            ck_assert(step == most / 127);
        }
    }
    t->close(t);
}
END_TEST

static Suite *elementwise_suite(void)
{
    Suite *s = suite_create("elementwise");
    TCase *t = tcase_create("elementwise");
    for (int i = 0; i < (int)N_ISAS; i++)
        if (cpu_has(isas[i])) {
            tcase_add_loop_test(t, activate, i, i + 1);
            tcase_add_loop_test(t, likelihoods, i, i + 1);
            tcase_add_loop_test(t, norm, i, i + 1);
            tcase_add_loop_test(t, rope, i, i + 1);
            tcase_add_loop_test(t, combine, i, i + 1);
            tcase_add_loop_test(t, sums, i, i + 1);
            tcase_add_loop_test(t, to_bytes, i, i + 1);
        }
    tcase_add_loop_test(t, gemm, 0, 4);
    tcase_add_test(t, solve);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(elementwise_suite)
