/*
 * Owns the classes over one backbone: which of them config.json names, its labels, and what the
 * head of another one, that an adapter brings along, looks like. A class differs from its siblings
 * in the way out alone; the family table lists the modules of all of them under conditions, one of
 * which holds.
 *
 * Labels are numbered 0 .. labels - 1 and never reordered; their names are for people.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/model/build.h"
#include "core/model/keys.h"

#define LABELS_MAX (1 << 20)

static const struct {
    enum classifier_kind kind;
    enum condition when;
    const char *suffix;
} classes[] = {{CLASSIFIER_SEQUENCE, WHEN_SEQUENCE, "ForSequenceClassification"},
               {CLASSIFIER_TOKEN, WHEN_TOKEN, "ForTokenClassification"}};
#define N_CLASSES (sizeof classes / sizeof *classes)

static bool same_word(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0; // the first llama files say LLaMAForCausalLM
}

/* An image's labels are a sequence's by another name. */
static const char *suffix_of(const struct family *f, size_t row)
{
    return f->images && classes[row].kind == CLASSIFIER_SEQUENCE ? "ForImageClassification"
                                                                 : classes[row].suffix;
}

/* Is `name` the family's class of that row? */
static bool is_class(const struct family *f, size_t row, const char *name)
{
    size_t n = strlen(f->stem);
    return family_classifier(f, classes[row].kind, ROLE_CLASSIFIER) &&
           !strncasecmp(name, f->stem, n) && same_word(name + n, suffix_of(f, row));
}

static char *class_name(const struct family *f, size_t row, char *buf, size_t size)
{
    snprintf(buf, size, "%s%s", f->stem, suffix_of(f, row));
    return buf;
}

static void refuse_architecture(const struct keys *k, const struct family *f)
{
    char expected[256];
    int n = snprintf(expected, sizeof expected, "[\"%s\"]", f->architecture);
    for (size_t i = 0; i < N_CLASSES; i++)
        if (family_classifier(f, classes[i].kind, ROLE_CLASSIFIER) && (size_t)n < sizeof expected)
            n += snprintf(expected + n, sizeof expected - (size_t)n, ", [\"%s%s\"]", f->stem,
                          suffix_of(f, i));
    keys_refuse(k, ST_CONFIG_UNSUPPORTED, "architectures", expected);
}

/* Sets kind, condition and architecture; false: no memory. */
static bool read_class(const struct keys *k, struct model_config *c)
{
    const struct family *f = c->family;
    const json_t *list = keys_get(k, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    char buf[FAMILY_NAME_MAX];
    c->architecture = f->architecture;
    if (!list && f->images)
        name = f->architecture;
    for (size_t i = 0; name && i < N_CLASSES; i++)
        if (is_class(f, i, name)) {
            c->classifier_kind = classes[i].kind;
            c->conditions |= 1u << classes[i].when;
            c->architecture = arena_strdup(&c->arena, class_name(f, i, buf, sizeof buf));
            return c->architecture != NULL;
        }
    c->conditions |= 1u << WHEN_LANGUAGE;
    if (!list || (json_is_array(list) && json_array_size(list) == 0))
        return true;
    for (const char *const *other = f->other_architectures; name && other && *other; other++)
        if (same_word(name, *other))
            return true;
    if (!name || !same_word(name, c->architecture))
        refuse_architecture(k, f);
    return true;
}

/* "7" -> 7; -1: no number of a label. */
static int32_t label_number(const char *key, int32_t labels)
{
    char *end;
    long v = strtol(key, &end, 10);
    return key[0] >= '0' && key[0] <= '9' && !*end && v < labels ? (int32_t)v : -1;
}

/* id2label names each label once; without it they are LABEL_0, ... */
static bool name_labels(const struct keys *k, struct model_config *c)
{
    const json_t *map = keys_get(k, "id2label");
    const char *key;
    json_t *v;
    c->label_names = arena_alloc(&c->arena, (size_t)c->labels * sizeof *c->label_names);
    if (!c->label_names)
        return false;
    json_object_foreach((json_t *)map, key, v)
    {
        int32_t i = label_number(key, c->labels);
        char number[32];
        const char *name = json_string_value(v);
        if (json_is_integer(v)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
            name = number;
        }
        if (i < 0 || !name || c->label_names[i]) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "id2label",
                        "the name of each label, under its number");
            return true;
        }
        if (!(c->label_names[i] = arena_strdup(&c->arena, name)))
            return false;
    }
    for (int32_t i = 0; !map && i < c->labels; i++) {
        char name[32];
        snprintf(name, sizeof name, "LABEL_%d", (int)i);
        if (!(c->label_names[i] = arena_strdup(&c->arena, name)))
            return false;
    }
    return true;
}

static enum status read_labels(const struct keys *k, struct model_config *c)
{
    const json_t *map = keys_get(k, "id2label");
    if (map) {
        c->labels = (int32_t)(json_object_size(map) <= LABELS_MAX ? json_object_size(map) : 0);
        if (c->labels == 0)
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "id2label", "an object of 1 to 1048576 names");
    } else {
        keys_int(k, "num_labels", 1, LABELS_MAX, 2, &c->labels);
    }
    if (c->labels > 0 && !name_labels(k, c))
        return ST_OUT_OF_MEMORY;
    const char *type = keys_text(k, "problem_type", NULL);
    if (!type)
        return ST_OK;
    if (strcmp(type, "regression") != 0 && strcmp(type, "single_label_classification") != 0 &&
        strcmp(type, "multi_label_classification") != 0)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "problem_type",
                    "regression, single_label_classification or multi_label_classification");
    c->problem_type = arena_strdup(&c->arena, type);
    return c->problem_type ? ST_OK : ST_OUT_OF_MEMORY;
}

enum status classes_read(const struct keys *k, struct model_config *c)
{
    const json_t *pad = json_object_get(k->object, "pad_token_id");
    c->pad = pad ? -1 : c->family->pad - 1;
    if (json_is_integer(pad) && json_integer_value(pad) >= 0 &&
        json_integer_value(pad) <= INT32_MAX)
        c->pad = (int32_t)json_integer_value(pad);
    if (!read_class(k, c))
        return ST_OUT_OF_MEMORY;
    keys_bool(k, "token_classification_bias", true, &c->label_bias);
    return c->classifier_kind ? read_labels(k, c) : ST_OK;
}

/* ---- questions ---- */

static bool reads_pooler(const struct family *f, enum classifier_kind kind)
{
    return kind == CLASSIFIER_SEQUENCE && f->classes_pooled;
}

int model_head_layers(const struct model *m, enum classifier_kind kind,
                      struct head_layer out[HEAD_LAYERS_MAX])
{
    static const enum role roles[HEAD_LAYERS_MAX] = {ROLE_CLASSIFIER_DENSE, ROLE_CLASSIFIER};
    const struct model_config *c = m->config;
    int n = 0;
    if (reads_pooler(c->family, kind) && c->pooler < 0)
        return 0;
    for (int i = 0; i < HEAD_LAYERS_MAX; i++) {
        const struct family_module *row = family_classifier(c->family, kind, roles[i]);
        if (!row)
            continue;
        struct head_layer *l = &out[n++];
        *l = (struct head_layer){.name = row->name, .bias = hfconfig_has_bias(c, row->bias)};
        hfconfig_shape(c, row->role, &l->n, &l->k);
        if (row->role == ROLE_CLASSIFIER)
            l->n = 0;
    }
    return n;
}

bool model_is_head(const struct model *m, int32_t module)
{
    return m->classifier &&
           (module == m->config->classifier || module == m->config->classifier_dense);
}

bool model_class_has(const struct model *m, int32_t module, enum classifier_kind kind)
{
    if (kind == CLASSIFIER_NONE)
        return true;
    if (model_is_head(m, module))
        return kind == m->classifier;
    enum role role = m->config->rows[module]->role;
    return role != ROLE_HEAD && (role != ROLE_POOLER || reads_pooler(m->config->family, kind));
}

const char *model_class_prefix(const struct model *m, enum classifier_kind kind)
{
    return m->config->bare && kind ? m->config->family->prefix : "";
}

char *model_class_name(const struct model *m, enum classifier_kind kind, char *buf, size_t size)
{
    for (size_t i = 0; i < N_CLASSES; i++)
        if (classes[i].kind == kind)
            return class_name(m->config->family, i, buf, size);
    snprintf(buf, size, "%s", m->architecture);
    return buf;
}
