/*
 * The pre-tokenizer of tokenizer.json: text cut into the pieces that the model sees one by one.
 */
#ifndef OFTD_CORE_TOKENIZER_PRETOKENIZE_H
#define OFTD_CORE_TOKENIZER_PRETOKENIZE_H

#include "core/tokenizer/pattern.h"

struct pretokenize_step;
struct pretokenizer {
    struct pretokenize_step *steps;
    size_t n;
};

/* component: null or absent (one piece), or an object; a Sequence is flattened. */
enum status pretokenize_read(struct reader *r, const json_t *component, struct pretokenizer *out);

struct pieces {
    struct bytes text, spare;
    struct spans v;           /* flag: this piece begins the whole original text */
    struct spans cuts, found; /* scratch */
};
void pieces_free(struct pieces *p);

/* Cuts text[0..n), which begins the whole original text or not, into p->v over p->text. No piece is
 * empty. */
enum status pretokenize_run(const struct pretokenizer *t, struct matcher *m, const char *text,
                            size_t n, bool begins, struct pieces *p);

#endif
