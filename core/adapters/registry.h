/*
 * Names -> generations, roots on disk, pins, the byte budget. Readers (admission, listings) take
 * one short lock and leave with a reference; loading happens on the loader thread outside the lock
 * and publishes by one pointer swap. All functions are thread-safe; those marked (loader) read
 * files and compute, and are called from one thread at a time.
 */
#ifndef OFTD_CORE_ADAPTERS_REGISTRY_H
#define OFTD_CORE_ADAPTERS_REGISTRY_H

#include "core/adapters/adapter.h"

struct registry;

struct registry_options {
    const char *const *roots; /* --adapter-dir, in order */
    size_t n_roots;
    const char *base_name; /* an adapter must not be named like it */
    uint64_t memory;       /* --adapter-memory: bytes of all generations in memory */
    bool autoload;
    struct adapter_options adapter; /* its mode: what is loaded has the rotations of; those of the
                                       other are derived when a request first wants them */
};

enum status registry_open(const struct model *m, const struct kernels *kernels,
                          const struct registry_options *options, struct registry **out,
                          struct error *err);
void registry_close(struct registry *r);

/* [A-Za-z0-9][A-Za-z0-9._-]{0,127} */
bool registry_name_valid(const char *name);

/* The serving generation of name with one reference for the caller; NULL if none is loaded. Touches
 * last_used. */
struct adapter *registry_acquire(struct registry *r, const char *name);
/* a with a strength (in 1/100) and the rotations of a mode: a itself or a derived generation that
 * is resident already; NULL: registry_derive must make it. Touches last_used. */
struct adapter *registry_acquire_derived(struct registry *r, struct adapter *a, int32_t strength,
                                         enum compute mode);
/* Is name in a root (and autoload on)? */
bool registry_discoverable(struct registry *r, const char *name);

enum replace_policy { REPLACE_NEVER, REPLACE_IF_DIGEST_DIFFERS, REPLACE_ALWAYS };
struct adapter_request {
    const char *name;
    const char *path; /* below the roots, or NULL: the name; trusted: any path (command line) */
    bool trusted;
    bool pinned;
    enum replace_policy replace;
    const char *if_digest; /* replace only this digest (DIGEST_MISMATCH), or NULL */
};

enum adapter_state {
    ADAPTER_LOADING,
    ADAPTER_READY,
    ADAPTER_DRAINING,
    ADAPTER_FAILED,
    ADAPTER_AVAILABLE
};
/* A snapshot for replies; strings and arrays belong to it (adapter_info_clear). */
struct adapter_info {
    char *name, *path;
    enum adapter_state state;
    uint64_t generation;
    char digest[DIGEST_TEXT]; /* "" where unknown */
    uint64_t packed_bytes;
    uint64_t rotation_bytes; /* with those of what was derived of it */
    bool pinned;
    int32_t in_flight;
    double last_used; /* UNIX seconds; 0: never */
    int32_t *block_sizes;
    size_t n_block_sizes;
    int32_t matched, total;
    bool neumann;
    int32_t terms;
    double orthogonality_defect;
    bool merged; /* the engine fills it */
    char *error; /* sentence of a failed load, or NULL */
    struct findings warnings;
};
void adapter_info_clear(struct adapter_info *info);

/* (loader) Loads and publishes. *replaced tells whether a generation was there. Refusals:
 * NAME_IN_USE (base name, or loaded and REPLACE_NEVER), PATH_OUTSIDE_ROOT, CAPACITY_EXCEEDED (after
 * evicting the least recently used unpinned idle ones; a replaced generation counts until its last
 * request is done), findings, OUT_OF_MEMORY. Nothing has changed after one. */
enum status registry_load(struct registry *r, const struct adapter_request *req, bool *replaced,
                          struct adapter_info *out, struct error *err);
/* (loader) All or nothing: unloads (of what registry_retire takes out) are applied only when all
 * loads succeeded, and all in one swap. */
enum status registry_batch(struct registry *r, const struct adapter_request *load, size_t n_load,
                           const char *const *unload, size_t n_unload, struct error *err);
/* (loader) All findings of a load, loading nothing. */
enum status registry_validate(struct registry *r, const struct adapter_request *req,
                              struct findings *findings, struct error *err);
/* (loader) For a request that names an adapter that is only on disk. */
enum status registry_autoload(struct registry *r, const char *name, struct error *err);
/* (loader) The same, made if need be and kept in the registry under the budget; one reference for
 * the caller. */
enum status registry_derive(struct registry *r, struct adapter *a, int32_t strength,
                            enum compute mode, struct adapter **out, struct error *err);
/* (loader) With nothing else to do: a unit of work towards the memory that the next load will take;
 * false: there is none left. */
bool registry_prepare(struct registry *r);
/* Takes name out (new requests no longer find it), with what was derived of it; the caller holds
 * the reference and waits for in_flight to become 0 if it wants to know that *bytes, all of them,
 * are free. *out is NULL where only a load that failed was listed. ADAPTER_NOT_FOUND. */
enum status registry_retire(struct registry *r, const char *name, struct adapter **out,
                            uint64_t *bytes, struct error *err);
/* Marks a name as loading (listings show it) or failed with a sentence. */
void registry_mark(struct registry *r, const char *name, enum adapter_state state,
                   const char *error);
/* Is name loaded, or its load running or failed? */
bool registry_lists(struct registry *r, const char *name);

/* All loaded ones, and (available) those in the roots that are not; sorted by name. *out is
 * malloc'ed. */
enum status registry_list(struct registry *r, bool available, struct adapter_info **out, size_t *n,
                          struct error *err);
enum status registry_info(struct registry *r, const char *name, struct adapter_info *out,
                          struct error *err);
/* Re-reads the roots (SIGHUP). */
void registry_rescan(struct registry *r);

struct registry_stats {
    int32_t loaded, pinned;
    uint64_t bytes; /* of all generations, those that only requests hold included */
    uint64_t budget, loads, evictions, failures;
};
void registry_stats(struct registry *r, struct registry_stats *out);

#endif
