/* The NEON twin of rotate.c; the text is in rotate_simd.h. */
#include "backends/kernels/rotate_simd.h"
