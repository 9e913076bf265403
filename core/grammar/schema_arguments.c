/*
 * Owns how one argument of a call is written where that is not JSON. Knows nothing of schemas: what
 * the value may be is said by who asks.
 *
 *     Python's keywords   name=value
 *     in tags             a tag, name, a tag, value, a tag
 */
#include "core/grammar/schema_arguments.h"

#include <string.h>

#define NAME_MAX_LETTERS 63 /* behind the first */
#define NUMBER_MAX       6  /* digits */

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
    for (const char *c = tags->other ? "<>\n\"" : "<>\n"; *c; c++)
        if (memchr(key, *c, len))
            return false;
    return len;
}

struct fragment arguments_any_name(struct builder *b)
{
    struct fragment letter =
        fragment_or(b, fragment_range(b, 'a', 'z'), fragment_range(b, 'A', 'Z'));
    letter = fragment_or(b, letter, fragment_text(b, "_", 1));
    struct fragment more = fragment_or(b, fragment_copy(b, letter), fragment_range(b, '0', '9'));
    return fragment_then(b, letter, fragment_repeat(b, more, 0, NAME_MAX_LETTERS));
}

/* May a special token begin with it? The last one is the first byte of a full-width bar. */
static bool begins_special(char x)
{
    return x == '<' || x == '[' || x == '\xEF';
}

static struct fragment character(struct values *v, char x)
{
    struct builder *b = v->b;
    if (x == ' ')
        return values_space(v);
    if (x == '#')
        return fragment_repeat(b, fragment_range(b, '0', '9'), 1, NUMBER_MAX);
    struct fragment one = fragment_text(b, x == '~' ? " " : x == '^' ? "\n" : &x, 1);
    if (x == '^')
        return fragment_repeat(b, one, 0, 1);
    if (!begins_special(x))
        return one;
    struct fragment special = fragment_range(b, SPECIAL_BYTE, SPECIAL_BYTE);
    return fragment_then(b, fragment_repeat(b, special, 0, 1), one);
}

struct fragment arguments_word(struct values *v, const char *word)
{
    struct fragment f = fragment_empty(v->b);
    for (; *word; word++)
        f = fragment_then(v->b, f, character(v, *word));
    return f;
}

struct fragment arguments_one(struct values *v, const struct schema_tags *tags,
                              struct fragment name, struct fragment value, bool other)
{
    struct builder *b = v->b;
    if (!tags)
        return fragment_then(b, name, fragment_then(b, fragment_text(b, "=", 1), value));
    name = fragment_then(b, arguments_word(v, tags->key), name);
    name = fragment_then(b, name, arguments_word(v, other ? tags->other : tags->value));
    return fragment_then(b, name, fragment_then(b, value, arguments_word(v, tags->end)));
}
