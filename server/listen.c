/*
 * Owns the step from an address as text to a socket that listens, and the life of a unix socket's
 * file. A left-over socket file of a daemon that died is replaced; anything else at that path is
 * not touched. And the files that TLS needs.
 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG      1024
#define PEM_FILE_MAX (1024 * 1024)

static enum status fail(struct listen_socket *s, const char *address, const char *why,
                        struct error *err)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->path[0] = 0;
    return error_set(err, ST_IO_ERROR, "cannot listen on %s: %s", address, why);
}

/* A socket file that nobody answers on may go. */
static void remove_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) && errno == ECONNREFUSED)
        unlink(addr->sun_path);
    close(fd);
}

static enum status listen_unix(const char *address, const char *path, struct listen_socket *out,
                               struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (!len || len >= sizeof addr.sun_path)
        return error_set(err, ST_INVALID_VALUE, "%s: a path of 1 to %zu bytes is expected", address,
                         sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, len + 1);
    remove_stale(&addr);
    out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (out->fd < 0)
        return fail(out, address, strerror(errno), err);
    mode_t old = umask(0077); /* the owner alone, from the first moment */
    int bad = bind(out->fd, (struct sockaddr *)&addr, sizeof addr);
    umask(old);
    if (bad)
        return fail(out, address, strerror(errno), err);
    memcpy(out->path, path, len + 1);
    if (listen(out->fd, BACKLOG)) {
        unlink(path);
        return fail(out, address, strerror(errno), err);
    }
    out->loopback = out->local = true;
    snprintf(out->url, sizeof out->url, "unix:%s", path);
    return ST_OK;
}

/* "HOST:PORT" or "[V6]:PORT" into its parts. */
static bool split(const char *address, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    size_t len = (size_t)(colon - address);
    if (*start == '[') {
        if (len < 2 || start[len - 1] != ']')
            return false;
        start++;
        len -= 2;
    } else if (memchr(start, ':', len)) {
        return false;
    }
    if (!len || len >= size)
        return false;
    memcpy(host, start, len);
    host[len] = 0;
    *port = colon + 1;
    return true;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static void describe(struct listen_socket *s, bool tls)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char host[64] = "", port[16] = "";
    getsockname(s->fd, (struct sockaddr *)&a, &len);
    getnameinfo((struct sockaddr *)&a, len, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    bool v6 = a.ss_family == AF_INET6;
    s->loopback = is_loopback((struct sockaddr *)&a);
    snprintf(s->url, sizeof s->url, "%s://%s%s%s:%s", tls ? "https" : "http", v6 ? "[" : "", host,
             v6 ? "]" : "", port);
}

static enum status listen_tcp(const char *address, bool tls, struct listen_socket *out,
                              struct error *err)
{
    char host[256];
    const char *port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    if (!split(address, host, sizeof host, &port) || strlen(port) > 5 || atoi(port) > 65535)
        return error_set(err, ST_INVALID_VALUE, "%s: HOST:PORT, [V6]:PORT or unix:PATH is expected",
                         address);
    int code = getaddrinfo(host, port, &hints, &list);
    if (code)
        return fail(out, address, gai_strerror(code), err);
    int problem = 0, on = 1;
    for (struct addrinfo *a = list; a && out->fd < 0; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            problem = errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG)) {
            problem = errno;
            close(fd);
            continue;
        }
        out->fd = fd;
    }
    freeaddrinfo(list);
    if (out->fd < 0)
        return fail(out, address, strerror(problem), err);
    describe(out, tls);
    return ST_OK;
}

enum status listen_open(const char *address, bool tls, struct listen_socket *out, struct error *err)
{
    *out = (struct listen_socket){.fd = -1};
    if (!strncmp(address, "unix:", 5))
        return listen_unix(address, address + 5, out, err);
    return listen_tcp(address, tls, out, err);
}

enum status listen_passed(int fd, bool tls, struct listen_socket *out, struct error *err)
{
    struct sockaddr_un a = {0};
    socklen_t len = sizeof a, size = sizeof(int);
    int listens = 0;
    *out = (struct listen_socket){.fd = -1};
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
        return error_set(err, ST_INVALID_VALUE, "descriptor %d is no socket that listens", fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    out->fd = fd;
    getsockname(fd, (struct sockaddr *)&a, &len);
    out->local = out->loopback = a.sun_family == AF_UNIX;
    if (!out->local)
        describe(out, tls);
    else
        snprintf(out->url, sizeof out->url, "unix:%.*s", (int)sizeof a.sun_path, a.sun_path);
    return ST_OK;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return -1;
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int connect_tcp(const char *address)
{
    char host[256];
    const char *port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    if (!split(address, host, sizeof host, &port))
        return -1;
    const char *to = !strcmp(host, "0.0.0.0") ? "127.0.0.1" : !strcmp(host, "::") ? "::1" : host;
    if (getaddrinfo(to, port, &hints, &list))
        return -1;
    int fd = -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

int listen_connect(const char *address, int timeout_s)
{
    int fd = strncmp(address, "unix:", 5) ? connect_tcp(address) : connect_unix(address + 5);
    if (fd < 0)
        return -1;
    struct timeval limit = {.tv_sec = timeout_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

void listen_close(struct listen_socket *s)
{
    if (s->fd >= 0)
        close(s->fd);
    if (s->path[0])
        unlink(s->path);
    *s = (struct listen_socket){.fd = -1};
}

enum status listen_pem(const char *path, char **out, struct error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum status s = ST_OK;
    if (fd < 0 || fstat(fd, &st))
        s = error_set(err, ST_IO_ERROR, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size > PEM_FILE_MAX)
        s = error_set(err, ST_IO_ERROR, "%s: not a PEM file", path);
    else if (!(*out = calloc(1, (size_t)st.st_size + 1)))
        s = error_memory(err, "reading a PEM file");
    else if (read(fd, *out, (size_t)st.st_size) != st.st_size)
        s = error_set(err, ST_IO_ERROR, "%s: it cannot be read", path);
    if (fd >= 0)
        close(fd);
    return s;
}
