/* What this machine can do, to hold our figures against: each takes below 1.5 seconds. */
#ifndef OFTD_BACKENDS_KERNELS_PROBE_H
#define OFTD_BACKENDS_KERNELS_PROBE_H

/* Bytes a second that `threads` threads read from memory, one contiguous stream each; 0 when there
 * is no memory for it. */
double probe_read_bandwidth(int threads);
/* FP32 operations a second (a fused multiply-add is two) with the widest instructions there are. */
double probe_fp32_peak(int threads);

/* The loops behind it: work for a time that grows with rounds; the operations done are returned, a
 * value that the compiler must not drop goes to *sink. */
double probe_fma_portable(long rounds, float *sink);
double probe_fma_avx2(long rounds, float *sink);
double probe_fma_avx512(long rounds, float *sink);
double probe_fma_neon(long rounds, float *sink);

#endif
