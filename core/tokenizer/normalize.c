/*
 * Owns the normalizers. Each step reads the text that the one before left and writes its own; only
 * Precompiled and the normal forms have files of their own.
 */
#include "core/tokenizer/normalize.h"

#include <string.h>

#include "core/tokenizer/bytelevel.h"
#include "core/tokenizer/canonical.h"
#include "core/tokenizer/charsmap.h"
#include "core/tokenizer/unicode.h"
#include "core/utf8.h"

#define STEPS_MAX 64

enum kind {
    NFC,
    NFD,
    NFKC,
    NFKD,
    LOWERCASE,
    STRIP,
    STRIP_ACCENTS,
    NMT,
    PREPEND,
    REPLACE,
    BYTE_LEVEL,
    PRECOMPILED,
    BERT_CLEAN,
    BERT_IDEOGRAPHS,
    BERT_ACCENTS
};

struct normalize_step {
    enum kind kind;
    bool left, right; /* STRIP */
    const char *text; /* PREPEND, REPLACE */
    size_t len;
    const struct pattern *pattern; /* REPLACE */
    const struct charsmap *map;    /* PRECOMPILED */
};

static enum status add(struct reader *r, struct normalizer *z, struct normalize_step step)
{
    if (z->n == STEPS_MAX)
        return reader_refuse(r, "more than %d steps", STEPS_MAX);
    z->steps[z->n++] = step;
    return ST_OK;
}

static enum status read_bert(struct reader *r, const json_t *c, struct normalizer *z)
{
    bool clean, ideographs, lower, accents;
    enum status s = reader_keys(r, c,
                                "type clean_text handle_chinese_chars strip_accents "
                                "lowercase");
    if (s || (s = reader_flag(r, c, "clean_text", &clean)) ||
        (s = reader_flag(r, c, "handle_chinese_chars", &ideographs)) ||
        (s = reader_flag(r, c, "lowercase", &lower)) ||
        (s = reader_bool(r, c, "strip_accents", lower, &accents)))
        return s;
    if (clean)
        s = add(r, z, (struct normalize_step){.kind = BERT_CLEAN});
    if (!s && ideographs)
        s = add(r, z, (struct normalize_step){.kind = BERT_IDEOGRAPHS});
    if (!s && accents)
        s = add(r, z, (struct normalize_step){.kind = NFD});
    if (!s && accents)
        s = add(r, z, (struct normalize_step){.kind = BERT_ACCENTS});
    if (!s && lower)
        s = add(r, z, (struct normalize_step){.kind = LOWERCASE});
    return s;
}

/* The components without options. */
static bool plain_kind(const char *type, enum kind *kind)
{
    static const struct {
        const char *type;
        enum kind kind;
    } rows[] = {{"NFC", NFC},
                {"NFD", NFD},
                {"NFKC", NFKC},
                {"NFKD", NFKD},
                {"Lowercase", LOWERCASE},
                {"StripAccents", STRIP_ACCENTS},
                {"Nmt", NMT},
                {"ByteLevel", BYTE_LEVEL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        *kind = rows[i].kind;
        if (!strcmp(type, rows[i].type))
            return true;
    }
    return false;
}

static enum status read_step(struct reader *r, const json_t *c, const char *type, void *to)
{
    struct normalizer *z = to;
    struct normalize_step step = {0};
    enum status s;
    if (plain_kind(type, &step.kind))
        return (s = reader_keys(r, c, "type")) ? s : add(r, z, step);
    if (!strcmp(type, "BertNormalizer"))
        return read_bert(r, c, z);
    if (!strcmp(type, "Strip")) {
        step.kind = STRIP;
        s = reader_keys(r, c, "type strip_left strip_right");
        s = s ? s : reader_flag(r, c, "strip_left", &step.left);
        s = s ? s : reader_flag(r, c, "strip_right", &step.right);
    } else if (!strcmp(type, "Prepend")) {
        step.kind = PREPEND;
        s = reader_keys(r, c, "type prepend");
        s = s ? s : reader_string(r, c, "prepend", &step.text, &step.len);
    } else if (!strcmp(type, "Replace")) {
        step.kind = REPLACE;
        s = reader_keys(r, c, "type pattern content");
        s = s ? s : reader_string(r, c, "content", &step.text, &step.len);
        s = s ? s : pattern_read(r, json_object_get(c, "pattern"), &step.pattern);
    } else if (!strcmp(type, "Precompiled")) {
        const char *base64;
        size_t n;
        step.kind = PRECOMPILED;
        s = reader_keys(r, c, "type precompiled_charsmap");
        s = s ? s : reader_string(r, c, "precompiled_charsmap", &base64, &n);
        s = s ? s : charsmap_read(r, base64, n, &step.map);
    } else {
        s = reader_refuse(r, "this normalizer is not supported");
    }
    if (!s && step.len > NORMALIZE_TEXT_MAX)
        s = reader_refuse(r, "a text of %zu bytes, at most %d are supported", step.len,
                          NORMALIZE_TEXT_MAX);
    return s ? s : add(r, z, step);
}

enum status normalize_read(struct reader *r, const json_t *component, struct normalizer *out)
{
    *out = (struct normalizer){.steps = arena_alloc(r->arena, STEPS_MAX * sizeof *out->steps)};
    if (!out->steps)
        return reader_memory(r);
    return reader_each(r, "normalizer", "normalizers", component, read_step, out);
}

void normalize_buffers_free(struct normalize_buffers *b)
{
    bytes_free(&b->text);
    bytes_free(&b->spare);
    spans_free(&b->spans);
}

static uint32_t nmt(uint32_t c)
{
    static const uint32_t spaces[] = {'\t',   '\n',   '\f',   '\r',   0x1680,
                                      0x200B, 0x200C, 0x200D, 0x200E, 0x200F,
                                      0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD};
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        if (c == spaces[i])
            return ' ';
    }
    bool dropped = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                   c == 0x8F || c == 0x9F;
    return dropped ? UINT32_MAX : c;
}

/* One character under a step that looks at one character at a time; returns how many come of it. */
static size_t map_char(enum kind kind, uint32_t c, uint32_t to[3])
{
    to[0] = c;
    switch (kind) {
    case LOWERCASE:
        return unicode_lower(c, to);
    case STRIP_ACCENTS:
        return !unicode_mark(c);
    case BERT_ACCENTS:
        return !unicode_nonspacing(c);
    case NMT:
        to[0] = nmt(c);
        return to[0] != UINT32_MAX;
    case BERT_CLEAN:
        to[0] = unicode_space(c) ? ' ' : c;
        return !unicode_control(c);
    default: // BERT_IDEOGRAPHS
        if (!unicode_ideograph(c))
            return 1;
        to[0] = to[2] = ' ';
        to[1] = c;
        return 3;
    }
}

static bool map(enum kind kind, struct normalize_buffers *b)
{
    bool ok = true;
    for (size_t i = 0, len; ok && i < b->text.n; i += len) {
        uint32_t to[3];
        size_t n = map_char(kind, utf8_read(b->text.v + i, &len), to);
        if (!i && !n)
            b->moved = true;
        for (size_t k = 0; ok && k < n; k++)
            ok = bytes_append_char(&b->spare, to[k]);
    }
    return ok;
}

static enum status too_long(struct matcher *m)
{
    return error_set(m->err, ST_INVALID_VALUE,
                     "the tokenizer's normalizer makes the text too long");
}

static enum status replace(const struct normalize_step *step, struct matcher *m, size_t most,
                           struct normalize_buffers *b)
{
    b->spans.n = 0;
    enum status s = pattern_find(step->pattern, m, b->text.v, b->text.n, 0, &b->spans);
    bool ok = true;
    for (size_t i = 0; !s && ok && i < b->spans.n; i++) {
        const struct span *p = &b->spans.v[i];
        ok = p->flag ? bytes_append(&b->spare, step->text, step->len)
                     : bytes_append(&b->spare, b->text.v + p->start, p->end - p->start);
        // a replacement counts as standing where the last character that it replaces stood
        if (!i && p->flag && p->end &&
            (!step->len || utf8_length((unsigned char)b->text.v[0]) < p->end))
            b->moved = true;
        if (b->spare.n > most)
            return too_long(m);
    }
    return s ? s : ok ? ST_OK : error_memory(m->err, "normalizing");
}

static enum status run_step(const struct normalize_step *step, struct matcher *m, size_t most,
                            struct normalize_buffers *b)
{
    const char *v = b->text.v;
    size_t n = b->text.n, left = 0, right = 0;
    bool ok;
    switch (step->kind) {
    case NFC:
    case NFD:
    case NFKC:
    case NFKD:
        ok = canonical_form(v, n, step->kind >= NFKC, step->kind == NFC || step->kind == NFKC,
                            &b->spare);
        break;
    case STRIP:
        left = step->left ? unicode_spaces_at_start(v, n) : 0;
        right = step->right ? unicode_spaces_at_end(v + left, n - left) : 0;
        b->moved = b->moved || left;
        ok = bytes_append(&b->spare, v + left, n - left - right);
        break;
    case PREPEND:
        ok = bytes_append(&b->spare, step->text, step->len) && bytes_append(&b->spare, v, n);
        break;
    case REPLACE:
        return replace(step, m, most, b);
    case BYTE_LEVEL:
        ok = bytelevel_encode(v, n, &b->spare);
        break;
    case PRECOMPILED:
        ok = charsmap_apply(step->map, v, n, &b->spare);
        break;
    default:
        ok = map(step->kind, b);
    }
    return ok ? ST_OK : error_memory(m->err, "normalizing");
}

enum status normalize_run(const struct normalizer *z, struct matcher *m, const char *text, size_t n,
                          struct normalize_buffers *b)
{
    b->moved = false;
    b->text.n = 0;
    if (!bytes_append(&b->text, text, n))
        return error_memory(m->err, "normalizing");
    for (size_t i = 0; i < z->n && b->text.n; i++) {
        b->spare.n = 0;
        enum status s = run_step(&z->steps[i], m, bytes_growth_max(n), b);
        if (s)
            return s;
        if (b->spare.n > bytes_growth_max(n))
            return too_long(m);
        bytes_swap(&b->text, &b->spare);
    }
    return ST_OK;
}
