/*
 * The loops of probe.c over sixteen lanes: the text of probe_avx2.c, probe_avx512.c and
 * probe_neon.c. Independent chains of fused multiply-adds, as many as hide their latency, without
 * memory; and one contiguous stream of memory, whose sums cost less than it does.
 */
#ifndef OFTD_BACKENDS_KERNELS_PROBE_SIMD_H
#define OFTD_BACKENDS_KERNELS_PROBE_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/probe.h"

#ifdef LANES

float TWIN(probe_read)(const char *memory, size_t bytes)
{
    vi sum[PROBE_LINES / 64];
#pragma GCC unroll 4
    for (int i = 0; i < PROBE_LINES / 64; i++)
        sum[i] = vi_set(0);
    for (const char *end = memory + bytes; memory < end; memory += PROBE_LINES)
#pragma GCC unroll 4
        for (int i = 0; i < PROBE_LINES / 64; i++)
            sum[i] = vi_add(sum[i], vi_load(memory + 64 * i));
    // what wraps in the lanes would be undefined in a sum across them
    return (float)vi_largest(vi_add(vi_add(sum[0], sum[1]), vi_add(sum[2], sum[3])));
}

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
