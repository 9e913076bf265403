/* A module made of tensors in memory, for tests that need other ones than files hold. */
#ifndef OFTD_TESTS_BACKENDS_MADE_MODULE_H
#define OFTD_TESTS_BACKENDS_MADE_MODULE_H

#include "tests/backends/fixture.h"

#define MADE_MAX 32

struct made {
    struct module_spec spec;
    struct tensor t[MADE_MAX];
    char names[MADE_MAX][48];
};

static inline void made_init(struct made *m, int64_t n, int64_t k)
{
    memset(m, 0, sizeof *m);
    m->spec = (struct module_spec){.name = "m", .file = "m", .n = n, .k = k, .tensors = m->t};
}

/* Adds a tensor with a copy of data (NULL: zeros), or replaces the one of that name; returns where
 * its bytes are. */
static inline void *made_put(struct made *m, const char *suffix, enum dtype dtype, int rank,
                             const int64_t *shape, const void *data)
{
    struct tensor *t = (struct tensor *)spec_tensor(&m->spec, suffix);
    int64_t elements;
    ck_assert(size_product(shape, rank, &elements));
    if (!t) {
        size_t at = m->spec.n_tensors++;
        ck_assert_uint_lt(at, MADE_MAX);
        t = &m->t[at];
        snprintf(m->names[at], sizeof m->names[at], "m.%s", suffix);
        t->name = m->names[at];
        t->file = "made.safetensors";
    } else {
        free((void *)t->data);
    }
    t->dtype = dtype;
    t->rank = rank;
    if (rank)
        memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->bytes = (size_t)elements * dtype_size(dtype);
    void *copy = calloc(t->bytes + 1, 1);
    ck_assert_ptr_nonnull(copy);
    if (data)
        memcpy(copy, data, t->bytes);
    t->data = copy;
    return copy;
}

static inline void made_drop(struct made *m, const char *suffix)
{
    struct tensor *t = (struct tensor *)spec_tensor(&m->spec, suffix);
    ck_assert_ptr_nonnull(t);
    t->name = "elsewhere.weight";
}

static inline void made_clear(struct made *m)
{
    for (size_t i = 0; i < m->spec.n_tensors; i++)
        free((void *)m->t[i].data);
}

#endif
