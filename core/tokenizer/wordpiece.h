/*
 * WordPiece: the longest entry from the left, again and again; one failure makes the word unknown.
 */
#ifndef OFTD_CORE_TOKENIZER_WORDPIECE_H
#define OFTD_CORE_TOKENIZER_WORDPIECE_H

#include "core/tokenizer/reader.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/vocabulary.h"

struct wordpiece;

enum status wordpiece_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                           const struct wordpiece **out);
/* Appends the ids of the word text[0..n), which is not empty. */
enum status wordpiece_encode(const struct wordpiece *m, const char *text, size_t n,
                             struct token_ids *out, struct error *err);

#endif
