/*
 * The scheduler over a network that is a pure function of what the pages hold: K keeps the token, V
 * the position; the logits of a position are a hash of all (token, position) pairs that its row can
 * see through its pages, and of the route. Whatever goes wrong with pages, prefixes, chunks,
 * preemption or the order of rows shows as other tokens than those of the plain loop in oracle().
 */
#include "tests/check_main.h"

#include <string.h>

#include "core/adapters/adapter.h"
#include "core/run/forward.h"
#include "core/run/request.h"
#include "core/run/scheduler.h"
#include "core/run/sequence.h"
#include "tests/faults/fault.h"

#define VOCAB  32
#define HIDDEN 4

static struct view base = {.id = 0};
static struct adapted routes_adapted[8];
static const struct adapted *const adapted_of[8] = {
    &routes_adapted[0], &routes_adapted[1], &routes_adapted[2], &routes_adapted[3],
    &routes_adapted[4], &routes_adapted[5], &routes_adapted[6], &routes_adapted[7]};

struct world {
    struct model model;
    struct engine_options options;
    struct request_host host;
    struct ticket_host tickets;
    struct stats stats;
    struct merged *merged;
    struct kvcache *kv;
    struct scheduler *s;
    int32_t steps, ended, started, max_rows_seen, poison; /* poison: a token whose logits are NaN */
    int32_t pass_groups;
    atomic_int kicked;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static void logits_of(uint64_t h, float *out)
{
    for (int i = 0; i < VOCAB; i++)
        out[i] = (float)(mix(h, (uint64_t)i) >> 40) / (float)(1 << 21);
}

static uint64_t seed_of(const struct adapted *const *a, int32_t n)
{
    uint64_t h = 77;
    for (int32_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)(a[i] - routes_adapted) + 1);
    return h;
}

static void fake_forward(void *ctx, enum compute mode, struct batch *b)
{
    struct world *w = ctx;
    const struct kv *kv = b->kv;
    (void)mode;
    if (b->rows > w->options.max_rows) /* a passing ck_assert allocates */
        ck_abort_msg("%d rows in a step", b->rows);
    if (b->rows > w->max_rows_seen)
        w->max_rows_seen = b->rows;
    w->pass_groups = b->n_groups;
    for (int32_t r = 0; r < b->rows; r++) {
        int32_t pos = b->at.positions[r];
        size_t at = (size_t)b->at.pages[r][pos / KV_PAGE] * KV_PAGE + (size_t)(pos % KV_PAGE);
        ((float *)kv->k)[at] = (float)b->tokens[r];
        ((float *)kv->v)[at] = (float)pos;
    }
    int32_t group = 0;
    for (int32_t i = 0; i < b->n_outputs; i++) {
        const struct row_output *o = &b->outputs[i];
        if (i && o->row <= b->outputs[i - 1].row)
            ck_abort_msg("outputs are not in order");
        while (o->row >= b->groups[group].first + b->groups[group].count)
            group++;
        uint64_t h = seed_of(b->groups[group].adapted, b->groups[group].n);
        int32_t pos = b->at.positions[o->row];
        int32_t from = w->model.window && pos >= w->model.window ? pos - w->model.window + 1 : 0;
        bool poisoned = false;
        for (int32_t p = from; p <= pos; p++) {
            size_t at = (size_t)b->at.pages[o->row][p / KV_PAGE] * KV_PAGE + (size_t)(p % KV_PAGE);
            h = mix(mix(h, (uint64_t)((float *)kv->k)[at]), (uint64_t)((float *)kv->v)[at]);
            poisoned |= ((float *)kv->k)[at] == (float)w->poison;
        }
        if (o->logits)
            logits_of(h, o->logits);
        if (o->logits && poisoned)
            o->logits[3] = NAN;
        for (int j = 0; o->hidden && j < HIDDEN; j++)
            o->hidden[j] = (float)(mix(h, 1000 + (uint64_t)j) >> 40);
    }
}

static void fake_module(void *ctx, struct request *r, int32_t first, int32_t rows)
{
    (void)ctx;
    for (int64_t i = (int64_t)first * r->module_out; i < (first + rows) * r->module_out; i++)
        r->module_result[i] = (float)i;
}

static void on_started(void *ctx, struct ticket *t)
{
    (void)t;
    ((struct world *)ctx)->started++;
}

static void on_ended(void *ctx, struct ticket *t)
{
    ((struct world *)ctx)->ended++;
    ticket_unref(t);
}

static void on_kick(void *ctx)
{
    struct world *w = ctx;
    atomic_fetch_add(&w->kicked, 1);
    scheduler_kick(w->s);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

struct sizes {
    int32_t pages, max_rows, chunk, sequences, window;
};

static void open_world(struct world *w, struct sizes z)
{
    *w = (struct world){.poison = -1};
    w->model = (struct model){.model_type = "fake",
                              .kind = MODEL_DECODER,
                              .layers = 1,
                              .vocab = VOCAB,
                              .hidden = HIDDEN,
                              .kv_heads = 1,
                              .head_dim = 1,
                              .max_len = 4096,
                              .window = z.window,
                              .bos = -1,
                              .base = &base};
    w->options = (struct engine_options){
        .max_rows = z.max_rows, .max_n = 16, .max_forward_rows = 16, .max_reply_bytes = 1 << 20};
    ck_assert(stats_open(&w->stats));
    ck_assert_int_eq(merged_open(&w->model, nothing, NULL, &w->merged, NULL), ST_OK);
    ck_assert_int_eq(kvcache_open(1, 1, 1, z.pages, &w->kv, NULL), ST_OK);
    w->host = (struct request_host){
        .model = &w->model,
        .options = &w->options,
        .max_len = z.window ? 4096 : z.pages * KV_PAGE,
        .merged = w->merged,
        .defaults = {
            .temperature = 1, .top_p = 1, .repetition = 1, .logprobs = -1, .max_tokens = 16}};
    w->tickets = (struct ticket_host){.ctx = w, .kick = on_kick, .ended = on_ended};
    const struct scheduler_options o = {.model = &w->model,
                                        .kv = w->kv,
                                        .stats = &w->stats,
                                        .max_rows = z.max_rows,
                                        .prefill_chunk = z.chunk,
                                        .max_sequences = z.sequences,
                                        .forward = fake_forward,
                                        .module = fake_module,
                                        .started = on_started,
                                        .ctx = w};
    ck_assert_int_eq(scheduler_open(&o, &w->s, NULL), ST_OK);
}

static void close_world(struct world *w)
{
    scheduler_stop(w->s);
    ck_assert_int_eq(kvcache_used(w->kv), 0);
    scheduler_close(w->s);
    kvcache_close(w->kv);
    merged_close(w->merged);
    stats_close(&w->stats);
}

static void run(struct world *w)
{
    for (int i = 0; scheduler_step(w->s); i++) {
        ck_assert_int_lt(i, 100000);
        w->steps++;
    }
}

/* ---- requests ---- */

struct ask {
    int32_t prompt; /* tokens */
    uint32_t text;  /* what they are */
    int32_t shared; /* how many of them come from text 0 */
    int route;      /* 0: base, 1..7: an adapter */
    int32_t max_tokens, n, logprobs;
    float temperature;
    bool echo;
};

static int32_t token_at(const struct ask *a, int32_t i)
{
    return (int32_t)(mix(i < a->shared ? 5 : a->text * 7919 + 5, (uint64_t)i) >> 33) % VOCAB;
}

static void set_route(struct world *w, struct route *r, int route)
{
    struct adapter identity = {.identity = {(uint8_t)route}};
    struct adapter *a = &identity;
    r->view = &base;
    r->n_adapted = route ? 1 : 0;
    r->adapted[0] = adapted_of[route];
    prefix_root("fake", 0, COMPUTE_EXACT, &a, r->n_adapted, r->key);
    (void)w;
}

static struct ticket *prepare(struct world *w, const struct ask *a, enum status want)
{
    int32_t ids[4096];
    for (int32_t i = 0; i < a->prompt; i++)
        ids[i] = token_at(a, i);
    const struct prompt prompt = {.ids = ids, .n_ids = (size_t)a->prompt};
    const struct generate_request q = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .n = a->n ? a->n : 1,
                                       .max_tokens = a->max_tokens,
                                       .min_tokens = UNSET_INT,
                                       .top_k = UNSET_INT,
                                       .logprobs = a->logprobs ? a->logprobs : -1,
                                       .temperature = a->temperature,
                                       .top_p = UNSET_FLOAT,
                                       .min_p = UNSET_FLOAT,
                                       .repetition_penalty = UNSET_FLOAT,
                                       .presence_penalty = UNSET_FLOAT,
                                       .frequency_penalty = UNSET_FLOAT,
                                       .has_seed = true,
                                       .seed = 11,
                                       .echo = a->echo,
                                       .compute = COMPUTE_EXACT};
    struct ticket *t = ticket_new(&w->tickets);
    ck_assert_int_eq(request_generate(t, &w->host, &q, NULL), want);
    if (want != ST_OK) {
        ticket_discard(t);
        return NULL;
    }
    set_route(w, &t->request->routes[0], a->route);
    ck_assert_int_eq(request_ids(t, NULL), ST_OK);
    ck_assert_int_eq(request_plan(t, NULL), ST_OK);
    atomic_store(&t->waiting, (int)t->request->n_sequences);
    return t;
}

static struct ticket *ask(struct world *w, const struct ask *a)
{
    struct ticket *t = prepare(w, a, ST_OK);
    scheduler_submit(w->s, t);
    return t;
}

/* The definition: one token after the other, everything computed anew each time. */
static uint64_t hash_of(const struct ask *a, const int32_t *tokens, int32_t len, int32_t window)
{
    const struct adapted *const v[] = {adapted_of[a->route]};
    uint64_t h = seed_of(v, a->route ? 1 : 0);
    for (int32_t i = window && len > window ? len - window : 0; i < len; i++)
        h = mix(mix(h, (uint64_t)tokens[i]), (uint64_t)i);
    return h;
}

static int32_t oracle(const struct ask *a, int32_t choice, int32_t window, int32_t max_len,
                      int32_t *out, float *logprobs)
{
    int32_t tokens[8192], len = a->prompt, n = 0;
    struct sampler *s;
    ck_assert_int_eq(sampler_open(VOCAB, &s, NULL), ST_OK);
    const struct sampling p = {
        .temperature = a->temperature, .top_p = 1, .repetition = 1, .logprobs = -1, .seed = 11};
    for (int32_t i = 0; i < len; i++)
        tokens[i] = token_at(a, i);
    while (n < a->max_tokens && len < max_len) {
        float x[VOCAB];
        logits_of(hash_of(a, tokens, len, window), x);
        const struct history h = {tokens, a->prompt, len, choice};
        out[n] = sampler_pick(s, &p, &h, x);
        logprobs[n] = sampler_logprob(x[out[n]], sampler_log_sum(x, VOCAB));
        tokens[len++] = out[n++];
    }
    sampler_close(s);
    return n;
}

/* Reads a finished ticket and compares every choice with the oracle. */
static void expect(struct world *w, struct ticket *t, const struct ask *a)
{
    int32_t n = a->n ? a->n : 1, got_n[16] = {0};
    static _Thread_local int32_t got[16][4096], want[4096];
    static _Thread_local float got_p[16][4096], want_p[4096];
    enum finish_reason finish[16] = {0};
    struct error err = ERROR_INIT;
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    struct piece p;
    while (ticket_read(t, &p))
        for (size_t i = 0; i < p.n_tokens || !i; i++) {
            finish[p.choice] = p.finish;
            if (i >= p.n_tokens || p.tokens[i].prompt)
                continue;
            got[p.choice][got_n[p.choice]] = p.tokens[i].id;
            got_p[p.choice][got_n[p.choice]++] = p.tokens[i].logprob;
        }
    for (int32_t c = 0; c < n; c++) {
        int32_t m = oracle(a, c, w->model.window, (int32_t)w->host.max_len, want, want_p);
        ck_assert_int_eq(got_n[c], m);
        ck_assert_mem_eq(got[c], want, (size_t)m * sizeof *want);
        if (a->logprobs)
            ck_assert_mem_eq(got_p[c], want_p, (size_t)m * sizeof *want_p);
        ck_assert_int_eq(finish[c], FINISH_LENGTH);
    }
    struct usage u;
    ticket_usage(t, &u);
    ck_assert_int_eq(u.prompt_tokens, a->prompt);
    ticket_free(t);
}

static const struct sizes roomy = {.pages = 256, .max_rows = 64, .chunk = 32, .sequences = 16};

START_TEST(one_alone)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 100, .text = 1, .max_tokens = 50, .logprobs = 1};
    struct ticket *t = ask(&w, &a);
    run(&w);
    ck_assert_int_eq(w.ended, 1);
    ck_assert_int_eq(w.started, 1);
    expect(&w, t, &a);
    close_world(&w);
}
END_TEST

/* Many of all kinds at once, in worlds of every size: always the oracle's bits. */
START_TEST(crowds_in_all_sizes)
{
    static const struct sizes all[] = {
        {256, 64, 32, 16, 0}, {24, 16, 4, 16, 0}, {16, 7, 3, 5, 0},   {13, 128, 64, 4, 0},
        {64, 33, 1, 33, 0},   {40, 24, 8, 8, 20}, {14, 16, 16, 6, 5}, {12, 40, 8, 1, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct world w;
        open_world(&w, all[i]);
        enum { N = 24 };
        struct ask a[N];
        struct ticket *t[N];
        for (int j = 0; j < N; j++) {
            uint64_t r = mix(i * 100 + 3, (uint64_t)j);
            a[j] = (struct ask){.prompt = 1 + (int32_t)(r % 90),
                                .text = (uint32_t)(r >> 8) % 5,
                                .shared = (int32_t)(r >> 16 & 63),
                                .route = (int)(r >> 24 & 3),
                                .max_tokens = 1 + (int32_t)(r >> 32 & 63),
                                .n = 1 + (int32_t)(r >> 40 & 1) * 2,
                                .logprobs = (r >> 44) % 2 ? 2 : 0,
                                .temperature = (r >> 45) % 2 ? 0.9f : 0,
                                .echo = (r >> 46) % 3 == 0};
            t[j] = ask(&w, &a[j]);
            if (j % 3 == 0)
                scheduler_step(w.s);
        }
        run(&w);
        ck_assert_int_eq(w.ended, N);
        for (int j = 0; j < N; j++)
            expect(&w, t[j], &a[j]);
        struct engine_stats st;
        stats_read(&w.stats, &st);
        ck_assert(i != 3 || st.preemptions > 0);
        close_world(&w);
    }
}
END_TEST

START_TEST(a_prefix_is_computed_once)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 100, .text = 1, .max_tokens = 5};
    struct ask b = a, other = a;
    b.max_tokens = 9;
    other.route = 1;
    struct ticket *t = ask(&w, &a);
    run(&w);
    expect(&w, t, &a);
    struct usage u;
    t = ask(&w, &b);
    run(&w);
    ticket_usage(t, &u);
    ck_assert_int_eq(u.cached_tokens, 96);
    expect(&w, t, &b);
    t = ask(&w, &other); /* another adapter's keys and values are others */
    run(&w);
    ticket_usage(t, &u);
    ck_assert_int_eq(u.cached_tokens, 0);
    expect(&w, t, &other);
    close_world(&w);
}
END_TEST

START_TEST(choices_share_their_prompt)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 200, .text = 1, .max_tokens = 3, .n = 8, .temperature = 1};
    struct ticket *t = ask(&w, &a);
    run(&w);
    struct usage u;
    ticket_usage(t, &u);
    ck_assert_int_eq(u.cached_tokens, 7 * 192);
    ck_assert_int_eq(u.generated_tokens, 24);
    expect(&w, t, &a);
    close_world(&w);
}
END_TEST

/* Prompt logprobs: of each token given those before it, none for the first. */
START_TEST(echo_scores_the_prompt)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 90, .text = 2, .max_tokens = 0, .logprobs = 3, .echo = true};
    for (int round = 0; round < 2; round++) { /* a known prefix must not swallow them */
        struct ticket *t = ask(&w, &a);
        run(&w);
        ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
        struct piece p;
        ck_assert(ticket_read(t, &p));
        ck_assert_uint_eq(p.n_tokens, 90);
        int32_t tokens[90];
        for (int32_t i = 0; i < 90; i++)
            tokens[i] = token_at(&a, i);
        ck_assert(isnan(p.tokens[0].logprob));
        for (int32_t i = 1; i < 90; i++) {
            float x[VOCAB];
            logits_of(hash_of(&a, tokens, i, 0), x);
            double sum = sampler_log_sum(x, VOCAB);
            ck_assert(p.tokens[i].logprob == sampler_logprob(x[tokens[i]], sum));
            ck_assert_int_eq(p.tokens[i].n_top, 3);
            ck_assert(p.tokens[i].top[0].logprob >= p.tokens[i].top[1].logprob);
        }
        ck_assert(ticket_read(t, &p) && p.finish == FINISH_LENGTH && !p.n_tokens);
        ck_assert(!ticket_read(t, &p));
        ticket_free(t);
    }
    close_world(&w);
}
END_TEST

START_TEST(neighbours_are_grouped)
{
    struct world w;
    open_world(&w, roomy);
    struct ask a[9];
    struct ticket *t[9];
    for (int i = 0; i < 9; i++) {
        a[i] = (struct ask){.prompt = 5, .text = (uint32_t)i, .max_tokens = 4, .route = i % 3};
        t[i] = ask(&w, &a[i]);
    }
    ck_assert(scheduler_step(w.s));
    ck_assert_int_eq(w.pass_groups, 3);
    run(&w);
    for (int i = 0; i < 9; i++)
        expect(&w, t[i], &a[i]);
    close_world(&w);
}
END_TEST

/* One chain floods; the single requests of others start within a turn of each. */
START_TEST(a_flood_starves_nobody)
{
    struct world w;
    struct sizes z = roomy;
    z.sequences = 2;
    open_world(&w, z);
    enum { FLOOD = 60, OTHERS = 3 };
    struct ask flood = {.prompt = 20, .max_tokens = 4, .route = 1}, other[OTHERS];
    struct ticket *t[FLOOD], *o[OTHERS];
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        t[i] = ask(&w, &flood);
    }
    scheduler_step(w.s);
    for (int i = 0; i < OTHERS; i++) {
        other[i] = (struct ask){.prompt = 20, .max_tokens = 4, .route = 2 + i};
        o[i] = ask(&w, &other[i]);
    }
    /* each others' turn, and a turn of the flood: 4 turns on 2 slots, some steps each */
    for (int i = 0; i < 40; i++)
        scheduler_step(w.s);
    for (int i = 0; i < OTHERS; i++)
        ck_assert(ticket_ended(o[i]));
    ck_assert(!ticket_ended(t[FLOOD - 1]));
    /* a chain that comes back one by one does not push the flood aside either */
    int32_t ended = 0;
    for (int i = 0; i < FLOOD; i++)
        ended += ticket_ended(t[i]);
    struct ask again = {.prompt = 20, .max_tokens = 4, .route = 2};
    for (int round = 0; round < 8; round++) {
        struct ticket *x = ask(&w, &again);
        while (!ticket_ended(x))
            scheduler_step(w.s);
        expect(&w, x, &again);
    }
    int32_t now = 0;
    for (int i = 0; i < FLOOD; i++)
        now += ticket_ended(t[i]);
    ck_assert_int_ge(now - ended, 6);
    run(&w);
    for (int i = 0; i < FLOOD; i++) {
        flood.text = (uint32_t)i;
        expect(&w, t[i], &flood);
    }
    for (int i = 0; i < OTHERS; i++)
        expect(&w, o[i], &other[i]);
    close_world(&w);
}
END_TEST

/* While a giant prompt is read, a running choice gets a token every step and a short one gets in.
 */
START_TEST(a_giant_prompt_holds_nobody_up)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask small = {.prompt = 4, .text = 1, .max_tokens = 90};
    const struct ask giant = {.prompt = 2000, .text = 2, .max_tokens = 2};
    const struct ask late = {.prompt = 30, .text = 3, .max_tokens = 2, .route = 1};
    struct ticket *s = ask(&w, &small);
    scheduler_step(w.s);
    struct ticket *g = ask(&w, &giant), *l = NULL;
    struct usage before, after;
    for (int i = 0; i < 20; i++) {
        ticket_usage(s, &before);
        scheduler_step(w.s);
        ticket_usage(s, &after);
        ck_assert_int_eq(after.generated_tokens, before.generated_tokens + 1);
        if (i == 3)
            l = ask(&w, &late);
    }
    ck_assert(ticket_ended(l));
    ck_assert(!ticket_ended(g));
    ck_assert_int_le(w.max_rows_seen, 32 + 3);
    run(&w);
    expect(&w, s, &small);
    expect(&w, g, &giant);
    expect(&w, l, &late);
    close_world(&w);
}
END_TEST

START_TEST(cancel_frees_within_a_step)
{
    struct world w;
    open_world(&w, roomy);
    struct ask a = {.prompt = 100, .text = 1, .max_tokens = 1000, .n = 4, .temperature = 1};
    struct ask b = {.prompt = 50, .text = 2, .max_tokens = 20};
    struct ticket *t = ask(&w, &a), *u = ask(&w, &b);
    for (int i = 0; i < 8; i++)
        scheduler_step(w.s);
    ck_assert_int_gt(kvcache_used(w.kv), 7);
    ticket_cancel(t);
    scheduler_step(w.s);
    ck_assert(ticket_ended(t));
    ck_assert_int_eq(ticket_status(t, NULL), ST_CANCELLED);
    ck_assert_int_le(kvcache_used(w.kv), 5);
    ticket_free(t);
    t = ask(&w, &a); /* before it ever ran */
    ticket_free(t);
    scheduler_step(w.s);
    ck_assert_int_eq(w.ended, 2);
    run(&w);
    expect(&w, u, &b);
    close_world(&w);
}
END_TEST

START_TEST(cancelled_before_it_came)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 10, .text = 1, .max_tokens = 10};
    struct ticket *t = prepare(&w, &a, ST_OK);
    ticket_cancel(t);
    scheduler_step(w.s); /* eats the kick */
    scheduler_submit(w.s, t);
    scheduler_step(w.s);
    ck_assert_int_eq(ticket_status(t, NULL), ST_CANCELLED);
    ticket_free(t);
    close_world(&w);
}
END_TEST

START_TEST(non_finite_logits_fail_their_ticket_alone)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 40, .text = 1, .max_tokens = 10};
    const struct ask b = {.prompt = 1, .text = 2, .max_tokens = 1};
    for (w.poison = 0; w.poison < VOCAB; w.poison++) {
        bool in_b = token_at(&b, 0) == w.poison, in_a = false;
        for (int32_t i = 0; i < a.prompt; i++)
            in_a |= token_at(&a, i) == w.poison;
        if (in_a && !in_b)
            break;
    }
    ck_assert_int_lt(w.poison, VOCAB);
    struct ticket *t = ask(&w, &a), *u = ask(&w, &b);
    run(&w);
    struct error err = ERROR_INIT;
    ck_assert_int_eq(ticket_status(t, &err), ST_NON_FINITE_OUTPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "prompt 0"));
    error_clear(&err);
    ticket_free(t);
    expect(&w, u, &b);
    close_world(&w);
}
END_TEST

START_TEST(prompts_that_cannot_fit_are_refused)
{
    struct world w;
    struct sizes z = roomy;
    z.pages = 4;
    open_world(&w, z);
    const struct ask fits = {.prompt = 63, .text = 1, .max_tokens = 100};
    const struct ask too_long = {.prompt = 64, .text = 1, .max_tokens = 1};
    prepare(&w, &too_long, ST_CONTEXT_LENGTH_EXCEEDED);
    struct ticket *t = ask(&w, &fits);
    run(&w);
    expect(&w, t, &fits); /* one token, then the context is full */
    close_world(&w);
}
END_TEST

/* ---- the raw pass ---- */

static struct ticket *ask_forward(struct world *w, const struct ask *a, size_t n, unsigned outputs,
                                  enum status want)
{
    struct prompt rows[16];
    int32_t ids[16][512];
    for (size_t i = 0; i < n; i++) {
        for (int32_t j = 0; j < a[i].prompt; j++)
            ids[i][j] = token_at(&a[i], j);
        rows[i] = (struct prompt){.ids = ids[i], .n_ids = (size_t)a[i].prompt};
    }
    const struct forward_request q = {.rows = rows, .n_rows = n, .outputs = outputs, .compute = -1};
    struct ticket *t = ticket_new(&w->tickets);
    struct error err = ERROR_INIT;
    ck_assert_int_eq(request_forward(t, &w->host, &q, &err), want);
    if (want != ST_OK) {
        ck_assert_ptr_nonnull(strstr(err.text, "last_logits"));
        error_clear(&err);
        ticket_discard(t);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        set_route(w, &t->request->routes[i], a[i].route);
    ck_assert_int_eq(request_ids(t, NULL), ST_OK);
    ck_assert_int_eq(request_plan(t, NULL), ST_OK);
    scheduler_submit(w->s, t);
    return t;
}

START_TEST(forward_delivers_every_row)
{
    static const struct sizes all[] = {{256, 64, 32, 16, 0}, {13, 16, 4, 16, 0}, {12, 5, 5, 2, 0}};
    static const unsigned masks[] = {OUTPUT_LAST_LOGITS,
                                     OUTPUT_LOGITS | OUTPUT_LAST_LOGITS | OUTPUT_HIDDEN |
                                         OUTPUT_LOGPROBS | OUTPUT_EMBEDDING,
                                     OUTPUT_LOGPROBS, OUTPUT_EMBEDDING, OUTPUT_HIDDEN};
    for (size_t z = 0; z < 3; z++)
        for (size_t m = 0; m < 5; m++) {
            struct world w;
            open_world(&w, all[z]);
            w.options.max_reply_bytes = 1 << 24;
            struct ask a[6];
            for (int i = 0; i < 6; i++)
                a[i] = (struct ask){
                    .prompt = 1 + i * 17, .text = (uint32_t)i % 2, .shared = 40, .route = i % 3};
            struct ticket *t = ask_forward(&w, a, 6, masks[m], ST_OK);
            run(&w);
            size_t n;
            const struct forward_row *rows = ticket_forward(t, &n);
            ck_assert_uint_eq(n, 6);
            for (size_t i = 0; i < n; i++) {
                int32_t tokens[512];
                ck_assert_int_eq(rows[i].tokens, a[i].prompt);
                for (int32_t j = 0; j < a[i].prompt; j++)
                    tokens[j] = token_at(&a[i], j);
                for (int32_t j = 0; j < a[i].prompt; j++) {
                    float x[VOCAB];
                    uint64_t h = hash_of(&a[i], tokens, j + 1, 0);
                    logits_of(h, x);
                    bool last = j == a[i].prompt - 1;
                    if (rows[i].logits)
                        ck_assert_mem_eq(rows[i].logits + j * VOCAB, x, sizeof x);
                    if (rows[i].last_logits && last)
                        ck_assert_mem_eq(rows[i].last_logits, x, sizeof x);
                    for (int k = 0; k < HIDDEN; k++) {
                        float want = (float)(mix(h, 1000 + (uint64_t)k) >> 40);
                        if (rows[i].hidden)
                            ck_assert(rows[i].hidden[j * HIDDEN + k] == want);
                        if (rows[i].embedding && last)
                            ck_assert(rows[i].embedding[k] == want);
                    }
                    sampler_log_softmax(x, VOCAB);
                    if (rows[i].logprobs)
                        ck_assert_mem_eq(rows[i].logprobs + j * VOCAB, x, sizeof x);
                }
            }
            ticket_free(t);
            close_world(&w);
        }
}
END_TEST

START_TEST(forward_refuses_large_replies)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {.prompt = 300, .text = 1};
    w.options.max_reply_bytes = 300 * VOCAB * 12 - 1;
    ask_forward(&w, &a, 1, OUTPUT_LOGITS, ST_REPLY_TOO_LARGE);
    w.options.max_reply_bytes++;
    struct ticket *t = ask_forward(&w, &a, 1, OUTPUT_LOGITS, ST_OK);
    run(&w);
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    ticket_free(t);
    close_world(&w);
}
END_TEST

/* ---- memory ---- */

/* One request from nothing to its end beside a running one, the nth allocation failing. */
static enum status submit_and_run(struct world *w, const struct generate_request *q)
{
    struct ticket *t = ticket_new(&w->tickets);
    if (!t)
        return ST_OUT_OF_MEMORY;
    enum status st = request_generate(t, &w->host, q, NULL);
    if (st == ST_OK) {
        set_route(w, &t->request->routes[0], 0);
        st = request_ids(t, NULL);
    }
    if (st == ST_OK)
        st = request_plan(t, NULL);
    if (st != ST_OK) {
        ticket_discard(t);
        return st;
    }
    scheduler_submit(w->s, t);
    while (!ticket_ended(t))
        scheduler_step(w->s);
    st = ticket_status(t, NULL);
    ticket_free(t);
    return st;
}

/* Whatever allocation fails, that request fails and no other; the rest goes on with the same bits
 * and nothing leaks. */
START_TEST(every_allocation_may_fail)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask b = {.prompt = 30, .text = 2, .max_tokens = 40, .route = 1};
    int32_t ids[20] = {1, 2, 3};
    const struct prompt prompt = {.ids = ids, .n_ids = 20};
    const struct generate_request q = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .n = 2,
                                       .max_tokens = 6,
                                       .min_tokens = UNSET_INT,
                                       .top_k = UNSET_INT,
                                       .logprobs = 2,
                                       .temperature = 1,
                                       .top_p = UNSET_FLOAT,
                                       .min_p = UNSET_FLOAT,
                                       .repetition_penalty = UNSET_FLOAT,
                                       .presence_penalty = UNSET_FLOAT,
                                       .frequency_penalty = UNSET_FLOAT,
                                       .echo = true,
                                       .compute = COMPUTE_EXACT};
    long alive = 0;
    bool fired = true;
    for (long n = 1; fired; n++) {
        ck_assert_int_lt(n, 2000);
        struct ticket *u = ask(&w, &b);
        scheduler_step(w.s);
        fault_arm(n);
        enum status st = submit_and_run(&w, &q);
        fired = fault_disarm();
        run(&w);
        if (!fired || st != ST_OK) {
            ck_assert_int_eq(st, fired ? ST_OUT_OF_MEMORY : ST_OK);
            expect(&w, u, &b);
        } else { /* it hit the other one */
            ck_assert_int_eq(ticket_status(u, NULL), ST_OUT_OF_MEMORY);
            ticket_free(u);
        }
        if (n > 1)
            ck_assert_int_eq(fault_live(), alive);
        alive = fault_live();
    }
    close_world(&w);
}
END_TEST

/* ---- with its thread ---- */

static void *submit_some(void *arg)
{
    struct world *w = arg;
    for (int i = 0; i < 30; i++) {
        const struct ask a = {.prompt = 10 + i, .text = (uint32_t)i, .max_tokens = 10};
        struct ticket *t = ask(w, &a);
        if (i % 3 == 0) {
            ticket_free(t);
            continue;
        }
        ticket_join(t);
        expect(w, t, &a);
    }
    return NULL;
}

START_TEST(from_several_threads)
{
    struct world w;
    struct sizes z = roomy;
    z.pages = 20;
    open_world(&w, z);
    ck_assert_int_eq(scheduler_start(w.s, NULL), ST_OK);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_some, &w), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    close_world(&w);
    ck_assert_int_eq(w.ended, 90);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("scheduler");
    TCase *c = tcase_create("scheduler");
    tcase_add_test(c, one_alone);
    tcase_add_test(c, crowds_in_all_sizes);
    tcase_add_test(c, a_prefix_is_computed_once);
    tcase_add_test(c, choices_share_their_prompt);
    tcase_add_test(c, echo_scores_the_prompt);
    tcase_add_test(c, neighbours_are_grouped);
    tcase_add_test(c, a_flood_starves_nobody);
    tcase_add_test(c, a_giant_prompt_holds_nobody_up);
    tcase_add_test(c, cancel_frees_within_a_step);
    tcase_add_test(c, cancelled_before_it_came);
    tcase_add_test(c, non_finite_logits_fail_their_ticket_alone);
    tcase_add_test(c, prompts_that_cannot_fit_are_refused);
    tcase_add_test(c, forward_delivers_every_row);
    tcase_add_test(c, forward_refuses_large_replies);
    tcase_add_test(c, every_allocation_may_fail);
    tcase_add_test(c, from_several_threads);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
