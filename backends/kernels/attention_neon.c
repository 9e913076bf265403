/* The NEON twin of attention.c; the text is in attention_simd.h. */
#include "backends/kernels/attention_simd.h"
