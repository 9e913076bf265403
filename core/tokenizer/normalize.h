/*
 * The normalizer of tokenizer.json: a list of steps, each text to text.
 */
#ifndef OFTD_CORE_TOKENIZER_NORMALIZE_H
#define OFTD_CORE_TOKENIZER_NORMALIZE_H

#include "core/tokenizer/pattern.h"

struct normalize_step;
struct normalizer {
    struct normalize_step *steps;
    size_t n;
};

/* component: null or absent (no steps), or an object; a Sequence is flattened. */
enum status normalize_read(struct reader *r, const json_t *component, struct normalizer *out);

#define NORMALIZE_TEXT_MAX 1024 /* bytes that Prepend and Replace put in */

struct normalize_buffers {
    struct bytes text, spare;
    struct spans spans;
    bool moved; /* does the text no longer begin with what stood at the start of the original? */
};
void normalize_buffers_free(struct normalize_buffers *b);
/* Sets b->text to the normal form. */
enum status normalize_run(const struct normalizer *z, struct matcher *m, const char *text, size_t n,
                          struct normalize_buffers *b);

#endif
