/* Character classes over all of Unicode, against the reference: how many members, and their sum. */
#include "core/tokenizer/pattern.h"
#include "core/tokenizer/unicode.h"
#include "core/utf8.h"
#include "tests/core/tokenizer/cases.h"

static json_t *file;

static void open_file(void)
{
    struct error err = ERROR_INIT;
    ck_assert_msg(json_read("tests/vectors/tokenizers-extra/extra.json", (size_t)16 << 20, &file,
                            &err) == ST_OK,
                  "%s", err.text);
}

static void close_file(void)
{
    json_decref(file);
}

static void same(const char *name, const json_t *want, json_int_t n, json_int_t sum)
{
    ck_assert_msg(n == json_integer_value(json_array_get(want, 0)) &&
                      sum == json_integer_value(json_array_get(want, 1)),
                  "%s: %lld members, sum %lld, want %lld, %lld", name, (long long)n, (long long)sum,
                  (long long)json_integer_value(json_array_get(want, 0)),
                  (long long)json_integer_value(json_array_get(want, 1)));
}

static bool in_unicode(uint32_t c)
{
    return c < 0xD800 || c > 0xDFFF;
}

static void check_regex(const char *regex, const json_t *want, const char *text, size_t n)
{
    struct arena arena = {0};
    struct pattern *patterns = NULL;
    struct error err = ERROR_INIT;
    struct reader r = {.path = "f", .arena = &arena, .patterns = &patterns, .err = &err};
    const struct pattern *p;
    struct matcher m;
    struct spans found = {0};
    json_t *pattern = json_pack("{s:s}", "Regex", regex);
    ck_assert_msg(pattern_read(&r, pattern, &p) == ST_OK, "%s", err.text);
    matcher_open(&m, n, &err);
    ck_assert_msg(pattern_find(p, &m, text, n, 0, &found) == ST_OK, "%s: %s", regex, err.text);
    json_int_t members = 0, sum = 0;
    for (size_t i = 0; i < found.n; i++) {
        size_t len;
        for (size_t at = found.v[i].start; found.v[i].flag && at < found.v[i].end; at += len) {
            sum += utf8_read(text + at, &len);
            members++;
        }
    }
    same(regex, want, members, sum);
    spans_free(&found);
    matcher_close(&m);
    json_decref(pattern);
    pattern_free_all(patterns);
    arena_free(&arena);
}

static const struct {
    const char *name;
    bool (*holds)(uint32_t);
} predicates[] = {{"punctuation", unicode_punctuation},
                  {"numeric", unicode_numeric},
                  {"space", unicode_space},
                  {"mark", unicode_mark},
                  {"nonspacing", unicode_nonspacing},
                  {"control", unicode_control},
                  {"ideograph", unicode_ideograph}};

START_TEST(regexes)
{
    struct bytes text = {0};
    const char *name;
    json_t *want;
    size_t checked = 0;
    for (uint32_t c = 0; c < 0x110000; c++)
        ck_assert(!in_unicode(c) || bytes_append_char(&text, c));
    json_object_foreach(json_object_get(file, "classes"), name, want)
    {
        if (!strpbrk(name, "\\[."))
            continue;
        check_regex(name, want, text.v, text.n);
        checked++;
    }
    ck_assert_uint_gt(checked, 50);
    bytes_free(&text);
}
END_TEST

START_TEST(predicate)
{
    json_int_t n = 0, sum = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (in_unicode(c) && predicates[_i].holds(c)) {
            n++;
            sum += c;
        }
    }
    const char *name = predicates[_i].name;
    same(name, json_object_get(json_object_get(file, "classes"), name), n, sum);
}
END_TEST

START_TEST(lower)
{
    json_int_t n = 0, sum = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint32_t to[2];
        size_t made = in_unicode(c) ? unicode_lower(c, to) : 0;
        if (!made || (made == 1 && to[0] == c))
            continue;
        n++;
        sum += to[0] + (made == 2 ? to[1] : 0);
    }
    same("lower", json_object_get(json_object_get(file, "classes"), "lower"), n, sum);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/pattern");
    TCase *c = tcase_create("classes");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_file, close_file);
    tcase_add_test(c, regexes);
    tcase_add_loop_test(c, predicate, 0, sizeof predicates / sizeof predicates[0]);
    tcase_add_test(c, lower);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
