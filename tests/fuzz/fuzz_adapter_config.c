/*
 * An adapter's two files from outside: the text up to the first NUL is adapter_config.json, the
 * rest adapter_model.safetensors, checked against a small network (names, selection, patterns,
 * shapes) and, if nothing is wrong, made into rotations.
 */
#include <stdint.h>

#include "core/adapters/rotation.h"
#include "core/adapters/source.h"
#include "tests/core/adapters/toy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void build(const struct toy *toy, const struct source *s)
{
    struct rotation_rule rule = {.neumann = s->config.neumann,
                                 .terms = s->config.terms,
                                 .old = s->config.old_series,
                                 .coft = s->config.coft,
                                 .eps = s->config.eps,
                                 .strength = 1};
    for (size_t i = 0; i < toy->m.n_modules; i++) {
        const struct source_module *mod = &s->modules[i];
        if (!mod->rotation)
            continue;
        if (mod->block > TOY_HIDDEN || mod->rotation->shape[0] > TOY_HIDDEN)
            abort();
        float out[TOY_HIDDEN * TOY_HIDDEN * TOY_HIDDEN];
        struct rotation_stats stats = {0};
        rotation_build(&toy_kernels, &rule, mod->rotation, mod->block, DT_F32, out, &stats, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t n_config = end ? (size_t)(end - data) : size;
    size_t n_tensors = end ? size - n_config - 1 : 0;
    char *config = malloc(n_config + 1), *tensors = malloc(n_tensors + 1);
    if (!config || !tensors)
        abort();
    if (n_config)
        memcpy(config, data, n_config);
    if (n_tensors)
        memcpy(tensors, end + 1, n_tensors);
    static struct toy toy;
    static char config_path[] = "dir/adapter_config.json";
    static char tensors_path[] = "dir/adapter_model.safetensors";
    if (!toy.m.base)
        toy_open(&toy, true);
    struct package p = {.config_path = config_path,
                        .tensors_path = tensors_path,
                        .config = config,
                        .config_size = n_config,
                        .tensors = tensors,
                        .tensors_size = n_tensors};
    struct source s;
    struct findings f = {0};
    struct error err = ERROR_INIT;
    if (source_check(&p, &toy.m, &toy_kernels, false, &s, &f, &err) == ST_OK && !f.errors)
        build(&toy, &s);
    source_clear(&s);
    findings_clear(&f);
    error_clear(&err);
    free(config);
    free(tensors);
    return 0;
}
