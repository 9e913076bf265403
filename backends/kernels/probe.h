/* What this machine can do, to hold our figures against: each takes below 1.5 seconds. */
#ifndef OFTD_BACKENDS_KERNELS_PROBE_H
#define OFTD_BACKENDS_KERNELS_PROBE_H

#include <stddef.h>

/* Bytes a second that `threads` threads read from memory, one contiguous stream each; 0 when there
 * is no memory for it. */
double probe_read_bandwidth(int threads);
/* FP32 operations a second (a fused multiply-add is two) with the widest instructions there are. */
double probe_fp32_peak(int threads);

/* The loops behind it. What the compiler must not drop is returned, or goes to *sink. */
#define PROBE_LINES 256 /* probe_read takes a multiple of as many bytes */
typedef float probe_read(const char *memory, size_t bytes);
/* Works for a time that grows with rounds; returns the operations done. */
typedef double probe_fma(long rounds, float *sink);

probe_read probe_read_portable, probe_read_avx2, probe_read_avx512, probe_read_neon;
probe_fma probe_fma_portable, probe_fma_avx2, probe_fma_avx512, probe_fma_neon;

#endif
