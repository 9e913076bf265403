/*
 * The two files of an adapter, whole in memory: what is digested, checked and loaded is the same
 * bytes, whatever happens to the files meanwhile.
 */
#ifndef OFTD_CORE_ADAPTERS_PACKAGE_H
#define OFTD_CORE_ADAPTERS_PACKAGE_H

#include "core/adapters/ledger.h"
#include "core/digest.h"
#include "core/status.h"

struct package {
    char *config_path, *tensors_path;
    const char *config, *tensors; /* NULL: not read, see the findings */
    size_t config_size, tensors_size;
    char *bytes;           /* u64le sizes of both, then both: what the digest is taken of */
    struct ledger *ledger; /* whose memory that is, borrowed */
    size_t taken;          /* bytes of it */
};

/* Reads dir/adapter_config.json and dir/adapter_model.safetensors. beneath (NULL: anywhere): a real
 * path below which both must lie when opened (PATH_OUTSIDE_ROOT). max_bytes bounds the second file
 * (0: by the memory there is; CAPACITY_EXCEEDED). The memory is the ledger's (NULL: nobody's). What
 * is wrong with the files goes to findings; returns OUT_OF_MEMORY or ST_OK. *out can be cleared in
 * every case. */
enum status package_read(const char *dir, const char *beneath, uint64_t max_bytes,
                         struct ledger *ledger, struct package *out, struct findings *findings,
                         struct error *err);
void package_clear(struct package *p);
/* Of a package that was read whole: its bytes in memory. */
size_t package_size(const struct package *p);
/* Those bytes are the caller's now (ledger_leave, *taken of them); pointers into them stay valid,
 * the package can only be cleared. */
void *package_take(struct package *p, size_t *taken);
/* Of a package that was read whole. */
void package_digest(const struct package *p, uint8_t out[DIGEST_SIZE]);

#endif
