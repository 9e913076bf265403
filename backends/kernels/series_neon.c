/* The NEON version of series.c; the text is in series_text.h. */
#define NAME(name) name##_neon
#include "backends/kernels/series_text.h"
