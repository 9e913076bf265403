#include "core/adapters/registry.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct toy toy;
static struct registry *r;
static struct error err;

static const struct toy_tensor tensors[] = {
    {"model.layers.0.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.1f},
    {"model.layers.1.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0.1f}};
#define CONFIG "\"oft_block_size\":4,\"target_modules\":[\"q_proj\"]"

/* An adapter in root/name; scale makes its digest. */
static void write_adapter(const char *name, float scale)
{
    struct toy_tensor v[2] = {tensors[0], tensors[1]};
    v[0].scale = scale;
    char path[128];
    snprintf(path, sizeof path, "root/%s", name);
    toy_adapter(toy_path(path), toy_config(CONFIG), v, 2);
}

static void open_for(uint64_t memory, enum compute mode)
{
    const char *root = toy_path("root");
    registry_close(r);
    struct registry_options options = {.roots = &root,
                                       .n_roots = 1,
                                       .base_name = "base",
                                       .memory = memory,
                                       .autoload = true,
                                       .adapter = {.mode = mode}};
    ck_assert_int_eq(registry_open(&toy.m, &toy_kernels, &options, &r, &err), ST_OK);
}

static void open_registry(uint64_t memory)
{
    open_for(memory, COMPUTE_EXACT);
}

static void setup(void)
{
    toy_open(&toy, false);
    mkdir(toy_path("root"), 0755);
    write_adapter("a", 0.1f);
    write_adapter("b", 0.2f);
    write_adapter("c", 0.3f);
    open_registry(1 << 20);
}

static void teardown(void)
{
    registry_close(r);
    r = NULL;
    error_clear(&err);
    toy_close(&toy);
    toy_remove_dir();
}

static enum status load(const char *name, const char *path, enum replace_policy policy)
{
    error_clear(&err);
    bool replaced;
    return registry_load(r,
                         &(struct adapter_request){.name = name, .path = path, .replace = policy},
                         &replaced, NULL, &err);
}

static uint64_t generation(const char *name)
{
    struct adapter_info info;
    if (registry_info(r, name, &info, NULL))
        return 0;
    uint64_t g = info.generation;
    adapter_info_clear(&info);
    return g;
}

START_TEST(names)
{
    static const char *const good[] = {"a", "0", "A.b_c-d", "7b"};
    static const char *const bad[] = {"", ".", "..", "-a", "_a", "a/b", "a b", "\xc3\xa9", "a\n"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert(registry_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert(!registry_name_valid(bad[i]));
    char longest[130];
    memset(longest, 'a', 129);
    longest[129] = 0;
    ck_assert(!registry_name_valid(longest));
    longest[128] = 0;
    ck_assert(registry_name_valid(longest));
    ck_assert_int_eq(load("../x", "a", REPLACE_NEVER), ST_INVALID_VALUE);
    ck_assert_int_eq(load("base", "a", REPLACE_NEVER), ST_NAME_IN_USE);
}
END_TEST

START_TEST(paths)
{
    ck_assert_int_eq(load("x", "a", REPLACE_NEVER), ST_OK);
    ck_assert_int_eq(load("y", toy_path("root/b"), REPLACE_NEVER),
                     ST_OK); // inside: absolute is fine
    ck_assert_int_eq(load("z", "../root/c", REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
    ck_assert_int_eq(err.findings.n, 1);
    ck_assert_int_eq(load("z", "a/../c", REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
    ck_assert_int_eq(load("z", "/etc", REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
    ck_assert_int_eq(load("z", "nothing", REPLACE_NEVER), ST_FILE_UNREADABLE);
    toy_adapter(toy_path("outside"), toy_config(CONFIG), tensors, 2);
    ck_assert_int_eq(symlink(toy_path("outside"), toy_path("root/link")), 0);
    ck_assert_int_eq(load("z", "link", REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
    ck_assert_int_eq(symlink("a", toy_path("root/inner")), 0);
    ck_assert_int_eq(load("inner", NULL, REPLACE_NEVER), ST_OK);
    mkdir(toy_path("root/files"), 0755); // a folder inside whose file leads out
    ck_assert_int_eq(symlink(toy_path("outside/adapter_config.json"),
                             toy_path("root/files/adapter_config.json")),
                     0);
    ck_assert_int_eq(
        symlink("../a/adapter_model.safetensors", toy_path("root/files/adapter_model.safetensors")),
        0);
    ck_assert_int_eq(load("z", "files", REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
    struct adapter_request trusted = {.name = "z", .path = toy_path("outside"), .trusted = true};
    ck_assert_int_eq(registry_load(r, &trusted, NULL, NULL, &err), ST_OK);
    registry_close(r);
    struct registry_options none = {.base_name = "base"};
    ck_assert_int_eq(registry_open(&toy.m, &toy_kernels, &none, &r, &err), ST_OK);
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_PATH_OUTSIDE_ROOT);
}
END_TEST

START_TEST(policies)
{
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    uint64_t first = generation("a");
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_NAME_IN_USE);
    ck_assert_int_eq(load("a", NULL, REPLACE_IF_DIGEST_DIFFERS), ST_OK);
    ck_assert_int_eq(generation("a"), first);
    struct adapter *old = registry_acquire(r, "a");
    ck_assert_int_eq(load("a", "b", REPLACE_IF_DIGEST_DIFFERS), ST_OK);
    uint64_t second = generation("a");
    ck_assert_int_gt(second, first);
    ck_assert_int_eq(old->generation, first); // who has it keeps it
    ck_assert_int_eq(load("a", "b", REPLACE_ALWAYS), ST_OK);
    ck_assert_int_gt(generation("a"), second);
    struct adapter *now = registry_acquire(r, "a");
    struct adapter_request req = {
        .name = "a", .path = "c", .replace = REPLACE_ALWAYS, .if_digest = old->digest_text};
    bool replaced;
    struct adapter_info info;
    ck_assert_int_eq(registry_load(r, &req, &replaced, NULL, &err), ST_DIGEST_MISMATCH);
    req.if_digest = now->digest_text;
    error_clear(&err);
    ck_assert_int_eq(registry_load(r, &req, &replaced, &info, &err), ST_OK);
    ck_assert(replaced && info.state == ADAPTER_READY && !strcmp(info.path, "c"));
    ck_assert_str_eq(info.name, "a");
    adapter_info_clear(&info);
    adapter_unref(old);
    adapter_unref(now);
}
END_TEST

START_TEST(refused_changes_nothing)
{
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    uint64_t g = generation("a");
    toy_write_file(toy_path("root/b"), "adapter_config.json", "{}", 2);
    ck_assert_int_ne(load("a", "b", REPLACE_ALWAYS), ST_OK);
    ck_assert_int_gt(err.findings.n, 1);
    ck_assert_int_eq(generation("a"), g);
    struct registry_stats stats;
    registry_stats(r, &stats);
    ck_assert(stats.loaded == 1 && stats.loads == 1 && stats.failures == 1);
}
END_TEST

/* A load that failed stays listed until it is taken out, by itself or in a batch, or succeeds. */
START_TEST(failed_ones_go)
{
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    const char *const broken[] = {"b", "x", "y"};
    for (int i = 0; i < 3; i++) {
        ck_assert(!registry_lists(r, broken[i]));
        registry_mark(r, broken[i], ADAPTER_FAILED, "why");
        ck_assert(registry_lists(r, broken[i]));
    }
    struct adapter *out;
    uint64_t bytes;
    ck_assert_int_eq(registry_retire(r, "x", &out, &bytes, &err), ST_OK);
    ck_assert_ptr_null(out);
    ck_assert_int_eq(registry_retire(r, "x", &out, &bytes, &err), ST_ADAPTER_NOT_FOUND);
    error_clear(&err);
    struct adapter_request c = {.name = "c"};
    const char *unload[] = {"y", "a", "nobody"};
    ck_assert_int_eq(registry_batch(r, &c, 1, unload, 3, &err), ST_ADAPTER_NOT_FOUND);
    error_clear(&err);
    ck_assert(registry_lists(r, "y") && generation("a") && !registry_lists(r, "c"));
    ck_assert_int_eq(registry_batch(r, &c, 1, unload, 2, &err), ST_OK);
    ck_assert(!registry_lists(r, "y") && !registry_lists(r, "a") && generation("c"));
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    struct adapter_info info;
    ck_assert_int_eq(registry_info(r, "b", &info, &err), ST_OK);
    ck_assert(info.state == ADAPTER_READY && !info.error);
    adapter_info_clear(&info);
    registry_mark(r, "z", ADAPTER_LOADING, NULL);
    ck_assert(registry_lists(r, "z"));
    ck_assert_int_eq(registry_retire(r, "z", &out, &bytes, &err), ST_ADAPTER_NOT_FOUND);
}
END_TEST

/* What one of the test's adapters takes. */
static uint64_t size_of_one(void)
{
    struct registry_stats stats;
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    registry_stats(r, &stats);
    return stats.bytes;
}

START_TEST(eviction)
{
    uint64_t one = size_of_one();
    open_registry(2 * one);
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    usleep(3000);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    usleep(3000);
    adapter_unref(registry_acquire(r, "a")); // b is now the least recently used
    ck_assert_int_eq(load("c", NULL, REPLACE_NEVER), ST_OK);
    struct adapter *a = registry_acquire(r, "a"), *c = registry_acquire(r, "c");
    ck_assert(a && c && !registry_acquire(r, "b"));
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_CAPACITY_EXCEEDED); // both are in use
    adapter_unref(c);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    ck_assert_ptr_null(registry_acquire(r, "c"));
    adapter_unref(a);
    struct registry_stats stats;
    registry_stats(r, &stats);
    ck_assert(stats.evictions == 2 && stats.loaded == 2 && stats.bytes == 2 * one);
    ck_assert(stats.budget == 2 * one && stats.failures == 1);
    ck_assert_int_eq(load("b", "c", REPLACE_ALWAYS), ST_OK); // the old one makes its own room
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.evictions, 2);
    open_registry(one - 1);
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_CAPACITY_EXCEEDED);
    open_registry(one);
    struct adapter_request pinned = {.name = "a", .pinned = true};
    ck_assert_int_eq(registry_load(r, &pinned, NULL, NULL, NULL), ST_OK);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_CAPACITY_EXCEEDED);
    ck_assert_int_eq(registry_autoload(r, "a", NULL), ST_OK);
}
END_TEST

START_TEST(batches)
{
    struct adapter_request good[] = {{.name = "a"}, {.name = "b"}};
    ck_assert_int_eq(registry_batch(r, good, 2, NULL, 0, &err), ST_OK);
    struct adapter_request half[] = {{.name = "c"}, {.name = "d", .path = "nothing"}};
    const char *unload[] = {"a"};
    ck_assert_int_eq(registry_batch(r, half, 2, unload, 1, &err), ST_FILE_UNREADABLE);
    ck_assert(generation("a") && !generation("c"));
    error_clear(&err);
    const char *missing[] = {"a", "x"};
    ck_assert_int_eq(registry_batch(r, half, 1, missing, 2, &err), ST_ADAPTER_NOT_FOUND);
    ck_assert(generation("a") && !generation("c"));
    error_clear(&err);
    struct adapter_request twice[] = {{.name = "c"}, {.name = "c"}};
    ck_assert_int_eq(registry_batch(r, twice, 2, NULL, 0, &err), ST_NAME_IN_USE);
    error_clear(&err);
    uint64_t before = generation("a");
    struct adapter_request swap[] = {{.name = "a"}, {.name = "c"}}; // a out and in again
    const char *both[] = {"a", "b"};
    ck_assert_int_eq(registry_batch(r, swap, 2, both, 2, &err), ST_OK);
    ck_assert(generation("a") > before && generation("c"));
    ck_assert_ptr_null(registry_acquire(r, "b"));
}
END_TEST

START_TEST(strengths)
{
    uint64_t one = size_of_one();
    open_registry(3 * one);
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    struct adapter *a = registry_acquire(r, "a"), *half, *again, *whole;
    ck_assert_ptr_null(registry_acquire_derived(r, a, 50, COMPUTE_EXACT));
    ck_assert_int_eq(registry_derive(r, a, 50, COMPUTE_EXACT, &half, &err), ST_OK);
    ck_assert_int_eq(registry_derive(r, a, 50, COMPUTE_EXACT, &again, &err), ST_OK);
    ck_assert_ptr_eq(half, again);
    ck_assert_int_eq(registry_derive(r, a, 100, COMPUTE_EXACT, &whole, &err), ST_OK);
    ck_assert_ptr_eq(whole, a);
    again = (adapter_unref(again), registry_acquire_derived(r, a, 50, COMPUTE_EXACT));
    ck_assert_ptr_eq(half, again);
    struct registry_stats stats;
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.bytes, one + half->rotation_bytes);
    adapter_unref(half);
    adapter_unref(again);
    ck_assert_int_eq(load("a", "b", REPLACE_ALWAYS), ST_OK); // what was derived goes too
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.bytes, 2 * one); // the old one is held here
    size_t rotations = a->rotation_bytes;
    ck_assert_int_eq(registry_derive(r, a, 50, COMPUTE_EXACT, &half, &err),
                     ST_OK); // of the old one: not kept
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.bytes, 2 * one + rotations);
    adapter_unref(half);
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.bytes, 2 * one);
    adapter_unref(a);
    adapter_unref(whole);
    registry_stats(r, &stats);
    ck_assert_int_eq(stats.bytes, one);
}
END_TEST

/* A generation that was replaced while a request holds it takes its bytes, and its part of the
 * budget, until the request lets go; then both are free at once. */
static uint64_t rotation_bytes(const char *name)
{
    struct adapter_info info;
    ck_assert_int_eq(registry_info(r, name, &info, &err), ST_OK);
    uint64_t bytes = info.rotation_bytes;
    adapter_info_clear(&info);
    return bytes;
}

START_TEST(modes)
{
    open_for(1 << 20, COMPUTE_FAST);
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    struct adapter *a = registry_acquire(r, "a"), *b = registry_acquire(r, "b"), *d;
    d = registry_acquire_derived(r, a, 100, COMPUTE_FAST);
    ck_assert_ptr_eq(d, a);
    adapter_unref(d);
    ck_assert_ptr_null(registry_acquire_derived(r, a, 100, COMPUTE_EXACT));
    uint64_t own = rotation_bytes("b"), all = own, bytes;
    const struct {
        int32_t strength;
        enum compute mode;
    } forms[] = {{50, COMPUTE_FAST},  {100, COMPUTE_EXACT}, {0, COMPUTE_EXACT},
                 {50, COMPUTE_EXACT}, {99, COMPUTE_FAST},   {0, COMPUTE_FAST}};
    for (int i = 0; i < 6; i++) { // of two generations in turns
        ck_assert_int_eq(registry_derive(r, i % 2 ? a : b, 70, COMPUTE_EXACT, &d, &err), ST_OK);
        adapter_unref(d);
        ck_assert_int_eq(registry_derive(r, b, forms[i].strength, forms[i].mode, &d, &err), ST_OK);
        all += d->rotation_bytes;
        adapter_unref(d);
    }
    d = registry_acquire_derived(r, b, 70, COMPUTE_EXACT);
    all += d->rotation_bytes;
    adapter_unref(d);
    for (int i = 0; i < 6; i++) {
        d = registry_acquire_derived(r, b, forms[i].strength, forms[i].mode);
        ck_assert(d && d->generation == b->generation && d->strength == forms[i].strength &&
                  d->mode == forms[i].mode);
        adapter_unref(d);
        ck_assert_ptr_null(registry_acquire_derived(r, a, forms[i].strength, forms[i].mode));
    }
    ck_assert_uint_eq(rotation_bytes("b"), all);
    struct adapter *out;
    ck_assert_int_eq(registry_retire(r, "b", &out, &bytes, &err), ST_OK);
    ck_assert_uint_eq(bytes, all + out->packed_bytes);
    adapter_unref(out);
    for (int i = 0; i < 6; i++)
        ck_assert_ptr_null(registry_acquire_derived(r, b, forms[i].strength, forms[i].mode));
    d = registry_acquire_derived(r, a, 70, COMPUTE_EXACT); // a's stayed
    ck_assert_uint_eq(rotation_bytes("a"), own + d->rotation_bytes);
    adapter_unref(d);
    adapter_unref(a);
    adapter_unref(b);
}
END_TEST

START_TEST(replaced_generations_count)
{
    uint64_t one = size_of_one();
    struct registry_stats stats;
    open_registry(2 * one);
    struct adapter_request pinned = {.name = "a", .pinned = true, .replace = REPLACE_ALWAYS};
    ck_assert_int_eq(registry_load(r, &pinned, NULL, NULL, NULL), ST_OK);
    struct adapter *held = registry_acquire(r, "a");
    pinned.path = "b";
    ck_assert_int_eq(registry_load(r, &pinned, NULL, NULL, NULL), ST_OK);
    registry_stats(r, &stats);
    ck_assert(stats.loaded == 1 && stats.bytes == 2 * one);
    pinned.path = "c"; // the second generation is idle and makes its own room
    ck_assert_int_eq(registry_load(r, &pinned, NULL, NULL, NULL), ST_OK);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_CAPACITY_EXCEEDED);
    struct adapter *also = registry_acquire(r, "a");
    pinned.path = "b"; // now both are held
    ck_assert_int_eq(registry_load(r, &pinned, NULL, NULL, &err), ST_CAPACITY_EXCEEDED);
    ck_assert_ptr_eq(registry_acquire(r, "a"), also);
    adapter_unref(also);
    adapter_unref(also);
    registry_stats(r, &stats);
    ck_assert_uint_eq(stats.bytes, 2 * one);
    adapter_unref(held);
    registry_stats(r, &stats);
    ck_assert_uint_eq(stats.bytes, one);
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    held = registry_acquire(r, "b"); // an unload that drains counts too
    struct adapter *out;
    uint64_t bytes;
    ck_assert_int_eq(registry_retire(r, "b", &out, &bytes, NULL), ST_OK);
    adapter_unref(out);
    ck_assert_int_eq(load("c", NULL, REPLACE_NEVER), ST_CAPACITY_EXCEEDED);
    registry_close(r); // a request may outlive it
    r = NULL;
    adapter_unref(held);
}
END_TEST

START_TEST(autoload_and_retire)
{
    ck_assert(registry_discoverable(r, "a") && !registry_discoverable(r, "x"));
    ck_assert(!registry_discoverable(r, "../outside"));
    ck_assert_ptr_null(registry_acquire(r, "a"));
    ck_assert_int_eq(registry_autoload(r, "a", &err), ST_OK);
    ck_assert_int_eq(registry_autoload(r, "a", &err), ST_OK);
    ck_assert_int_eq(registry_autoload(r, "x", &err), ST_ADAPTER_NOT_FOUND);
    struct adapter *out;
    uint64_t bytes;
    ck_assert_int_eq(registry_retire(r, "a", &out, &bytes, &err), ST_OK);
    ck_assert_ptr_null(registry_acquire(r, "a"));
    ck_assert_int_eq(atomic_load(&out->refs), 1);
    adapter_unref(out);
    ck_assert_int_eq(registry_retire(r, "a", &out, &bytes, &err), ST_ADAPTER_NOT_FOUND);
}
END_TEST

START_TEST(listings)
{
    struct adapter_info *v;
    size_t n;
    ck_assert_int_eq(load("b", NULL, REPLACE_NEVER), ST_OK);
    ck_assert_int_eq(load("zz", "a", REPLACE_NEVER), ST_OK);
    registry_mark(r, "broken", ADAPTER_FAILED, "a sentence");
    registry_mark(r, "coming", ADAPTER_LOADING, NULL);
    ck_assert_int_eq(registry_list(r, true, &v, &n, &err), ST_OK);
    static const struct {
        const char *name;
        enum adapter_state state;
    } want[] = {{"a", ADAPTER_AVAILABLE}, {"b", ADAPTER_READY},        {"broken", ADAPTER_FAILED},
                {"c", ADAPTER_AVAILABLE}, {"coming", ADAPTER_LOADING}, {"zz", ADAPTER_READY}};
    ck_assert_int_eq(n, 6);
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(v[i].name, want[i].name);
        ck_assert_int_eq(v[i].state, want[i].state);
        if (want[i].state == ADAPTER_READY)
            ck_assert(v[i].digest[0] && v[i].matched == 2 && v[i].total == TOY_MODULES &&
                      v[i].n_block_sizes == 1 && v[i].block_sizes[0] == 4 && v[i].last_used == 0);
    }
    ck_assert_str_eq(v[2].error, "a sentence");
    for (size_t i = 0; i < n; i++)
        adapter_info_clear(&v[i]);
    free(v);
    adapter_unref(registry_acquire(r, "b"));
    registry_mark(r, "coming", ADAPTER_AVAILABLE, NULL);
    registry_rescan(r);
    ck_assert_int_eq(registry_list(r, false, &v, &n, &err), ST_OK);
    ck_assert_int_eq(n, 2);
    ck_assert(v[0].last_used > 1.5e9);
    for (size_t i = 0; i < n; i++)
        adapter_info_clear(&v[i]);
    free(v);
    struct adapter_info info;
    ck_assert_int_eq(registry_info(r, "a", &info, &err), ST_OK);
    ck_assert_int_eq(info.state, ADAPTER_AVAILABLE);
    adapter_info_clear(&info);
    ck_assert_int_eq(registry_info(r, "x", &info, &err), ST_ADAPTER_NOT_FOUND);
}
END_TEST

START_TEST(validation)
{
    struct findings f = {0};
    struct adapter_request req = {.name = "base", .path = "../x"};
    ck_assert_int_eq(registry_validate(r, &req, &f, &err), ST_OK);
    ck_assert_int_eq(f.n, 2);
    ck_assert(f.v[0].code == ST_NAME_IN_USE && f.v[1].code == ST_PATH_OUTSIDE_ROOT);
    findings_clear(&f);
    req = (struct adapter_request){.name = "a"};
    ck_assert_int_eq(registry_validate(r, &req, &f, &err), ST_OK);
    ck_assert_int_eq(f.n, 0);
    ck_assert_ptr_null(registry_acquire(r, "a"));
}
END_TEST

START_TEST(memory_runs_out)
{
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    struct adapter *a = registry_acquire(r, "a");
    const char *root = toy_path("root");
    struct registry_options options = {.roots = &root, .n_roots = 1, .base_name = "base"};
    FAULT_EACH(n)
    {
        struct error e = ERROR_INIT;
        struct adapter_info *v = NULL;
        size_t count = 0;
        struct registry *other = NULL;
        struct adapter *d = NULL;
        registry_rescan(r);
        registry_mark(r, "failed", ADAPTER_FAILED, "why");
        enum status s = registry_list(r, true, &v, &count, &e);
        if (!s)
            s = registry_derive(r, a, 40, COMPUTE_EXACT, &d, &e);
        if (!s)
            s = registry_open(&toy.m, &toy_kernels, &options, &other, &e);
        bool fired = fault_disarm();
        ck_assert(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY));
        for (size_t i = 0; i < count; i++)
            adapter_info_clear(&v[i]);
        free(v);
        adapter_unref(d);
        registry_close(other);
        error_clear(&e);
        ck_assert_int_eq(load("b", NULL, REPLACE_ALWAYS), ST_OK); // it still works
    }
    adapter_unref(a);
}
END_TEST

static atomic_bool stop;

static void *reader(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        struct adapter *a = registry_acquire(r, "a");
        ck_assert(a && a->adapted.rotation[TOY_Q0]);
        atomic_fetch_add(&a->in_flight, 1);
        struct adapter_info info;
        registry_info(r, "a", &info, NULL);
        adapter_info_clear(&info);
        atomic_fetch_sub(&a->in_flight, 1);
        adapter_unref(a);
        usleep(100);
    }
    return NULL;
}

START_TEST(swaps_under_readers)
{
    ck_assert_int_eq(load("a", NULL, REPLACE_NEVER), ST_OK);
    pthread_t t[2];
    atomic_store(&stop, false);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, reader, NULL), 0);
    for (int i = 0; i < 40; i++)
        ck_assert_int_eq(load("a", i % 2 ? "a" : "b", REPLACE_ALWAYS), ST_OK);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/registry");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, names);
    tcase_add_test(t, paths);
    tcase_add_test(t, policies);
    tcase_add_test(t, refused_changes_nothing);
    tcase_add_test(t, failed_ones_go);
    tcase_add_test(t, eviction);
    tcase_add_test(t, batches);
    tcase_add_test(t, strengths);
    tcase_add_test(t, modes);
    tcase_add_test(t, replaced_generations_count);
    tcase_add_test(t, autoload_and_retire);
    tcase_add_test(t, listings);
    tcase_add_test(t, validation);
    tcase_add_test(t, memory_runs_out);
    tcase_add_test(t, swaps_under_readers);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
