/* The field table: what passes, what is refused and how, and that schemas exist for all of it. */
#include "server/fields.h"

#include "core/json.h"
#include "tests/check_main.h"

static enum status check(enum field_set set, const char *text, struct error *err)
{
    json_t *body = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    ck_assert_ptr_nonnull(body);
    enum status s = fields_check(set, body, err);
    json_decref(body);
    return s;
}

struct row {
    enum field_set set;
    const char *text;
    enum status status;
    const char *param;
};

static const struct row rows[] = {
    {FIELDS_completions, "{\"prompt\":\"a\"}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"n\":2.0,\"top_p\":null,\"user\":[1]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":[\"a\",\"b\"]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":[1,2]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":[[1],[2]]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":[1,\"a\"]}", ST_INVALID_VALUE, "prompt"},
    {FIELDS_completions, "{\"prompt\":[]}", ST_INVALID_VALUE, "prompt"},
    {FIELDS_completions, "{\"prompt\":[[]]}", ST_INVALID_VALUE, "prompt"},
    {FIELDS_completions, "{\"prompt\":null}", ST_INVALID_VALUE, "prompt"},
    {FIELDS_completions, "{}", ST_MISSING_FIELD, "prompt"},
    {FIELDS_completions, "[]", ST_INVALID_VALUE, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"n\":1.5}", ST_INVALID_VALUE, "n"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"n\":true}", ST_INVALID_VALUE, "n"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"temperature\":2.1}", ST_INVALID_VALUE, "temperature"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"temprature\":1}", ST_UNKNOWN_FIELD, "temprature"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"seed\":9223372036854775807}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"stop\":[]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"stop\":\"\"}", ST_INVALID_VALUE, "stop"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"logit_bias\":{\"5\":-1,\"0\":2.5}}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"logit_bias\":{\"05\":1}}", ST_INVALID_VALUE,
     "logit_bias"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"strength\":[0,1]}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"strength\":1.01}", ST_INVALID_VALUE, "strength"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"adapter\":\"-a\"}", ST_INVALID_VALUE, "adapter"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"model\":\"a\\u0000b\"}", ST_INVALID_VALUE, "model"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"suffix\":\"\"}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"suffix\":\"x\"}", ST_NOT_SUPPORTED, "suffix"},
    {FIELDS_completions, "{\"prompt\":\"a\",\"length_penalty\":1}", ST_OK, ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"stream_options\":{\"include_usage\":true}}", ST_OK,
     ""},
    {FIELDS_completions, "{\"prompt\":\"a\",\"stream_options\":{\"usage\":true}}", ST_UNKNOWN_FIELD,
     "usage"},
    {FIELDS_forward, "{\"adapters\":[\"a\",null,[\"b\",\"c\"]]}", ST_OK, ""},
    {FIELDS_forward, "{\"adapters\":[1]}", ST_INVALID_VALUE, "adapters"},
    {FIELDS_forward, "{\"outputs\":[\"logits\",\"embedding\"]}", ST_OK, ""},
    {FIELDS_forward, "{\"outputs\":[\"logit\"]}", ST_INVALID_VALUE, "outputs"},
    {FIELDS_forward, "{\"compute\":\"exact\"}", ST_OK, ""},
    {FIELDS_forward, "{\"compute\":\"exac\"}", ST_INVALID_VALUE, "compute"},
    {FIELDS_forward, "{\"pixel_values\":null}", ST_OK, ""},
    {FIELDS_forward, "{\"pixel_values\":[[1]]}", ST_INVALID_VALUE, "pixel_values"},
    {FIELDS_forward, "{\"pixel_values\":{}}", ST_MISSING_FIELD, "shape"},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,1,2],\"data\":[0,-2.5]}}", ST_OK, ""},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,2],\"data\":[0,1]}}", ST_INVALID_VALUE,
     "shape"},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,0,2],\"data\":[0]}}", ST_INVALID_VALUE,
     "shape"},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,1,1],\"data\":[1e39]}}", ST_INVALID_VALUE,
     "data"},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,1,1],\"data\":[null]}}", ST_INVALID_VALUE,
     "data"},
    {FIELDS_forward, "{\"pixel_values\":{\"shape\":[1,1,1,1],\"datatype\":\"INT64\",\"data\":[1]}}",
     ST_INVALID_VALUE, "datatype"},
    {FIELDS_forward, "{\"input\":{\"shape\":[2],\"data\":[1,2e3]}}", ST_OK, ""},
    {FIELDS_forward, "{\"input\":{\"shape\":[0],\"data\":[]}}", ST_INVALID_VALUE, "shape"},
    {FIELDS_forward, "{\"input\":{\"shape\":[1],\"data\":[1e39]}}", ST_INVALID_VALUE, "data"},
    {FIELDS_batch, "{\"load\":[{\"name\":\"a\"}],\"unload\":[\"b\"]}", ST_OK, ""},
    {FIELDS_batch, "{\"load\":[{\"nam\":\"a\"}]}", ST_UNKNOWN_FIELD, "nam"},
    {FIELDS_batch, "{\"load\":[1]}", ST_INVALID_VALUE, ""},
    {FIELDS_tokenize, "{\"content\":\"a\\u0000b\"}", ST_OK, ""},
    {FIELDS_chat_completions, "{\"messages\":[{\"role\":\"user\"}],\"top_k\":3}", ST_OK, ""},
    {FIELDS_chat_completions, "{\"top_k\":3}", ST_MISSING_FIELD, "messages"},
    {FIELDS_apply_template, "{\"messages\":[{\"role\":\"user\"}],\"documents\":[{\"text\":\"a\"}]}",
     ST_OK, ""},
    {FIELDS_apply_template, "{\"messages\":[{\"role\":\"user\"}],\"documents\":[1]}",
     ST_INVALID_VALUE, "documents"},
    {FIELDS_chat_completions, "{\"messages\":[{\"role\":\"user\"}],\"prompt\":\"a\"}",
     ST_UNKNOWN_FIELD, "prompt"},
    {FIELDS_chat_completions, "{\"messages\":[{\"role\":\"user\"}],\"tool_choice\":{}}",
     ST_MISSING_FIELD, "type"},
    {FIELDS_chat_completions,
     "{\"messages\":[{\"role\":\"user\"}],\"tool_choice\":{\"type\":\"function\",\"function\":{"
     "\"name\":\"f\"}}}",
     ST_OK, ""},
    {FIELDS_chat_completions, "{\"messages\":[{\"role\":\"user\"}],\"tool_choice\":\"x\"}",
     ST_INVALID_VALUE, "tool_choice"},
    {FIELDS_message, "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"}]}", ST_OK,
     ""},
    {FIELDS_message, "{\"role\":\"user\",\"content\":[\"a\"]}", ST_INVALID_VALUE, ""},
    {FIELDS_message, "{\"role\":\"user\",\"content\":1}", ST_INVALID_VALUE, "content"},
    {FIELDS_message, "{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}", ST_MISSING_FIELD,
     "text"},
    {FIELDS_function, "{\"name\":\"f\",\"parameters\":{\"any\":[1]}}", ST_OK, ""},
    {FIELDS_function, "{\"name\":\"f\",\"parameters\":[]}", ST_INVALID_VALUE, "parameters"},
    {FIELDS_function, "{\"name\":\"f\",\"strict\":1}", ST_INVALID_VALUE, "strict"},
};

START_TEST(test_rows)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = ERROR_INIT;
        ck_assert_msg(check(rows[i].set, rows[i].text, &err) == rows[i].status, "%s: %s",
                      rows[i].text, err.text);
        ck_assert_msg(!strcmp(err.param, rows[i].param), "%s: param %s", rows[i].text, err.param);
        error_clear(&err);
    }
}
END_TEST

START_TEST(test_nearest_name)
{
    struct error err = ERROR_INIT;
    check(FIELDS_completions, "{\"temprature\":1}", &err);
    ck_assert_ptr_nonnull(strstr(err.text, "'temperature'"));
    check(FIELDS_completions, "{\"quite_something_else\":1}", &err);
    ck_assert_ptr_null(strstr(err.text, "do you mean"));
}
END_TEST

START_TEST(test_reading)
{
    json_t *body = json_loads("{\"a\":3.0,\"b\":null,\"c\":true,\"d\":\"x\",\"e\":2}", 0, NULL);
    ck_assert_int_eq(field_int(body, "a", -1), 3);
    ck_assert_int_eq(field_int(body, "b", -1), -1);
    ck_assert_ptr_null(field(body, "b"));
    ck_assert(field_bool(body, "c", false));
    ck_assert(field_bool(body, "z", true));
    ck_assert_str_eq(field_text(body, "d"), "x");
    ck_assert(field_number(body, "e", 0) == 2.0);
    json_decref(body);
}
END_TEST

START_TEST(test_schemas)
{
    for (int i = 1; i < FIELDS_COUNT_; i++) {
        json_t *s = fields_schema((enum field_set)i);
        ck_assert_msg(s != NULL, "%s", fields_name((enum field_set)i));
        const char *key;
        json_t *value;
        json_object_foreach(json_object_get(s, "properties"), key, value)
        {
            ck_assert_msg(json_is_object(value), "%s", key);
        }
        json_decref(s);
    }
}
END_TEST

/* What one of several alternatives requires must hold a value there: null is as if absent. */
START_TEST(test_alternatives)
{
    static const char *const kinds[] = {"oneOf", "anyOf"};
    size_t checked = 0, a, k;
    json_t *alternative, *name;
    for (int i = 1; i < FIELDS_COUNT_; i++) {
        json_t *s = fields_schema((enum field_set)i);
        for (size_t kind = 0; kind < 2; kind++)
            json_array_foreach(json_object_get(s, kinds[kind]), a, alternative)
            {
                json_t *properties = json_object_get(alternative, "properties");
                json_array_foreach(json_object_get(alternative, "required"), k, name)
                {
                    json_t *value = json_object_get(properties, json_string_value(name));
                    json_t *type = json_object_get(json_object_get(value, "not"), "type");
                    ck_assert_str_eq(json_string_value(type), "null");
                    checked++;
                }
            }
        json_decref(s);
    }
    ck_assert(checked >= 7); /* forward: 5, batch: 2 */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/fields");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_rows);
    tcase_add_test(t, test_nearest_name);
    tcase_add_test(t, test_reading);
    tcase_add_test(t, test_schemas);
    tcase_add_test(t, test_alternatives);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
