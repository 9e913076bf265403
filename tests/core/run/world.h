/*
 * The scheduler over a network that is a pure function of what the pages hold: K keeps the token, V
 * the position; the logits of a position are a hash of all (token, position) pairs that its row can
 * see through its pages, and of the route. Whatever goes wrong with pages, prefixes, chunks,
 * preemption or the order of rows shows as other tokens than those of the plain loop in oracle().
 */
#ifndef OFTD_TESTS_CORE_RUN_WORLD_H
#define OFTD_TESTS_CORE_RUN_WORLD_H

#include "tests/check_main.h"

#include <string.h>

#include "core/adapters/adapter.h"
#include "core/run/forward.h"
#include "core/run/request.h"
#include "core/run/scheduler.h"
#include "core/run/sequence.h"
#include "tests/core/model/plain_kernels.h"

#define VOCAB  32
#define HIDDEN 4

static struct view base = {.id = 0};
/* Positions are no part of the hash: within a short window the text runs in circles. */
static bool placeless;
static bool speculate;                             /* of worlds to come */
static double stretch;                             /* likewise */
static int64_t (*now_of_world)(void) = ticket_now; /* likewise */
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
    struct turns turns;
    struct merged *merged;
    struct kvcache *kv;
    struct scheduler *s;
    int32_t steps, ended, started, max_rows_seen, poison; /* poison: a token whose logits are NaN */
    int32_t pass_groups;
    int32_t rows, drawn;             /* of the pass: its rows, those with outputs */
    void (*within)(struct world *w); /* a pass, or NULL */
    atomic_int kicked;
};

static inline uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static inline void logits_of(uint64_t h, float *out)
{
    for (int i = 0; i < VOCAB; i++)
        out[i] = (float)(mix(h, (uint64_t)i) >> 40) / (float)(1 << 21);
}

static inline uint64_t seed_of(const struct adapted *const *a, int32_t n)
{
    uint64_t h = 77;
    for (int32_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)(a[i] - routes_adapted) + 1);
    return h;
}

static inline void fake_forward(void *ctx, enum compute mode, struct batch *b)
{
    struct world *w = ctx;
    const struct kv *kv = b->kv;
    (void)mode;
    if (b->rows > w->options.max_rows) /* a passing ck_assert allocates */
        ck_abort_msg("%d rows in a step", b->rows);
    w->rows = b->rows;
    w->drawn = b->n_outputs;
    if (w->within)
        w->within(w);
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
            h = mix(h, (uint64_t)((float *)kv->k)[at]);
            if (!placeless)
                h = mix(h, (uint64_t)((float *)kv->v)[at]);
            if (((float *)kv->v)[at] != (float)p)
                ck_abort_msg("position %d holds another's value", p);
            poisoned |= ((float *)kv->k)[at] == (float)w->poison;
        }
        if (o->logits)
            logits_of(h, o->logits);
        if (o->logits && poisoned)
            o->logits[3] = NAN;
        for (int j = 0; o->hidden && j < HIDDEN; j++)
            o->hidden[j] = (float)(mix(h, 1000 + (uint64_t)j) >> 40);
        for (int j = 0; o->gathered && j < HIDDEN; j++) {
            float x = (float)(mix(h, 1000 + (uint64_t)j) >> 40), *to = &o->gathered[j];
            *to = o->weight != 0 ? *to + o->weight * x : x > *to ? x : *to;
        }
    }
}

static inline int32_t fake_module(void *ctx, struct request *r, int32_t first, int32_t rows,
                                  struct error *err)
{
    (void)ctx;
    (void)err;
    for (int64_t i = (int64_t)first * r->module_out; i < (first + rows) * r->module_out; i++)
        r->module_result[i] = (float)i;
    return rows;
}

static inline void on_started(void *ctx, struct ticket *t)
{
    (void)t;
    ((struct world *)ctx)->started++;
}

static inline void on_ended(void *ctx, struct ticket *t)
{
    ((struct world *)ctx)->ended++;
    ticket_unref(t);
}

static inline void on_kick(void *ctx)
{
    struct world *w = ctx;
    atomic_fetch_add(&w->kicked, 1);
    scheduler_kick(w->s);
}

static inline void nothing(void *ctx)
{
    (void)ctx;
}

struct sizes {
    int32_t pages, max_rows, chunk, sequences, window;
};

static inline void open_world(struct world *w, struct sizes z)
{
    *w = (struct world){.poison = -1};
    w->model = (struct model){.model_type = "fake",
                              .has_head = true,
                              .pooling = POOLING_LAST,
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
    ck_assert(turns_open(&w->turns));
    ck_assert_int_eq(merged_open(&w->model, nothing, NULL, &w->merged, NULL), ST_OK);
    const struct kv_shape one = {1, 1, 1};
    ck_assert_int_eq(kvcache_open(NULL, &one, DT_F32, z.pages, &w->kv, NULL), ST_OK);
    w->host = (struct request_host){
        .model = &w->model,
        .options = &w->options,
        .max_len = {z.window ? 4096 : z.pages * KV_PAGE, z.window ? 4096 : z.pages * KV_PAGE},
        .merged = w->merged,
        .defaults = {
            .temperature = 1, .top_p = 1, .repetition = 1, .logprobs = -1, .max_tokens = 16}};
    w->tickets = (struct ticket_host){.ctx = w, .kick = on_kick, .ended = on_ended};
    const struct scheduler_options o = {.model = &w->model,
                                        .kernels = &plain_kernels,
                                        .kv = w->kv,
                                        .stats = &w->stats,
                                        .turns = &w->turns,
                                        .max_rows = z.max_rows,
                                        .prefill_chunk = z.chunk,
                                        .prefill_stretch = stretch,
                                        .now = now_of_world,
                                        .max_sequences = z.sequences,
                                        .speculate = speculate,
                                        .forward = fake_forward,
                                        .module = fake_module,
                                        .started = on_started,
                                        .ctx = w};
    ck_assert_int_eq(scheduler_open(&o, &w->s, NULL), ST_OK);
}

static inline void close_world(struct world *w)
{
    scheduler_stop(w->s);
    ck_assert_int_eq(kvcache_used(w->kv), 0);
    scheduler_close(w->s);
    kvcache_close(w->kv);
    merged_close(w->merged);
    turns_close(&w->turns);
    stats_close(&w->stats);
}

static inline void run(struct world *w)
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
    int32_t score; /* prompt_logprobs + 1; 0: none */
};

/* A request of any kind, as the bits of r say. */
static inline struct ask random_ask(uint64_t r)
{
    return (struct ask){.prompt = 1 + (int32_t)(r % 90),
                        .text = (uint32_t)(r >> 8) % 5,
                        .shared = (int32_t)(r >> 16 & 63),
                        .route = (int)(r >> 24 & 3),
                        .max_tokens = 1 + (int32_t)(r >> 32 & 63),
                        .n = 1 + (int32_t)(r >> 40 & 1) * 2,
                        .logprobs = (r >> 44) % 2 ? 2 : 0,
                        .temperature = (r >> 45) % 2 ? 0.9f : 0,
                        .echo = (r >> 46) % 3 == 0,
                        .score = (r >> 48) % 4 == 0 ? (int32_t)(r >> 50 & 3) : 0};
}

static inline int32_t token_at(const struct ask *a, int32_t i)
{
    return (int32_t)(mix(i < a->shared ? 5 : a->text * 7919 + 5, (uint64_t)i) >> 33) % VOCAB;
}

static inline void set_route(struct world *w, struct route *r, int route)
{
    struct adapter identity = {.identity = {(uint8_t)route}};
    struct adapter *a = &identity;
    r->view = &base;
    r->n_adapted = route ? 1 : 0;
    r->adapted[0] = adapted_of[route];
    prefix_root("fake", 0, COMPUTE_EXACT, &a, r->n_adapted, r->key);
    (void)w;
}

static inline struct ticket *prepare(struct world *w, const struct ask *a, enum status want)
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
                                       .score_prompt = a->score > 0,
                                       .prompt_logprobs = a->score - 1,
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

static inline struct ticket *ask(struct world *w, const struct ask *a)
{
    struct ticket *t = prepare(w, a, ST_OK);
    scheduler_submit(w->s, t);
    return t;
}

/* The definition: one token after the other, everything computed anew each time. */
static inline uint64_t hash_of(const struct ask *a, const int32_t *tokens, int32_t len,
                               int32_t window)
{
    const struct adapted *const v[] = {adapted_of[a->route]};
    uint64_t h = seed_of(v, a->route ? 1 : 0);
    for (int32_t i = window && len > window ? len - window : 0; i < len; i++)
        h = placeless ? mix(h, (uint64_t)tokens[i]) : mix(mix(h, (uint64_t)tokens[i]), (uint64_t)i);
    return h;
}

static inline int32_t oracle(const struct ask *a, int32_t choice, int32_t window, int32_t max_len,
                             int32_t *out, float *logprobs)
{
    int32_t tokens[8192], len = a->prompt, n = 0;
    struct sampler *s;
    ck_assert_int_eq(sampler_open(&plain_kernels, VOCAB, &s, NULL), ST_OK);
    const struct sampling p = {
        .temperature = a->temperature, .top_p = 1, .repetition = 1, .logprobs = -1, .seed = 11};
    for (int32_t i = 0; i < len; i++)
        tokens[i] = token_at(a, i);
    while (n < a->max_tokens && len < max_len) {
        float x[VOCAB];
        logits_of(hash_of(a, tokens, len, window), x);
        const struct history h = {tokens, a->prompt, len, choice, NULL};
        out[n] = sampler_pick(s, &p, &h, x);
        logprobs[n] = sampler_logprob(x[out[n]], sampler_log_sum(&plain_kernels, x, VOCAB));
        tokens[len++] = out[n++];
    }
    sampler_close(s);
    return n;
}

/* Reads a finished ticket and compares every choice with the oracle. */
static inline void expect(struct world *w, struct ticket *t, const struct ask *a)
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
        int32_t m =
            oracle(a, c, w->model.window, (int32_t)w->host.max_len[COMPUTE_EXACT], want, want_p);
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

static const struct sizes roomy
    __attribute__((unused)) = {.pages = 256, .max_rows = 64, .chunk = 32, .sequences = 16};

#endif
