/*
 * Owns decoding. In the reference every decoder maps a list of tokens to a list of tokens, and the
 * last list is joined. Here the same maps are stages that pass parts of tokens on as soon as their
 * place in the text is certain: a part says whether it begins and whether it ends a token, so that
 * a stage behind Fuse, for which all text is one token, still works piece by piece.
 *
 *   token --Replace--> token --ByteFallback--> parts --Fuse--> parts of one token --Strip--> text
 *
 * What a stage must see whole (Replace, WordPiece) it collects. What later bytes may still change
 * is held: an unfinished character, spaces that Strip may take off the end, the end of a word for
 * BPEDecoder. `whole` matters only for ByteFallback: a run of byte tokens that is not valid UTF-8
 * is one U+FFFD per byte, but a stream has shown the characters at its start already; it then goes
 * on behind them.
 */
#include "core/tokenizer/decode.h"

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/bytelevel.h"
#include "core/utf8.h"

#define STAGES_MAX 32
#define STRIP_MAX  255

enum kind { JOIN, BYTE_LEVEL, BYTE_FALLBACK, REPLACE, FUSE, STRIP, METASPACE, WORDPIECE, BPE };

struct decode_stage {
    enum kind kind;
    const struct pattern *pattern; /* REPLACE */
    const char *text;              /* REPLACE: what stands in; WORDPIECE: prefix; BPE: suffix */
    size_t len;
    uint32_t character; /* STRIP, METASPACE */
    size_t start, stop; /* STRIP */
    bool keep_first;    /* METASPACE: the first token's marks are spaces too */
    bool cleanup;       /* WORDPIECE */
};

struct decode_state {
    struct bytes token; /* parts of the token that is being collected */
    struct bytes hold, made;
    size_t tokens;  /* begun */
    size_t count;   /* STRIP: characters taken off this token's start */
    bool open;      /* a token of the next stage has begun and not ended */
    bool good, bad; /* BYTE_FALLBACK: what the run has shown so far */
    bool done;      /* STRIP: this token's start is behind us */
    struct spans spans;
};

static enum status read_replace(struct reader *r, const json_t *c, struct decode_stage *stage)
{
    enum status s = reader_keys(r, c, "type pattern content");
    s = s ? s : reader_string(r, c, "content", &stage->text, &stage->len);
    return s ? s : pattern_read(r, json_object_get(c, "pattern"), &stage->pattern);
}

static enum status read_strip(struct reader *r, const json_t *c, struct decode_stage *stage)
{
    long long start, stop;
    enum status s = reader_keys(r, c, "type content start stop");
    if (s || (s = reader_char(r, c, "content", &stage->character)) ||
        (s = reader_integer(r, c, "start", 0, STRIP_MAX, &start)) ||
        (s = reader_integer(r, c, "stop", 0, STRIP_MAX, &stop)))
        return s;
    stage->start = (size_t)start;
    stage->stop = (size_t)stop;
    return ST_OK;
}

static enum status read_metaspace(struct reader *r, const json_t *c, struct decode_stage *stage)
{
    const char *scheme = json_string_value(json_object_get(c, "prepend_scheme"));
    bool prefix;
    enum status s = reader_keys(r, c,
                                "type replacement prepend_scheme split add_prefix_space "
                                "str_rep");
    s = s ? s : reader_char(r, c, "replacement", &stage->character);
    s = s ? s : reader_bool(r, c, "add_prefix_space", true, &prefix);
    if (s)
        return s;
    stage->keep_first = scheme ? !strcmp(scheme, "never") : !prefix;
    if (scheme && strcmp(scheme, "never") && strcmp(scheme, "first") && strcmp(scheme, "always"))
        return reader_refuse(r, "prepend_scheme \"%.64s\" is not known", scheme);
    if (json_object_get(c, "prepend_scheme") && (!scheme || (!prefix && !stage->keep_first)))
        return reader_refuse(r, "prepend_scheme is no text or contradicts add_prefix_space");
    return ST_OK;
}

static enum status read_stage(struct reader *r, const json_t *c, const char *type, void *to)
{
    struct decoder *d = to;
    struct decode_stage *stage = &d->stages[d->n];
    enum status s;
    if (d->n == STAGES_MAX)
        return reader_refuse(r, "more than %d stages", STAGES_MAX);
    d->n++;
    if (!strcmp(type, "ByteLevel")) {
        stage->kind = BYTE_LEVEL;
        return reader_keys(r, c, "type add_prefix_space trim_offsets use_regex");
    }
    if (!strcmp(type, "ByteFallback") || !strcmp(type, "Fuse")) {
        stage->kind = type[0] == 'F' ? FUSE : BYTE_FALLBACK;
        return reader_keys(r, c, "type");
    }
    if (!strcmp(type, "Replace")) {
        stage->kind = REPLACE;
        return read_replace(r, c, stage);
    }
    if (!strcmp(type, "Strip")) {
        stage->kind = STRIP;
        return read_strip(r, c, stage);
    }
    if (!strcmp(type, "Metaspace")) {
        stage->kind = METASPACE;
        return read_metaspace(r, c, stage);
    }
    if (!strcmp(type, "WordPiece")) {
        stage->kind = WORDPIECE;
        s = reader_keys(r, c, "type prefix cleanup");
        s = s ? s : reader_string(r, c, "prefix", &stage->text, &stage->len);
        return s ? s : reader_flag(r, c, "cleanup", &stage->cleanup);
    }
    if (!strcmp(type, "BPEDecoder")) {
        stage->kind = BPE;
        s = reader_keys(r, c, "type suffix");
        s = s ? s : reader_string(r, c, "suffix", &stage->text, &stage->len);
        return s || stage->len ? s : reader_refuse(r, "an empty suffix is not supported");
    }
    return reader_refuse(r, "this decoder is not supported");
}

enum status decode_read(struct reader *r, const json_t *component, struct decoder *out)
{
    *out = (struct decoder){.stages = arena_alloc(r->arena, STAGES_MAX * sizeof *out->stages)};
    if (!out->stages)
        return reader_memory(r);
    if (component && !json_is_null(component))
        return reader_each(r, "decoder", "decoders", component, read_stage, out);
    out->n = 1;
    out->stages[0].kind = JOIN;
    return ST_OK;
}

/* A part of a token on its way from stage to stage. */
struct part {
    const char *v;
    size_t n;
    bool begins, ends;
};

static bool push(struct decoding *d, size_t i, struct part p);

/* Passes text on as a part of the one token that this stage makes. */
static bool pass(struct decoding *d, size_t i, const char *v, size_t n)
{
    struct decode_state *s = &d->states[i];
    bool begins = !s->open;
    s->open = true;
    return push(d, i + 1, (struct part){v, n, begins, false});
}

/* Ends that token. */
static bool end(struct decoding *d, size_t i)
{
    struct decode_state *s = &d->states[i];
    if (!s->open)
        return true;
    s->open = false;
    return push(d, i + 1, (struct part){"", 0, false, true});
}

/* Moves the whole characters (and bad parts, as U+FFFD) from the front of hold to made. */
static bool take_characters(struct decode_state *s, bool last)
{
    size_t at = 0, len;
    s->made.n = 0;
    while (at < s->hold.n) {
        enum utf8 found = utf8_scan(s->hold.v + at, s->hold.n - at, &len);
        if (found == UTF8_PARTIAL && !last)
            break;
        bool ok = found == UTF8_GOOD ? bytes_append(&s->made, s->hold.v + at, len)
                                     : bytes_append_string(&s->made, UTF8_REPLACEMENT);
        if (!ok)
            return false;
        at += len;
    }
    bytes_drop(&s->hold, at);
    return true;
}

static bool byte_level(struct decoding *d, size_t i, struct part p)
{
    struct decode_state *s = &d->states[i];
    return bytelevel_decode(p.v, p.n, &s->hold) && take_characters(s, false) &&
           pass(d, i, s->made.v, s->made.n);
}

/* The byte of <0xXX>, -1 if the token is no such thing. */
static int byte_token(const char *v, size_t n)
{
    int value = 0;
    if (n != 6 || memcmp(v, "<0x", 3) || v[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = v[i], lower = (char)(c | 32);
        if (c >= '0' && c <= '9')
            value = value * 16 + c - '0';
        else if (lower >= 'a' && lower <= 'f')
            value = value * 16 + lower - 'a' + 10;
        else if (i > 3 || c != '+') // "+A" is a number to the reference, too
            return -1;
    }
    return value;
}

static bool pass_bad(struct decoding *d, size_t i, size_t n)
{
    for (; n; n--) {
        if (!pass(d, i, UTF8_REPLACEMENT, 3))
            return false;
    }
    return true;
}

/* Shows what is certain of a run of bytes; last: the run has ended. */
static bool show_run(struct decoding *d, size_t i, bool last)
{
    struct decode_state *s = &d->states[i];
    size_t at = 0, len;
    while (at < s->hold.n) {
        enum utf8 found = utf8_scan(s->hold.v + at, s->hold.n - at, &len);
        bool condemned = s->bad && !s->good;
        if (found == UTF8_PARTIAL && !last)
            break;
        if (found == UTF8_GOOD && !condemned) {
            s->good = true;
            if (!pass(d, i, s->hold.v + at, len))
                return false;
        } else {
            s->bad = true;
            if (!pass_bad(d, i, len))
                return false;
        }
        at += len;
    }
    bytes_drop(&s->hold, at);
    return true;
}

static bool end_run(struct decoding *d, size_t i)
{
    struct decode_state *s = &d->states[i];
    bool ok;
    if (d->whole) {
        size_t n = s->hold.n;
        ok = !n || (utf8_valid(s->hold.v, n) ? pass(d, i, s->hold.v, n) : pass_bad(d, i, n));
        s->hold.n = 0;
    } else {
        ok = show_run(d, i, true);
    }
    s->good = s->bad = false;
    return ok && end(d, i);
}

static bool byte_fallback(struct decoding *d, size_t i, struct part p)
{
    struct decode_state *s = &d->states[i];
    int byte = byte_token(p.v, p.n);
    if (byte < 0)
        return end_run(d, i) && push(d, i + 1, p);
    char c = (char)byte;
    return bytes_append(&s->hold, &c, 1) && (d->whole || show_run(d, i, false));
}

/* text with every match replaced, in made; false: *status says why, or no memory. */
static bool replaced(const struct decode_stage *stage, struct matcher *m, const char *text,
                     size_t n, size_t max, struct spans *spans, struct bytes *made,
                     enum status *status)
{
    spans->n = made->n = 0;
    *status = pattern_find(stage->pattern, m, text, n, 0, spans);
    bool ok = !*status;
    for (size_t k = 0; ok && k < spans->n; k++) {
        const struct span *x = &spans->v[k];
        ok = x->flag ? bytes_append(made, stage->text, stage->len)
                     : bytes_append(made, text + x->start, x->end - x->start);
        if (made->n > max) {
            *status = error_set(m->err, ST_INVALID_VALUE,
                                "the tokenizer's decoder makes a token too long");
            return false;
        }
    }
    return ok;
}

static bool replace(struct decoding *d, size_t i, struct part p)
{
    struct decode_state *s = &d->states[i];
    return replaced(&d->decoder->stages[i], &d->matcher, p.v, p.n, bytes_growth_max(d->fed),
                    &s->spans, &s->made, &d->status) &&
           push(d, i + 1, (struct part){s->made.v, s->made.n, true, true});
}

/* Takes up to `start` characters off the front, holds up to `stop` at the back. */
static bool strip(struct decoding *d, size_t i, struct part p)
{
    const struct decode_stage *stage = &d->decoder->stages[i];
    struct decode_state *s = &d->states[i];
    char c[4];
    size_t n = utf8_write(stage->character, c), at = 0;
    if (p.begins) {
        s->count = 0;
        s->done = false;
        s->hold.n = 0;
    }
    while (!s->done && at < p.n) {
        s->done = s->count == stage->start || p.n - at < n || memcmp(p.v + at, c, n);
        if (s->done)
            break;
        s->count++;
        at += n;
    }
    if (!stage->stop)
        return push(d, i + 1, (struct part){p.v + at, p.n - at, p.begins, p.ends});
    if (!bytes_append(&s->hold, p.v + at, p.n - at))
        return false;
    size_t keep = s->hold.n, held = 0;
    while (held < stage->stop && keep >= n && !memcmp(s->hold.v + keep - n, c, n)) {
        keep -= n;
        held++;
    }
    if (!push(d, i + 1, (struct part){s->hold.v, keep, p.begins, p.ends}))
        return false;
    bytes_drop(&s->hold, keep);
    return true;
}

static bool metaspace(struct decoding *d, size_t i, struct part p)
{
    const struct decode_stage *stage = &d->decoder->stages[i];
    struct decode_state *s = &d->states[i];
    bool first = s->tokens == 1 && !stage->keep_first;
    s->made.n = 0;
    for (size_t at = 0, len; at < p.n; at += len) {
        uint32_t c = utf8_read(p.v + at, &len);
        bool ok = true;
        if (c != stage->character)
            ok = bytes_append(&s->made, p.v + at, len);
        else if (!first)
            ok = bytes_append(&s->made, " ", 1);
        if (!ok)
            return false;
    }
    return push(d, i + 1, (struct part){s->made.v, s->made.n, p.begins, p.ends});
}

/* Every `from` in text becomes `to`, which is not longer. */
static void replace_all(struct bytes *text, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to), left = 0, at = 0;
    while (at < text->n) {
        bool hit = text->n - at >= n && !memcmp(text->v + at, from, n);
        memmove(text->v + left, hit ? to : text->v + at, hit ? m : 1);
        left += hit ? m : 1;
        at += hit ? n : 1;
    }
    text->n = left;
}

static bool wordpiece(struct decoding *d, size_t i, struct part p)
{
    static const char *const cleanups[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    const struct decode_stage *stage = &d->decoder->stages[i];
    struct decode_state *s = &d->states[i];
    s->made.n = 0;
    size_t cut = 0;
    bool ok = true;
    if (s->tokens > 1 && p.n >= stage->len && !memcmp(p.v, stage->text, stage->len))
        cut = stage->len;
    else if (s->tokens > 1)
        ok = bytes_append(&s->made, " ", 1);
    ok = ok && bytes_append(&s->made, p.v + cut, p.n - cut);
    for (size_t k = 0; ok && stage->cleanup && k < sizeof cleanups / sizeof cleanups[0]; k++)
        replace_all(&s->made, cleanups[k][0], cleanups[k][1]);
    return ok && push(d, i + 1, (struct part){s->made.v, s->made.n, true, true});
}

/* Moves hold to made, each suffix in it written as `to`. */
static bool suffixes(struct decode_state *s, const struct decode_stage *stage, const char *to)
{
    size_t at = 0;
    s->made.n = 0;
    while (at < s->hold.n) {
        const char *v = s->hold.v + at, *hit = memmem(v, s->hold.n - at, stage->text, stage->len);
        size_t n = hit ? (size_t)(hit - v) : s->hold.n - at;
        if (!bytes_append(&s->made, v, n) || (hit && !bytes_append_string(&s->made, to)))
            return false;
        at += n + (hit ? stage->len : 0);
    }
    s->hold.n = 0;
    return true;
}

/* A token with a suffix waits: the last one's is nothing, any other's a space. */
static bool bpe(struct decoding *d, size_t i, struct part p)
{
    const struct decode_stage *stage = &d->decoder->stages[i];
    struct decode_state *s = &d->states[i];
    if (s->hold.n && !(suffixes(s, stage, " ") &&
                       push(d, i + 1, (struct part){s->made.v, s->made.n, false, true})))
        return false;
    const char *hit = memmem(p.v, p.n, stage->text, stage->len);
    size_t n = hit ? (size_t)(hit - p.v) : p.n;
    return bytes_append(&s->hold, p.v + n, p.n - n) &&
           push(d, i + 1, (struct part){p.v, n, true, !hit});
}

static bool join(struct decoding *d, size_t i, struct part p)
{
    bool between = p.begins && d->states[i].tokens > 1;
    return (!between || push(d, i + 1, (struct part){" ", 1, true, true})) && push(d, i + 1, p);
}

static bool run(struct decoding *d, size_t i, struct part p)
{
    switch (d->decoder->stages[i].kind) {
    case JOIN:
        return join(d, i, p);
    case BYTE_LEVEL:
        return byte_level(d, i, p);
    case BYTE_FALLBACK:
        return byte_fallback(d, i, p);
    case REPLACE:
        return replace(d, i, p);
    case FUSE:
        return pass(d, i, p.v, p.n);
    case STRIP:
        return strip(d, i, p);
    case METASPACE:
        return metaspace(d, i, p);
    case WORDPIECE:
        return wordpiece(d, i, p);
    default:
        return bpe(d, i, p);
    }
}

static bool needs_whole(enum kind kind)
{
    return kind == BYTE_LEVEL || kind == BYTE_FALLBACK || kind == REPLACE || kind == WORDPIECE ||
           kind == BPE;
}

/* Hands a part to stage i; behind the last one it is text. */
static bool push(struct decoding *d, size_t i, struct part p)
{
    if (i == d->decoder->n)
        return bytes_append(&d->out, p.v, p.n);
    struct decode_state *s = &d->states[i];
    s->tokens += p.begins;
    if (!needs_whole(d->decoder->stages[i].kind) || (p.begins && p.ends))
        return run(d, i, p);
    struct bytes *token = &s->token;
    if (p.begins)
        token->n = 0;
    if (!bytes_append(token, p.v, p.n))
        return false;
    return !p.ends || run(d, i, (struct part){token->v ? token->v : "", token->n, true, true});
}

static bool finish(struct decoding *d, size_t i)
{
    const struct decode_stage *stage = &d->decoder->stages[i];
    struct decode_state *s = &d->states[i];
    switch (stage->kind) {
    case BYTE_LEVEL:
        return take_characters(s, true) && (!s->made.n || pass(d, i, s->made.v, s->made.n)) &&
               end(d, i);
    case BYTE_FALLBACK:
        return end_run(d, i);
    case FUSE:
        return end(d, i);
    case BPE:
        return !s->hold.n || (suffixes(s, stage, "") &&
                              push(d, i + 1, (struct part){s->made.v, s->made.n, false, true}));
    default:
        return true;
    }
}

enum status decode_open(struct decoding *d, const struct decoder *decoder, bool whole,
                        struct error *err)
{
    *d = (struct decoding){.decoder = decoder, .whole = whole};
    matcher_open(&d->matcher, 0, err);
    d->states = calloc(decoder->n + 1, sizeof *d->states);
    return d->states ? ST_OK : error_memory(err, "decoding");
}

static enum status outcome(struct decoding *d, bool ok, struct error *err)
{
    if (ok)
        return ST_OK;
    if (!d->status)
        d->status = error_memory(err, "decoding");
    return d->status;
}

enum status decode_token(struct decoding *d, const char *text, size_t n, struct error *err)
{
    d->matcher.err = err;
    d->matcher.steps += 64 * (uint64_t)n;
    d->fed += n;
    return d->status ? d->status : outcome(d, push(d, 0, (struct part){text, n, true, true}), err);
}

enum status decode_finish(struct decoding *d, struct error *err)
{
    d->matcher.err = err;
    for (size_t i = 0; i < d->decoder->n && !d->status; i++)
        outcome(d, finish(d, i), err);
    return d->status;
}

void decode_close(struct decoding *d)
{
    for (size_t i = 0; d->states && i < d->decoder->n; i++) {
        bytes_free(&d->states[i].token);
        bytes_free(&d->states[i].hold);
        bytes_free(&d->states[i].made);
        spans_free(&d->states[i].spans);
    }
    free(d->states);
    bytes_free(&d->out);
    matcher_close(&d->matcher);
    d->states = NULL;
}

/* ---- one token by itself ---- */

/* Behind other tokens a Metaspace mark is a space, whatever the first token's is. */
static bool marks_to_spaces(const struct decode_stage *stage, const struct bytes *from,
                            struct bytes *to)
{
    bool ok = true;
    for (size_t at = 0, len; at < from->n && ok; at += len) {
        uint32_t c = utf8_read(from->v + at, &len);
        ok = c == stage->character ? bytes_append(to, " ", 1) : bytes_append(to, from->v + at, len);
    }
    return ok;
}

/* from -> to by one stage; *bytes: they are bytes now, no text. */
static bool stage_bytes(const struct decode_stage *stage, struct matcher *m,
                        const struct bytes *from, struct bytes *to, bool *bytes,
                        enum status *status)
{
    struct spans spans = {0};
    int byte = byte_token(from->v, from->n);
    char c = (char)byte;
    bool ok,
        cut = from->n >= stage->len && stage->text && !memcmp(from->v, stage->text, stage->len);
    switch (stage->kind) {
    case BYTE_LEVEL:
        *bytes = true;
        return bytelevel_decode(from->v, from->n, to);
    case BYTE_FALLBACK:
        *bytes = byte >= 0;
        return byte >= 0 ? bytes_append(to, &c, 1) : bytes_append(to, from->v, from->n);
    case REPLACE:
        ok = replaced(stage, m, from->v, from->n, bytes_growth_max(from->n), &spans, to, status);
        spans_free(&spans);
        return ok;
    case METASPACE:
        return marks_to_spaces(stage, from, to);
    case WORDPIECE:
        return (cut || bytes_append(to, " ", 1)) &&
               bytes_append(to, from->v + (cut ? stage->len : 0), from->n - (cut ? stage->len : 0));
    case JOIN:
        return bytes_append(to, " ", 1) && bytes_append(to, from->v, from->n);
    default:
        return bytes_append(to, from->v, from->n);
    }
}

enum status decode_bytes(const struct decoder *decoder, const char *text, size_t n,
                         struct bytes *out, struct error *err)
{
    struct bytes from = {0}, to = {0};
    struct matcher m;
    enum status s = ST_OK;
    bool bytes = false, ok = bytes_append(&from, text, n);
    matcher_open(&m, n, err);
    for (size_t i = 0; i < decoder->n && ok && !s && !bytes; i++) {
        const struct decode_stage *stage = &decoder->stages[i];
        if (stage->kind == BPE || (stage->kind == STRIP && stage->stop) ||
            (stage->kind == WORDPIECE && stage->cleanup))
            s = error_set(err, ST_NOT_SUPPORTED,
                          "with this tokenizer's decoder a token's text depends on its neighbours");
        to.n = 0;
        ok = s || stage_bytes(stage, &m, &from, &to, &bytes, &s);
        bytes_swap(&from, &to);
    }
    ok = ok && !s && bytes_append(out, from.v, from.n);
    matcher_close(&m);
    bytes_free(&from);
    bytes_free(&to);
    return s || ok ? s : error_memory(err, "reading a token");
}
