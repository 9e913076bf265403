/* The AVX2 version of series.c; the text is in series_text.h. */
#define NAME(name) name##_avx2
#include "backends/kernels/series_text.h"
