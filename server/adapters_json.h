/* Adapters in answers and in requests, shared by the routes that speak of them. */
#ifndef OFTD_SERVER_ADAPTERS_JSON_H
#define OFTD_SERVER_ADAPTERS_JSON_H

#include "server/request.h"

/* The object of api.md 4; NULL when memory runs out. */
json_t *adapter_info_json(const struct adapter_info *a);
/* A checked `load` body -> request; strings are borrowed from body. */
void adapter_request_read(const json_t *body, struct adapter_request *out);

#endif
