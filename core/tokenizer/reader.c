/*
 * Owns the strictness of the load. A file that says something we do not know is refused with the
 * words of the file, since the alternative is ids that differ without anybody noticing.
 */
#include "core/tokenizer/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

#define DEPTH_MAX 8 /* of Sequences in Sequences */

void reader_enter(struct reader *r, const char *section, const char *type)
{
    if (type)
        snprintf(r->where, sizeof r->where, "%s \"%.32s\"", section, type);
    else
        snprintf(r->where, sizeof r->where, "%s", section);
}

enum status reader_refuse(struct reader *r, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error_set(r->err, ST_TOKENIZER_UNSUPPORTED, "%s: %s: %s", r->path, r->where, text);
}

enum status reader_memory(struct reader *r)
{
    return error_memory(r->err, "loading the tokenizer");
}

enum status reader_type(struct reader *r, const char *section, const json_t *component,
                        const char **type)
{
    reader_enter(r, section, NULL);
    *type = json_string_value(json_object_get(component, "type"));
    if (!*type)
        return reader_refuse(r, "an object with a \"type\" is expected");
    reader_enter(r, section, *type);
    return ST_OK;
}

static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; n && (p = strstr(p, word)); p += n) {
        bool starts = p == list || p[-1] == ' ';
        if (starts && (!p[n] || p[n] == ' '))
            return true;
    }
    return false;
}

enum status reader_keys(struct reader *r, const json_t *object, const char *known)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return reader_refuse(r, "an object is expected");
    json_object_foreach((json_t *)object, key, value)
    {
        if (strchr(key, ' ') || !listed(known, key))
            return reader_refuse(r, "key \"%.64s\" is not known", key);
    }
    return ST_OK;
}

enum status reader_flag(struct reader *r, const json_t *object, const char *key, bool *out)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_boolean(v))
        return reader_refuse(r, "\"%s\" must be true or false", key);
    *out = json_is_true(v);
    return ST_OK;
}

enum status reader_bool(struct reader *r, const json_t *object, const char *key, bool otherwise,
                        bool *out)
{
    const json_t *v = json_object_get(object, key);
    *out = otherwise;
    return !v || json_is_null(v) ? ST_OK : reader_flag(r, object, key, out);
}

enum status reader_string(struct reader *r, const json_t *object, const char *key, const char **out,
                          size_t *len)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v))
        return reader_refuse(r, "\"%s\" must be a string", key);
    *len = json_string_length(v);
    *out = arena_strndup(r->arena, json_string_value(v), *len);
    return *out ? ST_OK : reader_memory(r);
}

enum status reader_optional(struct reader *r, const json_t *object, const char *key,
                            const char **out, size_t *len)
{
    const json_t *v = json_object_get(object, key);
    *out = NULL;
    *len = 0;
    return !v || json_is_null(v) ? ST_OK : reader_string(r, object, key, out, len);
}

enum status reader_array(struct reader *r, const json_t *object, const char *key, json_t **out)
{
    *out = json_object_get(object, key);
    return json_is_array(*out) ? ST_OK : reader_refuse(r, "\"%s\" must be an array", key);
}

enum status reader_integer(struct reader *r, const json_t *object, const char *key, long long low,
                           long long high, long long *out)
{
    const json_t *v = json_object_get(object, key);
    *out = json_integer_value(v);
    if (!json_is_integer(v) || *out < low || *out > high)
        return reader_refuse(r, "\"%s\" must be an integer from %lld to %lld", key, low, high);
    return ST_OK;
}

enum status reader_char(struct reader *r, const json_t *object, const char *key, uint32_t *out)
{
    const json_t *v = json_object_get(object, key);
    size_t n = json_string_length(v), len = 0;
    if (n)
        *out = utf8_read(json_string_value(v), &len);
    return n && len == n ? ST_OK : reader_refuse(r, "\"%s\" must be one character", key);
}

static enum status each(struct reader *r, const char *section, const char *key,
                        const json_t *component, int depth, reader_one *one, void *to)
{
    const char *type;
    json_t *list, *inner;
    size_t i;
    char keys[48];
    enum status s = reader_type(r, section, component, &type);
    if (s || strcmp(type, "Sequence"))
        return s ? s : one(r, component, type, to);
    if (depth == DEPTH_MAX)
        return reader_refuse(r, "nested deeper than %d", DEPTH_MAX);
    snprintf(keys, sizeof keys, "type %s", key);
    if ((s = reader_keys(r, component, keys)) || (s = reader_array(r, component, key, &list)))
        return s;
    json_array_foreach(list, i, inner)
    {
        if ((s = each(r, section, key, inner, depth + 1, one, to)))
            return s;
    }
    return ST_OK;
}

enum status reader_each(struct reader *r, const char *section, const char *key,
                        const json_t *component, reader_one *one, void *to)
{
    bool none = !component || json_is_null(component);
    return none ? ST_OK : each(r, section, key, component, 0, one, to);
}
