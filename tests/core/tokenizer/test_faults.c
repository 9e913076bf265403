/* Every allocation fails once: no crash, no leak, the right status, and what was there stays. A
 * failure that the callee can do without (a sort's scratch, compiled code of a pattern) may leave
 * the result as it should be. */
#include "tests/core/tokenizer/cases.h"
#include "tests/core/tokenizer/small.h"
#include "tests/faults/fault.h"

#define TOKEN(id, content, flags)                                                                  \
    "{\"id\":" id ",\"content\":\"" content "\"," flags ",\"normalized\":true,\"special\":true}"

static const struct small full = {
    .added = "[" TOKEN("6", "<x>", "\"single_word\":true,\"lstrip\":true,\"rstrip\":false") "]",
    .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
                  "\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
                  "\"strip_accents\":true,\"lowercase\":true},{\"type\":\"Prepend\",\"prepend\":"
                  "\"ab\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[\\\\s&&[^ ]]b?\"},"
                  "\"content\":\"-\"}]}",
    .pre_tokenizer =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Whitespace\"},{\"type\":"
        "\"Punctuation\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true}]"
        "}",
    .post_processor = "{\"type\":\"BertProcessing\",\"sep\":[\"a\",1],\"cls\":[\"b\",2]}",
    .decoder =
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
        "\"-+\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
        "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}"};

START_TEST(load)
{
    char *text = small_json(full);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct tokenizer *t = NULL;
        struct error err = ERROR_INIT;
        enum status s = tokenizer_parse(text, strlen(text), "f", &t, &err);
        bool fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "%ld: %s", n, err.text);
        ck_assert(!t == (s != ST_OK));
        tokenizer_free(t);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    free(text);
}
END_TEST

/* The text with itself. */
static void use_pair(const struct tokenizer *t, const char *text)
{
    const struct text_pair both = {text, text, strlen(text), strlen(text)};
    struct token_ids right = {0}, right_types = {0};
    ck_assert_int_eq(tokenizer_encode_pair(t, &both, true, &right, &right_types, NULL), ST_OK);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct token_ids ids = {0}, types = {0};
        enum status s = tokenizer_encode_pair(t, &both, true, &ids, &types, NULL);
        bool fired = fault_disarm();
        ck_assert(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY));
        ck_assert_uint_eq(ids.n, s ? 0 : right.n);
        ck_assert_uint_eq(types.n, ids.n);
        token_ids_free(&ids);
        token_ids_free(&types);
        ck_assert_int_eq(fault_live(), before);
    }
    token_ids_free(&right);
    token_ids_free(&right_types);
}

/* Encodes text, decodes what came out and streams it, each call under faults. */
static void use(const struct tokenizer *t, const char *text)
{
    struct token_ids right = {0};
    use_pair(t, text);
    ck_assert_int_eq(tokenizer_encode(t, text, strlen(text), true, &right, NULL), ST_OK);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct token_ids ids = {0};
        enum status s = tokenizer_encode(t, text, strlen(text), true, &ids, NULL);
        bool fired = fault_disarm();
        ck_assert(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY));
        ck_assert_uint_eq(ids.n, s ? 0 : right.n);
        ck_assert(!ids.n || !memcmp(ids.v, right.v, ids.n * sizeof *ids.v));
        token_ids_free(&ids);
        ck_assert_int_eq(fault_live(), before);
    }
    FAULT_EACH(n)
    {
        long before = fault_live();
        char *decoded;
        size_t len;
        enum status s = tokenizer_decode(t, right.v, right.n, false, &decoded, &len, NULL);
        bool fired = fault_disarm();
        ck_assert(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY));
        ck_assert(!decoded == (s != ST_OK));
        free(decoded);
        ck_assert_int_eq(fault_live(), before);
    }
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct token_stream *stream = NULL;
        const char *piece;
        size_t len;
        enum status s = token_stream_open(t, true, &stream, NULL);
        for (size_t i = 0; !s && i < right.n; i++)
            s = token_stream_push(stream, right.v[i], &piece, &len, NULL);
        s = s ? s : token_stream_flush(stream, &piece, &len, NULL);
        bool fired = fault_disarm();
        ck_assert(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY));
        token_stream_close(stream);
        ck_assert_int_eq(fault_live(), before);
    }
    token_ids_free(&right);
}

START_TEST(small_file)
{
    struct tokenizer *t;
    struct error err = ERROR_INIT;
    ck_assert_msg(small_parse(full, &t, &err) == ST_OK, "%s", err.text);
    use(t, "ab <x> \tb\xE4\xB8\xAD-a\xC3\xA9 \xEF\xAC\x81");
    tokenizer_free(t);
}
END_TEST

static const char *const names[] = {"llama3", "llama2", "bert-uncased", "t5"};

START_TEST(golden)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizers/%s", test_vectors(), names[_i]);
    struct tokenizer *t = cases_load(path);
    use(t, "It's  1234 o'clock, \xC3\xA9t\xC3\xA9 e\xCC\x81 \xE4\xB8\xAD\xE6\x96\x87 "
           "\xF0\x9F\x98\x80 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa <s>.");
    tokenizer_free(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/faults");
    TCase *c = tcase_create("faults");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, load);
    tcase_add_test(c, small_file);
    tcase_add_loop_test(c, golden, 0, sizeof names / sizeof names[0]);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
