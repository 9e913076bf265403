/* The AVX-512 peak loop of probe.c: independent chains of fused multiply-adds, no memory. */
#include "backends/kernels/lanes.h"
#include "backends/kernels/probe.h"

enum { CHAINS = 12 };

double probe_fma_avx512(long rounds, float *sink)
{
    vf acc[CHAINS], x = vf_set(1.0f - 1e-6f), y = vf_set(1e-6f);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = vf_set((float)i);
    for (long r = 0; r < rounds * 64; r++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            acc[i] = vf_fma(acc[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        acc[0] = vf_add(acc[0], acc[i]);
    *sink = vf_sum(acc[0]);
    return 2.0 * 64 * LANES * CHAINS * (double)rounds;
}
