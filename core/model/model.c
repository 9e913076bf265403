/*
 * Owns a model's life: config, network, checks, weights, in this order, and nothing is loaded
 * before everything has been looked at. The model's names, lists and vectors lie in one arena, its
 * weights in the base view, so that a half-built model is closed like a whole one.
 */
#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/model/build.h"
#include "core/model/pooling.h"
#include "core/model/view.h"

/* What others may read of the config. */
static enum status publish(struct model *m, const struct checkpoint *cp,
                           const struct model_options *options, struct error *err)
{
    const struct model_config *c = m->config;
    const char *method = json_string_value(json_object_get(cp->quant, "quant_method"));
    m->kind = c->family->kind;
    m->model_type = c->family->model_type;
    m->architecture = c->architecture;
    m->vocab = c->family->images ? c->labels : c->vocab;
    m->hidden = c->embedding_dim;
    m->stretch_at = c->rope[0].stretched ? c->rope[0].original : 0;
    m->dynamic_at = c->rope[0].growth > 0 ? c->rope[0].original : 0;
    m->heads = c->heads;
    m->kv_heads = c->kv_heads;
    m->head_dim = c->head_dim;
    m->tied = c->tied;
    m->image = c->image;
    m->classifier = c->classifier_kind;
    m->labels = c->labels;
    m->label_names = c->label_names;
    m->problem_type = c->problem_type;
    m->pad = c->pad;
    m->eos = c->eos;
    m->n_eos = c->n_eos;
    m->bos = c->bos;
    m->conv2d_peft = options->conv2d_peft;
    m->file_bytes = cp->bytes;
    m->quant_method = arena_strdup(&m->config->arena, method ? method : "");
    if (!m->quant_method)
        return error_memory(err, "the network");
    checkpoint_identity(cp, m->identity);
    return ST_OK;
}

static enum status set_length(struct model *m, const struct model_options *options,
                              struct error *err)
{
    const struct model_config *c = m->config;
    m->max_len = options->max_len ? options->max_len : c->max_positions;
    if (m->max_len < 1 || m->max_len > INT32_MAX)
        return error_set(err, ST_INVALID_VALUE, "max_model_len: %lld is not a length",
                         (long long)m->max_len);
    if (c->image.channels > 0 && m->max_len != c->max_positions)
        return error_set(err, ST_INVALID_VALUE,
                         "max_model_len: %lld, but an image takes %d positions",
                         (long long)m->max_len, (int)c->max_positions);
    if (c->positions == POSITIONS_LEARNED && m->max_len > c->max_positions)
        return error_set(err, ST_INVALID_VALUE,
                         "max_model_len: %lld is more than the %d positions that the model learned",
                         (long long)m->max_len, (int)c->max_positions);
    return ST_OK;
}

/* The window of a network that forgets as a whole. */
static int32_t widest_window(const struct model *m)
{
    int32_t widest = 0;
    for (int32_t l = 0; l < m->layers; l++) {
        int32_t window = m->config->layers[l].window;
        if (window == 0)
            return 0;
        widest = window > widest ? window : widest;
    }
    return widest;
}

/* Everything but the weights. */
static enum status open_network(struct model *m, const struct checkpoint *cp,
                                const struct model_options *options, const struct chain *chain,
                                struct error *err)
{
    struct findings findings = {0};
    enum status s = hfconfig_read(cp, m->config, &findings);
    if (s != ST_OK)
        s = error_memory(err, "config.json");
    if (s == ST_OK && !findings.errors)
        s = publish(m, cp, options, err);
    if (s == ST_OK && !findings.errors)
        s = set_length(m, options, err);
    if (s == ST_OK && !findings.errors)
        s = build_network(m, cp, options, chain, &findings, err);
    if (s == ST_OK && !findings.errors)
        s = pooling_read(cp, m, &findings, err);
    if (s == ST_OK && findings.errors)
        s = error_from_findings(err, &findings);
    if (s == ST_OK && options->quantize)
        s = quantize_claim(m, cp, options->quantize, chain, err);
    if (s == ST_OK) {
        m->window = widest_window(m);
        m->token_types = m->config->type < 0 ? 0 : m->config->types;
        m->has_head = m->config->head >= 0 || m->config->classifier >= 0;
    }
    findings_clear(&findings);
    return s;
}

enum status model_open(const struct checkpoint *cp, const struct model_options *options,
                       const struct chain *chain, const struct kernels *kernels,
                       progress_report *progress, void *progress_ctx, struct model **out,
                       struct error *err)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m || !(m->config = calloc(1, sizeof *m->config))) {
        free(m);
        return error_memory(err, "the network");
    }
    m->place.kernels = kernels;
    uint64_t limit = options->memory_limit ? options->memory_limit : memory_available();
    enum status s = open_network(m, cp, options, chain, err);
    if (s == ST_OK && m->image.channels > 0 && place_apart(&m->place))
        s = error_set(
            err, ST_NOT_SUPPORTED,
            "a '%s' model reads images, which are computed on the CPU (--device cpu), not "
            "on %s",
            m->model_type, kernels->device);
    if (s == ST_OK && !options->claim_only)
        s = build_load(m, cp, options, chain, progress, progress_ctx, limit, err);
    if (s != ST_OK) {
        model_close(m);
        return s;
    }
    *out = m;
    return ST_OK;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    view_unref(m->base);
    place_close(&m->place);
    weight_clear(m->head8);
    free(m->head8);
    json_decref(m->quantization);
    arena_free(&m->config->arena);
    free(m->config);
    free(m);
}

enum status model_spec(const struct model *m, const struct checkpoint *cp, int32_t module,
                       struct module_spec *out)
{
    if (module < 0 || (size_t)module >= m->n_modules)
        return ST_MODULE_NOT_FOUND;
    const struct module *u = &m->modules[module];
    *out = (struct module_spec){.name = u->name,
                                .file = u->file,
                                .kind = u->kind,
                                .n = u->n,
                                .k = u->k,
                                .conv = {u->conv.channels, u->conv.kernel[0], u->conv.kernel[1], 1},
                                .quant = cp->quant};
    out->tensors = checkpoint_below(cp, u->file, &out->n_tensors);
    if (!out->tensors)
        out->n_tensors = 0;
    return ST_OK;
}

const char *model_default_targets(const char *model_type)
{
    const struct family *f = family_find(model_type);
    return f ? f->targets : NULL;
}

void model_families(void (*row)(void *ctx, const char *model_type, const char *text), void *ctx)
{
    const struct family *f;
    char text[512];
    for (size_t i = 0; (f = family_at(i)) != NULL; i++)
        row(ctx, f->model_type, family_describe(f, text, sizeof text));
}
