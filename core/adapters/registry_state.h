/* What registry.c and registry_list.c share; nobody else includes it. */
#ifndef OFTD_CORE_ADAPTERS_REGISTRY_STATE_H
#define OFTD_CORE_ADAPTERS_REGISTRY_STATE_H

#include <pthread.h>

#include "core/adapters/registry.h"
#include "core/adapters/roots.h"
#include "core/adapters/slots.h"

struct registry {
    pthread_mutex_t lock;
    const struct model *m;
    const struct kernels *k;
    struct adapter_options options;
    char *base_name;
    char **root_names;
    size_t n_roots;
    pthread_mutex_t roots_lock; /* its own, since looking at folders may take long */
    struct roots roots;
    struct table table; /* (lock) */
    bool autoload;
    uint64_t generations, loads, evictions, failures;
};

/* Is there an adapter folder of this name in a root? */
bool registry_in_roots(struct registry *r, const char *name);

#endif
