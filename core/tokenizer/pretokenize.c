/*
 * Owns the pre-tokenizers. A step either cuts (the text stays, pieces become more) or rewrites
 * (ByteLevel, Metaspace: the text is written anew, piece by piece). Every step sees each piece of
 * the step before by itself.
 *
 * A cutting step first divides a piece into matches and the stretches between, then its behaviour
 * decides what becomes of them:
 *
 *   a--b-   Isolated  a|-|-|b|-    Removed  a|b    Contiguous  a|--|b|-
 *           MergedWithPrevious  a-|-|b-            MergedWithNext  a|-|-b|-
 *
 * `invert` swaps matches and stretches.
 */
#include "core/tokenizer/pretokenize.h"

#include <string.h>

#include "core/tokenizer/bytelevel.h"
#include "core/tokenizer/unicode.h"
#include "core/utf8.h"

#define STEPS_MAX 64
#define GPT2_REGEX                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD       "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200C\\u200D"
#define WORD_REGEX "[" WORD "]+|[^" WORD "\\s]+"

enum behavior { ISOLATED, REMOVED, CONTIGUOUS, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT };
enum kind { SPLIT, SPACES, PUNCTUATION, NUMERIC, CHARACTER, PREFIX_SPACE, LETTERS, METASPACE };
enum scheme { ALWAYS, FIRST, NEVER };

struct pretokenize_step {
    enum kind kind;
    enum behavior behavior;
    const struct pattern *pattern; /* SPLIT */
    bool invert;
    uint32_t character; /* CHARACTER: what cuts; METASPACE: what stands for a space */
    enum scheme scheme; /* METASPACE */
};

static enum status add(struct reader *r, struct pretokenizer *t, struct pretokenize_step step)
{
    if (t->n == STEPS_MAX)
        return reader_refuse(r, "more than %d steps", STEPS_MAX);
    t->steps[t->n++] = step;
    return ST_OK;
}

static enum status read_behavior(struct reader *r, const json_t *c, enum behavior *out)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = json_string_value(json_object_get(c, "behavior"));
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++) {
        if (!strcmp(name, names[i])) {
            *out = (enum behavior)i;
            return ST_OK;
        }
    }
    return reader_refuse(r, "behavior \"%.64s\" is not known", name ? name : "");
}

static enum status read_byte_level(struct reader *r, const json_t *c, struct pretokenizer *t)
{
    bool prefix, regex, unused;
    struct pretokenize_step cut = {.kind = SPLIT, .behavior = ISOLATED};
    enum status s = reader_keys(r, c, "type add_prefix_space trim_offsets use_regex");
    if (s || (s = reader_flag(r, c, "add_prefix_space", &prefix)) ||
        (s = reader_bool(r, c, "trim_offsets", true, &unused)) ||
        (s = reader_bool(r, c, "use_regex", true, &regex)))
        return s;
    if (prefix)
        s = add(r, t, (struct pretokenize_step){.kind = PREFIX_SPACE});
    if (!s && regex) {
        s = pattern_own(r, GPT2_REGEX, &cut.pattern);
        s = s ? s : add(r, t, cut);
    }
    return s ? s : add(r, t, (struct pretokenize_step){.kind = LETTERS});
}

/* prepend_scheme, or its old spelling add_prefix_space. */
static enum status read_scheme(struct reader *r, const json_t *c, enum scheme *out)
{
    static const char *const names[] = {"always", "first", "never"};
    const json_t *scheme = json_object_get(c, "prepend_scheme");
    bool prefix;
    enum status s = reader_bool(r, c, "add_prefix_space", true, &prefix);
    *out = ALWAYS;
    if (s)
        return s;
    if (!scheme) {
        *out = prefix ? ALWAYS : NEVER;
        return ST_OK;
    }
    for (int i = 0; i < 3; i++) {
        if (json_is_string(scheme) && !strcmp(json_string_value(scheme), names[i])) {
            *out = (enum scheme)i;
            return prefix || i == NEVER
                       ? ST_OK
                       : reader_refuse(r, "add_prefix_space contradicts prepend_scheme");
        }
    }
    return reader_refuse(r, "prepend_scheme must be always, first or never");
}

static enum status read_metaspace(struct reader *r, const json_t *c, struct pretokenizer *t)
{
    struct pretokenize_step step = {.kind = METASPACE};
    bool split;
    enum status s = reader_keys(r, c,
                                "type replacement prepend_scheme split add_prefix_space "
                                "str_rep");
    if (s || (s = reader_char(r, c, "replacement", &step.character)) ||
        (s = read_scheme(r, c, &step.scheme)) || (s = reader_bool(r, c, "split", true, &split)) ||
        (s = add(r, t, step)) || !split)
        return s;
    step.kind = CHARACTER;
    step.behavior = MERGED_WITH_NEXT;
    return add(r, t, step);
}

static enum status read_split(struct reader *r, const json_t *c, struct pretokenizer *t)
{
    struct pretokenize_step step = {.kind = SPLIT};
    enum status s = reader_keys(r, c, "type pattern behavior invert");
    if (s || (s = read_behavior(r, c, &step.behavior)) ||
        (s = reader_flag(r, c, "invert", &step.invert)) ||
        (s = pattern_read(r, json_object_get(c, "pattern"), &step.pattern)))
        return s;
    return add(r, t, step);
}

static enum status read_step(struct reader *r, const json_t *c, const char *type, void *to)
{
    struct pretokenizer *t = to;
    struct pretokenize_step step = {0};
    enum status s;
    bool each;
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(r, c, t);
    if (!strcmp(type, "Split"))
        return read_split(r, c, t);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(r, c, t);
    if (!strcmp(type, "Digits")) {
        step.kind = NUMERIC;
        s = reader_keys(r, c, "type individual_digits");
        s = s ? s : reader_flag(r, c, "individual_digits", &each);
        step.behavior = !s && each ? ISOLATED : CONTIGUOUS;
    } else if (!strcmp(type, "Punctuation")) {
        step.kind = PUNCTUATION;
        s = reader_keys(r, c, "type behavior");
        if (!s && json_object_get(c, "behavior"))
            s = read_behavior(r, c, &step.behavior);
    } else if (!strcmp(type, "CharDelimiterSplit")) {
        step = (struct pretokenize_step){.kind = CHARACTER, .behavior = REMOVED};
        s = reader_keys(r, c, "type delimiter");
        s = s ? s : reader_char(r, c, "delimiter", &step.character);
    } else if (!strcmp(type, "WhitespaceSplit")) {
        step = (struct pretokenize_step){.kind = SPACES, .behavior = REMOVED};
        s = reader_keys(r, c, "type");
    } else if (!strcmp(type, "Whitespace")) {
        step = (struct pretokenize_step){.kind = SPLIT, .behavior = REMOVED, .invert = true};
        s = reader_keys(r, c, "type");
        s = s ? s : pattern_own(r, WORD_REGEX, &step.pattern);
    } else if (!strcmp(type, "BertPreTokenizer")) {
        s = reader_keys(r, c, "type");
        s = s ? s : add(r, t, (struct pretokenize_step){.kind = SPACES, .behavior = REMOVED});
        step = (struct pretokenize_step){.kind = PUNCTUATION, .behavior = ISOLATED};
    } else {
        s = reader_refuse(r, "this pre-tokenizer is not supported");
    }
    return s ? s : add(r, t, step);
}

enum status pretokenize_read(struct reader *r, const json_t *component, struct pretokenizer *out)
{
    *out = (struct pretokenizer){.steps = arena_alloc(r->arena, STEPS_MAX * sizeof *out->steps)};
    if (!out->steps)
        return reader_memory(r);
    return reader_each(r, "pre_tokenizer", "pretokenizers", component, read_step, out);
}

void pieces_free(struct pieces *p)
{
    bytes_free(&p->text);
    bytes_free(&p->spare);
    spans_free(&p->v);
    spans_free(&p->cuts);
    spans_free(&p->found);
}

static bool cuts_at(const struct pretokenize_step *step, uint32_t c)
{
    switch (step->kind) {
    case SPACES:
        return unicode_space(c);
    case PUNCTUATION:
        return unicode_punctuation(c);
    case NUMERIC:
        return unicode_numeric(c);
    default:
        return c == step->character;
    }
}

/* The characters that cut are matches, one by one. */
static bool find_characters(const struct pretokenize_step *step, const char *text,
                            struct span piece, struct spans *out)
{
    size_t since = piece.start, len;
    bool ok = true;
    for (size_t i = piece.start; ok && i < piece.end; i += len) {
        if (!cuts_at(step, utf8_read(text + i, &len)))
            continue;
        if (since < i)
            ok = spans_push(out, since, i, false);
        ok = ok && spans_push(out, i, i + len, true);
        since = i + len;
    }
    return ok && (since == piece.end || spans_push(out, since, piece.end, false));
}

/* Does span i of the list join its neighbour on the side that the behaviour looks at? */
static bool joins(enum behavior b, bool match, bool neighbour)
{
    return b == CONTIGUOUS ? match == neighbour : match && !neighbour;
}

/* What the behaviour makes of the matches and stretches of one piece. */
static bool apply(enum behavior b, const struct spans *found, struct span piece, struct spans *out)
{
    const struct span *v = found->v;
    for (size_t i = 0; i < found->n; i++) {
        size_t start = v[i].start, end = v[i].end;
        if (b == REMOVED && v[i].flag)
            continue;
        if (b == MERGED_WITH_NEXT) {
            if (i + 1 < found->n && joins(b, v[i].flag, v[i + 1].flag))
                end = v[++i].end;
        } else if (b == MERGED_WITH_PREVIOUS) {
            if (i + 1 < found->n && joins(b, v[i + 1].flag, v[i].flag))
                end = v[++i].end;
        } else if (b == CONTIGUOUS) {
            while (i + 1 < found->n && joins(b, v[i + 1].flag, v[i].flag))
                end = v[++i].end;
        }
        if (start < end && !spans_push(out, start, end, piece.flag && start == piece.start))
            return false;
    }
    return true;
}

static enum status cut(const struct pretokenize_step *step, struct matcher *m, struct pieces *p)
{
    p->cuts.n = 0;
    for (size_t i = 0; i < p->v.n; i++) {
        struct span piece = p->v.v[i];
        bool ok = true;
        p->found.n = 0;
        if (step->kind == SPLIT) {
            enum status s = pattern_find(step->pattern, m, p->text.v + piece.start,
                                         piece.end - piece.start, piece.start, &p->found);
            if (s)
                return s;
        } else {
            ok = find_characters(step, p->text.v, piece, &p->found);
        }
        for (size_t k = 0; step->invert && k < p->found.n; k++)
            p->found.v[k].flag = !p->found.v[k].flag;
        if (!ok || !apply(step->behavior, &p->found, piece, &p->cuts))
            return error_memory(m->err, "cutting text");
    }
    spans_swap(&p->v, &p->cuts);
    return ST_OK;
}

/* One piece with spaces replaced, and one put in front where the scheme wants it. */
static bool metaspace(const struct pretokenize_step *step, const char *text, struct span piece,
                      struct bytes *out)
{
    char mark[4];
    size_t len, n = utf8_write(step->character, mark), room = piece.end - piece.start;
    uint32_t first = utf8_read(text + piece.start, &len);
    bool there = first == ' ' || first == step->character;
    if (!there && (step->scheme == ALWAYS || (step->scheme == FIRST && piece.flag)) &&
        !bytes_append(out, mark, n))
        return false;
    if (room > SIZE_MAX / 4 || !bytes_reserve(out, 4 * room))
        return false;
    for (size_t i = piece.start; i < piece.end; i++) {
        if (text[i] != ' ') {
            out->v[out->n++] = text[i];
            continue;
        }
        memcpy(out->v + out->n, mark, n);
        out->n += n;
    }
    return true;
}

static enum status rewrite(const struct pretokenize_step *step, struct matcher *m, struct pieces *p)
{
    p->spare.n = 0;
    for (size_t i = 0; i < p->v.n; i++) {
        struct span *piece = &p->v.v[i];
        const char *v = p->text.v + piece->start;
        size_t n = piece->end - piece->start, start = p->spare.n;
        bool ok;
        if (step->kind == LETTERS)
            ok = bytelevel_encode(v, n, &p->spare);
        else if (step->kind == METASPACE)
            ok = metaspace(step, p->text.v, *piece, &p->spare);
        else
            ok = (v[0] == ' ' || bytes_append(&p->spare, " ", 1)) && bytes_append(&p->spare, v, n);
        if (!ok)
            return error_memory(m->err, "rewriting text");
        piece->start = start;
        piece->end = p->spare.n;
    }
    bytes_swap(&p->text, &p->spare);
    return ST_OK;
}

enum status pretokenize_run(const struct pretokenizer *t, struct matcher *m, const char *text,
                            size_t n, bool begins, struct pieces *p)
{
    p->text.n = p->v.n = 0;
    if (!n)
        return ST_OK;
    if (!bytes_append(&p->text, text, n) || !spans_push(&p->v, 0, n, begins))
        return error_memory(m->err, "cutting text");
    enum status s = ST_OK;
    for (size_t i = 0; !s && i < t->n; i++) {
        const struct pretokenize_step *step = &t->steps[i];
        s = step->kind >= PREFIX_SPACE ? rewrite(step, m, p) : cut(step, m, p);
        if (!s && p->text.n > bytes_growth_max(n))
            s = error_set(m->err, ST_INVALID_VALUE,
                          "the tokenizer's pre-tokenizer makes the text too long");
    }
    return s;
}
