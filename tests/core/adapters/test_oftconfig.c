#include "core/adapters/oftconfig.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"

static struct findings found;
static struct oftconfig config;

static void parse_text(const char *text, const struct model *m)
{
    findings_clear(&found);
    oftconfig_clear(&config);
    ck_assert_int_eq(oftconfig_parse(text, strlen(text), "dir/adapter_config.json", m, false,
                                     &config, &found, NULL),
                     ST_OK);
    for (size_t i = 0; i < found.n; i++)
        ck_assert_msg(strstr(found.v[i].message, "dir/adapter_config.json") != NULL, "%s",
                      found.v[i].message);
}

static void parse(const char *more)
{
    struct model m = {.model_type = "llama"};
    parse_text(toy_config(more), &m);
}

/* The only finding: its code and field, and whether it is an error. */
static void only(enum status code, const char *field, bool is_error)
{
    ck_assert_msg(found.n == 1, "%zu findings, the last: %s", found.n,
                  found.n ? found.v[found.n - 1].message : "");
    ck_assert_str_eq(status_code(found.v[0].code), status_code(code));
    ck_assert_str_eq(found.v[0].field, field);
    ck_assert_int_eq(found.v[0].severity, is_error ? SEVERITY_ERROR : SEVERITY_WARNING);
}

#define SIZE "\"oft_block_size\":32"

START_TEST(defaults)
{
    parse(SIZE);
    ck_assert_int_eq(found.n, 0);
    ck_assert(config.neumann && config.terms == 5 && !config.coft && !config.block_share);
    ck_assert(config.eps == 6e-5 && config.bias == OFT_BIAS_NONE && !config.old_series);
    ck_assert(config.block == 32 && config.blocks == 0 && !config.target_modules);
    parse(SIZE ",\"use_cayley_neumann\":false,\"coft\":true,\"eps\":1,\"block_share\":true,"
               "\"target_modules\":[\"a\",\"b\"],\"auto_mapping\":{\"x\":1},\"revision\":null,"
               "\"modules_to_save\":[],\"layers_to_transform\":[1,2],\"layers_pattern\":\"h\"");
    ck_assert_int_eq(found.n, 0);
    ck_assert(!config.neumann && config.coft && config.eps == 1 && config.block_share);
    ck_assert(json_array_size(config.target_modules) == 2 && config.layers_to_transform);
}
END_TEST

START_TEST(wrong_values)
{
    static const struct {
        const char *text, *field;
    } cases[] = {
        {"\"oft_block_size\":\"32\"", "oft_block_size"},
        {"\"oft_block_size\":-1", "oft_block_size"},
        {"\"oft_block_size\":32.5", "oft_block_size"},
        {"\"oft_block_size\":true", "oft_block_size"},
        {"\"oft_block_size\":2147483648", "oft_block_size"},
        {SIZE ",\"num_cayley_neumann_terms\":65", "num_cayley_neumann_terms"},
        {SIZE ",\"num_cayley_neumann_terms\":-1", "num_cayley_neumann_terms"},
        {SIZE ",\"num_cayley_neumann_terms\":5.0", "num_cayley_neumann_terms"},
        {SIZE ",\"eps\":\"x\"", "eps"},
        {SIZE ",\"eps\":-1e-5", "eps"},
        {SIZE ",\"eps\":NaN", "eps"},
        {SIZE ",\"eps\": -Infinity", "eps"},
        {SIZE ",\"coft\":1", "coft"},
        {SIZE ",\"coft\":null", "coft"},
        {SIZE ",\"use_cayley_neumann\":\"true\"", "use_cayley_neumann"},
        {SIZE ",\"target_modules\":3", "target_modules"},
        {SIZE ",\"target_modules\":[\"a\",1]", "target_modules"},
        {SIZE ",\"target_modules\":\"a\\u0000b\"", "target_modules"},
        {SIZE ",\"layers_to_transform\":\"1\"", "layers_to_transform"},
        {SIZE ",\"layers_pattern\":\"h\"", "layers_pattern"},
        {SIZE ",\"auto_mapping\":[]", "auto_mapping"},
        {SIZE ",\"fan_in_fan_out\":0", "fan_in_fan_out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parse(cases[i].text);
        only(ST_CONFIG_INVALID_VALUE, cases[i].field, true);
    }
    struct model m = {.model_type = "llama"};
    parse_text("{\"peft_type\":\"OFT\"," SIZE ",\"bias\":\"lora_only\"}", &m);
    ck_assert_int_eq(found.n, 2); // and the missing version
    ck_assert_str_eq(found.v[0].field, "bias");
    parse_text("{\"peft_type\":\"OFT\"," SIZE ",\"peft_version\":\"1\",\"task_type\":\"X\"}", &m);
    only(ST_CONFIG_INVALID_VALUE, "task_type", true);
    parse_text("{\"peft_type\":\"OFT\"," SIZE ",\"peft_version\":\"new\"}", &m);
    only(ST_CONFIG_INVALID_VALUE, "peft_version", true);
}
END_TEST

START_TEST(methods_and_blocks)
{
    struct model m = {.model_type = "llama"};
    parse_text("{\"peft_type\":\"LORA\",\"peft_version\":\"1\"," SIZE "}", &m);
    only(ST_PEFT_TYPE_UNSUPPORTED, "peft_type", true);
    parse_text("{\"peft_version\":\"1\"," SIZE "}", &m);
    only(ST_CONFIG_MISSING_FIELD, "peft_type", true);
    parse("");
    only(ST_CONFIG_MISSING_FIELD, "oft_block_size", true);
    parse("\"oft_block_size\":0");
    only(ST_R_AND_BLOCK_SIZE_CONFLICT, "oft_block_size", true);
    parse_text("{\"peft_type\":\"OFT\",\"peft_version\":\"1\",\"r\":8," SIZE "}", &m);
    only(ST_R_AND_BLOCK_SIZE_CONFLICT, "oft_block_size", true);
    parse_text("{\"peft_type\":\"OFT\",\"peft_version\":\"1\",\"r\":8,\"oft_block_size\":0}", &m);
    ck_assert_int_eq(found.n, 0);
    ck_assert_int_eq(config.blocks, 8);
}
END_TEST

START_TEST(unknown_keys)
{
    parse(SIZE ",\"oft_blocksize\":16");
    only(ST_CONFIG_UNKNOWN_FIELD, "oft_blocksize", false);
    ck_assert_str_eq(found.v[0].expected, "oft_block_size");
    parse(SIZE ",\"rank_pattern\":{}");
    only(ST_CONFIG_UNKNOWN_FIELD, "rank_pattern", false);
    parse(SIZE ",\"rank_pattern\":{\"q_proj\":4}");
    only(ST_CONFIG_UNKNOWN_FIELD, "rank_pattern", true);
    parse(SIZE ",\"target_parameters\":[\"x\"]");
    only(ST_CONFIG_UNKNOWN_FIELD, "target_parameters", true);
    parse(SIZE ",\"modules_to_save\":[\"classifier\",\"score\"]");
    ck_assert_int_eq(found.n, 0);
    parse(SIZE ",\"modules_to_save\":[\"score\",\"qa_outputs\"]");
    only(ST_MODULES_TO_SAVE_UNSUPPORTED, "modules_to_save", true);
    ck_assert_str_eq(found.v[0].module, "qa_outputs");
}
END_TEST

START_TEST(broken_text)
{
    struct model m = {.model_type = "llama"};
    parse_text("{\"peft_type\":\"OFT\",\"peft_type\":\"OFT\"," SIZE "}", &m);
    only(ST_CONFIG_DUPLICATE_KEY, "adapter_config.json", true);
    static const char *const texts[] = {"",        "[]",           "{", "null", "{\"a\":}",
                                        "\"NaN\"", "{\"r\":1e999}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        parse_text(texts[i], &m);
        only(ST_CONFIG_INVALID_VALUE, "adapter_config.json", true);
    }
}
END_TEST

START_TEST(versions)
{
    static const struct {
        const char *text;
        int old; /* -1: no version */
    } cases[] = {
        {NULL, 1},
        {"0.17.1", 1},
        {"0.16.0", 1},
        {"0.18.0", 0},
        {"0.18", 0},
        {"0.18.1", 0},
        {"0.21.2", 0},
        {"1.0", 0},
        {"0.18.0.dev0", 1},
        {"0.18.0rc1", 1},
        {"0.18.0a2", 1},
        {"0.18.0.post1", 0},
        {"0.18.0+cu12", 0},
        {"0.9", 1},
        {"0.20.1.dev0@5d602fd", 0},
        {"0.18.0.dev0@abc", 1},
        {"0.18.0@abc", 0},
        {"v0.19", 0},
        {"", -1},
        {"latest", -1},
        {"10", 0},
        {"0.100.0", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool ok, old = oftconfig_version_old(cases[i].text, &ok);
        ck_assert_msg((ok ? old : -1) == cases[i].old, "%s", cases[i].text);
    }
    struct model m = {.model_type = "llama"};
    parse_text("{\"peft_type\":\"OFT\"," SIZE "}", &m);
    only(ST_CAYLEY_VERSION_MISMATCH, "peft_version", false);
    ck_assert(config.old_series);
    parse_text("{\"peft_type\":\"OFT\",\"use_cayley_neumann\":false," SIZE "}", &m);
    ck_assert_int_eq(found.n, 0);
}
END_TEST

START_TEST(replication)
{
    static const struct layer_range ranges[] = {{0, 4}, {2, 6}};
    struct model m = {.model_type = "llama", .replication = ranges, .n_replication = 2};
    parse_text(toy_config(SIZE ",\"layer_replication\":[[0,4],[2,6]]"), &m);
    ck_assert_int_eq(found.n, 0);
    parse_text(toy_config(SIZE), &m);
    ck_assert_int_eq(found.n, 0);
    parse_text(toy_config(SIZE ",\"layer_replication\":[[0,4],[2,5]]"), &m);
    only(ST_BASE_MODEL_MISMATCH, "layer_replication", true);
    ck_assert_str_eq(found.v[0].expected, "[[0,4],[2,6]]");
    ck_assert_str_eq(found.v[0].got, "[[0,4],[2,5]]");
    parse(SIZE ",\"layer_replication\":[[0,4],[2,6]]");
    ck_assert_int_eq(found.n, 2);
    ck_assert_int_eq(found.v[0].code, ST_BASE_MODEL_MISMATCH);
    ck_assert_int_eq(found.v[1].code, ST_CONFIG_UNKNOWN_FIELD);
    parse(SIZE ",\"layer_replication\":null");
    ck_assert_int_eq(found.n, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/oftconfig");
    TCase *t = tcase_create("all");
    tcase_add_test(t, defaults);
    tcase_add_test(t, wrong_values);
    tcase_add_test(t, methods_and_blocks);
    tcase_add_test(t, unknown_keys);
    tcase_add_test(t, broken_text);
    tcase_add_test(t, versions);
    tcase_add_test(t, replication);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
