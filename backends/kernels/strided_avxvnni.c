/* The AVX2 twin of strided.c with AVX-VNNI; the text is in strided_simd.h. */
#include "backends/kernels/strided_simd.h"
