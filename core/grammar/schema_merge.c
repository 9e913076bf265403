/*
 * Owns the merging of schemas. A keyword that only one of two has is kept; bounds become the
 * tighter one, lists of types and constants what both have, lists of required names all of them;
 * a property that both know becomes an allOf of its two schemas. additionalProperties speaks of the
 * properties of its own schema: where the other one has more of them, we refuse.
 */
#include "core/grammar/schema_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define DEPTH_MAX 16

struct merge {
    struct builder *b;
    const json_t *root;
    json_t *to;
    char *why;
    size_t size;
    int depth;
};

static enum status refuse(struct merge *m, const char *what, const char *key)
{
    snprintf(m->why, m->size, "%s%s", what, key);
    return ST_INVALID_VALUE;
}

bool schema_idle(const char *keyword)
{
    static const char *const idle[] = {"title",      "description", "default",    "examples",
                                       "deprecated", "readOnly",    "writeOnly",  "$schema",
                                       "$comment",   "$defs",       "definitions"};
    for (size_t i = 0; i < sizeof idle / sizeof idle[0]; i++)
        if (!strcmp(idle[i], keyword))
            return true;
    return false;
}

/* One step of a pointer, unescaped into out; the rest, or NULL. */
static const char *step(const char *at, char *out, size_t size)
{
    size_t n = 0;
    for (; *at && *at != '/'; at++) {
        char c = *at;
        if (c == '~' && (at[1] == '0' || at[1] == '1')) {
            c = at[1] == '0' ? '~' : '/';
            at++;
        } else if (c == '%' && at[1] && at[2]) {
            char hex[3] = {at[1], at[2], 0}, *end;
            c = (char)strtol(hex, &end, 16);
            if (*end)
                return NULL;
            at += 2;
        }
        if (n + 1 == size)
            return NULL;
        out[n++] = c;
    }
    out[n] = 0;
    return at;
}

const json_t *schema_find(const json_t *root, const char *pointer)
{
    char key[256], *end;
    if (*pointer++ != '#')
        return NULL;
    while (*pointer == '/') {
        pointer = step(pointer + 1, key, sizeof key);
        if (!pointer)
            return NULL;
        unsigned long i = strtoul(key, &end, 10);
        root = json_is_array(root) ? (*key && !*end ? json_array_get(root, i) : NULL)
                                   : json_object_get(root, key);
        if (!root)
            return NULL;
    }
    return *pointer ? NULL : root;
}

/* ---- merging ---- */

static enum status merge(struct merge *m, const json_t *from);

static enum status put(struct merge *m, const char *key, json_t *value)
{
    return value && !json_object_set_new(m->to, key, value) ? ST_OK : ST_OUT_OF_MEMORY;
}

/* What a comparison of the value with another one looks at, at most. */
static size_t weight(const json_t *value)
{
    size_t all = 1 + json_string_length(value) / 16, i;
    const char *key;
    json_t *one;
    json_array_foreach((json_t *)value, i, one)
    {
        all += weight(one);
    }
    json_object_foreach((json_t *)value, key, one)
    {
        all += weight(one);
    }
    return all;
}

static bool holds(struct builder *b, const json_t *list, const json_t *value)
{
    size_t i;
    json_t *one;
    if (!builder_spend(b, 4 * weight(value) * (1 + json_array_size(list))))
        return false;
    json_array_foreach((json_t *)list, i, one)
    {
        if (json_equal(one, value))
            return true;
    }
    return false;
}

/* both: what both lists have; else what any has. A single value is a list of one. */
static enum status lists(struct merge *m, const char *key, json_t *a, json_t *b, bool both)
{
    json_t *x = json_is_array(a) ? json_incref(a) : json_pack("[O]", a);
    json_t *y = json_is_array(b) ? json_incref(b) : json_pack("[O]", b);
    json_t *out = json_array(), *one;
    bool ok = x && y && out;
    size_t i;
    json_array_foreach(x, i, one)
    {
        if (!both || holds(m->b, y, one))
            ok = ok && !json_array_append(out, one);
    }
    json_array_foreach(y, i, one)
    {
        if (!both && !holds(m->b, out, one))
            ok = ok && !json_array_append(out, one);
    }
    json_decref(x);
    json_decref(y);
    if (ok)
        return put(m, key, out);
    json_decref(out);
    return ST_OUT_OF_MEMORY;
}

/* number and integer are both "integer". */
static enum status merge_types(struct merge *m, json_t *a, json_t *b)
{
    const char *x = json_string_value(a), *y = json_string_value(b);
    if (x && y && !strcmp(x, "number") && !strcmp(y, "integer"))
        return put(m, "type", json_incref(b));
    if (x && y && !strcmp(x, "integer") && !strcmp(y, "number"))
        return ST_OK;
    enum status s = lists(m, "type", a, b, true);
    return s || json_array_size(json_object_get(m->to, "type")) ? s
                                                                : refuse(m, "no type is left", "");
}

static enum status merge_properties(struct merge *m, json_t *a, json_t *b)
{
    json_t *out = json_copy_object(a), *value;
    const char *key;
    size_t len;
    bool ok = out != NULL;
    builder_spend(m->b, 4 * json_object_size(a));
    json_object_keylen_foreach(b, key, len, value)
    {
        json_t *old = json_object_getn(out, key, len);
        json_t *new = old && !json_equal(old, value) ? json_pack("{s:[O,O]}", "allOf", old, value)
                                                     : json_incref(value);
        ok = ok && new && !json_object_setn_new(out, key, len, new);
    }
    if (ok)
        return put(m, "properties", out);
    json_decref(out);
    return ST_OUT_OF_MEMORY;
}

static enum status merge_bound(struct merge *m, const char *key, json_t *a, json_t *b, bool larger)
{
    double x = json_number_value(a), y = json_number_value(b);
    if (!json_is_number(a) || !json_is_number(b))
        return refuse(m, "expected a number in ", key);
    return (larger ? y > x : y < x) ? put(m, key, json_incref(b)) : ST_OK;
}

static bool is_any(const char *key, const char *const *list)
{
    while (*list && strcmp(*list, key) != 0)
        list++;
    return *list != NULL;
}

static enum status merge_key(struct merge *m, const char *key, json_t *value)
{
    static const char *const largest[] = {"minimum", "exclusiveMinimum", "minLength", "minItems",
                                          NULL};
    static const char *const least[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems",
                                        NULL};
    json_t *old = json_object_get(m->to, key);
    if (!builder_spend(m->b, 16 + weight(value)))
        return refuse(m, "too much of it at ", key);
    if (!old)
        return put(m, key, json_incref(value));
    if (json_equal(old, value))
        return ST_OK;
    if (!strcmp(key, "type"))
        return merge_types(m, old, value);
    if (!strcmp(key, "required") || !strcmp(key, "enum"))
        return lists(m, key, old, value, *key == 'e');
    if (!strcmp(key, "properties") && json_is_object(old) && json_is_object(value))
        return merge_properties(m, old, value);
    if (is_any(key, largest) || is_any(key, least))
        return merge_bound(m, key, old, value, is_any(key, largest));
    if (!strcmp(key, "items"))
        return put(m, key, json_pack("{s:[O,O]}", "allOf", old, value));
    return refuse(m, "two of these schemas say different things with ", key);
}

/* Has a any property that b has not? */
static bool has_more(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "properties"), *y = json_object_get(b, "properties");
    const char *key;
    size_t len;
    json_t *value;
    json_object_keylen_foreach((json_t *)x, key, len, value)
    {
        if (!json_object_getn(y, key, len))
            return true;
    }
    return false;
}

static bool closed(const json_t *schema)
{
    const json_t *v = json_object_get(schema, "additionalProperties");
    return v && !json_is_true(v);
}

static enum status merge_all(struct merge *m, const json_t *list)
{
    size_t i;
    json_t *one;
    enum status s = ST_OK;
    json_array_foreach((json_t *)list, i, one)
    {
        s = s ? s : merge(m, one);
    }
    return s;
}

static enum status merge_ref(struct merge *m, const json_t *ref)
{
    const json_t *target =
        json_is_string(ref) ? schema_find(m->root, json_string_value(ref)) : NULL;
    return target ? merge(m, target)
                  : refuse(m, "expected a pointer (#/...) to what the schema has in ", "$ref");
}

static enum status merge(struct merge *m, const json_t *from)
{
    const char *key;
    json_t *value;
    enum status s = ST_OK;
    if (json_is_true(from))
        return ST_OK;
    if (!json_is_object(from))
        return refuse(m, "a schema is an object or true", "");
    if (!builder_spend(m->b, 16 + 4 * json_object_size(from)))
        return refuse(m, "it takes too much work", "");
    if (m->depth == DEPTH_MAX)
        return refuse(m, "schemas are nested too deep, or in a circle", "");
    if ((closed(m->to) && has_more(from, m->to)) || (closed(from) && has_more(m->to, from)))
        return refuse(m, "properties of one schema that another one closes by ",
                      "additionalProperties");
    if (json_object_get(m->to, "items")
            ? json_object_get(from, "prefixItems") != NULL
            : json_object_get(from, "items") && json_object_get(m->to, "prefixItems"))
        return refuse(m, "items of one schema and prefixItems of another one", "");
    m->depth++;
    json_object_foreach((json_t *)from, key, value)
    {
        if (s || schema_idle(key))
            continue;
        if (!strcmp(key, "$ref"))
            s = merge_ref(m, value);
        else if (!strcmp(key, "allOf"))
            s = merge_all(m, value);
        else
            s = merge_key(m, key, value);
    }
    m->depth--;
    return s;
}

enum status schema_merge(struct builder *b, const json_t *root, const json_t *schema,
                         const char *keyword, const json_t *other, json_t **out, char *why,
                         size_t size)
{
    struct merge m = {
        .b = b, .root = root, .to = json_copy_object(schema), .why = why, .size = size};
    *out = NULL;
    if (!m.to)
        return ST_OUT_OF_MEMORY;
    json_object_del(m.to, keyword);
    enum status s;
    if (!strcmp(keyword, "$ref"))
        s = merge_ref(&m, other);
    else
        s = other ? merge(&m, other) : merge_all(&m, json_object_get(schema, keyword));
    if (s)
        json_decref(m.to);
    else
        *out = m.to;
    return s;
}

/* ---- telling apart ---- */

static const json_t *resolved(const json_t *root, const json_t *schema)
{
    for (int i = 0; i < DEPTH_MAX; i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        const json_t *to = ref ? schema_find(root, ref) : NULL;
        if (!to)
            break;
        schema = to;
    }
    return schema;
}

/* The constants that a schema allows, a new list; NULL: others, too. */
static json_t *constants_of(const json_t *schema)
{
    json_t *one = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
    if (one)
        return json_pack("[O]", one);
    return json_is_array(list) ? json_incref(list) : NULL;
}

static bool apart(struct builder *work, json_t *a, json_t *b)
{
    bool apart = a && b;
    size_t i;
    json_t *one;
    json_array_foreach(a, i, one)
    {
        apart = apart && !holds(work, b, one);
    }
    return apart;
}

static bool constants_apart(struct builder *work, const json_t *a, const json_t *b)
{
    json_t *x = constants_of(a), *y = constants_of(b);
    bool is = apart(work, x, y);
    json_decref(x);
    json_decref(y);
    return is;
}

static bool types_apart(struct builder *work, const json_t *a, const json_t *b)
{
    json_t *p = json_object_get(a, "type"), *q = json_object_get(b, "type");
    if (!p || !q)
        return false;
    json_t *x = json_is_array(p) ? json_incref(p) : json_pack("[O]", p);
    json_t *y = json_is_array(q) ? json_incref(q) : json_pack("[O]", q);
    bool is = apart(work, x, y);
    size_t i;
    json_t *one;
    bool numbers[2] = {false, false};
    json_array_foreach(x, i, one)
    {
        const char *t = json_string_value(one);
        numbers[0] |= t && (!strcmp(t, "number") || !strcmp(t, "integer"));
    }
    json_array_foreach(y, i, one)
    {
        const char *t = json_string_value(one);
        numbers[1] |= t && (!strcmp(t, "number") || !strcmp(t, "integer"));
    }
    json_decref(x);
    json_decref(y);
    return is && !(numbers[0] && numbers[1]);
}

static bool is_object(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type && !strcmp(type, "object");
}

/* Do both require a property whose constants differ? */
static bool members_apart(struct builder *work, const json_t *root, const json_t *a,
                          const json_t *b)
{
    const json_t *x = json_object_get(a, "properties"), *y = json_object_get(b, "properties");
    const json_t *wanted = json_object_get(a, "required");
    const json_t *wanted_too = json_object_get(b, "required");
    size_t i;
    json_t *name;
    if (!is_object(a) || !is_object(b))
        return false;
    json_array_foreach((json_t *)wanted, i, name)
    {
        const char *key = json_string_value(name);
        if (key && holds(work, wanted_too, name) &&
            constants_apart(work, resolved(root, json_object_get(x, key)),
                            resolved(root, json_object_get(y, key))))
            return true;
    }
    return false;
}

bool schema_disjoint(struct builder *work, const json_t *root, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++) {
            if (!builder_spend(work, 100))
                return false;
            const json_t *a = resolved(root, json_array_get(list, i));
            const json_t *b = resolved(root, json_array_get(list, k));
            if (!types_apart(work, a, b) && !constants_apart(work, a, b) &&
                !members_apart(work, root, a, b))
                return false;
        }
    return true;
}
