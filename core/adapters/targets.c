/*
 * Owns target selection as PEFT's tuners do it. For a module name, in this order:
 *
 *   saved          score and classifier, where modules_to_save names them; what is no module of the
 *                  class that the adapter was trained on
 *   excluded       a string: full match of a regex; a list: the name, or a suffix after a dot
 *   target string  "all-linear": linear modules but the output layer; else full match of a regex
 *   target list    the name itself; or a suffix after a dot and, with layers_to_transform, the
 * layer index that layers_pattern finds in the name no target      the family's default list
 *
 * Experts are modules to transformers 4 alone: to PEFT on 5 a target that names their matrices
 * selects nothing, and the file has no rotation of any.
 *
 * Lists come expanded (thousands of full names), so they are sorted once and each of a name's
 * suffixes is looked up. Names are the model's own; every pattern is distrusted (pattern.h).
 */
#include "core/adapters/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/adapters/pattern.h"

#define LAYER_PATTERNS_MAX 32

struct names { /* sorted */
    const char **v;
    size_t n;
};

struct targets {
    const struct oftconfig *c;
    const struct model *m;
    enum classifier_kind kind; /* of the class that the adapter was trained on */
    struct pattern *exclude_regex, *target_regex;
    struct names exclude, target;
    char *defaults; /* the family's list, cut into words */
    bool all_linear;
    struct pattern *layer[LAYER_PATTERNS_MAX];
    size_t n_layer;
    json_int_t *layers; /* sorted; NULL: all */
    size_t n_layers;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_integers(const void *a, const void *b)
{
    json_int_t x = *(const json_int_t *)a, y = *(const json_int_t *)b;
    return (x > y) - (x < y);
}

static bool names_have(const struct names *l, const char *name)
{
    return l->n && bsearch(&name, l->v, l->n, sizeof *l->v, compare_names);
}

/* Does the list hold name itself (*exact), or what follows one of its dots? */
static bool names_match(const struct names *l, const char *name, bool *exact)
{
    *exact = names_have(l, name);
    bool found = *exact;
    for (const char *dot = strchr(name, '.'); dot && !found; dot = strchr(dot + 1, '.'))
        found = names_have(l, dot + 1);
    return found;
}

static bool names_from_json(struct names *l, const json_t *v)
{
    l->n = json_array_size(v);
    l->v = malloc((l->n + 1) * sizeof *l->v);
    if (!l->v)
        return false;
    for (size_t i = 0; i < l->n; i++)
        l->v[i] = json_string_value(json_array_get(v, i));
    qsort(l->v, l->n, sizeof *l->v, compare_names);
    return true;
}

/* words is cut in place. */
static bool names_from_words(struct names *l, char *words)
{
    l->v = malloc((strlen(words) / 2 + 1) * sizeof *l->v);
    if (!l->v)
        return false;
    char *save = NULL;
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        l->v[l->n++] = w;
    qsort(l->v, l->n, sizeof *l->v, compare_names);
    return true;
}

static enum status bad_pattern(const struct targets *t, struct findings *f, const char *field,
                               const char *text, const char *why)
{
    findings_add(f, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, NULL, field,
                 "a regular expression that can be matched", text, "%s: %s: %.200s: %s", t->c->path,
                 field, text, why);
    return ST_CONFIG_INVALID_VALUE;
}

/* CONFIG_INVALID_VALUE is in the findings already. */
static enum status open_pattern(const struct targets *t, struct findings *f, const char *field,
                                const char *before, const char *text, const char *after,
                                struct pattern **out)
{
    char why[PATTERN_WHY];
    enum status s = pattern_open(before, text, after, out, why);
    return s == ST_CONFIG_INVALID_VALUE ? bad_pattern(t, f, field, text, why) : s;
}

static enum status open_layers(struct targets *t, struct findings *f)
{
    const json_t *v = t->c->layers_to_transform, *p = t->c->layers_pattern;
    if (!v)
        return ST_OK;
    t->n_layers = json_is_array(v) ? json_array_size(v) : 1;
    t->layers = malloc(t->n_layers * sizeof *t->layers);
    if (!t->layers)
        return ST_OUT_OF_MEMORY;
    for (size_t i = 0; i < t->n_layers; i++)
        t->layers[i] = json_integer_value(json_is_array(v) ? json_array_get(v, i) : v);
    qsort(t->layers, t->n_layers, sizeof *t->layers, compare_integers);
    size_t n = json_is_array(p) ? json_array_size(p) : 1;
    if (n > LAYER_PATTERNS_MAX)
        return bad_pattern(t, f, "layers_pattern", "the list", "at most 32 patterns are taken");
    for (; t->n_layer < n; t->n_layer++) {
        const char *text =
            !p ? "[^.]*" : json_string_value(json_is_array(p) ? json_array_get(p, t->n_layer) : p);
        enum status s = open_pattern(t, f, "layers_pattern", ".*?\\.", text, "\\.(\\d+)\\.",
                                     &t->layer[t->n_layer]);
        if (s)
            return s;
    }
    return ST_OK;
}

static enum status open_defaults(struct targets *t, struct findings *f)
{
    const char *words = model_default_targets(t->m->model_type);
    if (!words) {
        findings_add(f, SEVERITY_ERROR, ST_CONFIG_MISSING_FIELD, NULL, "target_modules",
                     "names of modules", "nothing",
                     "%s: target_modules is missing and %s has no default", t->c->path,
                     t->m->model_type);
        return ST_CONFIG_MISSING_FIELD;
    }
    t->defaults = strdup(words);
    return t->defaults && names_from_words(&t->target, t->defaults) ? ST_OK : ST_OUT_OF_MEMORY;
}

static enum status targets_open(struct targets *t, struct findings *f)
{
    enum status s = ST_OK;
    const json_t *v = t->c->exclude_modules;
    if (json_is_string(v))
        s = open_pattern(t, f, "exclude_modules", NULL, json_string_value(v), NULL,
                         &t->exclude_regex);
    else if (v && !names_from_json(&t->exclude, v))
        s = ST_OUT_OF_MEMORY;
    if (s)
        return s;
    v = t->c->target_modules;
    if (!v)
        s = open_defaults(t, f);
    else if (json_is_string(v) && !strcasecmp(json_string_value(v), "all-linear"))
        t->all_linear = true;
    else if (json_is_string(v))
        s = open_pattern(t, f, "target_modules", NULL, json_string_value(v), NULL,
                         &t->target_regex);
    else if (!names_from_json(&t->target, v))
        s = ST_OUT_OF_MEMORY;
    return s ? s : open_layers(t, f);
}

static void targets_close(struct targets *t)
{
    pattern_close(t->exclude_regex);
    pattern_close(t->target_regex);
    for (size_t i = 0; i < t->n_layer; i++)
        pattern_close(t->layer[i]);
    free(t->exclude.v);
    free(t->target.v);
    free(t->defaults);
    free(t->layers);
}

static enum status full_match(const struct targets *t, struct findings *f, const char *field,
                              const json_t *text, struct pattern *p, const char *name, bool *yes)
{
    char why[PATTERN_WHY];
    enum status s = pattern_full(p, name, yes, why);
    return s == ST_CONFIG_INVALID_VALUE ? bad_pattern(t, f, field, json_string_value(text), why)
                                        : s;
}

/* Is the layer that name tells among those to transform? */
static enum status layer_selected(const struct targets *t, struct findings *f, const char *name,
                                  bool *yes)
{
    *yes = false;
    for (size_t i = 0; i < t->n_layer; i++) {
        char why[PATTERN_WHY];
        int64_t index;
        bool found;
        enum status s = pattern_index(t->layer[i], name, &found, &index, why);
        if (s == ST_CONFIG_INVALID_VALUE)
            return bad_pattern(t, f, "layers_pattern", "a pattern", why);
        if (s)
            return s;
        if (found) {
            json_int_t key = index;
            *yes = bsearch(&key, t->layers, t->n_layers, sizeof key, compare_integers);
            return ST_OK;
        }
    }
    return ST_OK;
}

/* Is a component of the name one of the two? */
static bool saved(const char *name)
{
    for (const char *at = name; at; at = strchr(at, '.') ? strchr(at, '.') + 1 : NULL) {
        size_t n = strcspn(at, ".");
        if ((n == 5 && !strncmp(at, "score", n)) || (n == 10 && !strncmp(at, "classifier", n)))
            return true;
    }
    return false;
}

static enum status excluded(const struct targets *t, struct findings *f, const char *name,
                            bool *yes)
{
    *yes = t->c->saves_head && saved(name);
    if (*yes)
        return ST_OK;
    if (t->exclude_regex)
        return full_match(t, f, "exclude_modules", t->c->exclude_modules, t->exclude_regex, name,
                          yes);
    bool exact;
    *yes = names_match(&t->exclude, name, &exact);
    return ST_OK;
}

/* By name: everything but all-linear. */
static enum status selected_name(const struct targets *t, struct findings *f, const char *name,
                                 bool *yes)
{
    bool no, exact;
    *yes = false;
    enum status s = excluded(t, f, name, &no);
    if (s || no)
        return s;
    if (t->target_regex)
        return full_match(t, f, "target_modules", t->c->target_modules, t->target_regex, name, yes);
    *yes = names_match(&t->target, name, &exact);
    if (*yes && !exact && t->layers)
        return layer_selected(t, f, name, yes);
    return ST_OK;
}

/* The module that "all-linear" leaves out: the output layer, else the classifier of a SEQ_CLS
 * adapter; -1: none. */
static int32_t output_module(const struct targets *t)
{
    for (size_t i = 0; i < t->m->n_modules; i++)
        if (t->m->modules[i].output_embedding)
            return (int32_t)i;
    if (t->c->task != CLASSIFIER_SEQUENCE)
        return -1;
    int32_t score = model_module(t->m, "score");
    return score >= 0 ? score : model_module(t->m, "classifier");
}

/* Would PEFT see this module as an nn.Linear? Of the quantized classes only bitsandbytes' are; of
 * the others a file may or may not hold rotations. */
static bool is_linear_class(const struct module *mod)
{
    const char *b = mod->backend ? mod->backend->name : "default";
    return !strcmp(b, "default") || !strncmp(b, "bnb", 3);
}

static enum status select_all_linear(const struct targets *t, struct findings *f,
                                     const char *const *names, const bool *present, bool *selected)
{
    int32_t output = output_module(t);
    for (size_t i = 0; i < t->m->n_modules; i++) {
        const struct module *mod = &t->m->modules[i];
        bool no;
        enum status s = excluded(t, f, names[i], &no);
        if (s)
            return s;
        bool linear = mod->kind == MODULE_LINEAR || mod->kind == MODULE_CONV1D;
        selected[i] = linear && !no && (int32_t)i != output && (is_linear_class(mod) || present[i]);
    }
    return ST_OK;
}

/* A pattern that meets something that is no module of ours (a layer, a norm) could not be trained.
 */
static enum status check_others(const struct targets *t, struct findings *f)
{
    for (size_t i = 0; i < t->m->n_other_names; i++) {
        bool yes;
        const char *name = t->m->other_names[i];
        enum status s = selected_name(t, f, name, &yes);
        if (s)
            return s;
        if (yes)
            findings_add(f, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, name, "target_modules",
                         "linear, convolution and embedding modules", name,
                         "%s: target_modules selects %s, which cannot be rotated", t->c->path,
                         name);
    }
    return ST_OK;
}

/* Does the file come from where experts are modules? */
static bool has_experts(const struct model *m, const bool *present)
{
    for (size_t i = 0; i < m->n_modules; i++)
        if (m->modules[i].expert && present[i])
            return true;
    return false;
}

enum status targets_select(const struct oftconfig *c, const struct model *m,
                           const char *const *names, const bool *present, bool *selected,
                           bool *usable, struct findings *findings, struct error *err)
{
    struct targets t = {.c = c, .m = m, .kind = c->task ? c->task : m->classifier};
    enum status s = targets_open(&t, findings);
    memset(selected, 0, m->n_modules * sizeof *selected);
    if (!s && t.all_linear) {
        s = select_all_linear(&t, findings, names, present, selected);
    } else {
        for (size_t i = 0; i < m->n_modules && !s; i++)
            s = selected_name(&t, findings, names[i], &selected[i]);
        if (!s)
            s = check_others(&t, findings);
    }
    bool experts = has_experts(m, present);
    for (size_t i = 0; i < m->n_modules; i++)
        selected[i] = selected[i] && model_class_has(m, (int32_t)i, t.kind) &&
                      (experts || !m->modules[i].expert);
    targets_close(&t);
    *usable = !s;
    return s == ST_OUT_OF_MEMORY ? error_memory(err, "matching target_modules") : ST_OK;
}
