/*
 * Stop strings over a text that comes in pieces. What leaves is exactly the text before the stop
 * string that is completed first (of several completed by the same byte: the longest), however the
 * text is cut into pieces: the longest tail that may still grow into a stop string is held back.
 */
#ifndef OFTD_CORE_RUN_STOP_H
#define OFTD_CORE_RUN_STOP_H

#include "core/engine.h"

struct stop {
    const struct text *strings; /* borrowed; none is empty */
    size_t n;
    char *buf; /* what the last call let out, then what is held */
    size_t out, len, cap;
};

/* Appends a piece. *out is what may leave now (borrowed until the next call), *matched whether a
 * stop string is complete (then nothing more may be pushed). OUT_OF_MEMORY: nothing was appended.
 */
enum status stop_push(struct stop *s, const char *piece, size_t len, struct text *out,
                      bool *matched);
/* The end of the text: what is held. */
struct text stop_flush(struct stop *s);
void stop_clear(struct stop *s);

#endif
