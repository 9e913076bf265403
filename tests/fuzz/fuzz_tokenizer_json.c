/*
 * tokenizer.json and, behind a line "---", a text from outside. What loads must encode any valid
 * text or say why not, and decode what came out; a stream gives the same text, but where a run of
 * byte tokens turns bad.
 */
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 4096

static void stream(const struct tokenizer *t, const struct token_ids *ids, const char *whole,
                   size_t whole_len)
{
    struct token_stream *s;
    const char *piece;
    size_t len, used = 0;
    bool same = true;
    if (token_stream_open(t, false, &s, NULL))
        return;
    for (size_t i = 0; i <= ids->n; i++) {
        enum status status = i < ids->n ? token_stream_push(s, ids->v[i], &piece, &len, NULL)
                                        : token_stream_flush(s, &piece, &len, NULL);
        fuzz_check(!status);
        same = same && used + len <= whole_len && !memcmp(whole + used, piece, len);
        used += len;
    }
    token_stream_close(s);
    fuzz_check((same && used == whole_len) || memmem(whole, whole_len, "\xEF\xBF\xBD", 3));
}

static void use(const struct tokenizer *t, const char *text, size_t n)
{
    struct token_ids ids = {0};
    struct error err = ERROR_INIT;
    enum status s = tokenizer_encode(t, text, n, true, &ids, &err);
    fuzz_check(!s || s == ST_INVALID_VALUE);
    const struct text_pair halves = {text, text + n / 2, n / 2, n - n / 2};
    struct token_ids both = {0}, types = {0};
    s = tokenizer_encode_pair(t, &halves, true, &both, &types, &err);
    fuzz_check((!s || s == ST_INVALID_VALUE) && both.n == types.n);
    token_ids_free(&both);
    token_ids_free(&types);
    // what encoding did not fill: every small id, known or not
    for (int32_t i = -1; !ids.n && i < 300; i++) {
        fuzz_check(token_ids_push(&ids, i));
    }
    for (int skip = 0; skip < 2; skip++) {
        char *whole;
        size_t len;
        s = tokenizer_decode(t, ids.v, ids.n, skip, &whole, &len, NULL);
        fuzz_check(!s || s == ST_INVALID_VALUE);
        if (!s && !skip)
            stream(t, &ids, whole, len);
        free(whole);
    }
    error_clear(&err);
    token_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *part = (const uint8_t *)"", *rest = part;
    size_t n = 0, rest_len = 0;
    struct tokenizer *t;
    struct error err = ERROR_INIT;
    fuzz_part(&data, &size, &part, &n);
    fuzz_part(&data, &size, &rest, &rest_len);
    char *json = malloc(n + 1), *text = malloc(rest_len + 1); // so that a read beyond is seen
    fuzz_check(json && text);
    memcpy(json, part, n);
    memcpy(text, rest, rest_len);
    if (!tokenizer_parse(json, n, "tokenizer.json", &t, &err))
        use(t, text, rest_len < TEXT_MAX ? rest_len : TEXT_MAX);
    tokenizer_free(t);
    error_clear(&err);
    free(json);
    free(text);
    return 0;
}
