/*
 * What all of server/ shares while serving: plain values and borrowed pointers, put together by
 * cmd_serve.c (and by tests). Nothing here changes after http_start, but the counters.
 */
#ifndef OFTD_SERVER_SERVER_H
#define OFTD_SERVER_SERVER_H

#include <stdatomic.h>

#include "core/engine.h"
#include "server/auth.h"
#include "server/log.h"
#include "server/origin.h"

struct server_options {
    const char *const *allowed_origins;
    size_t n_allowed_origins;
    uint64_t max_body_bytes; /* of an inference request */
    int json_depth;
    int retry_after_s; /* sent with 503 and 429 */
    bool metrics_vllm; /* also the names that start with vllm: */
};

#define HTTP_STATUS_MAX 600
struct server_counters {
    atomic_ullong by_status[HTTP_STATUS_MAX], disconnects, reply_bytes;
};

struct http;
struct server {
    struct server_options options;
    struct engine *engine;
    struct auth *auth;
    struct log *log;
    struct http *_Atomic http; /* for figures only; NULL until http_start has returned */
    double started;            /* UNIX seconds */
    const char *isa, *device;
    struct server_counters counters;
};

#endif
