/*
 * Owns how one argument of a call is written where that is not JSON. Knows nothing of schemas: what
 * the value may be is said by who asks.
 *
 *     Python's keywords   name=value
 *     in tags             a tag, name, a tag, value, a tag; a space in a tag is any white space
 */
#include "core/grammar/schema_arguments.h"

#include <string.h>

#define NAME_MAX_LETTERS 63 /* behind the first */

static bool is_keyword(const char *key, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_",
                      all[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return len && strspn(key, letters) > 0 && strspn(key, all) == len;
}

bool arguments_hold(const struct schema_tags *tags, const char *key, size_t len)
{
    if (!tags)
        return is_keyword(key, len);
    return len && !memchr(key, '<', len) && !memchr(key, '>', len) && !memchr(key, '\n', len);
}

struct fragment arguments_any_name(struct builder *b)
{
    struct fragment letter =
        fragment_or(b, fragment_range(b, 'a', 'z'), fragment_range(b, 'A', 'Z'));
    letter = fragment_or(b, letter, fragment_text(b, "_", 1));
    struct fragment more = fragment_or(b, fragment_copy(b, letter), fragment_range(b, '0', '9'));
    return fragment_then(b, letter, fragment_repeat(b, more, 0, NAME_MAX_LETTERS));
}

/* Of a tag; a space is white space. */
static struct fragment spaced(struct values *v, const char *word)
{
    struct fragment f = fragment_empty(v->b);
    for (; *word; word++)
        f = fragment_then(v->b, f, *word == ' ' ? values_space(v) : fragment_text(v->b, word, 1));
    return f;
}

struct fragment arguments_one(struct values *v, const struct schema_tags *tags,
                              struct fragment name, struct fragment value)
{
    struct builder *b = v->b;
    if (!tags)
        return fragment_then(b, name, fragment_then(b, fragment_text(b, "=", 1), value));
    name = fragment_then(b, spaced(v, tags->key), name);
    name = fragment_then(b, name, spaced(v, tags->value));
    return fragment_then(b, name, fragment_then(b, value, spaced(v, tags->end)));
}
