/*
 * JSON text to jansson values, with the limits that hold for every text from outside: size, depth,
 * no duplicate keys, valid UTF-8, NUL allowed inside strings. And "did you mean".
 */
#ifndef OFTD_CORE_JSON_H
#define OFTD_CORE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define JSON_DEPTH_MAX 64

/* What is to be told of a text before it is parsed: its commas and opening brackets outside strings
 * (at least as many as the values in it, less one), and the deepest nesting of its brackets. */
struct json_shape {
    size_t marks;
    int depth;
};
struct json_shape json_shape(const char *text, size_t len);

/* Parses text (any value at top level). max_depth counts nested arrays and objects. `what` names
 * the text in messages ("the body", a path). Errors: INVALID_JSON (also too deep),
 * CONFIG_DUPLICATE_KEY for a key that occurs twice, OUT_OF_MEMORY. *out is a new reference. */
enum status json_parse(const char *text, size_t len, int max_depth, const char *what, json_t **out,
                       struct error *err);
/* Reads and parses a file of at most max_bytes that must hold an object. FILE_UNREADABLE also when
 * it is larger. */
enum status json_read(const char *path, size_t max_bytes, json_t **out, struct error *err);
/* The same for a file that must hold a list. */
enum status json_read_list(const char *path, size_t max_bytes, json_t **out, struct error *err);

/* The bytes of such a file: malloc'ed, a NUL behind them, at most max_bytes. FILE_UNREADABLE,
 * OUT_OF_MEMORY. */
enum status json_read_text(const char *path, size_t max_bytes, char **out, size_t *len,
                           struct error *err);

/* An object with the same members, by reference; NULL when memory runs out, where jansson's copies
 * leave members out. */
json_t *json_copy_object(const json_t *object);

/* Its text (flags: jansson's), malloc'ed; NULL when memory runs out. Not json_dumps: when jansson
 * 2.14's buffer cannot grow while it writes a key, the key is missing. */
char *json_text(const json_t *value, size_t flags);

/* The candidate nearest to word by edit distance, or NULL if none is near. */
const char *nearest_word(const char *word, const char *const *candidates, size_t n);

/* A float with the fewest digits of %.9g that read back to the same float; returns the length.
 * The caller checks for non-finite values. buf holds >= 32 bytes. */
int format_f32(float f, char *buf);

#endif
