/*
 * The messages, tools and variables of a body as what the base's chat template is given.
 */
#ifndef OFTD_SERVER_CONVERSATION_H
#define OFTD_SERVER_CONVERSATION_H

#include "server/request.h"

/* Reads the checked body of q (the rows of the set `conversation`). out->variables is a new
 * reference, which the caller gives back (also after an error; NULL then, perhaps).
 * INVALID_VALUE, OUT_OF_MEMORY. */
enum status conversation_read(struct request *q, struct chat *out, struct error *err);
/* The same from messages (of the set `message`) that stand elsewhere: no tools, no further
 * variables, an answer is to begin. */
enum status conversation_of(struct request *q, const json_t *messages, struct chat *out,
                            struct error *err);

#endif
