/*
 * What jinja2 makes of many small templates (tests/vectors/template/make.py), byte for byte: every
 * operator, filter, test, method, statement, the rules of white space, what fails and how.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/json.h"
#include "core/template/template.h"
#include "tests/check_main.h"

static json_t *cases;

static const char *field(const json_t *c, const char *key)
{
    return json_string_value(json_object_get(c, key));
}

/* One case; prints what differs. */
static bool agrees(const json_t *c, json_t *variables, int64_t now)
{
    const json_t *text = json_object_get(c, "template"), *out = json_object_get(c, "out");
    struct template *t = NULL;
    struct error err = ERROR_INIT;
    struct buffer b = {0};
    enum status s = template_parse(json_string_value(text), json_string_length(text), &t, &err);
    bool parsed = !s;
    if (!s)
        s = template_render(t, variables, now, NULL, &b, &err);
    const char *wanted = field(c, "error");
    bool same;
    if (out)
        same = !s && b.len == json_string_length(out) &&
               !memcmp(b.len ? b.v : "", json_string_value(out), b.len);
    else if (!strcmp(wanted, "invalid"))
        same = s == ST_TEMPLATE_INVALID && !parsed;
    else if (!strcmp(wanted, "raised"))
        same = s == ST_TEMPLATE_RAISED && !strcmp(err.text, field(c, "text"));
    else
        same = s == ST_TEMPLATE_FAILED && parsed;
    if (!same)
        printf("%s\n  wanted %s\n  got    %.*s%s %s\n", json_string_value(text),
               out ? json_string_value(out) : wanted, (int)b.len, b.len ? b.v : "", status_code(s),
               err.text);
    template_free(t);
    buffer_free(&b);
    error_clear(&err);
    return same;
}

START_TEST(golden)
{
    json_t *list = json_object_get(cases, "cases"),
           *variables = json_object_get(cases, "variables");
    int64_t now = json_integer_value(json_object_get(cases, "now"));
    size_t differ = 0, i;
    json_t *c;
    setenv("TZ", "UTC", 1);
    tzset();
    ck_assert_uint_gt(json_array_size(list), 1000);
    json_array_foreach(list, i, c) differ +=
        !agrees(c, json_object_get(variables, field(c, "vars")), now);
    ck_assert_msg(!differ, "%zu of %zu cases differ", differ, json_array_size(list));
}
END_TEST

static Suite *suite(void)
{
    char path[4096];
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/template/cases.json", test_vectors());
    if (json_read(path, (size_t)1 << 20, &cases, &err))
        printf("%s\n", err.text);
    Suite *s = suite_create("core/template/cases");
    TCase *c = tcase_create("cases");
    tcase_add_test(c, golden);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
