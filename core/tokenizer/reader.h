/*
 * How the parts of tokenizer.json are read: every refusal names the file, the component and the
 * value; a key that is not in a component's list stops the load.
 */
#ifndef OFTD_CORE_TOKENIZER_READER_H
#define OFTD_CORE_TOKENIZER_READER_H

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"

struct pattern;

struct reader {
    const char *path;
    struct arena *arena;       /* holds whatever is read */
    struct pattern **patterns; /* list of all compiled patterns, freed with the tokenizer */
    struct error *err;
    char where[64]; /* the component being read: normalizer "Replace" */
};

/* Names the component that is read from now on: section "type". */
void reader_enter(struct reader *r, const char *section, const char *type);
/* TOKENIZER_UNSUPPORTED: file: component: sentence. */
enum status reader_refuse(struct reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
enum status reader_memory(struct reader *r);
/* The type of a component, entered as such; refuses what is not an object with one. */
enum status reader_type(struct reader *r, const char *section, const json_t *component,
                        const char **type);
/* Refuses a key of the object that is not in the list ("type pattern behavior"). */
enum status reader_keys(struct reader *r, const json_t *object, const char *known);
/* A boolean; absent or null: the default. */
enum status reader_bool(struct reader *r, const json_t *object, const char *key, bool otherwise,
                        bool *out);
/* A required boolean. */
enum status reader_flag(struct reader *r, const json_t *object, const char *key, bool *out);
/* A required string, copied (NUL ended, may hold NULs). */
enum status reader_string(struct reader *r, const json_t *object, const char *key, const char **out,
                          size_t *len);
/* A string or null or absent (*out NULL then). */
enum status reader_optional(struct reader *r, const json_t *object, const char *key,
                            const char **out, size_t *len);
/* A required array; borrowed. */
enum status reader_array(struct reader *r, const json_t *object, const char *key, json_t **out);
/* A required integer low..high. */
enum status reader_integer(struct reader *r, const json_t *object, const char *key, long long low,
                           long long high, long long *out);
/* A required string that is exactly one character. */
enum status reader_char(struct reader *r, const json_t *object, const char *key, uint32_t *out);

/* Reads one component, which has been entered, into `to`. */
typedef enum status reader_one(struct reader *r, const json_t *component, const char *type,
                               void *to);
/* A component, or in order those of a Sequence's array `key`, and of Sequences in it; absent or
 * null: none. */
enum status reader_each(struct reader *r, const char *section, const char *key,
                        const json_t *component, reader_one *one, void *to);

#endif
