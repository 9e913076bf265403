/*
 * What the tests of the back ends share: a checkpoint or a file of golden cases, the spec of one of
 * its modules, the hash of a decoded weight, and a sink that keeps what store puts. Header only:
 * every test program is linked alone.
 */
#ifndef OFTD_TESTS_BACKENDS_FIXTURE_H
#define OFTD_TESTS_BACKENDS_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "core/backend.h"
#include "core/digest.h"
#include "core/files/safetensors.h"
#include "core/json.h"
#include "tests/check_main.h"

struct fixture {
    struct safetensors *file, *expected_file; /* expected_file may be NULL */
    json_t *config, *expected;                /* of the folder; config may be NULL */
};

static inline char *fixture_path(char *buf, size_t size, const char *dir, const char *name)
{
    // the golden cases are ours: they are where the tests are, whatever OFTD_VECTORS says
    const char *root = strcmp(dir, "formats") ? test_vectors() : "tests/vectors";
    snprintf(buf, size, "%s/%s/%s", root, dir, name);
    return buf;
}

/* Is this fixture here? The repository's own vectors hold some of them, OFTD_VECTORS may name all.
 */
static inline bool fixture_exists(const char *dir)
{
    char path[512];
    FILE *f = fopen(fixture_path(path, sizeof path, dir, "expected.json"), "r");
    if (f)
        fclose(f);
    return f != NULL;
}

/* tests/vectors/<dir>/<model>.safetensors and the JSON beside it. */
static inline struct fixture fixture_open(const char *dir, const char *model, const char *expected)
{
    struct fixture f = {0};
    char path[512];
    struct error err = ERROR_INIT;
    enum status st = safetensors_open(fixture_path(path, sizeof path, dir, model), &f.file, &err);
    ck_assert_msg(!st, "%s", err.text);
    st = json_read(fixture_path(path, sizeof path, dir, expected), 1 << 22, &f.expected, &err);
    ck_assert_msg(!st, "%s", err.text);
    if (json_read(fixture_path(path, sizeof path, dir, "config.json"), 1 << 22, &f.config, NULL))
        f.config = NULL;
    if (safetensors_open(fixture_path(path, sizeof path, dir, "expected.safetensors"),
                         &f.expected_file, NULL))
        f.expected_file = NULL;
    return f;
}

static inline void fixture_close(struct fixture *f)
{
    safetensors_close(f->file);
    safetensors_close(f->expected_file);
    json_decref(f->config);
    json_decref(f->expected);
}

/* The spec of a module with its tensors; shapes are the caller's. */
static inline struct module_spec fixture_spec(const struct fixture *f, const char *module,
                                              int64_t n, int64_t k, const json_t *quant)
{
    struct module_spec spec = {.name = module, .file = module, .n = n, .k = k, .quant = quant};
    size_t count, prefix = strlen(module);
    const struct tensor *t = safetensors_tensors(f->file, &count);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(t[i].name, module, prefix) != 0 || t[i].name[prefix] != '.')
            continue;
        if (!spec.n_tensors)
            spec.tensors = &t[i];
        spec.n_tensors++;
    }
    return spec;
}

/* The whole module, which the back end must claim. */
static inline struct weight fixture_load(const struct backend *backend,
                                         const struct module_spec *spec)
{
    struct findings findings = {0};
    struct error err = ERROR_INIT;
    struct weight w;
    enum claim claim = backend->claim(spec, &findings);
    ck_assert_msg(claim == CLAIM_CLAIMED, "%s: %s", spec->name,
                  findings.n ? findings.v[0].message : "declined");
    enum status st = backend->load(spec, (struct slice){0}, &w, &err);
    ck_assert_msg(!st, "%s: %s", spec->name, err.text);
    return w;
}

/* w in natural column order, [n, k]; malloc'ed. */
static inline float *fixture_decode(const struct weight *w)
{
    float *out = malloc((size_t)(w->n * w->k) * sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (int64_t r = 0; r < w->n; r++)
        for (int64_t k = 0; k < w->k; k++)
            out[r * w->k + (w->perm ? w->perm[k] : k)] = weight_element(w, r, k) + 0.0f;
    return out;
}

static inline void fixture_hex(const void *data, size_t size, char out[2 * DIGEST_SIZE + 1])
{
    uint8_t digest[DIGEST_SIZE];
    digest_bytes(data, size, digest);
    for (int i = 0; i < DIGEST_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* SHA-256 of the decoded f32 values. */
static inline void fixture_hash(const struct weight *w, char out[2 * DIGEST_SIZE + 1])
{
    float *values = fixture_decode(w);
    fixture_hex(values, (size_t)(w->n * w->k) * sizeof *values, out);
    free(values);
}

/* Loads every corner of a module as slices (`rows`, `cols` apart) and compares with the whole. */
static inline void fixture_glue(const struct backend *b, const struct module_spec *spec,
                                int64_t rows, int64_t cols)
{
    struct error err = ERROR_INIT;
    struct weight whole, part;
    ck_assert_int_eq(b->load(spec, (struct slice){0}, &whole, &err), ST_OK);
    float *all = fixture_decode(&whole);
    for (int64_t r = 0; r < spec->n; r += rows)
        for (int64_t c = 0; c < spec->k; c += cols) {
            struct slice s = {.row = r, .rows = rows, .col = c, .cols = cols};
            s.rows = s.rows < spec->n - r ? s.rows : spec->n - r;
            s.cols = s.cols < spec->k - c ? s.cols : spec->k - c;
            enum status st = b->load(spec, s, &part, &err);
            ck_assert_msg(!st, "%s", err.text);
            ck_assert_int_eq(part.n, s.rows);
            ck_assert_int_eq(part.k, s.cols);
            float *some = fixture_decode(&part);
            for (int64_t i = 0; i < s.rows; i++)
                ck_assert_mem_eq(some + i * s.cols, all + (r + i) * spec->k + c,
                                 (size_t)s.cols * sizeof *some);
            free(some);
            weight_clear(&part);
        }
    free(all);
    weight_clear(&whole);
}

#define STORED_MAX 24
struct stored {
    struct tensor_sink sink; /* first: put casts back */
    size_t n;
    struct stored_tensor {
        char suffix[64];
        enum dtype dtype;
        int rank;
        int64_t shape[TENSOR_MAX_RANK];
        size_t bytes;
        void *data;
    } t[STORED_MAX];
};

static inline enum status stored_put(struct tensor_sink *self, const char *suffix, enum dtype dtype,
                                     int rank, const int64_t *shape, const void *data,
                                     struct error *err)
{
    struct stored *s = (struct stored *)self;
    struct stored_tensor *t = &s->t[s->n];
    int64_t elements;
    (void)err;
    ck_assert_uint_lt(s->n, STORED_MAX);
    ck_assert(size_product(shape, rank, &elements));
    snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
    t->dtype = dtype;
    t->rank = rank;
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->bytes = (size_t)elements * dtype_size(dtype);
    t->data = malloc(t->bytes);
    if (!t->data)
        return ST_OUT_OF_MEMORY;
    memcpy(t->data, data, t->bytes);
    s->n++;
    return ST_OK;
}

static inline void stored_clear(struct stored *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->t[i].data);
    s->n = 0;
}

/* What store puts is the module's own tensors (the bias aside), byte for byte. */
static inline void fixture_stored_is(const struct backend *b, const struct weight *w,
                                     const struct module_spec *spec)
{
    struct error err = ERROR_INIT;
    struct stored s = {.sink = {.put = stored_put}};
    enum status st = b->store(w, &s.sink, &err);
    ck_assert_msg(!st, "%s", err.text);
    size_t own = spec->n_tensors - (spec_tensor(spec, "bias") != NULL);
    ck_assert_uint_eq(s.n, own);
    for (size_t i = 0; i < s.n; i++) {
        const struct tensor *t = spec_tensor(spec, s.t[i].suffix);
        ck_assert_msg(t != NULL, "%s is not of the file", s.t[i].suffix);
        ck_assert_msg(t->dtype == s.t[i].dtype && tensor_shape_is(t, s.t[i].rank, s.t[i].shape),
                      "%s has another dtype or shape", t->name);
        ck_assert_msg(!memcmp(t->data, s.t[i].data, t->bytes), "%s: %s differs", spec->name,
                      t->name);
    }
    stored_clear(&s);
}

/* The first finding of this code; a failure if there is none. */
static inline const struct finding *fixture_finding(const struct findings *f, enum status code)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].code == code)
            return &f->v[i];
    ck_abort_msg("no finding %s (%zu others, first: %s)", status_code(code), f->n,
                 f->n ? f->v[0].message : "none");
    return NULL;
}

/* A damaged module: its claim fails with a finding of this code that names it and has `word`, and
 * it does not load. */
static inline void fixture_refused(const struct backend *b, const struct module_spec *spec,
                                   enum status code, const char *word)
{
    struct findings findings = {0};
    struct error err = ERROR_INIT;
    struct weight w;
    ck_assert_int_eq(b->claim(spec, &findings), CLAIM_FAILED);
    const struct finding *f = fixture_finding(&findings, code);
    ck_assert_msg(strstr(f->message, word) != NULL, "%s", f->message);
    ck_assert_str_eq(f->module, spec->name);
    findings_clear(&findings);
    ck_assert_int_ne(b->load(spec, (struct slice){0}, &w, &err), ST_OK);
    ck_assert_ptr_null(w.data);
    error_clear(&err);
}

/* A module that looks right, so that it is claimed; what is in it makes it fail, in words that have
 * `word`. */
static inline void fixture_load_fails(const struct backend *b, const struct module_spec *spec,
                                      enum status code, const char *word)
{
    struct findings findings = {0};
    struct error err = ERROR_INIT;
    struct weight w;
    ck_assert_int_eq(b->claim(spec, &findings), CLAIM_CLAIMED);
    findings_clear(&findings);
    ck_assert_int_eq(b->load(spec, (struct slice){0}, &w, &err), code);
    ck_assert_msg(strstr(err.text, word) != NULL, "%s", err.text);
    ck_assert_ptr_null(w.data);
    error_clear(&err);
}

/* The golden cases of formats/<name>.json: the bits of the whole, and slices through groups, and
 * through words every `cols` columns. check (may be NULL) sees each case as it was loaded. */
static inline void fixture_cases(const struct backend *b, const char *name, int64_t cols,
                                 void (*check)(const struct weight *w, const json_t *c))
{
    char model[64], expected[64], hex[2 * DIGEST_SIZE + 1];
    snprintf(model, sizeof model, "%s.safetensors", name);
    snprintf(expected, sizeof expected, "%s.json", name);
    struct fixture f = fixture_open("formats", model, expected);
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(f.expected, "cases"), i, c)
    {
        const char *module = json_string_value(json_object_get(c, "name"));
        struct module_spec spec =
            fixture_spec(&f, module, json_integer_value(json_object_get(c, "n")),
                         json_integer_value(json_object_get(c, "k")), json_object_get(c, "config"));
        struct weight w = fixture_load(b, &spec);
        fixture_hash(&w, hex);
        ck_assert_msg(!strcmp(hex, json_string_value(json_object_get(c, "sha256"))), "%s", module);
        if (check)
            check(&w, c);
        fixture_glue(b, &spec, 7, w.k);
        fixture_glue(b, &spec, w.n, w.group < w.k ? w.group : w.k);
        fixture_glue(b, &spec, 17, cols);
        weight_clear(&w);
    }
    fixture_close(&f);
}

#endif
