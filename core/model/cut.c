#include "core/model/cut.h"

#include "core/tensor.h"

#define ALIGNMENT 64

void *cut_take(struct cut *c, int64_t n, int64_t per, size_t size)
{
    const int64_t v[] = {n, per, (int64_t)size};
    int64_t bytes;
    size_t at = c->used;
    if (!size_product(v, 3, &bytes) || (uint64_t)bytes > SIZE_MAX / 4 || at > SIZE_MAX / 4) {
        c->overflow = true;
        return NULL;
    }
    c->used += ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return c->memory ? c->memory + at : NULL;
}
