/*
 * Owns ids to text, whole and as a stream. A stream keeps the decoder's stages and what they hold
 * (a few bytes), never the ids: a token costs the same wherever it comes.
 */
#include "core/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/parts.h"

/* What decoding sees of an id: an added token in its normalized form; false: nothing. */
static bool text_of(const struct tokenizer *t, int32_t id, bool skip_special, const char **text,
                    size_t *len)
{
    const struct added_token *token = added_of(&t->added, id);
    const struct vocabulary_row *row = vocabulary_row(&t->vocabulary, id);
    if ((!token && !row) || (token && token->skipped && skip_special))
        return false;
    *text = token ? token->form : row->text;
    *len = token ? token->form_len : row->len;
    return true;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                             bool skip_special, char **text, size_t *len, struct error *err)
{
    struct decoding d;
    const char *token;
    size_t token_len;
    *text = NULL;
    *len = 0;
    enum status s = decode_open(&d, &t->decoder, true, err);
    for (size_t i = 0; !s && i < n; i++) {
        if (text_of(t, ids[i], skip_special, &token, &token_len))
            s = decode_token(&d, token, token_len, err);
    }
    s = s ? s : decode_finish(&d, err);
    if (!s && !bytes_append(&d.out, "", 1))
        s = error_memory(err, "decoding");
    if (!s) {
        *text = d.out.v;
        *len = d.out.n - 1;
        d.out = (struct bytes){0};
    }
    decode_close(&d);
    return s;
}

struct token_stream {
    const struct tokenizer *tokenizer;
    bool skip_special;
    struct decoding decoding;
};

enum status token_stream_open(const struct tokenizer *t, bool skip_special,
                              struct token_stream **out, struct error *err)
{
    *out = NULL;
    struct token_stream *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "opening a stream");
    s->tokenizer = t;
    s->skip_special = skip_special;
    enum status status = decode_open(&s->decoding, &t->decoder, false, err);
    if (status) {
        token_stream_close(s);
        return status;
    }
    *out = s;
    return ST_OK;
}

static void give(struct token_stream *s, const char **piece, size_t *len)
{
    *piece = s->decoding.out.n ? s->decoding.out.v : "";
    *len = s->decoding.out.n;
}

enum status token_stream_push(struct token_stream *s, int32_t id, const char **piece, size_t *len,
                              struct error *err)
{
    const char *text;
    size_t n;
    enum status status = ST_OK;
    s->decoding.out.n = 0;
    if (text_of(s->tokenizer, id, s->skip_special, &text, &n))
        status = decode_token(&s->decoding, text, n, err);
    give(s, piece, len);
    return status;
}

enum status token_stream_flush(struct token_stream *s, const char **piece, size_t *len,
                               struct error *err)
{
    s->decoding.out.n = 0;
    enum status status = decode_finish(&s->decoding, err);
    give(s, piece, len);
    return status;
}

void token_stream_close(struct token_stream *s)
{
    if (!s)
        return;
    decode_close(&s->decoding);
    free(s);
}
