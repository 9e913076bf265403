/* Components, options and flags that the published configurations do not show, against the
 * reference's ids and texts. */
#include "tests/core/tokenizer/cases.h"

static json_t *file, *list;

static void open_file(void)
{
    char path[4096];
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/tokenizers-extra/extra.json", test_vectors());
    if (json_read(path, (size_t)16 << 20, &file, &err)) // beside the tests, if not in the vectors
        ck_assert_msg(json_read("tests/vectors/tokenizers-extra/extra.json", (size_t)16 << 20,
                                &file, &err) == ST_OK,
                      "%s", err.text);
    error_clear(&err);
    list = json_object_get(file, "cases");
}

static void close_file(void)
{
    json_decref(file);
}

static struct tokenizer *load(json_t *c, const char *name)
{
    json_t *config = json_object_get(c, "tokenizer");
    struct tokenizer *t;
    struct error err = ERROR_INIT;
    if (json_is_string(json_object_get(config, "model")))
        json_object_set(config, "model", json_object_get(file, "pairs"));
    char *text = json_dumps(config, 0);
    ck_assert_msg(tokenizer_parse(text, strlen(text), name, &t, &err) == ST_OK, "%s", err.text);
    free(text);
    return t;
}

START_TEST(golden)
{
    size_t i, k;
    json_t *c, *item;
    json_array_foreach(list, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        struct tokenizer *t = load(c, name);
        json_array_foreach(json_object_get(c, "encode"), k, item)
        {
            cases_encode(t, item, name, k);
        }
        json_array_foreach(json_object_get(c, "decode"), k, item)
        {
            cases_decode(t, item, name, k);
            if (!strstr(json_string_value(json_object_get(item, "text")), "\uFFFD"))
                cases_stream(t, item, name, k);
        }
        tokenizer_free(t);
    }
    ck_assert_uint_gt(json_array_size(list), 150);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/components");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_file, close_file);
    tcase_add_test(c, golden);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
