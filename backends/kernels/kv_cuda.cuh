/* What files of the CUDA plug-in share that read or write keys and values: where these lie
 * (core/kernels.h). */
#ifndef OFTD_BACKENDS_KERNELS_KV_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_KV_CUDA_CUH

#include "backends/kernels/attention.h"
#include "backends/kernels/device_cuda.cuh"

/* kv_fours and kv_within. */
DEVICE int32_t fours(int32_t head_dim)
{
    return (head_dim + 3) / 4 * 4;
}
DEVICE int32_t within(int32_t i)
{
    return i % 4 / 2 + i % 2 * 2;
}

/* The page of key j of a row and one kv head, from the start of k or of v. */
DEVICE size_t page_at(const struct kv &kv, const struct pass_rows &rows, int32_t layer, int row,
                      int head, int32_t j)
{
    size_t page =
        (size_t)layer * (size_t)kv.n_pages + (size_t)rows.pages[rows.first_page[row] + j / KV_PAGE];
    size_t elements = (size_t)KV_PAGE * (size_t)kv.head_dim;
    size_t bytes = kv.dtype == DT_I8    ? KV_PAGE * ((size_t)fours(kv.head_dim) + sizeof(float))
                   : kv.dtype == DT_F16 ? elements * 2
                                        : elements * 4;
    return page * kv.page_bytes + (size_t)head * bytes;
}

/* I8: the step of a slot. */
DEVICE float step_of(const struct kv &kv, const char *at, int slot)
{
    return ((const float *)(at + (size_t)KV_PAGE * (size_t)fours(kv.head_dim)))[slot];
}

#endif
