/*
 * The peak loop of probe.c over sixteen lanes: the text of probe_avx2.c and probe_avx512.c.
 * Independent chains of fused multiply-adds, as many as hide their latency; no memory.
 */
#ifndef OFTD_BACKENDS_KERNELS_PROBE_SIMD_H
#define OFTD_BACKENDS_KERNELS_PROBE_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/probe.h"

#ifdef LANES

double TWIN(probe_fma)(long rounds, float *sink)
{
    vf acc[PROBE_CHAINS], x = vf_set(1.0f - 1e-6f), y = vf_set(1e-6f);
#pragma GCC unroll 12
    for (int i = 0; i < PROBE_CHAINS; i++)
        acc[i] = vf_set((float)i);
    for (long r = 0; r < rounds * 64; r++)
#pragma GCC unroll 12
        for (int i = 0; i < PROBE_CHAINS; i++)
            acc[i] = vf_fma(acc[i], x, y);
    for (int i = 1; i < PROBE_CHAINS; i++)
        acc[0] = vf_add(acc[0], acc[i]);
    *sink = vf_sum(acc[0]);
    return 2.0 * 64 * LANES * PROBE_CHAINS * (double)rounds;
}

#endif
#endif
