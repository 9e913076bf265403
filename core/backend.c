/* Owns the one question that every back end asks about a module: which tensor has this suffix. */
#include "core/backend.h"

#include <string.h>

const struct tensor *spec_tensor(const struct module_spec *spec, const char *suffix)
{
    size_t n = strlen(spec->file);
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const char *name = spec->tensors[i].name;
        if (!strncmp(name, spec->file, n) && name[n] == '.' && !strcmp(name + n + 1, suffix))
            return &spec->tensors[i];
    }
    return NULL;
}
