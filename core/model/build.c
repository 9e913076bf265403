/*
 * Owns the making of a network: the list of modules in its fixed order (embedding; q, k, v, o,
 * gate, up, down of each layer; head), who stores what, who reads it, and the loading of its
 * vectors (load.c: weights).
 *
 * Layers may be replicated: the expanded network then has several layers with one base layer. Each
 * has modules of its own, because adapters name them one by one, but only the first of them owns a
 * weight; the others, and a tied head, point at the owner with `base`.
 */
#include "core/model/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/evidence.h"

#define EXPANDED_MAX (1 << 14)

/* ---- layers and modules ---- */

static enum status count_layers(struct model *m, const struct model_options *options,
                                struct error *err)
{
    struct model_config *c = m->config;
    int64_t layers = 0;
    if (!options->replication) {
        m->layers = c->base_layers;
        return ST_OK;
    }
    if (m->kind == MODEL_CONVNET)
        return error_set(err, ST_NOT_SUPPORTED,
                         "layer_replication: the stages of a '%s' network cannot be repeated",
                         m->model_type);
    for (size_t i = 0; i < options->n_replication; i++) {
        struct layer_range r = options->replication[i];
        if (r.first < 0 || r.end > c->base_layers || r.first >= r.end)
            return error_set(err, ST_INVALID_VALUE,
                             "layer_replication: [%d, %d] is no range of the base's %d layers",
                             (int)r.first, (int)r.end, (int)c->base_layers);
        layers += r.end - r.first;
        if (layers > EXPANDED_MAX)
            break;
    }
    if (layers < 1 || layers > EXPANDED_MAX)
        return error_set(err, ST_INVALID_VALUE,
                         "layer_replication: the network would have %s%lld layers; expected 1 to "
                         "%d",
                         layers > EXPANDED_MAX ? "at least " : "", (long long)layers, EXPANDED_MAX);
    m->layers = (int32_t)layers;
    m->n_replication = options->n_replication;
    m->replicated = true;
    m->replication = arena_copy(&c->arena, options->replication,
                                options->n_replication * sizeof *options->replication);
    return m->replication ? ST_OK : error_memory(err, "the network");
}

static enum status expand_layers(struct model *m)
{
    struct model_config *c = m->config;
    const struct layer_range all = {0, c->base_layers};
    const struct layer_range *r = m->replicated ? m->replication : &all;
    size_t n = m->replicated ? m->n_replication : 1;
    int32_t *first = arena_alloc(&c->arena, (size_t)c->base_layers * sizeof *first);
    int32_t at = 0;
    c->layers = arena_alloc(&c->arena, (size_t)m->layers * sizeof *c->layers);
    if (!first || !c->layers)
        return ST_OUT_OF_MEMORY;
    for (size_t i = 0; i < n; i++)
        for (int32_t base = r[i].first; base < r[i].end; base++, at++) {
            struct layer *l = &c->layers[at];
            if (first[base] == 0)
                first[base] = at + 1;
            *l = (struct layer){.base = base, .first = first[base] - 1, .window = c->windows[base]};
            l->rope = c->positions == POSITIONS_ROPE ? &c->rope[c->local[base]] : NULL;
            l->scale =
                c->scale_by_layer ? c->attention_scale / (float)(at + 1) : c->attention_scale;
            memset(l->module, -1, sizeof l->module);
        }
    return ST_OK;
}

static enum module_kind kind_of(const struct family_module *row)
{
    return row->role == ROLE_EMBEDDING || row->role == ROLE_POSITION || row->role == ROLE_TYPE
               ? MODULE_EMBEDDING
               : row->kind;
}

/* The config's own reference to a module of no layer; NULL: none is kept. */
static int32_t *reference(struct model_config *c, enum role role)
{
    switch (role) {
    case ROLE_EMBEDDING:
        return &c->embedding;
    case ROLE_POSITION:
        return &c->position;
    case ROLE_TYPE:
        return &c->type;
    case ROLE_POOLER:
        return &c->pooler;
    case ROLE_PROJECT_IN:
        return &c->project_in;
    case ROLE_PROJECT_OUT:
        return &c->project_out;
    case ROLE_HEAD:
        return &c->head;
    case ROLE_PATCH:
        return &c->patches;
    case ROLE_STEM:
        return &c->stem_module;
    case ROLE_CLASSIFIER:
        return &c->classifier;
    case ROLE_CLASSIFIER_DENSE:
        return &c->classifier_dense;
    default:
        return NULL;
    }
}

/* PEFT counts a window's inputs as a square's. */
static void set_shape(const struct model_config *c, enum role role, int32_t layer, int32_t expert,
                      struct module *u)
{
    struct conv2d *v = &u->conv;
    if (u->kind != MODULE_CONV2D) {
        hfconfig_shape(c, role, &u->n, &u->k);
        u->rotate_dim = u->k;
        return;
    }
    if (role == ROLE_PATCH) {
        *v = (struct conv2d){.channels = c->image.channels, .dilation = {1, 1}};
        memcpy(v->kernel, c->patch, sizeof v->kernel);
        memcpy(v->stride, c->patch, sizeof v->stride);
        u->n = c->hidden;
    } else {
        convnet_shape(c, role, layer, expert, v, &u->n);
    }
    u->k = (int64_t)v->channels * v->kernel[0] * v->kernel[1];
    u->rotate_dim = (int64_t)v->channels * v->kernel[0] * v->kernel[0];
}

/* Appends one module; layer and expert -1 for those of none. */
static enum status add_module(struct model *m, const struct checkpoint *cp,
                              const struct family_module *row, int32_t layer, int32_t expert)
{
    struct model_config *c = m->config;
    int32_t index = (int32_t)m->n_modules;
    struct module *u = &m->modules[m->n_modules];
    bool tied = row->role == ROLE_HEAD && c->tied;
    struct layer *l = layer < 0 ? NULL : &c->layers[layer];
    const char *alias = names_alias(m, row);
    char file[FAMILY_NAME_MAX];
    names_file(m, cp, row, l ? l->base : -1, expert, file, sizeof file);
    c->rows[m->n_modules] = row;
    *u = (struct module){
        .name = names_make(m, names_canonical(m, row->name), layer, expert),
        .alias = alias ? names_make(m, alias, layer, expert) : NULL,
        .file = arena_strdup(&c->arena, file),
        .kind = kind_of(row),
        .layer = layer,
        .base = index,
        .input_embedding = row->role == ROLE_EMBEDDING,
        .output_embedding = row->role == ROLE_HEAD,
        .expert = row->role >= ROLE_EXPERT_GATE && row->role <= ROLE_EXPERT_DOWN,
    };
    if (!u->name || !u->file || (alias && !u->alias))
        return ST_OUT_OF_MEMORY;
    set_shape(c, row->role, l ? l->base : -1, expert, u);
    if (l) {
        if (expert <= 0)
            l->module[row->role] = index;
        // copies of a layer have its modules in the same order
        u->base = index - l->module_0 + c->layers[l->first].module_0;
    } else if (reference(c, row->role)) {
        *reference(c, row->role) = index;
    }
    if (tied) {
        u->base = c->embedding;
        u->file = m->modules[c->embedding].file;
    }
    m->n_modules++;
    return ST_OK;
}

static const struct family_module *run_end(const struct family_module *row,
                                           bool (*same)(const char *pattern))
{
    while (row->name && same(row->name))
        row++;
    return row;
}

/* The modules of one layer: the rows [row, end), those of experts expert by expert. */
static enum status add_layer(struct model *m, const struct checkpoint *cp,
                             const struct family_module *row, const struct family_module *end,
                             int32_t layer)
{
    struct layer *l = &m->config->layers[layer];
    enum status s = ST_OK;
    l->module_0 = (int32_t)m->n_modules;
    while (row < end && s == ST_OK) {
        if (!build_holds(m, row->when, l->base)) {
            row++;
            continue;
        }
        if (!family_per_expert(row->name)) {
            s = add_module(m, cp, row++, layer, -1);
            continue;
        }
        const struct family_module *stop = run_end(row, family_per_expert);
        for (int32_t e = 0; e < build_repeats(m, l->base); e++)
            for (const struct family_module *r = row; r < stop && s == ST_OK; r++)
                if (build_holds(m, r->when, l->base))
                    s = add_module(m, cp, r, layer, e);
        row = stop;
    }
    return s;
}

static enum status list_modules(struct model *m, const struct checkpoint *cp)
{
    struct model_config *c = m->config;
    const struct family_module *rows = c->family->modules;
    size_t most = 0;
    enum status s = ST_OK;
    for (const struct family_module *row = rows; row->name; row++)
        for (int32_t l = 0; l < (family_per_layer(row->name) ? m->layers : 1); l++)
            most += family_per_expert(row->name) ? (size_t)build_repeats(m, c->layers[l].base) : 1;
    m->modules = arena_alloc(&c->arena, most * sizeof *m->modules);
    c->rows = arena_alloc(&c->arena, most * sizeof *c->rows);
    if (!m->modules || !c->rows)
        return ST_OUT_OF_MEMORY;
    c->position = c->type = c->project_in = c->project_out = c->pooler = c->head = -1;
    c->patches = c->stem_module = -1;
    c->classifier = c->classifier_dense = -1;
    for (const struct family_module *row = rows; row->name && s == ST_OK;) {
        if (!family_per_layer(row->name)) {
            if (build_holds(m, row->when, -1))
                s = add_module(m, cp, row, -1, -1);
            row++;
            continue;
        }
        const struct family_module *end = run_end(row, family_per_layer);
        for (int32_t l = 0; l < m->layers && s == ST_OK; l++)
            s = add_layer(m, cp, row, end, l);
        row = end;
    }
    return s ? s : names_sort(m);
}

/* ---- the chain ---- */

const struct tensor *build_tensor(const struct checkpoint *cp, const char *module,
                                  const char *suffix)
{
    char name[FAMILY_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s.%s", module, suffix);
    return checkpoint_find(cp, name);
}

bool build_wants_bias(const struct model *m, size_t i)
{
    return hfconfig_has_bias(m->config, m->config->rows[i]->bias);
}

/* Nobody knows it: says what is there. */
static void refuse_module(const struct module_spec *spec, const struct checkpoint *cp,
                          struct findings *findings)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < spec->n_tensors && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 spec->tensors[i].name + strlen(spec->file) + 1);
    if (spec->n_tensors == 0)
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, spec->name, "weight", NULL, NULL,
                     "%s: there is no tensor of module %s", cp->dir, spec->name);
    else
        findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, NULL, NULL, list,
                     "%s: no back end reads module %s, which has %s", cp->dir, spec->name, list);
}

/* The first back end of the chain that claims it; NULL with findings. */
static const struct backend *claim(const struct chain *chain, const struct module_spec *spec,
                                   const struct checkpoint *cp, struct findings *findings)
{
    for (const struct backend *const *b = chain->backends; *b; b++)
        switch ((*b)->claim(spec, findings)) {
        case CLAIM_CLAIMED:
            return *b;
        case CLAIM_FAILED:
            return NULL;
        case CLAIM_DECLINED:
            break;
        }
    refuse_module(spec, cp, findings);
    return NULL;
}

/* The chain's last row takes what no format wants. */
static bool is_last(const struct chain *chain, const struct backend *backend)
{
    const struct backend *const *b = chain->backends;
    while (*b && *b != backend)
        b++;
    return *b && !b[1];
}

/* false: out of memory. */
static bool claim_modules(struct model *m, const struct checkpoint *cp, const struct chain *chain,
                          struct findings *findings)
{
    bool whole = true;
    for (size_t i = 0; i < m->n_modules; i++) {
        struct module *u = &m->modules[i];
        struct module_spec spec;
        if (u->base != (int32_t)i) {
            u->backend = m->modules[u->base].backend;
            u->why = m->modules[u->base].why;
            continue;
        }
        model_spec(m, cp, (int32_t)i, &spec);
        u->backend = claim(chain, &spec, cp, findings);
        u->why = evidence_text(&spec, is_last(chain, u->backend), &m->config->arena);
        whole &= u->why != NULL;
    }
    return whole;
}

/* The condition of modules that a file may have or not. */
static void note_stored(struct model *m, const struct checkpoint *cp)
{
    char file[FAMILY_NAME_MAX];
    size_t n;
    if (m->config->family->classes_pooled && m->config->classifier_kind == CLASSIFIER_SEQUENCE)
        m->config->conditions |= 1u << WHEN_STORED; // its classifier reads the pooler
    for (const struct family_module *row = m->config->family->modules; row->name; row++)
        if (row->when == WHEN_STORED &&
            checkpoint_below(cp, names_file(m, cp, row, -1, -1, file, sizeof file), &n))
            m->config->conditions |= 1u << WHEN_STORED;
}

enum status build_network(struct model *m, const struct checkpoint *cp,
                          const struct model_options *options, const struct chain *chain,
                          struct findings *findings, struct error *err)
{
    enum status s = count_layers(m, options, err);
    if (s != ST_OK)
        return s;
    m->config->bare = names_bare(m, cp);
    m->config->old_layers = names_old_layers(m, cp);
    for (const struct backend *const *b = chain->backends; *b; b++)
        m->plain = *b;
    note_stored(m, cp);
    check_layers(m, cp, findings);
    if (findings->errors)
        return ST_OK;
    if (expand_layers(m) || list_modules(m, cp) || names_others(m))
        return error_memory(err, "the network");
    check_sizes(m, cp, findings);
    if (findings->errors) // every module below would say it again
        return ST_OK;
    if (!claim_modules(m, cp, chain, findings))
        return error_memory(err, "the network");
    check_norms(m, cp, findings);
    convnet_check(m, cp, findings);
    patches_check(m, cp, findings);
    check_biases(m, cp, findings);
    return check_leftovers(m, cp, findings) ? error_memory(err, "the network") : ST_OK;
}

/* ---- loading ---- */

/* A vector as f32 in the model's arena; NULL when memory runs out. */
static const float *load_vector(struct model *m, const struct tensor *t)
{
    size_t bytes = (size_t)t->shape[0] * sizeof(float);
    float *v = arena_alloc(&m->config->arena, bytes);
    if (v)
        tensor_to_f32(t, 0, t->shape[0], v);
    return place_copy(&m->place, v, bytes);
}

int64_t build_norm_dim(const struct model *m, enum norm_role role)
{
    return role == NORM_Q || role == NORM_K ? m->config->head_dim : m->config->hidden;
}

static bool load_norm(struct model *m, const struct checkpoint *cp, const struct family_norm *f,
                      int32_t layer, struct norm_args *to)
{
    const struct model_config *c = m->config;
    char name[FAMILY_NAME_MAX];
    names_norm(m, f->name, layer, name, sizeof name);
    *to = (struct norm_args){.kind = c->family->norm,
                             .eps = c->norm_eps,
                             .plus_one = c->family->norm_plus_one,
                             .dim = build_norm_dim(m, f->role)};
    to->weight = load_vector(m, build_norm(cp, name, "weight"));
    if (to->weight && to->kind == NORM_LAYER) {
        to->bias = load_vector(m, build_norm(cp, name, "bias"));
        return to->bias != NULL;
    }
    return to->weight != NULL;
}

static bool load_norms(struct model *m, const struct checkpoint *cp)
{
    struct model_config *c = m->config;
    for (const struct family_norm *f = c->family->norms; f->name; f++) {
        if (!build_holds(m, f->when, -1))
            continue;
        if (f->role >= LAYER_NORMS) {
            if (!load_norm(m, cp, f, -1,
                           f->role == NORM_FINAL ? &c->final_norm : &c->embedding_norm))
                return false;
            continue;
        }
        for (int32_t l = 0; l < m->layers; l++) {
            struct layer *layer = &c->layers[l];
            if (layer->first != l)
                layer->norm[f->role] = c->layers[layer->first].norm[f->role];
            else if (!load_norm(m, cp, f, layer->base, &layer->norm[f->role]))
                return false;
        }
    }
    return true;
}

static bool load_biases(struct model *m, const struct checkpoint *cp)
{
    for (size_t i = 0; i < m->n_modules; i++) {
        struct module *u = &m->modules[i];
        if (!build_wants_bias(m, i))
            continue;
        u->bias = u->base == (int32_t)i ? load_vector(m, build_tensor(cp, u->file, "bias"))
                                        : m->modules[u->base].bias;
        if (!u->bias)
            return false;
    }
    return true;
}

/* What is neither a vector of the file's nor a view's weight, where steps compute. */
static enum status place_rest(struct model *m, struct error *err)
{
    struct model_config *c = m->config;
    const float *slopes = place_copy(&m->place, c->alibi, (size_t)c->heads * sizeof *c->alibi);
    m->head8_placed = m->head8 ? place_weight(&m->place, m->head8) : NULL;
    bool whole = (slopes || !c->alibi) && (m->head8_placed || !m->head8);
    c->alibi = (float *)slopes;
    return whole ? ST_OK : error_memory(err, "the base");
}

enum status build_load(struct model *m, const struct checkpoint *cp,
                       const struct model_options *options, const struct chain *chain,
                       progress_report *progress, void *progress_ctx, uint64_t limit,
                       struct error *err)
{
    if (!load_norms(m, cp) || !load_biases(m, cp))
        return error_memory(err, "the base");
    enum status s = convnet_load(m, cp, err);
    if (s == ST_OK)
        s = patches_load(m, cp, err);
    if (s == ST_OK)
        s = load_weights(m, cp, options, progress, progress_ctx, limit, err);
    if (s == ST_OK && quantize_makes_head(m, options))
        s = quantize_head(m, cp, options, chain, err);
    return s ? s : place_rest(m, err);
}
