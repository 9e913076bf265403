/*
 * Owns what a Hugging Face folder is: which files count, which of two that say the same wins, and
 * one sorted list of tensors over all shards.
 *
 *     config.json                    required, an object
 *     generation_config.json         optional
 *     model.safetensors              else model.safetensors.index.json and the shards it names
 *     quantize_config.json           GPTQ tools': fills what quantization_config leaves open
 *     quant_config.json              AutoAWQ's, quantization_config.json INC's: only when
 *                                    config.json says nothing
 *
 * A shard is a bare name inside the folder: an index cannot lead out of it. A tensor exists once:
 * a name in two shards is refused, so that no reader depends on the order of shards. Pickles are
 * refused in words, because loading one runs its code.
 */
#include "core/files/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <nettle/sha2.h>

#include "core/json.h"

#define CONFIG_BYTES_MAX (16u << 20)
#define INDEX_BYTES_MAX  (64u << 20)
#define SHARDS_MAX       10000

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE  "model.safetensors.index.json"

/* A folder that is being opened. */
struct opening {
    struct checkpoint *cp;
    json_t *index;    /* of the index file, or NULL */
    json_t *shard_of; /* shard's name -> number in cp->shards */
    struct findings findings;
};

/* dir/name, malloc'ed. */
static char *join(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A link that leads nowhere exists: reading it then says what is wrong. */
static enum status exists(const char *dir, const char *name, bool *out, struct error *err)
{
    struct stat info;
    char *path = join(dir, name);
    if (!path)
        return error_memory(err, "opening a checkpoint");
    *out = lstat(path, &info) == 0;
    free(path);
    return ST_OK;
}

/* Turns an error about the folder's content into findings; running out of memory stays an error. */
static enum status collect(struct findings *f, struct error *why, struct error *err)
{
    if (why->code == ST_OUT_OF_MEMORY) {
        error_move(err, why);
        return ST_OUT_OF_MEMORY;
    }
    if (why->code == ST_INVALID_JSON)
        why->code = ST_CHECKPOINT_INVALID;
    if (why->findings.errors)
        findings_move(f, &why->findings);
    else if (why->code)
        findings_add(f, SEVERITY_ERROR, why->code, NULL, NULL, NULL, NULL, "%s", why->text);
    error_clear(why);
    return ST_OK;
}

/* Reads dir/name into *out (NULL if an optional one is absent or, with a finding, it is broken). */
static enum status read_object(struct opening *o, const char *name, size_t max_bytes, bool optional,
                               json_t **out, struct error *err)
{
    struct error why = ERROR_INIT;
    bool there = false;
    enum status s = exists(o->cp->dir, name, &there, err);
    if (s || (optional && !there))
        return s;
    char *path = join(o->cp->dir, name);
    if (!path)
        return error_memory(err, "opening a checkpoint");
    if (json_read(path, max_bytes, out, &why))
        s = collect(&o->findings, &why, err);
    free(path);
    return s;
}

static enum status complain(struct opening *o, enum status code, const char *tensor,
                            const char *expected, const char *got, const char *what)
{
    return findings_add(&o->findings, SEVERITY_ERROR, code, tensor, NULL, expected, got,
                        "%s/%s: %s%s%s: expected %s, got %s", o->cp->dir, INDEX_FILE,
                        tensor ? tensor : "", tensor ? ": " : "", what, expected, got);
}

/* ---- quantization -----------------------------------------------------------------------------
 */

/* Files that stand in for config.json's quantization_config, in this order, and the quant_method
 * their name tells when they name none. INC's has none: its content says what it is. */
static const struct {
    const char *file, *method;
} quant_files[] = {
    {"quantize_config.json", "gptq"},
    {"quant_config.json", "awq"},
    {"quantization_config.json", NULL},
};
#define N_QUANT_FILES (sizeof quant_files / sizeof quant_files[0])

static enum status stand_in(struct opening *o, struct error *err)
{
    json_t **quant = &o->cp->quant;
    for (size_t i = 0; i < N_QUANT_FILES && !*quant; i++) {
        const char *method = quant_files[i].method;
        enum status s = read_object(o, quant_files[i].file, CONFIG_BYTES_MAX, true, quant, err);
        if (s)
            return s;
        if (*quant && method && !json_object_get(*quant, "quant_method") &&
            json_object_set_new(*quant, "quant_method", json_string(method)))
            return error_memory(err, "reading the quantization config");
    }
    return ST_OK;
}

static enum status read_quant(struct opening *o, struct error *err)
{
    json_t *own = json_object_get(o->cp->config, "quantization_config"), *more = NULL;
    if (!own || json_is_null(own))
        return stand_in(o, err);
    if (!json_is_object(own)) {
        findings_add(&o->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, NULL,
                     "quantization_config", "an object", "another JSON type",
                     "%s/config.json: quantization_config: expected an object, got another JSON "
                     "type",
                     o->cp->dir);
        return ST_OK;
    }
    enum status s = read_object(o, quant_files[0].file, CONFIG_BYTES_MAX, true, &more, err);
    if (s)
        return s;
    o->cp->quant = json_copy_object(more ? more : own);
    if (!o->cp->quant || (more && json_object_update(o->cp->quant, own)))
        s = error_memory(err, "reading the quantization config");
    json_decref(more);
    return s;
}

/* ---- shards -----------------------------------------------------------------------------------
 */

static bool bare_name(const char *name)
{
    return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") &&
           !strstr(name, "..");
}

/* Opens dir/name as the next shard; one that is broken leaves findings and a NULL in its place. */
static enum status open_shard(struct opening *o, const char *name, struct error *err)
{
    struct error why = ERROR_INIT;
    enum status s = ST_OK;
    char *path = join(o->cp->dir, name);
    if (!path)
        return error_memory(err, "opening a checkpoint");
    if (safetensors_open(path, &o->cp->shards[o->cp->n_shards], &why))
        s = collect(&o->findings, &why, err);
    if (!s)
        o->cp->n_shards++;
    free(path);
    return s;
}

/* The shards that weight_map names, in the order of their first mention. */
static enum status list_shards(struct opening *o, json_t *map, struct error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        const char *shard = json_string_value(value);
        if (!shard || strlen(shard) != json_string_length(value) || !bare_name(shard)) {
            complain(o, ST_CHECKPOINT_INVALID, tensor, "the bare name of a file in the folder",
                     shard ? shard : "no string", "shard");
            continue;
        }
        if (json_object_get(o->shard_of, shard))
            continue;
        size_t n = json_object_size(o->shard_of);
        if (n == SHARDS_MAX)
            return error_set(err, ST_CHECKPOINT_INVALID, "%s/%s: more than %d shards", o->cp->dir,
                             INDEX_FILE, SHARDS_MAX);
        if (json_object_set_new(o->shard_of, shard, json_integer((json_int_t)n)))
            return error_memory(err, "listing shards");
    }
    return ST_OK;
}

static enum status open_indexed(struct opening *o, struct error *err)
{
    json_t *map = json_object_get(o->index, "weight_map"), *value;
    const char *name;
    if (!json_is_object(map)) {
        complain(o, ST_CHECKPOINT_INVALID, NULL, "an object", map ? "another JSON type" : "nothing",
                 "weight_map");
        return ST_OK;
    }
    o->shard_of = json_object();
    if (!o->shard_of)
        return error_memory(err, "listing shards");
    enum status s = list_shards(o, map, err);
    if (s)
        return s;
    o->cp->shards = calloc(json_object_size(o->shard_of) + 1, sizeof *o->cp->shards);
    if (!o->cp->shards)
        return error_memory(err, "listing shards");
    json_object_foreach(o->shard_of, name, value)
    {
        s = open_shard(o, name, err);
        if (s)
            return s;
    }
    return ST_OK;
}

/* Every tensor of the index must be in the shard that it names. */
static void check_index(struct opening *o)
{
    const char *tensor;
    json_t *value, *map = json_object_get(o->index, "weight_map");
    json_object_foreach(map, tensor, value)
    {
        const char *shard = json_string_value(value);
        const json_t *number = shard ? json_object_get(o->shard_of, shard) : NULL;
        const struct safetensors *st =
            number ? o->cp->shards[json_integer_value(number)] : NULL; // NULL: told already
        if (st && !safetensors_find(st, tensor))
            complain(o, ST_TENSOR_MISSING, tensor, shard, "a file without this tensor",
                     "listed shard");
    }
}

static enum status refuse_without_weights(struct opening *o, struct error *err)
{
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    const char *dir = o->cp->dir;
    for (int i = 0; i < 2; i++) {
        bool there = false;
        enum status s = exists(dir, pickles[i], &there, err);
        if (s)
            return s;
        if (!there)
            continue;
        findings_add(
            &o->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, NULL, NULL, SINGLE_FILE,
            pickles[i],
            "%s: the weights are a pickle (%s), which runs code when it is loaded: convert "
            "them to safetensors (save_pretrained with safe_serialization=True)",
            dir, pickles[i]);
        return ST_OK;
    }
    findings_add(&o->findings, SEVERITY_ERROR, ST_FILE_UNREADABLE, NULL, NULL, SINGLE_FILE,
                 "nothing", "%s: neither %s nor %s is there", dir, SINGLE_FILE, INDEX_FILE);
    return ST_OK;
}

static enum status open_shards(struct opening *o, struct error *err)
{
    bool single = false, index = false;
    enum status s = exists(o->cp->dir, SINGLE_FILE, &single, err);
    if (!s && !single)
        s = exists(o->cp->dir, INDEX_FILE, &index, err);
    if (s)
        return s;
    if (!single && !index)
        return refuse_without_weights(o, err);
    if (!single) {
        s = read_object(o, INDEX_FILE, INDEX_BYTES_MAX, false, &o->index, err);
        return s || !o->index ? s : open_indexed(o, err);
    }
    o->cp->shards = calloc(1, sizeof *o->cp->shards);
    return o->cp->shards ? open_shard(o, SINGLE_FILE, err) : error_memory(err, "listing shards");
}

/* ---- the list of tensors ----------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static enum status gather(struct opening *o, struct error *err)
{
    struct checkpoint *cp = o->cp;
    size_t total = 0, n = 0;
    for (size_t i = 0; i < cp->n_shards; i++)
        if (cp->shards[i]) {
            safetensors_tensors(cp->shards[i], &n);
            total += n;
        }
    cp->tensors = calloc(total + 1, sizeof *cp->tensors);
    if (!cp->tensors)
        return error_memory(err, "listing tensors");
    for (size_t i = 0; i < cp->n_shards; i++) {
        if (!cp->shards[i])
            continue;
        const struct tensor *t = safetensors_tensors(cp->shards[i], &n);
        memcpy(cp->tensors + cp->n_tensors, t, n * sizeof *t);
        cp->n_tensors += n;
    }
    qsort(cp->tensors, cp->n_tensors, sizeof *cp->tensors, by_name);
    for (size_t i = 0; i < cp->n_tensors; i++) {
        cp->bytes += cp->tensors[i].bytes;
        if (i && !by_name(&cp->tensors[i - 1], &cp->tensors[i]))
            findings_add(&o->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, cp->tensors[i].name,
                         NULL, "one shard", "two", "%s: tensor %s is in two shards, %s and %s",
                         cp->dir, cp->tensors[i].name, cp->tensors[i - 1].file,
                         cp->tensors[i].file);
    }
    return ST_OK;
}

/* ---- identity ---------------------------------------------------------------------------------
 */

static int hash_text(const char *text, size_t len, void *hash)
{
    sha256_update(hash, len, (const uint8_t *)text);
    return 0;
}

static void hash_u64(struct sha256_ctx *hash, uint64_t v)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    sha256_update(hash, sizeof bytes, bytes);
}

static enum status identify(struct checkpoint *cp, struct error *err)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx hash;
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS;
    sha256_init(&hash);
    if (json_dump_callback(cp->config, hash_text, &hash, flags) ||
        (cp->quant && json_dump_callback(cp->quant, hash_text, &hash, flags)))
        return error_memory(err, "hashing config.json");
    for (size_t i = 0; i < cp->n_shards; i++) {
        size_t size = 0;
        const char *header = safetensors_header(cp->shards[i], &size);
        hash_u64(&hash, safetensors_size(cp->shards[i]));
        hash_u64(&hash, size);
        sha256_update(&hash, size, (const uint8_t *)header);
    }
    sha256_digest(&hash, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
        snprintf(cp->identity + 2 * i, 3, "%02x", digest[i]);
    return ST_OK;
}

void checkpoint_identity(const struct checkpoint *cp, char out[65])
{
    memcpy(out, cp->identity, sizeof cp->identity);
}

/* ---- open, close, find ------------------------------------------------------------------------
 */

static enum status read_folder(struct opening *o, struct error *err)
{
    struct checkpoint *cp = o->cp;
    enum status s = read_object(o, "config.json", CONFIG_BYTES_MAX, false, &cp->config, err);
    if (!s)
        s = read_object(o, "generation_config.json", CONFIG_BYTES_MAX, true, &cp->generation, err);
    if (!s)
        s = read_quant(o, err);
    if (!s)
        s = open_shards(o, err);
    if (!s)
        s = gather(o, err);
    if (s)
        return s;
    check_index(o);
    s = error_from_findings(err, &o->findings);
    return s ? s : identify(cp, err);
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum status checkpoint_open(const char *dir, struct checkpoint **out, struct error *err)
{
    *out = NULL;
    if (!is_folder(dir))
        return error_set(err, ST_FILE_UNREADABLE, "%s: no such folder", dir);
    struct opening o = {.cp = calloc(1, sizeof *o.cp)};
    if (!o.cp)
        return error_memory(err, "opening a checkpoint");
    o.cp->dir = strdup(dir);
    enum status s = o.cp->dir ? read_folder(&o, err) : error_memory(err, "opening a checkpoint");
    json_decref(o.index);
    json_decref(o.shard_of);
    findings_clear(&o.findings);
    if (s)
        checkpoint_close(o.cp);
    else
        *out = o.cp;
    return s;
}

void checkpoint_forget(const struct checkpoint *cp)
{
    for (size_t i = 0; i < cp->n_shards; i++)
        safetensors_forget(cp->shards[i]);
}

void checkpoint_close(struct checkpoint *cp)
{
    if (!cp)
        return;
    for (size_t i = 0; i < cp->n_shards; i++)
        safetensors_close(cp->shards[i]);
    free(cp->shards);
    free(cp->tensors);
    json_decref(cp->quant);
    json_decref(cp->generation);
    json_decref(cp->config);
    free(cp->dir);
    free(cp);
}

const struct tensor *checkpoint_find(const struct checkpoint *cp, const char *name)
{
    const struct tensor key = {.name = name};
    return bsearch(&key, cp->tensors, cp->n_tensors, sizeof key, by_name);
}

/* Compares a tensor's name with prefix and a dot; 0: it is below prefix. */
static int against(const char *name, const char *prefix, size_t len)
{
    int d = strncmp(name, prefix, len);
    return d ? d : (int)(unsigned char)name[len] - '.';
}

const struct tensor *checkpoint_below(const struct checkpoint *cp, const char *prefix, size_t *n)
{
    size_t len = strlen(prefix), low = 0, high = cp->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (against(cp->tensors[middle].name, prefix, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    while (high < cp->n_tensors && !against(cp->tensors[high].name, prefix, len))
        high++;
    *n = high - low;
    return *n ? &cp->tensors[low] : NULL;
}
