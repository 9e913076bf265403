/*
 * A whole engine for tests: over the demo base with its four adapters, or over any checkpoint.
 * `e` is the engine that the running test uses; whoever replaces it frees the old one.
 */
#ifndef OFTD_TESTS_CORE_ENGINE_FIXTURE_H
#define OFTD_TESTS_CORE_ENGINE_FIXTURE_H

#include "tests/check_main.h"

#include <string.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "core/engine.h"
#include "tests/support/guarded.h"

static const char *const names[]
    __attribute__((unused)) = {"austen", "devil", "jargon", "scripture"};
static const char *const paths[]
    __attribute__((unused)) = {"demo/adapters/austen", "demo/adapters/devil",
                               "demo/adapters/jargon", "demo/adapters/scripture"};
static const char *const roots[] __attribute__((unused)) = {"demo/adapters"};

static struct kernels *exact, *fast, *loader, *host; /* host: of guarded ones, else NULL */
static bool guarded; /* the worker's tables have memory of their own; OFTD_TEST_GUARDED=1: always */
static struct engine *e;

static inline struct engine_options options(void)
{
    static struct adapter_request adapters[4];
    for (int i = 0; i < 4; i++)
        adapters[i] = (struct adapter_request){.name = names[i], .path = paths[i], .trusted = true};
    return (struct engine_options){.model_dir = "demo/base",
                                   .chain = &chain_default,
                                   .kernels = {exact, fast, loader, host},
                                   .compute_generate = COMPUTE_EXACT,
                                   .compute_forward = COMPUTE_EXACT,
                                   .adapters = adapters,
                                   .n_adapters = 4,
                                   .adapter_memory = 1 << 30,
                                   .merge_memory = 1 << 30,
                                   .kv_memory = 64 << 20,
                                   .kv_dtype = DT_F16,
                                   .max_rows = 128,
                                   .prefill_chunk = 64,
                                   .max_sequences = 32,
                                   .max_queue = 64,
                                   .max_queue_tokens = 100000,
                                   .max_forward_rows = 16,
                                   .max_reply_bytes = 64 << 20,
                                   .max_n = 16,
                                   .intake_threads = 2};
}

static inline struct engine *open_engine(const struct engine_options *o)
{
    struct error err = ERROR_INIT;
    struct engine *v = NULL;
    ck_assert_msg(engine_new(o, &v, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(engine_load(v, NULL, NULL, &err) == ST_OK, "%s", err.text);
    return v;
}

static inline void open_kernels(int threads)
{
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, threads, &exact, NULL), ST_OK);
    ck_assert_int_eq(cpu_kernels_share(exact, COMPUTE_FAST, &fast, NULL), ST_OK);
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &loader, NULL), ST_OK);
    host = NULL;
    if (!guarded && !getenv("OFTD_TEST_GUARDED"))
        return;
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &host, NULL), ST_OK);
    exact = guarded_open(exact);
    fast = guarded_open(fast);
}

static inline void setup(void)
{
    open_kernels(1);
    const struct engine_options o = options();
    e = open_engine(&o);
}

static inline void close_kernels(void)
{
    exact->close(exact);
    fast->close(fast);
    loader->close(loader);
    if (host)
        host->close(host);
}

static inline void teardown(void)
{
    engine_free(e);
    close_kernels();
}

/* ---- requests ---- */

static inline struct generate_request ask(const struct prompt *prompt, const char *const *adapter,
                                          int32_t max_tokens)
{
    return (struct generate_request){.prompts = prompt,
                                     .n_prompts = 1,
                                     .adapters = adapter,
                                     .n_adapters = adapter && *adapter ? 1 : 0,
                                     .n = 1,
                                     .max_tokens = max_tokens,
                                     .min_tokens = UNSET_INT,
                                     .top_k = UNSET_INT,
                                     .logprobs = UNSET_INT,
                                     .temperature = 0,
                                     .top_p = UNSET_FLOAT,
                                     .min_p = UNSET_FLOAT,
                                     .repetition_penalty = UNSET_FLOAT,
                                     .presence_penalty = UNSET_FLOAT,
                                     .frequency_penalty = UNSET_FLOAT,
                                     .ignore_eos = true,
                                     .skip_special = true,
                                     .add_special = true,
                                     .compute = -1};
}

static inline struct prompt text_prompt(const char *s)
{
    return (struct prompt){.text = s, .text_len = strlen(s)};
}

static inline struct ticket *submit(struct engine *on, const struct generate_request *q)
{
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(engine_generate(on, q, &t, &err) == ST_OK, "%s", err.text);
    return t;
}

struct answer {
    char text[8192];
    size_t len;
    int32_t ids[1024];
    float logprobs[1024];
    size_t n;
    enum finish_reason finish;
    int32_t stop_token;
};

/* Waits, reads all pieces of one choice, frees the ticket. */
static inline void collect(struct ticket *t, struct answer *a)
{
    struct error err = ERROR_INIT;
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    memset(a, 0, sizeof *a);
    struct piece p;
    while (ticket_read(t, &p)) {
        memcpy(a->text + a->len, p.text.v, p.text.len);
        a->len += p.text.len;
        for (size_t i = 0; i < p.n_tokens; i++) {
            ck_assert_uint_le(p.tokens[i].text_offset, 8192);
            a->logprobs[a->n] = p.tokens[i].logprob;
            a->ids[a->n++] = p.tokens[i].id;
        }
        a->finish = p.finish;
        a->stop_token = p.stop_token;
    }
    a->text[a->len] = 0;
    ticket_free(t);
}

static inline void generate(struct engine *on, const char *text, const char *adapter,
                            int32_t max_tokens, struct answer *a)
{
    const struct prompt p = text_prompt(text);
    struct generate_request q = ask(&p, &adapter, max_tokens);
    q.logprobs = 0;
    collect(submit(on, &q), a);
}

static inline void expect_same(const struct answer *a, const struct answer *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_mem_eq(a->ids, b->ids, a->n * sizeof *a->ids);
    ck_assert_mem_eq(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    ck_assert_str_eq(a->text, b->text);
}

/* ---- administration ---- */

/* Of a submit and, when it was taken, of the work. */
static inline enum status outcome(enum status submitted, struct ticket **t)
{
    if (submitted != ST_OK)
        return submitted;
    ticket_join(*t);
    enum status st = ticket_status(*t, NULL);
    ticket_free(*t);
    return st;
}

static inline enum status try_generate(const struct generate_request *q)
{
    struct ticket *t = NULL;
    return outcome(engine_generate(e, q, &t, NULL), &t);
}

static inline enum status load(const char *name, const char *path, enum replace_policy replace)
{
    const struct adapter_request q = {
        .name = name, .path = path, .trusted = true, .replace = replace};
    struct ticket *t = NULL;
    return outcome(engine_adapter_load(e, &q, &t, NULL), &t);
}

static inline enum status unload(const char *name)
{
    struct ticket *t = NULL;
    return outcome(engine_adapter_unload(e, name, -1, &t, NULL), &t);
}

static inline struct ticket *start_merge(const char *name, enum merge_mode mode)
{
    const struct merge_request q = {
        .adapters = {&name, 1}, .mode = mode, .options = {.safe = true, .max_rel_fro = -1}};
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(engine_merge(e, &q, &t, &err) == ST_OK, "%s", err.text);
    return t;
}

static inline enum status merge(const char *name, enum merge_mode mode)
{
    const struct merge_request q = {
        .adapters = {&name, 1}, .mode = mode, .options = {.safe = true, .max_rel_fro = -1}};
    struct ticket *t = NULL;
    return outcome(engine_merge(e, &q, &t, NULL), &t);
}

static inline enum status unmerge_chain(const char *const *chain, size_t n)
{
    struct ticket *t = NULL;
    return outcome(engine_unmerge(e, &(struct name_list){chain, n}, &t, NULL), &t);
}

static inline enum status unmerge(const char *name)
{
    return unmerge_chain(&name, name != NULL);
}

#endif
