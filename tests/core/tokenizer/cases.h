/*
 * Runs the cases of one golden tokenizer folder (tokenizer.json, cases.json: see the README of the
 * vectors) through the public functions.
 */
#ifndef OFTD_TESTS_CORE_TOKENIZER_CASES_H
#define OFTD_TESTS_CORE_TOKENIZER_CASES_H

#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"

static inline struct tokenizer *cases_load(const char *dir)
{
    struct tokenizer *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(tokenizer_load(dir, &t, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(t != NULL, "%s: no tokenizer.json", dir);
    return t;
}

static inline void cases_ids(const json_t *list, struct token_ids *out)
{
    out->n = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        ck_assert(token_ids_push(out, (int32_t)json_integer_value(json_array_get(list, i))));
}

static inline void cases_encode(const struct tokenizer *t, const json_t *c, const char *name,
                                size_t number)
{
    const json_t *base64 = json_object_get(c, "bytes_base64"), *ids = json_object_get(c, "ids");
    const char *text = json_string_value(json_object_get(c, "text"));
    size_t len = json_string_length(json_object_get(c, "text"));
    unsigned char bytes[256];
    struct token_ids got = {0}, want = {0};
    struct error err = ERROR_INIT;
    if (base64) {
        struct base64_decode_ctx decoder;
        len = sizeof bytes;
        base64_decode_init(&decoder);
        ck_assert(base64_decode_update(&decoder, &len, bytes, json_string_length(base64),
                                       json_string_value(base64)));
        text = (const char *)bytes;
    }
    enum status s =
        tokenizer_encode(t, text, len, json_is_true(json_object_get(c, "add_special")), &got, &err);
    if (json_is_null(ids)) {
        ck_assert_msg(s == ST_INVALID_VALUE && !got.n, "%s: encode %zu is not refused", name,
                      number);
    } else {
        ck_assert_msg(s == ST_OK, "%s: encode %zu: %s", name, number, err.text);
        cases_ids(ids, &want);
        size_t at = 0;
        while (at < got.n && at < want.n && got.v[at] == want.v[at])
            at++;
        ck_assert_msg(at == got.n && at == want.n,
                      "%s: encode %zu \"%.60s\": id %zu is %d, want %d (%zu ids, want %zu)", name,
                      number, text, at, at < got.n ? got.v[at] : -1, at < want.n ? want.v[at] : -1,
                      got.n, want.n);
    }
    error_clear(&err);
    token_ids_free(&got);
    token_ids_free(&want);
}

static inline void cases_same(const char *got, size_t len, const json_t *want, const char *name,
                              const char *what, size_t number)
{
    ck_assert_msg(len == json_string_length(want) && !memcmp(got, json_string_value(want), len),
                  "%s: %s %zu: \"%.*s\", want \"%s\"", name, what, number, (int)len, got,
                  json_string_value(want));
}

static inline void cases_decode(const struct tokenizer *t, const json_t *c, const char *name,
                                size_t number)
{
    struct token_ids ids = {0};
    char *text = NULL;
    size_t len;
    cases_ids(json_object_get(c, "ids"), &ids);
    ck_assert_int_eq(tokenizer_decode(t, ids.v, ids.n,
                                      json_is_true(json_object_get(c, "skip_special")), &text, &len,
                                      NULL),
                     ST_OK);
    cases_same(text, len, json_object_get(c, "text"), name, "decode", number);
    free(text);
    token_ids_free(&ids);
}

/* The pieces; and, for every case, that pieces and flush together are the decoding. */
static inline void cases_stream(const struct tokenizer *t, const json_t *c, const char *name,
                                size_t number)
{
    struct token_ids ids = {0};
    struct token_stream *s = NULL;
    const json_t *pieces = json_object_get(c, "pieces");
    bool skip = json_is_true(json_object_get(c, "skip_special"));
    const char *piece;
    char *whole = NULL, *together = NULL;
    size_t len, whole_len, used = 0;
    cases_ids(json_object_get(c, "ids"), &ids);
    ck_assert_int_eq(tokenizer_decode(t, ids.v, ids.n, skip, &whole, &whole_len, NULL), ST_OK);
    ck_assert_int_eq(token_stream_open(t, skip, &s, NULL), ST_OK);
    together = malloc(whole_len + 1);
    for (size_t i = 0; i <= ids.n; i++) {
        if (i < ids.n)
            ck_assert_int_eq(token_stream_push(s, ids.v[i], &piece, &len, NULL), ST_OK);
        else
            ck_assert_int_eq(token_stream_flush(s, &piece, &len, NULL), ST_OK);
        if (pieces)
            cases_same(piece, len,
                       i < ids.n ? json_array_get(pieces, i) : json_object_get(c, "flush"), name,
                       "stream", number);
        ck_assert_msg(used + len <= whole_len, "%s: stream %zu gives too much", name, number);
        memcpy(together + used, piece, len);
        used += len;
    }
    ck_assert_msg(used == whole_len && !memcmp(together, whole, used),
                  "%s: stream %zu is not the decoding", name, number);
    token_stream_close(s);
    free(together);
    free(whole);
    token_ids_free(&ids);
}

/* All cases of vectors/folder/name. */
static inline void cases_run(const char *folder, const char *name)
{
    char path[4096];
    json_t *cases = NULL;
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/%s/%s", test_vectors(), folder, name);
    struct tokenizer *t = cases_load(path);
    snprintf(path, sizeof path, "%s/%s/%s/cases.json", test_vectors(), folder, name);
    ck_assert_msg(json_read(path, (size_t)64 << 20, &cases, &err) == ST_OK, "%s", err.text);
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(cases, "encode"), i, c)
    {
        cases_encode(t, c, name, i);
    }
    json_array_foreach(json_object_get(cases, "decode"), i, c)
    {
        cases_decode(t, c, name, i);
        // a run of byte tokens may turn bad after a stream has shown its first characters
        bool takes_back = tokenizer_id(t, "<0x00>") >= 0 &&
                          strstr(json_string_value(json_object_get(c, "text")), "\uFFFD");
        if (!takes_back)
            cases_stream(t, c, name, i);
    }
    json_array_foreach(json_object_get(cases, "stream"), i, c)
    {
        cases_stream(t, c, name, i);
    }
    json_decref(cases);
    tokenizer_free(t);
}

#endif
