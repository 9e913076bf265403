/*
 * Owns what only some families' config.json say: the function that a row of family.def names for
 * its family. Each reads the family's own keys after the common ones and sets numbers and switches
 * of struct model_config; the decoder sees only those. Whatever an option means is decided here
 * once, by the reference's rule for the class, defaults included.
 */
#include <math.h>
#include <string.h>

#include "core/model/hfconfig.h"
#include "core/model/keys.h"

/* The class's default where the key is absent; an explicit null says that there is no window. */
static bool read_window(const struct keys *k, int32_t fallback, int32_t *window)
{
    *window = 0;
    if (json_is_null(json_object_get(k->object, "sliding_window")))
        return true;
    return keys_int(k, "sliding_window", 1, INT32_MAX, fallback, window);
}

static void fill_windows(struct model_config *c, int32_t first, int32_t window)
{
    for (int32_t i = first; i < c->base_layers; i++)
        c->windows[i] = window;
}

/* layer_types, one entry a layer; those that slide get the window. */
static void read_types(const struct keys *k, struct model_config *c, int32_t window)
{
    const json_t *types = keys_get(k, "layer_types");
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->base_layers) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "layer_types", "one entry for each layer");
        return;
    }
    for (int32_t i = 0; i < c->base_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        bool slides = type && !strcmp(type, "sliding_attention");
        if (!slides && (!type || strcmp(type, "full_attention"))) {
            keys_refuse(k, ST_CONFIG_UNSUPPORTED, "layer_types",
                        "full_attention or sliding_attention");
            return;
        }
        if (slides && window == 0) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "layer_types",
                        "full_attention where no sliding window is in use");
            return;
        }
        c->windows[i] = slides ? window : 0;
    }
}

/* Only with use_sliding_window: the layers that layer_types names, else those from
 * max_window_layers on. */
static void read_late_windows(const struct keys *k, struct model_config *c)
{
    bool use;
    int32_t window = 0, first;
    bool ok = keys_bool(k, "use_sliding_window", false, &use);
    ok &= keys_int(k, "max_window_layers", 0, INT32_MAX, 28, &first);
    if (use)
        ok &= read_window(k, 4096, &window);
    if (!ok)
        return;
    if (keys_get(k, "layer_types"))
        read_types(k, c, window);
    else
        fill_windows(c, first, window);
}

static void read_cap(const struct keys *k, const char *key, double fallback, float *cap)
{
    double value = 0;
    *cap = 0;
    if (json_is_null(json_object_get(k->object, key)))
        return;
    if (!keys_get(k, key) && fallback == 0)
        return;
    keys_positive(k, key, fallback == 0 ? NAN : fallback, &value);
    *cap = (float)value;
}

/* A layer norm's options that would change what is stored. */
static void want(const struct keys *k, const char *key, bool value)
{
    bool is;
    if (keys_bool(k, key, value, &is) && is != value)
        keys_refuse(k, ST_CONFIG_UNSUPPORTED, key, value ? "true" : "false");
}

void options_llama(const struct keys *k, struct model_config *c)
{
    keys_bool(k, "attention_bias", false, &c->attention_bias);
    keys_bool(k, "mlp_bias", false, &c->mlp_bias);
}

/* Every layer slides. */
void options_mistral(const struct keys *k, struct model_config *c)
{
    int32_t window;
    if (read_window(k, 4096, &window))
        fill_windows(c, 0, window);
}

void options_qwen2(const struct keys *k, struct model_config *c)
{
    read_late_windows(k, c);
}

void options_qwen3(const struct keys *k, struct model_config *c)
{
    keys_bool(k, "attention_bias", false, &c->attention_bias);
    read_late_windows(k, c);
}

/* The first files say "gelu" and mean its tanh form. */
void options_gemma(const struct keys *k, struct model_config *c)
{
    keys_bool(k, "attention_bias", false, &c->attention_bias);
    want(k, "use_bidirectional_attention", false);
    c->embedding_scale = (float)sqrt(c->hidden);
    c->activation = c->activation == ACT_GELU ? ACT_GELU_TANH : c->activation;
}

/* What both later gemmas share: the scaled embedding, the scores' own scale, biases, caps. */
static void read_gemma(const struct keys *k, struct model_config *c, bool caps)
{
    double scalar;
    keys_bool(k, "attention_bias", false, &c->attention_bias);
    keys_positive(k, "query_pre_attn_scalar", 256, &scalar);
    want(k, "use_bidirectional_attention", false);
    c->attention_scale = (float)pow(scalar, -0.5);
    c->embedding_scale = (float)sqrt(c->hidden);
    read_cap(k, "attn_logit_softcapping", caps ? 50 : 0, &c->score_cap);
    read_cap(k, "final_logit_softcapping", caps ? 30 : 0, &c->logit_cap);
}

/* Even layers slide unless layer_types says otherwise. */
void options_gemma2(const struct keys *k, struct model_config *c)
{
    int32_t window;
    read_gemma(k, c, true);
    if (!read_window(k, 4096, &window))
        return;
    if (keys_get(k, "layer_types"))
        read_types(k, c, window);
    else
        for (int32_t i = 0; i < c->base_layers; i += 2)
            c->windows[i] = window;
}

/* All but each sliding_window_pattern-th layer slide, and turn by the local rope. The class reads
 * attn_logit_softcapping and caps no scores with it. */
void options_gemma3(const struct keys *k, struct model_config *c)
{
    int32_t window, pattern;
    const char *key = keys_get(k, "sliding_window_pattern") ? "sliding_window_pattern"
                                                            : "_sliding_window_pattern";
    read_gemma(k, c, false);
    c->score_cap = 0;
    if (!read_window(k, 4096, &window) || !keys_int(k, key, 1, INT32_MAX, 6, &pattern))
        return;
    if (keys_get(k, "layer_types"))
        read_types(k, c, window);
    else
        for (int32_t i = 0; i < c->base_layers; i++)
            c->windows[i] = (i + 1) % pattern != 0 ? window : 0;
    for (int32_t i = 0; i < c->base_layers; i++)
        c->local[i] = c->windows[i] > 0;
}

void options_phi3(const struct keys *k, struct model_config *c)
{
    int32_t window;
    if (keys_get(k, "sliding_window") &&
        read_window(k, 1, &window)) // the class has none of its own
        fill_windows(c, 0, window);
}

/* Every head has its own keys and values, whatever the file says. */
static void all_heads(struct model_config *c)
{
    c->kv_heads = c->heads;
}

void options_gpt_neox(const struct keys *k, struct model_config *c)
{
    bool parallel;
    all_heads(c);
    keys_bool(k, "attention_bias", true, &c->attention_bias);
    if (keys_bool(k, "use_parallel_residual", true, &parallel) && parallel)
        c->residual = RESIDUAL_PARALLEL;
}

/* Largest power of two p <= heads: slopes b^1 .. b^p with b = 2^(-8/p); the rest are the odd powers
 * of 2^(-4/p). */
static void fill_slopes(struct model_config *c)
{
    int32_t p = 1;
    while (p * 2 <= c->heads)
        p *= 2;
    for (int32_t h = 0; h < c->heads; h++) {
        double base = pow(2, h < p ? -8.0 / p : -4.0 / p);
        c->alibi[h] = round_to_dtype((float)pow(base, h < p ? h + 1 : 2 * (h - p) + 1), DT_BF16);
    }
}

static void read_alibi(const struct keys *k, struct model_config *c)
{
    bool alibi;
    if (!keys_bool(k, "alibi", false, &alibi) || !alibi)
        return;
    c->positions = POSITIONS_ALIBI;
    fill_slopes(c);
}

/* new_decoder_architecture: groups, two parallel norms unless told; else multi_query (one kv head)
 * or a kv head a head; either parallel, with one norm, or in turn. */
void options_falcon(const struct keys *k, struct model_config *c)
{
    bool grouped, multi, parallel, bias;
    int32_t norms = 0;
    bool ok = keys_bool(k, "new_decoder_architecture", false, &grouped);
    ok &= keys_bool(k, "multi_query", true, &multi);
    ok &= keys_bool(k, "parallel_attn", true, &parallel);
    ok &= keys_bool(k, "bias", false, &bias);
    ok &= keys_int(k, "num_ln_in_parallel_attn", 1, 2, grouped ? 2 : 1, &norms);
    if (!ok)
        return;
    norms = grouped ? norms : 1; // the class looks at it then only
    c->attention_bias = c->mlp_bias = bias;
    c->kv_heads = multi ? 1 : c->heads;
    if (grouped && keys_int(k, "num_kv_heads", 1, c->heads, c->heads, &c->kv_heads) &&
        c->heads % c->kv_heads)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "num_kv_heads", "a divisor of num_attention_heads");
    if (grouped || parallel)
        c->residual = RESIDUAL_PARALLEL;
    if (grouped && !parallel && norms == 1) {
        keys_refuse(k, ST_CONFIG_UNSUPPORTED, "parallel_attn", "true where one norm feeds both");
        return;
    }
    c->conditions |= 1u << (c->residual != RESIDUAL_PARALLEL ? WHEN_SEQUENTIAL
                            : norms == 2                     ? WHEN_PARALLEL_TWO
                                                             : WHEN_PARALLEL);
    read_alibi(k, c);
}

void options_opt(const struct keys *k, struct model_config *c)
{
    bool before, bias, removed;
    all_heads(c);
    bool ok = keys_bool(k, "do_layer_norm_before", true, &before);
    ok &= keys_bool(k, "enable_bias", true, &bias);
    ok &= keys_bool(k, "_remove_final_layer_norm", false, &removed);
    ok &= keys_int(k, "word_embed_proj_dim", 1, 1 << 24, c->hidden, &c->embedding_dim);
    want(k, "layer_norm_elementwise_affine", true);
    if (!ok)
        return;
    c->positions = POSITIONS_LEARNED;
    c->attention_bias = c->mlp_bias = bias;
    if (!before)
        c->residual = RESIDUAL_POST;
    else if (!removed)
        c->conditions |= 1u << WHEN_FINAL_NORM;
    if (c->embedding_dim != c->hidden)
        c->conditions |= 1u << WHEN_PROJECTED;
}

void options_gpt2(const struct keys *k, struct model_config *c)
{
    all_heads(c);
    c->positions = POSITIONS_LEARNED;
    want(k, "scale_attn_weights", true);
    keys_bool(k, "scale_attn_by_inverse_layer_idx", false, &c->scale_by_layer);
}

/* Every layer is sparse until told otherwise. */
static bool read_experts(const struct keys *k, struct model_config *c, const char *key,
                         int32_t experts, int32_t used)
{
    if (!keys_int(k, key, 1, 1 << 16, experts, &c->experts) ||
        !keys_int(k, "num_experts_per_tok", 1, c->experts, used < c->experts ? used : c->experts,
                  &c->experts_used))
        return false;
    memset(c->sparse, true, (size_t)c->base_layers * sizeof *c->sparse);
    return true;
}

void options_mixtral(const struct keys *k, struct model_config *c)
{
    options_mistral(k, c);
    read_experts(k, c, "num_local_experts", 8, 2);
    c->expert_inner = c->intermediate;
    c->experts_renormalised = true;
}

/* The layers of mlp_only_layers, and those with (i + 1) % decoder_sparse_step != 0, have an MLP. */
static void read_dense_layers(const struct keys *k, struct model_config *c)
{
    int32_t step;
    const json_t *dense = keys_get(k, "mlp_only_layers"), *v;
    size_t i;
    if (!keys_int(k, "decoder_sparse_step", 1, INT32_MAX, 1, &step))
        return;
    for (int32_t l = 0; l < c->base_layers; l++)
        c->sparse[l] = (l + 1) % step == 0;
    if (dense && !json_is_array(dense))
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "mlp_only_layers", "a list of layers");
    json_array_foreach((json_t *)dense, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "mlp_only_layers", "a list of layers");
            return;
        }
        if (json_integer_value(v) < c->base_layers)
            c->sparse[json_integer_value(v)] = false;
    }
}

void options_qwen3_moe(const struct keys *k, struct model_config *c)
{
    bool use;
    int32_t window;
    const char *key = keys_get(k, "num_local_experts") ? "num_local_experts" : "num_experts";
    keys_bool(k, "attention_bias", false, &c->attention_bias);
    keys_bool(k, "norm_topk_prob", false, &c->experts_renormalised);
    keys_int(k, "moe_intermediate_size", 1, 1 << 24, 768, &c->expert_inner);
    if (keys_bool(k, "use_sliding_window", false, &use) && use && read_window(k, 4096, &window))
        fill_windows(c, 0, window);
    if (read_experts(k, c, key, 128, 8))
        read_dense_layers(k, c);
}

/* One row of types is used, the first. */
void options_bert(const struct keys *k, struct model_config *c)
{
    const char *type = keys_text(k, "position_embedding_type", "absolute");
    all_heads(c);
    keys_int(k, "type_vocab_size", 1, 1 << 16, 2, &c->types);
    if (type && strcmp(type, "absolute") != 0)
        keys_refuse(k, ST_CONFIG_UNSUPPORTED, "position_embedding_type", "absolute");
    c->tied = false; // there is no head
    c->positions = POSITIONS_LEARNED;
    c->residual = RESIDUAL_POST;
}

/* Rows of positions begin behind the padding token's, and padding tokens do not count. */
void options_roberta(const struct keys *k, struct model_config *c)
{
    options_bert(k, c);
    if (!keys_int(k, "pad_token_id", 0, 1 << 28, 1, &c->position_pad))
        return;
    c->positions_skip_pad = true;
    c->position_offset = c->position_pad + 1;
    if (c->max_positions <= c->position_offset)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "max_position_embeddings",
                    "more than pad_token_id + 1");
    else
        c->max_positions -= c->position_offset;
}

/* One number for both sides, or [height, width]. */
static bool read_sides(const struct keys *k, const char *key, int32_t fallback, int32_t sides[2])
{
    const json_t *v = keys_get(k, key);
    if (!json_is_array(v)) {
        bool ok = keys_int(k, key, 1, 1 << 16, fallback, &sides[0]);
        sides[1] = sides[0];
        return ok;
    }
    for (size_t i = 0; i < 2; i++) {
        json_int_t side = json_integer_value(json_array_get(v, i));
        if (json_array_size(v) != 2 || side < 1 || side > 1 << 16) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, key,
                        "a number from 1 to 65536, or [height, width]");
            return false;
        }
        sides[i] = (int32_t)side;
    }
    return true;
}

/* A token for each whole square of the image, behind one that stands for all of it. */
void options_vit(const struct keys *k, struct model_config *c)
{
    int32_t sides[2];
    all_heads(c);
    keys_bool(k, "qkv_bias", true, &c->attention_bias);
    bool ok = keys_int(k, "num_channels", 1, 1 << 10, 3, &c->image.channels);
    ok &= read_sides(k, "image_size", 224, sides);
    ok &= read_sides(k, "patch_size", 16, c->patch);
    if (!ok)
        return;
    c->image.height = sides[0];
    c->image.width = sides[1];
    int64_t squares = (int64_t)(sides[0] / c->patch[0]) * (sides[1] / c->patch[1]);
    if (squares < 1 || squares >= 1 << 20 ||
        (int64_t)c->image.channels * c->patch[0] * c->patch[1] > 1 << 24)
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "patch_size",
                    "sides that cut image_size into 1 to 1048575 squares of at most 16777216 "
                    "numbers");
    else
        c->max_positions = c->position_rows = (int32_t)squares + 1;
    c->positions = POSITIONS_LEARNED;
}
