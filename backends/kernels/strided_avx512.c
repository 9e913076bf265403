/* The AVX-512 twin of strided.c; the text is in strided_simd.h. */
#include "backends/kernels/strided_simd.h"
