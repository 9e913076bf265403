/*
 * Every operation of the registry with its n-th allocation failing: it is refused as
 * OUT_OF_MEMORY or done, never half; what served before serves on, and nothing stays allocated.
 */
#include "core/adapters/registry.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct toy toy;
static struct registry *r;
static uint8_t first_digest[DIGEST_SIZE];

static void write_adapter(const char *name, float scale)
{
    const struct toy_tensor v[] = {
        {"model.layers.0.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, scale},
        {"model.layers.1.self_attn.q_proj.oft_R.weight", DT_BF16, 3, 6, 0.1f}};
    char path[128];
    snprintf(path, sizeof path, "root/%s", name);
    toy_adapter(toy_path(path), toy_config("\"oft_block_size\":4,\"target_modules\":[\"q_proj\"]"),
                v, 2);
}

static void setup(void)
{
    toy_open(&toy, false);
    mkdir(toy_path("root"), 0755);
    write_adapter("first", 0.1f);
    write_adapter("second", 0.2f);
    write_adapter("third", 0.4f); // far from orthogonal: it has warnings
    const char *root = toy_path("root");
    const struct registry_options options = {
        .roots = &root, .n_roots = 1, .base_name = "base", .memory = 1 << 20, .autoload = true};
    ck_assert_int_eq(registry_open(&toy.m, &toy_kernels, &options, &r, NULL), ST_OK);
    const struct adapter_request serving = {.name = "serving", .path = "first"};
    ck_assert_int_eq(registry_load(r, &serving, NULL, NULL, NULL), ST_OK);
    struct adapter *a = registry_acquire(r, "serving");
    memcpy(first_digest, a->digest, DIGEST_SIZE);
    adapter_unref(a);
}

static void teardown(void)
{
    registry_close(r);
    toy_close(&toy);
    toy_remove_dir();
}

static bool serves(const char *name)
{
    struct adapter *a = registry_acquire(r, name);
    adapter_unref(a);
    return a != NULL;
}

static bool serves_first(void)
{
    struct adapter *a = registry_acquire(r, "serving");
    bool same = a && !memcmp(a->digest, first_digest, DIGEST_SIZE);
    adapter_unref(a);
    return same;
}

static enum status retire(const char *name, struct error *err)
{
    struct adapter *out = NULL;
    uint64_t bytes;
    enum status s = registry_retire(r, name, &out, &bytes, err);
    adapter_unref(out);
    return s;
}

/* Makes the table's arrays as long as the operations need them: they are kept, not leaked. */
static void grow(void)
{
    const struct adapter_request more[] = {{.name = "second"}, {.name = "third"}};
    ck_assert_int_eq(registry_batch(r, more, 2, NULL, 0, NULL), ST_OK);
    ck_assert_int_eq(retire("second", NULL), ST_OK);
    ck_assert_int_eq(retire("third", NULL), ST_OK);
}

/* One operation, and what undoes it after it was done. */
struct operation {
    enum status (*run)(struct error *err);
    void (*check)(bool done);
};

static enum status load(struct error *err)
{
    const struct adapter_request q = {.name = "third", .path = "third"};
    struct adapter_info info = {0};
    bool replaced = true;
    enum status s = registry_load(r, &q, &replaced, &info, err);
    bool right = s || (!replaced && info.state == ADAPTER_READY && info.generation &&
                       (info.warnings.n || info.warnings.lost));
    adapter_info_clear(&info);
    return right ? s : ST_INTERNAL;
}

static void check_load(bool done)
{
    ck_assert_int_eq(serves("third"), done);
    ck_assert_int_eq(retire("third", NULL), done ? ST_OK : ST_ADAPTER_NOT_FOUND);
}

static enum status replace(struct error *err)
{
    const struct adapter_request q = {
        .name = "serving", .path = "second", .replace = REPLACE_IF_DIGEST_DIFFERS};
    struct adapter_info info = {0};
    bool replaced = false;
    enum status s = registry_load(r, &q, &replaced, &info, err);
    adapter_info_clear(&info);
    return s || replaced ? s : ST_INTERNAL;
}

static void check_replace(bool done)
{
    const struct adapter_request back = {
        .name = "serving", .path = "first", .replace = REPLACE_ALWAYS};
    ck_assert_int_eq(serves_first(), !done);
    if (done)
        ck_assert_int_eq(registry_load(r, &back, NULL, NULL, NULL), ST_OK);
}

static enum status stay(struct error *err)
{
    const struct adapter_request q = {
        .name = "serving", .path = "first", .replace = REPLACE_IF_DIGEST_DIFFERS};
    struct adapter_info info = {0};
    bool replaced = true;
    enum status s = registry_load(r, &q, &replaced, &info, err);
    adapter_info_clear(&info);
    return s || !replaced ? s : ST_INTERNAL;
}

static void check_stay(bool done)
{
    (void)done;
}

static enum status batch(struct error *err)
{
    const struct adapter_request q[] = {
        {.name = "second"}, {.name = "serving", .path = "third", .replace = REPLACE_ALWAYS}};
    const char *const unload[] = {"serving"};
    return registry_batch(r, q, 2, unload, 1, err);
}

static void check_batch(bool done)
{
    ck_assert_int_eq(serves("second"), done);
    if (done)
        ck_assert_int_eq(retire("second", NULL), ST_OK);
    check_replace(done);
}

static enum status on_demand(struct error *err)
{
    return registry_autoload(r, "second", err);
}

static void check_on_demand(bool done)
{
    ck_assert_int_eq(serves("second"), done);
    ck_assert_int_eq(retire("second", NULL), done ? ST_OK : ST_ADAPTER_NOT_FOUND);
}

static enum status unload(struct error *err)
{
    return retire("serving", err);
}

static void check_unload(bool done)
{
    const struct adapter_request back = {.name = "serving", .path = "first"};
    if (done)
        ck_assert_int_eq(registry_load(r, &back, NULL, NULL, NULL), ST_OK);
}

static enum status validate(struct error *err)
{
    const struct adapter_request q = {.name = "third"};
    struct findings f = {0};
    enum status s = registry_validate(r, &q, &f, err);
    findings_clear(&f);
    return s;
}

static const struct operation operations[] = {
    {load, check_load},     {replace, check_replace},     {stay, check_stay},
    {batch, check_batch},   {on_demand, check_on_demand}, {unload, check_unload},
    {validate, check_stay},
};
#define N_OPERATIONS (sizeof operations / sizeof operations[0])

START_TEST(each_operation)
{
    const struct operation *o = &operations[_i];
    grow();
    ck_assert_int_eq(o->run(NULL), ST_OK);
    o->check(true);
    struct registry_stats before, after;
    registry_stats(r, &before);
    FAULT_EACH(n)
    {
        long alive = fault_live();
        struct error err = ERROR_INIT;
        enum status s = o->run(&err);
        bool fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "allocation %ld: %s", n,
                      status_code(s));
        error_clear(&err);
        o->check(s == ST_OK);
        ck_assert_msg(serves_first(), "allocation %ld", n);
        ck_assert_msg(fault_live() == alive, "allocation %ld leaks", n);
        registry_stats(r, &after);
        ck_assert(after.loaded == before.loaded && after.bytes == before.bytes);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/registry_faults");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, each_operation, 0, (int)N_OPERATIONS);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
