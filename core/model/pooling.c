/*
 * Owns the reading of a sentence-transformers folder, as far as it says how a text is pooled and a
 * pair of texts scored:
 *
 *     modules.json               the steps: Transformer, Pooling (and its folder), Normalize
 *     1_Pooling/config.json      "pooling_mode": a word or words; in older files flags
 *     config_sentence_transformers.json    "activation_fn": what the logit of a pair goes through;
 *                                older models say it in config.json
 *
 * Normalizing is the client's business (a field of the request), so that step changes nothing here.
 * Any other step (Dense) would change every number: such a model has no embedding, in words, rather
 * than a wrong one. Its prompts and its max_seq_length belong to the client that sends the text.
 */
#include "core/model/pooling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/arena.h"
#include "core/json.h"
#include "core/model/hfconfig.h"

#define STEPS_FILE "modules.json"
#define FOLDER     "1_Pooling"
#define SCORE_FILE "config_sentence_transformers.json"
#define BYTES_MAX  (1u << 20)

static const struct {
    const char *word, *flag;
    enum pooling pooling;
} modes[] = {
    {"cls", "pooling_mode_cls_token", POOLING_FIRST},
    {"max", "pooling_mode_max_tokens", POOLING_MAX},
    {"mean", "pooling_mode_mean_tokens", POOLING_MEAN},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", POOLING_MEAN_SQRT},
    {"weightedmean", "pooling_mode_weightedmean_tokens", POOLING_WEIGHTED},
    {"lasttoken", "pooling_mode_lasttoken", POOLING_LAST},
};
#define N_MODES (sizeof modes / sizeof modes[0])

static enum status none(struct model *m, const char *where, const char *what, struct error *err)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s", where, what);
    m->pooling = POOLING_NONE;
    m->no_embedding = arena_strdup(&m->config->arena, text);
    return m->no_embedding ? ST_OK : error_memory(err, "reading how texts are pooled");
}

/* dir/file -> *out; an optional one that is absent is NULL. */
static enum status read_file(const char *dir, const char *file, bool list, bool optional,
                             json_t **out, struct error *err)
{
    char *path = NULL;
    struct stat info;
    *out = NULL;
    if (asprintf(&path, "%s/%s", dir, file) < 0)
        return error_memory(err, "reading how texts are pooled");
    enum status s = ST_OK;
    if (!optional || !lstat(path, &info))
        s = (list ? json_read_list : json_read)(path, BYTES_MAX, out, err);
    if (s == ST_INVALID_JSON && err)
        s = err->code = ST_CHECKPOINT_INVALID;
    free(path);
    return s;
}

static enum status invalid(struct error *err, const char *file, const char *key,
                           const char *expected)
{
    return error_param(err, ST_CONFIG_INVALID_VALUE, key, "%s: %s: %s is expected", file, key,
                       expected);
}

/* The word's pooling; POOLING_NONE: there is no such word. */
static enum pooling mode_of(const char *word)
{
    for (size_t i = 0; i < N_MODES; i++)
        if (word && !strcmp(word, modes[i].word))
            return modes[i].pooling;
    return POOLING_NONE;
}

/* One mode or, several being asked for, POOLING_NONE with *several. */
static enum status read_mode(const json_t *config, const char *file, enum pooling *out,
                             bool *several, struct error *err)
{
    const json_t *mode = json_object_get(config, "pooling_mode");
    size_t n = 0;
    *several = false;
    if (mode) {
        const json_t *word = json_is_array(mode) ? json_array_get(mode, 0) : mode;
        *out = mode_of(json_string_value(word));
        *several = json_array_size(mode) > 1;
        return *out ? ST_OK
                    : invalid(err, file, "pooling_mode",
                              "cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken");
    }
    *out = POOLING_MEAN;
    for (size_t i = 0; i < N_MODES; i++) {
        const json_t *flag = json_object_get(config, modes[i].flag);
        if (flag && !json_is_boolean(flag))
            return invalid(err, file, modes[i].flag, "true or false");
        if (json_is_true(flag) && !n++)
            *out = modes[i].pooling;
    }
    *several = n > 1;
    return ST_OK;
}

static enum status read_width(const json_t *config, const char *file, const struct model *m,
                              struct error *err)
{
    const char *key = "embedding_dimension";
    const json_t *width = json_object_get(config, key);
    if (!width)
        width = json_object_get(config, key = "word_embedding_dimension");
    if (!width || json_integer_value(width) == m->hidden)
        return ST_OK;
    return error_param(err, ST_CONFIG_INVALID_VALUE, key,
                       "%s: %s: the model's width %d is expected", file, key, m->hidden);
}

static enum status read_config(const char *dir, const char *folder, bool optional, struct model *m,
                               struct error *err)
{
    char file[128];
    json_t *config = NULL;
    bool several = false;
    enum pooling pooling = POOLING_NONE;
    snprintf(file, sizeof file, "%s/config.json", folder);
    enum status s = read_file(dir, file, false, optional, &config, err);
    if (s || !config)
        return s;
    s = read_width(config, file, m, err);
    s = s ? s : read_mode(config, file, &pooling, &several, err);
    json_decref(config);
    if (s)
        return s;
    if (several)
        return none(m, file, "asks for several pooling modes at once, which are not served", err);
    m->pooling = pooling;
    m->no_embedding = NULL;
    return ST_OK;
}

static bool bare_name(const char *name)
{
    return *name && strlen(name) < 64 && !strchr(name, '/') && strcmp(name, "..") &&
           strcmp(name, ".");
}

/* The steps of modules.json: *folder is that of the pooling step, *other one that is not ours. */
static enum status read_steps(const json_t *steps, const char **folder, const char **other,
                              struct error *err)
{
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        const char *type = json_string_value(json_object_get(step, "type"));
        const char *path = json_string_value(json_object_get(step, "path"));
        if (!type)
            return invalid(err, STEPS_FILE, "type", "a class's name");
        const char *dot = strrchr(type, '.'), *name = dot ? dot + 1 : type;
        if (!strcmp(name, "Pooling")) {
            if (!path || !bare_name(path))
                return invalid(err, STEPS_FILE, "path", "a folder's name");
            *folder = path;
        } else if (strcmp(name, "Transformer") && strcmp(name, "Normalize")) {
            *other = name;
        }
    }
    return ST_OK;
}

/* ---- scores ---- */

static enum status other_score(struct model *m, const char *name, struct error *err)
{
    m->score = SCORE_OTHER;
    m->other_score = arena_strdup(&m->config->arena, name);
    return m->other_score ? ST_OK : error_memory(err, "reading how pairs are scored");
}

/* sentence-transformers takes functions of torch alone from a file. */
static enum status read_function(const char *name, struct model *m, struct error *err)
{
    if (!strcmp(name, "torch.nn.modules.linear.Identity"))
        m->score = SCORE_LOGIT;
    else if (!strncmp(name, "torch.", 6) &&
             strcmp(name, "torch.nn.modules.activation.Sigmoid") != 0)
        return other_score(m, name, err);
    return ST_OK;
}

/* listed: there is a modules.json, without which the library does not look at its own config. */
static enum status read_score(const struct checkpoint *cp, bool listed, struct model *m,
                              struct error *err)
{
    json_t *own = NULL;
    enum status s = listed ? read_file(cp->dir, SCORE_FILE, false, true, &own, err) : ST_OK;
    if (s)
        return s;
    const json_t *older = json_object_get(cp->config, "sentence_transformers");
    const char *name = json_string_value(json_object_get(own, "activation_fn"));
    if (!name)
        name = json_string_value(json_object_get(older, "activation_fn"));
    if (!name)
        name =
            json_string_value(json_object_get(cp->config, "sbert_ce_default_activation_function"));
    m->score = SCORE_SIGMOID;
    if (name)
        s = read_function(name, m, err);
    json_decref(own);
    return s;
}

/* ---- the folder ---- */

static enum status read_folder(const struct checkpoint *cp, struct model *m, struct error *err)
{
    const char *dir = cp->dir;
    const char *folder = NULL, *other = NULL;
    json_t *steps = NULL;
    enum status s = ST_OK;
    m->no_embedding = NULL;
    m->pooling = m->kind == MODEL_DECODER                             ? POOLING_LAST
                 : m->kind != MODEL_ENCODER || m->config->pooler >= 0 ? POOLING_POOLER
                                                                      : POOLING_NONE;
    if (m->pooling == POOLING_NONE)
        s = none(m, "this checkpoint", "has no pooler", err);
    if (s || m->image.channels > 0)
        return s;
    s = read_file(dir, STEPS_FILE, true, true, &steps, err);
    s = s ? s : read_score(cp, steps != NULL, m, err);
    s = s ? s : read_steps(steps, &folder, &other, err);
    s = s ? s : read_config(dir, folder ? folder : FOLDER, !folder, m, err);
    if (!s && other)
        s = none(m, STEPS_FILE " lists a step that is not served:", other, err);
    if (!s && other)
        s = other_score(m, other, err);
    json_decref(steps);
    return s;
}

enum status pooling_read(const struct checkpoint *cp, struct model *m, struct findings *findings,
                         struct error *err)
{
    struct error why = ERROR_INIT;
    enum status s = read_folder(cp, m, &why);
    if (s == ST_OUT_OF_MEMORY) {
        error_move(err, &why);
        return s;
    }
    if (s)
        findings_add(findings, SEVERITY_ERROR, s, NULL, *why.param ? why.param : NULL, NULL, NULL,
                     "%s", why.text);
    error_clear(&why);
    return ST_OK;
}
