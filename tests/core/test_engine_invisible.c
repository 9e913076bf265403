/*
 * Nothing else shows in an answer: a request alone, after a prefix hit, in a crowd of others, read
 * in tiny chunks, preempted and resumed, with one thread and with two gives the same bits of every
 * logit that can be seen. On bases of three encodings and of families with other mechanisms
 * (windows on all layers and on some, alibi, learned positions, experts, fused q k v), in exact
 * mode and the first two, whose encodings have a form of their own in it, in fast mode with keys
 * and values of each type; for the base, one adapter, and two adapters in either order. Half of the
 * crowd computes in the other mode, whose pages are of another size in the same memory.
 *
 * What is compared: the raw pass's logits [T, V] of the prompt, and of a greedy generation the ids
 * and the 20 best logprobs of every step (each holds a logit and the sum over all of them).
 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "tests/core/engine_fixture.h"

#define PROMPT_MAX    90
#define GENERATED_MAX 40

static const struct base {
    const char *folder, *adapter; /* beside `all` */
    int32_t prompt, generated;
    int32_t tight;   /* pages that are too few for a crowd */
    const char *set; /* of config.json, true instead of what the file says; NULL: nothing */
} bases[] = {{"fixtures/bnb4-nf4-dq", "qv", 90, 40, 20, NULL},
             {"fixtures/gptq4-g32-actorder", "qv", 90, 40, 20, NULL},
             {"fixtures/plain-bf16", "qv", 90, 40, 20, NULL},
             {"families/gemma2", "a", 44, 20, 7, NULL},
             {"families/mistral", "a", 44, 20, 5, NULL},
             {"families/falcon", "a", 44, 20, 7, NULL},
             {"families/falcon", "a", 44, 20, 7, "alibi"},
             {"families/mixtral", "a", 44, 20, 7, NULL},
             {"families/gpt2", "a", 44, 20, 7, NULL},
             {"families/gpt_neox", "a", 44, 20, 7, NULL}};
#define N_BASES (sizeof bases / sizeof *bases)
#define N_FAST  2            /* of the first bases */
static enum compute compute; /* of the watched requests of the running test */
static const enum dtype kv_dtypes[] = {DT_F32, DT_F16, DT_I8};
static enum dtype kv_dtype;
static const struct base *base; /* of the running test */
static uint64_t page_bytes;

static const char *both[2], *reversed[2];
static const struct name_list chains[] = {{NULL, 0}, {both, 1}, {both, 2}, {reversed, 2}};
#define N_CHAINS 4

struct seen {
    float *logits; /* [base->prompt, vocab] */
    size_t n_logits;
    int32_t ids[GENERATED_MAX];
    float best[GENERATED_MAX][LOGPROBS_MAX];
    int32_t n;
    int64_t cached;
};

static struct seen alone[N_CHAINS];
static int32_t tokens[8][PROMPT_MAX]; /* 0: the prompt that is watched; then a crowd's */

/* A folder with the base's weights and its config.json changed. */
static char changed[] = "/tmp/oftd-test-XXXXXX";

static void change_config(const char *dir)
{
    char from[400], to[400];
    json_t *config;
    ck_assert_ptr_nonnull(mkdtemp(changed));
    snprintf(from, sizeof from, "%s/config.json", dir);
    snprintf(to, sizeof to, "%s/config.json", changed);
    ck_assert(json_read(from, 1 << 20, &config, NULL) == ST_OK);
    ck_assert(!json_object_set_new(config, base->set, json_true()));
    ck_assert(!json_dump_file(config, to, 0));
    json_decref(config);
    snprintf(to, sizeof to, "%s/model.safetensors", changed);
    char *whole = realpath(dir, NULL);
    snprintf(from, sizeof from, "%s/model.safetensors", whole);
    ck_assert(!symlink(from, to));
    free(whole);
}

static void remove_changed(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", changed);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", changed);
    unlink(path);
    rmdir(changed);
}

/* The running test's base with so many pages; 0: plenty. */
static struct engine_options over(int32_t pages)
{
    static struct adapter_request adapters[2];
    static char dir[256], paths_of[2][300];
    snprintf(dir, sizeof dir, "%s/%s", test_vectors(), base->folder);
    both[0] = reversed[1] = base->adapter;
    both[1] = reversed[0] = "all";
    for (int i = 0; i < 2; i++) {
        snprintf(paths_of[i], sizeof paths_of[i], "%s/adapters/%s", dir, both[i]);
        adapters[i] =
            (struct adapter_request){.name = both[i], .path = paths_of[i], .trusted = true};
    }
    struct engine_options o = options();
    o.model_dir = base->set ? changed : dir;
    o.served_name = "base";
    o.adapters = adapters;
    o.n_adapters = 2;
    int frames = kv_dtype == DT_I8 ? 4 : kv_dtype == DT_F16 ? 2 : 1; // of a page of exact mode
    o.kv_dtype = kv_dtype;
    o.kv_memory = pages ? (uint64_t)(pages * frames) * page_bytes : 64 << 20;
    return o;
}

/* ---- asking ---- */

static struct ticket *ask_forward(int prompt, int chain)
{
    const struct prompt p = {.ids = tokens[prompt], .n_ids = (size_t)base->prompt};
    const struct forward_request q = {.rows = &p,
                                      .n_rows = 1,
                                      .adapters = &chains[chain],
                                      .outputs = OUTPUT_LOGITS,
                                      .compute = (int)compute};
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(engine_forward(e, &q, &t, &err) == ST_OK, "%s", err.text);
    return t;
}

static struct ticket *ask_generate(int prompt, int chain, enum compute mode)
{
    const struct prompt p = {.ids = tokens[prompt], .n_ids = (size_t)base->prompt};
    struct generate_request q = ask(&p, chains[chain].names, base->generated);
    q.n_adapters = chains[chain].n;
    q.logprobs = LOGPROBS_MAX;
    q.compute = (int)mode;
    return submit(e, &q);
}

static void wait_for(struct ticket *t)
{
    struct error err = ERROR_INIT;
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
}

static void read_forward(struct ticket *t, struct seen *s)
{
    size_t n;
    wait_for(t);
    const struct forward_row *r = ticket_forward(t, &n);
    ck_assert(n == 1 && r->tokens == base->prompt);
    s->n_logits = (size_t)base->prompt * (size_t)engine_model(e)->vocab;
    s->logits = malloc(s->n_logits * sizeof *s->logits);
    ck_assert_ptr_nonnull(s->logits);
    memcpy(s->logits, r->logits, s->n_logits * sizeof *s->logits);
    ticket_free(t);
}

static void read_generate(struct ticket *t, struct seen *s)
{
    struct piece p;
    struct usage u;
    wait_for(t);
    for (s->n = 0; ticket_read(t, &p);)
        for (size_t i = 0; i < p.n_tokens; i++, s->n++) {
            ck_assert(s->n < base->generated && p.tokens[i].n_top == LOGPROBS_MAX);
            s->ids[s->n] = p.tokens[i].id;
            for (int k = 0; k < LOGPROBS_MAX; k++)
                s->best[s->n][k] = p.tokens[i].top[k].logprob;
        }
    ticket_usage(t, &u);
    s->cached = u.cached_tokens;
    ck_assert_int_eq(s->n, base->generated);
    ticket_free(t);
}

static void expect_seen(struct seen *s, int chain, const char *when)
{
    const struct seen *want = &alone[chain];
    ck_assert_msg(!s->logits || !memcmp(s->logits, want->logits, s->n_logits * sizeof(float)),
                  "chain %d, %s: other logits", chain, when);
    ck_assert_msg(!memcmp(s->ids, want->ids, sizeof s->ids), "chain %d, %s: other tokens", chain,
                  when);
    ck_assert_msg(!memcmp(s->best, want->best, sizeof s->best), "chain %d, %s: other logprobs",
                  chain, when);
    free(s->logits);
    s->logits = NULL;
}

/* ---- the same request in every company ---- */

static void one_after_the_other(const char *when, bool known_prefix)
{
    for (int c = 0; c < N_CHAINS; c++) {
        struct seen s = {0};
        read_generate(ask_generate(0, c, compute), &s);
        read_forward(ask_forward(0, c), &s);
        ck_assert_msg((s.cached > 0) == known_prefix, "chain %d, %s: %lld tokens from the cache", c,
                      when, (long long)s.cached);
        expect_seen(&s, c, when);
    }
}

/* All chains at once, twice, among as many others. */
static void in_a_crowd(const char *when)
{
    struct ticket *watched[2 * N_CHAINS], *raw[2 * N_CHAINS], *others[6 * N_CHAINS];
    int n = 0;
    for (int i = 0; i < 2 * N_CHAINS; i++) {
        for (int k = 0; k < 3; k++, n++)
            others[n] = ask_generate(1 + n % 7, (i + k) % N_CHAINS, (enum compute)(n % 2));
        watched[i] = ask_generate(0, i % N_CHAINS, compute);
        raw[i] = ask_forward(0, i % N_CHAINS);
    }
    for (int i = 0; i < 2 * N_CHAINS; i++) {
        struct seen s = {0};
        read_generate(watched[i], &s);
        read_forward(raw[i], &s);
        expect_seen(&s, i % N_CHAINS, when);
    }
    for (int i = 0; i < n; i++) {
        wait_for(others[i]);
        ticket_free(others[i]);
    }
}

static void restart(const struct engine_options *o, int threads)
{
    struct engine_options with = *o;
    engine_free(e);
    close_kernels();
    open_kernels(threads);
    with.kernels = (struct engine_kernels){exact, fast, loader, host};
    e = open_engine(&with);
}

static struct engine_stats stats(void)
{
    struct engine_stats s;
    engine_stats(e, &s);
    return s;
}

static void fill_prompts(void)
{
    uint32_t h = 12345;
    int32_t most = engine_model(e)->vocab < 500 ? engine_model(e)->vocab - 3 : 500;
    size_t half = (size_t)base->prompt / 2 * sizeof tokens[0][0];
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < base->prompt; i++) {
            h = h * 1664525 + 1013904223;
            tokens[p][i] = 3 + (int32_t)(h >> 16) % most;
        }
    /* two of the crowd share the first half of the watched prompt */
    memcpy(tokens[1], tokens[0], half);
    memcpy(tokens[2], tokens[0], half);
}

START_TEST(nothing_else_shows)
{
    char dir[300];
    int fast_ones = _i - (int)N_BASES;
    base = &bases[fast_ones < 0 ? _i : fast_ones % N_FAST];
    compute = fast_ones < 0 ? COMPUTE_EXACT : COMPUTE_FAST;
    kv_dtype = fast_ones < 0 ? kv_dtypes[_i % 3] : kv_dtypes[fast_ones / N_FAST];
    snprintf(dir, sizeof dir, "%s/%s", test_vectors(), base->folder);
    if (base->set)
        change_config(dir);
    open_kernels(1);
    struct engine_options o = over(0);
    e = open_engine(&o);
    page_bytes = stats().kv_page_bytes;
    fill_prompts();
    for (int c = 0; c < N_CHAINS; c++) {
        read_generate(ask_generate(0, c, compute), &alone[c]);
        read_forward(ask_forward(0, c), &alone[c]);
        ck_assert_int_eq(alone[c].cached, 0);
        for (int d = 0; d < c; d++) /* the chains differ, or there is nothing to see */
            ck_assert(memcmp(alone[c].best, alone[d].best, sizeof alone[c].best));
    }
    one_after_the_other("after a prefix hit", true);
    in_a_crowd("in a crowd, after a prefix hit");
    restart(&o, 1);
    in_a_crowd("in a crowd");
    ck_assert_uint_eq(stats().preemptions, 0);
    restart(&o, 2);
    one_after_the_other("with 2 threads", false);
    in_a_crowd("in a crowd, with 2 threads");
    o.prefill_chunk = 7;
    o.max_rows = 32;
    restart(&o, 1);
    one_after_the_other("in small chunks", false);
    in_a_crowd("in a crowd, in small chunks");
    o.prefill_chunk = 24;
    o.prefill_stretch = 1.5;
    restart(&o, 2);
    in_a_crowd("in a crowd, in chunks of any size");
    for (int threads = 1; threads <= 2; threads++) {
        struct engine_options tight = over(base->tight);
        tight.prefill_chunk = 3;
        tight.max_rows = 16;
        tight.max_sequences = 8;
        restart(&tight, threads);
        in_a_crowd("preempted and resumed");
        if (!engine_model(e)->window) // pages behind a window go back, so there is room for all
            ck_assert_uint_gt(stats().preemptions, 0);
    }
    for (int c = 0; c < N_CHAINS; c++)
        free(alone[c].logits);
    engine_free(e);
    close_kernels();
    if (base->set)
        remove_changed();
}
END_TEST

/* Every layer slides: a text of eight pages lives in three, and nobody sees it. */
START_TEST(a_window_bounds_the_pages)
{
    static const struct base mistral = {"families/mistral", "a", 64, 40, 3, NULL};
    struct seen all = {0}, few = {0};
    base = &mistral;
    compute = COMPUTE_EXACT;
    kv_dtype = DT_F32;
    open_kernels(1);
    struct engine_options o = over(0);
    e = open_engine(&o);
    page_bytes = stats().kv_page_bytes;
    fill_prompts();
    read_generate(ask_generate(0, 2, compute), &all);
    read_forward(ask_forward(0, 2), &all);
    o = over(base->tight);
    o.max_rows = o.prefill_chunk = 8; // of a step; with a window of 7 they touch two pages at most
    o.max_sequences = 2;
    restart(&o, 1);
    ck_assert_uint_eq(stats().kv_pages, 3);
    struct ticket *t = ask_generate(0, 2, compute);
    while (!ticket_ended(t))
        ck_assert_uint_le(stats().kv_pages_used, 3);
    read_generate(t, &few);
    read_forward(ask_forward(0, 2), &few);
    ck_assert(!memcmp(few.ids, all.ids, sizeof all.ids));
    ck_assert(!memcmp(few.best, all.best, sizeof all.best));
    ck_assert(!memcmp(few.logits, all.logits, all.n_logits * sizeof(float)));
    free(few.logits);
    free(all.logits);
    engine_free(e);
    close_kernels();
}
END_TEST

/* Not so where one layer sees everything. */
START_TEST(one_layer_that_sees_everything_needs_all_pages)
{
    static const struct base gemma = {"families/gemma2", "a", 64, 40, 3, NULL};
    base = &gemma;
    kv_dtype = DT_F32;
    open_kernels(1);
    struct engine_options o = over(0);
    e = open_engine(&o);
    page_bytes = stats().kv_page_bytes;
    fill_prompts();
    o = over(base->tight);
    restart(&o, 1);
    const struct prompt p = {.ids = tokens[0], .n_ids = (size_t)base->prompt};
    struct generate_request q = ask(&p, NULL, base->generated);
    struct ticket *t = NULL;
    ck_assert(engine_generate(e, &q, &t, NULL) == ST_CONTEXT_LENGTH_EXCEEDED);
    engine_free(e);
    close_kernels();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_invisible");
    TCase *c = tcase_create("engine_invisible");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, nothing_else_shows, 0, (int)N_BASES + 3 * N_FAST);
    tcase_add_test(c, a_window_bounds_the_pages);
    tcase_add_test(c, one_layer_that_sees_everything_needs_all_pages);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
