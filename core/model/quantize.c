/*
 * Owns quantizing a plain base while it loads. Which modules: those that the scheme's library
 * would replace, which are its linear ones without
 *
 *   the output layer, tied or not      get_keys_to_not_convert of transformers names it, or, in
 *                                      a classifier, the last matrix if no bias follows it, and all
 *   embeddings                         are no linear modules
 *   experts and their router           bitsandbytes: since transformers 5 they are parameters of
 *                                      one module; HQQ, which works with transformers 4, has them
 *   GPT-2's Conv1D                     HQQ leaves it; bitsandbytes quantizes W = its transpose
 *
 * and how: the weight as stored, in f32, through the back end's own requantize. So a module that is
 * quantized here is what loading the library's file would give, and merges and exports see no
 * difference.
 *
 * Also the second output layer that --head 8 gives fast mode, beside the one that is served
 * exactly.
 *
 * Refused: a base that has a quantization of its own, a scheme that finds nothing to quantize,
 * weights that are not finite.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "core/memory.h"
#include "core/model/build.h"
#include "core/model/evidence.h"

#define BAND 64 /* columns of a transposed matrix that are written at a time */

/* ---- which ---- */

static bool is_converted(const struct model *m, size_t i, const struct scheme *scheme)
{
    const struct module *u = &m->modules[i];
    const struct family_module *row = m->config->rows[i];
    if (u->kind == MODULE_CONV1D)
        return scheme->conv1d;
    bool way_out = u->output_embedding ||
                   (row->role == ROLE_CLASSIFIER && !hfconfig_has_bias(m->config, row->bias));
    if (u->kind != MODULE_LINEAR || way_out)
        return false;
    return scheme->experts || (row->role != ROLE_ROUTER && !family_per_expert(row->name));
}

/* The identity of what is served: the file's and the scheme's. */
static void mix_identity(struct model *m, const struct scheme *scheme)
{
    char text[sizeof m->identity + sizeof scheme->word + 2], out[DIGEST_TEXT];
    uint8_t digest[DIGEST_SIZE];
    int n = snprintf(text, sizeof text, "%s %s", m->identity, scheme->word);
    digest_bytes(text, (size_t)n, digest);
    digest_text(digest, out);
    memcpy(m->identity, strchr(out, ':') + 1, sizeof m->identity);
}

static const struct backend *backend_named(const struct chain *chain, const char *name)
{
    const struct backend *const *b = chain->backends;
    while (*b && strcmp((*b)->name, name) != 0)
        b++;
    return *b && (*b)->plan ? *b : NULL;
}

bool quantize_makes_head(const struct model *m, const struct model_options *options)
{
    int32_t head = m->config->head;
    return options->head && head >= 0 && m->modules[m->modules[head].base].backend == m->plain;
}

enum status quantize_head(struct model *m, const struct checkpoint *cp,
                          const struct model_options *options, const struct chain *chain,
                          struct error *err)
{
    const struct scheme *form = options->head;
    while (form->group && m->modules[m->config->head].k % form->group)
        form++;
    const struct backend *b = backend_named(chain, form->backend);
    struct module_spec spec;
    enum status s = model_spec(m, cp, m->modules[m->config->head].base, &spec);
    if (s || !b)
        return error_set(err, s ? s : ST_INTERNAL, "the output layer: no back end makes %s",
                         form->word);
    m->head8 = calloc(1, sizeof *m->head8);
    if (!m->head8)
        return error_memory(err, "the output layer");
    s = quantize_load(b, form, &spec, true, m->head8, err);
    if (!s)
        m->weight_bytes += weight_bytes(m->head8);
    return s;
}

enum status quantize_claim(struct model *m, const struct checkpoint *cp,
                           const struct scheme *scheme, const struct chain *chain,
                           struct error *err)
{
    const struct backend *target = backend_named(chain, scheme->backend), *plain = m->plain;
    size_t n = 0;
    if (!target)
        return error_param(err, ST_NOT_SUPPORTED, "--quantize",
                           "--quantize %s: no back end makes it", scheme->word);
    if (cp->quant)
        return error_param(err, ST_NOT_SUPPORTED, "--quantize",
                           "--quantize %s: %s has a quantization_config (%s) already: only a plain "
                           "base can be quantized",
                           scheme->word, cp->dir, m->quant_method);
    for (size_t i = 0; i < m->n_modules; i++) {
        struct module *u = &m->modules[i];
        if (u->backend != plain)
            return error_param(
                err, ST_NOT_SUPPORTED, "--quantize",
                "--quantize %s: module %s is in the form of %s already: only a plain "
                "base can be quantized",
                scheme->word, u->name, u->backend->name);
        u->quantized = is_converted(m, i, scheme);
        if (!u->quantized)
            continue;
        n++;
        u->backend = target;
        u->why = evidence_with(u->why, "--quantize", scheme->word, &m->config->arena);
        if (!u->why)
            return error_memory(err, "quantizing");
    }
    if (!n)
        return error_param(err, ST_NOT_SUPPORTED, "--quantize",
                           "--quantize %s: %s has no module that it applies to", scheme->word,
                           m->architecture);
    m->quantization = json_incref(scheme->config);
    m->quant_method = json_string_value(json_object_get(m->quantization, "quant_method"));
    mix_identity(m, scheme);
    return ST_OK;
}

/* ---- how ---- */

/* The tensor as W [n, k] in f32: a Conv1D lies the other way round. */
static bool read_weight(const struct module_spec *plain, const struct tensor *t, float *w)
{
    int64_t n = plain->n, k = plain->k;
    if (plain->kind != MODULE_CONV1D) {
        tensor_to_f32(t, 0, n * k, w);
        return true;
    }
    float *rows = malloc(BAND * (size_t)n * sizeof *rows);
    if (!rows)
        return false;
    for (int64_t first = 0; first < k; first += BAND) {
        int64_t have = k - first < BAND ? k - first : BAND;
        tensor_to_f32(t, first * n, have * n, rows);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < have; c++)
                w[r * k + first + c] = rows[c * n + r];
    }
    free(rows);
    return true;
}

/* No element is NaN or Inf: x - x is 0 of all others. */
static bool is_finite(const float *w, int64_t n)
{
    float sum[16] = {0}, all = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            sum[j] += w[i + j] - w[i + j];
    for (; i < n; i++)
        all += w[i] - w[i];
    for (int j = 0; j < 16; j++)
        all += sum[j];
    return all == 0;
}

enum status quantize_load(const struct backend *backend, const struct scheme *scheme,
                          const struct module_spec *plain, bool wide, struct weight *out,
                          struct error *err)
{
    const struct tensor *t = spec_tensor(plain, "weight");
    struct weight like = {0};
    int64_t elements = plain->n * plain->k;
    *out = (struct weight){0};
    if (!t || tensor_elements(t) != elements)
        return error_set(err, ST_INTERNAL, "module %s has no plain weight", plain->name);
    float *w = memory_alloc((size_t)elements * sizeof *w);
    enum status s = ST_OK;
    if (!w || !read_weight(plain, t, w))
        s = error_memory(err, "quantizing a weight");
    else if (!is_finite(w, elements))
        s = error_set(err, ST_NON_FINITE_WEIGHTS, "%s: tensor %s holds NaN or Inf", t->file,
                      t->name);
    else
        s = backend->plan(scheme, plain, wide ? DT_F32 : t->dtype, &like, err);
    if (!s)
        s = backend->requantize(&like, w, out, err);
    if (s == ST_MERGE_NON_FINITE) // what requantize calls a weight that its format cannot hold
        s = error_set(err, ST_NON_FINITE_WEIGHTS, "%s: tensor %s leaves the range of %s", t->file,
                      t->name, scheme->word);
    if (!s)
        out->file_bytes = t->bytes;
    weight_clear(&like);
    memory_free(w);
    return s;
}
