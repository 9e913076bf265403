/* The NEON twin of fast.c; the text is in fast_simd.h. */
#include "backends/kernels/fast_simd.h"
