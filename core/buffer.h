/*
 * Text that grows: the body of a reply, or a rendered template, while it is written. A failed
 * allocation is remembered (`failed`) and makes every later append a no-op, so writers check once,
 * at the end.
 */
#ifndef OFTD_CORE_BUFFER_H
#define OFTD_CORE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *v; /* not NUL ended */
    size_t len, cap;
    bool failed;
};

/* Room for n more bytes at v + len; NULL (and failed) when memory runs out. */
char *buffer_room(struct buffer *b, size_t n);
void buffer_add(struct buffer *b, const void *data, size_t n);
void buffer_text(struct buffer *b, const char *s);
void buffer_format(struct buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. NULL is `null`. */
void buffer_string(struct buffer *b, const char *s, size_t len);
void buffer_cstring(struct buffer *b, const char *s);
/* A JSON number that reads back to the same float, at most nine digits; f must be finite. */
void buffer_f32(struct buffer *b, float f);
void buffer_int(struct buffer *b, int64_t i);
/* Forgets the content, keeps the memory. */
void buffer_clear(struct buffer *b);
void buffer_free(struct buffer *b);

#endif
