/*
 * Our reading of JSON text against jansson's own: the same values, or the same sentence with the
 * same line and column. jansson's sentence may end in a part of a character (after a backslash); it
 * repeats a number before a byte that is no text; then what it repeats is not looked at.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/json.h"
#include "core/utf8.h"
#include "tests/check_main.h"

#define DEPTH 40

static void same(const char *text, size_t len)
{
    json_error_t e = {0};
    json_t *want =
        json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    json_t *got = (json_t *)"left";
    struct error err = ERROR_INIT;
    char sentence[256];
    bool duplicate = json_error_code(&e) == json_error_duplicate_key;
    enum status s = json_parse(text, len, DEPTH, "it", &got, &err);
    if (want) {
        ck_assert_msg(!s && json_equal(got, want), "%.*s: %s", (int)len, text, err.text);
        // a number of the other kind is another value; json_equal knows no signs of zeros
        char *a = json_text(got, JSON_ENCODE_ANY), *b = json_text(want, JSON_ENCODE_ANY);
        ck_assert_str_eq(a, b);
        free(a);
        free(b);
    } else {
        if (duplicate)
            snprintf(sentence, sizeof sentence, "it: line %d: %s", e.line, e.text);
        else
            snprintf(sentence, sizeof sentence, "it: line %d, column %d: %s", e.line, e.column,
                     e.text);
        ck_assert_int_eq(s, duplicate ? ST_CONFIG_DUPLICATE_KEY : ST_INVALID_JSON);
        ck_assert_ptr_null(got);
        bool odd = !utf8_valid(e.text, strlen(e.text)) || strstr(e.text, "unable to decode");
        size_t n = odd ? strcspn(sentence, "'") - 6 : sizeof sentence;
        ck_assert_msg(!strncmp(err.text, sentence, n), "%.*s:\n%s\n%s", (int)len, text, err.text,
                      sentence);
    }
    json_decref(got);
    json_decref(want);
    error_clear(&err);
}

/* All texts of up to n letters. */
static void all(const char *letters, int n)
{
    char text[16];
    size_t many = strlen(letters), total = 1;
    for (int len = 0; len <= n; len++, total *= many)
        for (size_t code = 0; code < total; code++) {
            size_t rest = code;
            for (int i = 0; i < len; i++, rest /= many)
                text[i] = letters[rest % many];
            same(text, (size_t)len);
        }
}

START_TEST(all_short_texts)
{
    all("{}[],:\"1 ", 6);
    all("-0123.eE+]", 5);
    all("\"\\u0dDaAfz\n", 5);
    all("truefalsn \t\r", 4);
}
END_TEST

START_TEST(texts)
{
    static const char *const list[] = {"true",
                                       "false",
                                       "null",
                                       "nul",
                                       "nulls",
                                       "True",
                                       "[true false]",
                                       "\"\"",
                                       "\"a",
                                       "{\"a\"",
                                       "{\"a\":",
                                       "{\"a\":1",
                                       "{\"a\":1,",
                                       "{\"a\":1,}",
                                       "[1,]",
                                       "[1",
                                       "[",
                                       "[}",
                                       "{]",
                                       "{1:2}",
                                       "{\"a\":1,\"a\":2}",
                                       "{\"a\":{\"b\":1},\n\"c\":1,\n \"a\":2}",
                                       "{\"\\u0061\":1,\"a\":2}",
                                       "{\"k\\n\":[{\"k\\n\":\"\\t\"}],\"\":0}",
                                       "{\"\\u0000\":1}",
                                       "{\"a\\u0000b\":1}",
                                       "[\"\\u0000\",\"a\\u0000\"]",
                                       "[1] x",
                                       "[1]\n\n  \"a long token that is not repeated\"",
                                       "\"a long token that is not repeated\n\"",
                                       "[1,2,\n  \xc3\xa4]",
                                       "[\"\xc3\xa4\xe2\x82\xac\", x]",
                                       "\"\xf0\x9f\x98\x80\\ud83d\\ude00\\u20ac\\u00e4\\u007f\"",
                                       "\"\\ud83d\"",
                                       "\"\\ud83dx\"",
                                       "\"\\ud83d\\n\"",
                                       "\"\\ud83d\\u0041\"",
                                       "\"\\ude00\"",
                                       "\"\\ud83d\\u\"",
                                       "\"\\uD83D\\uDE0\"",
                                       "\"\\x\"",
                                       "\"\\",
                                       "\"\\u12",
                                       "\"\\u12g4\"",
                                       "\"\x01\"",
                                       "\"\x1f\"",
                                       "\"\x7f\"",
                                       "\x7f",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "-9223372036854775808",
                                       "-9223372036854775809",
                                       "123456789012345678901234567890",
                                       "18446744073709551616",
                                       "-0",
                                       "-0.0",
                                       "0.1",
                                       "1e5",
                                       "1E+5",
                                       "1e-5",
                                       "1e400",
                                       "-1e400",
                                       "1e-400",
                                       "2.2250738585072011e-308",
                                       "179769313486231570000000000000000000000000000000e262",
                                       "0.1000000000000000055511151231257827021181583404541015625",
                                       "1.",
                                       "1.e5",
                                       ".5",
                                       "+1",
                                       "01",
                                       "-",
                                       "--1",
                                       "1e",
                                       "1e+",
                                       "0x10",
                                       "Infinity",
                                       "NaN",
                                       "-Infinity",
                                       "'a'",
                                       "// no",
                                       "\xef\xbb\xbf[]",
                                       "[[[[[[[[1]]]]]]],{\"a\":[{}]}]",
                                       " \t\r\n[ \n1 ,\t2 ]\r\n ",
                                       "",
                                       " ",
                                       "\n\n",
                                       ",",
                                       ":",
                                       "]",
                                       "}"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        same(list[i], strlen(list[i]));
    json_t *none;
    ck_assert_int_eq(json_parse(NULL, 0, DEPTH, "it", &none, NULL), ST_INVALID_JSON);
}
END_TEST

/* Bytes that are not UTF-8: all that may follow the first two of each kind. */
START_TEST(bytes)
{
    char text[] = "[\"ab\xff\xff\xff\xff\"]";
    for (int a = 0x80; a < 0x100; a++)
        for (int b = 0x70; b < 0x100; b++) {
            text[4] = (char)a;
            text[5] = (char)b;
            text[6] = text[7] = 'x';
            same(text, sizeof text - 1);
            same(text + 4, 4);
            text[6] = (char)0x80;
            same(text, sizeof text - 1);
            text[7] = (char)0xbf;
            same(text, sizeof text - 1);
            for (size_t n = 4; n < sizeof text; n++)
                same(text, n);
        }
}
END_TEST

/* Documents with one byte after the other left out, repeated or replaced, and cut off anywhere. */
START_TEST(changed)
{
    static const char document[] = "{\"model\": \"b\\u00e4se\",\n \"messages\": "
                                   "[{\"role\":\"user\", \"content\":\"a\\n\\\"b\\\" "
                                   "\xe2\x82\xac\"},\r\n\t{\"role\":\"user\",\"content\":null}],"
                                   "\"n\":[1,-2.5e3,true,0.5],\"x\":{}}";
    static const char letters[] = "\"\\{}[],:0-.eatu\n x";
    const size_t len = sizeof document - 1;
    char text[sizeof document + 1];
    for (size_t i = 0; i <= len; i++) {
        same(document, i);
        memcpy(text, document, i);
        memcpy(text + i, document + i + 1, len - i);
        same(text, len - (i < len));
        for (size_t k = 0; k < sizeof letters - 1; k++) {
            text[i] = letters[k];
            memcpy(text + i + 1, document + i, len - i);
            same(text, len + 1);
            memcpy(text + i + 1, document + i + 1, len - i);
            same(text, i < len ? len : i + 1);
        }
    }
}
END_TEST

START_TEST(depth)
{
    char text[2 * DEPTH + 2];
    for (int n = DEPTH; n <= DEPTH + 1; n++) {
        struct error err = ERROR_INIT;
        json_t *v;
        memset(text, '[', (size_t)n);
        memset(text + n, ']', (size_t)n);
        ck_assert_int_eq(json_parse(text, 2 * (size_t)n, DEPTH, "it", &v, &err),
                         n > DEPTH ? ST_INVALID_JSON : ST_OK);
        ck_assert_str_eq(err.text, n > DEPTH ? "it: nested deeper than 40 levels" : "");
        json_decref(v);
        error_clear(&err);
    }
    memset(text, '[', sizeof text);
    ck_assert_int_eq(json_parse(text, sizeof text, DEPTH, "it", &(json_t *){0}, NULL),
                     ST_INVALID_JSON);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Texts are what bodies hold most of. The least of many, taken in turn: no busy machine decides. It
 * takes a fifth to a quarter of jansson's time. */
START_TEST(cheaper_than_jansson)
{
    char text[8192] = "[";
    size_t len = 1;
    double ours = 1, theirs = 1;
    for (int i = 0; i < 64; i++)
        len += (size_t)snprintf(text + len, sizeof text - len,
                                "%s{\"role\":\"user\",\"content\":\"%-80d\"}", i ? "," : "", i);
    text[len++] = ']';
    for (int i = 0; i < 500; i++) {
        json_t *v;
        double start = seconds();
        ck_assert_int_eq(json_parse(text, len, DEPTH, "it", &v, NULL), ST_OK);
        double middle = seconds();
        json_decref(v);
        double again = seconds();
        v = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
        double end = seconds();
        json_decref(v);
        ours = middle - start < ours ? middle - start : ours;
        theirs = end - again < theirs ? end - again : theirs;
    }
    ck_assert_msg(ours < 0.6 * theirs, "%.1f us, jansson %.1f us", 1e6 * ours, 1e6 * theirs);
}
END_TEST
#endif

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("json_parse");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, all_short_texts);
    tcase_add_test(t, texts);
    tcase_add_test(t, bytes);
    tcase_add_test(t, changed);
    tcase_add_test(t, depth);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test(t, cheaper_than_jansson);
#endif
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
