/*
 * Merges in a running engine: which requests see which weights, what is refused, that serving goes
 * on, and that an unmerge leaves the very bytes. (That the merged numbers are right is shown in
 * tests/core/merge.)
 */
#include <stdio.h>
#include <unistd.h>

#include "tests/core/engine_fixture.h"
#include "tests/core/merge/weights.h"

START_TEST(merged_beside_the_base)
{
    static struct answer base, rotated, merged, again;
    generate(e, "What is a", NULL, 20, &base);
    generate(e, "What is a", "austen", 20, &rotated);
    ck_assert_int_eq(unmerge(NULL), ST_NOT_MERGED);
    struct ticket *t = start_merge("austen", MERGE_RESIDENT);
    ticket_join(t);
    struct error err = ERROR_INIT;
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    const struct job_result *r = ticket_job(t);
    ck_assert_uint_eq(r->modules, 42);
    ck_assert(r->report.rel_fro_max > 0 && r->report.rel_fro_max < 0.2);
    ck_assert_str_eq(r->names[0], "austen");
    ticket_free(t);
    generate(e, "What is a", "austen", 20, &merged);
    ck_assert(memcmp(merged.logprobs, rotated.logprobs, 4 * sizeof(float)));
    ck_assert_float_eq_tol(merged.logprobs[0], rotated.logprobs[0], 0.7f);
    generate(e, "What is a", NULL, 20, &again);
    expect_same(&base, &again);
    ck_assert_int_eq(unload("austen"), ST_ADAPTER_MERGED);
    ck_assert_int_eq(load("austen", paths[0], REPLACE_ALWAYS), ST_ADAPTER_MERGED);
    ck_assert_int_eq(merge("austen", MERGE_RESIDENT), ST_ADAPTER_MERGED);
    struct merge_info *list;
    size_t n;
    ck_assert_int_eq(engine_merges(e, &list, &n, NULL), ST_OK);
    ck_assert(n == 1 && list[0].n_adapters == 1 && list[0].bytes > 0);
    merge_infos_free(list, n);
    ck_assert_int_eq(unmerge("austen"), ST_OK);
    generate(e, "What is a", "austen", 20, &again);
    expect_same(&rotated, &again);
}
END_TEST

START_TEST(merged_in_place)
{
    static struct answer base, merged, again;
    const struct prompt p = text_prompt("What is a");
    const char *devil = "devil";
    generate(e, "What is a", NULL, 300, &base);
    struct generate_request q = ask(&p, NULL, 300), other = ask(&p, &devil, 3);
    q.logprobs = 0;
    struct ticket *running = submit(e, &q);
    struct ticket *t = start_merge("austen", MERGE_IN_PLACE);
    ticket_join(t);
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    ticket_free(t);
    collect(running, &again);
    expect_same(&base, &again);
    ck_assert_int_eq(try_generate(&q), ST_MODEL_IS_MERGED);
    ck_assert_int_eq(try_generate(&other), ST_MODEL_IS_MERGED);
    generate(e, "What is a", "austen", 20, &merged);
    ck_assert_int_eq(merge("devil", MERGE_RESIDENT), ST_MODEL_IS_MERGED);
    ck_assert_int_eq(unmerge(NULL), ST_OK);
    generate(e, "What is a", NULL, 300, &again);
    expect_same(&base, &again);
}
END_TEST

/* ---- what is refused, and what it leaves ---- */

static size_t count_merges(void)
{
    struct merge_info *list;
    size_t n;
    ck_assert_int_eq(engine_merges(e, &list, &n, NULL), ST_OK);
    merge_infos_free(list, n);
    return n;
}

static enum status merge_chain(const char *const *v, size_t n, const struct merge_options *options)
{
    const struct merge_request q = {.adapters = {v, n}, .options = *options};
    struct ticket *t = NULL;
    return outcome(engine_merge(e, &q, &t, NULL), &t);
}

static enum status export_chain(const char *const *v, size_t n)
{
    const struct export_request q = {.adapters = {v, n}, .path = "out"};
    struct ticket *t = NULL;
    return outcome(engine_export(e, &q, &t, NULL), &t);
}

static const struct merge_options usual = {.safe = true, .max_rel_fro = -1};

START_TEST(refused_merges_change_nothing)
{
    static struct answer before, after;
    static const char *const chain[] = {"austen", "devil"}, *const unknown[] = {"austen", "nobody"};
    generate(e, "What is a", "austen", 20, &before);
    struct merge_options bounded = usual, dry = usual, text = usual;
    bounded.max_rel_fro = 1e-6;
    dry.dry_run = true;
    text.dense = true;
    text.dtype = DT_I32;
    ck_assert_int_eq(merge_chain(unknown, 2, &usual), ST_ADAPTER_NOT_FOUND);
    ck_assert_int_eq(merge_chain(NULL, 0, &usual), ST_MISSING_FIELD);
    ck_assert_int_eq(merge_chain(chain, 2, &bounded), ST_MERGE_ERROR_ABOVE_BOUND);
    ck_assert_int_eq(merge_chain(chain, 2, &text), ST_INVALID_VALUE);
    ck_assert_int_eq(merge_chain(chain, 2, &dry), ST_OK);
    ck_assert_uint_eq(count_merges(), 0);
    ck_assert_int_eq(unmerge("austen"), ST_NOT_MERGED);
    generate(e, "What is a", "austen", 20, &after);
    expect_same(&before, &after);
    /* a chain is another thing than its parts */
    ck_assert_int_eq(merge_chain(chain, 2, &usual), ST_OK);
    ck_assert_int_eq(unmerge("jargon"), ST_NOT_MERGED);
    generate(e, "What is a", "austen", 20, &after);
    expect_same(&before, &after);
    const struct adapter_request again = {
        .name = "devil", .path = paths[1], .trusted = true, .replace = REPLACE_ALWAYS};
    const char *const gone[] = {"austen"};
    struct ticket *t = NULL;
    ck_assert_int_eq(outcome(engine_adapter_batch(e, &again, 1, NULL, 0, &t, NULL), &t),
                     ST_ADAPTER_MERGED);
    ck_assert_int_eq(outcome(engine_adapter_batch(e, NULL, 0, gone, 1, &t, NULL), &t),
                     ST_ADAPTER_MERGED);
    /* a list is one merge, whatever else its adapters are merged with */
    static const char *const back[] = {"devil", "austen"};
    ck_assert_int_eq(merge("austen", MERGE_RESIDENT), ST_OK);
    ck_assert_int_eq(merge("devil", MERGE_RESIDENT), ST_OK);
    ck_assert_int_eq(unmerge_chain(back, 2), ST_NOT_MERGED);
    ck_assert_int_eq(unmerge_chain(chain, 2), ST_OK);
    ck_assert_uint_eq(count_merges(), 2);
    ck_assert_int_eq(unmerge_chain(chain, 2), ST_NOT_MERGED);
    /* a name is all that it takes part in */
    ck_assert_int_eq(merge_chain(chain, 2, &usual), ST_OK);
    ck_assert_int_eq(unmerge("austen"), ST_OK);
    ck_assert_uint_eq(count_merges(), 1);
    ck_assert_int_eq(unmerge("devil"), ST_OK);
    ck_assert_uint_eq(count_merges(), 0);
    ck_assert_int_eq(unload("austen"), ST_OK);
}
END_TEST

START_TEST(merge_memory_is_a_budget)
{
    struct ticket *t = start_merge("austen", MERGE_RESIDENT);
    ticket_join(t);
    uint64_t bytes = ticket_job(t)->bytes;
    ticket_free(t);
    struct engine_options o = options();
    o.merge_memory = bytes;
    engine_free(e);
    e = open_engine(&o);
    ck_assert_int_eq(merge("austen", MERGE_RESIDENT), ST_OK);
    ck_assert_int_eq(merge("devil", MERGE_RESIDENT), ST_CAPACITY_EXCEEDED);
    ck_assert_uint_eq(count_merges(), 1);
    ck_assert_int_eq(unmerge("austen"), ST_OK);
    ck_assert_int_eq(merge("devil", MERGE_RESIDENT), ST_OK);
    engine_free(e);
    o.merge_memory = bytes - 1;
    e = open_engine(&o);
    ck_assert_int_eq(merge("austen", MERGE_IN_PLACE), ST_CAPACITY_EXCEEDED);
    ck_assert_uint_eq(count_merges(), 0);
}
END_TEST

/* Rules that hold for the whole base answer before anybody looks for the adapter. */
START_TEST(whole_base_rules_come_first)
{
    char dir[256], root[] = "/tmp/oftd-test-XXXXXX";
    static const char *const nobody[] = {"nobody"};
    const struct layer_range twice[] = {{0, 2}, {1, 2}};
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/fixtures/%s", test_vectors(), _i ? "plain-bf16" : "gptq3");
    enum status want = _i ? ST_MERGE_FORBIDDEN_LAYER_REPLICATION : ST_MERGE_FORBIDDEN_GPTQ;
    struct merge_options dense = usual;
    dense.dense = true;
    dense.dtype = DT_F32;
    engine_free(e);
    struct engine_options o = options();
    o.model_dir = dir;
    o.n_adapters = 0;
    o.export_dir = root;
    if (_i) {
        o.model.replication = twice;
        o.model.n_replication = 2;
    }
    e = open_engine(&o);
    ck_assert_int_eq(merge_chain(nobody, 1, &usual), want);
    ck_assert_int_eq(merge_chain(nobody, 1, &dense), want);
    ck_assert_int_eq(export_chain(nobody, 1), want);
    ck_assert_int_eq(rmdir(root), 0); /* nothing was begun */
}
END_TEST

/* ---- requests that run meanwhile ---- */

static int64_t generated(struct ticket *t)
{
    struct usage u;
    ticket_usage(t, &u);
    return u.generated_tokens;
}

START_TEST(serving_goes_on)
{
    static struct answer alone, other, now;
    const struct prompt p = text_prompt("What is a");
    const char *austen = "austen", *devil = "devil";
    generate(e, "What is a", austen, 700, &alone);
    generate(e, "What is a", devil, 8, &other);
    struct generate_request q = ask(&p, &austen, 700), short_one = ask(&p, &devil, 8);
    q.logprobs = short_one.logprobs = 0;
    struct ticket *running = submit(e, &q);
    while (!generated(running))
        usleep(500);
    struct ticket *t = start_merge("austen", MERGE_RESIDENT);
    int64_t before = generated(running), after = before;
    collect(submit(e, &short_one), &now); /* comes and goes beside it */
    expect_same(&other, &now);
    while (!ticket_ended(t)) {
        after = generated(running);
        usleep(500);
    }
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    ticket_free(t);
    ck_assert_int_gt(after, before);
    collect(running, &now); /* it finishes on the view it was admitted with */
    expect_same(&alone, &now);
}
END_TEST

START_TEST(a_view_lives_as_long_as_its_requests)
{
    static struct answer merged, now, rotated;
    const struct prompt p = text_prompt("What is a");
    const char *austen = "austen";
    generate(e, "What is a", austen, 300, &rotated);
    ck_assert_int_eq(merge(austen, MERGE_RESIDENT), ST_OK);
    generate(e, "What is a", austen, 300, &merged);
    ck_assert(memcmp(merged.logprobs, rotated.logprobs, 8 * sizeof(float)));
    struct generate_request q = ask(&p, &austen, 300);
    q.logprobs = 0;
    struct ticket *running = submit(e, &q);
    ck_assert_int_eq(unmerge(austen), ST_OK);
    collect(running, &now);
    expect_same(&merged, &now);
    generate(e, "What is a", austen, 300, &now);
    expect_same(&rotated, &now);
}
END_TEST

/* While it waits for others to finish it holds new ones off; cancelled, it lets them in again. */
START_TEST(a_merge_in_place_may_be_cancelled)
{
    static struct answer now;
    const struct prompt p = text_prompt("What is a");
    struct generate_request q = ask(&p, NULL, 900), small = ask(&p, NULL, 3);
    q.n = 16; /* longer than the merge takes */
    struct ticket *running = submit(e, &q), *refused = NULL;
    while (!generated(running))
        usleep(500);
    struct ticket *t = start_merge("austen", MERGE_IN_PLACE);
    enum status st;
    while ((st = engine_generate(e, &small, &refused, NULL)) == ST_OK) {
        ck_assert(!ticket_ended(running)); /* the merge is still being built */
        ticket_join(refused);
        ticket_free(refused);
    }
    ck_assert_int_eq(st, ST_MODEL_IS_MERGED);
    ck_assert_uint_eq(count_merges(), 0);
    ck_assert_int_eq(unload("austen"), ST_ADAPTER_MERGED);
    ck_assert(!ticket_ended(t));
    ticket_cancel(t);
    ticket_join(t);
    ck_assert_int_eq(ticket_status(t, NULL), ST_CANCELLED);
    ticket_free(t);
    collect(submit(e, &small), &now);
    ck_assert_int_eq(unload("austen"), ST_OK);
    ticket_free(running);
}
END_TEST

/* ---- unmerge is exact: the base was never touched ---- */

START_TEST(unmerge_leaves_the_very_bytes)
{
    static const char *const bases[] = {"fixtures/bnb4-nf4-dq", "fixtures/plain-bf16", NULL};
    static const char *const both[] = {"qv", "all"};
    uint8_t before[DIGEST_SIZE], now[DIGEST_SIZE];
    char dir[256], path[2][300];
    struct adapter_request adapters[2];
    struct engine_options o = options();
    if (bases[_i]) {
        snprintf(dir, sizeof dir, "%s/%s", test_vectors(), bases[_i]);
        for (int i = 0; i < 2; i++) {
            snprintf(path[i], sizeof path[i], "%s/adapters/%s", dir, both[i]);
            adapters[i] =
                (struct adapter_request){.name = both[i], .path = path[i], .trusted = true};
        }
        o.model_dir = dir;
        o.served_name = "base";
        o.adapters = adapters;
        o.n_adapters = 2;
        engine_free(e);
        e = open_engine(&o);
    }
    const char *const *chain = bases[_i] ? both : names;
    const struct view *base = engine_model(e)->base;
    weights_digest(base, before);
    for (int mode = MERGE_RESIDENT; mode <= MERGE_IN_PLACE; mode++)
        for (size_t n = 1; n <= 2; n++) {
            const struct merge_request q = {.adapters = {chain, n}, .mode = mode, .options = usual};
            struct ticket *t = NULL;
            ck_assert_int_eq(outcome(engine_merge(e, &q, &t, NULL), &t), ST_OK);
            weights_digest(base, now);
            ck_assert_mem_eq(before, now, DIGEST_SIZE);
            ck_assert_int_eq(unmerge(NULL), ST_OK);
            weights_digest(base, now);
            ck_assert_mem_eq(before, now, DIGEST_SIZE);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_merge");
    TCase *c = tcase_create("engine_merge");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, merged_beside_the_base);
    tcase_add_test(c, merged_in_place);
    tcase_add_test(c, refused_merges_change_nothing);
    tcase_add_test(c, merge_memory_is_a_budget);
    tcase_add_loop_test(c, whole_base_rules_come_first, 0, 2);
    tcase_add_test(c, serving_goes_on);
    tcase_add_test(c, a_view_lives_as_long_as_its_requests);
    tcase_add_test(c, a_merge_in_place_may_be_cancelled);
    tcase_add_loop_test(c, unmerge_leaves_the_very_bytes, 0, 3);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
