/*
 * The messages, tools and variables of a body as what the base's chat template is given.
 */
#ifndef OFTD_SERVER_CONVERSATION_H
#define OFTD_SERVER_CONVERSATION_H

#include "server/request.h"

/* Reads a checked body (the rows of the set `conversation`): that of q, or one that says the same.
 * param: the field of q's own body that its errors name. out->variables is a new reference, which
 * the caller gives back (also after an error; NULL then, perhaps). INVALID_VALUE, OUT_OF_MEMORY. */
enum status conversation_read(const struct request *q, const json_t *body, const char *param,
                              struct chat *out, struct error *err);

#endif
