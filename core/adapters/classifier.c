/*
 * Owns the classification head that an adapter brings along. PEFT writes one for every SEQ_CLS and
 * TOKEN_CLS adapter, under the names that the head has in the class (modules_to_save is
 * ["classifier", "score"], whichever there is); it replaces the base's head, or stands where the
 * base has none:
 *
 *     base_model.model.score.weight                [labels, k]     decoders
 *     base_model.model.classifier.{weight,bias}    [labels, k]     bert; tokens of most
 *     base_model.model.classifier.dense.*, .out_proj.*             roberta's sequences
 *
 * The number of labels is the file's own. Which class it is says task_type or, without one, the
 * base. A head is plain and its numbers are looked at before it is served.
 */
#include "core/adapters/classifier.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

#define PREFIX     "base_model.model."
#define LABELS_MAX (1 << 20)
#define CHUNK      1024

void head_source_open(const struct oftconfig *c, const struct model *m, struct head_source *out,
                      struct findings *f)
{
    char name[128];
    *out = (struct head_source){.kind = c->task ? c->task : m->classifier};
    if (!c->saves_head || !out->kind)
        return;
    out->n_layers = model_head_layers(m, out->kind, out->layers);
    if (out->n_layers == 0)
        findings_add(
            f, SEVERITY_ERROR, ST_MODULES_TO_SAVE_UNSUPPORTED, NULL, "modules_to_save", NULL, NULL,
            "%s: modules_to_save: a head for %s cannot stand on this base: there is no such "
            "class of %s, or the checkpoint lacks the pooler that it reads",
            c->path, model_class_name(m, out->kind, name, sizeof name), m->model_type);
}

bool head_source_take(struct head_source *h, const struct tensor *t, const char *module,
                      bool is_bias)
{
    for (int i = 0; i < h->n_layers; i++)
        if (!strcmp(h->layers[i].name, module)) {
            *(is_bias ? &h->bias[i] : &h->weight[i]) = t;
            return true;
        }
    return false;
}

static bool all_finite(const struct tensor *t)
{
    float v[CHUNK];
    int64_t n = tensor_elements(t);
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t have = n - at < CHUNK ? n - at : CHUNK;
        tensor_to_f32(t, at, have, v);
        for (int64_t i = 0; i < have; i++)
            if (!isfinite(v[i]))
                return false;
    }
    return true;
}

/* One tensor of shape [n] or [n, k]; n 0: any number of labels. */
static void check_tensor(const struct tensor *t, const struct head_layer *l, bool is_bias,
                         int64_t n, const char *path, struct findings *f)
{
    char field[160], expected[64], got[128];
    int rank = is_bias ? 1 : 2;
    snprintf(field, sizeof field, PREFIX "%s.%s", l->name, is_bias ? "bias" : "weight");
    if (n == 0)
        snprintf(expected, sizeof expected, "[labels, %" PRId64 "]", l->k);
    else if (is_bias)
        snprintf(expected, sizeof expected, "[%" PRId64 "]", n);
    else
        snprintf(expected, sizeof expected, "[%" PRId64 ", %" PRId64 "]", n, l->k);
    if (!t) {
        findings_add(f, SEVERITY_ERROR, ST_TENSOR_MISSING, l->name, field, expected, "nothing",
                     "%s: %s is missing: modules_to_save and task_type promise the adapter a head",
                     path, field);
        return;
    }
    bool fits = t->rank == rank && (n ? t->shape[0] == n : t->shape[0] > 0) &&
                t->shape[0] <= LABELS_MAX && (is_bias || t->shape[1] == l->k);
    if (!dtype_is_float(t->dtype))
        findings_add(f, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, l->name, t->name, "F32, F16 or BF16",
                     dtype_name(t->dtype), "%s: %s has dtype %s, F32, F16 or BF16 are served", path,
                     t->name, dtype_name(t->dtype));
    else if (!fits)
        findings_add(f, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, l->name, t->name, expected,
                     tensor_shape_text(t, got, sizeof got), "%s: %s is %s, expected %s", path,
                     t->name, got, expected);
    else if (!all_finite(t))
        findings_add(f, SEVERITY_ERROR, ST_NON_FINITE_WEIGHTS, l->name, t->name, "finite numbers",
                     "NaN or Inf", "%s: %s holds NaN or Inf", path, t->name);
}

void head_source_check(const struct head_source *h, const char *path, struct findings *f)
{
    for (int i = 0; i < h->n_layers; i++) {
        const struct head_layer *l = &h->layers[i];
        const struct tensor *w = h->weight[i];
        check_tensor(w, l, false, l->n, path, f);
        int64_t n = l->n ? l->n : w && w->rank == 2 ? w->shape[0] : 0;
        if (l->bias && n > 0)
            check_tensor(h->bias[i], l, true, n, path, f);
        else if (h->bias[i])
            findings_add(f, SEVERITY_ERROR, ST_TENSOR_UNEXPECTED, l->name, h->bias[i]->name, NULL,
                         h->bias[i]->name, "%s: %s: %s of this class has no bias", path,
                         h->bias[i]->name, l->name);
    }
}

static size_t bias_bytes(const struct tensor *weight)
{
    return (size_t)weight->shape[0] * sizeof(float);
}

size_t head_bytes(const struct head_source *h)
{
    size_t bytes = 0;
    for (int i = 0; i < h->n_layers; i++) {
        const int64_t *shape = h->weight[i]->shape;
        int64_t rows = (shape[0] + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
        int64_t columns = (shape[1] + TILE_K - 1) / TILE_K * TILE_K;
        bytes += (size_t)(rows * columns) * dtype_size(h->weight[i]->dtype);
        bytes += h->bias[i] ? bias_bytes(h->weight[i]) : 0;
    }
    return bytes;
}

/* One matrix through the back end that keeps floats. */
static enum status load_weight(const struct head_source *h, int i, const struct model *m,
                               struct weight *out, struct error *err)
{
    char file[] = "head", name[] = "head.weight";
    struct tensor t = *h->weight[i];
    t.name = name;
    const struct module_spec spec = {.name = h->layers[i].name,
                                     .file = file,
                                     .kind = MODULE_LINEAR,
                                     .n = t.shape[0],
                                     .k = t.shape[1],
                                     .tensors = &t,
                                     .n_tensors = 1};
    return m->plain->load(&spec, (struct slice){0}, out, err);
}

enum status head_load(const struct head_source *h, const struct model *m, struct head *out,
                      struct error *err)
{
    *out = (struct head){.classifier = {.kind = h->kind, .n_layers = h->n_layers}};
    for (int i = 0; i < h->n_layers; i++) {
        enum status s = load_weight(h, i, m, &out->weights[i], err);
        if (s)
            return s;
        out->classifier.labels = (int32_t)out->weights[i].n;
        out->classifier.layers[i].weight = &out->weights[i];
        out->bytes += weight_bytes(&out->weights[i]);
        if (!h->bias[i])
            continue;
        out->biases[i] = malloc(bias_bytes(h->weight[i]));
        if (!out->biases[i])
            return error_memory(err, "an adapter's head");
        tensor_to_f32(h->bias[i], 0, h->bias[i]->shape[0], out->biases[i]);
        out->classifier.layers[i].bias = out->biases[i];
        out->bytes += bias_bytes(h->weight[i]);
    }
    return ST_OK;
}

bool head_place(const struct head *h, struct place *place, struct classifier *out)
{
    *out = h->classifier;
    for (int i = 0; i < out->n_layers; i++) {
        const float *bias = out->layers[i].bias;
        size_t bytes = (size_t)out->layers[i].weight->n * sizeof *bias;
        out->layers[i].weight = place_weight(place, out->layers[i].weight);
        out->layers[i].bias = place_copy(place, bias, bytes);
        if (!out->layers[i].weight || (bias && !out->layers[i].bias))
            return false;
    }
    return true;
}

void head_clear(struct head *h)
{
    for (int i = 0; i < HEAD_LAYERS_MAX; i++) {
        weight_clear(&h->weights[i]);
        free(h->biases[i]);
    }
    *h = (struct head){0};
}
