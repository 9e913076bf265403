/*
 * A model on golden files, and passes over it the way core/run makes them: paged keys and values on
 * scattered pages, rows of several sequences, chunks.
 */
#ifndef OFTD_TESTS_CORE_MODEL_FIXTURE_H
#define OFTD_TESTS_CORE_MODEL_FIXTURE_H

#include "tests/check_main.h"

#include <stdio.h>
#include <unistd.h>

#include "backends/chain.h"
#include "core/model/batch.h"
#include "core/model/hfconfig.h"
#include "tests/core/model/plain_kernels.h"

#define MAX_ROWS   96
#define MAX_GROUPS 64
#define PAGES      24 /* of the whole cache */
#define SEQ_PAGES  4  /* of a sequence */

/* What passes run on; a test may put another table here. */
static const struct kernels *fixture_kernels = &plain_kernels;

struct fixture {
    struct checkpoint *cp;
    struct model *m;
    struct safetensors *expected;
    struct scratch *scratch;
    struct kv kv;
    int32_t pages[4][SEQ_PAGES];
    int32_t rows, len; /* input_ids [rows, len] */
    int32_t ids[4][64];
};

static inline const char *fixture_path(const char *name, const char *file)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s%s%s", test_vectors(), name, *file ? "/" : "", file);
    return path;
}

static inline const struct tensor *fixture_tensor(const struct fixture *f, const char *name)
{
    const struct tensor *t = safetensors_find(f->expected, name);
    ck_assert_msg(t != NULL, "%s is not among the expected tensors", name);
    return t;
}

static inline bool fixture_exists(const char *name)
{
    return access(fixture_path(name, "config.json"), R_OK) == 0;
}

static inline void fixture_open_with(struct fixture *f, const char *name,
                                     const struct model_options *options)
{
    struct error err = ERROR_INIT;
    memset(f, 0, sizeof *f);
    ck_assert_msg(checkpoint_open(fixture_path(name, ""), &f->cp, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(model_open(f->cp, options, &chain_default, fixture_kernels, NULL, NULL, &f->m,
                             &err) == ST_OK,
                  "%s: %s", name, err.text);
    ck_assert_msg(
        safetensors_open(fixture_path(name, "expected.safetensors"), &f->expected, &err) == ST_OK,
        "%s", err.text);
    const struct tensor *ids = fixture_tensor(f, "input_ids");
    f->rows = (int32_t)ids->shape[0];
    f->len = (int32_t)ids->shape[1];
    for (int32_t r = 0; r < f->rows; r++)
        for (int32_t i = 0; i < f->len; i++)
            f->ids[r][i] = (int32_t)load_u32((const char *)ids->data +
                                             (r * f->len + i) * (int64_t)dtype_size(ids->dtype));
    ck_assert(scratch_open(f->m, fixture_kernels, MAX_ROWS, MAX_GROUPS, &f->scratch, &err) ==
              ST_OK);
    f->kv =
        (struct kv){.dtype = DT_F32,
                    .layers = f->m->layers,
                    .kv_heads = f->m->kv_heads,
                    .head_dim = f->m->head_dim,
                    .n_pages = PAGES,
                    .page_bytes = (size_t)f->m->kv_heads * kv_head_bytes(DT_F32, f->m->head_dim)};
    size_t elements =
        (size_t)f->m->layers * PAGES * (size_t)f->m->kv_heads * KV_PAGE * (size_t)f->m->head_dim;
    f->kv.k = malloc(elements * sizeof(float));
    f->kv.v = malloc(elements * sizeof(float));
    memset(f->kv.k, 0xff, elements * sizeof(float)); // NaN: nobody may read what was not stored
    memset(f->kv.v, 0xff, elements * sizeof(float));
    for (int32_t s = 0; s < 4; s++)
        for (int32_t p = 0; p < SEQ_PAGES; p++)
            f->pages[s][p] = (7 * (s * SEQ_PAGES + p) + 5) % PAGES;
}

static inline void fixture_open(struct fixture *f, const char *name)
{
    const struct model_options options = {0};
    fixture_open_with(f, name, &options);
}

static inline void fixture_close(struct fixture *f)
{
    scratch_close(f->scratch);
    free(f->kv.k);
    free(f->kv.v);
    safetensors_close(f->expected);
    model_close(f->m);
    checkpoint_close(f->cp);
}

/* A batch under construction. */
struct rows {
    struct batch batch;
    int32_t tokens[MAX_ROWS], positions[MAX_ROWS];
    const int32_t *pages[MAX_ROWS];
    struct row_group groups[MAX_GROUPS];
    struct row_output outputs[MAX_ROWS];
};

static inline void rows_start(struct rows *b, const struct fixture *f)
{
    memset(b, 0, sizeof *b);
    b->batch = (struct batch){.view = f->m->base,
                              .kernels = fixture_kernels,
                              .tokens = b->tokens,
                              .at = {0, b->positions, b->pages},
                              .kv = &f->kv,
                              .groups = b->groups,
                              .outputs = b->outputs};
}

/* Positions [first, first + n) of sequence s; logits (NULL: none) [len, vocab] of the sequence. */
static inline void rows_add(struct rows *b, const struct fixture *f, int32_t s, int32_t first,
                            int32_t n, const struct adapted *const *adapted, int32_t n_adapted,
                            float *logits)
{
    ck_assert_int_le(b->batch.rows + n, MAX_ROWS);
    b->groups[b->batch.n_groups++] = (struct row_group){b->batch.rows, n, n_adapted, adapted};
    for (int32_t i = 0; i < n; i++) {
        int32_t r = b->batch.rows++;
        b->tokens[r] = f->ids[s][first + i];
        b->positions[r] = first + i;
        b->pages[r] = f->pages[s];
        if (logits)
            b->outputs[b->batch.n_outputs++] = (struct row_output){
                .row = r, .logits = logits + (int64_t)(first + i) * f->m->vocab};
    }
    b->batch.at.rows = b->batch.rows;
}

static inline void rows_run(struct rows *b, const struct fixture *f)
{
    model_forward(f->m, &b->batch, f->scratch);
}

/* Sequence s alone, in chunks; logits [len, vocab]. */
static inline void fixture_prefill(const struct fixture *f, int32_t s, int32_t chunk,
                                   const struct adapted *const *adapted, int32_t n_adapted,
                                   float *logits)
{
    struct rows b;
    for (int32_t at = 0; at < f->len; at += chunk) {
        rows_start(&b, f);
        rows_add(&b, f, s, at, f->len - at < chunk ? f->len - at : chunk, adapted, n_adapted,
                 logits);
        rows_run(&b, f);
    }
}

/* x R by definition, in double, in place. */
static inline void rotate_by_definition(const struct rotation *r, double *x)
{
    double y[64];
    for (int32_t b = 0; b < r->blocks; b++, x += r->block) {
        const float *m = (const float *)r->data + (r->shared ? 0 : (size_t)b * r->block * r->block);
        for (int32_t c = 0; c < r->block; c++) {
            y[c] = 0;
            for (int32_t k = 0; k < r->block; k++)
                y[c] += x[k] * m[k * r->block + c];
        }
        memcpy(x, y, (size_t)r->block * sizeof *x);
    }
}

/* max |got - want| / max |want| */
static inline double relative(const float *got, const float *want, int64_t n)
{
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        most = fmax(most, fabs((double)want[i]));
        if (isnan(got[i]))
            return INFINITY;
    }
    return worst / most;
}

#endif
