/*
 * One generation of an adapter: an immutable, refcounted value identified by the digest of its two
 * files. It holds the rotations that a pass uses. Nobody changes it after adapter_load; the last
 * reference frees it. The registry knows names; this file knows none but the one it was loaded
 * under, for messages and headers.
 */
#ifndef OFTD_CORE_ADAPTERS_ADAPTER_H
#define OFTD_CORE_ADAPTERS_ADAPTER_H

#include "core/adapters/ledger.h"
#include "core/digest.h"
#include "core/model/batch.h"
#include "core/status.h"

#include <stdatomic.h>

struct adapter {
    atomic_int refs;
    atomic_int
        in_flight; /* requests admitted on this generation and not finished (core/run counts) */
    _Atomic(int64_t) last_used;  /* CLOCK_MONOTONIC ms */
    char *name, *path;           /* path: as given or found, for display */
    uint64_t generation;         /* counts loads in this process, from 1 */
    uint8_t digest[DIGEST_SIZE]; /* of the files */
    char digest_text[DIGEST_TEXT];
    int32_t strength;  /* in 1/100; 100: as the files say */
    enum compute mode; /* its rotations are exact mode's, which any table can use, or fast mode's */
    uint8_t identity[DIGEST_SIZE]; /* digest and strength: what KV blocks and caches are keyed by */
    struct adapted adapted;        /* where steps compute (core/place.h) */
    struct adapted host;           /* the same as the loader reads it; of fast mode placed apart the
                                      rotations have no data */
    size_t packed_bytes, rotation_bytes; /* memory held by the packed vectors and the dense
                                            rotations, where steps read them */
    int32_t n_matched, n_total;          /* modules adapted; modules of the base that could be */
    int32_t *block_sizes;                /* distinct block sizes, ascending */
    size_t n_block_sizes;
    bool neumann;
    int32_t terms;
    double orthogonality_defect; /* max |R^T R - I| over all blocks */
    bool has_bias;
    struct findings warnings;
    struct adapter_data *data; /* private to core/adapters: packed vectors, rotation storage */
};

struct adapter_options {
    bool permissive;   /* neumann_divergent and base_model_mismatch become warnings */
    bool neumann_peft; /* PEFT's newer series for files older than 0.18 */
    const char
        *beneath;      /* a real path below which the files must lie, or NULL (PATH_OUTSIDE_ROOT) */
    enum compute mode; /* what the rotations are for */
    struct ledger *ledger; /* counts what the adapter takes while it lives, or NULL */
    uint64_t max_bytes; /* packed vectors and rotations together (CAPACITY_EXCEEDED); 0: no bound */
};

/* Reads dir, checks everything against the model (all findings at once in err->findings), builds
 * the rotations with `kernels` (the loader's table). On success *out has one reference.
 * err->findings may hold warnings on success: they are moved into the adapter. */
enum status adapter_load(const struct model *m, const struct kernels *kernels, const char *dir,
                         const char *name, const struct adapter_options *options,
                         struct adapter **out, struct error *err);
/* The same checks, nothing kept: all findings, warnings included, in *findings. Returns ST_OK also
 * when there are errors among them; other codes only when checking itself failed. */
enum status adapter_validate(const struct model *m, const struct kernels *kernels, const char *dir,
                             const struct adapter_options *options, struct findings *findings,
                             struct error *err);
/* The generation with R(t S), t = strength / 100, 0..100, for a mode. */
enum status adapter_derive(const struct model *m, const struct kernels *kernels,
                           const struct adapter *from, int32_t strength, enum compute mode,
                           struct adapter **out, struct error *err);
struct adapter *adapter_ref(struct adapter *a);
void adapter_unref(struct adapter *a); /* NULL is fine */
/* Do two adapters of a chain replace biases? The base's are overwritten, so only one can; PEFT
 * refuses to load a second one (formats: bias). The first two of them, or NULL. */
bool adapter_biases_collide(struct adapter *const *v, size_t n, const struct adapter **first,
                            const struct adapter **second);
/* Likewise heads (a chain has one way out); see modules_to_save. */
bool adapter_heads_collide(struct adapter *const *v, size_t n, const struct adapter **first,
                           const struct adapter **second);
/* The files' digest without loading. */
enum status adapter_digest(const char *dir, uint8_t out[DIGEST_SIZE], struct error *err);

#endif
