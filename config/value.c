/*
 * Owns the step from a text to a value of a key's kind, and the words for what a kind takes. Every
 * refusal names the key as its source spells it, the value, and what would be taken; a value is set
 * whole or not at all.
 */
#include "config/keys.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define RANGES_MAX 1024

struct suffix {
    const char *text;
    double factor;
};
static const struct suffix byte_suffixes[] = {
    {"K", 1024.0}, {"M", 1048576.0}, {"G", 1073741824.0}, {"T", 1099511627776.0}, {NULL, 0},
};
static const struct suffix second_suffixes[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {NULL, 0}};

/* ---- words ------------------------------------------------------------------------------------
 */

/* 1048576 as "1M": the largest suffix that leaves no fraction. */
static void bytes_text(double v, char buf[32])
{
    const struct suffix *best = NULL;
    for (const struct suffix *s = byte_suffixes; s->text; s++)
        if (v >= s->factor && fmod(v, s->factor) == 0)
            best = s;
    snprintf(buf, 32, "%.0f%s", best ? v / best->factor : v, best ? best->text : "");
}

static void words_text(const struct key *k, char buf[CONFIG_RANGE_MAX])
{
    size_t at = 0;
    for (size_t i = 0; k->words[i]; i++)
        at += (size_t)snprintf(buf + at, CONFIG_RANGE_MAX - at, "%s%s",
                               i == 0            ? ""
                               : k->words[i + 1] ? ", "
                                                 : " or ",
                               k->words[i]);
}

const char *config_range_text(const struct key *k, char buf[CONFIG_RANGE_MAX])
{
    char low[32], high[32];
    switch (k->kind) {
    case KIND_TEXT:
    case KIND_LIST:
    case KIND_PATHS:
        snprintf(buf, CONFIG_RANGE_MAX, "%s of at most %.0f bytes",
                 k->kind == KIND_TEXT ? "a text" : "texts", k->max);
        break;
    case KIND_PAIRS:
        snprintf(buf, CONFIG_RANGE_MAX, "%s", k->value);
        break;
    case KIND_ADDRESS:
        snprintf(buf, CONFIG_RANGE_MAX, "HOST:PORT with a port from 0 to 65535%s",
                 k->max > 0 ? ", or unix:PATH" : "");
        break;
    case KIND_INT:
        snprintf(buf, CONFIG_RANGE_MAX, "an integer from %.0f to %.0f", k->min, k->max);
        break;
    case KIND_BYTES:
        bytes_text(k->min, low);
        bytes_text(k->max, high);
        snprintf(buf, CONFIG_RANGE_MAX, "bytes, such as 512M or 4G, from %s to %s", low, high);
        break;
    case KIND_SECONDS:
        snprintf(buf, CONFIG_RANGE_MAX, "seconds, such as 30 or 5m, from %.0f to %.0f", k->min,
                 k->max);
        break;
    case KIND_FLOAT:
        snprintf(buf, CONFIG_RANGE_MAX, "a number from %g to %g", k->min, k->max);
        break;
    case KIND_WORD:
        words_text(k, buf);
        break;
    case KIND_BOOL:
        snprintf(buf, CONFIG_RANGE_MAX, "true or false");
        break;
    case KIND_RANGES:
        snprintf(buf, CONFIG_RANGE_MAX,
                 "half-open ranges of layers, such as [[0,4],[2,6]], up to %.0f", k->max);
        break;
    }
    return buf;
}

static enum status refuse(const struct key *k, const char *text, const struct config_source *from,
                          struct error *err)
{
    char range[CONFIG_RANGE_MAX];
    return error_param(err, ST_INVALID_VALUE, from->spelled,
                       "%s%s%s%s: expected %s, got \"%.100s\"", from->spelled,
                       from->where ? " (" : "", from->where ? from->where : "",
                       from->where ? ")" : "", config_range_text(k, range), text);
}

static enum status no_memory(struct error *err)
{
    return error_memory(err, "reading the configuration");
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

/* Digits, perhaps with a sign and a fraction, perhaps a suffix; no hexadecimal, no inf. */
static bool read_number(const char *text, const struct suffix *suffixes, double *out)
{
    char *end = NULL;
    if (!isdigit((unsigned char)*text) && *text != '-' && *text != '.')
        return false;
    if (strpbrk(text, "xXpP"))
        return false;
    *out = strtod(text, &end);
    if (end == text || !isfinite(*out))
        return false;
    for (const struct suffix *s = suffixes; *end && s && s->text; s++) {
        size_t len = strlen(s->text);
        if (strncasecmp(end, s->text, len))
            continue;
        end += len;
        *out *= s->factor;
        if (suffixes == byte_suffixes && !strcasecmp(end, "iB"))
            end += 2;
        break;
    }
    return !*end;
}

static bool set_number(const struct key *k, void *field, const char *text)
{
    const struct suffix *suffixes = k->kind == KIND_BYTES     ? byte_suffixes
                                    : k->kind == KIND_SECONDS ? second_suffixes
                                                              : NULL;
    double v = 0;
    if (!read_number(text, suffixes, &v) || v < k->min || v > k->max)
        return false;
    if (k->kind == KIND_FLOAT) {
        *(double *)field = v;
        return true;
    }
    if (v != floor(v))
        return false;
    if (k->kind == KIND_BYTES)
        *(uint64_t *)field = (uint64_t)v;
    else
        *(int64_t *)field = (int64_t)v;
    return true;
}

static bool set_bool(bool *field, const char *text)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) && strcasecmp(text, no[i]))
            continue;
        *field = !strcasecmp(text, yes[i]);
        return true;
    }
    return false;
}

static bool set_word(const struct key *k, int *field, const char *text)
{
    for (int i = 0; k->words[i]; i++)
        if (!strcmp(k->words[i], text)) {
            *field = i;
            return true;
        }
    return false;
}

/* ---- texts ------------------------------------------------------------------------------------
 */

/* HOST:PORT, [HOST]:PORT or, where the key allows it, unix:PATH. */
static bool is_address(const struct key *k, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!strncmp(text, "unix:", 5))
        return k->max > 0 && text[5];
    if (!colon || colon == text || strlen(colon + 1) < 1 || strlen(colon + 1) > 5)
        return false;
    for (const char *c = colon + 1; *c; c++)
        if (!isdigit((unsigned char)*c))
            return false;
    bool bracketed = *text == '[' && colon[-1] == ']';
    return atoi(colon + 1) <= 65535 && (bracketed || strchr(text, ':') == colon);
}

static enum status set_text(char **field, const char *text, struct error *err)
{
    char *copy = strdup(text);
    if (!copy)
        return no_memory(err);
    free(*field);
    *field = copy;
    return ST_OK;
}

static enum status append_text(struct config_list *list, const char *text, struct error *err)
{
    char *copy = strdup(text);
    char **v = copy ? realloc(list->v, (list->n + 1) * sizeof *v) : NULL;
    if (!v) {
        free(copy);
        return no_memory(err);
    }
    list->v = v;
    list->v[list->n++] = copy;
    return ST_OK;
}

static enum status append_pair(struct config_pairs *list, const char *name, const char *value,
                               struct error *err)
{
    struct config_pair pair = {strdup(name), strdup(value)};
    struct config_pair *v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (v)
        list->v = v;
    if (!v || !pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return no_memory(err);
    }
    list->v[list->n++] = pair;
    return ST_OK;
}

enum status config_value_pair(const struct key *k, struct config *c, const char *name,
                              const char *value, const struct config_source *from,
                              struct error *err)
{
    struct config_pairs *list = (struct config_pairs *)((char *)c + k->offset);
    if (!*name || !*value || strlen(value) > k->max)
        return refuse(k, *name ? value : name, from, err);
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i].name, name))
            return error_param(err, ST_INVALID_VALUE, from->spelled, "%s: %s is given twice",
                               from->spelled, name);
    return append_pair(list, name, value, err);
}

static enum status set_pair(const struct key *k, struct config *c, const char *text,
                            const struct config_source *from, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return refuse(k, text, from, err);
    char *name = strndup(text, (size_t)(equals - text));
    if (!name)
        return no_memory(err);
    enum status s = config_value_pair(k, c, name, equals + 1, from, err);
    free(name);
    return s;
}

/* ---- ranges -----------------------------------------------------------------------------------
 */

static bool read_range(const json_t *v, double max, struct config_range *out)
{
    const json_t *first = json_array_get(v, 0), *end = json_array_get(v, 1);
    if (json_array_size(v) != 2 || !json_is_integer(first) || !json_is_integer(end))
        return false;
    json_int_t a = json_integer_value(first), b = json_integer_value(end);
    if (a < 0 || b <= a || (double)b > max)
        return false;
    *out = (struct config_range){(int32_t)a, (int32_t)b};
    return true;
}

static enum status set_ranges(const struct key *k, struct config_ranges *field, const char *text,
                              const struct config_source *from, struct error *err)
{
    json_t *v = NULL;
    struct config_range *ranges = NULL;
    struct error why = ERROR_INIT;
    enum status s = json_parse(text, strlen(text), 2, from->spelled, &v, &why);
    size_t n = json_array_size(v);
    if (s == ST_OUT_OF_MEMORY) {
        s = no_memory(err);
        goto done;
    }
    if (s || n == 0 || n > RANGES_MAX) {
        s = refuse(k, text, from, err);
        goto done;
    }
    ranges = calloc(n, sizeof *ranges);
    if (!ranges) {
        s = no_memory(err);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        if (!read_range(json_array_get(v, i), k->max, &ranges[i])) {
            s = refuse(k, text, from, err);
            goto done;
        }
    free(field->v);
    *field = (struct config_ranges){ranges, n};
    ranges = NULL;
done:
    error_clear(&why);
    json_decref(v);
    free(ranges);
    return s;
}

/* ---- any kind ---------------------------------------------------------------------------------
 */

static bool fits(const struct key *k, const char *text)
{
    size_t len = strlen(text);
    return (double)len >= k->min && (double)len <= k->max;
}

enum status config_value_set(const struct key *k, struct config *c, const char *text,
                             const struct config_source *from, struct error *err)
{
    void *field = (char *)c + k->offset;
    bool taken = false;
    switch (k->kind) {
    case KIND_TEXT:
        return fits(k, text) ? set_text(field, text, err) : refuse(k, text, from, err);
    case KIND_LIST:
    case KIND_PATHS:
        return fits(k, text) ? append_text(field, text, err) : refuse(k, text, from, err);
    case KIND_ADDRESS:
        return is_address(k, text) ? set_text(field, text, err) : refuse(k, text, from, err);
    case KIND_PAIRS:
        return set_pair(k, c, text, from, err);
    case KIND_RANGES:
        return set_ranges(k, field, text, from, err);
    case KIND_WORD:
        taken = set_word(k, field, text);
        break;
    case KIND_BOOL:
        taken = set_bool(field, text);
        break;
    case KIND_INT:
    case KIND_BYTES:
    case KIND_SECONDS:
    case KIND_FLOAT:
        taken = set_number(k, field, text);
        break;
    }
    return taken ? ST_OK : refuse(k, text, from, err);
}

void config_value_clear(const struct key *k, struct config *c)
{
    void *field = (char *)c + k->offset;
    struct config_list *list = field;
    struct config_pairs *pairs = field;
    switch (k->kind) {
    case KIND_TEXT:
    case KIND_ADDRESS:
        free(*(char **)field);
        *(char **)field = NULL;
        break;
    case KIND_LIST:
    case KIND_PATHS:
        for (size_t i = 0; i < list->n; i++)
            free(list->v[i]);
        free(list->v);
        *list = (struct config_list){NULL, 0};
        break;
    case KIND_PAIRS:
        for (size_t i = 0; i < pairs->n; i++) {
            free(pairs->v[i].name);
            free(pairs->v[i].value);
        }
        free(pairs->v);
        *pairs = (struct config_pairs){NULL, 0};
        break;
    case KIND_RANGES:
        free(((struct config_ranges *)field)->v);
        *(struct config_ranges *)field = (struct config_ranges){NULL, 0};
        break;
    case KIND_INT:
    case KIND_BYTES:
    case KIND_SECONDS:
    case KIND_FLOAT:
    case KIND_WORD:
    case KIND_BOOL:
        break;
    }
}
