/* The AVX-512 twin of matmul.c; the text is in matmul_simd.h. */
#include "backends/kernels/matmul_simd.h"
