/* prepare: the definition, chains of rotations, groups of rows, the gather, aliasing; and the same
 * bits for a row whatever its company. */
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

static const enum dtype forms[] = {DT_F32, DT_F16, DT_I8};
enum { FORMS = 3 };

/* R, or any D. */
static struct rotation random_rotation(int64_t k, int32_t block, bool shared, enum dtype form)
{
    struct rotation r = {
        .dim = k, .block = block, .blocks = (int32_t)(k / block), .shared = shared, .dtype = form};
    int64_t rows = shared ? 1 : r.blocks, n = (int64_t)block * block;
    size_t bytes = rotation_block_bytes(form, block);
    r.data = memory_alloc((size_t)rows * bytes);
    float *v = memory_alloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < rows; i++) {
        char *to = (char *)r.data + (size_t)i * bytes;
        random_floats(v, n);
        for (int64_t e = 0; e < n && form == DT_F16; e++)
            v[e] *= 0.1F;
        for (int64_t e = 0; e < n && form == DT_I8; e++)
            to[e] = (char)(127 * v[e]);
        if (form == DT_I8)
            random_floats((float *)(void *)(to + rotation_steps_at(block)), block);
        else
            tensor_from_f32(v, n, form, to);
    }
    memory_free(v);
    return r;
}

static void rotate_by_definition(const struct rotation *r, float *x)
{
    float *y = malloc((size_t)r->dim * sizeof *y);
    for (int64_t i = 0; i < r->dim; i++) {
        int64_t b = i / r->block, c = i % r->block;
        const char *data = (const char *)r->data +
                           (r->shared ? 0 : b) * (int64_t)rotation_block_bytes(r->dtype, r->block);
        const struct tensor block = {.dtype = r->dtype, .data = data};
        float acc = 0;
        for (int32_t k = 0; k < r->block; k++) {
            int64_t at = (int64_t)k * r->block + c;
            float e = r->dtype == DT_I8 ? ((const int8_t *)data)[at] : tensor_f32(&block, at);
            acc = fmaf(x[b * r->block + k], e, acc);
        }
        y[i] = r->dtype == DT_F32 ? acc
               : r->dtype == DT_F16
                   ? x[i] + acc
                   : fmaf(load_f32(data + rotation_steps_at(r->block) + c * 4), acc, x[i]);
    }
    memcpy(x, y, (size_t)r->dim * sizeof *y);
    free(y);
}

enum { K = 96, ROWS = 11, WIDE = 1024 };

START_TEST(definition)
{
    struct rotation a[FORMS], b[FORMS];
    for (int f = 0; f < FORMS; f++) {
        a[f] = random_rotation(K, 32, false, forms[f]);
        b[f] = random_rotation(K, 6, true, forms[f]);
    }
    const struct rotation *one[1], *two[2];
    struct rotate_group g[3] = {{.first = 1, .count = 4, .n = 1, .r = one},
                                {.first = 5, .count = 1, .n = 0, .r = NULL},
                                {.first = 7, .count = 3, .n = 2, .r = two}};
    struct weight w = {.k = K};
    random_perm(&w);
    float x[ROWS * (K + 3)], want[ROWS * K];
    random_floats(x, ROWS * (K + 3));
    for (int which = 0; which < 2 * FORMS; which++) {
        bool perm = which & 1, near = which / 2 > 0;
        one[0] = two[0] = &a[which / 2];
        two[1] = &b[which / 2];
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
    for (int f = 0; f < FORMS; f++) {
        memory_free(a[f].data);
        memory_free(b[f].data);
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
static void check_company(enum compute mode, enum dtype form, const struct weight *w)
{
    struct rotation r = random_rotation(WIDE, 64, false, form),
                    s = random_rotation(WIDE, 128, false, form);
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
    check_company(COMPUTE_EXACT, DT_F32, NULL);
    for (int f = 0; f < FORMS; f++)
        check_company(COMPUTE_FAST, forms[f], NULL);
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
                check_company(COMPUTE_FAST, i % 2 ? DT_F16 : DT_I8, &w);
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
