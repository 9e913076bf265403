/*
 * Owns the words for the library's own refusals and the way they take: a head that is no HTTP, one
 * that is too large, a body that breaks off. Nothing is known of such a request, neither its route
 * nor its id; the connection does not outlive it. Memory may have run out: then there is no answer.
 */
#include "server/refusal.h"

#include <sys/socket.h>

#include "server/reply.h"

#define UNREAD_MAX (1024 * 1024)

static enum status code_of(unsigned status)
{
    switch (status) {
    case 400:
        return ST_MALFORMED_REQUEST;
    case 413:
        return ST_BODY_TOO_LARGE;
    case 414:
    case 431:
        return ST_HEADERS_TOO_LARGE;
    case 501:
    case 505:
        return ST_NOT_SUPPORTED;
    default:
        return ST_OUT_OF_MEMORY;
    }
}

void refusal_body(unsigned status, struct buffer *out)
{
    reply_plain_error(code_of(status), (int)status, out);
}

/* What the client has sent and nobody read: closing over it would reset the connection, and the
 * answer could be lost. */
static void discard_unread(int fd)
{
    char bytes[16384];
    size_t total = 0;
    for (ssize_t n = 1; n > 0 && total < UNREAD_MAX; total += (size_t)n)
        n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
}

void refusal_send(int fd, unsigned status, const char *reason)
{
    struct buffer body = {0}, b = {0};
    refusal_body(status, &body);
    buffer_format(&b,
                  "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: " TYPE_JSON
                  "\r\nContent-Length: %zu\r\n\r\n",
                  status, reason, body.len);
    buffer_add(&b, body.v, body.len);
    if (!body.failed && !b.failed) {
        (void)!send(fd, b.v, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        discard_unread(fd);
    }
    shutdown(fd, SHUT_WR);
    buffer_free(&body);
    buffer_free(&b);
}
