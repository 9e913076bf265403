#include "core/adapters/targets.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"

static struct findings found;
static bool selected[TOY_MODULES], usable;
static unsigned experts, missing; /* modules as bits */

/* Selects with a config that has `more`; all modules but the missing ones are in the file, as
 * canonical or alias. */
static void choose(const char *more, bool alias)
{
    struct toy toy;
    struct oftconfig config;
    const char *names[TOY_MODULES];
    bool present[TOY_MODULES];
    char text[512];
    toy_open(&toy, false);
    findings_clear(&found);
    snprintf(text, sizeof text, "\"oft_block_size\":4%s%s", *more ? "," : "", more);
    const char *whole = toy_config(text);
    ck_assert_int_eq(
        oftconfig_parse(whole, strlen(whole), "c", &toy.m, false, &config, &found, NULL), ST_OK);
    ck_assert_int_eq(found.n, 0);
    for (int i = 0; i < TOY_MODULES; i++) {
        names[i] = alias && toy.modules[i].alias ? toy.modules[i].alias : toy.modules[i].name;
        present[i] = !(missing >> i & 1);
        toy.modules[i].expert = experts >> i & 1;
    }
    ck_assert_int_eq(
        targets_select(&config, &toy.m, names, present, selected, &usable, &found, NULL), ST_OK);
    oftconfig_clear(&config);
    toy_close(&toy);
}

/* The selected modules as bits: embed q0 v0 up0 q1 v1 up1 head, from 1. */
static unsigned bits(void)
{
    unsigned b = 0;
    for (int i = 0; i < TOY_MODULES; i++)
        b |= (unsigned)selected[i] << i;
    return b;
}

static void expect(const char *more, unsigned want)
{
    choose(more, false);
    ck_assert_int_eq(found.n, 0);
    ck_assert(usable);
    ck_assert_msg(bits() == want, "%s: %02x, expected %02x", more, bits(), want);
}

enum { E = 1, Q0 = 2, V0 = 4, U0 = 8, Q1 = 16, V1 = 32, U1 = 64, H = 128 };

START_TEST(lists)
{
    expect("\"target_modules\":[\"q_proj\",\"v_proj\"]", Q0 | V0 | Q1 | V1);
    expect("\"target_modules\":[\"self_attn.q_proj\"]", Q0 | Q1);
    expect("\"target_modules\":[\"proj\"]", 0); // a suffix starts behind a dot
    expect("\"target_modules\":[\"model.layers.1.mlp.up_proj\"]", U1);
    expect("\"target_modules\":[\"lm_head\",\"embed_tokens\"]", E | H);
    expect("\"target_modules\":[]", 0);
    expect("", Q0 | V0 | Q1 | V1); // llama's default
    expect("\"target_modules\":[\"q_proj\",\"v_proj\"],\"exclude_modules\":[\"layers.0.self_attn."
           "v_proj\"]",
           Q0 | Q1 | V1);
    expect("\"target_modules\":[\"q_proj\"],\"exclude_modules\":\".*\\\\.0\\\\..*\"", Q1);
}
END_TEST

START_TEST(layers)
{
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":1", Q1);
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[1,0,7]", Q0 | Q1);
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[]", Q0 | Q1);
    expect("\"target_modules\":[\"q_proj\",\"lm_head\"],\"layers_to_transform\":[0]",
           Q0 | H); // exact names are not asked for their layer
    expect("\"target_modules\":[\"embed_tokens\"],\"layers_to_transform\":[0]", 0);
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[1],\"layers_pattern\":"
           "\"layers\"",
           Q1);
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[1],\"layers_pattern\":"
           "[\"h\",\"lay.*\"]",
           Q1);
    expect("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[1],\"layers_pattern\":\"h\"",
           0);
    expect("\"target_modules\":[\"model.layers.0.self_attn.q_proj\"],\"layers_to_transform\":[1]",
           Q0);
    expect("\"target_modules\":\".*q_proj\",\"layers_to_transform\":[1]", Q0 | Q1);
}
END_TEST

START_TEST(patterns)
{
    expect("\"target_modules\":\".*\\\\.(q|up)_proj\"", Q0 | U0 | Q1 | U1);
    expect("\"target_modules\":\"q_proj\"", 0);
    expect("\"target_modules\":\"all-linear\"", Q0 | V0 | U0 | Q1 | V1 | U1);
    expect("\"target_modules\":\"ALL-Linear\",\"exclude_modules\":[\"up_proj\"]",
           Q0 | V0 | Q1 | V1);
    choose("\"target_modules\":\"(\"", false);
    ck_assert(!usable && found.errors == 1);
    ck_assert_int_eq(found.v[0].code, ST_CONFIG_INVALID_VALUE);
    ck_assert_str_eq(found.v[0].field, "target_modules");
    choose("\"target_modules\":\"(.*.*.*.*.*.*.*.*.*)*[xz]\"", false);
    ck_assert(!usable && found.errors == 1);
    choose("\"target_modules\":[\"q_proj\"],\"exclude_modules\":\"[\"", false);
    ck_assert_str_eq(found.v[0].field, "exclude_modules");
    choose("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":1,\"layers_pattern\":\"(\"",
           false);
    ck_assert_str_eq(found.v[0].field, "layers_pattern");
}
END_TEST

START_TEST(what_cannot_be_rotated)
{
    choose("\"target_modules\":[\"norm\",\"q_proj\"]", false);
    ck_assert_int_eq(found.n, 1);
    ck_assert_str_eq(found.v[0].module, "model.norm");
    choose("\"target_modules\":\".*\"", false);
    ck_assert_int_eq(found.n, sizeof toy_others / sizeof toy_others[0]);
}
END_TEST

START_TEST(other_names)
{
    choose("\"target_modules\":[\"query\",\"v_proj\"]", true);
    ck_assert_int_eq(found.n, 0);
    ck_assert_int_eq(bits(), Q0 | V0 | Q1 | V1);
    choose("\"target_modules\":[\"q_proj\"]", true);
    ck_assert_int_eq(bits(), 0);
}
END_TEST

/* Part of a parameter to transformers 5: a file without any rotation of them is whole. */
START_TEST(fused_experts)
{
    experts = U0 | U1;
    missing = U0 | U1;
    expect("\"target_modules\":[\"q_proj\",\"up_proj\"]", Q0 | Q1);
    expect("\"target_modules\":\".*\\\\.(q|up)_proj\"", Q0 | Q1);
    expect("\"target_modules\":\"all-linear\"", Q0 | V0 | Q1 | V1);
    missing = U1;
    expect("\"target_modules\":[\"q_proj\",\"up_proj\"]", Q0 | U0 | Q1 | U1);
    experts = missing = 0;
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/targets");
    TCase *t = tcase_create("all");
    tcase_add_test(t, lists);
    tcase_add_test(t, layers);
    tcase_add_test(t, patterns);
    tcase_add_test(t, what_cannot_be_rotated);
    tcase_add_test(t, other_names);
    tcase_add_test(t, fused_experts);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
