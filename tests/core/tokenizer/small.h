/*
 * A small tokenizer whose parts a test writes out: anything left NULL is null, the model is a BPE
 * over a few letters.
 */
#ifndef OFTD_TESTS_CORE_TOKENIZER_SMALL_H
#define OFTD_TESTS_CORE_TOKENIZER_SMALL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/tokenizer.h"

struct small {
    const char *model, *added, *normalizer, *pre_tokenizer, *post_processor, *decoder;
};

#define SMALL_MODEL                                                                                \
    "{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"ab\":3,\"-\":4,"   \
    "\" \":5},\"merges\":[[\"a\",\"b\"]]}"

/* The file's text; free it. */
static inline char *small_json(struct small s)
{
    char *text = NULL;
    if (asprintf(&text,
                 "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,"
                 "\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,"
                 "\"model\":%s}",
                 s.added ? s.added : "[]", s.normalizer ? s.normalizer : "null",
                 s.pre_tokenizer ? s.pre_tokenizer : "null",
                 s.post_processor ? s.post_processor : "null", s.decoder ? s.decoder : "null",
                 s.model ? s.model : SMALL_MODEL) < 0)
        abort();
    return text;
}

static inline enum status small_parse(struct small s, struct tokenizer **t, struct error *err)
{
    char *text = small_json(s);
    enum status status = tokenizer_parse(text, strlen(text), "dir/tokenizer.json", t, err);
    free(text);
    return status;
}

#endif
