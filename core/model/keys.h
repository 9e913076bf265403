/*
 * Typed reads of one JSON object of a config, collecting what is wrong instead of stopping at it.
 * A key whose value is null counts as absent, as Python's None does. Every read returns false after
 * a finding, and then *out is the fallback (or 0), so that reading can go on.
 */
#ifndef OFTD_CORE_MODEL_KEYS_H
#define OFTD_CORE_MODEL_KEYS_H

#include <stdint.h>

#include "core/status.h"

struct family;

struct keys {
    const json_t *object; /* borrowed */
    const char *file;     /* "config.json" */
    const char *prefix;   /* "", or the member that object is: "rope_scaling." */
    struct findings *findings;
};

#define KEYS_REQUIRED INT64_MIN /* as a fallback: absence is CONFIG_MISSING_FIELD */

const json_t *keys_get(const struct keys *k, const char *key); /* NULL: absent or null */
bool keys_int(const struct keys *k, const char *key, int64_t min, int64_t max, int64_t fallback,
              int32_t *out);
/* Finite and > 0, also as f32. fallback NAN: required. */
bool keys_positive(const struct keys *k, const char *key, double fallback, double *out);
bool keys_bool(const struct keys *k, const char *key, bool fallback, bool *out);
/* NULL after a finding; borrowed from the object. */
const char *keys_text(const struct keys *k, const char *key, const char *fallback);
/* Adds a finding about a key; got is its value. */
void keys_refuse(const struct keys *k, enum status code, const char *key, const char *expected);

/* Keys of config.json that this program neither reads nor knows to be without effect, and whose
 * value says something: CONFIG_UNKNOWN_FIELD; options it knows and lacks: CONFIG_UNSUPPORTED. */
void keys_check_known(const struct keys *k, const struct family *family);

#endif
