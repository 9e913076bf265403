/*
 * Request bodies taken together: the memory that they may take, as text and as the values read from
 * it, and the readers, the threads that work on the large ones.
 */
#ifndef OFTD_SERVER_BODIES_H
#define OFTD_SERVER_BODIES_H

#include "core/buffer.h"
#include "core/status.h"

struct bodies;

/* Work for a reader; memory of the caller's, its own again when run is called. */
struct body_work {
    void (*run)(void *arg);
    void *arg;
    struct body_work *next;
};

/* OUT_OF_MEMORY. limit: bytes; threads >= 1. */
enum status bodies_open(uint64_t limit, int threads, struct bodies **out, struct error *err);
/* Finishes what is queued; nothing may be added any more. NULL is fine. */
void bodies_close(struct bodies *b);

uint64_t bodies_taken(const struct bodies *b); /* bytes, by all bodies */

/* Cannot fail. Order is kept; several readers may run what follows each other at once. */
void bodies_queue(struct bodies *b, struct body_work *w);

/* One body; begins zeroed. */
struct body {
    struct buffer text;
    uint64_t taken; /* of the account */
};
/* OVERLOADED when all bodies together would take too much, OUT_OF_MEMORY. */
enum status body_add(struct bodies *b, struct body *body, const void *data, size_t n,
                     struct error *err);
/* Before the text is parsed, for what is parsed of its first json bytes (of all, if there are
 * fewer). The same, and BODY_TOO_LARGE when there could never be room. */
enum status body_take_parsed(struct bodies *b, struct body *body, size_t json, struct error *err);
/* Parsed: the text may go, what was parsed stays. */
void body_drop_text(struct bodies *b, struct body *body);
void body_free(struct bodies *b, struct body *body); /* all of it */
/* At most so many bytes are taken by the values of a JSON text once it is parsed. */
uint64_t body_parsed_size(const char *text, size_t len);

#endif
