/*
 * Chat templates as they are published, against what transformers makes of them
 * (tests/vectors/chat): byte for byte where it renders, the template's own words where it refuses,
 * a failure where it fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "core/json.h"
#include "core/template/template.h"
#include "tests/check_main.h"

static json_t *cases;

static void open_cases(void)
{
    char path[256];
    struct error err = ERROR_INIT;
    setenv("TZ", "UTC", 1);
    snprintf(path, sizeof path, "%s/chat/cases.json", test_vectors());
    ck_assert_msg(!json_read(path, 1 << 24, &cases, &err), "%s", err.text);
}

static void close_cases(void)
{
    json_decref(cases);
}

static struct template *open_template(const char *name)
{
    char path[256], *text;
    size_t len;
    struct template *t;
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/chat/templates/%s.jinja", test_vectors(), name);
    ck_assert_msg(!json_read_text(path, 1 << 20, &text, &len, &err), "%s", err.text);
    ck_assert_msg(!template_parse(text, len, &t, &err), "%s: %s", name, err.text);
    free(text);
    return t;
}

static bool digest_is(const struct buffer *b, const char *hex)
{
    uint8_t digest[DIGEST_SIZE];
    char text[DIGEST_TEXT];
    digest_bytes(b->v, b->len, digest);
    digest_text(digest, text);
    return !strcmp(strchr(text, ':') + 1, hex);
}

/* Does the outcome match what the library did? */
static bool matches(const json_t *want, enum status s, const struct buffer *b,
                    const struct error *err)
{
    const char *raised = json_string_value(json_object_get(want, "raised"));
    if (raised)
        return s == ST_TEMPLATE_RAISED && strstr(err->text, raised);
    if (json_object_get(want, "failed"))
        return s == ST_TEMPLATE_FAILED;
    if (json_is_string(want))
        return !s && b->len == json_string_length(want) &&
               !memcmp(b->len ? b->v : "", json_string_value(want), b->len);
    return !s && (json_int_t)b->len == json_integer_value(json_object_get(want, "bytes")) &&
           digest_is(b, json_string_value(json_object_get(want, "sha256")));
}

START_TEST(test_published)
{
    const char *name, *conversation;
    json_t *outcomes, *want;
    int64_t now = json_integer_value(json_object_get(cases, "now"));
    int bad = 0;
    json_object_foreach(json_object_get(cases, "templates"), name, outcomes)
    {
        struct template *t = open_template(name);
        json_object_foreach(outcomes, conversation, want)
        {
            json_t *variables =
                json_object_get(json_object_get(cases, "conversations"), conversation);
            const struct template_limits limits = {0};
            struct buffer b = {0};
            struct error err = ERROR_INIT;
            enum status s = template_render(t, variables, now, &limits, &b, &err);
            if (!matches(want, s, &b, &err) && ++bad)
                printf("%s, %s: %s %s\ngot  [%.*s]\nwant [%s]\n", name, conversation,
                       status_code(s), err.text, (int)b.len, b.len ? b.v : "",
                       json_string_value(want));
            error_clear(&err);
            buffer_free(&b);
        }
        template_free(t);
    }
    ck_assert_int_eq(bad, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/template/published");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, open_cases, close_cases);
    tcase_add_test(c, test_published);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
