/*
 * Owns BPE. A piece starts as one symbol per character (or per byte, where byte_fallback stands
 * in); then the pair of neighbours with the lowest rank is merged, of equal ones the leftmost,
 * until no pair has a rank.
 *
 * Short pieces, which is nearly all of them, are merged by looking for the lowest rank again each
 * time. Long ones use a heap of candidates that may be out of date: an entry counts only if its
 * position still holds a pair that gives the same id. n symbols cause at most n merges and 3n
 * entries, so a piece costs O(n log n) whatever its text; there is no cache to be shared or filled.
 */
#include "core/tokenizer/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "core/utf8.h"

#define SHORT      24    /* symbols that are scanned rather than heaped */
#define DIRECT     0x250 /* characters whose ids are in a table: ASCII, byte-level letters */
#define NO_RANK    UINT32_MAX
#define MERGES_MAX (1 << 25)

struct rule {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    uint32_t rank;
    int32_t id;
};

struct bpe {
    const struct vocabulary *v;
    struct rule *rules;
    size_t mask;
    const char *prefix, *suffix, *unk; /* NULL: none */
    size_t prefix_len, suffix_len, unk_len;
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t byte_ids[256];
    int32_t direct[DIRECT]; /* -1: no entry */
};

static size_t slot_of(const struct bpe *m, uint64_t pair)
{
    uint64_t h = (pair ^ m->v->seed) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h ^ h >> 29) & m->mask;
    while (m->rules[i].pair != UINT64_MAX && m->rules[i].pair != pair)
        i = (i + 1) & m->mask;
    return i;
}

static const struct rule *rule_of(const struct bpe *m, int32_t left, int32_t right)
{
    const struct rule *r = &m->rules[slot_of(m, (uint64_t)(uint32_t)left << 32 | (uint32_t)right)];
    return r->pair == UINT64_MAX ? NULL : r;
}

/* The two sides of a merge: ["a", "b"] or "a b". */
static bool sides(const json_t *merge, const char *text[2], size_t len[2])
{
    if (json_array_size(merge) == 2) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *side = json_array_get(merge, i);
            text[i] = json_string_value(side);
            len[i] = json_string_length(side);
        }
        return text[0] && text[1];
    }
    text[0] = json_string_value(merge);
    size_t n = json_string_length(merge);
    const char *space = text[0] ? memchr(text[0], ' ', n) : NULL;
    if (!space)
        return false;
    len[0] = (size_t)(space - text[0]);
    text[1] = space + 1;
    len[1] = n - len[0] - 1;
    return !memchr(text[1], ' ', len[1]);
}

static enum status add_merge(struct reader *r, struct bpe *m, const json_t *merge, uint32_t rank,
                             struct bytes *joined)
{
    const char *text[2];
    size_t len[2];
    if (!sides(merge, text, len))
        return reader_refuse(r, "merge %u is not two texts", rank);
    int32_t left = vocabulary_find(m->v, text[0], len[0]);
    int32_t right = vocabulary_find(m->v, text[1], len[1]);
    joined->n = 0;
    size_t cut = m->prefix_len < len[1] ? m->prefix_len : len[1];
    if (!bytes_append(joined, text[0], len[0]) ||
        !bytes_append(joined, text[1] + cut, len[1] - cut))
        return reader_memory(r);
    int32_t id = vocabulary_find(m->v, joined->n ? joined->v : "", joined->n);
    if (left < 0 || right < 0 || id < 0)
        return reader_refuse(r, "merge %u: \"%.40s\" + \"%.40s\" or what they make is no entry",
                             rank, text[0], text[1]);
    struct rule *rule = &m->rules[slot_of(m, (uint64_t)left << 32 | (uint32_t)right)];
    *rule = (struct rule){(uint64_t)left << 32 | (uint32_t)right, rank, id};
    return ST_OK;
}

static enum status read_merges(struct reader *r, const json_t *model, struct bpe *m)
{
    json_t *list, *merge;
    size_t i, slots = 16;
    enum status s = reader_array(r, model, "merges", &list);
    if (s)
        return s;
    if (json_array_size(list) > MERGES_MAX)
        return reader_refuse(r, "more than %d merges", MERGES_MAX);
    while (slots < 2 * json_array_size(list))
        slots *= 2;
    m->rules = arena_alloc(r->arena, slots * sizeof *m->rules);
    if (!m->rules)
        return reader_memory(r);
    memset(m->rules, 0xFF, slots * sizeof *m->rules);
    m->mask = slots - 1;
    struct bytes joined = {0};
    uint32_t rank = 0;
    json_array_foreach(list, i, merge)
    {
        // the head of an old merges.txt, kept by some converters
        if (json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8))
            continue;
        if ((s = add_merge(r, m, merge, rank++, &joined)))
            break;
    }
    bytes_free(&joined);
    return s;
}

static enum status read_options(struct reader *r, const json_t *model, struct bpe *m)
{
    const json_t *dropout = json_object_get(model, "dropout");
    enum status s = reader_keys(r, model,
                                "type dropout unk_token continuing_subword_prefix "
                                "end_of_word_suffix fuse_unk byte_fallback "
                                "ignore_merges vocab merges");
    if (s)
        return s;
    if (dropout && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return reader_refuse(r, "dropout must be null or 0");
    s = reader_optional(r, model, "unk_token", &m->unk, &m->unk_len);
    s = s ? s : reader_optional(r, model, "continuing_subword_prefix", &m->prefix, &m->prefix_len);
    s = s ? s : reader_optional(r, model, "end_of_word_suffix", &m->suffix, &m->suffix_len);
    s = s ? s : reader_bool(r, model, "fuse_unk", false, &m->fuse_unk);
    s = s ? s : reader_bool(r, model, "byte_fallback", false, &m->byte_fallback);
    return s ? s : reader_bool(r, model, "ignore_merges", false, &m->ignore_merges);
}

enum status bpe_read(struct reader *r, const json_t *model, const struct vocabulary *v,
                     const struct bpe **out)
{
    struct bpe *m = arena_alloc(r->arena, sizeof *m);
    if (!m)
        return reader_memory(r);
    m->v = v;
    enum status s = read_options(r, model, m);
    s = s ? s : read_merges(r, model, m);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte_ids[b] = vocabulary_find(v, name, 6);
    }
    for (uint32_t c = 0; c < DIRECT; c++) {
        char text[4];
        m->direct[c] = vocabulary_find(v, text, utf8_write(c, text));
    }
    *out = m;
    return s;
}

void bpe_buffers_free(struct bpe_buffers *b)
{
    free(b->symbols);
    free(b->heap);
    bytes_free(&b->decorated);
    *b = (struct bpe_buffers){0};
}

static bool push_symbol(struct bpe_buffers *b, int32_t id)
{
    if (!GROW(b->symbols, b->cap, b->n + 1, 64))
        return false;
    b->symbols[b->n++] = (struct bpe_symbol){.id = id};
    return true;
}

/* The entry of one character, with prefix and suffix where they apply; -1: none. *s is its text. */
static int32_t entry_of(const struct bpe *m, const char *text, size_t len, bool first, bool last,
                        struct bytes *decorated, const char **s, size_t *n, bool *ok)
{
    *s = text;
    *n = len;
    bool prefix = !first && m->prefix_len, suffix = last && m->suffix_len;
    if (prefix || suffix) {
        decorated->n = 0;
        *ok = (!prefix || bytes_append(decorated, m->prefix, m->prefix_len)) &&
              bytes_append(decorated, text, len) &&
              (!suffix || bytes_append(decorated, m->suffix, m->suffix_len));
        if (!*ok)
            return -1;
        *s = decorated->v;
        *n = decorated->n;
        return vocabulary_find(m->v, *s, *n);
    }
    size_t unused;
    uint32_t c = len <= 2 ? utf8_read(text, &unused) : DIRECT;
    return c < DIRECT ? m->direct[c] : vocabulary_find(m->v, text, len);
}

/* The bytes of a character as their own tokens; 0: one of them is no entry, -1: no memory. */
static int fall_back(const struct bpe *m, const char *s, size_t n, struct bpe_buffers *b)
{
    for (size_t i = 0; i < n; i++) {
        if (m->byte_ids[(unsigned char)s[i]] < 0)
            return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (!push_symbol(b, m->byte_ids[(unsigned char)s[i]]))
            return -1;
    }
    return 1;
}

/* Text to symbols. An unknown character waits until a known one comes (or the end): so does the
 * reference, and byte tokens overtake it. */
static enum status start(const struct bpe *m, const char *text, size_t n, struct bpe_buffers *b,
                         struct error *err)
{
    int32_t unk = -1;
    bool ok = true;
    b->n = 0;
    for (size_t i = 0, len; ok && i < n; i += len) {
        const char *s;
        size_t s_len;
        len = utf8_length((unsigned char)text[i]);
        int32_t id = entry_of(m, text + i, len, !i, i + len == n, &b->decorated, &s, &s_len, &ok);
        if (!ok)
            break;
        if (id >= 0) {
            ok = (unk < 0 || push_symbol(b, unk)) && push_symbol(b, id);
            unk = -1;
            continue;
        }
        int fell = m->byte_fallback ? fall_back(m, s, s_len, b) : 0;
        ok = fell >= 0;
        if (fell || !m->unk)
            continue;
        if (unk >= 0 && !m->fuse_unk)
            ok = push_symbol(b, unk);
        unk = vocabulary_find(m->v, m->unk, m->unk_len);
        if (unk < 0)
            return error_set(err, ST_INVALID_VALUE,
                             "the text holds a character that is no entry, nor is the unk_token "
                             "\"%.40s\"",
                             m->unk);
    }
    ok = ok && (unk < 0 || push_symbol(b, unk));
    return ok ? ST_OK : error_memory(err, "encoding text");
}

/* Merges in place, finding the lowest rank anew each time. */
static void merge_short(const struct bpe *m, struct bpe_buffers *b)
{
    uint32_t ranks[SHORT]; // of the pair that begins at i
    int32_t made[SHORT];
    struct bpe_symbol *v = b->symbols;
    size_t n = b->n;
    for (size_t i = 0; i + 1 < n; i++) {
        const struct rule *r = rule_of(m, v[i].id, v[i + 1].id);
        ranks[i] = r ? r->rank : NO_RANK;
        made[i] = r ? r->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (ranks[i] < ranks[best])
                best = i;
        }
        if (ranks[best] == NO_RANK)
            break;
        v[best].id = made[best];
        memmove(v + best + 1, v + best + 2, (n - best - 2) * sizeof *v);
        memmove(ranks + best, ranks + best + 1, (n - best - 2) * sizeof *ranks);
        memmove(made + best, made + best + 1, (n - best - 2) * sizeof *made);
        n--;
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const struct rule *r = rule_of(m, v[i].id, v[i + 1].id);
            ranks[i] = r ? r->rank : NO_RANK;
            made[i] = r ? r->id : -1;
        }
    }
    b->n = n;
}

static void sink(struct bpe_merge *v, size_t n, size_t i)
{
    struct bpe_merge moving = v[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && v[child + 1].order < v[child].order)
            child++;
        if (v[child].order >= moving.order)
            break;
        v[i] = v[child];
    }
    v[i] = moving;
}

/* Adds the pair that begins at symbol i, if it has a rank; rise: keep the heap a heap. */
static bool candidate(const struct bpe *m, struct bpe_buffers *b, int32_t i, bool rise)
{
    const struct bpe_symbol *v = b->symbols;
    const struct rule *r = rule_of(m, v[i].id, v[v[i].after].id);
    if (!r)
        return true;
    if (!GROW(b->heap, b->heap_cap, b->heap_n + 1, 256))
        return false;
    size_t at = b->heap_n++;
    struct bpe_merge added = {(uint64_t)r->rank << 32 | (uint32_t)i, r->id};
    while (rise && at && b->heap[(at - 1) / 2].order > added.order) {
        b->heap[at] = b->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    b->heap[at] = added;
    return true;
}

static bool merge_long(const struct bpe *m, struct bpe_buffers *b)
{
    struct bpe_symbol *v = b->symbols;
    int32_t n = (int32_t)b->n;
    b->heap_n = 0;
    for (int32_t i = 0; i < n; i++) {
        v[i].before = i - 1;
        v[i].after = i + 1 < n ? i + 1 : -1;
    }
    for (int32_t i = 0; i + 1 < n; i++) {
        if (!candidate(m, b, i, false))
            return false;
    }
    for (size_t i = b->heap_n / 2; i-- > 0;)
        sink(b->heap, b->heap_n, i);
    while (b->heap_n) {
        struct bpe_merge top = b->heap[0];
        b->heap[0] = b->heap[--b->heap_n];
        if (b->heap_n)
            sink(b->heap, b->heap_n, 0);
        struct bpe_symbol *left = &v[(uint32_t)top.order];
        if (left->id < 0 || left->after < 0)
            continue;
        struct bpe_symbol *right = &v[left->after];
        const struct rule *r = rule_of(m, left->id, right->id);
        if (!r || r->id != top.id)
            continue;
        left->id = top.id;
        left->after = right->after;
        right->id = -1;
        if (left->after >= 0)
            v[left->after].before = (int32_t)(left - v);
        if ((left->before >= 0 && !candidate(m, b, left->before, true)) ||
            (left->after >= 0 && !candidate(m, b, (int32_t)(left - v), true)))
            return false;
    }
    return true;
}

enum status bpe_encode(const struct bpe *m, const char *text, size_t n, struct bpe_buffers *b,
                       struct token_ids *out, struct error *err)
{
    int32_t whole = m->ignore_merges ? vocabulary_find(m->v, text, n) : -1;
    if (whole >= 0)
        return token_ids_push(out, whole) ? ST_OK : error_memory(err, "encoding text");
    enum status s = start(m, text, n, b, err);
    if (s)
        return s;
    bool ok = true;
    if (b->n <= SHORT)
        merge_short(m, b);
    else
        ok = merge_long(m, b);
    for (size_t i = 0; ok && i < b->n; i++)
        ok = b->symbols[i].id < 0 || token_ids_push(out, b->symbols[i].id);
    return ok ? ST_OK : error_memory(err, "encoding text");
}
