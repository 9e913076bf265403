/* The AVX2 twin of fast.c for flat groups with AVX-VNNI; the text is in fast_flat_simd.h. */
#include "backends/kernels/fast_flat_simd.h"
