/*
 * JSON that is read at once, beside jansson on the same texts: whatever is read is what jansson
 * reads, what jansson refuses is never read, and what is plain is never left to it. Random texts,
 * whole and with a byte changed, removed or doubled.
 */
#include "core/json_quick.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/buffer.h"
#include "tests/check_main.h"

#define FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY)

static uint32_t state;

static uint32_t any(uint32_t below)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
}

/* The same kinds, too: json_equal takes 1 and 1.0 for different, 0.0 and -0.0 for equal. */
static bool same(const json_t *a, const json_t *b)
{
    char *x = json_dumps(a, JSON_ENCODE_ANY), *y = json_dumps(b, JSON_ENCODE_ANY);
    bool is = json_equal(a, b) && x && y && !strcmp(x, y);
    free(x);
    free(y);
    return is;
}

/* Was it read? */
static bool check(const char *text, size_t len)
{
    json_t *quick = json_quick(text, len, 500), *whole = json_loadb(text, len, FLAGS, NULL);
    bool read = quick != NULL;
    ck_assert_msg(!quick || (whole && same(quick, whole)), "%.*s", (int)len, text);
    json_decref(quick);
    json_decref(whole);
    return read;
}

static const struct {
    const char *text;
    bool read;
} texts[] = {
    {"{}", true},
    {" [ ] ", true},
    {"{\"a\": [1, -2, 0, -0, 1.5, -1e3, 2E+2, 3e-2, true, false, null, \"\", {}]}\n", true},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00\\u0000x\"", true},
    {"\"G\xc3\xbc\xc3\x9f\x65 \xf0\x9f\x98\x80\"", true},
    {"123456789012345678", true},
    {"1234567890123456789", false},
    {"9223372036854775808", false},
    {"1e400", false},
    {"1e-400", true},
    {"01", false},
    {"-", false},
    {"1.", false},
    {".5", false},
    {"1e", false},
    {"+1", false},
    {"{\"a\":1,\"a\":2}", false},
    {"{\"\xc3\xa9\":1}", false},
    {"{\"a\\u0000\":1}", false},
    {"{\"a\":1,}", false},
    {"[1,]", false},
    {"[1 2]", false},
    {"{\"a\" 1}", false},
    {"{a:1}", false},
    {"\"\\ud83d\"", false},
    {"\"\\ud83d\\u0041\"", false},
    {"\"\\ude00\"", false},
    {"\"\\u12\"", false},
    {"\"\\x\"", false},
    {"\"\\", false},
    {"\"a\nb\"", false},
    {"\"\xff\"", false},
    {"\"\xed\xa0\x80\"", false},
    {"\"\xc0\x80\"", false},
    {"\"a", false},
    {"nul", false},
    {"truex", false},
    {"1 1", false},
    {"", false},
    {" ", false},
    {"[[[", false},
    {"NaN", false},
};

START_TEST(plain)
{
    const char *text = texts[_i].text;
    ck_assert_msg(check(text, strlen(text)) == texts[_i].read, "%s", text);
}
END_TEST

START_TEST(nests_no_deeper)
{
    char text[1000];
    memset(text, '[', 500);
    memset(text + 500, ']', 500);
    ck_assert(!check(text, sizeof text));
    ck_assert(check(text + 400, 200));
    json_t *deep = json_quick("[[1]]", 5, 2);
    ck_assert_ptr_nonnull(deep);
    ck_assert_ptr_null(json_quick("[[1]]", 5, 1));
    json_decref(deep);
}
END_TEST

static void write_spaces(struct buffer *b)
{
    static const char *const spaces[] = {"", "", " ", "\n", "\t ", "\r\n"};
    buffer_text(b, spaces[any(6)]);
}

static void write_string(struct buffer *b)
{
    static const char *const parts[] = {
        "a",    "word ",          "\\n", "\\\"",         "\\u00e9", "\xc3\xa9", "\\/",    "{",
        "\\\\", "\\ud83d\\ude00", "]",   "\xe6\x9d\xb1", "\x7f",    ",:",       "\\u000b"};
    buffer_text(b, "\"");
    for (uint32_t n = any(6); n; n--)
        buffer_text(b, parts[any(sizeof parts / sizeof parts[0])]);
    buffer_text(b, "\"");
}

static void write_value(struct buffer *b, int depth)
{
    static const char *const words[] = {"true", "false", "null", "0",           "-1",  "3.25",
                                        "1e9",  "-0.0",  "2E-7", "12345678901", "0.1", "17"};
    uint32_t kind = any(depth ? 8 : 4), n = any(5);
    write_spaces(b);
    if (kind < 2) {
        buffer_text(b, words[any(sizeof words / sizeof words[0])]);
    } else if (kind < 4) {
        write_string(b);
    } else {
        buffer_text(b, kind < 6 ? "[" : "{");
        for (uint32_t i = 0; i < n; i++) {
            write_spaces(b);
            if (kind >= 6)
                buffer_format(b, "\"k%u\"", i);
            if (kind >= 6)
                write_spaces(b);
            buffer_text(b, kind >= 6 ? ":" : "");
            write_value(b, depth - 1);
            buffer_text(b, i + 1 < n ? "," : "");
        }
        buffer_text(b, kind < 6 ? "]" : "}");
    }
    write_spaces(b);
}

START_TEST(at_random)
{
    size_t changed = 0;
    for (uint32_t seed = 0; seed < 20000; seed++) {
        struct buffer b = {0};
        state = seed;
        write_value(&b, 4);
        ck_assert_msg(check(b.v, b.len), "%.*s", (int)b.len, b.v);
        size_t at = any((uint32_t)b.len);
        uint32_t how = any(3);
        char one = b.v[at];
        if (how == 0)
            b.v[at] = (char)any(256);
        else if (how == 1)
            memmove(b.v + at, b.v + at + 1, --b.len - at);
        else
            buffer_add(&b, &one, 1);
        changed += check(b.v, b.len);
        buffer_free(&b);
    }
    ck_assert_uint_gt(changed, 1000); // some changes leave it plain
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/json_quick");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, plain, 0, sizeof texts / sizeof texts[0]);
    tcase_add_test(t, nests_no_deeper);
    tcase_add_test(t, at_random);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
