/* Opens the table of a GPU, if the machine and the package have one. */
#ifndef OFTD_BACKENDS_KERNELS_CUDA_H
#define OFTD_BACKENDS_KERNELS_CUDA_H

#include "core/kernels.h"
#include "core/status.h"

#define CUDA_PLUGIN "liboftd-cuda.so"

/* The tables of GPU `device`, of which the exact one is closed last. plugin: a path, or NULL:
 * CUDA_PLUGIN beside the program, then in ../lib/oftd of it, then where the loader looks.
 * NOT_SUPPORTED says in words what is missing: the plug-in, the driver, a newer driver, a GPU, a
 * newer GPU. OUT_OF_MEMORY. */
enum status cuda_kernels_open(const char *plugin, int device, struct kernels **exact,
                              struct kernels **fast, struct error *err);

#endif
