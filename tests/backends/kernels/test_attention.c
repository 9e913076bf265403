/* Attention against softmax in double: grouped heads, windows, caps, slopes, odd head sizes; a
 * row's bits do not depend on its company. Values beyond a row's positions are NaN and must not be
 * read. */
#include <math.h>
#include <string.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

enum { PAGES = 20, LAYERS = 2, LENGTH = 300 };

static const enum dtype dtypes[] = {DT_F32, DT_F16, DT_I8};

static struct kv new_kv(enum dtype dtype, int32_t kv_heads, int32_t dim)
{
    struct kv kv = {
        .dtype = dtype, .layers = LAYERS, .kv_heads = kv_heads, .head_dim = dim, .n_pages = PAGES};
    kv.page_bytes = (size_t)kv_heads * kv_head_bytes(dtype, dim) + 64;
    size_t n = LAYERS * PAGES * kv.page_bytes;
    kv.k = memory_alloc(n);
    kv.v = memory_alloc(n);
    memset(kv.k, 0xff, n); // as a float, as a half and as a step: NaN
    memset(kv.v, 0xff, n);
    return kv;
}

/* A head's elements as integers of up to `most`; returns what one is worth. */
static double as_integers(const float *x, int dim, int most, double *out)
{
    float peak = 0;
    for (int i = 0; i < dim; i++)
        peak = fmaxf(peak, fabsf(x[i]));
    for (int i = 0; i < dim; i++)
        out[i] = rint((double)(x[i] * ((float)most / peak))) * (double)(peak / (float)most);
    return (double)(peak / (float)most);
}

/* As they are stored. */
static double as_stored(enum dtype dtype, const float *x, int dim, double *out)
{
    if (dtype == DT_I8)
        return as_integers(x, dim, 127, out);
    for (int i = 0; i < dim; i++)
        out[i] = dtype == DT_F32 ? (double)x[i] : (double)f16_to_f32(f32_to_f16(x[i]));
    return 0;
}

/* A head's output in double; keys and values [LENGTH][kv_heads][dim]. Bytes, whose steps [LENGTH]
 * [kv_heads] are not 0: loss [dim], what the probabilities' own rounding is allowed, half a word
 * each, where a word is a 32767th of the block's largest probability times its largest step. */
static void by_definition(const struct attention_args *a, const double *k, const double *v,
                          const double *steps, int pos, int end, int head, const float *query,
                          double *out, double *loss)
{
    double q[128];
    int kv_heads = a->kv->kv_heads, dim = a->kv->head_dim, h = head / (a->heads / kv_heads);
    double p[LENGTH] = {0}, sum = 0, max = -INFINITY;
    if (a->kv->dtype == DT_I8)
        as_integers(query, dim, 16383, q);
    else
        for (int i = 0; i < dim; i++)
            q[i] = (double)query[i];
    int first = a->window && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0;
    for (int j = first; j < end; j++) {
        double s = 0;
        for (int i = 0; i < dim; i++)
            s += q[i] * k[(j * kv_heads + h) * dim + i];
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
            out[i] += p[j] / sum * v[(j * kv_heads + h) * dim + i];
        loss[i] = 0;
    }
    for (int b = 0; b < end && a->kv->dtype == DT_I8; b += 64) {
        double share = 0, step = 0;
        int from = b < first ? first : b, to = b + 64 < end ? b + 64 : end;
        for (int j = from; j < to; j++) {
            share = p[j] > share ? p[j] : share;
            step = fmax(step, steps[j * kv_heads + h]);
        }
        for (int j = from; j < to; j++)
            for (int i = 0; i < dim; i++)
                loss[i] += share * step / 65534 / sum * fabs(v[(j * kv_heads + h) * dim + i]) /
                           steps[j * kv_heads + h];
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
    float *plain = malloc((size_t)(LENGTH * width) * 4);
    random_floats(k, LENGTH * ld);
    random_floats(v, LENGTH * ld);
    random_floats(q, LENGTH * width);
    random_floats(alibi, 18);
    double *kd = malloc((size_t)(LENGTH * ld) * 8), *vd = malloc((size_t)(LENGTH * ld) * 8);
    double *steps = malloc((size_t)(LENGTH * kv_heads) * 8);
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
    for (size_t t = 0; t < 3 * N_ISAS; t++) {
        if (!cpu_has(isas[t % N_ISAS]))
            continue;
        enum dtype dtype = dtypes[t / N_ISAS];
        for (int64_t i = 0; i < LENGTH * ld; i += dim) {
            as_stored(dtype, k + i, dim, kd + i);
            steps[i / dim] = as_stored(dtype, v + i, dim, vd + i);
        }
        struct kernels *table = open_table(isas[t % N_ISAS], 2);
        struct kv kv = new_kv(dtype, kv_heads, dim);
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
        if (t % N_ISAS) // a twin has the bits of the portable one
            ck_assert_mem_eq(out, plain, (size_t)(LENGTH * width) * 4);
        else
            memcpy(plain, out, (size_t)(LENGTH * width) * 4);
        for (int i = 0; i < LENGTH && t % N_ISAS == 0; i += t ? 7 : 1)
            for (int h = 0; h < heads; h++) {
                double want[128], loss[128];
                by_definition(&a, kd, vd, steps, i, i + 1, h, q + i * width + h * dim, want, loss);
                for (int e = 0; e < dim; e++)
                    ck_assert_double_eq_tol((double)out[i * width + h * dim + e], want[e],
                                            4e-6 + loss[e]);
            }
        for (int i = 0; i < LENGTH; i += 37) {
            rows = (struct kv_rows){.rows = 1, .positions = positions + i, .pages = pages};
            a.q = q + i * width;
            a.out = alone;
            table->attention(table, &a);
            ck_assert_mem_eq(alone, out + i * width, (size_t)width * 4);
            int32_t end = LENGTH - i % 7 > i ? LENGTH - i % 7 : i + 1; // keys behind it too
            rows.ends = &end;
            table->attention(table, &a);
            for (int h = 0; h < heads; h++) {
                double want[128], loss[128];
                by_definition(&a, kd, vd, steps, i, end, h, q + i * width + h * dim, want, loss);
                for (int e = 0; e < dim; e++)
                    ck_assert_double_eq_tol((double)alone[h * dim + e], want[e], 4e-6 + loss[e]);
            }
        }
        memory_free(kv.k);
        memory_free(kv.v);
        table->close(table);
    }
    free(k);
    free(v);
    free(kd);
    free(vd);
    free(steps);
    free(q);
    free(out);
    free(alone);
    free(plain);
}
END_TEST

/* What no byte can hold: nothing but zeros, and what is not finite, which is not forgotten. */
START_TEST(zeros_and_what_is_not_finite)
{
    enum { DIM = 24 };
    static const float values[] = {0, 1e-35f, INFINITY, NAN};
    int32_t position = 0, page[PAGES] = {0};
    const int32_t *pages = page;
    float k[DIM] = {0}, v[DIM] = {0}, q[DIM] = {1}, out[DIM];
    for (size_t t = 0; t < 3 * N_ISAS; t++) {
        if (!cpu_has(isas[t % N_ISAS]))
            continue;
        struct kernels *table = open_table(isas[t % N_ISAS], 1);
        struct kv kv = new_kv(dtypes[t / N_ISAS], 1, DIM);
        struct kv_rows rows = {.rows = 1, .positions = &position, .pages = &pages};
        const struct attention_args a = {.kv = &kv,
                                         .rows = &rows,
                                         .q = q,
                                         .out = out,
                                         .ldq = DIM,
                                         .ldo = DIM,
                                         .heads = 1,
                                         .scale = 1};
        for (int i = 0; i < 4; i++) {
            v[7] = values[i];
            table->kv_store(table, &kv, 0, &rows, k, v, DIM);
            table->attention(table, &a);
            if (i == 0)
                for (int j = 0; j < DIM; j++)
                    ck_assert(out[j] == 0);
            else
                ck_assert(i == 1 ? fabsf(out[7]) <= 1e-35f : !isfinite(out[7]));
        }
        memory_free(kv.k);
        memory_free(kv.v);
        table->close(table);
    }
}
END_TEST

/* Several spans: few rows, whose spans go to threads one by one, and many, whose do not, and any
 * number of threads give the same bits, which are the definition's. */
START_TEST(long_texts_in_spans)
{
    enum { KV = 3, PER = 2, DIM = 16, LONG = 2600, MANY = 40, WIDTH = KV * PER * DIM };
    static const int windows[] = {0, 1500, 40};
    int32_t *page = malloc(LONG / KV_PAGE * sizeof *page + 64), positions[MANY];
    const int32_t *pages[LONG];
    float *k = malloc((size_t)LONG * KV * DIM * 4), *v = malloc((size_t)LONG * KV * DIM * 4);
    float *q = malloc(MANY * WIDTH * 4), *out[4];
    random_floats(k, LONG * KV * DIM);
    random_floats(v, LONG * KV * DIM);
    random_floats(q, MANY * WIDTH);
    for (int i = 0; i <= LONG / KV_PAGE; i++)
        page[i] = i;
    int32_t *all = malloc(LONG * sizeof *all);
    for (int i = 0; i < LONG; i++) {
        all[i] = i;
        pages[i] = page;
    }
    for (int i = 0; i < MANY; i++)
        positions[i] = i ? (i * 67) % LONG : LONG - 1;
    for (size_t t = 0; t < N_ISAS; t++) {
        if (!cpu_has(isas[t]))
            continue;
        for (int w = 0; w < 3; w++) {
            for (int way = 0; way < 4; way++) { // one thread and many rows; then others
                struct kernels *table = open_table(isas[t], way == 0 ? 1 : way + 1);
                struct kv kv = {.dtype = dtypes[w],
                                .layers = 1,
                                .kv_heads = KV,
                                .head_dim = DIM,
                                .n_pages = LONG / KV_PAGE + 1,
                                .page_bytes = KV * kv_head_bytes(dtypes[w], DIM)};
                kv.k = memory_alloc((size_t)kv.n_pages * kv.page_bytes);
                kv.v = memory_alloc((size_t)kv.n_pages * kv.page_bytes);
                struct kv_rows rows = {.rows = LONG, .positions = all, .pages = pages};
                table->kv_store(table, &kv, 0, &rows, k, v, KV * DIM);
                out[way] = malloc(MANY * WIDTH * 4);
                for (int i = 0, n = way < 2 ? MANY : way == 2 ? 1 : 2; i < MANY; i += n) {
                    rows = (struct kv_rows){.rows = n, .positions = positions + i, .pages = pages};
                    const struct attention_args a = {.kv = &kv,
                                                     .rows = &rows,
                                                     .q = q + i * WIDTH,
                                                     .out = out[way] + i * WIDTH,
                                                     .ldq = WIDTH,
                                                     .ldo = WIDTH,
                                                     .heads = KV * PER,
                                                     .scale = 0.5f,
                                                     .window = windows[w]};
                    table->attention(table, &a);
                }
                ck_assert_mem_eq(out[way], out[0], MANY * WIDTH * 4);
                if (!way && !t && !w)
                    for (int h = 0; h < KV * PER; h++) {
                        double sum = 0, want[DIM] = {0}, max = -INFINITY, s[LONG];
                        for (int j = 0; j < LONG; j++) {
                            s[j] = 0;
                            for (int e = 0; e < DIM; e++)
                                s[j] += (double)q[h * DIM + e] *
                                        (double)k[(j * KV + h / PER) * DIM + e];
                            max = s[j] * 0.5 > max ? s[j] * 0.5 : max;
                        }
                        for (int j = 0; j < LONG; j++) {
                            sum += s[j] = exp(s[j] * 0.5 - max);
                            for (int e = 0; e < DIM; e++)
                                want[e] += s[j] * (double)v[(j * KV + h / PER) * DIM + e];
                        }
                        for (int e = 0; e < DIM; e++)
                            ck_assert_double_eq_tol((double)out[0][h * DIM + e], want[e] / sum,
                                                    4e-6);
                    }
                memory_free(kv.k);
                memory_free(kv.v);
                table->close(table);
            }
            for (int way = 0; way < 4; way++)
                free(out[way]);
        }
    }
    free(page);
    free(all);
    free(k);
    free(v);
    free(q);
}
END_TEST

static Suite *attention_suite(void)
{
    Suite *s = suite_create("attention");
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, definition, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_test(t, long_texts_in_spans);
    tcase_add_test(t, zeros_and_what_is_not_finite);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(attention_suite)
