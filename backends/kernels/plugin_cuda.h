/*
 * Between the program and the CUDA plug-in (build/liboftd-cuda.so), which cuda.c loads: one
 * function, C on both sides. The plug-in links nothing of the program and brings the CUDA runtime
 * along; the driver alone is the machine's.
 */
#ifndef OFTD_BACKENDS_KERNELS_PLUGIN_CUDA_H
#define OFTD_BACKENDS_KERNELS_PLUGIN_CUDA_H

#include "core/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counts changes of this file and of core/kernels.h: both sides are built of the same tree. */
#define CUDA_PLUGIN_ABI  2
#define CUDA_PLUGIN_OPEN "oftd_cuda_open"

enum cuda_outcome {
    CUDA_OPENED,
    CUDA_WRONG_ABI,
    CUDA_NO_DRIVER,     /* the machine has no NVIDIA driver */
    CUDA_OLD_DRIVER,    /* it has one that is older than the plug-in's runtime needs */
    CUDA_NO_DEVICE,     /* there is a driver and no GPU, or not as many */
    CUDA_TOO_OLD,       /* a GPU that no kernel of the plug-in was built for */
    CUDA_OUT_OF_MEMORY, /* of the device or the host */
    CUDA_FAILED
};

/* The tables of device `device`, of exact and of fast mode: one queue of work, which is closed with
 * the exact one, last. kernels_bytes is sizeof(struct kernels), so that two trees do not meet. why
 * [size]: what the driver said, empty if nothing. */
typedef enum cuda_outcome cuda_plugin_open(int abi, size_t kernels_bytes, int device,
                                           struct kernels **exact, struct kernels **fast, char *why,
                                           size_t size);

cuda_plugin_open oftd_cuda_open;

#ifdef __cplusplus
}
#endif

#endif
