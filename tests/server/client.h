/* A small HTTP client for tests: one request on one connection, bytes in and out. */
#ifndef OFTD_TESTS_SERVER_CLIENT_H
#define OFTD_TESTS_SERVER_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static inline int client_connect(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval timeout = {.tv_sec = 20};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void client_send(int fd, const char *method, const char *path, const char *headers,
                               const char *body)
{
    char head[1024];
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s"
                     "Content-Length: %zu\r\n\r\n",
                     method, path, headers ? headers : "", body ? strlen(body) : 0);
    send(fd, head, (size_t)n, MSG_NOSIGNAL);
    if (body)
        send(fd, body, strlen(body), MSG_NOSIGNAL);
}

/* Everything until the server closes, NUL ended, malloc'ed. */
static inline char *client_read(int fd)
{
    size_t len = 0, cap = 4096;
    char *text = malloc(cap);
    for (ssize_t n; (n = recv(fd, text + len, cap - len - 1, 0)) > 0;) {
        len += (size_t)n;
        if (cap - len < 2) {
            cap *= 2;
            text = realloc(text, cap);
        }
    }
    text[len] = 0;
    return text;
}

/* The whole reply; *status is its number, 0 if there is none. */
static inline char *client_call(int port, const char *method, const char *path, const char *headers,
                                const char *body, int *status)
{
    int fd = client_connect(port);
    *status = 0;
    if (fd < 0)
        return strdup("");
    client_send(fd, method, path, headers, body);
    char *text = client_read(fd);
    close(fd);
    if (!strncmp(text, "HTTP/1.1 ", 9))
        *status = atoi(text + 9);
    return text;
}

#endif
