/*
 * Owns the search for added tokens: leftmost, then longest, not overlapping. A match next to a word
 * character does not count for a single_word token and is stepped over whole. lstrip and rstrip
 * widen what the token swallows but not where the search goes on, as in the reference.
 *
 * The reference gives a token the id of its entry in the model, or else the next free one, and
 * takes no notice of the id in the file. Where the two differ nobody can say which one the model
 * was trained with: the load stops.
 */
#include "core/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "core/tokenizer/unicode.h"

#define CONTENT_MAX 1024 /* bytes: bounds the time per character */
#define WORD_CLASS  "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200C\\u200D]"

static enum status read_token(struct reader *r, const json_t *c, struct added_token *t)
{
    long long id;
    enum status s = reader_keys(r, c, "id content single_word lstrip rstrip normalized special");
    if (s || (s = reader_integer(r, c, "id", 0, VOCABULARY_IDS_MAX - 1, &id)) ||
        (s = reader_string(r, c, "content", &t->content, &t->len)) ||
        (s = reader_flag(r, c, "single_word", &t->single_word)) ||
        (s = reader_flag(r, c, "lstrip", &t->lstrip)) ||
        (s = reader_flag(r, c, "rstrip", &t->rstrip)) ||
        (s = reader_flag(r, c, "normalized", &t->normalized)) ||
        (s = reader_flag(r, c, "special", &t->special)))
        return s;
    t->id = (int32_t)id;
    if (!t->len || t->len > CONTENT_MAX)
        return reader_refuse(r, "a token of %zu bytes, 1 to %d are supported", t->len, CONTENT_MAX);
    return ST_OK;
}

/* Checks the id against the one that the reference would give. */
static enum status check_id(struct reader *r, const struct added_token *t,
                            const struct vocabulary *model, struct added *a, int32_t *next)
{
    int32_t id = vocabulary_find(model, t->content, t->len);
    if (vocabulary_find(&a->contents, t->content, t->len) >= 0)
        return reader_refuse(r, "\"%.64s\" occurs twice", t->content);
    bool fresh = id < 0;
    if (fresh)
        id = (*next)++;
    if (id != t->id)
        return reader_refuse(r, "\"%.64s\" has id %d, but its place gives %d", t->content, t->id,
                             id);
    if (a->by_id[id] >= 0 || (fresh && vocabulary_row(model, id)))
        return reader_refuse(r, "id %d is used twice", id);
    return ST_OK;
}

static enum status normalize(struct reader *r, const struct normalizer *z, struct added_token *t)
{
    t->form = t->content;
    t->form_len = t->len;
    if (!t->normalized || !z->n)
        return ST_OK;
    struct matcher m;
    struct normalize_buffers b = {0};
    matcher_open(&m, t->len, r->err);
    enum status s = normalize_run(z, &m, t->content, t->len, &b);
    if (!s) {
        t->form_len = b.text.n;
        t->form = arena_strndup(r->arena, b.text.n ? b.text.v : "", b.text.n);
        s = t->form ? ST_OK : reader_memory(r);
    }
    if (!s && (!t->form_len || t->form_len > 4 * CONTENT_MAX))
        s = reader_refuse(r, "\"%.64s\": its normal form has %zu bytes", t->content, t->form_len);
    normalize_buffers_free(&b);
    matcher_close(&m);
    return s;
}

static enum status build(struct reader *r, struct added *a, bool normalized, struct trie *t)
{
    struct trie_key *keys = malloc((a->n + 1) * sizeof *keys);
    size_t n = 0;
    if (!keys)
        return reader_memory(r);
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].normalized == normalized)
            keys[n++] = (struct trie_key){a->v[i].form, a->v[i].form_len, a->v[i].id};
    }
    enum status s = trie_build(t, r->arena, keys, n) ? ST_OK : reader_memory(r);
    for (size_t i = 1; !s && i < n; i++) { // sorted by now
        if (keys[i].len == keys[i - 1].len && !memcmp(keys[i].text, keys[i - 1].text, keys[i].len))
            s = reader_refuse(r, "ids %d and %d have the same normal form", keys[i - 1].value,
                              keys[i].value);
    }
    free(keys);
    return s;
}

static enum status read_all(struct reader *r, const json_t *list, const struct vocabulary *model,
                            const struct normalizer *z, struct added *a)
{
    const json_t *item;
    size_t i;
    int32_t next = (int32_t)model->entries;
    bool single = false;
    json_array_foreach((json_t *)list, i, item)
    {
        struct added_token *t = &a->v[i];
        enum status s = read_token(r, item, t);
        if (s || (s = check_id(r, t, model, a, &next)) || (s = normalize(r, z, t)))
            return s;
        if (!vocabulary_add(&a->contents, r->arena, t->content, t->len, t->id))
            return reader_memory(r);
        a->by_id[t->id] = (int32_t)i;
        a->n++;
        single = single || t->single_word;
    }
    for (i = 0; i < a->n; i++) { // the reference compares what decoding sees with the contents
        const struct added_token *same =
            added_of(a, vocabulary_find(&a->contents, a->v[i].form, a->v[i].form_len));
        a->v[i].skipped = same && same->special;
    }
    if (!single)
        return ST_OK;
    return pattern_own(r, WORD_CLASS, &a->word);
}

enum status added_read(struct reader *r, const json_t *list, const struct vocabulary *model,
                       const struct normalizer *z, struct added *out)
{
    *out = (struct added){0};
    reader_enter(r, "added_tokens", NULL);
    if (!list || json_is_null(list))
        return ST_OK;
    if (!json_is_array(list))
        return reader_refuse(r, "an array is expected");
    size_t n = json_array_size(list);
    if (n > VOCABULARY_IDS_MAX)
        return reader_refuse(r, "more than %d tokens", VOCABULARY_IDS_MAX);
    int32_t ids = 0;
    for (size_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_object_get(json_array_get(list, i), "id"));
        if (id >= 0 && id < VOCABULARY_IDS_MAX && id >= ids)
            ids = (int32_t)id + 1;
    }
    out->v = arena_alloc(r->arena, (n + 1) * sizeof *out->v);
    out->by_id = arena_alloc(r->arena, ((size_t)ids + 1) * sizeof *out->by_id);
    if (!out->v || !out->by_id || !vocabulary_open(&out->contents, r->arena, ids, n))
        return reader_memory(r);
    memset(out->by_id, 0xFF, ((size_t)ids + 1) * sizeof *out->by_id);
    out->ids = ids;
    enum status s = read_all(r, list, model, z, out);
    s = s ? s : build(r, out, false, &out->raw);
    return s ? s : build(r, out, true, &out->normalized);
}

void added_cuts_free(struct added_cuts *c)
{
    free(c->v);
    *c = (struct added_cuts){0};
}

static bool push(struct added_cuts *c, size_t start, size_t end, int32_t id)
{
    if (!GROW(c->v, c->cap, c->n + 1, 16))
        return false;
    c->v[c->n++] = (struct added_cut){start, end, id};
    return true;
}

/* The longest token at the front of text, its bytes in *len; -1: none. */
static int32_t longest(const struct trie *t, const char *text, size_t n, size_t *len)
{
    int32_t found = -1;
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; i < n && (node = trie_step(t, node, (unsigned char)text[i])); i++) {
        if (t->nodes[node].value >= 0) {
            found = t->nodes[node].value;
            *len = i + 1;
        }
    }
    return found;
}

/* Is the character in text[start..end) one of a word? */
static enum status is_word(const struct added *a, struct matcher *m, const char *text, size_t start,
                           size_t end, bool *yes)
{
    struct spans found = {0};
    enum status s = pattern_find(a->word, m, text + start, end - start, 0, &found);
    *yes = found.n && found.v[0].flag;
    spans_free(&found);
    return s;
}

/* Does a word go on across one of the token's ends? */
static enum status in_word(const struct added *a, struct matcher *m, const char *text, size_t n,
                           size_t start, size_t end, bool *yes)
{
    enum status s = ST_OK;
    *yes = false;
    if (start) {
        size_t before = start - 1;
        while (before && ((unsigned char)text[before] & 0xC0) == 0x80)
            before--;
        s = is_word(a, m, text, before, start, yes);
    }
    if (!s && !*yes && end < n) {
        size_t after = end + 1;
        while (after < n && ((unsigned char)text[after] & 0xC0) == 0x80)
            after++;
        s = is_word(a, m, text, end, after, yes);
    }
    return s;
}

enum status added_find(const struct added *a, bool normalized, struct matcher *m, const char *text,
                       size_t n, struct added_cuts *out)
{
    const struct trie *t = normalized ? &a->normalized : &a->raw;
    size_t since = 0, spaces_end = 0, len = 0;
    bool ok = true;
    out->n = 0;
    for (size_t i = 0; ok && t->nodes && i < n;) {
        int32_t id = t->root[(unsigned char)text[i]] ? longest(t, text + i, n - i, &len) : -1;
        if (id < 0) {
            i++;
            continue;
        }
        const struct added_token *token = added_of(a, id);
        size_t start = i, end = i + len;
        i = end;
        bool discard = false;
        if (token->single_word) {
            enum status s = in_word(a, m, text, n, start, end, &discard);
            if (s)
                return s;
        }
        if (discard)
            continue;
        if (token->lstrip && start > since)
            start -= unicode_spaces_at_end(text + since, start - since);
        if (token->rstrip && end >= spaces_end) // a run of spaces is walked once
            spaces_end = end + unicode_spaces_at_start(text + end, n - end);
        if (token->rstrip)
            end = spaces_end;
        ok = (since >= start || push(out, since, start, -1)) && push(out, start, end, id);
        since = end;
    }
    if (ok && since < n)
        ok = push(out, since, n, -1);
    return ok ? ST_OK : error_memory(m->err, "finding added tokens");
}
