/* The engine while allocations and threads fail: a request is refused or served, never half, and
 * the next one finds everything as it was. */
#include <stdio.h>
#include <unistd.h>

#include "tests/core/engine_fixture.h"
#include "tests/faults/fault.h"

/* The nth allocation on any thread fails while one request of each kind goes through: each ends
 * well or with OUT_OF_MEMORY, and what comes after is as before. */
START_TEST(allocations_fail_while_serving)
{
    static struct answer good, a;
    generate(e, "What is a", "devil", 12, &good);
    const struct prompt p = text_prompt("What is a");
    const char *devil = "devil", *jargon = "jargon";
    struct generate_request q = ask(&p, &devil, 12);
    const struct text stop = {"zzz", 3};
    const float half = 0.5f;
    q.logprobs = 2;
    q.stop = &stop;
    q.n_stop = 1;
    q.strengths = &half;
    const struct name_list chain = {&jargon, 1};
    const struct forward_request f = {
        .rows = &p, .n_rows = 1, .adapters = &chain, .outputs = OUTPUT_LOGITS, .compute = -1};
    const struct chat chat = {.variables = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user",
                                                     "content", "What is a")};
    const struct prompt conversation = {.chat = &chat};
    const struct generate_request said = ask(&conversation, NULL, 4);
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 20) {
        enum { ALL = 7 };
        struct ticket *t[ALL] = {0};
        enum status st[ALL];
        fault_arm(n);
        st[0] = engine_generate(e, &q, &t[0], NULL);
        st[1] = engine_forward(e, &f, &t[1], NULL);
        st[2] = engine_tokenize(e, "The wife", 8, true, &t[2], NULL);
        const struct adapter_request r = {
            .name = "jargon", .path = paths[2], .trusted = true, .replace = REPLACE_ALWAYS};
        st[3] = engine_adapter_load(e, &r, &t[3], NULL);
        st[4] =
            engine_unmerge(e, &(struct name_list){(const char *const[]){"nobody"}, 1}, &t[4], NULL);
        st[5] = engine_generate(e, &said, &t[5], NULL);
        st[6] = engine_render(e, &chat, &t[6], NULL);
        for (int i = 0; i < ALL; i++)
            if (st[i] == ST_OK)
                ticket_join(t[i]);
        fired = fault_disarm();
        for (int i = 0; i < ALL; i++) {
            struct error err = ERROR_INIT;
            if (st[i] == ST_OK)
                st[i] = ticket_status(t[i], &err);
            enum status well = i == 4 ? ST_NOT_MERGED : ST_OK;
            ck_assert_msg(st[i] == well || (fired && st[i] == ST_OUT_OF_MEMORY),
                          "allocation %ld, request %d: %s: %s", n, i, status_code(st[i]), err.text);
            error_clear(&err);
            ticket_free(t[i]);
        }
    }
    json_decref(chat.variables);
    generate(e, "What is a", "devil", 12, &a);
    expect_same(&good, &a);
}
END_TEST

START_TEST(allocations_fail_while_loading)
{
    engine_free(e);
    struct engine_options o = options();
    o.n_adapters = 1;
    bool fired = true;
    long before = 0;
    for (long n = 1; fired; n += 1 + n / 8) {
        e = NULL;
        fault_arm(n);
        enum status st = engine_new(&o, &e, NULL);
        if (st == ST_OK)
            st = engine_load(e, NULL, NULL, NULL);
        fired = fault_disarm();
        ck_assert_msg(fired || st == ST_OK, "allocation %ld: %s", n, status_code(st));
        engine_free(e);
        if (n > 1)
            ck_assert_int_le(fault_live(), before);
        before = fault_live();
    }
    e = NULL;
}
END_TEST

static struct ticket *forward_on(const char *adapter)
{
    static const int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    const struct prompt p = {.ids = ids, .n_ids = 7};
    const struct name_list chain = {&adapter, 1};
    const struct forward_request q = {.rows = &p,
                                      .n_rows = 1,
                                      .adapters = &chain,
                                      .outputs = OUTPUT_LOGITS,
                                      .compute = COMPUTE_EXACT};
    struct ticket *t = NULL;
    return engine_forward(e, &q, &t, NULL) == ST_OK ? t : NULL;
}

/* The logits' bits in one number; 0: it failed for want of memory. */
static uint64_t logits_on(const char *adapter)
{
    struct ticket *t = forward_on(adapter);
    uint64_t h = 0;
    if (!t)
        return 0;
    ticket_join(t);
    size_t n;
    const struct forward_row *r = ticket_forward(t, &n);
    size_t bytes = (size_t)7 * (size_t)engine_model(e)->vocab * sizeof(float);
    const unsigned char *v = r ? (const unsigned char *)r->logits : NULL;
    for (size_t i = 0; v && i < bytes; i++)
        h = (h ^ v[i]) * 0x100000001b3u + 1;
    if (ticket_status(t, NULL) != (h ? ST_OK : ST_OUT_OF_MEMORY)) /* a passing assert allocates */
        ck_abort_msg("%s", status_code(ticket_status(t, NULL)));
    ticket_free(t);
    return h;
}

/* Allocations alive once the engine's threads have let go of what has ended: they do so after the
 * waiter was woken. */
static long settled(void)
{
    long last = -1, now = fault_live();
    for (int same = 0; same < 3; same = now == last ? same + 1 : 0) {
        last = now;
        usleep(1000);
        now = fault_live();
    }
    return now;
}

/* One adapter's whole life, with the nth allocation failing somewhere in it: the step that it hits
 * is refused, those after it do what they can, and when all is over nothing is left of any. */
START_TEST(allocations_fail_in_an_adapters_life)
{
    engine_free(e);
    enum merge_mode mode = _i ? MERGE_IN_PLACE : MERGE_RESIDENT;
    char dir[256], root[300], path[320];
    const char *const root_of[] = {root};
    snprintf(dir, sizeof dir, "%s/fixtures/bnb4-nf4-dq", test_vectors());
    snprintf(root, sizeof root, "%s/adapters", dir);
    snprintf(path, sizeof path, "%s/qv", root);
    struct engine_options o = options();
    o.model_dir = dir;
    o.served_name = "base";
    o.n_adapters = 0;
    o.adapter_roots = root_of;
    o.n_adapter_roots = 1;
    o.autoload = true;
    o.max_sequences = 2;
    e = open_engine(&o);
    const uint64_t unmerged = logits_on("qv");
    ck_assert_int_eq(merge("qv", mode), ST_OK);
    const uint64_t merged = logits_on("qv");
    ck_assert(unmerged && merged && merged != unmerged);
    ck_assert_int_eq(unmerge("qv"), ST_OK);
    ck_assert_int_eq(unload("qv"), ST_OK);
    long alive = settled();
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 40) {
        fault_arm(n);
        enum status loaded = load("qv", path, REPLACE_NEVER);
        uint64_t before = logits_on("qv"); /* loaded on demand if it has to be */
        enum status joined = merge("qv", mode);
        uint64_t during = logits_on("qv");
        enum status parted = unmerge("qv");
        fired = fault_disarm();
        int failures = (loaded != ST_OK) + !before + (joined != ST_OK) + !during +
                       (parted == ST_OUT_OF_MEMORY);
        ck_assert_msg(failures <= fired, "allocation %ld: %s, %s, %s", n, status_code(loaded),
                      status_code(joined), status_code(parted));
        ck_assert(loaded == ST_OK || loaded == ST_OUT_OF_MEMORY);
        ck_assert(joined == ST_OK || joined == ST_OUT_OF_MEMORY);
        ck_assert(!before || before == unmerged);
        ck_assert(!during || during == (joined == ST_OK ? merged : unmerged));
        if (parted == ST_OUT_OF_MEMORY) {
            ck_assert_uint_eq(logits_on("qv"), merged);
            parted = unmerge("qv");
        }
        ck_assert_int_eq(parted, joined == ST_OK ? ST_OK : ST_NOT_MERGED);
        ck_assert_uint_eq(logits_on("qv"), unmerged);
        ck_assert_int_eq(unload("qv"), ST_OK);
        long now = settled();
        ck_assert_msg(now == alive, "allocation %ld: %ld more live", n, now - alive);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_faults");
    TCase *c = tcase_create("engine_faults");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, allocations_fail_while_serving);
    tcase_add_test(c, allocations_fail_while_loading);
    tcase_add_loop_test(c, allocations_fail_in_an_adapters_life, 0, 2);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
