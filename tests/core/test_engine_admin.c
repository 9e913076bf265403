/* What the administration of a running engine does to requests: loads, swaps, unloads, strengths,
 * exports. */
#include <stdio.h>
#include <unistd.h>

#include "tests/core/engine_fixture.h"

START_TEST(adapters_come_and_go)
{
    static struct answer a, b;
    ck_assert_int_eq(unload("nobody"), ST_ADAPTER_NOT_FOUND);
    ck_assert_int_eq(load("base", paths[0], REPLACE_ALWAYS), ST_NAME_IN_USE);
    ck_assert_int_eq(load("austen", paths[0], REPLACE_NEVER), ST_NAME_IN_USE);
    /* a hot swap: the request that runs keeps its generation */
    generate(e, "What is a", "austen", 60, &a);
    const char *name = "austen";
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = ask(&p, &name, 60);
    q.logprobs = 0;
    struct ticket *t = submit(e, &q);
    ck_assert_int_eq(load("austen", paths[2], REPLACE_ALWAYS), ST_OK);
    collect(t, &b);
    expect_same(&a, &b);
    generate(e, "What is a", "austen", 60, &b);
    generate(e, "What is a", "jargon", 60, &a);
    expect_same(&a, &b);
    ck_assert_int_eq(unload("austen"), ST_OK);
    ck_assert_int_eq(try_generate(&q), ST_ADAPTER_NOT_FOUND);
    /* an unload waits for the request that runs */
    name = "devil";
    t = submit(e, &q);
    ck_assert_int_eq(unload("devil"), ST_OK);
    collect(t, &b);
    ck_assert_uint_eq(b.n, 60);
    struct adapter_info *list;
    size_t n;
    ck_assert_int_eq(engine_adapter_list(e, false, &list, &n, NULL), ST_OK);
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(list[i].in_flight, 0);
        adapter_info_clear(&list[i]);
    }
    free(list);
}
END_TEST

static int32_t state_of(const char *name)
{
    struct adapter_info info;
    int32_t state = engine_adapter_info(e, name, &info, NULL) == ST_OK ? (int32_t)info.state : -1;
    adapter_info_clear(&info);
    return state;
}

START_TEST(a_failed_load_can_be_taken_back)
{
    ck_assert_int_eq(load("new", "/nowhere", REPLACE_NEVER), ST_FILE_UNREADABLE);
    ck_assert_int_eq(state_of("new"), ADAPTER_FAILED);
    ck_assert_int_eq(unload("new"), ST_OK);
    ck_assert_int_eq(state_of("new"), -1);
    ck_assert_int_eq(unload("new"), ST_ADAPTER_NOT_FOUND);
    ck_assert_int_eq(load("new", "/nowhere", REPLACE_NEVER), ST_FILE_UNREADABLE);
    ck_assert_int_eq(load("new", paths[1], REPLACE_NEVER), ST_OK);
    ck_assert_int_eq(state_of("new"), ADAPTER_READY);
    /* an unload that comes while the load runs is for what it makes */
    ck_assert_int_eq(unload("new"), ST_OK);
    const struct adapter_request q = {.name = "new", .path = paths[1], .trusted = true};
    struct ticket *coming = NULL;
    ck_assert_int_eq(engine_adapter_load(e, &q, &coming, NULL), ST_OK);
    ck_assert_int_eq(unload("new"), ST_OK);
    ck_assert_int_eq(ticket_status(coming, NULL), ST_OK);
    ticket_free(coming);
    ck_assert_int_eq(state_of("new"), -1);
}
END_TEST

START_TEST(adapters_on_demand_and_strengths)
{
    engine_free(e);
    struct engine_options o = options();
    o.n_adapters = 0;
    o.adapter_roots = roots;
    o.n_adapter_roots = 1;
    o.autoload = true;
    e = open_engine(&o);
    static struct answer base, zero, half, full, named;
    const char *name = "scripture";
    const struct prompt p = text_prompt("She was very");
    struct generate_request q = ask(&p, &name, 24);
    q.logprobs = 0;
    float strength = 0;
    q.strengths = &strength;
    struct ticket *t = submit(e, &q); /* nothing is loaded yet */
    collect(t, &zero);
    generate(e, "She was very", NULL, 24, &base);
    expect_same(&base, &zero); /* R(0) is the identity */
    strength = 0.5f;
    collect(submit(e, &q), &half);
    strength = 0.999f; /* rounds to 1 */
    collect(submit(e, &q), &full);
    generate(e, "She was very", "scripture", 24, &named);
    expect_same(&full, &named);
    ck_assert(memcmp(half.logprobs, full.logprobs, 4 * sizeof(float)));
    ck_assert(memcmp(half.logprobs, base.logprobs, 4 * sizeof(float)));
    const struct adapter_ref *refs;
    q.strengths = NULL;
    t = submit(e, &q);
    ticket_join(t);
    ck_assert_uint_eq(ticket_adapters(t, &refs), 1);
    ck_assert_str_eq(refs[0].name, "scripture");
    ck_assert(!strncmp(refs[0].digest, "sha256:", 7));
    ticket_free(t);
}
END_TEST

START_TEST(exports)
{
    char dir[] = "/tmp/oftd-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    engine_free(e);
    struct engine_options o = options();
    o.export_dir = dir;
    e = open_engine(&o);
    static const char *const bad[] = {"../x", "/tmp/x", "", "a//b", "./x", "nowhere/x", ".."};
    struct ticket *t = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct export_request q = {.path = bad[i]};
        ck_assert_int_eq(outcome(engine_export(e, &q, &t, NULL), &t), ST_PATH_OUTSIDE_ROOT);
    }
    const struct export_request q = {.adapters = {names, 1}, .path = "out"};
    struct error err = ERROR_INIT;
    ck_assert_msg(engine_export(e, &q, &t, &err) == ST_OK, "%s", err.text);
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    ck_assert_uint_gt(ticket_job(t)->bytes, 4000000);
    ticket_free(t);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

/* Loads, merges and unmerges beside a stream, in its turns or on a core of their own: they end, and
 * change nothing of it. An engine that goes with such work on its way ends it. */
static void beside_a_stream(bool spare_core)
{
    static struct answer alone, a;
    engine_free(e);
    struct engine_options o = options();
    o.spare_core = spare_core;
    e = open_engine(&o);
    generate(e, "What is a", "austen", 400, &alone);
    const char *name = "austen";
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = ask(&p, &name, 400);
    q.logprobs = 0;
    struct ticket *t = submit(e, &q);
    ck_assert_int_eq(load("devil", paths[2], REPLACE_ALWAYS), ST_OK);
    ck_assert_int_eq(load("devil", paths[1], REPLACE_ALWAYS), ST_OK);
    ck_assert_int_eq(merge("jargon", MERGE_RESIDENT), ST_OK);
    ck_assert_int_eq(unmerge("jargon"), ST_OK);
    collect(t, &a);
    expect_same(&alone, &a);
    t = submit(e, &q);
    const struct adapter_request r = {
        .name = "devil", .path = paths[2], .trusted = true, .replace = REPLACE_ALWAYS};
    struct ticket *on_its_way = NULL;
    ck_assert_int_eq(engine_adapter_load(e, &r, &on_its_way, NULL), ST_OK);
    struct ticket *last = start_merge("scripture", MERGE_RESIDENT);
    engine_free(e);
    e = NULL;
    ck_assert(ticket_ended(t) && ticket_ended(on_its_way) && ticket_ended(last));
    ticket_free(t);
    ticket_free(on_its_way);
    ticket_free(last);
}

START_TEST(work_in_a_streams_turns)
{
    beside_a_stream(false);
}
END_TEST

START_TEST(work_on_a_spare_core)
{
    beside_a_stream(true);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_admin");
    TCase *c = tcase_create("engine_admin");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, adapters_come_and_go);
    tcase_add_test(c, a_failed_load_can_be_taken_back);
    tcase_add_test(c, adapters_on_demand_and_strengths);
    tcase_add_test(c, exports);
    tcase_add_test(c, work_in_a_streams_turns);
    tcase_add_test(c, work_on_a_spare_core);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
