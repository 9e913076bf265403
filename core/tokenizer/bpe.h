/*
 * Byte pair encoding, byte-level or SentencePiece-style: one piece of text to ids.
 */
#ifndef OFTD_CORE_TOKENIZER_BPE_H
#define OFTD_CORE_TOKENIZER_BPE_H

#include "core/tokenizer/bytes.h"
#include "core/tokenizer/reader.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/vocabulary.h"

struct bpe;

enum status bpe_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                     const struct bpe **out);

struct bpe_symbol {
    int32_t id, before, after; /* neighbours by index, -1: none; id -1: merged away */
};
struct bpe_merge {
    uint64_t order; /* rank, then position: the smallest goes first */
    int32_t id;
};
struct bpe_buffers {
    struct bpe_symbol *symbols;
    struct bpe_merge *heap;
    size_t n, cap, heap_n, heap_cap;
    struct bytes decorated; /* a character with its prefix and suffix */
};
void bpe_buffers_free(struct bpe_buffers *b);
/* Appends the ids of text[0..n), which is not empty. */
enum status bpe_encode(const struct bpe *m, const char *text, size_t n, struct bpe_buffers *b,
                       struct token_ids *out, struct error *err);

#endif
