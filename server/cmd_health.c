/*
 * `oftd health`: asks GET /health of the daemon at --listen, for container health checks in images
 * that hold no HTTP client. Exit 0 when it serves, 1 when it does not (one line says why). Behind
 * TLS only the connection is tried: the probe has no trust store.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/cmd_common.h"
#include "server/listen.h"

#define TIMEOUT_S 3

static int ask(const char *address)
{
    static const char request[] = "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n";
    char reply[512];
    size_t have = 0;
    int fd = listen_connect(address, TIMEOUT_S);
    if (fd < 0) {
        fprintf(stderr, "oftd health: nobody answers at %s\n", address);
        return EXIT_REFUSED;
    }
    if (write(fd, request, sizeof request - 1) == (ssize_t)sizeof request - 1)
        for (ssize_t n;
             have < sizeof reply - 1 && (n = read(fd, reply + have, sizeof reply - 1 - have)) > 0;)
            have += (size_t)n;
    close(fd);
    reply[have] = 0;
    if (have > 12 && !memcmp(reply, "HTTP/1.", 7) && !memcmp(reply + 8, " 200", 4))
        return EXIT_DONE;
    fprintf(stderr, "oftd health: %.*s\n", (int)strcspn(reply, "\r\n"), have ? reply : "no reply");
    return EXIT_REFUSED;
}

int cmd_health(int argc, char **argv, char **envp)
{
    struct config c;
    int code;
    if (!cmd_config("health", argc, argv, envp, &c, &code))
        return code;
    if (c.tls_cert) {
        int fd = listen_connect(c.listen, TIMEOUT_S);
        code = fd < 0 ? EXIT_REFUSED : EXIT_DONE;
        if (fd >= 0)
            close(fd);
    } else {
        code = ask(c.listen);
    }
    config_clear(&c);
    return code;
}
