/*
 * The post-processor of tokenizer.json: what is put around the ids of a text, or of two.
 */
#ifndef OFTD_CORE_TOKENIZER_POSTPROCESS_H
#define OFTD_CORE_TOKENIZER_POSTPROCESS_H

#include "core/tokenizer/reader.h"
#include "core/tokenizer/tokenizer.h"

#define POSTPROCESS_TEXT   (-1) /* stands for the text's own ids */
#define POSTPROCESS_SECOND (-2) /* for those of the second text */

struct postprocess_list {
    struct {
        int32_t id;   /* or POSTPROCESS_ */
        int32_t type; /* of a network that tells texts of a pair by it */
    } * items;
    size_t n;
};
struct postprocessor {
    struct postprocess_list single, pair;
};

/* component: null or absent (the text alone), or an object. */
enum status postprocess_read(struct reader *r, const json_t *component, struct postprocessor *out);
/* Appends the items, first and (NULL: a single text) second standing for the texts, ids only if
 * add_special, and to types (NULL: nowhere) each token's type; false when memory runs out. */
bool postprocess_run(const struct postprocessor *p, const struct token_ids *first,
                     const struct token_ids *second, bool add_special, struct token_ids *out,
                     struct token_ids *types);

#endif
