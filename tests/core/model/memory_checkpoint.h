/* A small checkpoint in memory, whose config and tensors a test may change before it is opened. */
#ifndef OFTD_TESTS_CORE_MODEL_MEMORY_CHECKPOINT_H
#define OFTD_TESTS_CORE_MODEL_MEMORY_CHECKPOINT_H

#include "tests/core/model/fixture.h"

#define MEMORY_TENSORS 128

struct memory_checkpoint {
    struct checkpoint cp;
    struct tensor tensors[MEMORY_TENSORS];
    char names[MEMORY_TENSORS][80];
    size_t n_names;
};

static inline int memory_order(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

/* Adds an F32 tensor of small numbers [n] or, k > 0, [n, k]; then the list is sorted again. */
static inline struct tensor *memory_checkpoint_add(struct memory_checkpoint *mc, const char *name,
                                                   int64_t n, int64_t k)
{
    size_t at = mc->n_names++;
    struct tensor *t = &mc->tensors[mc->cp.n_tensors++];
    ck_assert_int_lt(at, MEMORY_TENSORS);
    snprintf(mc->names[at], sizeof mc->names[at], "%s", name);
    *t = (struct tensor){.name = mc->names[at],
                         .file = "model.safetensors",
                         .dtype = DT_F32,
                         .rank = k ? 2 : 1,
                         .shape = {n, k}};
    t->bytes = (size_t)(n * (k ? k : 1)) * sizeof(float);
    float *data = malloc(t->bytes);
    for (size_t i = 0; i < t->bytes / sizeof *data; i++)
        data[i] = (float)((i * 7 + at) % 13) / 64 + 0.01f;
    t->data = data;
    mc->cp.bytes += t->bytes;
    qsort(mc->tensors, mc->cp.n_tensors, sizeof *mc->tensors, memory_order);
    for (size_t i = 0; i < mc->cp.n_tensors; i++)
        if (!strcmp(mc->tensors[i].name, name))
            return &mc->tensors[i];
    return NULL;
}

static inline void memory_checkpoint_remove(struct memory_checkpoint *mc, const char *name)
{
    for (size_t i = 0; i < mc->cp.n_tensors; i++)
        if (!strcmp(mc->tensors[i].name, name)) {
            free((void *)mc->tensors[i].data);
            memmove(&mc->tensors[i], &mc->tensors[i + 1],
                    (--mc->cp.n_tensors - i) * sizeof *mc->tensors);
            return;
        }
    ck_abort_msg("%s is not there", name);
}

/* A llama of two layers, hidden 128, 2 heads of 64 on 1, intermediate 96, 40 tokens. */
static inline void memory_checkpoint_llama(struct memory_checkpoint *mc)
{
    static const struct {
        const char *name;
        int64_t n, k;
    } layer[] = {{"self_attn.q_proj", 128, 128},      {"self_attn.k_proj", 64, 128},
                 {"self_attn.v_proj", 64, 128},       {"self_attn.o_proj", 128, 128},
                 {"mlp.gate_proj", 96, 128},          {"mlp.up_proj", 96, 128},
                 {"mlp.down_proj", 128, 96},          {"input_layernorm", 128, 0},
                 {"post_attention_layernorm", 128, 0}};
    char name[96];
    memset(mc, 0, sizeof *mc);
    mc->cp.dir = (char *)"small";
    mc->cp.tensors = mc->tensors;
    mc->cp.config =
        json_pack("{ss si si si si si si si sf ss}", "model_type", "llama", "hidden_size", 128,
                  "intermediate_size", 96, "num_hidden_layers", 2, "num_attention_heads", 2,
                  "num_key_value_heads", 1, "vocab_size", 40, "max_position_embeddings", 4096,
                  "rms_norm_eps", 1e-5, "hidden_act", "silu");
    memory_checkpoint_add(mc, "model.embed_tokens.weight", 40, 128);
    memory_checkpoint_add(mc, "lm_head.weight", 40, 128);
    memory_checkpoint_add(mc, "model.norm.weight", 128, 0);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, layer[i].name);
            memory_checkpoint_add(mc, name, layer[i].n, layer[i].k);
        }
}

static inline void memory_checkpoint_free(struct memory_checkpoint *mc)
{
    for (size_t i = 0; i < mc->cp.n_tensors; i++)
        free((void *)mc->tensors[i].data);
    json_decref(mc->cp.config);
    json_decref(mc->cp.generation);
    json_decref(mc->cp.quant);
}

/* Opening must fail with a finding of this code about this field (NULL: any) that names it. */
static inline void memory_checkpoint_refused(struct memory_checkpoint *mc, const char *what,
                                             enum status code, const char *field)
{
    struct error err = ERROR_INIT;
    struct model *m;
    const struct model_options options = {.claim_only = true};
    enum status s =
        model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, &err);
    ck_assert_msg(s != ST_OK && !m, "%s was accepted", what);
    for (size_t i = 0; i < err.findings.n; i++) {
        const struct finding *f = &err.findings.v[i];
        if (f->code != code || (field && (!f->field || strcmp(f->field, field))))
            continue;
        ck_assert_msg(!field || strstr(f->message, field), "%s does not name %s", f->message,
                      field);
        error_clear(&err);
        return;
    }
    ck_abort_msg("%s: expected %s about %s, got %s (%s)", what, status_code(code),
                 field ? field : "something", status_code(s), err.text);
}

#endif
