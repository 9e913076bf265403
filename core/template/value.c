/*
 * Owns how values lie in memory. Nothing here knows an operation; nothing fails but for memory.
 */
#include "core/template/value.h"

#include <string.h>

#include "core/template/dict.h"
#include "core/utf8.h"

/* Where bytes of a text may be put behind it. */
struct room {
    char *end, *limit;
};
#define ROOM_MIN 256 /* shorter texts are copied */

void *value_alloc(struct heap *h, size_t size)
{
    // An arena takes memory in pieces; what counts is what was asked for.
    if (h->limit && (size > h->limit || h->used > h->limit - size)) {
        h->over = true;
        return NULL;
    }
    h->used += size + 16;
    return arena_alloc(&h->arena, size);
}

void *value_array(struct heap *h, size_t n, size_t size)
{
    if (n > SIZE_MAX / 2 / size) {
        h->over = true;
        return NULL;
    }
    return value_alloc(h, n * size);
}

void *value_grow(struct heap *h, void *v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return v;
    size_t more = *cap ? 2 * *cap : 8;
    void *grown = value_array(h, more, size);
    if (!grown)
        return NULL;
    if (n)
        memcpy(grown, v, n * size);
    *cap = more;
    return grown;
}

/* Counts what continues a character, eight bytes at a time: high bit set, the next one not. */
size_t value_count(const char *v, size_t len)
{
    const uint64_t ones = 0x0101010101010101u;
    size_t more = 0, i = 0;
    for (uint64_t w; i + 8 <= len; i += 8) {
        memcpy(&w, v + i, 8);
        if (w & ones << 7)
            more += (((w >> 7 & ~w >> 6) & ones) * ones) >> 56;
    }
    for (; i < len; i++)
        more += ((unsigned char)v[i] & 0xC0) == 0x80;
    return len - more;
}

size_t value_offset(const struct text *t, size_t chars)
{
    if (t->chars == t->len)
        return chars;
    if (chars >= t->chars)
        return t->len;
    size_t at = 0;
    if (chars <= t->chars / 2) {
        for (; chars > 0; chars--)
            at += utf8_length((unsigned char)t->v[at]);
        return at;
    }
    at = t->len;
    for (chars = t->chars - chars; chars > 0; chars--)
        do
            at--;
        while (((unsigned char)t->v[at] & 0xC0) == 0x80);
    return at;
}

const struct text *value_borrow(struct heap *h, const char *v, size_t len)
{
    struct text *t = value_alloc(h, sizeof *t);
    if (t)
        *t = (struct text){.v = v, .len = len, .chars = value_count(v, len)};
    return t;
}

const struct text *value_copy(struct heap *h, const char *v, size_t len)
{
    char *copy = value_alloc(h, len ? len : 1);
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, v, len);
    return value_borrow(h, copy, len);
}

const struct text *value_append(struct heap *h, const struct text *a, const struct text *b)
{
    if (!b->len)
        return a;
    if (!a->len)
        return b;
    struct text *t = value_alloc(h, sizeof *t);
    if (!t || b->len > SIZE_MAX / 4 || a->len > SIZE_MAX / 4)
        return NULL;
    *t = (struct text){.len = a->len + b->len, .chars = a->chars + b->chars};
    struct room *room = a->room;
    if (room && a->v + a->len == room->end && (size_t)(room->limit - room->end) >= b->len) {
        memcpy(room->end, b->v, b->len);
        room->end += b->len;
        t->v = a->v;
        t->room = room;
        return t;
    }
    size_t cap = t->len < ROOM_MIN ? t->len : 2 * t->len;
    char *v = value_alloc(h, cap);
    if (!v)
        return NULL;
    memcpy(v, a->v, a->len);
    memcpy(v + a->len, b->v, b->len);
    t->v = v;
    if (cap > t->len) {
        t->room = value_alloc(h, sizeof *t->room);
        if (!t->room)
            return NULL;
        *t->room = (struct room){v + t->len, v + cap};
    }
    return t;
}

bool value_is(const struct text *t, const char *s)
{
    return t->len == strlen(s) && !memcmp(t->v, s, t->len);
}

bool value_list(struct heap *h, enum value_kind kind, size_t n, struct value *out,
                struct value **items)
{
    struct list *l = value_alloc(h, sizeof *l);
    if (!l || !(l->v = value_array(h, n ? n : 1, sizeof *l->v)))
        return false;
    l->n = n;
    *items = l->v;
    *out = (struct value){.kind = kind, .list = l};
    return true;
}

static bool from_object(struct heap *h, const json_t *j, int depth, struct value *out)
{
    struct dict *d = dict_new(h, json_object_size(j));
    if (!d)
        return false;
    json_t *object = (json_t *)j; // jansson's iterators take no const
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        struct value v;
        const struct text *key =
            value_borrow(h, json_object_iter_key(i), json_object_iter_key_len(i));
        if (!key || !value_from_json(h, json_object_iter_value(i), depth + 1, &v) ||
            !dict_append(h, d, value_of_text(key), v))
            return false;
    }
    *out = (struct value){.kind = VALUE_DICT, .dict = d};
    return true;
}

static bool from_array(struct heap *h, const json_t *j, int depth, struct value *out)
{
    struct value *items;
    size_t n = json_array_size(j);
    if (!value_list(h, VALUE_LIST, n, out, &items))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!value_from_json(h, json_array_get(j, i), depth + 1, &items[i]))
            return false;
    return true;
}

#define DEPTH_MAX 512

bool value_from_json(struct heap *h, const json_t *j, int depth, struct value *out)
{
    if (depth > DEPTH_MAX) {
        h->over = true;
        return false;
    }
    const struct text *t;
    *out = value_none();
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return from_object(h, j, depth, out);
    case JSON_ARRAY:
        return from_array(h, j, depth, out);
    case JSON_STRING:
        t = value_borrow(h, json_string_value(j), json_string_length(j));
        *out = value_of_text(t);
        return t;
    case JSON_INTEGER:
        *out = value_int(json_integer_value(j));
        return true;
    case JSON_REAL:
        *out = value_float(json_real_value(j));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value_bool(json_is_true(j));
        return true;
    case JSON_NULL:
        return true;
    }
    return true;
}

const char *value_type(struct value v)
{
    static const char *const names[] = {
        [VALUE_MISSING] = "missing",
        [VALUE_UNDEFINED] = "Undefined",
        [VALUE_NONE] = "NoneType",
        [VALUE_BOOL] = "bool",
        [VALUE_INT] = "int",
        [VALUE_FLOAT] = "float",
        [VALUE_TEXT] = "str",
        [VALUE_LIST] = "list",
        [VALUE_TUPLE] = "tuple",
        [VALUE_DICT] = "dict",
        [VALUE_KEYS] = "dict_keys",
        [VALUE_VALUES] = "dict_values",
        [VALUE_ITEMS] = "dict_items",
        [VALUE_RANGE] = "range",
        [VALUE_ITERATOR] = "generator",
        [VALUE_NAMESPACE] = "Namespace",
        [VALUE_LOOP] = "LoopContext",
        [VALUE_MACRO] = "Macro",
        [VALUE_METHOD] = "builtin_method",
        [VALUE_FUNCTION] = "function",
    };
    return names[v.kind];
}
