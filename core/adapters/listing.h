/* Snapshots of the registry's table and of the folders in the roots, for replies. */
#ifndef OFTD_CORE_ADAPTERS_LISTING_H
#define OFTD_CORE_ADAPTERS_LISTING_H

#include "core/adapters/roots.h"
#include "core/adapters/slots.h"

struct listing {
    struct adapter_info *v;
    size_t n, cap;
    bool failed; /* memory ran out */
};

/* (registry's lock, where there is a table, whose derived generations count) false when memory runs
 * out; *out is cleared then. */
bool listing_describe(const struct table *t, const struct slot *s, struct adapter_info *out);
/* (registry's lock) Adds every slot. */
void listing_add(struct listing *l, const struct table *t);
/* Adds the adapter folders of the roots. */
void listing_add_available(struct listing *l, const struct roots *roots);
/* Sorts by name; of entries with the same name what is loaded stays, else a folder. */
void listing_sort(struct listing *l);
void listing_clear(struct listing *l);

#endif
