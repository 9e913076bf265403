/*
 * Owns the reading of quantization_config, which is distrusted: a value of another type is a
 * finding with the key and what stands there, and a pattern is a regular expression of a stranger,
 * so it has limits in length, steps, depth and memory.
 *
 * Names. The libraries disagree about how a list of names is meant:
 *
 *   transformers 4     a key skips the modules whose name contains it
 *   transformers 5     a key (a regex) skips what it matches from the start to a dot or the end,
 *                      and what ends with it
 *
 * so quant_config_listed says yes only where both do: the key is the name, its first components, or
 * its end. It only serves to find a contradiction; what a module is, its tensors say.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "backends/quant_config.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define DYNAMIC_MAX    4096 /* entries */
#define PATTERN_MAX    2048 /* bytes */
#define MATCH_LIMIT    100000
#define MATCH_DEPTH    1000
#define MATCH_HEAP_KIB 4096

const json_t *quant_config_get(const struct quant_config *c, const char *key)
{
    const json_t *v = json_object_get(c->overrides, key);
    if (!v || json_is_null(v))
        v = json_object_get(c->spec->quant, key);
    return v && !json_is_null(v) ? v : NULL;
}

bool quant_config_is(const json_t *v, const char *text)
{
    return json_is_string(v) && !strcmp(json_string_value(v), text);
}

void quant_config_refuse(const struct quant_config *c, enum status code, const char *key,
                         const char *expected)
{
    const json_t *v = quant_config_get(c, key);
    char *text = v ? json_text(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char got[64];
    snprintf(got, sizeof got, "%s", text ? text : "nothing");
    findings_add(c->findings, SEVERITY_ERROR, code, c->spec->name, key, expected, got,
                 "module %s: \"%s\" of the %s config is %s, expected %s", c->spec->name, key,
                 c->format, got, expected);
    free(text);
}

int64_t quant_config_int(const struct quant_config *c, const char *key, int64_t low, int64_t high,
                         bool also_minus_one, int64_t fallback)
{
    const json_t *v = quant_config_get(c, key);
    json_int_t i = json_integer_value(v);
    if (!v || (json_is_integer(v) && ((i >= low && i <= high) || (also_minus_one && i == -1))))
        return v ? i : fallback;
    char expected[64];
    if (high == INT32_MAX)
        snprintf(expected, sizeof expected, "%sat least %lld", also_minus_one ? "-1 or " : "",
                 (long long)low);
    else
        snprintf(expected, sizeof expected, "%s%lld to %lld", also_minus_one ? "-1 or " : "",
                 (long long)low, (long long)high);
    quant_config_refuse(c, ST_CONFIG_INVALID_VALUE, key, expected);
    return fallback;
}

/* ---- patterns ---- */

static enum quant_match run(const pcre2_code *regex, pcre2_match_context *limits, const char *name,
                            bool anywhere, enum status *why)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (!data) {
        *why = ST_OUT_OF_MEMORY;
        return QUANT_MATCH_ERROR;
    }
    int code = pcre2_match(regex, (PCRE2_SPTR)name, strlen(name), 0, anywhere ? 0 : PCRE2_ANCHORED,
                           data, limits);
    pcre2_match_data_free(data);
    if (code >= 0)
        return QUANT_MATCH_YES;
    if (code == PCRE2_ERROR_NOMATCH)
        return QUANT_MATCH_NO;
    *why = code == PCRE2_ERROR_NOMEMORY ? ST_OUT_OF_MEMORY : ST_CONFIG_INVALID_VALUE;
    return QUANT_MATCH_ERROR;
}

enum quant_match quant_config_match(const char *pattern, const char *name, bool anywhere,
                                    enum status *why)
{
    enum quant_match result = QUANT_MATCH_ERROR;
    int code = 0;
    PCRE2_SIZE offset;
    size_t length = strlen(pattern);
    *why = length > PATTERN_MAX ? ST_CONFIG_INVALID_VALUE : ST_OUT_OF_MEMORY;
    pcre2_code *regex = NULL;
    pcre2_match_context *limits = length > PATTERN_MAX ? NULL : pcre2_match_context_create(NULL);
    if (!limits)
        return QUANT_MATCH_ERROR;
    pcre2_set_match_limit(limits, MATCH_LIMIT);
    pcre2_set_depth_limit(limits, MATCH_DEPTH);
    pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
    regex = pcre2_compile((PCRE2_SPTR)pattern, length, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
                          &offset, NULL);
    if (regex)
        result = run(regex, limits, name, anywhere, why);
    else
        *why = code == PCRE2_ERROR_HEAP_FAILED ? ST_OUT_OF_MEMORY : ST_CONFIG_INVALID_VALUE;
    pcre2_code_free(regex);
    pcre2_match_context_free(limits);
    return result;
}

static bool refuse_entry(const struct quant_config *c, const char *key, enum status why)
{
    findings_add(c->findings, SEVERITY_ERROR, why, c->spec->name, "dynamic", NULL, key,
                 "module %s: the entry \"%.200s\" of \"dynamic\" cannot be used: %s", c->spec->name,
                 key, status_text(why));
    return false;
}

static bool refuse_excluded(const struct quant_config *c, const char *tensor)
{
    findings_add(c->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, c->spec->name, "dynamic",
                 "a plain weight", tensor,
                 "module %s has %s tensors, but a \"-:\" entry of \"dynamic\" says that it is not "
                 "quantized",
                 c->spec->name, c->format);
    return false;
}

bool quant_config_dynamic(struct quant_config *c, const char *tensor)
{
    json_t *dynamic = json_object_get(c->spec->quant, "dynamic"), *value;
    const char *key;
    if (!dynamic || json_is_null(dynamic))
        return true;
    if (!json_is_object(dynamic) || json_object_size(dynamic) > DYNAMIC_MAX) {
        findings_add(c->findings, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, c->spec->name, "dynamic",
                     NULL, NULL,
                     "\"dynamic\" of the %s config must be an object of at most %d entries",
                     c->format, DYNAMIC_MAX);
        return false;
    }
    json_object_foreach(dynamic, key, value)
    {
        bool negative = !strncmp(key, "-:", 2), positive = !strncmp(key, "+:", 2);
        enum status why;
        switch (
            quant_config_match(key + (negative || positive ? 2 : 0), c->spec->name, false, &why)) {
        case QUANT_MATCH_NO:
            continue;
        case QUANT_MATCH_ERROR:
            return refuse_entry(c, key, why);
        case QUANT_MATCH_YES:
            break;
        }
        if (negative)
            return refuse_excluded(c, tensor);
        if (!json_is_object(value))
            return refuse_entry(c, key, ST_CONFIG_INVALID_VALUE);
        c->overrides = value;
        return true;
    }
    return true;
}

bool quant_config_listed(const json_t *list, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *key = json_string_value(json_array_get(list, i));
        size_t k = key ? strlen(key) : 0;
        if (!k || k > n)
            continue;
        bool begins = !strncmp(name, key, k) && (!name[k] || name[k] == '.');
        bool ends = !strcmp(name + n - k, key) && (n == k || name[n - k - 1] == '.');
        if (begins || ends)
            return true;
    }
    return false;
}
