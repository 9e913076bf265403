/*
 * Answers to what is no request: the HTTP library gives up before a route is looked for.
 */
#ifndef OFTD_SERVER_REFUSAL_H
#define OFTD_SERVER_REFUSAL_H

#include "core/buffer.h"
#include "core/status.h"

/* The error's body for the number that the library chose. */
void refusal_body(unsigned status, struct buffer *out);
/* The whole answer onto a socket on which nothing can be sent after it; reason: the words of the
 * status line. */
void refusal_send(int fd, unsigned status, const char *reason);

#endif
