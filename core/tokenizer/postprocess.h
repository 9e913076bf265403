/*
 * The post-processor of tokenizer.json: what is put around the ids of a text.
 */
#ifndef OFTD_CORE_TOKENIZER_POSTPROCESS_H
#define OFTD_CORE_TOKENIZER_POSTPROCESS_H

#include "core/tokenizer/reader.h"
#include "core/tokenizer/tokenizer.h"

#define POSTPROCESS_TEXT (-1) /* stands for the text's own ids */

struct postprocessor {
    int32_t *items; /* ids and POSTPROCESS_TEXT, in order */
    size_t n;
};

/* component: null or absent (the text alone), or an object. */
enum status postprocess_read(struct reader *r, const json_t *component, struct postprocessor *out);
/* Appends the items, body standing for the text, ids only if add_special; false when memory runs
 * out. */
bool postprocess_run(const struct postprocessor *p, const struct token_ids *body, bool add_special,
                     struct token_ids *out);

#endif
