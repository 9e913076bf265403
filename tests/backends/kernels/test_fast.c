/*
 * Fast mode to the bit: a product is what the definition in core/kernels.h says, written down here
 * once more from single codes, and a row's result is the same whatever the number of rows, the
 * threads and the twin. Weights without a form of fast mode's stay exact.
 */
#include <float.h>
#include <math.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/backends/kernels/random_weight.h"

static bool has_bytes(const struct weight *w)
{
    bool steps = w->encoding == ENC_TABLE4 || w->encoding == ENC_FLOAT8;
    bool small = w->encoding == ENC_GROUP && w->bits < 8 && (w->group == 8 || w->group == 16);
    if (w->encoding != ENC_GROUP && !(steps && w->step != 0))
        return false;
    if (w->grouping == GROUPS_FLAT)
        return w->encoding != ENC_FLOAT8 && w->group % TILE_K == 0 && w->flat_k % TILE_K == 0 &&
               w->flat_col % TILE_K == 0;
    return w->grouping == GROUPS_OF_ROWS && !w->group_of &&
           (w->group >= w->k || w->group % TILE_K == 0 || small);
}

struct bytes {
    int q[TILE_K];
    float d;
    int energy;
};

/* v[0 .. n) times inverse. */
static void to_bytes(const float *v, int64_t n, float inverse, struct bytes *b)
{
    for (int64_t j = 0; j < n; j++) {
        float scaled = v[j] * inverse;
        b->q[j] = (int)nearbyintf(scaled);
        b->energy += b->q[j] * b->q[j];
    }
}

/* One chunk of n columns and its second part, which may be 0. */
static void quantized(const float *x, int64_t n, struct bytes *b, struct bytes *fine)
{
    float peak = 0, rest[TILE_K];
    *b = *fine = (struct bytes){.d = 0};
    for (int64_t j = 0; j < n; j++)
        if (!isfinite(x[j])) {
            b->d = NAN;
            return;
        }
    for (int64_t j = 0; j < n; j++)
        peak = fabsf(x[j]) > peak ? fabsf(x[j]) : peak;
    if (peak < 0x1p-100f)
        return;
    b->d = peak / 127;
    to_bytes(x, n, 127 / peak, b);
    if (b->energy >= OUTLIER_ENERGY)
        return;
    for (int64_t j = 0; j < n; j++)
        rest[j] = fmaf(-b->d, (float)b->q[j], x[j]);
    fine->d = b->d / 254;
    to_bytes(rest, n, 254 / b->d, fine);
}

static long factor(const struct weight *w, uint8_t code)
{
    if (w->encoding == ENC_FLOAT8)
        return lrintf(tile_float8(code, w->code_dtype) / w->step);
    return w->encoding == ENC_TABLE4 ? w->steps[code] : code;
}

/* Columns [k, end) of a chunk that begins at k0. */
static long dot(const struct weight *w, int64_t n, int64_t k0, int64_t k, int64_t end,
                const struct bytes *b)
{
    long sum = 0;
    for (; k < end; k++) {
        uint8_t code = tile_code(w->data, w->k_padded, w->bits, n, k);
        sum += factor(w, code) * b->q[k - k0];
    }
    return sum;
}

static float defined(const struct weight *w, const float *x, int64_t n)
{
    float total = 0;
    const int64_t group = w->grouping == GROUPS_FLAT ? TILE_K : w->group;
    for (int64_t g0 = 0; g0 < w->k; g0 += group) {
        float acc = 0, part = 0, zero = weight_zero(w, n, g0), scale = weight_scale(w, n, g0);
        int64_t group_end = w->k - g0 < group ? w->k : g0 + group;
        for (int64_t k0 = g0 / TILE_K * TILE_K; k0 < group_end; k0 += TILE_K) {
            int64_t end = w->k - k0 < TILE_K ? w->k : k0 + TILE_K, from = k0 < g0 ? g0 : k0;
            int64_t to = end < group_end ? end : group_end;
            struct bytes b[2];
            quantized(x + k0, end - k0, &b[0], &b[1]);
            for (int i = 0; i < 2; i++) {
                long sum = 0;
                for (int64_t k = from; k < to; k++)
                    sum += b[i].q[k - k0];
                acc = fmaf(b[i].d, (float)dot(w, n, k0, from, to, &b[i]), acc);
                part = fmaf(b[i].d, (float)sum, part);
            }
        }
        if (w->encoding == ENC_TABLE4) {
            scale = scale * w->step;
            zero = w->offset;
        } else if (w->encoding == ENC_FLOAT8) {
            scale = scale * w->step;
        } else if (w->rule == RULE_FACTOR) {
            scale = scale * w->factor;
        }
        if (w->rule == RULE_FMA)
            total = fmaf(zero, part, fmaf(scale, acc, total));
        else
            total = fmaf(scale, fmaf(-zero, part, acc), total);
    }
    return total;
}

/* Strided groups that repeat with the module's rows: x times a row's scales becomes bytes. */
static float defined_strided(const struct weight *w, const float *x, int64_t n)
{
    float total = 0, y[TILE_K];
    for (int64_t k0 = 0; k0 < w->k; k0 += TILE_K) {
        int64_t end = w->k - k0 < TILE_K ? w->k : k0 + TILE_K;
        struct bytes b[2];
        for (int64_t k = k0; k < end; k++)
            y[k - k0] = x[k] * weight_scale(w, n, k);
        quantized(y, end - k0, &b[0], &b[1]);
        for (int i = 0; i < 2; i++) {
            float bias = 0;
            for (int64_t k = k0; k < end; k++)
                bias = fmaf(weight_zero(w, n, k), (float)b[i].q[k - k0], bias);
            total = fmaf(b[i].d, (float)dot(w, n, k0, k0, end, &b[i]) - bias, total);
        }
    }
    return total;
}

static float book_element(const struct weight *w, int64_t b, int64_t code, int64_t q)
{
    return tile_value(w->codebook, w->codebook_dtype, ((b << w->bits) + code) * w->in_group + q);
}

/* The products of group j's columns with the vectors of book b; the greatest magnitude with peak,
 * or NaN. */
static float products(const struct weight *w, const float *x, int64_t j, int64_t b, float peak,
                      float t[256])
{
    for (int64_t v = 0; v < (int64_t)1 << w->bits; v++) {
        t[v] = 0;
        for (int64_t q = 0; q < w->in_group; q++)
            t[v] = fmaf(x[j * w->in_group + q], book_element(w, b, v, q), t[v]);
        peak = !isfinite(t[v]) || isnan(peak) ? NAN : fabsf(t[v]) > peak ? fabsf(t[v]) : peak;
    }
    return peak;
}

/* Codebooks of few vectors: tables of a chunk's products, rounded to a 2047th of the greatest. */
static float defined_lookup(const struct weight *w, const float *x, int64_t n)
{
    static float t[16][256];
    int64_t groups = w->k / w->in_group, per = 16 / w->books;
    float total = 0;
    for (int64_t first = 0; first < groups; first += per) {
        float peak = 0;
        int64_t end = groups - first < per ? groups : first + per;
        long sum = 0;
        for (int64_t l = first * w->books; l < end * w->books; l++)
            peak = products(w, x, l / w->books, l % w->books, peak, t[l - first * w->books]);
        if (isnan(peak))
            return NAN;
        if (peak < 0x1p-100f)
            continue;
        for (int64_t l = first * w->books; l < end * w->books; l++) {
            float value = t[l - first * w->books][tile_book_code(w, n, groups * w->books, l)];
            sum += lrintf(value * (2047 / peak));
        }
        total = fmaf(peak / 2047, (float)sum, total);
    }
    return total * weight_scale(w, n, 0);
}

/* Codebooks of many vectors of eight: eight chains. */
static float defined_eights(const struct weight *w, const float *x, int64_t n)
{
    float a[8] = {0};
    for (int64_t j = 0; j < w->k / 8; j++)
        for (int64_t b = 0; b < w->books; b++) {
            int64_t code = tile_book_code(w, n, w->k / 8 * w->books, j * w->books + b);
            for (int q = 0; q < 8; q++)
                a[q] = fmaf(x[8 * j + q], book_element(w, b, code, q), a[q]);
        }
    float even = (a[0] + a[4]) + (a[2] + a[6]), odd = (a[1] + a[5]) + (a[3] + a[7]);
    return (even + odd) * weight_scale(w, n, 0);
}

typedef float definition_of(const struct weight *w, const float *x, int64_t n);

/* The arithmetic of w, NULL: exact mode's. */
static definition_of *definition_for(const struct weight *w)
{
    if (has_bytes(w))
        return defined;
    if (w->encoding == ENC_GROUP && w->grouping == GROUPS_STRIDED &&
        (w->rule == RULE_STEPS || w->rule == RULE_PRODUCT) && w->n_groups % w->flat_k == 0)
        return defined_strided;
    if (w->encoding != ENC_CODEBOOK || w->out_group != 1)
        return NULL;
    if (w->bits > 8)
        return w->in_group == 8 ? defined_eights : NULL;
    return w->books <= 16 && w->in_group >= 4 * w->books && w->in_group * w->books <= 256
               ? defined_lookup
               : NULL;
}

/* x [rows, ldx] as prepare and matmul of t have it -> out [rows, n]. */
static void product(struct kernels *t, const struct weight *w, const float *x, int64_t ldx,
                    int32_t rows, float *out)
{
    void *buffer = memory_alloc(t->act_bytes(t, rows, w->k));
    struct act a;
    ck_assert_ptr_nonnull(buffer);
    const struct prepare_job prepare = {
        .x = x, .ldx = ldx, .k = w->k, .rows = rows, .w = w, .buffer = buffer, .a = &a};
    t->prepare(t, &prepare, 1);
    ck_assert(!a.q == !(t->mode == COMPUTE_FAST && has_bytes(w)));
    struct matmul_job job = {.w = w, .a = &a, .out = out, .ldo = w->n};
    t->matmul(t, &job, 1);
    memory_free(buffer);
}

static void ck_same(const float *a, const float *b, int64_t n, const char *what, int rows)
{
    for (int64_t i = 0; i < n; i++)
        if (!same_value(a[i], b[i]))
            ck_abort_msg("%s, %d rows: output %d is %a, not %a", what, rows, (int)i, (double)a[i],
                         (double)b[i]);
}

enum { MOST_ROWS = 203 };
static const int row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, MOST_ROWS};

/* Rows 0 and the last of each count, on every twin, against `want` of rows 0 .. MOST_ROWS - 1. */
static void check_counts(const struct weight *w, const float *x, int64_t ldx, const float *want,
                         const char *name)
{
    float *out = malloc((size_t)(MOST_ROWS * w->n) * sizeof *out);
    for (size_t i = 0; i < N_ISAS; i++) {
        if (!cpu_has(isas[i]))
            continue;
        for (int threads = 1; threads <= 2; threads++) {
            struct kernels *t = open_in_mode(isas[i], COMPUTE_FAST, threads);
            for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
                int m = row_counts[r];
                if (i == 0 && m > 17)
                    continue;
                product(t, w, x, ldx, m, out);
                ck_same(out, want, m * w->n, name, m);
            }
            t->close(t);
        }
    }
    free(out);
}

START_TEST(definition)
{
    const struct weight_case *c = &weight_cases[_i];
    static const int64_t shapes[][2] = {{37, 328}, {16, 64}, {5, 31}, {36, 330}, {290, 40}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t n = shapes[s][0], k = shapes[s][1], ldx = tile_pad_k(k) + 32;
        struct weight w = random_weight(c, n, k);
        float *x = malloc((size_t)(MOST_ROWS * ldx) * 4);
        float *want = malloc((size_t)(MOST_ROWS * n) * 4), *row = malloc((size_t)k * 4);
        random_floats(x, MOST_ROWS * ldx);
        for (int64_t r = 0; r < MOST_ROWS * ldx; r += 1 + (int64_t)(random_u64() % 200))
            x[r] *= 10; // peaks that stand alone in some rows
        definition_of *of = definition_for(&w);
        if (of) {
            for (int64_t r = 0; r < MOST_ROWS; r++) {
                for (int64_t j = 0; j < k; j++)
                    row[j] = x[r * ldx + (w.perm ? w.perm[j] : j)];
                for (int64_t i = 0; i < n; i++)
                    want[r * n + i] = of(&w, row, i);
            }
        } else {
            struct kernels *exact = open_table("auto", 1);
            product(exact, &w, x, ldx, MOST_ROWS, want);
            exact->close(exact);
        }
        check_counts(&w, x, ldx, want, c->name);
        weight_clear(&w);
        free(x);
        free(want);
        free(row);
    }
}
END_TEST

static const struct weight_case *find_case(const char *name)
{
    const struct weight_case *c = weight_cases;
    while (strcmp(c->name, name) != 0)
        c++;
    return c;
}

/* Many rows of W, which are cut in units of their own: runs of lines, tiles that share their y. */
START_TEST(tall)
{
    enum { N = 1111, K = 1072, ROWS = 3 };
    static const char *const names[] = {"hqq4-axis0", "hqq2-axis0-bf16", "hqq8-axis0", "aqlm-2x8",
                                        "aqlm-1x16"};
    static float x[ROWS * K], want[ROWS * N], out[ROWS * N];
    struct weight w = random_weight(find_case(names[_i]), N, K);
    definition_of *of = definition_for(&w);
    random_floats(x, ROWS * K);
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < N; n += n < N - 50 ? 7 : 1)
            want[r * N + n] = of(&w, x + r * K, n);
    for (size_t i = 1; i < N_ISAS; i++)
        for (int threads = 1; threads <= 3 && cpu_has(isas[i]); threads++) {
            struct kernels *t = open_in_mode(isas[i], COMPUTE_FAST, threads);
            product(t, &w, x, K, ROWS, out);
            for (int r = 0; r < ROWS; r++)
                for (int n = 0; n < N; n += n < N - 50 ? 7 : 1)
                    ck_same(out + r * N + n, want + r * N + n, 1, names[_i], ROWS);
            t->close(t);
        }
    weight_clear(&w);
}
END_TEST

/* What a row may hold: nothing, ties, the smallest and the largest floats, no numbers. Columns
 * beyond k hold anything. */
START_TEST(odd_values)
{
    enum { N = 20, K = 72, LDX = 96 };
    static const float odd[] = {0,       -0.0f,    0x1p-149f, 0x1p-101f, 0x1p-100f, -0x1p-99f,
                                FLT_MIN, -FLT_MAX, INFINITY,  -INFINITY, NAN,       63.5f,
                                -127.0f, 0.5f,     -0.5f,     1.5f};
    enum { ODD = sizeof odd / sizeof *odd };
    static float x[MOST_ROWS * LDX], want[MOST_ROWS * N];
    static const char *const names[] = {"nf4-f32",  "gptq4-g128", "awq-fast", "bnb8",
                                        "e4m3-row", "hqq4-axis0", "aqlm-2x8", "aqlm-1x16"};
    for (size_t c = 0; c < sizeof names / sizeof *names; c++) {
        struct weight w = random_weight(find_case(names[c]), N, K);
        definition_of *of = definition_for(&w);
        ck_assert(of != NULL);
        for (int r = 0; r < MOST_ROWS; r++) {
            float scale = ldexpf(1, r % 7 * 30 - 90);
            for (int k = 0; k < LDX; k++)
                x[r * LDX + k] = k < K ? random_float() * scale : NAN;
            if (r % 3 == 0) // ties of a peak of 127
                for (int k = 0; k < K; k++)
                    x[r * LDX + k] = k % 32 ? (float)(random_u64() % 254) / 2 - 63 : 127;
            x[r * LDX + (int)(random_u64() % K)] = odd[r % ODD];
            if (r % 5 == 0)
                memset(&x[r * LDX], 0, 64 * sizeof *x);
            for (int i = 0; i < N; i++)
                want[r * N + i] = of(&w, x + r * LDX, i);
        }
        check_counts(&w, x, LDX, want, names[c]);
        weight_clear(&w);
    }
}
END_TEST

/* Bytes are near what they stand for: the error of a product of random rows is that of rounding
 * rows to one part in 254 of their chunk's peak and tables to theirs. */
START_TEST(near)
{
    enum { N = 64, K = 1024, ROWS = 4 };
    static float x[ROWS * K], exact[ROWS * N], fast[ROWS * N];
    const struct weight_case *c = &weight_cases[_i];
    struct weight w = random_weight(c, N, K);
    struct kernels *e = open_table("auto", 1), *f = open_in_mode("auto", COMPUTE_FAST, 1);
    random_floats(x, ROWS * K);
    product(e, &w, x, K, ROWS, exact);
    product(f, &w, x, K, ROWS, fast);
    double error = 0, size = 0;
    for (int i = 0; i < ROWS * N; i++) {
        double d = (double)exact[i] - (double)fast[i];
        error += d * d;
        size += (double)exact[i] * (double)exact[i];
    }
    // not for infinite elements of float16
    if (!c->wild && !c->special)
        ck_assert_msg(error <= 1e-4 * size, "%s: %g of %g", c->name, sqrt(error), sqrt(size));
    e->close(e);
    f->close(f);
    weight_clear(&w);
}
END_TEST

/* A table's steps: as near to it as any step and offset of the search make it. */
START_TEST(steps)
{
    static const float nf4[16] = {-1.0f,
                                  -0.6961928009986877f,
                                  -0.5250730514526367f,
                                  -0.39491748809814453f,
                                  -0.28444138169288635f,
                                  -0.18477343022823334f,
                                  -0.09105003625154495f,
                                  0.0f,
                                  0.07958029955625534f,
                                  0.16093020141124725f,
                                  0.24611230194568634f,
                                  0.33791524171829224f,
                                  0.44070982933044434f,
                                  0.5626170039176941f,
                                  0.7229568362236023f,
                                  1.0f};
    struct weight w = {.encoding = ENC_TABLE4};
    memcpy(w.table, nf4, sizeof nf4);
    tile_table_steps(&w);
    double least = INFINITY, error = 0, size = 0;
    for (int quarters = 4 * 64; quarters <= 4 * 126; quarters++)
        for (int offset = -8; offset < 8; offset++) {
            double sum = 0;
            for (int i = 0; i < 16; i++) {
                double v = (double)nf4[i] * quarters / 4 + offset / 16.0;
                double e = (v - nearbyint(v)) * 4 / quarters;
                sum += e * e;
            }
            least = sum < least ? sum : least;
        }
    for (int i = 0; i < 16; i++) {
        double e = (double)nf4[i] - (double)w.step * (w.steps[i] - (double)w.offset);
        error += e * e;
        size += (double)nf4[i] * (double)nf4[i];
        ck_assert(w.steps[i] >= -127 && (i == 0 || w.steps[i] > w.steps[i - 1]));
    }
    ck_assert(error <= least * 1.001);
    ck_assert(sqrt(error / size) < 0.0027);
    static const float none[][2] = {{0, 0}, {INFINITY, 0}, {NAN, 0}, {0x1p-70f, 0}, {0x1p70f, 0}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) { // no step: stays exact
        for (int c = 0; c < 16; c++)
            w.table[c] = none[i][c % 2];
        tile_table_steps(&w);
        ck_assert(w.step == 0);
    }
}
END_TEST

static Suite *fast_suite(void)
{
    Suite *s = suite_create("fast");
    TCase *t = tcase_create("fast");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, definition, 0, (int)WEIGHT_CASES);
    tcase_add_loop_test(t, near, 0, (int)WEIGHT_CASES);
    tcase_add_loop_test(t, tall, 0, 5);
    tcase_add_test(t, odd_values);
    tcase_add_test(t, steps);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(fast_suite)
