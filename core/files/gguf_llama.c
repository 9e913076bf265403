/*
 * Owns which keys of a llama's metadata mean what. A key llama.* changes the mathematics, so one
 * that is not in the table is refused by name, as is one with a value that would change it
 * (rope.scaling.type other than "none", experts, a rotation of a part of a head); llama.cpp's old
 * defaults stand in for what is left out (kv heads: heads; theta: 10000).
 */
#include "core/files/gguf_llama.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"

#define PREFIX   "llama."
#define SIZE_TOP (1 << 24)

/* The keys that are read here, or that say what is the case anyway. */
static const char *const known[] = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "vocab_size",
};
#define N_KNOWN (sizeof known / sizeof known[0])

struct reading {
    const struct gguf *g;
    struct error *err;
};

static const struct gguf_value *find(const struct reading *r, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, PREFIX "%s", name);
    return gguf_find(r->g, key);
}

/* A size in low..2^24; fallback (if not -1) where the key is missing. */
static enum status read_size(const struct reading *r, const char *name, int64_t low,
                             int64_t fallback, int64_t *out)
{
    const struct gguf_value *v = find(r, name);
    *out = fallback;
    if (!v)
        return fallback < 0 ? error_set(r->err, ST_CONFIG_MISSING_FIELD,
                                        "%s: key " PREFIX "%s is missing", gguf_path(r->g), name)
                            : ST_OK;
    if (!gguf_integer(v, out) || *out < low || *out > SIZE_TOP)
        return error_set(r->err, ST_CONFIG_INVALID_VALUE,
                         "%s: key " PREFIX "%s is not one integer from %lld to %d", gguf_path(r->g),
                         name, (long long)low, SIZE_TOP);
    return ST_OK;
}

/* A finite number above 0; fallback (if not 0) where the key is missing. */
static enum status read_number(const struct reading *r, const char *name, float fallback,
                               float *out)
{
    const struct gguf_value *v = find(r, name);
    *out = fallback;
    if (!v)
        return fallback == 0 ? error_set(r->err, ST_CONFIG_MISSING_FIELD,
                                         "%s: key " PREFIX "%s is missing", gguf_path(r->g), name)
                             : ST_OK;
    if (!gguf_float(v, out) || !isfinite(*out) || *out <= 0)
        return error_set(r->err, ST_CONFIG_INVALID_VALUE,
                         "%s: key " PREFIX "%s is not a finite number above 0", gguf_path(r->g),
                         name);
    return ST_OK;
}

static enum status refuse(const struct reading *r, const char *name, const char *expected)
{
    error_set(r->err, ST_CONFIG_UNSUPPORTED, "%s: key " PREFIX "%s is supported only as %s",
              gguf_path(r->g), name, expected);
    return ST_CONFIG_UNSUPPORTED;
}

static enum status check_architecture(const struct reading *r)
{
    struct gguf_text text = {"", 0};
    const struct gguf_value *v = gguf_find(r->g, "general.architecture");
    if (!gguf_string(v, &text))
        return error_set(r->err, ST_CONFIG_MISSING_FIELD, "%s: no text general.architecture",
                         gguf_path(r->g));
    if (text.n == 5 && !memcmp(text.v, "llama", 5))
        return ST_OK;
    return error_set(r->err, ST_MODEL_TYPE_UNSUPPORTED,
                     "%s: general.architecture is \"%.*s\", expected \"llama\"", gguf_path(r->g),
                     (int)(text.n < 64 ? text.n : 64), text.v);
}

static enum status check_keys(const struct reading *r)
{
    size_t n;
    const struct gguf_value *v = gguf_values(r->g, &n);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(v[i].key, PREFIX, strlen(PREFIX)) != 0)
            continue;
        size_t k = 0;
        while (k < N_KNOWN && strcmp(v[i].key + strlen(PREFIX), known[k]) != 0)
            k++;
        if (k == N_KNOWN)
            return error_set(r->err, ST_CONFIG_UNSUPPORTED, "%s: key %.200s is not supported",
                             gguf_path(r->g), v[i].key);
    }
    return ST_OK;
}

/* What would be another network. */
static enum status check_mechanisms(const struct reading *r, const struct gguf_llama *m)
{
    int64_t experts, used, value, rotated;
    struct gguf_text text;
    const struct gguf_value *scaling = find(r, "rope.scaling.type");
    if (scaling && (!gguf_string(scaling, &text) || text.n != 4 || memcmp(text.v, "none", 4) != 0))
        return refuse(r, "rope.scaling.type", "\"none\"");
    enum status s = read_size(r, "expert_count", 0, 0, &experts);
    s = s ? s : read_size(r, "expert_used_count", 0, 0, &used);
    s = s ? s : read_size(r, "attention.value_length", 1, m->head_dim, &value);
    s = s ? s : read_size(r, "rope.dimension_count", 1, m->head_dim, &rotated);
    if (s)
        return s;
    if (experts || used)
        return refuse(r, "expert_count", "0");
    if (value != m->head_dim)
        return refuse(r, "attention.value_length", "the length of keys");
    if (rotated != m->head_dim)
        return refuse(r, "rope.dimension_count", "the length of a head");
    return ST_OK;
}

static enum status read_heads(const struct reading *r, struct gguf_llama *m)
{
    enum status s = read_size(r, "attention.head_count", 1, -1, &m->heads);
    s = s ? s : read_size(r, "attention.head_count_kv", 1, m->heads, &m->kv_heads);
    if (s)
        return s;
    bool given = find(r, "attention.key_length");
    if (!given && m->hidden % m->heads)
        return error_set(r->err, ST_CONFIG_INVALID_VALUE,
                         "%s: %lld heads do not divide the hidden size %lld", gguf_path(r->g),
                         (long long)m->heads, (long long)m->hidden);
    s = read_size(r, "attention.key_length", 1, m->hidden / m->heads, &m->head_dim);
    if (s)
        return s;
    if (m->heads % m->kv_heads || m->head_dim % 2 || m->heads * m->head_dim > SIZE_TOP)
        return error_set(r->err, ST_CONFIG_INVALID_VALUE,
                         "%s: %lld heads of %lld with %lld for keys and values cannot be",
                         gguf_path(r->g), (long long)m->heads, (long long)m->head_dim,
                         (long long)m->kv_heads);
    return ST_OK;
}

/* The rows of the embedding, with which the metadata must agree. */
static enum status read_vocab(const struct reading *r, struct gguf_llama *m)
{
    const struct gguf_tensor *t = gguf_tensor_find(r->g, "token_embd.weight");
    if (!t || t->rank != 2 || t->shape[0] > SIZE_TOP)
        return error_set(r->err, t ? ST_TENSOR_SHAPE_MISMATCH : ST_TENSOR_MISSING,
                         "%s: tensor token_embd.weight is %s", gguf_path(r->g),
                         t ? "no matrix of at most 2^24 rows" : "missing");
    m->vocab = t->shape[0];
    int64_t said;
    enum status s = read_size(r, "vocab_size", 1, m->vocab, &said);
    if (!s && said != m->vocab)
        s = error_set(r->err, ST_TENSOR_SHAPE_MISMATCH,
                      "%s: tensor token_embd.weight has %lld rows, expected " PREFIX
                      "vocab_size %lld",
                      gguf_path(r->g), (long long)m->vocab, (long long)said);
    return s;
}

enum status gguf_llama_read(const struct gguf *g, struct gguf_llama *out, struct error *err)
{
    const struct reading r = {g, err};
    struct gguf_llama m = {.tied = !gguf_tensor_find(g, "output.weight")};
    enum status s = check_architecture(&r);
    s = s ? s : check_keys(&r);
    s = s ? s : read_size(&r, "block_count", 1, -1, &m.layers);
    s = s ? s : read_size(&r, "embedding_length", 1, -1, &m.hidden);
    s = s ? s : read_size(&r, "feed_forward_length", 1, -1, &m.ffn);
    s = s ? s : read_size(&r, "context_length", 1, -1, &m.context);
    s = s ? s : read_number(&r, "attention.layer_norm_rms_epsilon", 0, &m.eps);
    s = s ? s : read_number(&r, "rope.freq_base", 10000, &m.theta);
    s = s ? s : read_heads(&r, &m);
    s = s ? s : check_mechanisms(&r, &m);
    s = s ? s : read_vocab(&r, &m);
    *out = m;
    return s;
}

/* The shortest decimal that reads back as f: 1e-05, not 9.99999975e-06. */
static double shortest(float f)
{
    char text[32];
    format_f32(f, text);
    return strtod(text, NULL);
}

json_t *gguf_llama_config(const struct gguf_llama *m)
{
    return json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:b, s:b, s:s}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
        "hidden_size", (json_int_t)m->hidden, "intermediate_size", (json_int_t)m->ffn,
        "num_hidden_layers", (json_int_t)m->layers, "num_attention_heads", (json_int_t)m->heads,
        "num_key_value_heads", (json_int_t)m->kv_heads, "head_dim", (json_int_t)m->head_dim,
        "vocab_size", (json_int_t)m->vocab, "max_position_embeddings", (json_int_t)m->context,
        "rms_norm_eps", shortest(m->eps), "rope_theta", shortest(m->theta), "tie_word_embeddings",
        m->tied, "attention_bias", 0, "mlp_bias", 0, "torch_dtype", "float32");
}
