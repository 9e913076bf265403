/* Owns family.def: the rows as a table, and the questions about it that need no checkpoint. */
#include "core/model/family.h"

#include <stdio.h>
#include <string.h>

#include "core/model/hfconfig.h"

#define MODULE(r, n, b, ...) {.name = n, .role = ROLE_##r, .bias = BIAS_##b, ##__VA_ARGS__},
#define NORM(r, n, ...)      {.name = n, .role = NORM_##r, ##__VA_ARGS__},
#define MODULES(id, ...)     static const struct family_module id[] = {__VA_ARGS__{.name = NULL}};
#define NORMS(id, ...)       static const struct family_norm id[] = {__VA_ARGS__{.name = NULL}};
#define NAMES(id, ...)       static const char *const id[] = {__VA_ARGS__, NULL};
#define FAMILY(type, ...)
#include "core/model/family.def"
#undef MODULES
#undef NORMS
#undef NAMES
#undef FAMILY

#define MODULES(id, ...)
#define NORMS(id, ...)
#define NAMES(id, ...)
#define FAMILY(type, ...) {.model_type = type, __VA_ARGS__},
static const struct family families[] = {
#include "core/model/family.def"
};

#define N_FAMILIES (sizeof families / sizeof *families)

const struct family *family_find(const char *model_type)
{
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (!strcmp(families[i].model_type, model_type))
            return &families[i];
    return NULL;
}

char *family_list(char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < N_FAMILIES && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "",
                                 families[i].model_type);
    return buf;
}

char *family_name(const char *pattern, int32_t layer, int32_t expert, char *buf, size_t size)
{
    size_t at = 0;
    for (const char *p = pattern; *p && at + 1 < size; p++) {
        if (*p == '#' || *p == '@') {
            int n = snprintf(buf + at, size - at, "%d", (int)(*p == '#' ? layer : expert));
            at += (size_t)n < size - at ? (size_t)n : size - at - 1;
        } else {
            buf[at++] = *p;
        }
    }
    buf[at] = '\0';
    return buf;
}

bool family_per_layer(const char *pattern)
{
    return strchr(pattern, '#') != NULL;
}

bool family_per_expert(const char *pattern)
{
    return strchr(pattern, '@') != NULL;
}

static const struct family_module *find_role(const struct family *f, enum role role)
{
    const struct family_module *m = f->modules;
    while (m->name && m->role != role)
        m++;
    return m->name ? m : NULL;
}

const struct family_module *family_classifier(const struct family *f, enum classifier_kind kind,
                                              enum role role)
{
    enum condition when = kind == CLASSIFIER_SEQUENCE ? WHEN_SEQUENCE : WHEN_TOKEN;
    if (kind == CLASSIFIER_TOKEN && f->no_token_class)
        return NULL;
    for (const struct family_module *m = f->modules; m->name; m++)
        if (kind != CLASSIFIER_NONE && m->role == role && m->when == when)
            return m;
    return NULL;
}

/* Of the first of two roles that the family has. */
static const char *bias_text(const struct family *f, enum role role, enum role fused)
{
    static const char *const text[] = {[BIAS_NEVER] = "no",
                                       [BIAS_ALWAYS] = "yes",
                                       [BIAS_ATTENTION] = "as the attention's bias key says",
                                       [BIAS_MLP] = "as the MLP's bias key says",
                                       [BIAS_LABELS] = "as token_classification_bias says"};
    const struct family_module *m = find_role(f, role) ? find_role(f, role) : find_role(f, fused);
    return m ? text[m->bias] : "-";
}

char *family_describe(const struct family *f, char *buf, size_t size)
{
    if (f->kind == MODEL_CONVNET) {
        snprintf(buf, size,
                 "%s; images; stages of convolutions, each with a batch norm; default OFT targets: "
                 "%s",
                 f->architecture, f->targets ? f->targets : "none");
        return buf;
    }
    bool fused = find_role(f, ROLE_QKV) != NULL;
    bool sequence = family_classifier(f, CLASSIFIER_SEQUENCE, ROLE_CLASSIFIER) != NULL;
    bool token = family_classifier(f, CLASSIFIER_TOKEN, ROLE_CLASSIFIER) != NULL;
    snprintf(buf, size,
             "%s; %s norm%s; %s positions; q, k, v %s, bias: %s; MLP %s, bias: %s; %s; classifies "
             "%s; default OFT targets: %s",
             f->architecture, f->norm == NORM_RMS ? "RMS" : "layer",
             f->norm_plus_one ? " times (1 + weight)" : "",
             find_role(f, ROLE_PATCH)      ? "images in squares, learned"
             : find_role(f, ROLE_POSITION) ? "learned"
                                           : "rotary",
             !fused                 ? "split"
             : f->qkv == QKV_GROUPS ? "fused by kv head"
                                    : "fused in blocks",
             bias_text(f, ROLE_Q, ROLE_QKV),
             find_role(f, ROLE_ROUTER)                               ? "of experts"
             : find_role(f, ROLE_GATE) || find_role(f, ROLE_GATE_UP) ? "gated"
                                                                     : "plain",
             bias_text(f, find_role(f, ROLE_UP) ? ROLE_UP : ROLE_EXPERT_UP, ROLE_GATE_UP),
             f->images ? "labels"
             : f->tied ? "tied unless told"
                       : "untied unless told",
             sequence && token ? "sequences, tokens"
             : sequence        ? "sequences"
             : f->images       ? "images"
                               : "nothing",
             f->targets ? f->targets : "none");
    return buf;
}

const struct family *family_at(size_t i)
{
    return i < N_FAMILIES ? &families[i] : NULL;
}
