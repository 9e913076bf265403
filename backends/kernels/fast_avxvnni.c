/* The AVX2 twin of fast.c with AVX-VNNI; the text is in fast_simd.h. */
#include "backends/kernels/fast_simd.h"
