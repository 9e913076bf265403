/* Text of replies: JSON strings from any bytes, floats that read back, failing allocations. */
#include "core/buffer.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "tests/check_main.h"
#include "tests/faults/fault.h"

static const char *text_of(struct buffer *b)
{
    buffer_add(b, "", 1);
    return b->v;
}

static void string_is(const char *bytes, size_t len, const char *json)
{
    struct buffer b = {0};
    buffer_string(&b, bytes, len);
    ck_assert_str_eq(text_of(&b), json);
    buffer_free(&b);
}

START_TEST(test_strings)
{
    string_is("abc", 3, "\"abc\"");
    string_is("", 0, "\"\"");
    string_is(NULL, 0, "null");
    string_is("\"\\\n\t\r\x01\x7f", 7, "\"\\\"\\\\\\n\\t\\r\\u0001\\u007f\"");
    string_is("a\0b", 3, "\"a\\u0000b\"");
    string_is("\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\"");
    string_is("\xff", 1, "\"\xef\xbf\xbd\"");
    string_is("a\xc3", 2, "\"a\xef\xbf\xbd\"");
    string_is("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* a surrogate */
    string_is("\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");                 /* overlong */
}
END_TEST

START_TEST(test_strings_are_json)
{
    for (unsigned i = 0; i < 65536; i++) {
        const char bytes[] = {(char)(i >> 8), (char)i, 'x'};
        struct buffer b = {0};
        buffer_string(&b, bytes, 3);
        json_t *v = json_loadb(b.v, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ck_assert_msg(json_is_string(v), "%x", i);
        json_decref(v);
        buffer_free(&b);
    }
}
END_TEST

static void float_reads_back(float f)
{
    struct buffer b = {0};
    buffer_f32(&b, f);
    ck_assert_uint_le(b.len, 24);
    const char *text = text_of(&b);
    float back = strtof(text, NULL);
    ck_assert_msg(!memcmp(&f, &back, sizeof f), "%.9g became %s", (double)f, text);
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    ck_assert_msg(json_is_real(v), "%s", text);
    json_decref(v);
    buffer_free(&b);
}

START_TEST(test_floats)
{
    const float special[] = {0.0f,   -0.0f,          1.0f,        0.1f,
                             1e-5f,  9.9999994e8f,   1e9f,        1.17549435e-38f,
                             1e-45f, 3.40282347e38f, 16777216.0f, -123456.789f,
                             1e-12f, 0.99999994f,    1.00000012f};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        float_reads_back(special[i]);
    uint64_t state = 1;
    for (int i = 0; i < 200000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t bits = (uint32_t)(state >> 32);
        float f;
        if (i % 2) /* near 1, as logits are */
            bits = (bits & 0x807fffff) | (112 + (bits >> 23 & 31)) << 23;
        memcpy(&f, &bits, sizeof f);
        if (isfinite(f))
            float_reads_back(f);
    }
}
END_TEST

START_TEST(test_memory)
{
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct buffer b = {0};
        for (int i = 0; i < 100; i++) {
            buffer_text(&b, "some text that makes it grow ");
            buffer_format(&b, "%d", i);
            buffer_string(&b, "\x01", 1);
        }
        bool fired = fault_disarm();
        ck_assert(b.failed == fired);
        buffer_free(&b);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/buffer");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_strings);
    tcase_add_test(t, test_strings_are_json);
    tcase_add_test(t, test_floats);
    tcase_add_test(t, test_memory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
