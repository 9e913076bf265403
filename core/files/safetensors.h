/*
 * The safetensors container (formats.md 1): a header of names, dtypes, shapes and offsets, then
 * bytes. Everything in the header is distrusted; all checks of the reference and of a daemon are
 * made before a tensor can be seen.
 */
#ifndef OFTD_CORE_FILES_SAFETENSORS_H
#define OFTD_CORE_FILES_SAFETENSORS_H

#include "core/status.h"
#include "core/tensor.h"

/* Bounds of one file's header. The first is the format's; the others keep a hostile header from
 * costing more than seconds and a few hundred megabytes. */
#define SAFETENSORS_HEADER_MAX  100000000
#define SAFETENSORS_TENSORS_MAX 500000
#define SAFETENSORS_NAME_MAX    1024

struct safetensors;

/* Maps path read-only. Findings: FILE_UNREADABLE, CHECKPOINT_INVALID (header), DTYPE_UNSUPPORTED.
 */
enum status safetensors_open(const char *path, struct safetensors **out, struct error *err);
/* The same over bytes in memory, which are borrowed and must outlive it; path is for messages. */
enum status safetensors_parse(const void *bytes, size_t size, const char *path,
                              struct safetensors **out, struct error *err);
/* Lets go of the mapped pages in memory; they are read again when a tensor is looked at. */
void safetensors_forget(const struct safetensors *st);
void safetensors_close(struct safetensors *st); /* NULL is fine; tensors die with it */

/* Tensors sorted by name (strcmp). */
const struct tensor *safetensors_tensors(const struct safetensors *st, size_t *n);
const struct tensor *safetensors_find(const struct safetensors *st, const char *name);

/* The file's path as given, its size in bytes, and its JSON header (borrowed). */
const char *safetensors_path(const struct safetensors *st);
size_t safetensors_size(const struct safetensors *st);
const char *safetensors_header(const struct safetensors *st, size_t *size);

#endif
