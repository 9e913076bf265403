/*
 * What a tokenizer is made of; for tokenizer.c and stream.c.
 */
#ifndef OFTD_CORE_TOKENIZER_PARTS_H
#define OFTD_CORE_TOKENIZER_PARTS_H

#include "core/tokenizer/added.h"
#include "core/tokenizer/bpe.h"
#include "core/tokenizer/decode.h"
#include "core/tokenizer/normalize.h"
#include "core/tokenizer/postprocess.h"
#include "core/tokenizer/pretokenize.h"
#include "core/tokenizer/unigram.h"
#include "core/tokenizer/wordpiece.h"

struct tokenizer {
    struct arena arena; /* holds everything below */
    struct pattern *patterns;
    struct vocabulary vocabulary;
    struct added added;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    const struct bpe *bpe; /* one of the three, the others are NULL */
    const struct wordpiece *wordpiece;
    const struct unigram *unigram;
    struct postprocessor postprocessor;
    struct decoder decoder;
};

#endif
