/*
 * A Hugging Face model folder: config.json, generation_config.json, quantize_config.json and the
 * tensors of model.safetensors or of the shards that model.safetensors.index.json names. It owns
 * the mappings; it knows no network and no format. All findings at once.
 */
#ifndef OFTD_CORE_FILES_CHECKPOINT_H
#define OFTD_CORE_FILES_CHECKPOINT_H

#include "core/files/safetensors.h"

struct checkpoint {
    char *dir;
    json_t *config;     /* config.json, an object */
    json_t *generation; /* generation_config.json, or NULL */
    json_t *quant; /* quantization_config merged with quantize_config.json (config.json wins), or
                      NULL. Where config.json has none and the file that stands in names no
                      quant_method, the one that the file's name tells is filled in (gptq, awq). */
    struct tensor *tensors; /* of all shards, sorted by name */
    size_t n_tensors;
    uint64_t bytes; /* of all tensors */
    struct safetensors **shards;
    size_t n_shards;
    char identity[65]; /* see checkpoint_identity */
};

/* A folder, or ORG/NAME[@REVISION] looked up in the local Hugging Face cache (HF_HUB_CACHE,
 * HF_HOME, XDG_CACHE_HOME, ~/.cache); *dir is malloc'ed. Not there: FILE_UNREADABLE with the
 * command that would fetch it. */
enum status checkpoint_locate(const char *spec, char **dir, struct error *err);
enum status checkpoint_open(const char *dir, struct checkpoint **out, struct error *err);
/* Lets go of the pages of all shards (safetensors_forget). */
void checkpoint_forget(const struct checkpoint *cp);
void checkpoint_close(struct checkpoint *cp); /* NULL is fine */

const struct tensor *checkpoint_find(const struct checkpoint *cp, const char *name);
/* The tensors named `prefix`.*: a run of cp->tensors; returns the first (NULL if none) and their
 * number. */
const struct tensor *checkpoint_below(const struct checkpoint *cp, const char *prefix, size_t *n);
/* SHA-256 (hex, 64 characters and NUL) over config.json (its content, not its spelling), the merged
 * quantization config and every shard's header and size: the identity of a base. */
void checkpoint_identity(const struct checkpoint *cp, char out[65]);

#endif
