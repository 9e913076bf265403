/*
 * Reading the quantization_config of the formats that name their parameters there (GPTQ, AWQ,
 * auto-round, Neural Compressor): keys, the overrides of one module, and patterns over names.
 */
#ifndef OFTD_BACKENDS_QUANT_CONFIG_H
#define OFTD_BACKENDS_QUANT_CONFIG_H

#include "core/backend.h"

/* One module's view of the config. Everything is borrowed. */
struct quant_config {
    const char *format; /* "GPTQ", for messages */
    const struct module_spec *spec;
    const json_t *overrides; /* asked before the config's own keys, or NULL */
    struct findings *findings;
};

/* The value of a key: the overrides', else the config's; null and absent are NULL. */
const json_t *quant_config_get(const struct quant_config *c, const char *key);
/* Adds a finding: the key is what it is, expected was this. */
void quant_config_refuse(const struct quant_config *c, enum status code, const char *key,
                         const char *expected);
/* A key that must be an integer in [low, high], or the value -1 if also_minus_one. Absent: fallback
 * (which may lie outside). Anything else: a finding, and fallback. */
int64_t quant_config_int(const struct quant_config *c, const char *key, int64_t low, int64_t high,
                         bool also_minus_one, int64_t fallback);
bool quant_config_is(const json_t *v, const char *text);

enum quant_match { QUANT_MATCH_NO, QUANT_MATCH_YES, QUANT_MATCH_ERROR };

/* Does the regex match name: at its start, or (anywhere) somewhere in it? Bounded in time and
 * memory; an error says why (a bad pattern: CONFIG_INVALID_VALUE). */
enum quant_match quant_config_match(const char *pattern, const char *name, bool anywhere,
                                    enum status *why);
/* GPTQModel's `dynamic`, {"+:regex" or "regex": overrides, "-:regex": {}}: the first entry in file
 * order that matches at the start of the module's name becomes c->overrides, or is an exclusion.
 * false with a finding; that a module with these tensors is excluded is one. */
bool quant_config_dynamic(struct quant_config *c, const char *tensor);
/* Is the module in a list of names that all readers take as "not this module"? */
bool quant_config_listed(const json_t *list, const char *name);

#endif
