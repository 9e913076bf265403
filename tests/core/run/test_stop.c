#include "tests/check_main.h"

#include <string.h>

#include "core/run/stop.h"

/* The definition, byte by byte: the text before the stop string that is complete first; of several
 * that end there, the longest. */
static size_t oracle(const char *text, const struct text *stops, size_t n, bool *matched)
{
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n; i++)
            if (stops[i].len <= end && !memcmp(text + end - stops[i].len, stops[i].v, stops[i].len))
                longest = stops[i].len > longest ? stops[i].len : longest;
        if (longest) {
            *matched = true;
            return end - longest;
        }
    }
    *matched = false;
    return strlen(text);
}

/* Pieces of the lengths that the bits of `cuts` say; nothing may leave that is not in the answer.
 */
static void run(const char *text, const struct text *stops, size_t n, unsigned cuts)
{
    bool want_match, matched = false;
    size_t want = oracle(text, stops, n, &want_match), got = 0, len = strlen(text);
    struct stop s = {.strings = stops, .n = n};
    char out[64];
    for (size_t at = 0; at < len && !matched;) {
        size_t end = at + 1;
        while (end < len && !(cuts >> (end - 1) & 1))
            end++;
        struct text v;
        if (stop_push(&s, text + at, end - at, &v, &matched) != ST_OK || got + v.len > want)
            ck_abort_msg("'%s', cuts %x: more than %zu bytes left", text, cuts, want);
        memcpy(out + got, v.v, v.len);
        got += v.len;
        at = end;
    }
    if (!matched) {
        struct text v = stop_flush(&s);
        memcpy(out + got, v.v, v.len);
        got += v.len;
    }
    if (matched != want_match || got != want || memcmp(out, text, want))
        ck_abort_msg("'%s', cuts %x: %zu bytes, expected %zu", text, cuts, got, want);
    stop_clear(&s);
}

START_TEST(every_cut_of_every_text)
{
    static const char *const words[] = {"ab", "aab", "b", "abab", "ba", "bbb"};
    struct text stops[3];
    for (unsigned set = 0; set < 6 * 6 * 6; set++) {
        unsigned which[3] = {set % 6, set / 6 % 6, set / 36};
        for (int i = 0; i < 3; i++)
            stops[i] = (struct text){words[which[i]], strlen(words[which[i]])};
        for (unsigned bits = 0; bits < 64; bits++) {
            char text[7] = {0};
            for (int i = 0; i < 6; i++)
                text[i] = "ab"[bits >> i & 1];
            for (unsigned cuts = 0; cuts < 32; cuts++)
                run(text, stops, 1 + set % 3, cuts);
        }
    }
}
END_TEST

START_TEST(holds_back_no_more_than_needed)
{
    const struct text stops[] = {{"\n\nUser:", 7}};
    struct stop s = {.strings = stops, .n = 1};
    struct text v;
    bool matched;
    ck_assert_int_eq(stop_push(&s, "ok\n", 3, &v, &matched), ST_OK);
    ck_assert_uint_eq(v.len, 2);
    ck_assert_int_eq(stop_push(&s, "\n", 1, &v, &matched), ST_OK);
    ck_assert_uint_eq(v.len, 0);
    ck_assert_int_eq(stop_push(&s, "\nUse", 4, &v, &matched), ST_OK);
    ck_assert_uint_eq(v.len, 1); /* "\n\n\nUse": the first newline is out of it */
    ck_assert_int_eq(stop_push(&s, "d", 1, &v, &matched), ST_OK);
    ck_assert_uint_eq(v.len, 6);
    ck_assert_mem_eq(v.v, "\n\nUsed", 6);
    ck_assert_uint_eq(stop_flush(&s).len, 0);
    stop_clear(&s);
}
END_TEST

START_TEST(no_strings)
{
    struct stop s = {0};
    struct text v;
    bool matched;
    ck_assert_int_eq(stop_push(&s, "", 0, &v, &matched), ST_OK);
    ck_assert_int_eq(stop_push(&s, "text", 4, &v, &matched), ST_OK);
    ck_assert_uint_eq(v.len, 4);
    ck_assert(!matched);
    stop_clear(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("stop");
    TCase *c = tcase_create("stop");
    tcase_add_test(c, every_cut_of_every_text);
    tcase_add_test(c, holds_back_no_more_than_needed);
    tcase_add_test(c, no_strings);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
