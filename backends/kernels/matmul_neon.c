/* The NEON twin of matmul.c; the text is in matmul_simd.h. */
#include "backends/kernels/matmul_simd.h"
