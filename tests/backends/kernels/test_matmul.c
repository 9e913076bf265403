/*
 * Exact mode to the bit: row 0 of a product is the same whatever the number of rows, the threads,
 * the chunking and the twin, and it is what the definition in core/kernels.h says.
 */
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

/* The definition, from elements that weight_element defines. */
static float defined(const struct weight *w, const float *x, int64_t n)
{
    float sum = 0;
    for (int64_t k0 = 0; k0 < w->k; k0 += PANEL_K) {
        float acc = 0;
        for (int64_t k = k0; k < w->k && k < k0 + PANEL_K; k++)
            acc = fmaf(x[k], weight_element(w, n, k), acc);
        sum = sum + acc;
    }
    return sum;
}

static void ck_same(const float *a, const float *b, int64_t n, const char *what, int rows)
{
    for (int64_t i = 0; i < n; i++)
        if (!same_value(a[i], b[i]))
            ck_abort_msg("%s, %d rows: output %d is %a, not %a", what, rows, (int)i, (double)a[i],
                         (double)b[i]);
}

enum { MOST_ROWS = 200 };
static const int row_counts[] = {1, 2, 3, 5, 8, 17, 64, MOST_ROWS};

START_TEST(rows)
{
    const struct weight_case *c = &weight_cases[_i];
    static const int64_t shapes[][2] = {{37, 328}, {16, 64}, {5, 31}, {36, 330}, {150, 544}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t n = shapes[s][0], k = shapes[s][1], ldx = k + 5, ldo = n + 3;
        struct weight w = random_weight(c, n, k);
        float *x = malloc((size_t)(MOST_ROWS * ldx) * 4),
              *out = malloc((size_t)(MOST_ROWS * ldo) * 4);
        float *want = malloc((size_t)(3 * n) * 4), *bias = malloc((size_t)n * 4);
        random_floats(x, MOST_ROWS * ldx);
        random_floats(bias, n);
        for (int64_t i = 0; i < n; i++) {
            want[i] = defined(&w, x, i);
            want[n + i] = defined(&w, x + ldx, i) + bias[i];
            want[2 * n + i] = defined(&w, x + (MOST_ROWS - 1) * ldx, i) + bias[i];
        }
        for (size_t i = 0; i < N_ISAS; i++) {
            if (!cpu_has(isas[i]))
                continue;
            for (int threads = 1; threads <= 2; threads++) {
                struct kernels *t = open_table(isas[i], threads);
                for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
                    struct act a = {.rows = row_counts[r], .k = k, .x = x, .ldx = ldx};
                    struct matmul_job job = {.w = &w, .a = &a, .out = out, .ldo = ldo};
                    if (i == 0 && a.rows > 17)
                        continue;
                    t->matmul(t, &job, 1);
                    ck_same(out, want, n, c->name, a.rows);
                    job.bias = bias;
                    memset(out, 0xff, (size_t)(MOST_ROWS * ldo) * 4);
                    t->matmul(t, &job, 1);
                    if (a.rows > 1)
                        ck_same(out + ldo, want + n, n, c->name, a.rows);
                    if (a.rows == MOST_ROWS) // of the last pass
                        ck_same(out + (MOST_ROWS - 1) * ldo, want + 2 * n, n, c->name, a.rows);
                }
                t->close(t);
            }
        }
        weight_clear(&w);
        free(x);
        free(out);
        free(want);
        free(bias);
    }
}
END_TEST

/* out += , several jobs in one region, and nothing written beyond the outputs. */
START_TEST(jobs)
{
    enum { ROWS = 7, K = 300 };
    static const int64_t ns[3] = {33, 300, 1};
    for (size_t i = 0; i < N_ISAS; i++) {
        if (!cpu_has(isas[i]))
            continue;
        struct kernels *t = open_table(isas[i], 2);
        struct weight w[3];
        struct matmul_job job[3];
        float *out[3], *alone[3], x[ROWS * K], bias[300];
        random_floats(x, ROWS * K);
        random_floats(bias, 300);
        struct act a = {.rows = ROWS, .k = K, .x = x, .ldx = K};
        for (int j = 0; j < 3; j++) {
            int64_t ldo = ns[j] + 2, size = ROWS * ldo;
            w[j] = random_weight(&weight_cases[4 + j], ns[j], K);
            out[j] = malloc((size_t)size * 4);
            alone[j] = malloc((size_t)size * 4);
            random_floats(out[j], size);
            memcpy(alone[j], out[j], (size_t)size * 4);
            job[j] =
                (struct matmul_job){.w = &w[j], .a = &a, .bias = bias, .out = alone[j], .ldo = ldo};
            float *before = malloc((size_t)size * 4);
            memcpy(before, alone[j], (size_t)size * 4);
            t->matmul(t, &job[j], 1);
            for (int64_t e = 0; e < size; e++)
                alone[j][e] = e % ldo < ns[j] ? before[e] + alone[j][e] : before[e];
            free(before);
            job[j].out = out[j];
            job[j].add = true;
        }
        t->matmul(t, job, 3);
        for (int j = 0; j < 3; j++) {
            ck_same(out[j], alone[j], ROWS * job[j].ldo, "jobs", ROWS);
            weight_clear(&w[j]);
            free(out[j]);
            free(alone[j]);
        }
        a.rows = 0;
        t->matmul(t, job, 0);
        t->close(t);
    }
}
END_TEST

/* dequantize and gather give weight_element's elements in natural order. */
START_TEST(elements)
{
    const struct weight_case *c = &weight_cases[_i];
    enum { N = 41, K = 300 };
    struct weight w = random_weight(c, N, K);
    float *out = malloc((size_t)(N * K) * 4), *want = malloc((size_t)(N * K) * 4);
    for (int64_t r = 0; r < N; r++)
        for (int64_t k = 0; k < K; k++)
            want[r * K + (w.perm ? w.perm[k] : k)] = weight_element(&w, r, k);
    for (size_t i = 0; i < N_ISAS; i++) {
        if (!cpu_has(isas[i]))
            continue;
        struct kernels *t = open_table(isas[i], 2);
        t->dequantize(t, &w, 0, N, out);
        ck_same(out, want, N * K, c->name, N);
        t->dequantize(t, &w, 7, 23, out);
        ck_same(out, want + 7 * K, 23 * K, c->name, 23);
        static const int32_t ids[] = {40, 0, 17, 17};
        t->gather(t, &w, ids, 4, out, K + 1);
        for (int j = 0; j < 4; j++)
            ck_same(out + j * (K + 1), want + ids[j] * K, K, c->name, 1);
        t->close(t);
    }
    weight_clear(&w);
    free(out);
    free(want);
}
END_TEST

/* One row against every absmax: table[1] * absmax runs through many mantissas, so that decoding
 * rounds ties and near-ties of float16 and bfloat16 as round_to_dtype does. */
START_TEST(rounding)
{
    enum { N = 64, K = 512 };
    for (int d = 0; d < 2; d++) {
        struct weight w = random_weight(&weight_cases[d ? 5 : 4], N, K);
        float x[K], out[N];
        memset(x, 0, sizeof x);
        for (int64_t i = 0; i < w.n_tiles * 16 * w.n_groups; i++) { // short mantissas make ties
            uint32_t bits = 0x3c000000u + (uint32_t)(random_u64() & 0x7ff) * (d ? 0x1000u : 0x200u);
            memcpy((float *)w.scales + i, &bits, 4);
        }
        for (int i = 0; i < 16; i++)
            w.table[i] = (float)(i - 8) / 8;
        for (size_t i = 1; i < N_ISAS; i++) {
            if (!cpu_has(isas[i]))
                continue;
            struct kernels *t = open_table(isas[i], 1);
            for (int64_t k = 0; k < K; k += 7) {
                struct act a = {.rows = 1, .k = K, .x = x, .ldx = K};
                struct matmul_job job = {.w = &w, .a = &a, .out = out, .ldo = N};
                x[k] = 1;
                t->matmul(t, &job, 1);
                x[k] = 0;
                for (int64_t n = 0; n < N; n++)
                    ck_assert(out[n] == weight_element(&w, n, k));
            }
            t->close(t);
        }
        weight_clear(&w);
    }
}
END_TEST

/* What round_split (backends/kernels/decode_simd.h) rests on: g = v c, g - (g - v) rounds to even
 * whatever the mantissa, up to the ends of the exponents for which it is used. */
START_TEST(splitting)
{
    static const int exponents[2][3] = {{127 - 14, 127, 127 + 14}, {127 - 120, 127, 127 + 60}};
    enum dtype d = _i ? DT_BF16 : DT_F16;
    float c = _i ? 0x1p16f + 1 : 0x1p13f + 1;
    for (int e = 0; e < 3; e++)
        for (uint32_t mantissa = 0; mantissa < 1u << 23; mantissa++) {
            uint32_t bits = (uint32_t)exponents[_i][e] << 23 | mantissa;
            float v;
            memcpy(&v, &bits, 4);
            float g = v * c, got = g - (g - v);
            if (got != round_to_dtype(v, d))
                ck_abort_msg("%a becomes %a", (double)v, (double)got);
        }
}
END_TEST

static Suite *matmul_suite(void)
{
    Suite *s = suite_create("matmul");
    TCase *t = tcase_create("matmul");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, rows, 0, (int)WEIGHT_CASES);
    tcase_add_test(t, jobs);
    tcase_add_test(t, rounding);
    tcase_add_loop_test(t, splitting, 0, 2);
    tcase_add_loop_test(t, elements, 0, (int)WEIGHT_CASES);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(matmul_suite)
