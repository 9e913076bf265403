/* One product as the kernels of a device see it, shared by all ways of multiplying. */
#ifndef OFTD_BACKENDS_KERNELS_PRODUCT_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_PRODUCT_CUDA_CUH

#include "backends/kernels/element_cuda.cuh"

struct product {
    const float *x, *bias;
    float *out;
    int64_t ldx, ldo;
    int32_t rows;
    bool add, aligned; /* rows of x begin at multiples of 16 bytes */
};

/* Its rows [row, row + most), as far as there are so many. */
static inline struct product product_rows(struct product p, int32_t row, int64_t most)
{
    p.x += row * p.ldx;
    p.out += row * p.ldo;
    p.rows = p.rows - row < most ? p.rows - row : (int32_t)most;
    return p;
}

DEVICE void finish(const struct product &p, int64_t row, int64_t n, float sum)
{
    float v = p.bias ? sum + p.bias[n] : sum, *out = p.out + row * p.ldo + n;
    *out = p.add ? *out + v : v;
}

#endif
