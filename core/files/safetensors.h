/*
 * The safetensors container (formats.md 1): a header of names, dtypes, shapes and offsets, then
 * bytes. Everything in the header is distrusted; all checks of the reference and of a daemon are
 * made before a tensor can be seen.
 */
#ifndef OFTD_CORE_FILES_SAFETENSORS_H
#define OFTD_CORE_FILES_SAFETENSORS_H

#include "core/status.h"
#include "core/tensor.h"

struct safetensors;

/* Maps path read-only. Findings: FILE_UNREADABLE, CHECKPOINT_INVALID (header), DTYPE_UNSUPPORTED.
 */
enum status safetensors_open(const char *path, struct safetensors **out, struct error *err);
/* The same over bytes in memory, which are borrowed and must outlive it; path is for messages. */
enum status safetensors_parse(const void *bytes, size_t size, const char *path,
                              struct safetensors **out, struct error *err);
void safetensors_close(struct safetensors *st); /* NULL is fine; tensors die with it */

/* Tensors sorted by name (strcmp). */
const struct tensor *safetensors_tensors(const struct safetensors *st, size_t *n);
const struct tensor *safetensors_find(const struct safetensors *st, const char *name);

#endif
