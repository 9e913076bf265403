/* The NEON twin of lookup.c; the text is in lookup_simd.h. */
#include "backends/kernels/lookup_simd.h"
