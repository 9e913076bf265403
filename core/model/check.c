/*
 * Owns the comparison of a checkpoint with the network that its config describes: layers, sizes,
 * norms, biases and what is left over. Everything is looked at before anything is loaded, so that
 * one look tells all that is wrong. How a module's own tensors must look is the back ends'.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/build.h"

/* The highest layer number in the file plus one. */
static int32_t file_layers(const struct checkpoint *cp, const char *prefix)
{
    size_t n, skip = strlen(prefix) + 1;
    const struct tensor *t = checkpoint_below(cp, prefix, &n);
    int32_t most = 0;
    for (size_t i = 0; t && i < n; i++) {
        int32_t layer = 0;
        const char *p = t[i].name + skip;
        for (; *p >= '0' && *p <= '9' && layer < 1000000; p++)
            layer = 10 * layer + (*p - '0');
        if (*p == '.' && layer + 1 > most)
            most = layer + 1;
    }
    return most;
}

void check_layers(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    char prefix[FAMILY_NAME_MAX], expected[32], got[32];
    names_norm(m, m->config->family->layers, -1, prefix, sizeof prefix);
    int32_t want = m->config->base_layers, have = file_layers(cp, prefix);
    const char *key = FAMILY_KEY(m->config->family, layers, "num_hidden_layers");
    snprintf(expected, sizeof expected, "%d", (int)have);
    snprintf(got, sizeof got, "%d", (int)want);
    if (have == 0)
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, NULL, prefix, NULL, NULL,
                     "%s: there is no tensor below %s", cp->dir, prefix);
    else if (have != want)
        findings_add(findings, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, NULL, key, expected, got,
                     "config.json: %s is %s, but the checkpoint has the tensors of %s layers", key,
                     got, expected);
}

/* One finding a key, however many modules it makes wrong. */
static void refuse_size(const struct tensor *t, const char *key, int64_t have, int64_t want,
                        struct findings *findings)
{
    char expected[32], got[32];
    for (size_t i = 0; i < findings->n; i++)
        if (findings->v[i].field && !strcmp(findings->v[i].field, key))
            return;
    snprintf(expected, sizeof expected, "%lld", (long long)have);
    snprintf(got, sizeof got, "%lld", (long long)want);
    findings_add(findings, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, NULL, key, expected, got,
                 "config.json: %s is %s, but tensor %s makes it %s", key, got, t->name, expected);
}

/* Sizes against the tensors that show them openly: plain matrices. */
void check_sizes(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    for (size_t i = 0; i < m->n_modules; i++) {
        const struct module *u = &m->modules[i];
        enum role role = m->config->rows[i]->role;
        const struct tensor *t = build_tensor(cp, u->file, "weight");
        if (!t || t->rank != 2 || !dtype_is_float(t->dtype) || u->base != (int32_t)i ||
            (u->kind != MODULE_LINEAR && u->kind != MODULE_EMBEDDING))
            continue;
        // A packed matrix may be of a float dtype too; what is beside it tells.
        size_t n;
        checkpoint_below(cp, u->file, &n);
        if (n > 1 + (build_tensor(cp, u->file, "bias") != NULL))
            continue;
        if (t->shape[0] != u->n)
            refuse_size(t, hfconfig_shape_key(m->config, role, 0), t->shape[0], u->n, findings);
        if (t->shape[1] != u->k)
            refuse_size(t, hfconfig_shape_key(m->config, role, 1), t->shape[1], u->k, findings);
    }
}

void check_vector(const struct checkpoint *cp, const char *module, const char *suffix, int64_t n,
                  struct findings *findings)
{
    const struct tensor *t = build_tensor(cp, module, suffix);
    char expected[48], got[128];
    snprintf(expected, sizeof expected, "[%lld]", (long long)n);
    if (!t) {
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, module, suffix, expected, NULL,
                     "%s: tensor %s.%s is missing", cp->dir, module, suffix);
        return;
    }
    if (!dtype_is_float(t->dtype))
        findings_add(findings, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, module, suffix,
                     "F32, F16 or BF16", dtype_name(t->dtype),
                     "%s: tensor %s is %s; expected F32, F16 or BF16", t->file, t->name,
                     dtype_name(t->dtype));
    if (!tensor_shape_is(t, 1, &n)) {
        tensor_shape_text(t, got, sizeof got);
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, module, suffix, expected,
                     got, "%s: tensor %s has shape %s; expected %s", t->file, t->name, got,
                     expected);
    }
}

static void check_norm(const struct checkpoint *cp, const char *name, const char *suffix,
                       int64_t dim, struct findings *findings)
{
    const struct tensor *t = build_norm(cp, name, suffix);
    check_vector(cp, name, t ? t->name + strlen(name) + 1 : suffix, dim, findings);
}

void check_norms(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    const struct model_config *c = m->config;
    char name[FAMILY_NAME_MAX];
    for (const struct family_norm *f = c->family->norms; f->name; f++)
        for (int32_t l = 0; l < (family_per_layer(f->name) ? c->base_layers : 1); l++) {
            if (!build_holds(m, f->when, l))
                break;
            names_norm(m, f->name, l, name, sizeof name);
            int64_t dim = build_norm_dim(m, f->role);
            check_norm(cp, name, "weight", dim, findings);
            if (c->family->norm == NORM_LAYER)
                check_norm(cp, name, "bias", dim, findings);
        }
}

const struct tensor *build_norm(const struct checkpoint *cp, const char *norm, const char *suffix)
{
    const struct tensor *t = build_tensor(cp, norm, suffix);
    return t ? t : build_tensor(cp, norm, !strcmp(suffix, "weight") ? "gamma" : "beta");
}

/* Some GPTQ writers give every module a bias of zeros. */
static bool all_zero(const struct tensor *t)
{
    const unsigned char *p = t->data;
    for (size_t i = 0; i < t->bytes; i++)
        if (p[i])
            return false;
    return true;
}

void check_biases(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    for (size_t i = 0; i < m->n_modules; i++) {
        const struct module *u = &m->modules[i];
        if (u->base != (int32_t)i)
            continue;
        const struct tensor *t = build_tensor(cp, u->file, "bias");
        if (build_wants_bias(m, i))
            check_vector(cp, u->file, "bias", u->n, findings);
        else if (t && !all_zero(t))
            findings_add(findings, SEVERITY_ERROR, ST_TENSOR_UNEXPECTED, u->name, "bias", NULL,
                         NULL, "%s: tensor %s: the config says that %s has no bias", t->file,
                         t->name, u->name);
    }
}

/* ---- leftovers ---- */

static void mark(const struct checkpoint *cp, const char *prefix, bool *seen)
{
    size_t n;
    const struct tensor *t = checkpoint_below(cp, prefix, &n);
    if (t)
        memset(seen + (t - cp->tensors), true, n * sizeof *seen);
}

static void mark_module(const struct model *m, const struct checkpoint *cp,
                        const struct family_module *row, bool *seen)
{
    char name[FAMILY_NAME_MAX];
    // Also layers that the expanded network leaves out.
    int32_t layers = family_per_layer(row->name) ? m->config->base_layers : 1;
    for (int32_t l = 0; l < layers; l++) {
        int32_t most = family_per_expert(row->name) ? build_repeats(m, l) : 1;
        for (int32_t e = 0; e < most && build_holds(m, row->when, l); e++)
            mark(cp, names_file(m, cp, row, l, e, name, sizeof name), seen);
    }
}

static void mark_norm(const struct model *m, const struct checkpoint *cp, const char *pattern,
                      bool *seen)
{
    static const char *const suffixes[] = {"weight", "bias"};
    char name[FAMILY_NAME_MAX];
    size_t n = m->config->family->norm == NORM_LAYER ? 2 : 1;
    for (int32_t l = 0; l < (family_per_layer(pattern) ? m->config->base_layers : 1); l++)
        for (size_t i = 0; i < n; i++) {
            names_norm(m, pattern, l, name, sizeof name);
            const struct tensor *t = build_norm(cp, name, suffixes[i]);
            if (t)
                seen[t - cp->tensors] = true;
        }
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), e = strlen(end);
    return n >= e && !strcmp(name + n - e, end) && (n == e || name[n - e - 1] == '.');
}

static bool ignored(const struct family *f, const char *name)
{
    for (const char *const *end = f->ignored; *end; end++)
        if (ends_with(name, *end))
            return true;
    return false;
}

/* A tied head that is stored all the same: fine while it is the embedding, byte for byte. */
static bool repeats_embedding(const struct model *m, const struct checkpoint *cp,
                              const struct tensor *t)
{
    if (!m->tied)
        return false;
    const struct family_module *row = m->config->rows[m->config->head];
    char head[FAMILY_NAME_MAX];
    names_file(m, cp, row, -1, -1, head, sizeof head);
    const struct tensor *e = build_tensor(cp, m->modules[m->config->embedding].file, "weight");
    size_t n = strlen(head);
    return m->tied && e && !strncmp(t->name, head, n) && !strcmp(t->name + n, ".weight") &&
           t->dtype == e->dtype && t->bytes == e->bytes &&
           (t->data == e->data || !memcmp(t->data, e->data, t->bytes));
}

enum status check_leftovers(const struct model *m, const struct checkpoint *cp,
                            struct findings *findings)
{
    const struct family *f = m->config->family;
    bool *seen = calloc(cp->n_tensors ? cp->n_tensors : 1, sizeof *seen);
    if (!seen)
        return ST_OUT_OF_MEMORY;
    for (const struct family_module *row = f->modules; row->name; row++)
        if (row->role != ROLE_HEAD || !m->tied)
            mark_module(m, cp, row, seen);
    for (const struct family_norm *norm = f->norms; norm->name; norm++)
        if (build_holds(m, norm->when, -1))
            mark_norm(m, cp, norm->name, seen);
    convnet_mark(m, cp, seen);
    patches_mark(m, cp, seen);
    for (size_t i = 0; i < cp->n_tensors; i++) {
        const struct tensor *t = &cp->tensors[i];
        if (seen[i] || ignored(f, t->name) || repeats_embedding(m, cp, t))
            continue;
        bool head = m->tied && !strncmp(t->name, m->modules[m->config->head].name,
                                        strlen(m->modules[m->config->head].name));
        if (!head && ends_with(t->name, "scales"))
            findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, NULL, t->name, NULL,
                         NULL,
                         "%s: tensor %s belongs to no module of a %s network: activations that AWQ "
                         "scales are not supported",
                         t->file, t->name, f->model_type);
        else
            findings_add(findings, SEVERITY_ERROR, ST_TENSOR_UNEXPECTED, NULL, t->name, NULL, NULL,
                         head ? "%s: tensor %s: tie_word_embeddings is true, but this is not the "
                                "embedding"
                              : "%s: tensor %s belongs to no module of a %s network",
                         t->file, t->name, f->model_type);
    }
    free(seen);
    return ST_OK;
}
