/*
 * Writes a folder beside its final place and renames it when everything is on the disk: a kill or a
 * full disk leaves either the whole folder or nothing (a hidden .NAME.oftd-PID.tmp at worst,
 * removed by the next writer of the same name). Tensors are streamed in the order they were
 * announced.
 */
#ifndef OFTD_CORE_FILES_WRITER_H
#define OFTD_CORE_FILES_WRITER_H

#include "core/status.h"
#include "core/tensor.h"

struct writer;

/* final must not exist (PATH_EXISTS); its parent must. */
enum status writer_open(const char *final, struct writer **out, struct error *err);
enum status writer_json(struct writer *w, const char *name, const json_t *value, struct error *err);
/* Copies a file (if it exists; a missing one is fine) under the same name. */
enum status writer_copy(struct writer *w, const char *from_dir, const char *name,
                        struct error *err);
/* Starts a safetensors file: all entries first (name, dtype, rank, shape are used; data is not),
 * then the data of each by writer_data in that order, in one or several calls; writer_end checks
 * the sizes. */
enum status writer_tensors(struct writer *w, const char *name, const struct tensor *entries,
                           size_t n, struct error *err);
enum status writer_data(struct writer *w, const void *data, size_t size, struct error *err);
enum status writer_end(struct writer *w, struct error *err);
/* Syncs and renames; frees w in every case. */
enum status writer_commit(struct writer *w, struct error *err);
void writer_abort(struct writer *w); /* removes what was written; NULL is fine */

/* One file in one call (inspect --output, validate --output): written beside and renamed, replacing
 * an old one. */
enum status writer_file(const char *path, const struct tensor *tensors, size_t n,
                        struct error *err);

#endif
