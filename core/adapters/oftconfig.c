/*
 * Owns the keys of adapter_config.json: one row a key, with its type; what one key means together
 * with another (r and oft_block_size, the Neumann series and peft_version, layer_replication and
 * the daemon's own list) is checked below the table. It knows no tensors.
 */
#include "core/adapters/oftconfig.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/adapters/rotation.h"
#include "core/json.h"

enum type {
    STRING,
    BOOLEAN,
    COUNT, /* 0 .. INT32_MAX */
    NUMBER,
    NAMES,    /* a string or a list of strings */
    INTEGERS, /* an integer or a list of integers */
    OBJECT
};

static const char *const type_text[] = {
    [STRING] = "a string",
    [BOOLEAN] = "true or false",
    [COUNT] = "an integer from 0 to 2147483647",
    [NUMBER] = "a finite number",
    [NAMES] = "a string or a list of strings",
    [INTEGERS] = "an integer or a list of integers from 0 to 2147483647",
    [OBJECT] = "an object",
};

static const struct key {
    const char *name;
    enum type type;
    bool null; /* may be null, which is the same as absent */
} keys[] = {
    {"peft_type", STRING, false},
    {"r", COUNT, false},
    {"oft_block_size", COUNT, false},
    {"use_cayley_neumann", BOOLEAN, false},
    {"num_cayley_neumann_terms", COUNT, false},
    {"coft", BOOLEAN, false},
    {"eps", NUMBER, false},
    {"block_share", BOOLEAN, false},
    {"bias", STRING, false},
    {"target_modules", NAMES, true},
    {"exclude_modules", NAMES, true},
    {"layers_to_transform", INTEGERS, true},
    {"layers_pattern", NAMES, true},
    {"modules_to_save", NAMES, true},
    {"task_type", STRING, true},
    {"peft_version", STRING, true},
    {"fan_in_fan_out", BOOLEAN, false},
    {"module_dropout", NUMBER, false},
    {"init_weights", BOOLEAN, false},
    {"inference_mode", BOOLEAN, false},
    {"base_model_name_or_path", STRING, true},
    {"revision", STRING, true},
    {"auto_mapping", OBJECT, true},
    {"runtime_config", OBJECT, true},
};
#define N_KEYS (sizeof keys / sizeof keys[0])

/* Keys of other methods that would change the math here, unless they are empty. */
static const char *const foreign[] = {"rank_pattern", "alpha_pattern", "target_parameters"};
#define N_FOREIGN (sizeof foreign / sizeof foreign[0])

static const char *const task_types[] = {"SEQ_CLS",   "SEQ_2_SEQ_LM", "CAUSAL_LM",
                                         "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"};
#define N_TASKS (sizeof task_types / sizeof task_types[0])

struct reader {
    const struct oftconfig *c;
    struct findings *f;
};

/* A value as text for `got`, cut to fit. */
static const char *value_text(const json_t *v, char *buf, size_t size)
{
    if (!v)
        return "nothing";
    char *text = json_text(v, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(buf, size, "%s", text ? text : "a value");
    free(text);
    return buf;
}

static void invalid(const struct reader *r, const char *key, const json_t *v, const char *expected)
{
    char got[96];
    value_text(v, got, sizeof got);
    findings_add(r->f, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, NULL, key, expected, got,
                 "%s: %s must be %s, not %s", r->c->path, key, expected, got);
}

static void missing(const struct reader *r, const char *key, const char *why)
{
    findings_add(r->f, SEVERITY_ERROR, ST_CONFIG_MISSING_FIELD, NULL, key, "a value", "nothing",
                 "%s: %s is missing%s", r->c->path, key, why);
}

static bool is_count(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX;
}

static bool has_type(const json_t *v, enum type type)
{
    const json_t *item;
    size_t i;
    switch (type) {
    case STRING:
        return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
    case BOOLEAN:
        return json_is_boolean(v);
    case COUNT:
        return is_count(v);
    case NUMBER:
        return json_is_number(v) && isfinite(json_number_value(v));
    case OBJECT:
        return json_is_object(v);
    case NAMES:
    case INTEGERS:
        if (!json_is_array(v))
            return has_type(v, type == NAMES ? STRING : COUNT);
        json_array_foreach(v, i,
                           item) if (!has_type(item, type == NAMES ? STRING : COUNT)) return false;
        return true;
    }
    return false;
}

/* The value of a key if it is there, not null and of its type, which has been reported otherwise.
 */
static const json_t *get(const struct reader *r, const char *name)
{
    const json_t *v = json_object_get(r->c->json, name);
    for (size_t i = 0; i < N_KEYS; i++)
        if (!strcmp(keys[i].name, name))
            return has_type(v, keys[i].type) ? v : NULL;
    return NULL;
}

static void get_bool(const struct reader *r, const char *name, bool *out)
{
    const json_t *v = get(r, name);
    if (v)
        *out = json_is_true(v);
}

static void check_types(const struct reader *r)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const json_t *v = json_object_get(r->c->json, keys[i].name);
        if (v && !(json_is_null(v) && keys[i].null) && !has_type(v, keys[i].type))
            invalid(r, keys[i].name, v, type_text[keys[i].type]);
    }
}

static bool is_empty(const json_t *v)
{
    return json_is_null(v) || (json_is_object(v) && !json_object_size(v)) ||
           (json_is_array(v) && !json_array_size(v));
}

static void check_unknown(const struct reader *r)
{
    const char *known[N_KEYS];
    for (size_t i = 0; i < N_KEYS; i++)
        known[i] = keys[i].name;
    const char *name;
    json_t *v;
    json_object_foreach(r->c->json, name, v)
    {
        bool is_known = !strcmp(name, "layer_replication"), changes = false;
        for (size_t i = 0; i < N_KEYS; i++)
            is_known |= !strcmp(name, known[i]);
        if (is_known)
            continue;
        for (size_t i = 0; i < N_FOREIGN; i++)
            changes |= !strcmp(name, foreign[i]) && !is_empty(v);
        const char *near = nearest_word(name, known, N_KEYS);
        char got[96];
        findings_add(r->f, changes ? SEVERITY_ERROR : SEVERITY_WARNING, ST_CONFIG_UNKNOWN_FIELD,
                     NULL, name, near, value_text(v, got, sizeof got),
                     changes ? "%s: %s is no key of an OFT adapter and would change the result%s%s"
                             : "%s: %s is no key of an OFT adapter and is ignored%s%s",
                     r->c->path, name, near ? "; the nearest is " : "", near ? near : "");
    }
}

static void check_method(const struct reader *r, struct oftconfig *out)
{
    const json_t *v = json_object_get(r->c->json, "peft_type");
    if (!v)
        missing(r, "peft_type", "");
    else if (json_is_string(v) && strcmp(json_string_value(v), "OFT"))
        findings_add(r->f, SEVERITY_ERROR, ST_PEFT_TYPE_UNSUPPORTED, NULL, "peft_type", "OFT",
                     json_string_value(v), "%s: peft_type must be OFT, not %s", r->c->path,
                     json_string_value(v));
    v = get(r, "task_type");
    if (v) {
        bool known = false;
        for (size_t i = 0; i < N_TASKS; i++)
            known |= !strcmp(json_string_value(v), task_types[i]);
        if (!known)
            invalid(r, "task_type", v, "a task type of PEFT");
        out->task = !strcmp(json_string_value(v), "SEQ_CLS")     ? CLASSIFIER_SEQUENCE
                    : !strcmp(json_string_value(v), "TOKEN_CLS") ? CLASSIFIER_TOKEN
                                                                 : CLASSIFIER_NONE;
    }
    v = get(r, "bias");
    if (v) {
        const char *s = json_string_value(v);
        if (!strcmp(s, "all"))
            out->bias = OFT_BIAS_ALL;
        else if (!strcmp(s, "oft_only"))
            out->bias = OFT_BIAS_ONLY;
        else if (strcmp(s, "none"))
            invalid(r, "bias", v, "none, all or oft_only");
    }
}

static void check_blocks(const struct reader *r, struct oftconfig *out)
{
    const json_t *v = get(r, "r");
    out->blocks = v ? json_integer_value(v) : 0;
    if (!json_object_get(r->c->json, "oft_block_size")) {
        missing(r, "oft_block_size", ": adapters of PEFT 0.14 and older are not supported");
        return;
    }
    v = get(r, "oft_block_size");
    out->block = v ? json_integer_value(v) : 0;
    const json_t *given = json_object_get(r->c->json, "r");
    bool typed = v && (!given || has_type(given, COUNT));
    if (typed && !out->blocks == !out->block) {
        char got[96];
        snprintf(got, sizeof got, "r %" PRId64 ", oft_block_size %" PRId64, out->blocks,
                 out->block);
        findings_add(r->f, SEVERITY_ERROR, ST_R_AND_BLOCK_SIZE_CONFLICT, NULL, "oft_block_size",
                     "exactly one of r and oft_block_size above 0", got,
                     "%s: exactly one of r and oft_block_size must be above 0, not %s", r->c->path,
                     got);
    }
}

static void check_cayley(const struct reader *r, struct oftconfig *out)
{
    out->neumann = true;
    out->terms = 5;
    out->eps = 6e-5;
    get_bool(r, "use_cayley_neumann", &out->neumann);
    get_bool(r, "coft", &out->coft);
    get_bool(r, "block_share", &out->block_share);
    const json_t *v = get(r, "num_cayley_neumann_terms");
    if (v && json_integer_value(v) > ROTATION_TERMS_MAX)
        invalid(r, "num_cayley_neumann_terms", v, "an integer from 0 to 64");
    else if (v)
        out->terms = (int32_t)json_integer_value(v);
    v = get(r, "eps");
    if (v && json_number_value(v) < 0)
        invalid(r, "eps", v, "0 or above");
    else if (v)
        out->eps = json_number_value(v);
    if (!out->neumann)
        return;
    bool ok;
    v = get(r, "peft_version");
    out->old_series = oftconfig_version_old(v ? json_string_value(v) : NULL, &ok);
    if (!ok)
        invalid(r, "peft_version", v, "a version");
    else if (out->old_series)
        findings_add(r->f, SEVERITY_WARNING, ST_CAYLEY_VERSION_MISMATCH, NULL, "peft_version",
                     "0.18.0 or newer", v ? json_string_value(v) : "nothing",
                     "%s: the adapter was trained with the Neumann series of PEFT before 0.18",
                     r->c->path);
}

static void check_selection(const struct reader *r, struct oftconfig *out)
{
    out->target_modules = get(r, "target_modules");
    out->exclude_modules = get(r, "exclude_modules");
    out->layers_pattern = get(r, "layers_pattern");
    out->layers_to_transform = get(r, "layers_to_transform");
    if (json_is_array(out->layers_to_transform) && !json_array_size(out->layers_to_transform))
        out->layers_to_transform = NULL;
    bool no_pattern =
        !out->layers_pattern || is_empty(out->layers_pattern) ||
        (json_is_string(out->layers_pattern) && !json_string_length(out->layers_pattern));
    if (no_pattern)
        out->layers_pattern = NULL;
    else if (!out->layers_to_transform)
        invalid(r, "layers_pattern", out->layers_pattern, "accompanied by layers_to_transform");
}

/* PEFT names both for every classifier, whichever the class has. */
static bool is_head(const char *name)
{
    return !strcmp(name, "score") || !strcmp(name, "classifier");
}

static void check_saved(const struct reader *r, struct oftconfig *out)
{
    const json_t *v = get(r, "modules_to_save"), *item = v;
    size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        if (json_is_array(v))
            item = json_array_get(v, i);
        const char *name = json_string_value(item);
        if (is_head(name)) {
            out->saves_head = true;
            continue;
        }
        out->saves_modules = true;
        findings_add(r->f, SEVERITY_ERROR, ST_MODULES_TO_SAVE_UNSUPPORTED, name, "modules_to_save",
                     "score or classifier", name,
                     "%s: modules_to_save: a trained copy of %s cannot be served", r->c->path,
                     name);
    }
}

/* Is the config's list the one the daemon runs with? */
static bool same_replication(const json_t *v, const struct model *m)
{
    if (!json_is_array(v) || json_array_size(v) != m->n_replication)
        return false;
    for (size_t i = 0; i < m->n_replication; i++) {
        const json_t *range = json_array_get(v, i);
        const json_t *first = json_array_get(range, 0), *end = json_array_get(range, 1);
        if (json_array_size(range) != 2 || !is_count(first) || !is_count(end) ||
            json_integer_value(first) != m->replication[i].first ||
            json_integer_value(end) != m->replication[i].end)
            return false;
    }
    return true;
}

static void replication_text(const struct model *m, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, m->n_replication ? "[" : "no layer_replication");
    for (size_t i = 0; i < m->n_replication && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s[%d,%d]%s", i ? "," : "",
                               m->replication[i].first, m->replication[i].end,
                               i + 1 == m->n_replication ? "]" : "");
}

static void check_replication(const struct reader *r, const struct model *m, bool permissive)
{
    const json_t *v = json_object_get(r->c->json, "layer_replication");
    if (!v || is_empty(v) || same_replication(v, m))
        return;
    char expected[160], got[96];
    replication_text(m, expected, sizeof expected);
    value_text(v, got, sizeof got);
    findings_add(r->f, permissive ? SEVERITY_WARNING : SEVERITY_ERROR, ST_BASE_MODEL_MISMATCH, NULL,
                 "layer_replication", expected, got,
                 "%s: layer_replication is %s, the daemon runs with %s", r->c->path, got, expected);
    if (!m->n_replication)
        findings_add(r->f, SEVERITY_ERROR, ST_CONFIG_UNKNOWN_FIELD, NULL, "layer_replication",
                     expected, got,
                     "%s: layer_replication names layers that the daemon does not have: start it "
                     "with --layer-replication",
                     r->c->path);
}

/* Python writes NaN and Infinity, which JSON has not: the key before such a word, or NULL. */
static char *non_finite_key(const char *text, size_t len)
{
    const char *start = NULL, *end = NULL;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            in_string = !in_string;
            *(in_string ? &start : &end) = text + i + in_string;
        } else if (!in_string && (text[i] == 'N' || text[i] == 'I')) {
            return end ? strndup(start, (size_t)(end - start)) : NULL;
        }
    }
    return NULL;
}

/* JSON text to an object; what is wrong becomes a finding. */
static enum status parse(const char *text, size_t len, struct oftconfig *out, struct findings *f,
                         struct error *err)
{
    struct error why = ERROR_INIT;
    struct reader r = {out, f};
    enum status s = json_parse(text, len, JSON_DEPTH_MAX, out->path, &out->json, &why);
    if (s == ST_OUT_OF_MEMORY) {
        error_move(err, &why);
        return s;
    }
    if (s == ST_OK && !json_is_object(out->json)) {
        invalid(&r, "adapter_config.json", out->json, "an object");
        json_decref(out->json);
        out->json = NULL;
    } else if (s) {
        char *key = non_finite_key(text, len);
        if (s == ST_INVALID_JSON && key)
            findings_add(f, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, NULL, key, "a finite number",
                         "NaN or Infinity", "%s: %s must be a finite number", out->path, key);
        else
            findings_add(f, SEVERITY_ERROR,
                         s == ST_CONFIG_DUPLICATE_KEY ? s : ST_CONFIG_INVALID_VALUE, NULL,
                         "adapter_config.json", "valid JSON, each key once", NULL, "%s", why.text);
        free(key);
    }
    error_clear(&why);
    return ST_OK;
}

enum status oftconfig_parse(const char *text, size_t len, const char *path, const struct model *m,
                            bool permissive, struct oftconfig *out, struct findings *findings,
                            struct error *err)
{
    memset(out, 0, sizeof *out);
    out->path = path;
    enum status s = parse(text, len, out, findings, err);
    if (s || !out->json)
        return s;
    struct reader r = {out, findings};
    check_types(&r);
    check_unknown(&r);
    check_method(&r, out);
    check_blocks(&r, out);
    check_cayley(&r, out);
    check_selection(&r, out);
    check_saved(&r, out);
    check_replication(&r, m, permissive);
    return ST_OK;
}

void oftconfig_clear(struct oftconfig *c)
{
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}

/* The number at *p, which is moved behind it; -1 if there is none. */
static long number(const char **p)
{
    if (**p < '0' || **p > '9')
        return -1;
    long n = 0;
    for (; **p >= '0' && **p <= '9'; ++*p)
        n = n < 1000000 ? n * 10 + (**p - '0') : n;
    return n;
}

bool oftconfig_version_old(const char *version, bool *ok)
{
    static const long threshold[3] = {0, 18, 0};
    const char *p = version ? version : "0";
    long part[3] = {0};
    p += *p == 'v';
    *ok = true;
    int n = 0;
    for (;; n++) {
        long x = number(&p);
        if (x < 0)
            break;
        if (n < 3)
            part[n] = x;
        if (*p != '.' || p[1] < '0' || p[1] > '9') {
            n++;
            break;
        }
        p++;
    }
    *ok = n > 0;
    for (int i = 0; i < 3; i++)
        if (part[i] != threshold[i])
            return part[i] < threshold[i];
    // the same release: a pre-release or a development version of it comes before it
    bool post = !strncmp(p, ".post", 5) || !strncmp(p, "post", 4) || *p == '-';
    return *p && *p != '@' && *p != '+' && !post;
}
