/* Attention against softmax in double: grouped heads, windows, caps, slopes, odd head sizes; a
 * row's bits do not depend on its company. Values beyond a row's positions are NaN and must not be
 * read. */
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

enum { PAGES = 20, LAYERS = 2, LENGTH = 300 };

static struct kv new_kv(int32_t kv_heads, int32_t dim)
{
    struct kv kv = {
        .dtype = DT_F32, .layers = LAYERS, .kv_heads = kv_heads, .head_dim = dim, .n_pages = PAGES};
    int64_t n = (int64_t)LAYERS * PAGES * kv_heads * KV_PAGE * dim;
    kv.k = memory_alloc((size_t)n * sizeof(float));
    kv.v = memory_alloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        ((float *)kv.k)[i] = ((float *)kv.v)[i] = NAN;
    return kv;
}

/* Output element i of a head, in double; keys and values [LENGTH][kv_heads][dim]. */
static void by_definition(const struct attention_args *a, const float *k, const float *v, int pos,
                          int end, int head, const float *q, double *out)
{
    int kv_heads = a->kv->kv_heads, dim = a->kv->head_dim, h = head / (a->heads / kv_heads);
    double p[LENGTH], sum = 0, max = -INFINITY;
    int first = a->window && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0;
    for (int j = first; j < end; j++) {
        double s = 0;
        for (int i = 0; i < dim; i++)
            s += (double)q[i] * (double)k[(j * kv_heads + h) * dim + i];
        if (a->alibi)
            s +=
                (double)round_to_dtype(a->alibi[head] * round_to_dtype((float)j, DT_BF16), DT_BF16);
        s *= (double)a->scale;
        if (a->softcap != 0)
            s = (double)a->softcap * tanh(s / (double)a->softcap);
        p[j] = s;
        max = s > max ? s : max;
    }
    for (int j = first; j < end; j++)
        sum += p[j] = exp(p[j] - max);
    for (int i = 0; i < dim; i++) {
        out[i] = 0;
        for (int j = first; j < end; j++)
            out[i] += p[j] / sum * (double)v[(j * kv_heads + h) * dim + i];
    }
}

static const struct {
    int kv_heads, heads, dim;
    float softcap;
    int window;
    bool alibi;
} cases[] = {{2, 4, 16, 0, 0, false},  {1, 3, 20, 0, 0, true}, {4, 4, 64, 2, 0, false},
             {1, 18, 8, 0, 50, false}, {2, 6, 33, 3, 7, true}, {1, 1, 128, 0, 64, false},
             {2, 2, 80, 0, 1, false}};

START_TEST(definition)
{
    int kv_heads = cases[_i].kv_heads, heads = cases[_i].heads, dim = cases[_i].dim;
    int64_t ld = (int64_t)kv_heads * dim, width = (int64_t)heads * dim;
    float *k = malloc((size_t)(LENGTH * ld) * 4), *v = malloc((size_t)(LENGTH * ld) * 4);
    float *q = malloc((size_t)(LENGTH * width) * 4), *out = malloc((size_t)(LENGTH * width) * 4);
    float alibi[18], *alone = malloc((size_t)(LENGTH * width) * 4);
    random_floats(k, LENGTH * ld);
    random_floats(v, LENGTH * ld);
    random_floats(q, LENGTH * width);
    random_floats(alibi, 18);
    for (int i = 0; i < 18; i++)
        alibi[i] *= 0.05f;
    int32_t positions[LENGTH], page[PAGES];
    const int32_t *pages[LENGTH];
    for (int i = 0; i < PAGES; i++)
        page[i] = (i * 7 + 3) % PAGES;
    for (int i = 0; i < LENGTH; i++) {
        positions[i] = i;
        pages[i] = page;
    }
    for (size_t t = 0; t < 3; t++) {
        if (!cpu_has(isas[t]))
            continue;
        struct kernels *table = open_table(isas[t], 2);
        struct kv kv = new_kv(kv_heads, dim);
        struct kv_rows rows = {.rows = 200, .positions = positions, .pages = pages};
        struct attention_args a = {.kv = &kv,
                                   .layer = 1,
                                   .rows = &rows,
                                   .q = q,
                                   .out = out,
                                   .ldq = width,
                                   .ldo = width,
                                   .heads = heads,
                                   .scale = 0.5f,
                                   .softcap = cases[_i].softcap,
                                   .window = cases[_i].window,
                                   .alibi = cases[_i].alibi ? alibi : NULL};
        table->kv_store(table, &kv, 1, &rows, k, v, ld);
        table->attention(table, &a);
        rows.rows = LENGTH - 200; // the rest, in a second step, one row at a time below
        rows.positions = positions + 200;
        table->kv_store(table, &kv, 1, &rows, k + 200 * ld, v + 200 * ld, ld);
        a.q = q + 200 * width;
        a.out = out + 200 * width;
        table->attention(table, &a);
        for (int i = 0; i < LENGTH; i++)
            for (int h = 0; h < heads; h++) {
                double want[128];
                by_definition(&a, k, v, i, i + 1, h, q + i * width + h * dim, want);
                for (int e = 0; e < dim; e++)
                    ck_assert_double_eq_tol((double)out[i * width + h * dim + e], want[e], 4e-6);
            }
        for (int i = 0; i < LENGTH; i += 13) {
            rows = (struct kv_rows){.rows = 1, .positions = positions + i, .pages = pages};
            a.q = q + i * width;
            a.out = alone;
            table->attention(table, &a);
            ck_assert_mem_eq(alone, out + i * width, (size_t)width * 4);
            int32_t end = LENGTH - i % 7 > i ? LENGTH - i % 7 : i + 1; // keys behind it too
            rows.ends = &end;
            table->attention(table, &a);
            for (int h = 0; h < heads; h++) {
                double want[128];
                by_definition(&a, k, v, i, end, h, q + i * width + h * dim, want);
                for (int e = 0; e < dim; e++)
                    ck_assert_double_eq_tol((double)alone[h * dim + e], want[e], 4e-6);
            }
        }
        memory_free(kv.k);
        memory_free(kv.v);
        table->close(table);
    }
    free(k);
    free(v);
    free(q);
    free(out);
    free(alone);
}
END_TEST

static Suite *attention_suite(void)
{
    Suite *s = suite_create("attention");
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, definition, 0, (int)(sizeof cases / sizeof cases[0]));
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(attention_suite)
