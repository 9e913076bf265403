/* prepare: the definition, chains of rotations, groups of rows, the gather, aliasing; and the same
 * bits for a row whatever its company. */
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

static struct rotation random_rotation(int64_t k, int32_t block, bool shared)
{
    struct rotation r = {.dim = k,
                         .block = block,
                         .blocks = (int32_t)(k / block),
                         .shared = shared,
                         .dtype = DT_F32};
    int64_t n = (shared ? 1 : r.blocks) * (int64_t)block * block;
    r.data = memory_alloc((size_t)n * sizeof(float));
    random_floats(r.data, n);
    return r;
}

static void rotate_by_definition(const struct rotation *r, float *x)
{
    float *y = malloc((size_t)r->dim * sizeof *y);
    for (int64_t i = 0; i < r->dim; i++) {
        int64_t b = i / r->block, c = i % r->block;
        const float *m = (float *)r->data + (r->shared ? 0 : b * r->block * r->block);
        float acc = 0;
        for (int32_t k = 0; k < r->block; k++)
            acc = fmaf(x[b * r->block + k], m[k * r->block + c], acc);
        y[i] = acc;
    }
    memcpy(x, y, (size_t)r->dim * sizeof *y);
    free(y);
}

enum { K = 96, ROWS = 11 };

START_TEST(definition)
{
    struct rotation a = random_rotation(K, 32, false), b = random_rotation(K, 6, true);
    const struct rotation *one[1] = {&a}, *two[2] = {&a, &b};
    struct rotate_group g[3] = {{.first = 1, .count = 4, .n = 1, .r = one},
                                {.first = 5, .count = 1, .n = 0, .r = NULL},
                                {.first = 7, .count = 3, .n = 2, .r = two}};
    struct weight w = {.k = K};
    random_perm(&w);
    float x[ROWS * (K + 3)], want[ROWS * K];
    random_floats(x, ROWS * (K + 3));
    for (int perm = 0; perm < 2; perm++) {
        for (int i = 0; i < ROWS; i++) {
            float row[K];
            memcpy(row, x + i * (K + 3), sizeof row);
            if ((i >= 1 && i < 5) || (i >= 7 && i < 10))
                rotate_by_definition(&a, row);
            if (i >= 7 && i < 10)
                rotate_by_definition(&b, row);
            for (int k = 0; k < K; k++)
                want[i * K + k] = perm ? row[w.perm[k]] : row[k];
        }
        for (size_t t = 0; t < 3; t++) {
            if (!cpu_has(isas[t]))
                continue;
            struct kernels *k = open_table(isas[t], 2);
            void *buffer = memory_alloc(k->act_bytes(k, ROWS, K));
            struct act out;
            k->prepare(k, x, K + 3, ROWS, K, g, 3, perm ? &w : NULL, buffer, &out);
            ck_assert_int_eq(out.rows, ROWS);
            ck_assert_int_eq(out.k, K);
            for (int i = 0; i < ROWS; i++)
                ck_assert_mem_eq(out.x + i * out.ldx, want + i * K, K * sizeof(float));
            memory_free(buffer);
            k->close(k);
        }
    }
    memory_free(a.data);
    memory_free(b.data);
    weight_clear(&w);
}
END_TEST

START_TEST(nothing_to_do)
{
    struct kernels *k = open_table("auto", 2);
    struct weight w = {.k = K};
    struct rotate_group g[2] = {{.first = 0, .count = 2, .n = 0}, {.first = 2, .count = 0, .n = 1}};
    float x[2 * K];
    void *buffer = memory_alloc(k->act_bytes(k, 2, K));
    struct act out;
    k->prepare(k, x, K, 2, K, g, 2, &w, buffer, &out);
    ck_assert(out.x == x && out.ldx == K && out.rows == 2 && !out.q);
    random_perm(&w); // the gather alone
    random_floats(x, 2 * K);
    k->prepare(k, x, K, 2, K, NULL, 0, &w, buffer, &out);
    for (int i = 0; i < 2 * K; i++)
        ck_assert(out.x[i / K * out.ldx + i % K] == x[i / K * K + w.perm[i % K]]);
    weight_clear(&w);
    memory_free(buffer);
    k->close(k);
}
END_TEST

/* Row 0 in the company of up to 63 others, with one thread and three. */
START_TEST(company)
{
    enum { WIDE = 1024 };
    struct rotation r = random_rotation(WIDE, 64, false), s = random_rotation(WIDE, 128, false);
    const struct rotation *both[2] = {&r, &s};
    float *x = malloc(64 * WIDE * sizeof *x), first[WIDE];
    random_floats(x, 64 * WIDE);
    for (size_t t = 0; t < 3; t++)
        for (int threads = 1; threads <= 3 && cpu_has(isas[t]); threads += 2)
            for (int rows = 1; rows <= 64; rows += 9) {
                struct kernels *k = open_table(isas[t], threads);
                struct rotate_group g = {.first = 0, .count = rows, .n = 2, .r = both};
                void *buffer = memory_alloc(k->act_bytes(k, rows, WIDE));
                struct act out;
                k->prepare(k, x, WIDE, rows, WIDE, &g, 1, NULL, buffer, &out);
                if (t == 0 && threads == 1 && rows == 1)
                    memcpy(first, out.x, sizeof first);
                ck_assert_mem_eq(out.x, first, sizeof first);
                memory_free(buffer);
                k->close(k);
            }
    free(x);
    memory_free(r.data);
    memory_free(s.data);
}
END_TEST

static Suite *rotate_suite(void)
{
    Suite *s = suite_create("rotate");
    TCase *t = tcase_create("rotate");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, definition);
    tcase_add_test(t, nothing_to_do);
    tcase_add_test(t, company);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(rotate_suite)
