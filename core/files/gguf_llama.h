/*
 * The hyper-parameters of a GGUF file of the llama architecture, and the config.json that says the
 * same.
 */
#ifndef OFTD_CORE_FILES_GGUF_LLAMA_H
#define OFTD_CORE_FILES_GGUF_LLAMA_H

#include "core/files/gguf.h"

struct gguf_llama {
    int64_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
    float eps, theta;
    bool tied; /* no output.weight */
};

/* MODEL_TYPE_UNSUPPORTED (another architecture), CONFIG_UNSUPPORTED (a key llama.* that changes the
 * mathematics and is not known, or not with this value), CONFIG_MISSING_FIELD,
 * CONFIG_INVALID_VALUE. Every size is in 1..2^24, and so are heads * head_dim; head_dim is even. */
enum status gguf_llama_read(const struct gguf *g, struct gguf_llama *out, struct error *err);
/* config.json without quantization_config and token ids; NULL when memory runs out. */
json_t *gguf_llama_config(const struct gguf_llama *m);

#endif
