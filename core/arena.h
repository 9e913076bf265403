/*
 * One request, one arena: memory that is handed out by bumping a pointer and given back all at
 * once. Not thread-safe: an arena belongs to whoever works on the request at that moment.
 */
#ifndef OFTD_CORE_ARENA_H
#define OFTD_CORE_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks;
    size_t total; /* bytes taken from malloc */
};

/* size bytes, zeroed, 16-aligned; NULL when memory runs out. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n); /* NUL ended; may hold NULs */
void arena_free(struct arena *a);                              /* everything; a can be used again */

#endif
