/*
 * Owns the life of one generation: files -> checks -> packed vectors (copied out of the file, so
 * that its other bytes can go; a file that has no others is kept) -> the rotation of every block
 * -> an immutable value. A derived generation (of another strength, or for the other mode) has its
 * own rotations and shares the packed vectors with the one it came from.
 *
 *     adapter -> data -> packed (refcounted): one tensor view a module into one allocation, biases,
 *                                             a classification head
 *                     -> rotations:           one struct rotation a module into one allocation
 *                     -> wide:                R of a module whose D no F16 holds, each its own
 *
 * For exact mode a rotation is R, for fast mode D = R - I in bytes or, where they would lose too
 * much, in halves (rotation_near). Which entries D has is only known when it is made; one that is
 * beyond F16, which only a diverging series makes, leaves its module R.
 *
 * What steps read is placed where they compute (core/place.h): the biases and the head once, with
 * the packed vectors, the rotations with each generation.
 */
#include "core/adapters/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/adapters/ledger.h"
#include "core/adapters/rotation.h"
#include "core/adapters/source.h"
#include "core/memory.h"
#include "core/place.h"
#include "core/turns.h"

#define DEFECT_HIGH 0.1
/* Of a file's bytes at most one in so many may be no vector's for the file to be kept. */
#define LITTLE_ELSE 64

/* The packed vectors of an adapter, as its file had them. */
struct packed {
    atomic_int refs;
    size_t n_modules;
    struct tensor *vectors; /* [n_modules]; data NULL: the module is untouched */
    int32_t *blocks;        /* [n_modules] block sizes */
    enum dtype *near;       /* [n_modules] form of D; I8 is one for every strength */
    const float **biases;   /* [n_modules] */
    void *memory, *bias_memory;
    size_t memory_size;
    struct rotation_rule rule;
    bool shared; /* one block for all positions */
    struct head head;
    struct place place;
    const float *const *placed_biases; /* those of steps, as the head; on a CPU the same */
    struct classifier placed_head;
    size_t bytes;          /* of vectors, biases and head, as allocated */
    struct ledger *ledger; /* counts them, and the rotations made of them; by reference */
};

struct adapter_data {
    struct packed *packed;
    struct rotation *rotations;       /* [n_modules] */
    const struct rotation **pointers; /* [n_modules] */
    void *memory;                     /* of all R or D */
    size_t memory_size;
    float **wide; /* [n_modules]; NULL: of none */
    struct place place;
    struct rotation *placed; /* [n_modules], then as many pointers; NULL: steps read the others */
};

static size_t align64(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* ---- packed vectors ---- */

static void packed_unref(struct packed *p)
{
    if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    free(p->vectors);
    free(p->blocks);
    free(p->near);
    free(p->biases);
    place_close(&p->place);
    if (p->placed_biases != p->biases)
        free((void *)p->placed_biases);
    ledger_leave(p->ledger, p->memory, p->memory_size);
    memory_free(p->bias_memory);
    head_clear(&p->head);
    ledger_sub(p->ledger, p->bytes);
    ledger_unref(p->ledger);
    free(p);
}

static enum dtype rotation_form(const struct packed *p, size_t i, enum compute mode)
{
    return mode == COMPUTE_FAST ? p->near[i] : DT_F32;
}

static size_t rotation_size(const struct packed *p, size_t i, enum dtype form)
{
    return align64((size_t)p->vectors[i].shape[0] * rotation_block_bytes(form, p->blocks[i]));
}

/* Bytes of all rotations for `mode`. */
static size_t rotations_size(const struct packed *p, enum compute mode)
{
    size_t bytes = 0;
    for (size_t i = 0; i < p->n_modules; i++)
        if (p->vectors[i].data)
            bytes += rotation_size(p, i, rotation_form(p, i, mode));
    return bytes;
}

/* Bytes of the vectors and of the biases. */
static void measure(const struct source *src, size_t n_modules, size_t *vectors, size_t *biases)
{
    *vectors = *biases = 0;
    for (size_t i = 0; i < n_modules; i++) {
        const struct source_module *s = &src->modules[i];
        if (s->rotation)
            *vectors += align64(s->rotation->bytes);
        if (s->bias)
            *biases += align64((size_t)s->bias->shape[0] * sizeof(float));
    }
}

/* *at NULL: the vectors stay where they are. */
static void take_module(const struct kernels *k, struct packed *p, size_t i,
                        const struct source_module *s, char **at, float **bias_at)
{
    if (s->rotation) {
        p->vectors[i] = *s->rotation;
        p->vectors[i].name = p->vectors[i].file = NULL;
        p->blocks[i] = s->block;
        if (*at) {
            p->vectors[i].data = memcpy(*at, s->rotation->data, s->rotation->bytes);
            *at += align64(s->rotation->bytes);
        }
        p->near[i] = rotation_near(k, &p->rule, &p->vectors[i], s->block);
    }
    if (s->bias) {
        float *to = *bias_at;
        tensor_to_f32(s->bias, 0, s->bias->shape[0], to);
        p->biases[i] = to;
        *bias_at += align64((size_t)s->bias->shape[0] * sizeof *to) / sizeof *to;
    }
}

/* Biases ([bytes] in all) and head where steps compute; false: no memory. */
static bool place_packed(struct packed *p, const struct model *m, size_t bytes)
{
    p->place.kernels = m->place.kernels;
    p->placed_biases = p->biases;
    p->placed_head = p->head.classifier;
    if (!place_apart(&p->place))
        return true;
    const float **to = calloc(p->n_modules + 1, sizeof *to), *from = p->bias_memory;
    const float *copy = place_copy(&p->place, from, bytes);
    p->placed_biases = to;
    if (!to || (from && !copy))
        return false;
    for (size_t i = 0; i < p->n_modules; i++)
        to[i] = p->biases[i] ? copy + (p->biases[i] - from) : NULL;
    return head_place(&p->head, &p->place, &p->placed_head);
}

/* Files that hold little else than vectors are kept as they are (package_take). */
static struct packed *packed_new(const struct source *src, const struct model *m,
                                 const struct kernels *k, const struct adapter_options *options,
                                 struct package *files)
{
    size_t vectors, biases, n_modules = m->n_modules;
    measure(src, n_modules, &vectors, &biases);
    bool keep = package_size(files) - package_size(files) / LITTLE_ELSE <= vectors;
    if (keep)
        vectors = package_size(files);
    struct packed *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    atomic_init(&p->refs, 1);
    p->n_modules = n_modules;
    p->bytes = vectors + 64 + biases + head_bytes(&src->head); // blocks of 1 have no vectors at all
    p->ledger = ledger_ref(options->ledger);
    ledger_add(p->ledger, p->bytes);
    p->vectors = calloc(n_modules + 1, sizeof *p->vectors);
    p->blocks = calloc(n_modules + 1, sizeof *p->blocks);
    p->near = calloc(n_modules + 1, sizeof *p->near);
    p->biases = calloc(n_modules + 1, sizeof *p->biases);
    p->memory_size = vectors + 64;
    p->memory =
        keep ? package_take(files, &p->memory_size) : ledger_take(p->ledger, p->memory_size);
    p->bias_memory = biases ? memory_alloc(biases) : NULL;
    if (!p->vectors || !p->blocks || !p->near || !p->biases || !p->memory ||
        (biases && !p->bias_memory) || head_load(&src->head, m, &p->head, NULL)) {
        packed_unref(p);
        return NULL;
    }
    const struct oftconfig *c = &src->config;
    p->rule = (struct rotation_rule){.neumann = c->neumann,
                                     .terms = c->terms,
                                     .old = c->old_series && !options->neumann_peft,
                                     .coft = c->coft,
                                     .eps = c->eps,
                                     .strength = 1};
    p->shared = c->block_share;
    char *at = keep ? NULL : p->memory;
    float *bias_at = p->bias_memory;
    for (size_t i = 0; i < n_modules; i++) {
        turns_pause();
        take_module(k, p, i, &src->modules[i], &at, &bias_at);
    }
    if (!place_packed(p, m, biases)) {
        packed_unref(p);
        return NULL;
    }
    return p;
}

/* ---- a generation ---- */

bool adapter_biases_collide(struct adapter *const *v, size_t n, const struct adapter **first,
                            const struct adapter **second)
{
    *first = *second = NULL;
    for (size_t i = 0; i < n && !*second; i++)
        if (v[i]->has_bias)
            *(*first ? second : first) = v[i];
    return *second != NULL;
}

bool adapter_heads_collide(struct adapter *const *v, size_t n, const struct adapter **first,
                           const struct adapter **second)
{
    *first = *second = NULL;
    for (size_t i = 0; i < n && !*second; i++)
        if (v[i]->adapted.classifier)
            *(*first ? second : first) = v[i];
    return *second != NULL;
}

struct adapter *adapter_ref(struct adapter *a)
{
    if (a)
        atomic_fetch_add(&a->refs, 1);
    return a;
}

/* The rotations as the loader made them. */
static void free_rotations(struct adapter_data *d)
{
    ledger_leave(d->packed->ledger, d->memory, d->memory_size);
    d->memory = NULL;
    for (size_t i = 0; d->wide && i < d->packed->n_modules; i++)
        memory_free(d->wide[i]);
    free(d->wide);
    d->wide = NULL;
}

void adapter_unref(struct adapter *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    if (a->data) {
        free_rotations(a->data);
        ledger_sub(a->data->packed->ledger, a->rotation_bytes);
        packed_unref(a->data->packed);
        free(a->data->rotations);
        free(a->data->pointers);
        place_close(&a->data->place);
        free(a->data->placed);
        free(a->data);
    }
    free(a->name);
    free(a->path);
    free(a->block_sizes);
    findings_clear(&a->warnings);
    free(a);
}

/* Digest and strength: what results may be cached by. */
static void set_identity(struct adapter *a)
{
    uint8_t text[DIGEST_SIZE + 4];
    memcpy(text, a->digest, DIGEST_SIZE);
    for (int i = 0; i < 4; i++)
        text[DIGEST_SIZE + i] = (uint8_t)((uint32_t)a->strength >> 8 * i);
    digest_bytes(text, sizeof text, a->identity);
    digest_text(a->digest, a->digest_text);
}

static int compare_sizes(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The distinct block sizes, ascending, and the number of modules. */
static bool set_sizes(struct adapter *a, const struct packed *p)
{
    a->block_sizes = malloc((p->n_modules + 1) * sizeof *a->block_sizes);
    if (!a->block_sizes)
        return false;
    int32_t *v = a->block_sizes;
    for (size_t i = 0; i < p->n_modules; i++) {
        a->has_bias |= p->biases[i] != NULL;
        if (p->vectors[i].data)
            v[a->n_matched++] = p->blocks[i];
    }
    qsort(v, (size_t)a->n_matched, sizeof *v, compare_sizes);
    for (int32_t i = 0; i < a->n_matched; i++)
        if (!i || v[i] != v[a->n_block_sizes - 1])
            v[a->n_block_sizes++] = v[i];
    return true;
}

/* Everything but the numbers of R. p is borrowed; the new adapter holds its own reference. */
static struct adapter *adapter_new(const struct model *m, struct packed *p, const char *name,
                                   const char *path, const uint8_t digest[DIGEST_SIZE],
                                   int32_t strength, enum compute mode)
{
    struct adapter *a = calloc(1, sizeof *a);
    struct adapter_data *d = calloc(1, sizeof *d);
    if (!a || !d) {
        free(a);
        free(d);
        return NULL;
    }
    atomic_init(&a->refs, 1);
    atomic_init(&a->in_flight, 0);
    atomic_init(&a->last_used, 0);
    a->data = d;
    atomic_fetch_add(&p->refs, 1);
    d->packed = p;
    a->name = strdup(name);
    a->path = strdup(path);
    memcpy(a->digest, digest, DIGEST_SIZE);
    a->strength = strength;
    a->mode = mode;
    a->n_total = (int32_t)m->n_modules;
    a->neumann = p->rule.neumann;
    a->terms = p->rule.terms;
    set_identity(a);
    a->rotation_bytes = rotations_size(p, mode);
    ledger_add(p->ledger, a->rotation_bytes);
    d->rotations = calloc(p->n_modules + 1, sizeof *d->rotations);
    d->pointers = calloc(p->n_modules + 1, sizeof *d->pointers);
    d->memory_size = a->rotation_bytes + 64;
    d->memory = ledger_take(p->ledger, d->memory_size);
    if (!a->name || !a->path || !d->rotations || !d->pointers || !d->memory || !set_sizes(a, p)) {
        adapter_unref(a);
        return NULL;
    }
    bool headed = p->head.classifier.n_layers > 0;
    a->host = (struct adapted){d->pointers, a->has_bias ? p->biases : NULL,
                               headed ? &p->head.classifier : NULL};
    a->adapted = (struct adapted){d->pointers, a->has_bias ? p->placed_biases : NULL,
                                  headed ? &p->placed_head : NULL};
    return a;
}

/* Findings about the numbers of one module. */
static void judge(const struct model *m, size_t i, const char *path,
                  const struct rotation_stats *stats, bool permissive, struct findings *f)
{
    const char *name = m->modules[i].name;
    char got[96];
    if (stats->non_finite) {
        snprintf(got, sizeof got, "%" PRId64 " of %" PRId64 " blocks", stats->non_finite,
                 stats->rows);
        findings_add(f, SEVERITY_ERROR, ST_NON_FINITE_WEIGHTS, name, "oft_R", "finite numbers", got,
                     "%s: %s: %s hold NaN or Inf", path, name, got);
    }
    if (stats->divergent) {
        snprintf(got, sizeof got, "%.6g", stats->norm);
        findings_add(f, permissive ? SEVERITY_WARNING : SEVERITY_ERROR, ST_NEUMANN_DIVERGENT, name,
                     "oft_R", "a spectral norm below 1", got,
                     "%s: %s: the Neumann series diverges in %" PRId64 " of %" PRId64
                     " blocks, the largest spectral norm is %s",
                     path, name, stats->divergent, stats->rows, got);
    }
    if (stats->projected)
        findings_add(f, SEVERITY_WARNING, ST_COFT_OUT_OF_BOUNDS, name, "eps", NULL, NULL,
                     "%s: %s: %" PRId64 " of %" PRId64
                     " blocks lay outside the COFT ball and were projected, as PEFT does",
                     path, name, stats->projected, stats->rows);
    if (!isfinite(stats->defect))
        findings_add(f, SEVERITY_ERROR, ST_NON_FINITE_WEIGHTS, name, "oft_R", "finite rotations",
                     "NaN or Inf", "%s: %s: its rotation is not finite", path, name);
    else if (stats->defect > DEFECT_HIGH) {
        snprintf(got, sizeof got, "%.6g", stats->defect);
        findings_add(f, SEVERITY_WARNING, ST_ORTHOGONALITY_DEFECT_HIGH, name, "oft_R",
                     "max |R^T R - I| up to 0.1", got,
                     "%s: %s: R is far from orthogonal: max |R^T R - I| is %s", path, name, got);
    }
}

/* The rotations, which are there, where steps compute; what is placed apart is not kept here, but
 * for R, which merges read. */
static enum status place_rotations(const struct model *m, struct adapter *a, struct error *err)
{
    struct adapter_data *d = a->data;
    size_t n = d->packed->n_modules;
    d->place.kernels = m->place.kernels;
    if (!place_apart(&d->place))
        return ST_OK;
    d->placed = calloc(n + 1, sizeof *d->placed + sizeof(struct rotation *));
    const char *copy = place_copy(&d->place, d->memory, d->memory_size);
    if (!d->placed || !copy)
        return error_memory(err, "placing an adapter");
    const struct rotation **to = (const struct rotation **)(d->placed + n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct rotation *r = d->pointers[i];
        if (!r)
            continue;
        d->placed[i] = *r;
        if (d->wide && d->wide[i])
            d->placed[i].data =
                (void *)place_copy(&d->place, r->data, rotation_size(d->packed, i, DT_F32));
        else
            d->placed[i].data = (char *)copy + ((char *)r->data - (char *)d->memory);
        if (!d->placed[i].data)
            return error_memory(err, "placing an adapter");
        to[i] = &d->placed[i];
    }
    a->adapted.rotation = to;
    if (a->mode == COMPUTE_EXACT)
        return ST_OK;
    for (size_t i = 0; i < n; i++)
        d->rotations[i].data = NULL;
    free_rotations(d);
    return ST_OK;
}

/* R of a module whose D there is not; what is to be known of it is known. */
static enum status build_wide(const struct kernels *k, const struct rotation_rule *rule,
                              struct adapter *a, size_t i, struct rotation *r, struct error *err)
{
    struct adapter_data *d = a->data;
    const struct tensor *v = &d->packed->vectors[i];
    size_t bytes = rotation_size(d->packed, i, DT_F32);
    struct rotation_stats known = {0};
    if (!d->wide)
        d->wide = calloc(d->packed->n_modules, sizeof *d->wide);
    if (!d->wide || !(d->wide[i] = memory_alloc(bytes)))
        return error_memory(err, "building rotations");
    ledger_add(d->packed->ledger, bytes);
    a->rotation_bytes += bytes;
    r->dtype = DT_F32;
    r->data = d->wide[i];
    return rotation_build(k, rule, v, r->block, DT_F32, r->data, &known, err);
}

/* Fills the rotations; f NULL: nobody wants to know. */
static enum status build(const struct model *m, const struct kernels *k, struct adapter *a,
                         bool permissive, struct findings *f, struct error *err)
{
    struct packed *p = a->data->packed;
    struct rotation_rule rule = p->rule;
    rule.strength = a->strength / 100.0;
    char *at = a->data->memory;
    for (size_t i = 0; i < p->n_modules; i++) {
        const struct tensor *v = &p->vectors[i];
        if (!v->data)
            continue;
        turns_pause();
        struct rotation *r = &a->data->rotations[i];
        struct rotation_stats stats = {0};
        *r = (struct rotation){.dim = m->modules[i].rotate_dim,
                               .block = p->blocks[i],
                               .blocks = (int32_t)(m->modules[i].rotate_dim / p->blocks[i]),
                               .shared = p->shared,
                               .dtype = rotation_form(p, i, a->mode),
                               .data = at};
        at += rotation_size(p, i, r->dtype);
        a->data->pointers[i] = r;
        enum status s = rotation_build(k, &rule, v, r->block, r->dtype, r->data, &stats, err);
        if (!s && stats.beyond)
            s = build_wide(k, &rule, a, i, r, err);
        if (s)
            return s;
        if (f)
            judge(m, i, a->path, &stats, permissive, f);
        a->orthogonality_defect = fmax(a->orthogonality_defect, stats.defect);
    }
    return place_rotations(m, a, err);
}

/* Which forward of a convolution is served is the daemon's choice (--conv2d). */
static void check_convolutions(const struct model *m, const struct packed *p, const char *path,
                               struct findings *f)
{
    for (size_t i = 0; i < p->n_modules && !m->conv2d_peft; i++)
        if (p->vectors[i].data && module_has_windows(&m->modules[i]))
            findings_add(
                f, SEVERITY_WARNING, ST_CONV2D_FORWARD_DIFFERS, m->modules[i].name, "oft_R", NULL,
                NULL,
                "%s: %s: patches are rotated as a merge does it; PEFT's unmerged forward differs "
                "(--conv2d peft)",
                path, m->modules[i].name);
}

static void check_biases(const struct model *m, const struct packed *p, const char *path,
                         struct findings *f)
{
    for (size_t i = 0; i < p->n_modules; i++)
        for (int64_t n = 0; p->biases[i] && n < m->modules[i].n; n++)
            if (!isfinite(p->biases[i][n])) {
                findings_add(f, SEVERITY_ERROR, ST_NON_FINITE_WEIGHTS, m->modules[i].name, "bias",
                             "finite numbers", "NaN or Inf", "%s: %s: its bias holds NaN or Inf",
                             path, m->modules[i].name);
                break;
            }
}

/* Does what the files need fit the bound? */
static void check_capacity(const struct packed *p, const char *path,
                           const struct adapter_options *options, struct findings *f)
{
    uint64_t max_bytes = options->max_bytes, need = p->bytes + rotations_size(p, options->mode);
    char expected[64], got[64];
    if (!max_bytes || need <= max_bytes)
        return;
    snprintf(expected, sizeof expected, "at most %" PRIu64 " bytes", max_bytes);
    snprintf(got, sizeof got, "%" PRIu64 " bytes", need);
    findings_add(f, SEVERITY_ERROR, ST_CAPACITY_EXCEEDED, NULL, NULL, expected, got,
                 "%s: its vectors and rotations need %" PRIu64 " bytes, the budget is %" PRIu64,
                 path, need, max_bytes);
}

/* Files to a generation. What is wrong with them goes to findings, and then *out is NULL; other
 * failures are returned. */
static enum status load(const struct model *m, const struct kernels *k, const char *dir,
                        const char *name, const struct adapter_options *options,
                        struct adapter **out, struct findings *findings, struct error *err)
{
    struct package files = {0};
    struct source src = {0};
    struct packed *packed = NULL;
    struct adapter *a = NULL;
    uint8_t digest[DIGEST_SIZE];
    *out = NULL;
    enum status s = package_read(dir, options->beneath, options->max_bytes, options->ledger, &files,
                                 findings, err);
    if (!s)
        s = source_check(&files, m, k, options->permissive, &src, findings, err);
    if (s || findings->errors)
        goto done;
    package_digest(&files, digest);
    packed = packed_new(&src, m, k, options, &files);
    source_clear(&src);
    package_clear(&files);
    turns_pause();
    if (packed)
        check_capacity(packed, dir, options, findings);
    if (findings->errors)
        goto done;
    if (packed)
        a = adapter_new(m, packed, name, dir, digest, 100, options->mode);
    if (!a) {
        s = error_memory(err, "loading an adapter");
        goto done;
    }
    a->packed_bytes = packed->bytes;
    ledger_expect(packed->ledger, packed->memory_size, a->data->memory_size);
    s = build(m, k, a, options->permissive, findings, err);
    if (s)
        goto done;
    check_biases(m, packed, dir, findings);
    check_convolutions(m, packed, dir, findings);
    if (!findings->errors) {
        *out = a;
        a = NULL;
    }
done:
    adapter_unref(a);
    packed_unref(packed);
    source_clear(&src);
    package_clear(&files);
    return s;
}

enum status adapter_load(const struct model *m, const struct kernels *kernels, const char *dir,
                         const char *name, const struct adapter_options *options,
                         struct adapter **out, struct error *err)
{
    struct findings findings = {0};
    enum status s = load(m, kernels, dir, name, options, out, &findings, err);
    if (s)
        findings_clear(&findings);
    else if (*out)
        (*out)->warnings = findings;
    else
        s = error_from_findings(err, &findings);
    return s;
}

enum status adapter_validate(const struct model *m, const struct kernels *kernels, const char *dir,
                             const struct adapter_options *options, struct findings *findings,
                             struct error *err)
{
    struct adapter *a = NULL;
    enum status s = load(m, kernels, dir, "", options, &a, findings, err);
    adapter_unref(a);
    return s;
}

enum status adapter_derive(const struct model *m, const struct kernels *kernels,
                           const struct adapter *from, int32_t strength, enum compute mode,
                           struct adapter **out, struct error *err)
{
    *out = NULL;
    struct adapter *a =
        adapter_new(m, from->data->packed, from->name, from->path, from->digest, strength, mode);
    if (!a)
        return error_memory(err, "deriving from an adapter");
    a->generation = from->generation;
    enum status s = build(m, kernels, a, true, NULL, err);
    if (s) {
        adapter_unref(a);
        return s;
    }
    *out = a;
    return ST_OK;
}

enum status adapter_digest(const char *dir, uint8_t out[DIGEST_SIZE], struct error *err)
{
    struct package files = {0};
    struct findings findings = {0};
    enum status s = package_read(dir, NULL, 0, NULL, &files, &findings, err);
    if (!s && !findings.errors)
        package_digest(&files, out);
    if (!s)
        s = error_from_findings(err, &findings);
    findings_clear(&findings);
    package_clear(&files);
    return s;
}
