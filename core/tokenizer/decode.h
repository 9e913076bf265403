/*
 * The decoder of tokenizer.json: a chain of stages that a list of tokens runs through, one token at
 * a time. Whole decoding is the same chain, fed to the end.
 */
#ifndef OFTD_CORE_TOKENIZER_DECODE_H
#define OFTD_CORE_TOKENIZER_DECODE_H

#include "core/tokenizer/pattern.h"

struct decode_stage;
struct decoder {
    struct decode_stage *stages;
    size_t n;
};

/* component: null or absent (tokens with a space between), or an object; a Sequence is flattened.
 */
enum status decode_read(struct reader *r, const json_t *component, struct decoder *out);

struct decode_state;
struct decoding {
    const struct decoder *decoder;
    bool whole; /* nothing is shown before the end: a run of bytes is judged as one */
    struct decode_state *states; /* [decoder->n] */
    struct bytes out;            /* what came out; the caller takes it away */
    size_t fed;                  /* bytes of all tokens so far */
    struct matcher matcher;
    enum status status;
};

/* err is where later calls say what went wrong. */
enum status decode_open(struct decoding *d, const struct decoder *decoder, bool whole,
                        struct error *err);
/* The text of the next token. */
enum status decode_token(struct decoding *d, const char *text, size_t n, struct error *err);
enum status decode_finish(struct decoding *d, struct error *err);
void decode_close(struct decoding *d);

/* Appends the bytes that a token adds behind other tokens: what decode_token shows before they are
 * joined to characters. NOT_SUPPORTED where that depends on the tokens around it (BPEDecoder, a
 * Strip of the end, WordPiece with clean-up). */
enum status decode_bytes(const struct decoder *decoder, const char *text, size_t n,
                         struct bytes *out, struct error *err);

#endif
