/*
 * One HTTP request on its way through the house: filled by http.c (bytes), routed by routes.c,
 * answered by a handler in route_*.c. A handler runs on an HTTP thread and must not block: it
 * either answers (reply.h) or hands over a ticket and the step that goes on when the ticket has
 * something new (request_wait); meanwhile the connection is suspended and costs no thread.
 */
#ifndef OFTD_SERVER_REQUEST_H
#define OFTD_SERVER_REQUEST_H

#include "core/arena.h"
#include "core/buffer.h"
#include "core/engine.h"
#include "server/auth.h"
#include "server/trace.h"

struct request;
struct route;
struct server;

typedef void request_step(struct request *q);

enum produce { PRODUCE_MORE, PRODUCE_WAIT, PRODUCE_END, PRODUCE_ABORT };
/* Appends the next part of a body (about 64 KiB at most) to out. MORE: call again when it is sent.
 * WAIT: nothing more until the request's ticket has an event. ABORT: cut the connection. */
typedef enum produce reply_produce(struct request *q, struct buffer *out);
#define PRODUCE_SIZE 65536

struct reply_header {
    const char *name, *value;
    struct reply_header *next;
};

struct reply {
    int status; /* 0: no answer yet */
    const char *type;
    char *body; /* whole, malloc'ed, or NULL */
    size_t len;
    reply_produce *produce; /* the body in parts */
    uint64_t produced;      /* bytes of them together, 0: known at the end only */
    struct reply_header *headers;
};

/* What is special about the listener that a request came in on. */
struct listener_role {
    bool loopback; /* only this machine can reach it */
    bool local_socket;
    bool admin;     /* --admin-listen */
    bool has_admin; /* another listener is the admin one: no admin routes here */
};

#define REQUEST_PARAMS 2
#define REQUEST_ID_MAX 128

struct request {
    struct server *server;
    struct listener_role role;
    const char *method, *path; /* path: decoded, without the query */
    char id[REQUEST_ID_MAX + 1];
    char trace_id[TRACE_ID_DIGITS + 1]; /* of the caller's trace, or "" */
    char key[AUTH_NAME_MAX + 1];        /* name of the key that was shown, or "" */
    double started;                     /* CLOCK_MONOTONIC seconds */
    struct arena arena;

    const struct route *route; /* NULL: none found */
    const char *params[REQUEST_PARAMS];

    const char *body;
    size_t body_len;
    size_t json_len; /* of the body is JSON; tensors follow. SIZE_MAX: all of it */
    json_t *json;    /* the parsed body; owned */

    void *state; /* the handler's own, freed by state_free */
    void (*state_free)(void *state);
    struct ticket *ticket; /* owned; set by request_wait */
    enum ticket_until until;
    request_step *then;

    int64_t prompt_tokens, generated_tokens; /* for the log; 0: unknown */
    struct reply reply;
    bool hung_up; /* the client went away before the end (known at the end) */
    uint64_t reply_bytes;
};

/* Suspends the request until its ticket has something to read or has ended, then calls `then`.
 * ticket: consumed; a request has one at most, NULL afterwards means that one. */
void request_wait(struct request *q, struct ticket *ticket, enum ticket_until until,
                  request_step *then);
/* A header's value or NULL; lives as long as the request. */
const char *request_header(struct request *q, const char *name);
/* A query parameter's value, "" if it has none, NULL if it is absent. */
const char *request_query(struct request *q, const char *name);

#endif
