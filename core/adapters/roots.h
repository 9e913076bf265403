/* The folders that adapters come from (--adapter-dir), and the promise that a path given by a
 * client never leads out of them. */
#ifndef OFTD_CORE_ADAPTERS_ROOTS_H
#define OFTD_CORE_ADAPTERS_ROOTS_H

#include "core/status.h"

struct root {
    char *given, *real; /* as configured; the real path, NULL: does not exist now */
};
struct roots {
    struct root *v;
    size_t n;
};

/* OUT_OF_MEMORY or ST_OK: a root that does not exist yet is no error. */
enum status roots_open(const char *const *dirs, size_t n, struct roots *out, struct error *err);
void roots_close(struct roots *r); /* zeroed is fine */

/* A path below the roots (the first that has it; absolute paths must lie in one) to the real path
 * of a folder (*dir, malloc'ed) and of its root (*root, borrowed). PATH_OUTSIDE_ROOT or
 * FILE_UNREADABLE (in no root) go to findings, and *dir is NULL. OUT_OF_MEMORY is returned. */
enum status roots_resolve(const struct roots *r, const char *path, char **dir, const char **root,
                          struct findings *findings, struct error *err);
/* Is there an adapter folder of this (valid) name in a root? */
bool roots_have(const struct roots *r, const char *name);
/* Calls each(ctx, name, path) for every adapter folder directly below a root whose name `valid`
 * accepts, the first root first; stops when each returns false. */
void roots_each(const struct roots *r, bool (*valid)(const char *name),
                bool (*each)(void *ctx, const char *name, const char *path), void *ctx);

#endif
