/*
 * An adapter's config and tensors against a model: which module each tensor belongs to, and every
 * finding about them. Nothing is computed here; rotation.c makes R of what is left when there is no
 * error.
 */
#ifndef OFTD_CORE_ADAPTERS_SOURCE_H
#define OFTD_CORE_ADAPTERS_SOURCE_H

#include "core/adapters/classifier.h"
#include "core/adapters/oftconfig.h"
#include "core/adapters/package.h"
#include "core/files/safetensors.h"

struct source_module {
    const struct tensor *rotation; /* [rows, block (block - 1) / 2], or NULL: untouched */
    const struct tensor *bias;     /* [n], or NULL */
    int32_t block;
    bool alias; /* the file uses the module's other name */
};

struct source {
    struct oftconfig config;
    struct safetensors *tensors;
    struct source_module *modules; /* [m->n_modules] */
    struct head_source head;
};

/* Checks a package (borrowed: it must outlive *out). Everything that is wrong goes to findings;
 * returns OUT_OF_MEMORY or ST_OK. Without an error among the findings every member is valid; *out
 * can be cleared in every case. */
enum status source_check(const struct package *p, const struct model *m, const struct kernels *k,
                         bool permissive, struct source *out, struct findings *findings,
                         struct error *err);
void source_clear(struct source *s);

#endif
