/* Owns a trie of the properties' names, and at each node the characters that leave it. */
#include "core/grammar/schema_names.h"

#include <string.h>

#include "core/utf8.h"

struct names {
    const char **v; /* what is left of each name below a node; in the arena */
    size_t *len, n;
};

static struct fragment beside(struct values *v, const struct names *names, struct chars *plain);

static bool begins(const struct names *names, size_t i, const char *utf8, size_t n)
{
    return names->len[i] >= n && !memcmp(names->v[i], utf8, n);
}

/* The names that go on with the character c. */
static struct fragment behind(struct values *v, const struct names *names, uint32_t c,
                              const char *utf8, size_t n, struct chars *plain)
{
    struct chars one = {0};
    size_t same = 0;
    for (size_t i = 0; i < names->n; i++)
        same += begins(names, i, utf8, n);
    builder_spend(v->b, 2 * names->n);
    struct names rest = {arena_alloc(&v->b->arena, same * sizeof *rest.v),
                         arena_alloc(&v->b->arena, same * sizeof *rest.len), 0};
    if (!rest.v || !rest.len) {
        v->b->failed = ST_OUT_OF_MEMORY;
        return fragment_never(v->b);
    }
    for (size_t i = 0; i < names->n; i++) {
        if (!begins(names, i, utf8, n))
            continue;
        rest.v[rest.n] = names->v[i] + n;
        rest.len[rest.n++] = names->len[i] - n;
    }
    chars_add(v->b, &one, c, c);
    return fragment_then(v->b, chars_fragment(v->b, &one), beside(v, &rest, plain));
}

/* Texts of plain characters that are none of the names. */
static struct fragment beside(struct values *v, const struct names *names, struct chars *plain)
{
    struct builder *b = v->b;
    struct chars taken = {0}, free_ones = {0};
    struct fragment f = fragment_never(b);
    bool end = false;
    for (size_t i = 0; i < names->n && !b->failed; i++) {
        if (!names->len[i]) {
            end = true;
            continue;
        }
        size_t n;
        uint32_t c = utf8_read(names->v[i], &n);
        chars_sort(&taken);
        builder_spend(b, 4 * taken.n);
        if (chars_has(&taken, c))
            continue;
        chars_add(b, &taken, c, c);
        if (chars_has(plain, c))
            f = fragment_or(b, f, behind(v, names, c, names->v[i], n, plain));
    }
    struct chars inner = chars_not(b, plain); // what is not plain, and what is taken
    chars_add_all(b, &inner, &taken);
    free_ones = chars_not(b, &inner);
    struct fragment tail = fragment_repeat(b, chars_fragment(b, plain), 0, REPEAT_MANY);
    f = fragment_or(b, f, fragment_then(b, chars_fragment(b, &free_ones), tail));
    return end ? f : fragment_or(b, f, fragment_empty(b));
}

struct fragment schema_other_name(struct values *v, const json_t *properties)
{
    struct names names = {0};
    struct chars escaped = {0}, plain;
    size_t n = json_object_size(properties), len;
    const char *key;
    json_t *value;
    names.v = arena_alloc(&v->b->arena, n * sizeof *names.v);
    names.len = arena_alloc(&v->b->arena, n * sizeof *names.len);
    if (!names.v || !names.len) {
        v->b->failed = ST_OUT_OF_MEMORY;
        return fragment_never(v->b);
    }
    json_object_keylen_foreach((json_t *)properties, key, len, value)
    {
        names.v[names.n] = key;
        names.len[names.n++] = len;
    }
    chars_add(v->b, &escaped, 0, 0x1F);
    chars_add(v->b, &escaped, '"', '"');
    chars_add(v->b, &escaped, '\\', '\\');
    plain = chars_not(v->b, &escaped);
    return values_quoted(v, beside(v, &names, &plain));
}
