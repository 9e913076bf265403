/*
 * Owns the reading of config.json and generation_config.json: both generations' spellings, defaults
 * by family, and every check that needs no tensor. Nothing is taken on trust: a number that passes
 * here fits int32, divides what it must divide and cannot overflow a product below.
 */
#include "core/model/hfconfig.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/keys.h"

/* Bounds of single sizes: far above any model, far below an overflow. */
#define WIDTH_MAX     (1 << 24)
#define HEADS_MAX     (1 << 16)
#define VOCAB_MAX     (1 << 28)
#define LAYERS_MAX    (1 << 14)
#define POSITIONS_MAX (1 << 30)

static const struct {
    const char *name;
    enum activation activation;
} activations[] = {
    {"silu", ACT_SILU},          {"swish", ACT_SILU},
    {"gelu", ACT_GELU},          {"gelu_python", ACT_GELU},
    {"gelu_new", ACT_GELU_TANH}, {"gelu_fast", ACT_GELU_TANH},
    {"relu", ACT_RELU},          {"gelu_pytorch_tanh", ACT_GELU_TANH},
    {"tanh", ACT_TANH},          {"quick_gelu", ACT_QUICK_GELU},
};

static void read_activation(const struct keys *k, struct model_config *c)
{
    const char *key = FAMILY_KEY(c->family, activation, "hidden_act");
    const char *name = keys_text(k, key, c->family->default_activation);
    if (!name)
        return;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (!strcmp(name, activations[i].name)) {
            c->activation = activations[i].activation;
            return;
        }
    keys_refuse(k, ST_CONFIG_UNSUPPORTED, key,
                "silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, tanh or "
                "quick_gelu");
}

static const char *heads_key(const struct family *f)
{
    return FAMILY_KEY(f, heads, "num_attention_heads");
}

static void read_heads(const struct keys *k, struct model_config *c)
{
    const struct family *f = c->family;
    const char *key = heads_key(f);
    if (!keys_int(k, key, 1, HEADS_MAX, KEYS_REQUIRED, &c->heads))
        return;
    if (keys_int(k, "num_key_value_heads", 1, HEADS_MAX, c->heads, &c->kv_heads) &&
        c->heads % c->kv_heads && !f->own_kv_heads)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "num_key_value_heads",
                    "a divisor of num_attention_heads");
    if (keys_get(k, "head_dim")) {
        if (!keys_int(k, "head_dim", 1, HEAD_DIM_MAX, KEYS_REQUIRED, &c->head_dim))
            return;
    } else if (f->head_dim) {
        c->head_dim = f->head_dim;
    } else if (c->hidden % c->heads == 0) {
        c->head_dim = c->hidden / c->heads;
    } else {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "a divisor of the hidden size");
        return;
    }
    if (c->head_dim > HEAD_DIM_MAX)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "heads of at most 1024 elements each");
    if ((int64_t)c->heads * c->head_dim > WIDTH_MAX)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "heads times head_dim of at most 16777216");
    if (c->head_dim > 0)
        c->attention_scale = (float)pow(c->head_dim, -0.5);
}

/* What has an entry for each layer or head, before the family's options fill it in. */
static enum status read_layers(const struct keys *k, struct model_config *c)
{
    if (!keys_int(k, FAMILY_KEY(c->family, layers, "num_hidden_layers"), 1, LAYERS_MAX,
                  KEYS_REQUIRED, &c->base_layers) ||
        c->heads < 1)
        return ST_OK;
    c->windows = arena_alloc(&c->arena, (size_t)c->base_layers * sizeof *c->windows);
    c->local = arena_alloc(&c->arena, (size_t)c->base_layers * sizeof *c->local);
    c->sparse = arena_alloc(&c->arena, (size_t)c->base_layers * sizeof *c->sparse);
    c->alibi = arena_alloc(&c->arena, (size_t)c->heads * sizeof *c->alibi);
    if (!c->windows || !c->local || !c->sparse || !c->alibi)
        return ST_OUT_OF_MEMORY;
    c->family->options(k, c);
    return ST_OK;
}

static void read_sizes(const struct keys *k, struct model_config *c)
{
    const struct family *f = c->family;
    const char *key = FAMILY_KEY(f, hidden, "hidden_size");
    keys_int(k, key, 1, WIDTH_MAX, KEYS_REQUIRED, &c->hidden);
    c->embedding_dim = c->hidden;
    int64_t inner = f->intermediate_ratio ? (int64_t)f->intermediate_ratio * c->hidden : 0;
    key = FAMILY_KEY(f, intermediate, "intermediate_size");
    keys_int(k, key, 1, WIDTH_MAX, inner ? inner : KEYS_REQUIRED, &c->intermediate);
    keys_int(k, FAMILY_KEY(f, max_positions, "max_position_embeddings"), 1, POSITIONS_MAX,
             f->max_positions, &c->max_positions);
    c->position_offset = f->position_offset;
    c->position_rows = c->max_positions + f->position_offset;
}

static void read_norm_eps(const struct keys *k, struct model_config *c)
{
    double eps = c->family->default_eps;
    if (c->family->norm_eps)
        keys_positive(k, c->family->norm_eps, eps, &eps);
    c->norm_eps = (float)eps;
}

/* ---- identity, tokens ---- */

/* One token id of the vocabulary; -1, a convention for none, is passed over. */
static bool read_token(const struct keys *k, const char *key, const json_t *v, int32_t vocab,
                       int32_t *out)
{
    *out = -1;
    if (json_is_integer(v) && json_integer_value(v) >= -1 && json_integer_value(v) < vocab) {
        *out = (int32_t)json_integer_value(v);
        return *out >= 0;
    }
    char expected[64];
    snprintf(expected, sizeof expected, "token ids below vocab_size %d", (int)vocab);
    keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, expected);
    return false;
}

static void add_eos(struct model_config *c, int32_t id)
{
    for (size_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id)
            return;
    c->eos[c->n_eos++] = id;
}

/* End tokens of one file, one id or a list. c->eos has room for all. */
static void read_eos(const struct keys *k, struct model_config *c)
{
    const json_t *v = keys_get(k, "eos_token_id");
    int32_t id;
    if (!v)
        return;
    if (!json_is_array(v)) {
        if (read_token(k, "eos_token_id", v, c->vocab, &id))
            add_eos(c, id);
        return;
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        if (read_token(k, "eos_token_id", json_array_get(v, i), c->vocab, &id))
            add_eos(c, id);
}

static size_t eos_count(const json_t *config)
{
    const json_t *v = json_object_get(config, "eos_token_id");
    return json_is_array(v) ? json_array_size(v) : 1;
}

static enum status read_tokens(const struct keys *k, const json_t *generation,
                               struct model_config *c)
{
    struct keys g = {generation, "generation_config.json", "", k->findings};
    const json_t *bos = keys_get(k, "bos_token_id");
    size_t most = eos_count(k->object) + eos_count(generation);
    c->bos = -1;
    if (most > 4096) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "eos_token_id", "at most 4096 end tokens");
        return ST_OK;
    }
    c->eos = arena_alloc(&c->arena, most * sizeof *c->eos);
    if (!c->eos)
        return ST_OUT_OF_MEMORY;
    if (bos)
        read_token(k, "bos_token_id", bos, c->vocab, &c->bos);
    read_eos(k, c);
    if (generation)
        read_eos(&g, c);
    return ST_OK;
}

/* ---- quantization ---- */

/* Only that somebody in the chain may know the method; which module is stored how is the back ends'
 * to see. Neural Compressor names no method, it is known by its own keys. */
static bool known_method(const struct keys *q)
{
    static const char *const methods[] = {"gptq", "awq", "aqlm", "eetq", "hqq", "inc", "fp8"};
    const json_t *v = keys_get(q, "quant_method");
    const char *method = json_string_value(v);
    if (json_is_true(keys_get(q, "load_in_4bit")) || json_is_true(keys_get(q, "load_in_8bit")))
        return true; // bitsandbytes; without one of the two nobody knows which of its formats
    if (!v)
        return keys_get(q, "fp8_config") && keys_get(q, "mode");
    for (size_t i = 0; method && i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(method, methods[i]))
            return true;
    return method && strstr(method, "auto-round");
}

static void check_quant_method(const struct checkpoint *cp, struct findings *findings)
{
    struct keys q = {cp->quant, "config.json", "quantization_config.", findings};
    if (cp->quant && !known_method(&q))
        keys_refuse(&q, ST_QUANT_METHOD_UNSUPPORTED, "quant_method",
                    "bitsandbytes with load_in_4bit or load_in_8bit, gptq, awq, aqlm, eetq, hqq, "
                    "auto-round or fp8");
}

/* ---- all of it ---- */

static const struct family *read_family(const struct keys *k)
{
    const char *type = keys_get(k, "model_type") ? keys_text(k, "model_type", NULL) : NULL;
    const struct family *f = type ? family_find(type) : NULL;
    char expected[256];
    if (!f && (type || !keys_get(k, "model_type")))
        keys_refuse(k, type ? ST_MODEL_TYPE_UNSUPPORTED : ST_CONFIG_MISSING_FIELD, "model_type",
                    family_list(expected, sizeof expected));
    return f;
}

/* What has layers of attention. */
static enum status read_transformer(const struct keys *k, const struct checkpoint *cp,
                                    struct model_config *c)
{
    read_sizes(k, c);
    read_heads(k, c);
    enum status s = read_layers(k, c);
    if (s == ST_OK && !c->family->images &&
        keys_int(k, "vocab_size", 1, VOCAB_MAX, KEYS_REQUIRED, &c->vocab))
        s = read_tokens(k, cp->generation, c);
    return s == ST_OK && c->positions == POSITIONS_ROPE ? rope_read(k, c) : s;
}

enum status hfconfig_read(const struct checkpoint *cp, struct model_config *c,
                          struct findings *findings)
{
    struct keys k = {cp->config, "config.json", "", findings};
    c->family = read_family(&k);
    check_quant_method(cp, findings);
    if (!c->family)
        return ST_OK;
    c->conditions = 1u << WHEN_ALWAYS;
    c->embedding_scale = 1;
    c->bos = -1;
    keys_check_known(&k, c->family);
    if (classes_read(&k, c))
        return ST_OUT_OF_MEMORY;
    keys_bool(&k, "tie_word_embeddings", c->family->tied, &c->tied);
    c->tied = c->tied && !c->classifier_kind;
    read_norm_eps(&k, c);
    read_activation(&k, c);
    if (!c->family->shape)
        return read_transformer(&k, cp, c);
    return c->family->shape(&k, c);
}

/* Every size that a matrix may have, and the keys that decide it. */
enum size {
    HIDDEN,
    INNER,
    VOCAB,
    EMBEDDING,
    Q_ROWS,
    KV_ROWS,
    QKV_ROWS,
    GATE_UP_ROWS,
    POSITIONS,
    TYPES,
    EXPERTS,
    EXPERT_INNER,
    LABELS
};

static const struct {
    uint8_t n, k;
} shapes[ROLE_COUNT] = {
    [ROLE_EMBEDDING] = {VOCAB, EMBEDDING},
    [ROLE_POSITION] = {POSITIONS, HIDDEN},
    [ROLE_TYPE] = {TYPES, HIDDEN},
    [ROLE_POOLER] = {HIDDEN, HIDDEN},
    [ROLE_PROJECT_IN] = {HIDDEN, EMBEDDING},
    [ROLE_PROJECT_OUT] = {EMBEDDING, HIDDEN},
    [ROLE_Q] = {Q_ROWS, HIDDEN},
    [ROLE_K] = {KV_ROWS, HIDDEN},
    [ROLE_V] = {KV_ROWS, HIDDEN},
    [ROLE_QKV] = {QKV_ROWS, HIDDEN},
    [ROLE_O] = {HIDDEN, Q_ROWS},
    [ROLE_GATE] = {INNER, HIDDEN},
    [ROLE_UP] = {INNER, HIDDEN},
    [ROLE_GATE_UP] = {GATE_UP_ROWS, HIDDEN},
    [ROLE_DOWN] = {HIDDEN, INNER},
    [ROLE_ROUTER] = {EXPERTS, HIDDEN},
    [ROLE_EXPERT_GATE] = {EXPERT_INNER, HIDDEN},
    [ROLE_EXPERT_UP] = {EXPERT_INNER, HIDDEN},
    [ROLE_EXPERT_DOWN] = {HIDDEN, EXPERT_INNER},
    [ROLE_HEAD] = {VOCAB, EMBEDDING},
    [ROLE_CLASSIFIER_DENSE] = {HIDDEN, HIDDEN},
    [ROLE_CLASSIFIER] = {LABELS, EMBEDDING},
};

static int64_t size_of(const struct model_config *c, enum size size)
{
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    switch (size) {
    case HIDDEN:
        return c->hidden;
    case INNER:
        return c->intermediate;
    case VOCAB:
        return c->vocab;
    case EMBEDDING:
        return c->embedding_dim;
    case Q_ROWS:
        return q;
    case KV_ROWS:
        return kv;
    case QKV_ROWS:
        return q + 2 * kv;
    case GATE_UP_ROWS:
        return 2 * (int64_t)c->intermediate;
    case POSITIONS:
        return c->position_rows;
    case TYPES:
        return c->types;
    case EXPERTS:
        return c->experts;
    case EXPERT_INNER:
        return c->expert_inner;
    case LABELS:
        return c->labels;
    }
    return 0;
}

void hfconfig_shape(const struct model_config *c, enum role role, int64_t *n, int64_t *k)
{
    *n = size_of(c, (enum size)shapes[role].n);
    *k = size_of(c, (enum size)shapes[role].k);
}

const char *hfconfig_shape_key(const struct model_config *c, enum role role, int side)
{
    const struct family *f = c->family;
    switch ((enum size)(side == 0 ? shapes[role].n : shapes[role].k)) {
    case HIDDEN:
        return FAMILY_KEY(f, hidden, "hidden_size");
    case INNER:
        return FAMILY_KEY(f, intermediate, "intermediate_size");
    case VOCAB:
        return "vocab_size";
    case EMBEDDING:
        return c->embedding_dim == c->hidden ? FAMILY_KEY(f, hidden, "hidden_size")
                                             : "word_embed_proj_dim";
    case Q_ROWS:
        return "num_attention_heads * head_dim";
    case KV_ROWS:
        return "num_key_value_heads * head_dim";
    case QKV_ROWS:
        return "heads and kv heads * head_dim";
    case GATE_UP_ROWS:
        return "2 * intermediate_size";
    case POSITIONS:
        return FAMILY_KEY(f, max_positions, "max_position_embeddings");
    case TYPES:
        return "type_vocab_size";
    case EXPERTS:
        return "num_local_experts";
    case EXPERT_INNER:
        return "the experts' intermediate size";
    case LABELS:
        return "id2label";
    }
    return "";
}

bool hfconfig_has_bias(const struct model_config *c, enum bias_rule rule)
{
    switch (rule) {
    case BIAS_NEVER:
        return false;
    case BIAS_ALWAYS:
        return true;
    case BIAS_ATTENTION:
        return c->attention_bias;
    case BIAS_MLP:
        return c->mlp_bias;
    case BIAS_LABELS:
        return c->label_bias;
    }
    return false;
}
