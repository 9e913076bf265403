/*
 * The page: the files of page/, which are in the program (page/files.S). They are public as `/` is:
 * they hold no secret, what they ask for has its own plane. The policy sent with each of them
 * forbids everything but this origin's own files and calls: no inline script or style, no frame
 * around it, no foreign host. That is also why there is a file for each kind of thing.
 */
#include <string.h>

#include "server/handlers.h"
#include "server/reply.h"
#include "server/routes.h"

#define PAGE_FILE(symbol, name, type) extern const char symbol[], symbol##_end[];
#include "server/page/files.def"
#undef PAGE_FILE

static const struct {
    const char *name, *type, *start, *end;
} files[] = {
#define PAGE_FILE(symbol, name, type) {name, type, symbol, symbol##_end},
#include "server/page/files.def"
#undef PAGE_FILE
};

static const struct {
    const char *name, *value;
} protections[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'; trusted-types 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cache-Control", "no-cache"},
};

/* A header that finds no memory is left out, but no file goes out without its protection. */
static bool protect(struct request *q)
{
    bool whole = true;
    for (size_t i = 0; i < sizeof protections / sizeof protections[0]; i++) {
        const struct reply_header *before = q->reply.headers;
        reply_header(q, protections[i].name, protections[i].value);
        whole = whole && q->reply.headers != before;
    }
    return whole;
}

static void send_file(struct request *q, size_t i)
{
    struct buffer b = {0};
    buffer_add(&b, files[i].start, (size_t)(files[i].end - files[i].start));
    b.failed = !protect(q) || b.failed;
    reply_buffer(q, 200, files[i].type, &b);
}

void route_page(struct request *q)
{
    send_file(q, 0);
}

void route_page_file(struct request *q)
{
    size_t i = 0, n = sizeof files / sizeof files[0];
    while (i < n && strcmp(files[i].name, q->params[0]))
        i++;
    if (i < n)
        send_file(q, i);
    else
        reply_failure(q, ST_ROUTE_NOT_FOUND, NULL, "the page has no file %.100s", q->params[0]);
}
