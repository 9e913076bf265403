/* The NEON twin of probe.c; the text is in probe_simd.h. */
#include "backends/kernels/probe_simd.h"
