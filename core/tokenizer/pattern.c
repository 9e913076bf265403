/*
 * Owns the use of PCRE2. Texts are valid UTF-8 and every piece is a subject of its own: nothing
 * looks beyond its ends.
 *
 * Time is bounded without a clock, so that an outcome never depends on the machine: a search first
 * gets a small match limit; when that is not enough it is repeated with sixteen times as much, and
 * each limit that was not enough is taken from a budget that grows with the text. Ordinary
 * patterns cost a few steps per character and never notice; (a+)+b runs out of budget and is
 * answered with INVALID_VALUE.
 */
#include "core/tokenizer/pattern.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/tokenizer/oniguruma.h"

#define PATTERN_BYTES_MAX 65536
#define FIRST_LIMIT       1024u
#define LAST_LIMIT        (FIRST_LIMIT << 16)

struct pattern {
    pcre2_code *code; /* NULL: a literal */
    const char *literal;
    size_t len;
    struct pattern *next;
};

static enum status compile(struct reader *r, struct pattern *p, const char *regex, size_t n)
{
    int code;
    PCRE2_SIZE offset;
    char reason[128];
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return reader_memory(r);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)regex, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                            &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!p->code) {
        if (code == PCRE2_ERROR_NOMEMORY || code == 121)
            return reader_memory(r);
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        return reader_refuse(r, "a pattern does not compile: %s", reason);
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); // without it the interpreter serves
    return ST_OK;
}

static struct pattern *new_pattern(struct reader *r)
{
    struct pattern *p = arena_alloc(r->arena, sizeof *p);
    if (p) {
        p->next = *r->patterns;
        *r->patterns = p;
    }
    return p;
}

static enum status read_regex(struct reader *r, struct pattern *p, const char *regex, size_t n)
{
    struct bytes translated = {0};
    size_t at = 0;
    enum status s;
    switch (oniguruma_translate(regex, n, &translated, &at)) {
    case ONIGURUMA_OK:
        s = compile(r, p, translated.n ? translated.v : "", translated.n);
        break;
    case ONIGURUMA_NO_MEMORY:
        s = reader_memory(r);
        break;
    default:
        s = reader_refuse(r, "pattern \"%.160s\": what stands at byte %zu is not supported", regex,
                          at);
    }
    bytes_free(&translated);
    return s;
}

enum status pattern_own(struct reader *r, const char *regex, const struct pattern **out)
{
    struct pattern *p = new_pattern(r);
    *out = p;
    return p ? read_regex(r, p, regex, strlen(regex)) : reader_memory(r);
}

enum status pattern_read(struct reader *r, const json_t *pattern, const struct pattern **out)
{
    const char *text;
    size_t n;
    bool regex = json_object_get(pattern, "Regex") != NULL;
    enum status s = reader_keys(r, pattern, regex ? "Regex" : "String");
    if (s || (s = reader_string(r, pattern, regex ? "Regex" : "String", &text, &n)))
        return s;
    if (n > PATTERN_BYTES_MAX)
        return reader_refuse(r, "a pattern of %zu bytes, at most %d are read", n,
                             PATTERN_BYTES_MAX);
    struct pattern *p = new_pattern(r);
    if (!p)
        return reader_memory(r);
    *out = p;
    if (regex || !n) // the empty literal is found at every place, as the empty regex is
        return read_regex(r, p, text, n);
    p->literal = text;
    p->len = n;
    return ST_OK;
}

void pattern_free_all(struct pattern *list)
{
    for (; list; list = list->next)
        pcre2_code_free(list->code);
}

void matcher_open(struct matcher *m, size_t len, struct error *err)
{
    *m = (struct matcher){.steps = (uint64_t)len * 64 + (1u << 24), .err = err};
}

void matcher_close(struct matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    m->data = m->context = NULL;
}

/* One search from `from` on; *found false: nothing more. */
static enum status search(const struct pattern *p, struct matcher *m, const char *text, size_t n,
                          size_t from, bool *found)
{
    uint32_t options = PCRE2_NO_UTF_CHECK, limit = FIRST_LIMIT;
    for (;;) {
        pcre2_set_match_limit(m->context, limit);
        int rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, from, options, m->data, m->context);
        *found = rc >= 0;
        switch (rc) {
        case PCRE2_ERROR_NOMATCH:
            return ST_OK;
        case PCRE2_ERROR_JIT_STACKLIMIT: // the interpreter keeps its frames on the heap
            options |= PCRE2_NO_JIT;
            break;
        case PCRE2_ERROR_MATCHLIMIT:
            if (m->steps < limit || limit >= LAST_LIMIT)
                return error_set(m->err, ST_INVALID_VALUE,
                                 "the text takes too many steps of the tokenizer's pattern");
            m->steps -= limit;
            limit *= 16;
            break;
        case PCRE2_ERROR_NOMEMORY:
            return error_memory(m->err, "matching a pattern");
        default:
            if (rc >= 0)
                return ST_OK;
            return error_set(m->err, ST_INVALID_VALUE,
                             "the text cannot be searched for the tokenizer's pattern (%d)", rc);
        }
    }
}

/* All regex matches. An empty match right behind the one before does not count. */
static enum status find_regex(const struct pattern *p, struct matcher *m, const char *text,
                              size_t n, size_t base, struct spans *out)
{
    if (!m->data && !(m->data = pcre2_match_data_create(1, NULL)))
        return error_memory(m->err, "matching a pattern");
    if (!m->context && !(m->context = pcre2_match_context_create(NULL)))
        return error_memory(m->err, "matching a pattern");
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
    size_t previous = 0, from = 0, last = SIZE_MAX;
    enum status s = ST_OK;
    bool found = true;
    while (from <= n && !(s = search(p, m, text, n, from, &found)) && found) {
        size_t start = v[0], end = v[1];
        if (start == end && end == last) {
            from = end + 1;
            while (from < n && ((unsigned char)text[from] & 0xC0) == 0x80)
                from++;
            continue;
        }
        if ((previous < start && !spans_push(out, base + previous, base + start, false)) ||
            !spans_push(out, base + start, base + end, true)) {
            s = error_memory(m->err, "cutting text");
            break;
        }
        previous = last = from = end;
    }
    if (!s && previous < n && !spans_push(out, base + previous, base + n, false))
        s = error_memory(m->err, "cutting text");
    return s;
}

static enum status find_literal(const struct pattern *p, struct matcher *m, const char *text,
                                size_t n, size_t base, struct spans *out)
{
    const char *at = text, *end = text + n, *hit;
    bool ok = true;
    while (ok && (hit = memmem(at, (size_t)(end - at), p->literal, p->len))) {
        size_t start = base + (size_t)(hit - text);
        if (hit > at)
            ok = spans_push(out, base + (size_t)(at - text), start, false);
        ok = ok && spans_push(out, start, start + p->len, true);
        at = hit + p->len;
    }
    if (ok && at < end)
        ok = spans_push(out, base + (size_t)(at - text), base + n, false);
    return ok ? ST_OK : error_memory(m->err, "cutting text");
}

enum status pattern_find(const struct pattern *p, struct matcher *m, const char *text, size_t n,
                         size_t base, struct spans *out)
{
    if (!n)
        return ST_OK;
    return p->code ? find_regex(p, m, text, n, base, out) : find_literal(p, m, text, n, base, out);
}
