/*
 * Owns the way to the CUDA plug-in: where it is looked for, and the words for what is missing. The
 * program itself has no line of CUDA, so one package serves machines with and without a GPU. A
 * plug-in that has been loaded stays: the runtime in it cannot be taken out again.
 */
#include "backends/kernels/cuda.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/kernels/plugin_cuda.h"

/* Where CUDA_PLUGIN may be, beside the program. */
static const char *const places[] = {"", "../lib/oftd/"};

/* The program's folder, with a slash at its end; empty: not known. */
static void own_folder(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = 0;
    char *slash = strrchr(out, '/');
    out[slash ? slash + 1 - out : 0] = 0;
}

static void *open_library(const char *plugin)
{
    char folder[PATH_MAX], path[PATH_MAX + 64];
    if (plugin)
        return dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    own_folder(folder);
    for (size_t i = 0; *folder && i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s%s" CUDA_PLUGIN, folder, places[i]);
        if (!access(path, R_OK))
            return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return dlopen(CUDA_PLUGIN, RTLD_NOW | RTLD_LOCAL);
}

static enum status refuse(enum cuda_outcome outcome, int device, const char *why, struct error *err)
{
    switch (outcome) {
    case CUDA_OPENED:
        return ST_OK;
    case CUDA_WRONG_ABI:
        return error_set(err, ST_NOT_SUPPORTED,
                         "--device cuda: the CUDA plug-in was built with another version of oftd");
    case CUDA_NO_DRIVER:
        return error_set(err, ST_NOT_SUPPORTED,
                         "--device cuda: no GPU here: this machine has no NVIDIA driver");
    case CUDA_OLD_DRIVER:
        return error_set(err, ST_NOT_SUPPORTED, "--device cuda: the NVIDIA driver is too old: %s",
                         why);
    case CUDA_NO_DEVICE:
        return error_set(err, ST_NOT_SUPPORTED, "--device cuda:%d: no such GPU here: %s", device,
                         why);
    case CUDA_TOO_OLD:
        return error_set(err, ST_NOT_SUPPORTED, "--device cuda:%d: this GPU is too old: %s", device,
                         why);
    case CUDA_OUT_OF_MEMORY:
        return error_set(err, ST_OUT_OF_MEMORY, "--device cuda:%d: no memory to begin with%s%s",
                         device, *why ? ": " : "", why);
    case CUDA_FAILED:
        break;
    }
    return error_set(err, ST_NOT_SUPPORTED, "--device cuda:%d: it cannot be used%s%s", device,
                     *why ? ": " : "", why);
}

enum status cuda_kernels_open(const char *plugin, int device, struct kernels **exact,
                              struct kernels **fast, struct error *err)
{
    char why[256] = "";
    *exact = *fast = NULL;
    void *library = open_library(plugin);
    if (!library)
        return error_set(err, ST_NOT_SUPPORTED,
                         "--device cuda: the CUDA plug-in cannot be loaded (it is a package of its "
                         "own, `make cuda` builds it): %s",
                         dlerror());
    void *symbol = dlsym(library, CUDA_PLUGIN_OPEN);
    cuda_plugin_open *open;
    memcpy(&open, &symbol, sizeof open);
    if (!open)
        return refuse(CUDA_WRONG_ABI, device, why, err);
    return refuse(
        open(CUDA_PLUGIN_ABI, sizeof(struct kernels), device, exact, fast, why, sizeof why), device,
        why, err);
}
