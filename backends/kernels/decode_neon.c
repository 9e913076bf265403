/* The NEON twin of decode.c; the text is in decode_panel_simd.h. */
#include "backends/kernels/decode_panel_simd.h"
