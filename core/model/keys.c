/*
 * Owns the reading of single keys and THE table of what may stand in a config.json. A key that
 * changes the math must never be passed over, so every key is one of: read; known to change nothing
 * in inference; accepted with one value only; or unknown, and then accepted only while its value
 * says "off" (null, false, 0, "", [], {}).
 */
#include "core/model/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/family.h"

#define VALUE_TEXT 96

/* The value as JSON, cut to fit; NULL where there is none or memory runs out. */
static const char *value_text(const json_t *value, char buf[VALUE_TEXT])
{
    if (!value)
        return NULL;
    memset(buf, 0, VALUE_TEXT); // jansson leaves out what does not fit, piece by piece
    size_t n =
        json_dumpb(value, buf, VALUE_TEXT - 1, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    if (n == 0)
        return NULL;
    if (n > VALUE_TEXT - 1) {
        size_t kept = strlen(buf);
        memcpy(buf + (kept < VALUE_TEXT - 4 ? kept : VALUE_TEXT - 4), "...", 4);
    }
    return buf;
}

/* A key of the file for people: at most 100 bytes, whole UTF-8 characters. */
static int key_length(const char *key)
{
    size_t n = strnlen(key, 101);
    if (n > 100)
        for (n = 100; n > 0 && ((unsigned char)key[n] & 0xc0) == 0x80;)
            n--;
    return (int)n;
}

void keys_refuse(const struct keys *k, enum status code, const char *key, const char *expected)
{
    char field[160], buf[VALUE_TEXT];
    const json_t *value = json_object_get(k->object, key);
    const char *got = value_text(value, buf);
    snprintf(field, sizeof field, "%s%.*s", k->prefix, key_length(key), key);
    if (value)
        findings_add(k->findings, SEVERITY_ERROR, code, NULL, field, expected, got,
                     "%s: %s is %s; expected %s", k->file, field, got ? got : "not readable",
                     expected);
    else
        findings_add(k->findings, SEVERITY_ERROR, code, NULL, field, expected, "nothing",
                     "%s: %s is missing; expected %s", k->file, field, expected);
}

const json_t *keys_get(const struct keys *k, const char *key)
{
    const json_t *v = json_object_get(k->object, key);
    return json_is_null(v) ? NULL : v;
}

bool keys_int(const struct keys *k, const char *key, int64_t min, int64_t max, int64_t fallback,
              int32_t *out)
{
    const json_t *v = keys_get(k, key);
    char expected[96];
    *out = fallback == KEYS_REQUIRED ? 0 : (int32_t)fallback;
    if (!v && fallback != KEYS_REQUIRED)
        return true;
    int64_t x = json_integer_value(v);
    if (json_is_integer(v) && x >= min && x <= max) {
        *out = (int32_t)x;
        return true;
    }
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min,
             (long long)max);
    keys_refuse(k, v ? ST_CONFIG_INVALID_VALUE : ST_CONFIG_MISSING_FIELD, key, expected);
    return false;
}

bool keys_positive(const struct keys *k, const char *key, double fallback, double *out)
{
    const json_t *v = keys_get(k, key);
    *out = isnan(fallback) ? 0 : fallback;
    if (!v && !isnan(fallback))
        return true;
    if (v && json_is_number(v)) {
        double x = json_number_value(v);
        if (isfinite((float)x) && (float)x > 0) {
            *out = x;
            return true;
        }
    }
    keys_refuse(k, v ? ST_CONFIG_INVALID_VALUE : ST_CONFIG_MISSING_FIELD, key,
                "a finite number above 0");
    return false;
}

bool keys_bool(const struct keys *k, const char *key, bool fallback, bool *out)
{
    const json_t *v = keys_get(k, key);
    *out = v ? json_is_true(v) : fallback;
    if (!v || json_is_boolean(v))
        return true;
    *out = fallback;
    keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "true or false");
    return false;
}

const char *keys_text(const struct keys *k, const char *key, const char *fallback)
{
    const json_t *v = keys_get(k, key);
    if (!v)
        return fallback;
    const char *s = json_string_value(v);
    if (!s || strlen(s) != json_string_length(v)) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "a string");
        return NULL;
    }
    return s;
}

/* ---- what may be there ---- */

enum accept { ANY, FALSE_ONLY, TRUE_ONLY };

static const struct {
    const char *key;
    enum accept accept;
} known[] = {
    /* read by hfconfig.c, rope.c or the caller */
    {"architectures", ANY},
    {"bos_token_id", ANY},
    {"eos_token_id", ANY},
    {"head_dim", ANY},
    {"hidden_act", ANY},
    {"hidden_size", ANY},
    {"intermediate_size", ANY},
    {"max_position_embeddings", ANY},
    {"model_type", ANY},
    {"num_attention_heads", ANY},
    {"num_hidden_layers", ANY},
    {"num_key_value_heads", ANY},
    {"original_max_position_embeddings", ANY},
    {"partial_rotary_factor", ANY},
    {"quantization_config", ANY},
    {"rms_norm_eps", ANY},
    {"rope_parameters", ANY},
    {"rope_scaling", ANY},
    {"rope_theta", ANY},
    {"tie_word_embeddings", ANY},
    {"token_classification_bias", ANY},
    {"vocab_size", ANY},
    /* the stored dtype is the tensors' own */
    {"dtype", ANY},
    {"torch_dtype", ANY},
    /* training only */
    {"attention_dropout", ANY},
    {"attention_probs_dropout_prob", ANY},
    {"classifier_dropout", ANY},
    {"dropout", ANY},
    {"embd_pdrop", ANY},
    {"gradient_checkpointing", ANY},
    {"hidden_dropout", ANY},
    {"hidden_dropout_prob", ANY},
    {"initializer_range", ANY},
    {"label_smoothing", ANY},
    {"neftune_noise_alpha", ANY},
    {"resid_pdrop", ANY},
    {"use_cache", ANY},
    /* how somebody computed it, not what */
    {"attn_implementation", ANY},
    {"chunk_size_feed_forward", ANY},
    {"flash_attention", ANY},
    {"pretraining_tp", ANY}, /* sums the same products in slices */
    {"torchscript", ANY},
    {"use_bfloat16", ANY},
    {"use_flash_attention", ANY},
    {"use_flash_attention_2", ANY},
    {"use_flash_attn", ANY},
    /* generation defaults of old files, special tokens, labels (a classifier's are read) */
    {"bad_words_ids", ANY},
    {"begin_suppress_tokens", ANY},
    {"bos_token", ANY},
    {"decoder_start_token_id", ANY},
    {"diversity_penalty", ANY},
    {"do_sample", ANY},
    {"early_stopping", ANY},
    {"encoder_no_repeat_ngram_size", ANY},
    {"eos_token", ANY},
    {"exponential_decay_length_penalty", ANY},
    {"finetuning_task", ANY},
    {"forced_bos_token_id", ANY},
    {"forced_eos_token_id", ANY},
    {"id2label", ANY},
    {"label2id", ANY},
    {"length_penalty", ANY},
    {"max_length", ANY},
    {"max_sequence_length", ANY},
    {"min_length", ANY},
    {"model_max_length", ANY},
    {"no_repeat_ngram_size", ANY},
    {"num_beam_groups", ANY},
    {"num_beams", ANY},
    {"num_labels", ANY},
    {"num_return_sequences", ANY},
    {"output_attentions", ANY},
    {"output_hidden_states", ANY},
    {"output_scores", ANY},
    {"pad_token", ANY},
    {"pad_token_id", ANY},
    {"prefix", ANY},
    {"problem_type", ANY},
    {"remove_invalid_values", ANY},
    {"repetition_penalty", ANY},
    {"return_dict", ANY},
    {"return_dict_in_generate", ANY},
    {"sep_token_id", ANY},
    {"suppress_tokens", ANY},
    {"task_specific_params", ANY},
    {"temperature", ANY},
    {"tf_legacy_loss", ANY},
    {"tokenizer_class", ANY},
    {"top_k", ANY},
    {"top_p", ANY},
    {"typical_p", ANY},
    {"unk_token", ANY},
    {"unk_token_id", ANY},
    /* of pairs of texts: pooling.c reads them */
    {"sbert_ce_default_activation_function", ANY},
    {"sentence_transformers", ANY},
    /* who wrote it, with what, for whom */
    {"auto_map", ANY},
    {"custom_pipelines", ANY},
    {"is_llama_config", ANY},
    {"keys_to_ignore_at_inference", ANY},
    {"name_or_path", ANY},
    {"transformers.js_config", ANY},
    {"transformers_version", ANY},
    {"trust_remote_code", ANY},
    {"unsloth_fixed", ANY},
    {"unsloth_version", ANY},
    {"is_decoder", ANY},
    {"tie_encoder_decoder", ANY},
    /* one value is ours */
    {"add_cross_attention", FALSE_ONLY},
    {"is_encoder_decoder", FALSE_ONLY},
    {"is_causal", TRUE_ONLY},
};

/* null, false, 0, "", [] and {} say that an option is not used. */
static bool says_off(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(v) == 0;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    case JSON_TRUE:
        break;
    }
    return false;
}

static void check_key(const struct keys *k, const struct family *family, const char *key,
                      const json_t *value)
{
    for (const char *const *own = family->keys; *own; own++)
        if (!strcmp(key, *own))
            return;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(key, known[i].key))
            continue;
        if (known[i].accept == FALSE_ONLY && !says_off(value))
            keys_refuse(k, ST_CONFIG_UNSUPPORTED, key, "false");
        if (known[i].accept == TRUE_ONLY && !json_is_true(value) && !json_is_null(value))
            keys_refuse(k, ST_CONFIG_UNSUPPORTED, key, "true");
        return;
    }
    // A leading underscore marks the library's own notes (_name_or_path, _attn_implementation).
    if (key[0] == '_' || says_off(value))
        return;
    char expected[160];
    snprintf(expected, sizeof expected, "no such key for model_type %s (it might change the math)",
             family->model_type);
    keys_refuse(k, ST_CONFIG_UNKNOWN_FIELD, key, expected);
}

void keys_check_known(const struct keys *k, const struct family *family)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)k->object, key, value)
    {
        check_key(k, family, key, value);
    }
}
