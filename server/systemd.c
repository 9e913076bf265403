/*
 * systemd's two protocols, which are a few variables and one datagram, so that no library is needed
 * for them (sd_listen_fds(3), sd_notify(3)). Passed sockets begin at descriptor 3 and are ours only
 * when LISTEN_PID is this process: the variables are inherited by whoever it starts.
 */
#include "server/systemd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_SOCKET 3

static long number_of(const char *name)
{
    const char *v = getenv(name);
    char *end = NULL;
    long n = v ? strtol(v, &end, 10) : 0;
    return v && *v && !*end ? n : 0;
}

enum status systemd_sockets(struct systemd_sockets *out, struct error *err)
{
    const char *names = getenv("LISTEN_FDNAMES");
    long n = number_of("LISTEN_PID") == (long)getpid() ? number_of("LISTEN_FDS") : 0;
    *out = (struct systemd_sockets){0, 0};
    for (long i = 0; i < n; i++) {
        size_t len = names ? strcspn(names, ":") : 0;
        bool admin = len == 5 && !strncmp(names, "admin", len);
        int *slot = admin ? &out->admin : &out->http;
        if (*slot || i > 1)
            return error_set(err, ST_INVALID_VALUE,
                             "%ld sockets were passed (LISTEN_FDS): one, and one with the name "
                             "'admin', are expected",
                             n);
        *slot = FIRST_SOCKET + (int)i;
        names = names && names[len] ? names + len + 1 : NULL;
    }
    return ST_OK;
}

void systemd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len < 2 || len >= sizeof a.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(a.sun_path, path, len);
    if (*path == '@') /* no file, but a name */
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}
