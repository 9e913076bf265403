/*
 * Unigram: the segmentation with the highest sum of scores.
 */
#ifndef OFTD_CORE_TOKENIZER_UNIGRAM_H
#define OFTD_CORE_TOKENIZER_UNIGRAM_H

#include "core/tokenizer/reader.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/vocabulary.h"

struct unigram;

enum status unigram_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                         const struct unigram **out);

struct unigram_node {
    double score;  /* of the best path that ends here */
    int32_t start; /* where its last piece starts, -1: no path yet */
    int32_t id;
};
struct unigram_buffers {
    struct unigram_node *nodes; /* by end, in bytes */
    struct span_of_text {
        int32_t start, end;
        bool unknown;
    } * pieces;
    size_t cap;
};
void unigram_buffers_free(struct unigram_buffers *b);
/* Appends the ids of text[0..n), which is not empty. */
enum status unigram_encode(const struct unigram *m, const char *text, size_t n,
                           struct unigram_buffers *b, struct token_ids *out, struct error *err);

#endif
