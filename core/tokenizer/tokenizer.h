/*
 * tokenizer.json as pure functions over an immutable vocabulary: text -> ids, ids -> text, and the
 * pieces of a stream. Thread-safe after loading. A component of the file that is not known stops
 * the load with its name (TOKENIZER_UNSUPPORTED): a difference is never silent. Every call that
 * allocates can fail cleanly.
 */
#ifndef OFTD_CORE_TOKENIZER_TOKENIZER_H
#define OFTD_CORE_TOKENIZER_TOKENIZER_H

#include <stdint.h>

#include "core/status.h"

struct tokenizer;

/* dir/tokenizer.json; *out is NULL with ST_OK when the folder has none. */
enum status tokenizer_load(const char *dir, struct tokenizer **out, struct error *err);
/* From text; path is for messages. */
enum status tokenizer_parse(const char *json, size_t size, const char *path, struct tokenizer **out,
                            struct error *err);
void tokenizer_free(struct tokenizer *t);

int32_t tokenizer_size(const struct tokenizer *t); /* largest id + 1 */
/* The entry's own text (as in the file), length in *len, or NULL. Borrowed. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len);
/* Appends the bytes that this token adds to a text behind other tokens (decode_bytes); an id that
 * has no entry adds none. */
struct bytes;
enum status tokenizer_bytes(const struct tokenizer *t, int32_t id, struct bytes *out,
                            struct error *err);
int32_t tokenizer_id(const struct tokenizer *t, const char *piece); /* -1: none */
bool tokenizer_special(const struct tokenizer *t, int32_t id);

struct token_ids {
    int32_t *v;
    size_t n, cap;
};
void token_ids_free(struct token_ids *ids);
/* Appends one id; false when memory runs out. */
bool token_ids_push(struct token_ids *ids, int32_t id);

/* text: UTF-8 (else INVALID_VALUE), may hold NULs. add_special: apply the post-processor. Appends
 * to out. */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                             bool add_special, struct token_ids *out, struct error *err);
/* Two texts, joined as the post-processor says; types gets the type of each token. */
struct text_pair {
    const char *first, *second;
    size_t first_len, second_len;
};
enum status tokenizer_encode_pair(const struct tokenizer *t, const struct text_pair *texts,
                                  bool add_special, struct token_ids *out, struct token_ids *types,
                                  struct error *err);
/* *text is malloc'ed, NUL ended, *len bytes. Ids outside the vocabulary are skipped. */
enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                             bool skip_special, char **text, size_t *len, struct error *err);

/* Incremental decoding: the pieces and the flush together are tokenizer_decode of all ids. Only
 * whole characters come out; a tail that more bytes could finish is held. */
struct token_stream;
enum status token_stream_open(const struct tokenizer *t, bool skip_special,
                              struct token_stream **out, struct error *err);
/* What this token adds: *piece is borrowed until the next call; *len may be 0. */
enum status token_stream_push(struct token_stream *s, int32_t id, const char **piece, size_t *len,
                              struct error *err);
enum status token_stream_flush(struct token_stream *s, const char **piece, size_t *len,
                               struct error *err);
void token_stream_close(struct token_stream *s);

#endif
