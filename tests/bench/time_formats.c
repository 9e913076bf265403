/*
 * time_formats [--isa NAME] [PART OF A NAME]: a line a format, of one row the bytes a second beside
 * those of NF4, of 64 rows the time of fast mode beside exact mode's, each pair measured in turns.
 * Checks nothing (check_kernels does).
 */
#include <stdio.h>
#include <time.h>

#include "backends/kernels/cpu.h"
#include "tests/backends/kernels/random_weight.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { FORMAT_N = 5632, FORMAT_K = 2048, FORMAT_ROWS = 64, FORMAT_LAYERS = 40 };

/* A format's layers, more than the caches hold; where arithmetic is timed one of them is taken. */
struct layers {
    struct weight w[FORMAT_LAYERS];
    int n;
};

static struct layers layers_of(const struct weight_case *c)
{
    struct layers l = {.n = FORMAT_LAYERS};
    for (int i = 0; i < l.n; i++)
        l.w[i] = random_weight(c, FORMAT_N, FORMAT_K);
    return l;
}

static void layers_release(struct layers *l)
{
    for (int i = 0; i < l->n; i++)
        weight_clear(&l->w[i]);
}

/* Seconds of a product with the first n layers, prepared each time: the least of about 0.1 s. */
static double layers_seconds(struct kernels *t, const struct layers *l, int n, int32_t rows,
                             const float *x, void *buffer, float *out)
{
    double best = 1e9, end = now() + 0.1;
    do {
        double start = now();
        for (int i = 0; i < n; i++) {
            struct act a;
            const struct prepare_job p = {.x = x,
                                          .ldx = FORMAT_K,
                                          .k = FORMAT_K,
                                          .rows = rows,
                                          .w = &l->w[i],
                                          .buffer = buffer,
                                          .a = &a};
            const struct matmul_job j = {.w = &l->w[i], .a = &a, .out = out, .ldo = FORMAT_N};
            t->prepare(t, &p, 1);
            t->matmul(t, &j, 1);
        }
        double s = (now() - start) / n;
        best = s < best ? s : best;
    } while (now() < end);
    return best;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_format(struct kernels *exact, struct kernels *fast, const struct weight_case *c,
                        const struct layers *nf4, const float *x, void *buffer, float *out)
{
    enum { PAIRS = 5 };
    double of_nf4[PAIRS], of_exact[PAIRS], one = 1e9, many = 1e9;
    struct layers l = layers_of(c);
    double bytes = (double)weight_bytes(&l.w[0]), beside = (double)weight_bytes(&nf4->w[0]);
    for (int i = 0; i < PAIRS; i++) {
        double a = layers_seconds(fast, nf4, nf4->n, 1, x, buffer, out);
        double b = layers_seconds(fast, &l, l.n, 1, x, buffer, out);
        of_nf4[i] = bytes / b / (beside / a);
        one = b < one ? b : one;
        a = layers_seconds(exact, &l, 1, FORMAT_ROWS, x, buffer, out);
        b = layers_seconds(fast, &l, 1, FORMAT_ROWS, x, buffer, out);
        of_exact[i] = b / a;
        many = b < many ? b : many;
    }
    qsort(of_nf4, PAIRS, sizeof *of_nf4, by_value);
    qsort(of_exact, PAIRS, sizeof *of_exact, by_value);
    printf("%-7s %-18s %5.1f MB  1 row %7.3f ms %5.1f GB/s %5.2f (%.2f to %.2f) of NF4's   %d rows "
           "%7.2f ms %5.2f of exact\n",
           fast->isa, c->name, bytes * 1e-6, one * 1e3, bytes / one * 1e-9, of_nf4[PAIRS / 2],
           of_nf4[0], of_nf4[PAIRS - 1], FORMAT_ROWS, many * 1e3, of_exact[PAIRS / 2]);
    fflush(stdout);
    layers_release(&l);
}

static void time_formats(const char *isa, const char *part)
{
    struct error err = ERROR_INIT;
    struct kernels *exact, *fast;
    if (cpu_kernels_open(isa, COMPUTE_EXACT, cpu_threads(), &exact, &err) != ST_OK ||
        cpu_kernels_open(isa, COMPUTE_FAST, cpu_threads(), &fast, &err) != ST_OK) {
        fprintf(stderr, "time_formats: %s\n", err.text);
        exit(2);
    }
    float *x = memory_alloc(FORMAT_ROWS * FORMAT_K * sizeof *x);
    float *out = memory_alloc(FORMAT_ROWS * FORMAT_N * sizeof *out);
    void *buffer = memory_alloc(fast->act_bytes(fast, FORMAT_ROWS, FORMAT_K));
    if (!x || !out || !buffer) {
        fprintf(stderr, "time_formats: out of memory\n");
        exit(2);
    }
    random_floats(x, FORMAT_ROWS * FORMAT_K);
    struct layers nf4 = layers_of(weight_case_of("nf4-f16"));
    for (size_t i = 0; i < WEIGHT_CASES; i++) {
        const struct weight_case *c = &weight_cases[i];
        if (c->encoding != ENC_DENSE && !c->wild && !c->special && strstr(c->name, part))
            time_format(exact, fast, c, &nf4, x, buffer, out);
    }
    layers_release(&nf4);
    memory_free(buffer);
    memory_free(out);
    memory_free(x);
    fast->close(fast);
    exact->close(exact);
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {"avx2", "avxvnni", "avx512", "neon"};
    const char *only = NULL, *part = "";
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--isa") && i + 1 < argc) {
            only = argv[++i];
        } else if (argv[i][0] != '-') {
            part = argv[i];
        } else {
            fprintf(stderr, "usage: time_formats [--isa avx2|avx512|neon] [PART OF A NAME]\n");
            return 2;
        }
    }
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if (only ? !strcmp(only, isas[i]) : cpu_has(isas[i]))
            time_formats(isas[i], part);
    return 0;
}
