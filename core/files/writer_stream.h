/*
 * One safetensors file on a descriptor: announced whole, then filled in the announced order. And
 * the writing of bytes that all of the writer shares. Private to writer.c.
 */
#ifndef OFTD_CORE_FILES_WRITER_STREAM_H
#define OFTD_CORE_FILES_WRITER_STREAM_H

#include "core/status.h"
#include "core/tensor.h"

struct writer_place;

struct writer_stream {
    int fd;     /* -1: none */
    char *path; /* for messages; malloc'ed */
    char *names;
    struct writer_place *places; /* [n], as announced */
    size_t n, at;                /* at: the tensor whose bytes come next */
    uint64_t done;               /* bytes of it that are there */
    uint64_t data;               /* where the data starts in the file */
};

/* Writes the header; fd (empty, open for writing) and path are set by the caller. */
enum status writer_stream_begin(struct writer_stream *f, const struct tensor *entries, size_t n,
                                struct error *err);
enum status writer_stream_data(struct writer_stream *f, const void *data, size_t size,
                               struct error *err);
/* Checks that everything is there, syncs, closes and clears. */
enum status writer_stream_end(struct writer_stream *f, struct error *err);
void writer_stream_clear(struct writer_stream *f); /* closes fd, frees path; a zeroed one is not
                                                      clear (fd 0): start with .fd = -1 */

/* All bytes at the descriptor's position, or errno says why not. */
bool writer_stream_put(int fd, const void *data, size_t size);
/* value as text at the descriptor's position, *size bytes. */
enum status writer_stream_json(int fd, const json_t *value, size_t flags, const char *path,
                               uint64_t *size, struct error *err);
/* Syncs and closes; a write error that the system kept for itself appears here. */
enum status writer_stream_finish(int fd, const char *path, struct error *err);
/* "path: what: strerror(errno)" as IO_ERROR, or OUT_OF_MEMORY. */
enum status writer_stream_error(struct error *err, const char *path, const char *what);

#endif
