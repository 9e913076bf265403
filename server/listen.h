/*
 * Listening sockets: "HOST:PORT", "[V6]:PORT" or "unix:PATH". Port 0 takes a free one.
 */
#ifndef OFTD_SERVER_LISTEN_H
#define OFTD_SERVER_LISTEN_H

#include "core/status.h"

struct listen_socket {
    int fd;
    bool loopback;  /* reachable from this machine only (a unix socket is) */
    bool local;     /* a unix socket */
    char url[160];  /* http(s)://HOST:PORT, unix:PATH */
    char path[108]; /* of our own unix socket, removed by listen_close; else "" */
};

/* IO_ERROR, INVALID_VALUE; the sentence names the address. */
enum status listen_open(const char *address, bool tls, struct listen_socket *out,
                        struct error *err);
/* A socket that listens already: the service manager's. INVALID_VALUE when it does not. */
enum status listen_passed(int fd, bool tls, struct listen_socket *out, struct error *err);
/* A file of certificates or a key, as text; *out is malloc'ed. IO_ERROR. */
enum status listen_pem(const char *path, char **out, struct error *err);
/* A blocking connection to the listener at such an address (0.0.0.0 and [::] mean this machine),
 * with timeout_s on reads and writes; -1 when nobody answers there. */
int listen_connect(const char *address, int timeout_s);
void listen_close(struct listen_socket *s); /* the file; and fd, unless it is -1 */

#endif
