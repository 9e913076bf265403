/* The special functions, for the device too: the text of special.h, so that the bits are the same.
 */
#ifndef OFTD_BACKENDS_KERNELS_SPECIAL_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_SPECIAL_CUDA_CUH

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/kernels.h"

#pragma push_macro("inline")
#define inline __inline__ __host__ __device__
#include "backends/kernels/special.h"
#pragma pop_macro("inline")

#endif
