/*
 * THE route table and what happens before and after every handler: 404, 405, 413, 401, 403, 503,
 * the parsed and checked body, the log line.
 */
#ifndef OFTD_SERVER_ROUTES_H
#define OFTD_SERVER_ROUTES_H

#include "server/auth.h"
#include "server/fields.h"
#include "server/request.h"

struct route {
    const char *method, *pattern; /* "/v1/models/{id}" */
    enum plane plane;
    bool before_ready; /* answers also while the model is loading */
    request_step *handler;
    enum field_set body; /* FIELDS_none: none is expected */
    bool large_body;     /* up to --max-body-bytes */
    const char *query;   /* its query parameters: "name:type,..." */
    const char *reply;   /* name of the schema of a good answer, or a content type */
    const char *summary;
};

extern const struct route routes[];
extern const size_t n_routes;

/* Called by http.c in this order. begin: the head is here; returns how many bytes of body may
 * follow (or has answered). run: the body is here. done: all is over. */
size_t routes_begin(struct request *q);
void routes_too_large(struct request *q, size_t limit);
void routes_run(struct request *q);
void routes_done(struct request *q);

#endif
