/*
 * count_kernels ISA | --compiler: products of the common formats, each once, for a count of their
 * instructions under `valgrind --tool=callgrind --instr-atstart=no` (instructions.py): one dump for
 * each, named "ISA MODE FORMAT ROWS". What is counted is prepare and matmul on one thread, for 1
 * and 8 rows (decode) and 64 (prefill); shapes and numbers are the same each time, so the counts
 * are too. Without valgrind it only computes. --compiler tells what it was compiled with.
 */
#include <stdio.h>
#include <valgrind/callgrind.h>

#include "backends/kernels/cpu.h"
#include "tests/backends/kernels/random_weight.h"

enum { N = 64, K = 1024, MOST = 64 };

static const char *const formats[] = {"dense-f16",  "dense-bf16", "nf4-f16",  "nf4-dq-f16",
                                      "gptq4-g128", "awq-fast",   "hqq4-f16", "bnb8",
                                      "e4m3-f32",   "aqlm-2x8",   "hqq2-g16", "hqq4-axis0"};
static const int32_t counts[] = {1, 8, 64};

static void *memory(size_t bytes)
{
    void *p = memory_alloc(bytes);
    if (!p) {
        fprintf(stderr, "count_kernels: out of memory\n");
        exit(2);
    }
    return p;
}

static void count(struct kernels *table, const char *format, const struct weight *w, const float *x,
                  float *out, void *buffer, int32_t rows)
{
    char name[80];
    struct act a;
    const struct prepare_job in = {
        .x = x, .ldx = K, .k = K, .rows = rows, .w = w, .buffer = buffer, .a = &a};
    const struct matmul_job j = {.w = w, .a = &a, .out = out, .ldo = N};
    snprintf(name, sizeof name, "%s %s %s %d", table->isa,
             table->mode == COMPUTE_FAST ? "fast" : "exact", format, (int)rows);
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    table->prepare(table, &in, 1);
    table->matmul(table, &j, 1);
    CALLGRIND_STOP_INSTRUMENTATION;
    if (table->mode == COMPUTE_EXACT || w->encoding != ENC_DENSE) // which both modes compute alike
        CALLGRIND_DUMP_STATS_AT(name);
}

static void count_table(const char *isa, enum compute mode)
{
    struct error err = ERROR_INIT;
    struct kernels *table;
    if (cpu_kernels_open(isa, mode, 1, &table, &err) != ST_OK) {
        fprintf(stderr, "count_kernels: %s\n", err.text);
        exit(2);
    }
    float *x = memory(sizeof(float) * MOST * K), *out = memory(sizeof(float) * MOST * N);
    void *buffer = memory(table->act_bytes(table, MOST, K));
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        const struct weight_case *c = weight_cases;
        while (strcmp(c->name, formats[f]) != 0)
            c++;
        random_state = 88172645463325252u;
        random_floats(x, MOST * K);
        struct weight w = random_weight(c, N, K);
        for (size_t r = 0; r < sizeof counts / sizeof *counts; r++)
            count(table, formats[f], &w, x, out, buffer, counts[r]);
        weight_clear(&w);
    }
    memory_free(buffer);
    memory_free(out);
    memory_free(x);
    table->close(table);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: count_kernels portable|avx2|avx512 | --compiler\n");
        return 2;
    }
    if (!strcmp(argv[1], "--compiler")) {
#ifdef __clang__
        printf("clang %s\n", __clang_version__);
#else
        printf("gcc %s\n", __VERSION__);
#endif
        return 0;
    }
    count_table(argv[1], COMPUTE_EXACT);
    count_table(argv[1], COMPUTE_FAST);
    return 0;
}
