/* Two texts as one: the ids and types of the real library, with every kind of post-processor. */
#include "tests/core/tokenizer/cases.h"

/* The folder's tokenizer.json, with the case's post_processor if it has one (false: none). */
static struct tokenizer *load(const json_t *c)
{
    char path[256];
    json_t *whole = NULL, *own = json_object_get(c, "post_processor");
    struct tokenizer *t = NULL;
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/tokenizers/%s/tokenizer.json", test_vectors(),
             json_string_value(json_object_get(c, "tokenizer")));
    ck_assert_msg(json_read(path, 64 << 20, &whole, &err) == ST_OK, "%s", err.text);
    if (!json_is_false(own))
        json_object_set(whole, "post_processor", own);
    char *text = json_dumps(whole, JSON_COMPACT);
    ck_assert_ptr_nonnull(text);
    ck_assert_msg(tokenizer_parse(text, strlen(text), path, &t, &err) == ST_OK, "%s", err.text);
    free(text);
    json_decref(whole);
    return t;
}

static void check(const struct tokenizer *t, const json_t *c, size_t number)
{
    const json_t *both = json_object_get(c, "texts");
    const json_t *first = json_array_get(both, 0), *second = json_array_get(both, 1);
    const struct text_pair texts = {json_string_value(first), json_string_value(second),
                                    json_string_length(first), json_string_length(second)};
    struct token_ids ids = {0}, types = {0}, want = {0};
    struct error err = ERROR_INIT;
    ck_assert_msg(tokenizer_encode_pair(t, &texts, json_is_true(json_object_get(c, "add_special")),
                                        &ids, &types, &err) == ST_OK,
                  "%zu: %s", number, err.text);
    cases_ids(json_object_get(c, "ids"), &want);
    ck_assert_msg(ids.n == want.n && types.n == want.n, "%zu: %zu ids", number, ids.n);
    for (size_t i = 0; i < want.n; i++)
        ck_assert_msg(ids.v[i] == want.v[i], "%zu: id %zu is %d", number, i, ids.v[i]);
    cases_ids(json_object_get(c, "types"), &want);
    for (size_t i = 0; i < want.n; i++)
        ck_assert_msg(types.v[i] == want.v[i], "%zu: type %zu is %d", number, i, types.v[i]);
    token_ids_free(&ids);
    token_ids_free(&types);
    token_ids_free(&want);
}

START_TEST(golden)
{
    char path[256];
    json_t *all = NULL;
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/tokenizers-extra/pairs.json", test_vectors());
    ck_assert_int_eq(json_read(path, 1 << 20, &all, NULL), ST_OK);
    const json_t *cases = json_object_get(all, "cases"), *before = NULL;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        bool same =
            before &&
            json_equal(json_object_get(c, "tokenizer"), json_object_get(before, "tokenizer")) &&
            json_equal(json_object_get(c, "post_processor"),
                       json_object_get(before, "post_processor"));
        if (!same) {
            tokenizer_free(t);
            t = load(c);
        }
        check(t, c, i);
        before = c;
    }
    ck_assert_uint_gt(json_array_size(cases), 100);
    tokenizer_free(t);
    json_decref(all);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/tokenizer/pairs");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, golden);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
