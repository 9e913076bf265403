/*
 * The logprobs of a response's texts: which of the texts a token belongs to, told as its bytes are
 * read.
 */
#ifndef OFTD_SERVER_TEXT_LOGPROBS_H
#define OFTD_SERVER_TEXT_LOGPROBS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buffer.h"
#include "core/engine.h"

#define NO_TEXT ((size_t)-1)

struct text_range {
    size_t slot, from; /* of the list; it ends where the next one begins */
};
struct waiting_token {
    size_t end;   /* bytes that had come with it, and the next one if it had none */
    size_t bytes; /* of its entry */
};

/* Zeroed: there is nothing yet. */
struct text_logprobs {
    struct buffer list; /* entries, each behind a comma, of all texts in order */
    struct text_range *ranges;
    size_t n_ranges, cap_ranges;
    struct buffer waiting; /* entries of tokens that are not sure yet */
    struct waiting_token *tokens;
    size_t n_tokens, cap_tokens;
    size_t read;   /* bytes that have come */
    size_t end;    /* of the token that has been read, if it waits */
    size_t slot;   /* the last text that grew */
    size_t sent;   /* of the list, in frames */
    bool apart;    /* something else has grown since */
    bool wait, in; /* where the token that has been read goes: neither: nowhere */
    bool failed;   /* memory ran out */
};

/* What a token's bytes did. */
struct text_growth {
    size_t bytes; /* of the token */
    size_t held;  /* bytes that have come and are not told, of whatever token */
    size_t slot;  /* of the text that grew; NO_TEXT: none did */
    size_t grown; /* by so much */
    bool other;   /* a thought or a call grew */
};

/* A token has been read; text_logprobs_add then takes its logprob. */
void text_logprobs_read(struct text_logprobs *l, const struct text_growth *g);
void text_logprobs_add(struct text_logprobs *l, const struct token_info *t);
/* The entries of a text without brackets; unsent: those alone that no frame has told, which are
 * told now. */
void text_logprobs_write(struct text_logprobs *l, size_t slot, bool unsent, struct buffer *out);
bool text_logprobs_failed(const struct text_logprobs *l);
void text_logprobs_free(struct text_logprobs *l);

#endif
