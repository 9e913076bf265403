/*
 * One /v1/completions request between its JSON and its answer: what was asked (for the engine), and
 * the choices as their pieces come in. Whole answers and stream frames are written from the same
 * choices.
 */
#ifndef OFTD_SERVER_COMPLETION_H
#define OFTD_SERVER_COMPLETION_H

#include "server/request.h"

struct choice {
    struct buffer text; /* all of it so far */
    struct buffer ids;  /* JSON lists without brackets, since the last frame */
    struct buffer tokens, logprobs, tops, offsets;
    size_t bytes, characters; /* text_offset of the last token, in both units */
    size_t sent;              /* of text, in frames */
    bool any, any_logprob;
    enum finish_reason finish;
};

struct completion {
    struct generate_request request;
    const char *model; /* as the reply calls it */
    bool stream, include_usage, return_ids, with_logprobs;
    bool by_model; /* the adapter came from `model` alone */
    int64_t created;
    struct choice *choices;
    size_t n_choices;
    struct piece first; /* read before the stream began */
    bool has_first;
};

/* Reads the checked body of q; everything borrowed lives in q (its JSON, its arena). *out is freed
 * with completion_free. */
enum status completion_read(struct request *q, struct completion **out, struct error *err);
void completion_free(void *completion);

/* Adds a piece to its choice and returns it; NULL when memory ran out. */
struct choice *completion_add(struct completion *c, const struct piece *p);
/* Is there something in choice x that a frame should tell? */
bool completion_pending(const struct completion *c, const struct choice *x);
/* Choice x as JSON: what is new since the last frame, or (whole) all. */
void completion_choice(struct completion *c, struct choice *x, bool whole, struct buffer *out);
void completion_usage(const struct usage *u, struct buffer *out);

#endif
