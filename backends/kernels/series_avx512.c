/* The AVX-512 version of series.c; the text is in series_text.h. */
#define NAME(name) name##_avx512
#include "backends/kernels/series_text.h"
