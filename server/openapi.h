/* The description of the API, from the route and field tables. */
#ifndef OFTD_SERVER_OPENAPI_H
#define OFTD_SERVER_OPENAPI_H

#include <stdbool.h>

#include <jansson.h>

/* With or without the admin routes; NULL when memory runs out. */
json_t *openapi_json(bool admin);

#endif
