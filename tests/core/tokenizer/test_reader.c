/* What is not known stops the load, and the sentence names file, component and value. */
#include "tests/check_main.h"
#include "tests/core/tokenizer/small.h"

#define BPE "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
#define TOKEN(id, content, more)                                                                   \
    "[{\"id\":" id ",\"content\":\"" content                                                       \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"             \
    "\"special\":true" more "}]"
#define REGEX(r)                                                                                   \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" r "\"},\"behavior\":\"Isolated\","             \
    "\"invert\":false}"

static const struct {
    struct small file;
    const char *component, *value; /* both in the sentence */
} refused[] = {
    {{.model = "{\"type\":\"WordLevel\",\"vocab\":{}}"}, "model \"WordLevel\"", "not supported"},
    {{.model = "null"}, "model", "type"},
    {{.model = BPE "\"merges\":[],\"dropout\":0.1}"}, "model \"BPE\"", "dropout"},
    {{.model = BPE "\"merges\":[],\"novelty\":1}"}, "model \"BPE\"", "novelty"},
    {{.model = BPE "\"merges\":[[\"a\",\"c\"]]}"}, "model \"BPE\"", "merge 0"},
    {{.model = BPE "\"merges\":[\"a b a\"]}"}, "model \"BPE\"", "merge 0"},
    {{.model = BPE "\"merges\":[3]}"}, "model \"BPE\"", "merge 0"},
    {{.model = BPE "\"merges\":{}}"}, "model \"BPE\"", "merges"},
    {{.model = BPE "\"merges\":[],\"fuse_unk\":1}"}, "model \"BPE\"", "fuse_unk"},
    {{.model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0,\"b\":0}}"}, "BPE", "same id"},
    {{.model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":-1}}"}, "BPE", "-1"},
    {{.model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":16777216}}"}, "BPE", "16777216"},
    {{.model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":\"0\"}}"}, "BPE", "integer"},
    {{.model = "{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]]}"}, "Unigram", "score"},
    {{.model = "{\"type\":\"Unigram\",\"vocab\":[[\"a\",1]],\"unk_id\":1}"}, "Unigram", "unk_id"},
    {{.model = "{\"type\":\"Unigram\",\"vocab\":{}}"}, "Unigram", "array"},
    {{.model = "{\"type\":\"WordPiece\",\"vocab\":{},\"unk_token\":\"u\","
               "\"continuing_subword_prefix\":\"#\",\"max_input_chars_per_word\":1000000}"},
     "WordPiece",
     "max_input_chars_per_word"},
    {{.normalizer = "{\"type\":\"Transliterate\"}"}, "normalizer \"Transliterate\"", "supported"},
    {{.normalizer = "{\"type\":\"NFC\",\"form\":1}"}, "normalizer \"NFC\"", "form"},
    {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFX\"}]}"}, "NFX", "not"},
    {{.normalizer = "{\"type\":\"Strip\",\"strip_left\":true}"}, "Strip", "strip_right"},
    {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"},
     "Precompiled",
     "0"},
    {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"@\"}"}, "Pre", "base64"},
    {{.normalizer = "[]"}, "normalizer", "object"},
    {{.pre_tokenizer = "{\"type\":\"UnicodeScripts\"}"}, "pre_tokenizer \"UnicodeScripts\"", "not"},
    {{.pre_tokenizer = "{\"type\":\"FixedLength\",\"length\":5}"}, "FixedLength", "not supported"},
    {{.pre_tokenizer = "{\"type\":\"Punctuation\",\"behavior\":\"Gone\"}"}, "Punctuation", "Gone"},
    {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"Glob\":\"*\"},\"behavior\":"
                       "\"Isolated\",\"invert\":false}"},
     "Split",
     "Glob"},
    {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"__\"}"}, "Metaspace", "one char"},
    {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}"},
     "Metaspace",
     "prepend_scheme"},
    {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false,"
                       "\"prepend_scheme\":\"first\"}"},
     "Metaspace",
     "contradicts"},
    {{.pre_tokenizer = REGEX("(a)\\\\1")}, "Split", "byte 3"},
    {{.pre_tokenizer = REGEX("(?<name>a)")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("a(?i)b")}, "Split", "byte 1"},
    {{.pre_tokenizer = REGEX("[[:alpha:]]")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("\\\\p{Nonsense}")}, "Split", "\\p{Nonsense}"},
    {{.pre_tokenizer = REGEX("\\\\p{L")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("a{2}?")}, "Split", "byte 1"},
    {{.pre_tokenizer = REGEX("a{1,2}+")}, "Split", "byte 1"},
    {{.pre_tokenizer = REGEX("a**")}, "Split", "byte 1"},
    {{.pre_tokenizer = REGEX("[a")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("[z-a]")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("(a")}, "Split", "compile"},
    {{.pre_tokenizer = REGEX("\\\\G\\\\K\\\\X")}, "Split", "byte 0"},
    {{.pre_tokenizer = REGEX("(?:a{60000}){60000}")}, "Split", "compile"},
    {{.post_processor = "{\"type\":\"Custom\"}"}, "post_processor \"Custom\"", "not supported"},
    {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
                        "\"x\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}"},
     "TemplateProcessing",
     "\"x\""},
    {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\","
                        "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}"},
     "TemplateProcessing",
     "\"B\""},
    {{.post_processor = "{\"type\":\"BertProcessing\",\"sep\":[\"a\",1],\"cls\":[\"b\"]}"},
     "BertProcessing",
     "id"},
    {{.decoder = "{\"type\":\"CTC\",\"pad_token\":\"p\",\"word_delimiter_token\":\"|\","
                 "\"cleanup\":true}"},
     "decoder \"CTC\"",
     "not supported"},
    {{.decoder = "{\"type\":\"Fuse\",\"x\":1}"}, "decoder \"Fuse\"", "\"x\""},
    {{.decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"},
     "Strip",
     "start"},
    {{.decoder = "{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"b\"}"},
     "Replace",
     "object"},
    {{.added = TOKEN("7", "x", "")}, "added_tokens", "id 7, but its place gives 6"},
    {{.added = TOKEN("6", "a", "")}, "added_tokens", "id 6, but its place gives 1"},
    {{.added = TOKEN("6", "", "")}, "added_tokens", "0 bytes"},
    {{.added = TOKEN("6", "x", ",\"color\":1")}, "added_tokens", "color"},
    {{.added = "{}"}, "added_tokens", "array"},
};

START_TEST(refusals)
{
    struct tokenizer *t = NULL;
    struct error err = ERROR_INIT;
    enum status s = small_parse(refused[_i].file, &t, &err);
    ck_assert_msg(s == ST_TOKENIZER_UNSUPPORTED && !t, "row %d (%s): %s %s", _i, refused[_i].value,
                  status_code(s), err.text);
    ck_assert_msg(strstr(err.text, "dir/tokenizer.json") &&
                      strstr(err.text, refused[_i].component) &&
                      strstr(err.text, refused[_i].value),
                  "row %d: %s", _i, err.text);
    error_clear(&err);
}
END_TEST

START_TEST(not_json)
{
    static const struct {
        const char *text;
        enum status want;
    } rows[] = {{"", ST_INVALID_JSON},
                {"{\"model\":", ST_INVALID_JSON},
                {"{\"model\":1,\"model\":2}", ST_CONFIG_DUPLICATE_KEY},
                {"[]", ST_TOKENIZER_UNSUPPORTED},
                {"{\"version\":\"2.0\"}", ST_TOKENIZER_UNSUPPORTED},
                {"{\"mode\":{}}", ST_TOKENIZER_UNSUPPORTED},
                {"{\"\":{}}", ST_TOKENIZER_UNSUPPORTED},
                {"{\"model decoder\":{}}", ST_TOKENIZER_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tokenizer *t = NULL;
        ck_assert_int_eq(tokenizer_parse(rows[i].text, strlen(rows[i].text), "f", &t, NULL),
                         rows[i].want);
        ck_assert_ptr_null(t);
    }
}
END_TEST

START_TEST(no_file)
{
    struct tokenizer *t = (struct tokenizer *)&t;
    ck_assert_int_eq(tokenizer_load("tests/no such folder", &t, NULL), ST_OK);
    ck_assert_ptr_null(t);
}
END_TEST

/* What callers ask of a tokenizer besides encoding. */
START_TEST(accessors)
{
    struct tokenizer *t;
    size_t len = 0;
    ck_assert_int_eq(small_parse((struct small){.added = TOKEN("6", "<x>", "")}, &t, NULL), ST_OK);
    ck_assert_int_eq(tokenizer_size(t), 7);
    ck_assert_str_eq(tokenizer_piece(t, 3, &len), "ab");
    ck_assert_uint_eq(len, 2);
    ck_assert_str_eq(tokenizer_piece(t, 6, &len), "<x>");
    ck_assert_ptr_null(tokenizer_piece(t, 7, &len));
    ck_assert_ptr_null(tokenizer_piece(t, -1, &len));
    ck_assert_int_eq(tokenizer_id(t, "ab"), 3);
    ck_assert_int_eq(tokenizer_id(t, "<x>"), 6);
    ck_assert_int_eq(tokenizer_id(t, "no"), -1);
    ck_assert(tokenizer_special(t, 6) && !tokenizer_special(t, 3) && !tokenizer_special(t, -5));
    tokenizer_free(t);
    tokenizer_free(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/reader");
    TCase *c = tcase_create("load");
    tcase_add_loop_test(c, refusals, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(c, not_json);
    tcase_add_test(c, no_file);
    tcase_add_test(c, accessors);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
