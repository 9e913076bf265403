/*
 * Texts with ids, both ways. Filled while the file is read, then immutable.
 */
#ifndef OFTD_CORE_TOKENIZER_VOCABULARY_H
#define OFTD_CORE_TOKENIZER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"

/* Ids at or above this are refused: tables by id stay small whatever a file says. */
#define VOCABULARY_IDS_MAX (1 << 24)

struct vocabulary_row {
    const char *text; /* NUL ended, may hold NULs; NULL: no entry has this id */
    size_t len;
};

struct vocabulary {
    struct vocabulary_row *rows; /* [ids] */
    int32_t ids;                 /* largest id + 1 */
    int32_t *slots;              /* hash table of ids, -1 = free */
    size_t mask, entries;
    uint64_t seed;
};

/* Room for ids 0..ids-1 and so many entries; false when memory runs out. */
bool vocabulary_open(struct vocabulary *v, struct arena *a, int32_t ids, size_t entries);
/* Adds a copy of the text under a free id below ids. An equal text of an earlier entry is found
 * under the new id from now on; the earlier id keeps its text. False when memory runs out. */
bool vocabulary_add(struct vocabulary *v, struct arena *a, const char *text, size_t len,
                    int32_t id);
/* -1: none. */
int32_t vocabulary_find(const struct vocabulary *v, const char *text, size_t len);
/* NULL: no entry. */
static inline const struct vocabulary_row *vocabulary_row(const struct vocabulary *v, int32_t id)
{
    return id >= 0 && id < v->ids && v->rows[id].text ? &v->rows[id] : NULL;
}

#endif
