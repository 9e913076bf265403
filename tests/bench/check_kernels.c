/*
 * check_kernels [--isa NAME | --device PLUGIN[:N]] [--time]: holds every slot of every table that
 * this host can run against the portable oracle, on random shapes (odd sizes included), bit for
 * bit, the products in both modes; with --time also times it, as a ratio to the oracle, and the
 * products as ratios to the machine (probe.h). --device: the tables of a GPU instead, over the
 * host's arrays (tests/support/mirrored.h). Prints a table; exits 1 on a difference.
 */
#include <stdio.h>
#include <time.h>

#include "backends/kernels/cpu.h"
#include "backends/kernels/cuda.h"
#include "backends/kernels/probe.h"
#include "tests/bench/check_kernels.h"
#include "tests/support/mirrored.h"

struct kernels *oracle, *table;
bool timing;
static bool failed;

static const char *mode_name(void)
{
    return table->mode == COMPUTE_FAST ? "fast" : "exact";
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)(random_u64() % (uint64_t)(high - low + 1));
}

float *floats(int64_t n)
{
    float *p = memory_alloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    if (!p) {
        fprintf(stderr, "check_kernels: out of memory\n");
        exit(2);
    }
    random_floats(p, n);
    return p;
}

/* A line of the table stands for one slot and case in all its shapes. */
static struct {
    char slot[16], what[32];
    int shapes, different;
} line;

void end_line(void)
{
    if (line.shapes && (!timing || line.different))
        printf("%-9s %-11s %-26s %3d shapes  %s\n", table->isa, line.slot, line.what, line.shapes,
               line.different ? "DIFFERENT" : "same bits");
    failed |= line.different > 0;
    memset(&line, 0, sizeof line);
}

void begin_line(const char *slot, const char *what)
{
    if (!strcmp(line.slot, slot) && !strcmp(line.what, what))
        return;
    end_line();
    snprintf(line.slot, sizeof line.slot, "%s", slot);
    snprintf(line.what, sizeof line.what, "%s", what);
}

void note_shape(bool same)
{
    line.shapes++;
    line.different += !same;
}

static int64_t differences(const struct data *d)
{
    int64_t bad = 0;
    for (int64_t e = 0; e < d->size; e++)
        bad += !same_value(d->out[0][e], d->out[1][e]);
    return bad;
}

void compare(const char *slot, const char *what, struct data *d, call *run)
{
    begin_line(slot, what);
    memcpy(d->out[1], d->out[0], (size_t)d->size * sizeof(float));
    double start = now();
    run(oracle, d, 0);
    double middle = now(), plain = middle - start;
    run(table, d, 1);
    double best = now() - middle;
    int64_t bad = differences(d);
    note_shape(bad == 0);
    if (bad)
        printf("%s %s %s, %d rows, %lld x %lld: %lld outputs differ\n", table->isa, slot, what,
               (int)d->rows, (long long)d->n, (long long)d->k, (long long)bad);
    for (int i = 0; timing && i < 5; i++) {
        start = now();
        run(table, d, 1);
        best = now() - start < best ? now() - start : best;
    }
    if (timing)
        printf("%-9s %-11s %-26s %4d rows %5lld x %-5lld %9.1f us, %.1f times the portable one\n",
               table->isa, slot, what, (int)d->rows, (long long)d->n, (long long)d->k, best * 1e6,
               plain / best);
}

void release(struct data *d)
{
    weight_clear(&d->w);
    memory_free(d->x);
    memory_free(d->y);
    memory_free(d->z);
    memory_free(d->out[0]);
    memory_free(d->out[1]);
    for (int i = 0; i < 2; i++) {
        memory_free(d->buffer[i]);
        memory_free(d->r[i].data);
        memory_free(d->kv[i].k);
        memory_free(d->kv[i].v);
    }
    for (int32_t i = 0; d->pages && i < d->rows; i++)
        if (i == 0 || d->pages[i] != d->pages[i - 1])
            free(d->pages[i]);
    free(d->pages);
    free(d->positions);
    free(d->ends);
    memset(d, 0, sizeof *d);
}

void outputs(struct data *d, int64_t size)
{
    d->size = size;
    d->out[0] = floats(size);
    d->out[1] = floats(size);
}

/* ---- products and decoding ---- */

static void prepare_products(struct data *d)
{
    struct kernels *tables[2] = {oracle, table};
    for (int i = 0; i < 2; i++) {
        d->buffer[i] = memory_alloc(tables[i]->act_bytes(tables[i], d->rows, d->k));
        const struct prepare_job j = {.x = d->x,
                                      .ldx = d->k,
                                      .k = d->k,
                                      .rows = d->rows,
                                      .w = &d->w,
                                      .buffer = d->buffer[i],
                                      .a = &d->a[i]};
        tables[i]->prepare(tables[i], &j, 1);
    }
}

static void run_matmul(struct kernels *t, struct data *d, int which)
{
    struct matmul_job j = {.w = &d->w,
                           .a = &d->a[which],
                           .bias = d->y,
                           .out = d->out[which],
                           .ldo = d->n,
                           .add = d->flag};
    t->matmul(t, &j, 1);
}

static void run_dequantize(struct kernels *t, struct data *d, int which)
{
    t->dequantize(t, &d->w, 0, d->n, d->out[which]);
}

static void run_gather(struct kernels *t, struct data *d, int which)
{
    int32_t ids[3] = {0, (int32_t)(d->n / 2), (int32_t)(d->n - 1)};
    t->gather(t, &d->w, ids, 3, d->out[which], d->k);
}

static void check_weights(void)
{
    static const int32_t rows[] = {1, 2, 3, 5, 8, 9, 24, 25, 70};
    for (size_t c = 0; c < WEIGHT_CASES; c++) {
        struct data d = {.c = &weight_cases[c], .flag = c & 1};
        d.n = timing ? 512 : between(1, 90);
        d.k = timing ? 1024 : between(1, 700);
        d.w = random_weight(d.c, d.n, d.k);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            d.rows = rows[r];
            d.x = floats(d.rows * d.k);
            d.y = floats(d.n);
            outputs(&d, d.rows * d.n);
            prepare_products(&d);
            compare(table->mode == COMPUTE_FAST ? "fast matmul" : "matmul", d.c->name, &d,
                    run_matmul);
            struct weight w = d.w;
            memset(&d.w, 0, sizeof d.w);
            int64_t n = d.n, k = d.k;
            bool flag = d.flag;
            release(&d);
            d = (struct data){.c = &weight_cases[c], .w = w, .n = n, .k = k, .flag = flag};
        }
        if (table->mode == COMPUTE_FAST) { // decodes as exact mode does
            release(&d);
            continue;
        }
        outputs(&d, d.n * d.k);
        compare("dequantize", d.c->name, &d, run_dequantize);
        d.size = 3 * d.k < d.size ? 3 * d.k : 0;
        if (d.size)
            compare("gather", d.c->name, &d, run_gather);
        release(&d);
    }
}

static void check_product(const char *slot, const char *name, int32_t rows, int64_t n, int64_t k)
{
    struct data d = {.c = weight_case_of(name), .rows = rows, .n = n, .k = k, .flag = rows & 1};
    d.w = random_weight(d.c, d.n, d.k);
    d.x = floats(d.rows * d.k);
    d.y = floats(d.n);
    outputs(&d, d.rows * d.n);
    prepare_products(&d);
    compare(slot, d.c->name, &d, run_matmul);
    release(&d);
}

/* More panels than a GPU's block takes at once; so many tiles that each has a warp to itself. */
static void check_large(void)
{
    static const char *const wide[] = {"dense-f32", "nf4-dq-bf16", "gptq4-g128"};
    static const int32_t rows[] = {1, 7, 20};
    static const char *const many[] = {"nf4-dq-f16", "nf4-flat-whole-dq", "gptq4-g128", "gptq3",
                                       "bnb8",       "awq-fast",          "hqq2-g16",   "e4m3-f16"};
    for (size_t i = 0; i < 9 && !timing; i++)
        check_product("wide matmul", wide[i / 3], rows[i % 3], 21, 5000);
    for (size_t i = 0; i < sizeof many / sizeof *many && !timing; i++)
        check_product("many rows", many[i], 70, 77, 300);
}

/* ---- prepare ---- */

static void run_prepare(struct kernels *t, struct data *d, int which)
{
    const struct rotation *both[2] = {&d->r[0], &d->r[1]}, *second[1] = {&d->r[1]};
    struct rotate_group g[3] = {{.first = 0, .count = d->rows / 3, .n = 2, .r = both},
                                {.first = d->rows / 3, .count = d->rows / 4, .n = 0, .r = NULL},
                                {.first = d->rows / 3 + d->rows / 4, .n = 1, .r = second}};
    g[2].count = d->rows - g[2].first;
    struct act out;
    void *buffer = memory_alloc(t->act_bytes(t, d->rows, d->k));
    const struct prepare_job j = {.x = d->x,
                                  .ldx = d->k,
                                  .k = d->k,
                                  .rows = d->rows,
                                  .n_groups = 3,
                                  .groups = g,
                                  .w = d->flag ? &d->w : NULL,
                                  .buffer = buffer,
                                  .a = &out};
    t->prepare(t, &j, 1);
    for (int32_t i = 0; i < d->rows; i++)
        memcpy(d->out[which] + i * d->k, out.x + i * out.ldx, (size_t)d->k * sizeof(float));
    memory_free(buffer);
}

/* R; in fast mode any D, in halves or in bytes. */
static struct rotation random_rotation(int64_t k, int32_t block, bool shared, bool bytes)
{
    struct rotation r = {.dim = k,
                         .block = block,
                         .blocks = (int32_t)(k / block),
                         .shared = shared,
                         .dtype = oracle->mode == COMPUTE_EXACT ? DT_F32
                                  : bytes                       ? DT_I8
                                                                : DT_F16};
    int64_t rows = shared ? 1 : r.blocks, n = (int64_t)block * block;
    size_t size = rotation_block_bytes(r.dtype, block);
    float *v = floats(rows * n), *steps = floats(rows * block);
    r.data = memory_alloc((size_t)rows * size);
    for (int64_t i = 0; i < rows; i++) {
        char *to = (char *)r.data + (size_t)i * size;
        for (int64_t e = 0; e < n && r.dtype == DT_I8; e++)
            to[e] = (char)(127 * v[i * n + e]);
        if (r.dtype == DT_I8)
            memcpy(to + rotation_steps_at(block), steps + i * block, (size_t)block * sizeof *steps);
        else
            tensor_from_f32(v + i * n, n, r.dtype, to);
    }
    memory_free(v);
    memory_free(steps);
    return r;
}

static void check_prepare(void)
{
    static const int32_t blocks[] = {1, 4, 6, 8, 15, 16, 17, 32, 48, 64, 120};
    static const int32_t rows[] = {1, 3, 8, 37};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            struct data d = {.rows = rows[r], .flag = r & 1};
            d.k = blocks[b] * (timing ? 1024 / blocks[b] : between(1, 9)) * 2;
            d.w.k = d.k;
            random_perm(&d.w);
            d.x = floats(d.rows * d.k);
            d.r[0] = random_rotation(d.k, blocks[b], b & 1, r % 2);
            d.r[1] =
                random_rotation(d.k, blocks[b] % 2 ? blocks[b] * 2 : blocks[b] / 2, false, r / 2);
            outputs(&d, d.rows * d.k);
            char what[32];
            snprintf(what, sizeof what, "block %d", (int)blocks[b]);
            compare("prepare", what, &d, run_prepare);
            release(&d);
        }
}

/* ---- norm, rope, activate, likelihoods, add, scale ---- */

static void run_norm(struct kernels *t, struct data *d, int which)
{
    struct norm_args a = {.kind = d->kind & 1 ? NORM_LAYER : NORM_RMS,
                          .weight = d->y,
                          .bias = d->kind & 2 ? d->z : NULL,
                          .eps = 1e-5f,
                          .plus_one = d->kind & 4,
                          .dim = d->k};
    t->norm(t, &a, d->x, d->k, d->rows, d->out[which], d->k);
}

static void run_activate(struct kernels *t, struct data *d, int which)
{
    t->activate(t, (enum activation)(d->kind / 2), d->x, d->k, d->kind & 1 ? d->y : NULL, d->k,
                d->rows, d->k, d->out[which], d->k);
}

/* Likelihoods, or what they sum to. */
static void run_likelihoods(struct kernels *t, struct data *d, int which)
{
    float sums[2048 / DRAW_BLOCK];
    for (int32_t r = 0; r < d->rows; r++) {
        float *x = d->x + r * d->k, *out = d->out[which] + r * d->k, max = x[0];
        x[d->k - 1] = -INFINITY;
        for (int64_t i = 1; i < d->k; i++)
            max = x[i] > max ? x[i] : max;
        t->likelihoods(t, x, d->k, max, 0.7f, d->flag ? d->z : out, d->flag ? out : sums);
    }
}

/* What builds a block [side, side] of a rotation: its series, in place or not; its bytes; sums. */
static void run_series(struct kernels *t, struct data *d, int which)
{
    int32_t b = (int32_t)d->k;
    float *out = d->out[which];
    memcpy(out, d->y, (size_t)(d->k * d->k) * sizeof *out);
    if (d->kind == 0)
        t->combine(t, b, 1, 2, d->x, 0, NULL, out);
    else if (d->kind == 1)
        t->combine(t, b, 1, 2, d->x, 3, d->y, out);
    else if (d->kind == 2)
        t->combine(t, b, 1, 2, d->x, 1, out, out);
    else if (d->kind == 3)
        t->to_bytes(t, b, d->x, out);
    else
        for (int64_t n = 0; n < d->k; n++) {
            double sum = t->squares(t, d->x, n * d->k);
            memcpy(out + 2 * n, &sum, sizeof sum);
            out[2 * d->k + n] = t->largest(t, d->x + n, n * (d->k - 1));
        }
}

static void check_series(void)
{
    static const char *const what[] = {"S", "P and S", "in place", "bytes", "sums"};
    static const int64_t sides[] = {32, 3, 4, 8, 33, 64, 70, 128};
    for (int kind = 0; kind < 5; kind++)
        for (size_t i = 0; i < (timing ? 1 : sizeof sides / sizeof *sides); i++) {
            struct data d = {.k = sides[i], .kind = kind};
            d.x = floats(d.k * d.k);
            d.y = floats(d.k * d.k);
            outputs(&d, d.k * d.k);
            compare("series", what[kind], &d, run_series);
            release(&d);
        }
}

static void run_rope(struct kernels *t, struct data *d, int which)
{
    t->rope(t, d->out[which], d->k, d->rows, 3, (int32_t)d->k / 3, (int32_t)(d->k / 6 * 2), d->x,
            d->y);
}

static void run_add(struct kernels *t, struct data *d, int which)
{
    t->add(t, d->out[which], d->k, d->x, d->flag ? d->k : 0, d->rows, d->k);
    t->scale(t, d->out[which], d->size, 0.37f);
}

/* Rows of x picked, rows of x added to some of them. */
static void run_rows(struct kernels *t, struct data *d, int which)
{
    int32_t ids[40];
    for (int32_t i = 0; i < d->rows; i++)
        ids[i] = d->rows - 1 - i;
    t->copy_rows(t, d->flag ? d->x : NULL, d->k, d->kind & 2 ? ids : NULL, d->rows, d->k,
                 d->out[which], d->k);
    t->add_rows(t, d->y, d->k, ids, d->z, d->rows < d->k ? d->rows : (int32_t)d->k, d->k,
                d->out[which], d->k);
}

static void check_rows(const char *slot, const char *what, int kind, call *run)
{
    static const int64_t dims[] = {2048, 6, 31, 64, 99, 576};
    for (size_t i = 0; i < (timing ? 1 : sizeof dims / sizeof *dims); i++) {
        struct data d = {.rows = timing ? 64 : (int32_t)between(1, 40),
                         .k = dims[i],
                         .kind = kind,
                         .flag = kind & 1};
        d.x = floats(d.rows * d.k);
        d.y = floats(d.rows * d.k);
        d.z = floats(d.k);
        for (int64_t e = 0; e < d.rows * d.k; e++)
            d.x[e] *= 12;
        outputs(&d, d.rows * d.k);
        compare(slot, what, &d, run);
        release(&d);
    }
}

static void check_elementwise(void)
{
    static const char *const acts[] = {"none", "silu", "gelu",      "gelu-tanh",
                                       "relu", "tanh", "quick-gelu"};
    for (int kind = 0; kind < 8; kind++)
        check_rows("norm", kind & 1 ? "layer" : "rms", kind, run_norm);
    for (int kind = 0; kind < 14; kind++)
        check_rows("activate", acts[kind / 2], kind, run_activate);
    if (table->likelihoods) {
        check_rows("likelihoods", "", 0, run_likelihoods);
        check_rows("likelihoods", "sums", 1, run_likelihoods);
    }
    if (table->combine)
        check_series();
    for (int kind = 0; kind < 4; kind++)
        check_rows("rows", kind & 2 ? "picked" : "in order", kind, run_rows);
    check_rows("rope", "", 0, run_rope);
    check_rows("add, scale", "one row", 0, run_add);
    check_rows("add, scale", "rows", 1, run_add);
}

/* ---- ratios to the machine ---- */

/* Seconds of one product, the least of many. */
static double product_seconds(const struct weight *w, int n, const struct act *a, float *out)
{
    double best = 1e9, end = now() + 0.7;
    do {
        double start = now();
        for (int i = 0; i < n; i++) {
            struct matmul_job j = {.w = &w[i], .a = a, .out = out, .ldo = w[i].n};
            table->matmul(table, &j, 1);
        }
        double t = (now() - start) / n;
        best = t < best ? t : best;
    } while (now() < end);
    return best;
}

/* One 2048 -> 5632 module of several layers, more than the caches hold. */
static void time_products(void)
{
    enum { LAYERS = 12, N = 5632, K = 2048, MOST = 512 };
    static const char *const names[] = {"nf4-f16", "nf4-dq-bf16", "gptq4-g128", "hqq4-bf16",
                                        "gptq2",   "gptq3",       "gptq8",      "dense-bf16"};
    static const int32_t rows[] = {1, 2, 4, 8, 32, MOST};
    float *x = floats((int64_t)MOST * K), *out = floats((int64_t)MOST * N);
    void *buffer = memory_alloc(table->act_bytes(table, MOST, K));
    if (!buffer) {
        fprintf(stderr, "check_kernels: out of memory\n");
        exit(2);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct weight_case *c = weight_case_of(names[i]);
        struct weight w[LAYERS];
        for (int l = 0; l < LAYERS; l++)
            w[l] = random_weight(c, N, K);
        double bytes = (double)weight_bytes(&w[0]), read = probe_read_bandwidth(table->threads);
        double peak = probe_fp32_peak(table->threads), one = 0;
        printf("%s %s %s, %d threads: memory %.1f GB/s, peak %.0f Gop/s\n", table->isa, mode_name(),
               c->name, table->threads, read * 1e-9, peak * 1e-9);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            struct act a;
            const struct prepare_job j = {
                .x = x, .ldx = K, .k = K, .rows = rows[r], .w = &w[0], .buffer = buffer, .a = &a};
            table->prepare(table, &j, 1);
            double t = product_seconds(w, rows[r] < MOST ? LAYERS : 1, &a, out);
            one = r ? one : t;
            printf("    %4d rows %9.3f ms   %.2f of the memory, %.2f of the peak, %5.2f times the "
                   "rate of one row\n",
                   (int)rows[r], t * 1e3, bytes / t / read, 2.0 * rows[r] * N * K / t / peak,
                   rows[r] * one / t);
        }
        for (int l = 0; l < LAYERS; l++)
            weight_clear(&w[l]);
    }
    memory_free(buffer);
    memory_free(x);
    memory_free(out);
}

void must(enum status s, const struct error *err)
{
    if (s == ST_OK)
        return;
    fprintf(stderr, "check_kernels: %s\n", err->text);
    exit(2);
}

/* table against the portable one; closes both. */
static void check_table(int threads, enum compute mode)
{
    struct error err = ERROR_INIT;
    const char *isa = table->isa;
    bool was = failed;
    must(cpu_kernels_open("portable", mode, 1, &oracle, &err), &err);
    failed = false;
    check_weights();
    check_large();
    check_prepare();
    if (mode == COMPUTE_EXACT) { // fast mode shares the rest
        check_attention();
        check_elementwise();
    }
    end_line();
    if (timing && strcmp(isa, "portable") != 0 && !strcmp(table->device, "cpu"))
        time_products();
    printf("%s %s with %d threads: %s\n", isa, mode_name(), threads,
           failed ? "DIFFERENT from the portable kernels"
                  : "the same bits as the portable kernels");
    failed |= was;
    oracle->close(oracle);
    table->close(table);
}

static void check_cpu(const char *isa, int threads, enum compute mode)
{
    struct error err = ERROR_INIT;
    must(cpu_kernels_open(isa, mode, threads, &table, &err), &err);
    check_table(threads, mode);
}

/* "path/to/plugin.so:1" */
static void check_device(char *plugin)
{
    struct error err = ERROR_INIT;
    char *colon = strrchr(plugin, ':');
    int n = colon ? atoi(colon + 1) : 0;
    if (colon)
        *colon = 0;
    struct kernels *exact, *fast;
    must(cuda_kernels_open(plugin, n, &exact, &fast, &err), &err);
    check_draws(exact);
    table = mirrored_open(fast);
    check_table(1, COMPUTE_FAST);
    table = mirrored_open(exact);
    check_table(1, COMPUTE_EXACT);
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {"portable", "avx2", "avxvnni", "avx512", "neon", "amx"};
    const char *only = NULL;
    char *device = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--time")) {
            timing = true;
        } else if (!strcmp(argv[i], "--isa") && i + 1 < argc) {
            only = argv[++i];
        } else if (!strcmp(argv[i], "--device") && i + 1 < argc) {
            device = argv[++i];
        } else {
            fprintf(stderr, "usage: check_kernels [--isa portable|avx2|avxvnni|avx512|amx|neon | "
                            "--device PLUGIN[:N]] [--time]\n");
            return 2;
        }
    }
    if (device) {
        check_device(device);
        return failed;
    }
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (only ? strcmp(only, isas[i]) != 0 : !cpu_has(isas[i]))
            continue;
        for (int mode = COMPUTE_EXACT; mode <= COMPUTE_FAST; mode++) {
            check_cpu(isas[i], 1, mode);
            if (cpu_threads() > 1)
                check_cpu(isas[i], cpu_threads(), mode);
        }
    }
    return failed;
}
