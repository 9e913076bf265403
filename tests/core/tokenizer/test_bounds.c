/* Time that grows like the text, hostile files, and threads. */
#include <pthread.h>
#include <time.h>

#include "tests/core/tokenizer/cases.h"
#include "tests/core/tokenizer/small.h"

static const char *const names[] = {"gpt2",  "llama3", "deepseek-v3",  "falcon", "llama2",
                                    "gemma", "phi3",   "bert-uncased", "t5"};
/* Repeated until the text is long enough; NULL: random letters. */
static const char *const units[] = {
    "a", " ", "\n", "\xCC\x81\xCC\xA3", "<|end", "          \tx", "The quick brown fox, isn't it? ",
    NULL};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The best of a few runs. */
static double encode_time(const struct tokenizer *t, const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        struct token_ids ids = {0};
        double start = seconds();
        ck_assert_int_eq(tokenizer_encode(t, text, n, true, &ids, NULL), ST_OK);
        double took = seconds() - start;
        best = took < best ? took : best;
        token_ids_free(&ids);
    }
    return best;
}

/* Twice the text takes about twice the time: a quadratic step would take four times as much. */
START_TEST(linear)
{
    enum { N = 25000 };
    char path[4096], *text = malloc(8 * N);
    snprintf(path, sizeof path, "%s/tokenizers/%s", test_vectors(), names[_i]);
    struct tokenizer *t = cases_load(path);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        size_t len = units[u] ? strlen(units[u]) : 1;
        uint32_t seed = 1;
        for (size_t i = 0; i + len <= 8 * N; i += len) {
            seed = seed * 1664525 + 1013904223;
            char letter = (char)('a' + (seed >> 24) % 26);
            memcpy(text + i, units[u] ? units[u] : &letter, len);
        }
        double one = encode_time(t, text, 2 * N / len * len);
        double four = encode_time(t, text, 8 * N / len * len);
        ck_assert_msg(four < 10 * one + 0.02, "%s, unit %zu: %.4f s, four times as much %.4f s",
                      names[_i], u, one, four);
    }
    tokenizer_free(t);
    free(text);
}
END_TEST

static void encode_fails(struct small file, const char *text, size_t n, const char *why)
{
    struct tokenizer *t;
    struct token_ids ids = {0};
    struct error err = ERROR_INIT;
    ck_assert(token_ids_push(&ids, 99));
    ck_assert_msg(small_parse(file, &t, &err) == ST_OK, "%s", err.text);
    enum status s = tokenizer_encode(t, text, n, true, &ids, &err);
    ck_assert_msg(s == ST_INVALID_VALUE, "%s: %s", why, status_code(s));
    ck_assert_msg(strstr(err.text, why), "%s", err.text);
    ck_assert_uint_eq(ids.n, 1); // what was there stays, nothing is added
    token_ids_free(&ids);
    error_clear(&err);
    tokenizer_free(t);
}

START_TEST(hostile_files)
{
    char text[4096];
    memset(text, 'a', sizeof text);
    encode_fails((struct small){.pre_tokenizer =
                                    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+[bc]\"},"
                                    "\"behavior\":\"Isolated\",\"invert\":false}"},
                 text, sizeof text, "steps");
    encode_fails((struct small){.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
                                              "\"(?:a|aa)+[bc]\"},\"content\":\"\"}"},
                 text, sizeof text, "steps");
    // each step makes the text eight times as long
#define LONGER "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaa\"}"
    encode_fails((struct small){.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[" LONGER
                                              "," LONGER "," LONGER "," LONGER "," LONGER "," LONGER
                                              "," LONGER "," LONGER "," LONGER "," LONGER "]}"},
                 text, sizeof text, "too long");
#define LETTERS                                                                                    \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":false}"
#define FIVE LETTERS "," LETTERS "," LETTERS "," LETTERS "," LETTERS
    encode_fails((struct small){.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[" FIVE
                                                 "," FIVE "," FIVE "," FIVE "]}"},
                 "\xC4\xA0", 2, "too long");
    encode_fails((struct small){0}, "a\xFF", 2, "UTF-8");
    encode_fails((struct small){0}, "\xED\xA0\x80", 3, "UTF-8");
    encode_fails((struct small){.model =
                                    "{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":{\"a\":0},"
                                    "\"merges\":[]}"},
                 "b", 1, "unk_token");
}
END_TEST

/* Decoding, too, is bounded. */
START_TEST(hostile_decoder)
{
    struct tokenizer *t;
    char *text;
    size_t len;
    int32_t ids[] = {1, 1};
#define D_LONGER LONGER "," LONGER "," LONGER "," LONGER "," LONGER
    ck_assert_int_eq(
        small_parse((struct small){.decoder = "{\"type\":\"Sequence\",\"decoders\":[" D_LONGER
                                              "," D_LONGER "," D_LONGER "]}"},
                    &t, NULL),
        ST_OK);
    ck_assert_int_eq(tokenizer_decode(t, ids, 2, false, &text, &len, NULL), ST_INVALID_VALUE);
    ck_assert_ptr_null(text);
    tokenizer_free(t);
}
END_TEST

static void *encode_often(void *arg)
{
    static const char text[] = "It's  4 o'clock in \xE6\x9D\xB1\xE4\xBA\xAC, e\xCC\x81t\xC3\xA9?";
    const struct tokenizer *t = arg;
    struct token_ids first = {0}, ids = {0};
    char *decoded;
    size_t len;
    bool same = !tokenizer_encode(t, text, sizeof text - 1, true, &first, NULL);
    for (int i = 0; i < 200 && same; i++) {
        ids.n = 0;
        same = !tokenizer_encode(t, text, sizeof text - 1, true, &ids, NULL) && ids.n == first.n &&
               !memcmp(ids.v, first.v, ids.n * sizeof *ids.v) &&
               !tokenizer_decode(t, ids.v, ids.n, true, &decoded, &len, NULL);
        if (same)
            free(decoded);
    }
    token_ids_free(&first);
    token_ids_free(&ids);
    return same ? arg : NULL;
}

START_TEST(threads)
{
    char path[4096];
    pthread_t v[4];
    void *result;
    snprintf(path, sizeof path, "%s/tokenizers/%s", test_vectors(), names[_i]);
    struct tokenizer *t = cases_load(path);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&v[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(v[i], &result);
        ck_assert_ptr_eq(result, t);
    }
    tokenizer_free(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/bounds");
    TCase *c = tcase_create("bounds");
    tcase_set_timeout(c, 120);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
    tcase_add_loop_test(c, linear, 0, sizeof names / sizeof names[0]);
#else // shadow memory has caches of its own
    (void)linear;
#endif
    tcase_add_test(c, hostile_files);
    tcase_add_test(c, hostile_decoder);
    tcase_add_loop_test(c, threads, 0, sizeof names / sizeof names[0]);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
