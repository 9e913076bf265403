/* A completion as server-sent events. */
#ifndef OFTD_SERVER_STREAM_H
#define OFTD_SERVER_STREAM_H

#include "server/request.h"

/* reply_produce of a request whose state is a struct completion and whose ticket generates. */
enum produce stream_produce(struct request *q, struct buffer *out);

#endif
