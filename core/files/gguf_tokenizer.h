/*
 * The tokenizer of a GGUF file as the files that Hugging Face keeps it in.
 */
#ifndef OFTD_CORE_FILES_GGUF_TOKENIZER_H
#define OFTD_CORE_FILES_GGUF_TOKENIZER_H

#include "core/files/gguf.h"

struct gguf_tokenizer {
    json_t *tokenizer;  /* tokenizer.json; NULL: the file has none */
    json_t *config;     /* tokenizer_config.json, with the chat template; NULL with the other */
    json_t *generation; /* generation_config.json: begin, end and padding tokens */
};

/* vocab: how many tokens there must be. TOKENIZER_UNSUPPORTED (another kind or another
 * pre-tokenizer, by name), CHECKPOINT_INVALID. Clear out in every case. */
enum status gguf_tokenizer_read(const struct gguf *g, int64_t vocab, struct gguf_tokenizer *out,
                                struct error *err);
void gguf_tokenizer_clear(struct gguf_tokenizer *t);

#endif
