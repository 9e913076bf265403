/* The NEON twin of elementwise.c; the text is in elementwise_simd.h. */
#include "backends/kernels/elementwise_simd.h"
