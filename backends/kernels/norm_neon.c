/* The NEON twin of norm.c; the text is in norm_simd.h. */
#include "backends/kernels/norm_simd.h"
