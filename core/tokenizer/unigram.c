/*
 * Owns the Viterbi search. best[e] is the best path over text[0..e): starts ascend, at each start
 * lengths ascend, and a later path replaces an earlier one only if it is strictly better, all in
 * doubles summed left to right, because ties and the last bit decide which pieces come out. Where
 * no piece is exactly the one character, the unknown piece stands in at 10 below the lowest score.
 *
 * Neighbouring unknown pieces are joined; the joined text is looked up (it may be an entry), then
 * its bytes if byte_fallback, then it is one unk.
 */
#include "core/tokenizer/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/trie.h"
#include "core/utf8.h"

#define PENALTY   10.0
#define ENTRY_MAX 1024 /* bytes of an entry: bounds the time per character */

struct unigram {
    const struct vocabulary *v;
    struct trie trie;
    double *scores; /* by id */
    double lowest;
    int32_t unk; /* -1: none */
    bool byte_fallback;
    int32_t byte_ids[256];
};

static enum status read_scores(struct reader *r, const json_t *list, struct unigram *m)
{
    struct trie_key *keys = malloc(((size_t)m->v->ids + 1) * sizeof *keys);
    m->scores = arena_alloc(r->arena, ((size_t)m->v->ids + 1) * sizeof *m->scores);
    if (!keys || !m->scores) {
        free(keys);
        return reader_memory(r);
    }
    enum status s = ST_OK;
    m->lowest = INFINITY;
    for (int32_t id = 0; !s && id < m->v->ids; id++) {
        const struct vocabulary_row *row = vocabulary_row(m->v, id);
        const json_t *score = json_array_get(json_array_get(list, (size_t)id), 1);
        m->scores[id] = json_number_value(score);
        keys[id] = (struct trie_key){row->text, row->len, id};
        if (m->scores[id] < m->lowest)
            m->lowest = m->scores[id];
        if (!json_is_number(score) || row->len > ENTRY_MAX)
            s = reader_refuse(r, "entry %d has no score or more than %d bytes", id, ENTRY_MAX);
    }
    if (!s && !trie_build(&m->trie, r->arena, keys, (size_t)m->v->ids))
        s = reader_memory(r);
    free(keys);
    return s;
}

enum status unigram_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                         const struct unigram **out)
{
    struct unigram *m = arena_alloc(r->arena, sizeof *m);
    if (!m)
        return reader_memory(r);
    *m = (struct unigram){.v = v, .unk = -1};
    const json_t *unk = json_object_get(model, "unk_id");
    long long id;
    enum status s = reader_keys(r, model, "type unk_id vocab byte_fallback");
    if (!s && unk && !json_is_null(unk)) {
        s = reader_integer(r, model, "unk_id", 0, v->ids - 1, &id);
        m->unk = (int32_t)id;
    }
    s = s ? s : reader_bool(r, model, "byte_fallback", false, &m->byte_fallback);
    s = s ? s : read_scores(r, json_object_get(model, "vocab"), m);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte_ids[b] = vocabulary_find(v, name, 6);
    }
    *out = m;
    return s;
}

void unigram_buffers_free(struct unigram_buffers *b)
{
    free(b->nodes);
    free(b->pieces);
    *b = (struct unigram_buffers){0};
}

static bool reserve(struct unigram_buffers *b, size_t n)
{
    if (n <= b->cap)
        return true;
    size_t cap = n < 256 ? 256 : n + n / 2;
    struct unigram_node *nodes = realloc(b->nodes, cap * sizeof *nodes);
    if (nodes)
        b->nodes = nodes;
    struct span_of_text *pieces = realloc(b->pieces, cap * sizeof *pieces);
    if (pieces)
        b->pieces = pieces;
    if (nodes && pieces)
        b->cap = cap;
    return nodes && pieces;
}

static void offer(struct unigram_node *to, double score, size_t start, int32_t id)
{
    if (to->start < 0 || score > to->score)
        *to = (struct unigram_node){score, (int32_t)start, id};
}

/* False: an unknown character, and there is no unk. */
static bool search(const struct unigram *m, const char *text, size_t n, struct unigram_node *best)
{
    for (size_t i = 0; i <= n; i++)
        best[i] = (struct unigram_node){0, -1, 0};
    for (size_t at = 0, len; at < n; at += len) {
        bool single = false;
        uint32_t node = TRIE_ROOT;
        len = utf8_length((unsigned char)text[at]);
        for (size_t end = at; m->trie.nodes && end < n; end++) {
            node = trie_step(&m->trie, node, (unsigned char)text[end]);
            if (!node)
                break;
            int32_t id = m->trie.nodes[node].value;
            if (id < 0)
                continue;
            offer(&best[end + 1], m->scores[id] + best[at].score, at, id);
            single = single || end + 1 - at == len;
        }
        if (single)
            continue;
        if (m->unk < 0)
            return false;
        offer(&best[at + len], m->lowest - PENALTY + best[at].score, at, m->unk);
    }
    return true;
}

/* The best path as pieces, last first, neighbouring unknown ones joined; returns how many. */
static size_t path(const struct unigram *m, const struct unigram_node *best, size_t n,
                   struct span_of_text *v)
{
    size_t count = 0;
    for (int32_t end = (int32_t)n; end > 0; end = best[end].start) {
        bool unknown = best[end].id == m->unk;
        if (unknown && count && v[count - 1].unknown)
            v[count - 1].start = best[end].start;
        else
            v[count++] = (struct span_of_text){best[end].start, end, unknown};
    }
    return count;
}

static bool emit(const struct unigram *m, const char *text, size_t n, struct token_ids *out)
{
    int32_t id = vocabulary_find(m->v, text, n);
    if (id >= 0)
        return token_ids_push(out, id);
    bool bytes = m->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = m->byte_ids[(unsigned char)text[i]] >= 0;
    if (!bytes)
        return token_ids_push(out, m->unk);
    for (size_t i = 0; i < n; i++) {
        if (!token_ids_push(out, m->byte_ids[(unsigned char)text[i]]))
            return false;
    }
    return true;
}

enum status unigram_encode(const struct unigram *m, const char *text, size_t n,
                           struct unigram_buffers *b, struct token_ids *out, struct error *err)
{
    if (!reserve(b, n + 1))
        return error_memory(err, "encoding text");
    if (!search(m, text, n, b->nodes))
        return error_set(err, ST_INVALID_VALUE,
                         "the text holds a character that is no entry, and there is no unk_id");
    for (size_t i = path(m, b->nodes, n, b->pieces); i-- > 0;) {
        const struct span_of_text *p = &b->pieces[i];
        if (!emit(m, text + p->start, (size_t)(p->end - p->start), out))
            return error_memory(err, "encoding text");
    }
    return ST_OK;
}
