/*
 * Owns WordPiece. Entries lie in two tries: those that may begin a word, and, without their prefix
 * (##), those that may continue one. A word longer than max_input_chars_per_word is unknown; that
 * bound also bounds the time, so it is itself bounded.
 */
#include "core/tokenizer/wordpiece.h"

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/trie.h"
#include "core/utf8.h"

#define WORD_CHARS_MAX 1000

struct wordpiece {
    struct trie begins, continues;
    const char *unk;
    int32_t unk_id; /* -1: no entry */
    size_t most;
};

static bool build(struct arena *a, const struct vocabulary *v, const char *prefix, size_t n,
                  struct trie *t)
{
    struct trie_key *keys = malloc((v->entries + 1) * sizeof *keys);
    if (!keys)
        return false;
    size_t count = 0;
    for (int32_t id = 0; id < v->ids; id++) {
        const struct vocabulary_row *row = vocabulary_row(v, id);
        if (row && row->len > n && !memcmp(row->text, prefix, n))
            keys[count++] = (struct trie_key){row->text + n, row->len - n, id};
    }
    bool ok = trie_build(t, a, keys, count);
    free(keys);
    return ok;
}

enum status wordpiece_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                           const struct wordpiece **out)
{
    struct wordpiece *m = arena_alloc(r->arena, sizeof *m);
    const char *prefix;
    size_t n, unk_len;
    long long most;
    if (!m)
        return reader_memory(r);
    enum status s = reader_keys(r, model,
                                "type unk_token continuing_subword_prefix "
                                "max_input_chars_per_word vocab");
    if (s || (s = reader_string(r, model, "unk_token", &m->unk, &unk_len)) ||
        (s = reader_string(r, model, "continuing_subword_prefix", &prefix, &n)) ||
        (s = reader_integer(r, model, "max_input_chars_per_word", 0, WORD_CHARS_MAX, &most)))
        return s;
    m->most = (size_t)most;
    m->unk_id = vocabulary_find(v, m->unk, unk_len);
    if (!build(r->arena, v, "", 0, &m->begins) || !build(r->arena, v, prefix, n, &m->continues))
        return reader_memory(r);
    *out = m;
    return ST_OK;
}

/* The longest key that text begins with, its bytes in *len; -1: none. Keys are whole characters. */
static int32_t longest(const struct trie *t, const char *text, size_t n, size_t *len)
{
    int32_t found = -1;
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; t->nodes && i < n; i++) {
        node = trie_step(t, node, (unsigned char)text[i]);
        if (!node)
            break;
        if (t->nodes[node].value >= 0) {
            found = t->nodes[node].value;
            *len = i + 1;
        }
    }
    return found;
}

enum status wordpiece_encode(const struct wordpiece *m, const char *text, size_t n,
                             struct token_ids *out, struct error *err)
{
    size_t chars = 0, before = out->n;
    bool known = true;
    for (size_t i = 0; i < n && chars <= m->most; chars++)
        i += utf8_length((unsigned char)text[i]);
    known = chars <= m->most;
    for (size_t i = 0, len = 0; known && i < n; i += len) {
        int32_t id = longest(i ? &m->continues : &m->begins, text + i, n - i, &len);
        known = id >= 0;
        if (known && !token_ids_push(out, id))
            return error_memory(err, "encoding text");
    }
    if (known)
        return ST_OK;
    out->n = before;
    if (m->unk_id < 0)
        return error_set(err, ST_INVALID_VALUE,
                         "the text holds a word that is not known, and the unk_token \"%.40s\" is "
                         "no entry",
                         m->unk);
    return token_ids_push(out, m->unk_id) ? ST_OK : error_memory(err, "encoding text");
}
