/* The body of /v1/responses as the body of a chat that says the same. */
#ifndef OFTD_SERVER_RESPONSE_REQUEST_H
#define OFTD_SERVER_RESPONSE_REQUEST_H

#include "server/request.h"

/* Reads the checked body of q. *out is new, and holds what a chat's body may hold: messages, tools,
 * tool_choice, parallel_tool_calls, response_format, reasoning_effort. INVALID_VALUE,
 * OUT_OF_MEMORY. */
enum status response_request_read(const struct request *q, json_t **out, struct error *err);

#endif
