/* What the kernels' tests share: tables by name, comparing bits. */
#ifndef OFTD_TESTS_BACKENDS_KERNELS_OPEN_TABLE_H
#define OFTD_TESTS_BACKENDS_KERNELS_OPEN_TABLE_H

#include "backends/kernels/cpu.h"
#include "tests/check_main.h"

static const char *const isas[] = {"portable", "avx2", "avxvnni", "avx512", "neon", "amx"};
#define N_ISAS (sizeof isas / sizeof *isas)

static inline struct kernels *open_in_mode(const char *isa, enum compute mode, int threads)
{
    struct kernels *k = NULL;
    ck_assert_int_eq(cpu_kernels_open(isa, mode, threads, &k, NULL), ST_OK);
    return k;
}

static inline struct kernels *open_table(const char *isa, int threads)
{
    return open_in_mode(isa, COMPUTE_EXACT, threads);
}

#endif
