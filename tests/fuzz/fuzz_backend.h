/*
 * What the fuzz targets of the back ends share: a module_spec made of bytes, whose tensors keep the
 * container's promise (as many bytes as dtype and shape say) and nothing else, and the walk through
 * a back end's functions. Everything is small, so that an input runs in microseconds.
 */
#ifndef OFTD_TESTS_FUZZ_BACKEND_H
#define OFTD_TESTS_FUZZ_BACKEND_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "core/json.h"

#define FUZZ_SIZE     72 /* n, k below this */
#define FUZZ_TENSORS  24
#define FUZZ_ELEMENTS 8192 /* of one tensor */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

static inline unsigned fuzz_byte(struct fuzz_input *in)
{
    if (!in->size)
        return 0;
    in->size--;
    return *in->data++;
}

struct fuzz_module {
    struct module_spec spec;
    struct tensor t[FUZZ_TENSORS];
    char names[FUZZ_TENSORS][64];
};

static inline void fuzz_module_init(struct fuzz_module *m, struct fuzz_input *in,
                                    const json_t *quant)
{
    memset(m, 0, sizeof *m);
    m->spec = (struct module_spec){.name = "m", .file = "m", .tensors = m->t, .quant = quant};
    m->spec.n = fuzz_byte(in) % FUZZ_SIZE;
    m->spec.k = fuzz_byte(in) % FUZZ_SIZE;
}

/* A tensor of this shape; content NULL: what is left of the input, repeated. */
static inline void fuzz_put(struct fuzz_module *m, const struct fuzz_input *in, const char *suffix,
                            enum dtype dtype, int rank, const int64_t *shape, const void *content)
{
    int64_t elements;
    if (m->spec.n_tensors == FUZZ_TENSORS || !size_product(shape, rank, &elements) ||
        elements > FUZZ_ELEMENTS)
        return;
    size_t at = m->spec.n_tensors++, bytes = (size_t)elements * dtype_size(dtype);
    struct tensor *t = &m->t[at];
    snprintf(m->names[at], sizeof m->names[at], "m.%s", suffix);
    char *copy = malloc(bytes + 1); // its own, so that a read past the end is seen
    if (content)
        memcpy(copy, content, bytes);
    for (size_t i = 0; !content && i < bytes; i++)
        copy[i] = in->size ? (char)in->data[i % in->size] : (char)i;
    *t = (struct tensor){.name = m->names[at],
                         .file = "f",
                         .dtype = dtype,
                         .rank = rank,
                         .data = realloc(copy, bytes ? bytes : 1),
                         .bytes = bytes};
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
}

/* A tensor whose dtype and shape come from the input; not at all if the input says so. */
static inline void fuzz_tensor(struct fuzz_module *m, struct fuzz_input *in, const char *suffix)
{
    unsigned a = fuzz_byte(in);
    int64_t shape[4];
    if (a & 128)
        return;
    int rank = (int)(a >> 4 & 7) % 5;
    for (int i = 0; i < rank; i++)
        shape[i] = fuzz_byte(in) % 80;
    fuzz_put(m, in, suffix, (enum dtype)(a % 16 % DT_COUNT_), rank, shape, NULL);
}

/* g_idx with mostly legal groups. */
static inline void fuzz_groups(struct fuzz_module *m, struct fuzz_input *in, int64_t groups)
{
    int32_t g_idx[FUZZ_SIZE];
    for (int64_t k = 0; k < m->spec.k; k++) {
        unsigned b = fuzz_byte(in);
        g_idx[k] = b == 255 ? -1 : b == 254 ? (int32_t)groups : (int32_t)(b % (groups | 1));
    }
    fuzz_put(m, in, "g_idx", DT_I32, 1, &m->spec.k, g_idx);
}

static inline enum status fuzz_sink(struct tensor_sink *self, const char *suffix, enum dtype dtype,
                                    int rank, const int64_t *shape, const void *data,
                                    struct error *err)
{
    int64_t elements;
    (void)self;
    (void)suffix;
    (void)err;
    if (!size_product(shape, rank, &elements))
        abort();
    size_t bytes = (size_t)elements * dtype_size(dtype);
    void *copy = malloc(bytes + 1); // touches every byte
    memcpy(copy, data, bytes);
    free(copy);
    return ST_OK;
}

/* whole: what was requantized must be storable too. */
static inline void fuzz_weight(const struct backend *b, const struct weight *w, bool whole)
{
    char text[128];
    float *values = malloc((size_t)(w->n * w->k) * sizeof *values);
    for (int64_t r = 0; r < w->n; r++)
        for (int64_t k = 0; k < w->k; k++)
            values[r * w->k + (w->perm ? w->perm[k] : k)] = weight_element(w, r, k);
    b->describe(w, text, sizeof text);
    struct weight again;
    struct tensor_sink sink = {.put = fuzz_sink};
    if (b->requantize && !b->requantize(w, values, &again, NULL)) {
        if (b->store(&again, &sink, NULL) && whole)
            abort();
        weight_clear(&again);
    }
    free(values);
}

static inline void fuzz_backend(const struct backend *b, struct fuzz_module *m,
                                struct fuzz_input *in)
{
    struct findings findings = {0};
    struct error err = ERROR_INIT;
    struct weight w;
    struct slice part = {.row = fuzz_byte(in) % 8,
                         .rows = fuzz_byte(in) % 40,
                         .col = fuzz_byte(in) % 40,
                         .cols = fuzz_byte(in) % 40};
    enum claim claim = b->claim(&m->spec, &findings);
    if ((claim == CLAIM_FAILED) != (findings.errors > 0))
        abort();
    for (int i = 0; claim != CLAIM_DECLINED && i < 2; i++) {
        enum status st = b->load(&m->spec, i ? part : (struct slice){0}, &w, &err);
        if (!st && claim == CLAIM_FAILED)
            abort();
        if (!st)
            fuzz_weight(b, &w, i == 0);
        else if (w.data || !*err.text)
            abort();
        weight_clear(&w);
        error_clear(&err);
    }
    findings_clear(&findings);
    for (size_t i = 0; i < m->spec.n_tensors; i++)
        free((void *)m->t[i].data);
}

#endif
