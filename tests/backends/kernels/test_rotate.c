/* prepare: the definition, chains of rotations, groups of rows, the gather, aliasing; and the same
 * bits for a row whatever its company. */
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

/* R, or where near any D will do. */
static struct rotation random_rotation(int64_t k, int32_t block, bool shared, bool near)
{
    struct rotation r = {.dim = k,
                         .block = block,
                         .blocks = (int32_t)(k / block),
                         .shared = shared,
                         .dtype = near ? DT_F16 : DT_F32};
    int64_t n = (shared ? 1 : r.blocks) * (int64_t)block * block;
    float *v = memory_alloc((size_t)n * sizeof *v);
    random_floats(v, n);
    if (!near) {
        r.data = v;
        return r;
    }
    for (int64_t i = 0; i < n; i++)
        v[i] *= 0.1F;
    r.data = memory_alloc((size_t)n * sizeof(uint16_t));
    tensor_from_f32(v, n, DT_F16, r.data);
    memory_free(v);
    return r;
}

static void rotate_by_definition(const struct rotation *r, float *x)
{
    const struct tensor elements = {.dtype = r->dtype, .data = r->data};
    bool near = r->dtype == DT_F16;
    float *y = malloc((size_t)r->dim * sizeof *y);
    for (int64_t i = 0; i < r->dim; i++) {
        int64_t b = i / r->block, c = i % r->block;
        int64_t at = (r->shared ? 0 : b * r->block * r->block) + c;
        float acc = 0;
        for (int32_t k = 0; k < r->block; k++, at += r->block)
            acc = fmaf(x[b * r->block + k], tensor_f32(&elements, at), acc);
        y[i] = near ? x[i] + acc : acc;
    }
    memcpy(x, y, (size_t)r->dim * sizeof *y);
    free(y);
}

enum { K = 96, ROWS = 11, WIDE = 1024 };

START_TEST(definition)
{
    struct rotation a[2], b[2];
    for (int near = 0; near < 2; near++) {
        a[near] = random_rotation(K, 32, false, near);
        b[near] = random_rotation(K, 6, true, near);
    }
    const struct rotation *one[1], *two[2];
    struct rotate_group g[3] = {{.first = 1, .count = 4, .n = 1, .r = one},
                                {.first = 5, .count = 1, .n = 0, .r = NULL},
                                {.first = 7, .count = 3, .n = 2, .r = two}};
    struct weight w = {.k = K};
    random_perm(&w);
    float x[ROWS * (K + 3)], want[ROWS * K];
    random_floats(x, ROWS * (K + 3));
    for (int which = 0; which < 4; which++) {
        bool perm = which & 1, near = which & 2;
        one[0] = two[0] = &a[near];
        two[1] = &b[near];
        for (int i = 0; i < ROWS; i++) {
            float row[K];
            memcpy(row, x + i * (K + 3), sizeof row);
            if ((i >= 1 && i < 5) || (i >= 7 && i < 10))
                rotate_by_definition(one[0], row);
            if (i >= 7 && i < 10)
                rotate_by_definition(two[1], row);
            for (int k = 0; k < K; k++)
                want[i * K + k] = perm ? row[w.perm[k]] : row[k];
        }
        for (size_t t = 0; t < N_ISAS; t++) {
            if (!cpu_has(isas[t]))
                continue;
            struct kernels *k = open_in_mode(isas[t], near ? COMPUTE_FAST : COMPUTE_EXACT, 2);
            void *buffer = memory_alloc(k->act_bytes(k, ROWS, K));
            struct act out;
            const struct prepare_job j = {.x = x,
                                          .ldx = K + 3,
                                          .k = K,
                                          .rows = ROWS,
                                          .n_groups = 3,
                                          .groups = g,
                                          .w = perm ? &w : NULL,
                                          .buffer = buffer,
                                          .a = &out};
            k->prepare(k, &j, 1);
            ck_assert_int_eq(out.rows, ROWS);
            ck_assert_int_eq(out.k, K);
            for (int i = 0; i < ROWS; i++)
                ck_assert_mem_eq(out.x + i * out.ldx, want + i * K, K * sizeof(float));
            memory_free(buffer);
            k->close(k);
        }
    }
    for (int near = 0; near < 2; near++) {
        memory_free(a[near].data);
        memory_free(b[near].data);
    }
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
    struct prepare_job j = {.x = x,
                            .ldx = K,
                            .k = K,
                            .rows = 2,
                            .n_groups = 2,
                            .groups = g,
                            .w = &w,
                            .buffer = buffer,
                            .a = &out};
    k->prepare(k, &j, 1);
    ck_assert(out.x == x && out.ldx == K && out.rows == 2 && !out.q);
    random_perm(&w); // the gather alone
    random_floats(x, 2 * K);
    j.n_groups = 0;
    k->prepare(k, &j, 1);
    for (int i = 0; i < 2 * K; i++)
        ck_assert(out.x[i / K * out.ldx + i % K] == x[i / K * K + w.perm[i % K]]);
    weight_clear(&w);
    memory_free(buffer);
    k->close(k);
}
END_TEST

static bool same_bytes(const struct act *a, const struct act *b, int64_t row)
{
    float x[WIDE], y[WIDE];
    memcpy(x, a->x + row * a->ldx, sizeof x);
    memcpy(y, b->x + row * b->ldx, sizeof y);
    return !memcmp(x, y, sizeof x);
}

/* Row 0 in the company of up to 63 others, with one thread and three, alone and as the second of
 * several inputs; in fast mode also its products, whose bytes were made on the way. */
static void check_company(enum compute mode, const struct weight *w)
{
    bool near = mode == COMPUTE_FAST;
    struct rotation r = random_rotation(WIDE, 64, false, near),
                    s = random_rotation(WIDE, 128, false, near);
    const struct rotation *both[2] = {&r, &s}, *one[1] = {&s};
    float *x = malloc(64 * WIDE * sizeof *x), first[WIDE], *product = NULL;
    random_floats(x, 64 * WIDE);
    if (w)
        product = malloc(2 * (size_t)w->n * sizeof *product);
    for (size_t t = 0; t < N_ISAS; t++)
        for (int threads = 1; threads <= 3 && cpu_has(isas[t]); threads += 2)
            for (int rows = 1; rows <= 64; rows += 9) {
                struct kernels *k = open_in_mode(isas[t], mode, threads);
                const struct rotate_group g = {.first = 0, .count = rows, .n = 2, .r = both};
                const struct rotate_group other = {.first = 0, .count = rows, .n = 1, .r = one};
                struct prepare_job j[3];
                struct act out[3];
                for (int i = 0; i < 3; i++)
                    j[i] = (struct prepare_job){.x = x,
                                                .ldx = WIDE,
                                                .k = WIDE,
                                                .rows = rows,
                                                .n_groups = 1,
                                                .groups = i ? &g : &other,
                                                .w = w,
                                                .buffer = memory_alloc(k->act_bytes(k, rows, WIDE)),
                                                .a = &out[i]};
                k->prepare(k, &j[2], 1);
                k->prepare(k, j, 2);
                if (t == 0 && threads == 1 && rows == 1)
                    memcpy(first, out[1].x, sizeof first);
                ck_assert_mem_eq(out[1].x, first, sizeof first);
                ck_assert(same_bytes(&out[1], &out[2], rows - 1));
                ck_assert(!w || out[1].q);
                for (int i = 1; w && i < 3; i++) {
                    float *y = malloc((size_t)(rows * w->n) * sizeof *y);
                    const struct matmul_job m = {.w = w, .a = &out[i], .out = y, .ldo = w->n};
                    k->matmul(k, &m, 1);
                    if (t == 0 && threads == 1 && rows == 1 && i == 1)
                        memcpy(product, y, (size_t)w->n * sizeof *y);
                    ck_assert_mem_eq(product, y, (size_t)w->n * sizeof *y);
                    free(y);
                }
                for (int i = 0; i < 3; i++)
                    memory_free(j[i].buffer);
                k->close(k);
            }
    free(x);
    free(product);
    memory_free(r.data);
    memory_free(s.data);
}

START_TEST(company)
{
    check_company(COMPUTE_EXACT, NULL);
    check_company(COMPUTE_FAST, NULL);
}
END_TEST

/* Groups of 64, of 128, wider than a unit, a whole row; gathered; several groups a chunk; two bytes
 * a code. */
START_TEST(company_in_bytes)
{
    static const char *const names[] = {"nf4-f16",   "gptq4-g128", "bnb8",
                                        "gptq4-act", "hqq2-g16",   "e4m3-row"};
    for (const struct weight_case *c = weight_cases; c < weight_cases + WEIGHT_CASES; c++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (!strcmp(c->name, names[i])) {
                struct weight w = random_weight(c, 40, WIDE);
                check_company(COMPUTE_FAST, &w);
                weight_clear(&w);
            }
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
    tcase_add_test(t, company_in_bytes);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(rotate_suite)
