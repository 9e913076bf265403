/*
 * Admission: names to generations and a view, over a registry of toy adapters on disk. A route
 * holds everything it needs or nothing at all.
 */
#include "core/run/route.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct toy toy;
static struct registry *r;
static struct merged *merged;
static struct arena arena;
static struct error err;
static int left;

static void on_left(void *ctx)
{
    (void)ctx;
    left++;
}

/* root/name rotates the q_projs; if asked it brings biases of the v_projs along. */
static void write_adapter(const char *name, bool bias)
{
    const struct toy_tensor v[] = {
        {"model.layers.0.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.1f},
        {"model.layers.1.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.1f},
        {"model.layers.0.self_attn.v_proj.oft_R.weight", DT_F32, 3, 6, 0.1f},
        {"model.layers.1.self_attn.v_proj.oft_R.weight", DT_F32, 3, 6, 0.1f},
        {"model.layers.0.self_attn.v_proj.base_layer.bias", DT_F32, TOY_HIDDEN, -1, .1f},
        {"model.layers.1.self_attn.v_proj.base_layer.bias", DT_F32, TOY_HIDDEN, -1, .1f}};
    char path[128], config[512];
    snprintf(path, sizeof path, "root/%s", name);
    snprintf(config, sizeof config,
             "{\"peft_type\":\"OFT\",\"r\":0,\"oft_block_size\":4,\"bias\":\"%s\","
             "\"peft_version\":\"0.21.2\",\"target_modules\":[\"q_proj\",\"v_proj\"]}",
             bias ? "oft_only" : "none");
    toy_adapter(toy_path(path), config, v, bias ? 6 : 4);
}

static void load(const char *name)
{
    const struct adapter_request q = {.name = name};
    ck_assert_msg(registry_load(r, &q, NULL, NULL, &err) == ST_OK, "%s", err.text);
}

static void setup(void)
{
    toy_open(&toy, false);
    mkdir(toy_path("root"), 0755);
    write_adapter("plain", false);
    write_adapter("other", false);
    write_adapter("biased", true);
    write_adapter("biased2", true);
    const char *root = toy_path("root");
    const struct registry_options options = {
        .roots = &root, .n_roots = 1, .base_name = "base", .memory = 1 << 20, .autoload = true};
    ck_assert_int_eq(registry_open(&toy.m, &toy_kernels, &options, &r, NULL), ST_OK);
    ck_assert_int_eq(merged_open(&toy.m, on_left, NULL, &merged, NULL), ST_OK);
    left = 0;
}

static void teardown(void)
{
    error_clear(&err);
    arena_free(&arena);
    merged_close(merged);
    registry_close(r);
    toy_close(&toy);
    toy_remove_dir();
}

static enum status enter_as(struct route *route, const struct chain_names *names, bool may_load,
                            bool *pending)
{
    error_clear(&err);
    *route = (struct route){0};
    return route_enter(route, names, COMPUTE_EXACT, r, merged, may_load, pending, &arena, &err);
}

static enum status enter(struct route *route, const char *a, const char *b)
{
    const struct chain_names names = {
        .names = {a, b}, .strength = {100, 100}, .n = a ? b ? 2 : 1 : 0};
    bool pending;
    enum status st = enter_as(route, &names, true, &pending);
    ck_assert(!pending);
    ck_assert_int_eq(route->entered, st == ST_OK);
    ck_assert(st == ST_OK || route->n == 0);
    return st;
}

static int32_t in_flight(const char *name)
{
    struct adapter *a = registry_acquire(r, name);
    int32_t n = a ? atomic_load(&a->in_flight) : -1;
    adapter_unref(a);
    return n;
}

START_TEST(holds_what_it_runs_on)
{
    struct route base, one, two;
    ck_assert_int_eq(enter(&base, NULL, NULL), ST_OK);
    ck_assert(base.n == 0 && base.n_adapted == 0 && base.view == toy.m.base);
    ck_assert_int_eq(enter(&one, "plain", NULL), ST_OK); /* from disk */
    ck_assert_int_eq(enter(&two, "other", "plain"), ST_OK);
    ck_assert_str_eq(two.refs[0].name, "other");
    ck_assert_str_eq(two.refs[1].name, "plain");
    ck_assert_uint_eq(two.refs[1].generation, one.refs[0].generation);
    ck_assert_ptr_eq(two.adapted[1], &one.used[0]->adapted);
    ck_assert_int_eq(in_flight("plain"), 2);
    ck_assert_int_eq(in_flight("other"), 1);
    route_leave(&one, merged);
    route_leave(&one, merged); /* holds nothing any more */
    route_leave(&two, merged);
    route_leave(&base, merged);
    ck_assert_int_eq(left, 3);
    ck_assert(in_flight("plain") == 0 && in_flight("other") == 0);
    ck_assert_int_eq(enter(&one, "nobody", NULL), ST_ADAPTER_NOT_FOUND);
    ck_assert_int_eq(enter(&one, "plain", "nobody"), ST_ADAPTER_NOT_FOUND);
    ck_assert_int_eq(in_flight("plain"), 0);
}
END_TEST

START_TEST(what_has_to_be_loaded_is_pending)
{
    struct route route;
    bool pending;
    struct chain_names names = {.names = {"plain"}, .strength = {100}, .n = 1};
    ck_assert_int_eq(enter_as(&route, &names, false, &pending), ST_OK);
    ck_assert(pending && !route.entered && route.n == 0);
    load("plain");
    ck_assert_int_eq(enter_as(&route, &names, false, &pending), ST_OK);
    ck_assert(!pending && route.entered);
    route_leave(&route, merged);
    names.strength[0] = 50;
    ck_assert_int_eq(enter_as(&route, &names, false, &pending), ST_OK);
    ck_assert(pending && !route.entered);
    ck_assert_int_eq(enter_as(&route, &names, true, &pending), ST_OK);
    ck_assert(!pending && route.used[0] != route.adapters[0] && route.used[0]->strength == 50);
    route_leave(&route, merged);
}
END_TEST

/* The registry here keeps exact mode's rotations: the other mode's are derived once. */
START_TEST(each_mode_has_its_rotations)
{
    struct route exact, fast, again;
    const struct chain_names names = {.names = {"plain"}, .strength = {100}, .n = 1};
    bool pending;
    ck_assert_int_eq(enter_as(&exact, &names, true, &pending), ST_OK);
    ck_assert_int_eq(exact.adapted[0]->rotation[TOY_Q0]->dtype, DT_F32);
    fast = again = (struct route){0};
    ck_assert_int_eq(
        route_enter(&fast, &names, COMPUTE_FAST, r, merged, false, &pending, &arena, &err), ST_OK);
    ck_assert(pending && !fast.entered && fast.n == 0);
    ck_assert_int_eq(
        route_enter(&fast, &names, COMPUTE_FAST, r, merged, true, &pending, &arena, &err), ST_OK);
    ck_assert_int_eq(fast.adapted[0]->rotation[TOY_Q0]->dtype, DT_I8);
    ck_assert_ptr_eq(fast.adapters[0], exact.adapters[0]);
    ck_assert_int_eq(
        route_enter(&again, &names, COMPUTE_FAST, r, merged, false, &pending, &arena, &err), ST_OK);
    ck_assert(!pending && again.used[0] == fast.used[0]);
    ck_assert_int_eq(in_flight("plain"), 3);
    route_leave(&exact, merged);
    route_leave(&fast, merged);
    route_leave(&again, merged);
    ck_assert_int_eq(in_flight("plain"), 0);
}
END_TEST

/* PEFT refuses a second adapter with biases ("supports only 1 adapter with bias"), and takes any
 * number of adapters without. */
START_TEST(one_adapter_may_bring_biases)
{
    struct route route;
    ck_assert_int_eq(enter(&route, "biased", NULL), ST_OK);
    route_leave(&route, merged);
    ck_assert_int_eq(enter(&route, "biased", "plain"), ST_OK);
    route_leave(&route, merged);
    ck_assert_int_eq(enter(&route, "plain", "biased"), ST_OK);
    route_leave(&route, merged);
    ck_assert_int_eq(enter(&route, "biased", "biased2"), ST_BIAS_CONFLICT);
    ck_assert_str_eq(err.param, "adapter");
    ck_assert(strstr(err.text, "'biased'") && strstr(err.text, "'biased2'"));
    ck_assert_int_eq(in_flight("biased"), 0);
    ck_assert_int_eq(enter(&route, "biased", NULL), ST_OK); /* the next one is served */
    route_leave(&route, merged);
}
END_TEST

/* Same key, same bits: everything that may change a bit is in it. */
START_TEST(keys)
{
    load("plain");
    load("other");
    static const struct chain_names all[] = {
        {.n = 0},
        {.names = {"plain"}, .strength = {100}, .n = 1},
        {.names = {"plain"}, .strength = {50}, .n = 1},
        {.names = {"plain", "other"}, .strength = {100, 100}, .n = 2},
        {.names = {"plain", "other"}, .strength = {100, 50}, .n = 2},
        {.names = {"other", "plain"}, .strength = {100, 100}, .n = 2},
        {.names = {"plain", "plain"}, .strength = {100, 100}, .n = 2},
    };
    enum { N = sizeof all / sizeof *all };
    struct route routes[N], again;
    bool pending;
    /* files of the same bytes have the same digest: make them differ */
    const struct toy_tensor v[] = {
        {"model.layers.0.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.3f},
        {"model.layers.1.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.1f}};
    toy_adapter(toy_path("root/other"),
                toy_config("\"oft_block_size\":4,\"target_modules\":[\"q_proj\"]"), v, 2);
    const struct adapter_request q = {.name = "other", .replace = REPLACE_ALWAYS};
    ck_assert_int_eq(registry_load(r, &q, NULL, NULL, NULL), ST_OK);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(enter_as(&routes[i], &all[i], true, &pending), ST_OK);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < i; k++)
            ck_assert(memcmp(routes[i].key, routes[k].key, PREFIX_KEY));
    ck_assert_int_eq(enter_as(&again, &all[3], true, &pending), ST_OK);
    ck_assert_mem_eq(again.key, routes[3].key, PREFIX_KEY);
    route_leave(&again, merged);
    again = (struct route){0};
    ck_assert_int_eq(
        route_enter(&again, &all[3], COMPUTE_FAST, r, merged, true, &pending, &arena, NULL), ST_OK);
    ck_assert(memcmp(again.key, routes[3].key, PREFIX_KEY));
    route_leave(&again, merged);
    for (int i = 0; i < N; i++)
        route_leave(&routes[i], merged);
}
END_TEST

START_TEST(memory_runs_out)
{
    const struct chain_names names = {.names = {"plain", "biased"}, .strength = {100, 30}, .n = 2};
    struct route route;
    bool pending;
    load("plain");
    load("biased");
    FAULT_EACH(n)
    {
        struct error why = ERROR_INIT;
        route = (struct route){0};
        enum status st =
            route_enter(&route, &names, COMPUTE_EXACT, r, merged, true, &pending, &arena, &why);
        bool fired = fault_disarm();
        ck_assert_msg(st == ST_OK || (fired && st == ST_OUT_OF_MEMORY), "allocation %ld: %s", n,
                      status_code(st));
        ck_assert_int_eq(in_flight("plain"), st == ST_OK);
        route_leave(&route, merged);
        ck_assert_int_eq(in_flight("plain"), 0);
        error_clear(&why);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/run/route");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, holds_what_it_runs_on);
    tcase_add_test(t, what_has_to_be_loaded_is_pending);
    tcase_add_test(t, each_mode_has_its_rotations);
    tcase_add_test(t, one_adapter_may_bring_biases);
    tcase_add_test(t, keys);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
