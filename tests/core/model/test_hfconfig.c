/* config.json: both spellings, defaults by family, windows, end tokens, and a table of what is
 * refused. */
#include "tests/core/model/memory_checkpoint.h"

/* Sets or (value null and remove) changes keys of the config. */
static void change(struct memory_checkpoint *mc, const char *json)
{
    json_t *keys = json_loads(json, 0, NULL);
    ck_assert_msg(keys != NULL, "%s", json);
    json_object_update(mc->cp.config, keys);
    json_decref(keys);
}

static struct model *accept(struct memory_checkpoint *mc, const char *what)
{
    struct error err = ERROR_INIT;
    struct model *m;
    const struct model_options options = {.claim_only = true};
    enum status s =
        model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, &err);
    ck_assert_msg(s == ST_OK, "%s: %s", what, err.text);
    return m;
}

START_TEST(defaults)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    change(&mc, "{\"hidden_act\": null, \"rms_norm_eps\": null, \"head_dim\": null,"
                " \"max_position_embeddings\": null, \"eos_token_id\": null}");
    struct model *m = accept(&mc, "defaults");
    ck_assert_str_eq(m->model_type, "llama");
    ck_assert_str_eq(m->architecture, "LlamaForCausalLM");
    ck_assert_str_eq(m->quant_method, "");
    ck_assert_int_eq(m->max_len, 2048);
    ck_assert_int_eq(m->head_dim, 64);
    ck_assert_int_eq(m->config->activation, ACT_SILU);
    ck_assert(m->config->norm_eps == 1e-6f);
    ck_assert(m->config->attention_scale == 0.125f);
    ck_assert(!m->tied && m->window == 0 && m->n_eos == 0 && m->bos == -1);
    ck_assert(m->kind == MODEL_DECODER && m->layers == 2 && m->vocab == 40 && m->hidden == 128);
    ck_assert(m->base == NULL); // claim_only
    ck_assert_int_eq(m->kv_heads, 1);
    ck_assert_int_eq(m->head_dim, 64);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(end_tokens_of_both_files)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    change(&mc, "{\"eos_token_id\": [3, 7], \"bos_token_id\": 1, \"pad_token_id\": -1}");
    mc.cp.generation = json_pack("{s[iii]}", "eos_token_id", 7, 9, 3);
    struct model *m = accept(&mc, "end tokens");
    ck_assert_int_eq(m->n_eos, 3);
    ck_assert(m->eos[0] == 3 && m->eos[1] == 7 && m->eos[2] == 9);
    ck_assert_int_eq(m->bos, 1);
    model_close(m);
    change(&mc, "{\"eos_token_id\": -1, \"bos_token_id\": -1}");
    json_object_set_new(mc.cp.generation, "eos_token_id", json_integer(5));
    m = accept(&mc, "end tokens");
    ck_assert(m->n_eos == 1 && m->eos[0] == 5 && m->bos == -1);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

static const struct {
    const char *json;
    int32_t first, second, whole; /* windows of both layers, of the model */
} windows[] = {
    {"{\"model_type\": \"mistral\"}", 4096, 4096, 4096},
    {"{\"model_type\": \"mistral\", \"sliding_window\": null}", 0, 0, 0},
    {"{\"model_type\": \"mistral\", \"sliding_window\": 17}", 17, 17, 17},
    {"{\"model_type\": \"qwen2\"}", 0, 0, 0},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": 131072, \"use_sliding_window\": false,"
     " \"max_window_layers\": 0}",
     0, 0, 0},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": 9, \"use_sliding_window\": true,"
     " \"max_window_layers\": 1}",
     0, 9, 0},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": 9, \"use_sliding_window\": true,"
     " \"max_window_layers\": 0}",
     9, 9, 9},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": 9, \"use_sliding_window\": true,"
     " \"layer_types\": [\"sliding_attention\", \"full_attention\"]}",
     9, 0, 0},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": null, \"use_sliding_window\": true}", 0, 0,
     0},
    {"{\"model_type\": \"qwen2\", \"sliding_window\": 9, \"use_sliding_window\": true}", 0, 0, 0},
};

/* qwen2 wants biases. */
static void add_biases(struct memory_checkpoint *mc)
{
    char name[80];
    for (int l = 0; l < 2; l++)
        for (const char *c = "qkv"; *c; c++) {
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%c_proj.bias", l, *c);
            memory_checkpoint_add(mc, name, *c == 'q' ? 128 : 64, 0);
        }
}

START_TEST(sliding_windows)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    change(&mc, windows[_i].json);
    if (strstr(windows[_i].json, "qwen2"))
        add_biases(&mc);
    struct model *m = accept(&mc, windows[_i].json);
    ck_assert_int_eq(m->config->layers[0].window, windows[_i].first);
    ck_assert_int_eq(m->config->layers[1].window, windows[_i].second);
    ck_assert_int_eq(m->window, windows[_i].whole);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

/* Keys of real files on the hub that change nothing here. */
static const char *const harmless[] = {
    "{\"_name_or_path\": \"meta-llama/Llama-2-7b-hf\", \"pretraining_tp\": 2, \"use_cache\": true,"
    " \"torch_dtype\": \"float16\", \"transformers_version\": \"4.31.0.dev0\"}",
    "{\"dtype\": \"bfloat16\", \"attention_dropout\": 0.1, \"initializer_range\": 0.02,"
    " \"architectures\": [\"LLaMAForCausalLM\"], \"max_sequence_length\": 2048}",
    "{\"is_llama_config\": true, \"rope_interleaved\": false, \"transformers.js_config\": {\"a\":"
    " 1}}",
    "{\"attention_bias\": false, \"mlp_bias\": false, \"use_mrope\": false, \"unknown\": null}",
    "{\"unsloth_version\": \"2024.9\", \"auto_map\": {\"AutoConfig\": \"x.Y\"}, \"extra\": {}}",
    "{\"is_encoder_decoder\": false, \"id2label\": {\"0\": \"a\"}, \"top_p\": 0.9, \"zero\": 0}",
    "{\"hidden_act\": \"swish\"}",
    "{\"sliding_window\": null}",
};
#define N_HARMLESS (int)(sizeof harmless / sizeof *harmless)

START_TEST(accepted)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    change(&mc, harmless[_i]);
    model_close(accept(&mc, harmless[_i]));
    memory_checkpoint_free(&mc);
}
END_TEST

#define INVALID     ST_CONFIG_INVALID_VALUE
#define MISSING     ST_CONFIG_MISSING_FIELD
#define UNSUPPORTED ST_CONFIG_UNSUPPORTED

#define CLASSIFIER "{\"architectures\": [\"LlamaForSequenceClassification\"], "

static const struct {
    const char *json;
    enum status code;
    const char *field;
} bad[] = {
    {"{\"model_type\": \"mamba\"}", ST_MODEL_TYPE_UNSUPPORTED, "model_type"},
    {"{\"model_type\": null}", MISSING, "model_type"},
    {"{\"model_type\": 3}", INVALID, "model_type"},
    {"{\"architectures\": [\"LlamaForQuestionAnswering\"]}", UNSUPPORTED, "architectures"},
    {"{\"architectures\": [\"BertForSequenceClassification\"]}", UNSUPPORTED, "architectures"},
    {CLASSIFIER "\"id2label\": {\"0\": \"a\", \"2\": \"b\"}}", INVALID, "id2label"},
    {CLASSIFIER "\"id2label\": {\"0\": \"a\", \"00\": \"b\"}}", INVALID, "id2label"},
    {CLASSIFIER "\"id2label\": {\"0\": null}}", INVALID, "id2label"},
    {CLASSIFIER "\"id2label\": [\"a\", \"b\"]}", INVALID, "id2label"},
    {CLASSIFIER "\"id2label\": {}}", INVALID, "id2label"},
    {CLASSIFIER "\"num_labels\": 0}", INVALID, "num_labels"},
    {CLASSIFIER "\"problem_type\": \"ranking\"}", INVALID, "problem_type"},
    {"{\"architectures\": \"LlamaForCausalLM\"}", UNSUPPORTED, "architectures"},
    {"{\"hidden_act\": \"relu2\"}", UNSUPPORTED, "hidden_act"},
    {"{\"hidden_act\": 1}", INVALID, "hidden_act"},
    {"{\"hidden_size\": null}", MISSING, "hidden_size"},
    {"{\"hidden_size\": 0}", INVALID, "hidden_size"},
    {"{\"hidden_size\": -128}", INVALID, "hidden_size"},
    {"{\"hidden_size\": 128.0}", INVALID, "hidden_size"},
    {"{\"hidden_size\": \"128\"}", INVALID, "hidden_size"},
    {"{\"hidden_size\": true}", INVALID, "hidden_size"},
    {"{\"hidden_size\": 4611686018427387904}", INVALID, "hidden_size"},
    {"{\"hidden_size\": 256}", INVALID, "hidden_size"},
    {"{\"hidden_size\": 256, \"head_dim\": 64}", INVALID, "hidden_size"},
    {"{\"intermediate_size\": null}", MISSING, "intermediate_size"},
    {"{\"intermediate_size\": 95}", INVALID, "intermediate_size"},
    {"{\"num_hidden_layers\": 0}", INVALID, "num_hidden_layers"},
    {"{\"num_hidden_layers\": 1}", INVALID, "num_hidden_layers"},
    {"{\"num_hidden_layers\": 3}", INVALID, "num_hidden_layers"},
    {"{\"num_hidden_layers\": 2147483647}", INVALID, "num_hidden_layers"},
    {"{\"num_attention_heads\": 3}", INVALID, "num_attention_heads"},
    {"{\"num_attention_heads\": 0}", INVALID, "num_attention_heads"},
    {"{\"num_attention_heads\": 4, \"head_dim\": 64}", INVALID, "num_attention_heads * head_dim"},
    {"{\"num_key_value_heads\": 3}", INVALID, "num_key_value_heads"},
    {"{\"num_key_value_heads\": 0}", INVALID, "num_key_value_heads"},
    {"{\"num_key_value_heads\": 2}", INVALID, "num_key_value_heads * head_dim"},
    {"{\"num_key_value_heads\": null}", INVALID, "num_key_value_heads * head_dim"},
    {"{\"head_dim\": 0}", INVALID, "head_dim"},
    {"{\"head_dim\": 1025}", INVALID, "head_dim"},
    {"{\"head_dim\": 32}", INVALID, "num_attention_heads * head_dim"},
    {"{\"head_dim\": 63, \"num_attention_heads\": 2}", INVALID, "head_dim"},
    {"{\"vocab_size\": 41}", INVALID, "vocab_size"},
    {"{\"vocab_size\": null}", MISSING, "vocab_size"},
    {"{\"max_position_embeddings\": 0}", INVALID, "max_position_embeddings"},
    {"{\"max_position_embeddings\": 1.5}", INVALID, "max_position_embeddings"},
    {"{\"rms_norm_eps\": 0}", INVALID, "rms_norm_eps"},
    {"{\"rms_norm_eps\": -1e-6}", INVALID, "rms_norm_eps"},
    {"{\"rms_norm_eps\": 1e39}", INVALID, "rms_norm_eps"},
    {"{\"rms_norm_eps\": \"1e-6\"}", INVALID, "rms_norm_eps"},
    {"{\"tie_word_embeddings\": 1}", INVALID, "tie_word_embeddings"},
    {"{\"attention_bias\": \"no\"}", INVALID, "attention_bias"},
    {"{\"eos_token_id\": 40}", INVALID, "eos_token_id"},
    {"{\"eos_token_id\": [1, \"2\"]}", INVALID, "eos_token_id"},
    {"{\"bos_token_id\": 1e3}", INVALID, "bos_token_id"},
    {"{\"is_encoder_decoder\": true}", UNSUPPORTED, "is_encoder_decoder"},
    {"{\"add_cross_attention\": true}", UNSUPPORTED, "add_cross_attention"},
    {"{\"is_causal\": false}", UNSUPPORTED, "is_causal"},
    {"{\"sliding_window\": 64}", ST_CONFIG_UNKNOWN_FIELD, "sliding_window"},
    {"{\"residual_multiplier\": 0.22}", ST_CONFIG_UNKNOWN_FIELD, "residual_multiplier"},
    {"{\"qk_layernorm\": true}", ST_CONFIG_UNKNOWN_FIELD, "qk_layernorm"},
    {"{\"quantization\": {\"bits\": 4}}", ST_CONFIG_UNKNOWN_FIELD, "quantization"},
    {"{\"model_type\": \"mistral\", \"sliding_window\": 0}", INVALID, "sliding_window"},
    {"{\"model_type\": \"mistral\", \"attention_bias\": true}", ST_CONFIG_UNKNOWN_FIELD,
     "attention_bias"},
    {"{\"model_type\": \"qwen2\", \"use_sliding_window\": 1}", INVALID, "use_sliding_window"},
    {"{\"model_type\": \"qwen2\", \"max_window_layers\": -1}", INVALID, "max_window_layers"},
    {"{\"model_type\": \"qwen2\", \"layer_types\": [\"full_attention\"]}", INVALID, "layer_types"},
    {"{\"model_type\": \"qwen2\", \"layer_types\": [\"full_attention\", \"chunked_attention\"]}",
     UNSUPPORTED, "layer_types"},
    {"{\"model_type\": \"qwen2\", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
     INVALID, "layer_types"},
};
#define N_BAD (int)(sizeof bad / sizeof *bad)

START_TEST(refused)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    change(&mc, bad[_i].json);
    memory_checkpoint_refused(&mc, bad[_i].json, bad[_i].code, bad[_i].field);
    memory_checkpoint_free(&mc);
}
END_TEST

static const struct {
    const char *json;
    bool ok;
} quants[] = {
    {"{\"quant_method\": \"gptq\", \"bits\": 4}", true},
    {"{\"quant_method\": \"intel/auto-round\"}", true},
    {"{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}", true},
    {"{\"fp8_config\": \"E4M3\", \"mode\": \"LOAD\"}", true},
    {"{\"quant_method\": \"bitsandbytes\"}", false},
    {"{\"quant_method\": \"mxfp4\"}", false},
    {"{\"quant_method\": 7}", false},
    {"{}", false},
};
#define N_QUANTS (int)(sizeof quants / sizeof *quants)

START_TEST(quant_methods)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    mc.cp.quant = json_loads(quants[_i].json, 0, NULL);
    if (quants[_i].ok)
        model_close(accept(&mc, quants[_i].json));
    else
        memory_checkpoint_refused(&mc, quants[_i].json, ST_QUANT_METHOD_UNSUPPORTED,
                                  "quantization_config.quant_method");
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(all_findings_at_once)
{
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    const struct model_options options = {0};
    memory_checkpoint_llama(&mc);
    change(&mc, "{\"hidden_size\": 0, \"vocab_size\": null, \"rope_theta\": 0, \"odd\": 1,"
                " \"hidden_act\": \"none\", \"eos_token_id\": \"x\"}");
    ck_assert(model_open(&mc.cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, &err) !=
              ST_OK);
    ck_assert_int_eq(err.findings.errors, 5); // eos needs vocab_size
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

/* A key from outside may be long and odd: the finding stays valid UTF-8. */
START_TEST(odd_keys)
{
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    const struct model_options options = {0};
    char key[301];
    for (int i = 0; i < 100; i++)
        memcpy(key + 3 * i, "\xe2\x82\xac", 3);
    key[300] = '\0';
    memory_checkpoint_llama(&mc);
    json_object_set_new(mc.cp.config, key, json_string(key));
    ck_assert(model_open(&mc.cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, &err) ==
              ST_CONFIG_UNKNOWN_FIELD);
    json_t *text = json_string(err.findings.v[0].message),
           *got = json_string(err.findings.v[0].got);
    ck_assert(text && got);
    json_decref(text);
    json_decref(got);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

/* Its class reads the cap of the scores and does not use it. */
START_TEST(gemma3_caps_logits_alone)
{
    static const struct {
        const char *name;
        int64_t n;
    } norms[] = {{"self_attn.q_norm", 64},
                 {"self_attn.k_norm", 64},
                 {"pre_feedforward_layernorm", 128},
                 {"post_feedforward_layernorm", 128}};
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
            char name[80];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, norms[i].name);
            memory_checkpoint_add(&mc, name, norms[i].n, 0);
        }
    change(&mc, "{\"model_type\": \"gemma3_text\", \"tie_word_embeddings\": false,"
                " \"head_dim\": 64,"
                " \"attn_logit_softcapping\": 50.0, \"final_logit_softcapping\": 30.0}");
    struct model *m = accept(&mc, "gemma3");
    ck_assert(m->config->score_cap == 0 && m->config->logit_cap == 30);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

static void count_row(void *ctx, const char *model_type, const char *text)
{
    ck_assert(model_type[0] && text[0]);
    ++*(int *)ctx;
}

START_TEST(family_table)
{
    int n = 0;
    model_families(count_row, &n);
    ck_assert_int_ge(n, 3);
    ck_assert_str_eq(model_default_targets("llama"), "q_proj v_proj");
    ck_assert_str_eq(model_default_targets("mistral"), "q_proj v_proj");
    ck_assert_str_eq(model_default_targets("qwen2"), "q_proj v_proj");
    ck_assert_ptr_null(model_default_targets("nobody"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/hfconfig");
    TCase *t = tcase_create("config");
    tcase_add_test(t, defaults);
    tcase_add_test(t, end_tokens_of_both_files);
    tcase_add_loop_test(t, sliding_windows, 0, (int)(sizeof windows / sizeof *windows));
    tcase_add_loop_test(t, accepted, 0, N_HARMLESS);
    tcase_add_loop_test(t, refused, 0, N_BAD);
    tcase_add_loop_test(t, quant_methods, 0, N_QUANTS);
    tcase_add_test(t, all_findings_at_once);
    tcase_add_test(t, odd_keys);
    tcase_add_test(t, gemma3_caps_logits_alone);
    tcase_add_test(t, family_table);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
