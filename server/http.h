/*
 * Bytes on sockets: the only user of libmicrohttpd. It owns listeners, limits, time-outs, suspended
 * connections and the drain, and knows no route: routes.h tells what a request is.
 */
#ifndef OFTD_SERVER_HTTP_H
#define OFTD_SERVER_HTTP_H

#include "server/request.h"

struct http_options {
    const char *listen;             /* HOST:PORT or unix:PATH */
    const char *admin_listen;       /* NULL: none */
    int listen_fd, admin_fd;        /* instead: sockets that listen; 0: none */
    const char *tls_cert, *tls_key; /* PEM files, both or neither */
    int threads;                    /* of each listener, and for large bodies */
    int max_connections;
    uint64_t body_memory; /* bytes of all bodies at once, as text and parsed */
    int header_timeout_s; /* the whole head of a request */
    int idle_timeout_s;   /* between bytes of a body, between requests */
    int write_timeout_s;  /* a reply that the client does not take */
};

struct http;
/* Listens and answers at once. IO_ERROR naming address or file, INVALID_VALUE. */
enum status http_start(const struct http_options *options, struct server *server, struct http **out,
                       struct error *err);
/* "http://127.0.0.1:8080" of the listener for inference; of the admin listener or NULL. */
const char *http_url(const struct http *h);
const char *http_admin_url(const struct http *h);
/* Only this machine reaches the listener for inference. */
bool http_loopback(const struct http *h);
/* Takes no new connections from sockets that were passed: they wait for whoever serves there next.
 */
void http_quiesce(struct http *h);
/* The same of all sockets, which are the caller's then (http_options.listen_fd, admin_fd); 0: there
 * is none. A unix socket's file stays. */
void http_hand_over(struct http *h, int *listen_fd, int *admin_fd);
/* Waits up to grace_ms for replies that are being sent, then closes everything. All tickets must
 * end by themselves (engine_drain). NULL is fine. */
void http_stop(struct http *h, int grace_ms);

struct http_stats {
    int64_t connections, requests; /* open now, in work now */
    int64_t suspended;
    uint64_t body_bytes;
};
void http_stats(const struct http *h, struct http_stats *out);

#endif
