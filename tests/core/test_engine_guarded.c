/*
 * A device's memory is none of the host's: an engine whose tables compute on pages that the host
 * cannot touch (tests/support/guarded.h) gives the very bits that it gives on a CPU, for networks
 * of every mechanism and weights of every encoding, in both modes, for generation, raw passes of
 * every output, single modules, heads of adapters, merges and swaps; gives back what it took; and
 * says so when there is no more.
 */
#include <stdio.h>

#include "tests/core/engine_fixture.h"

#define TOKENS 30

static const struct base {
    const char *folder, *first, *second; /* adapters */
    bool makes_text, merges;
} bases[] = {
    {"families/llama", "a", "emb", true, true},
    {"families/gemma3", "a", "all", true, true}, /* norms behind blocks, two ropes */
    {"families/qwen3_moe", "experts", "all", true, false},
    {"families/falcon", "a", "all", true, true}, /* one fused q k v, sorted */
    {"families/gpt2", "a", "all", true, true},   /* learned positions, biases */
    {"families/opt", "a", "all", true, true},    /* a narrow embedding */
    {"families/phi3", "a", "all", true, true},   /* fused q k v and gate up, used in place */
    {"families/bert", "a", "emb", false, true},  /* a pooler */
    {"families/roberta", "a", "all", false, true},
    {"classes/llama", "a", "t", false, false}, /* heads of adapters */
    {"classes/bert", "a", "t", false, false},
    {"classes/bert/token", "", "", false, false}, /* a head of its own */
    {"fixtures/bnb4-nf4-dq", "qv", "all", true, true},
    {"fixtures/bnb8", "qv", "all", true, true},
    {"fixtures/eetq8", "qv", "all", true, false},
    {"fixtures/aqlm-2x8", "qv", "all", true, false},
    {"fixtures/gptq3", "qv", "all", true, false},
    {"fixtures/awq4-gemm-g128", "qv", "all", true, false},
    {"fixtures/gptq4-g32-actorder", "qv", "all", true, false},
    {"fixtures/hqq2-g16-axis0", "qv", "all", true, true},
    {"fixtures/inc-fp8", "qv", "all", true, false},
};
#define N_BASES (sizeof bases / sizeof *bases)

static const struct base *base; /* of the running test */

/* All numbers that an engine gave, one behind the other. */
struct tape {
    float *v;
    size_t n, room;
};

static void record(struct tape *t, const float *v, size_t n)
{
    if (t->n + n > t->room) {
        t->room = 2 * (t->n + n);
        t->v = realloc(t->v, t->room * sizeof *t->v);
        ck_assert_ptr_nonnull(t->v);
    }
    if (v)
        memcpy(t->v + t->n, v, n * sizeof *v);
    t->n += v ? n : 0;
}

static struct name_list chain_of(const char *const *names_in_order, size_t n)
{
    return (struct name_list){names_in_order, *base->first ? n : 0};
}

/* ---- asking ---- */

static void forward(struct tape *tape, enum compute mode)
{
    static int32_t ids[2][TOKENS];
    const char *pair[] = {base->first, base->second};
    bool heads = !strncmp(base->folder, "classes/", 8); // a chain has one
    const struct name_list chains[] = {chain_of(pair, 1), chain_of(pair + 1, heads ? 1 : 0),
                                       chain_of(pair, heads ? 1 : 2)};
    for (int i = 0; i < 2 * TOKENS; i++)
        ids[i / TOKENS][i % TOKENS] = 3 + (i * 7919) % 37;
    const struct prompt rows[] = {{.ids = ids[0], .n_ids = TOKENS},
                                  {.ids = ids[0], .n_ids = TOKENS - 5},
                                  {.ids = ids[1], .n_ids = TOKENS}};
    bool plain_encoder = !base->makes_text && !heads;
    struct forward_request q = {.rows = rows,
                                .n_rows = 3,
                                .adapters = chains,
                                .outputs = OUTPUT_HIDDEN | OUTPUT_EMBEDDING,
                                .compute = (int)mode};
    if (!plain_encoder)
        q.outputs |= OUTPUT_LOGITS | OUTPUT_LOGPROBS;
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    enum status st = engine_forward(e, &q, &t, &err);
    if (st == ST_NOT_SUPPORTED) { // no logits of a row without a head, no embedding
        error_clear(&err);
        q.outputs = OUTPUT_HIDDEN;
        st = engine_forward(e, &q, &t, &err);
    }
    ck_assert_msg(st == ST_OK, "%s: %s", base->folder, err.text);
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s: %s", base->folder, err.text);
    size_t n;
    const struct forward_row *r = ticket_forward(t, &n);
    for (size_t i = 0; i < n; i++) {
        size_t hidden = (size_t)engine_model(e)->hidden, tokens = (size_t)r[i].tokens;
        size_t vectors = r[i].classifier == CLASSIFIER_SEQUENCE ? 1 : tokens;
        record(tape, r[i].logits, vectors * (size_t)r[i].width);
        record(tape, r[i].logprobs, vectors * (size_t)r[i].width);
        record(tape, r[i].hidden, tokens * hidden);
        record(tape, r[i].embedding, hidden);
    }
    ticket_free(t);
}

/* Greedy and drawn, the base and a chain, at once. */
static void text(struct tape *tape, enum compute mode)
{
    static int32_t ids[TOKENS];
    static struct answer answers[4];
    const char *pair[] = {base->first, base->second};
    struct ticket *t[4];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = 3 + (i * 104729) % 37;
    const struct prompt p = {.ids = ids, .n_ids = TOKENS};
    for (int i = 0; i < 4; i++) {
        struct generate_request q = ask(&p, NULL, 12);
        const struct name_list chain = chain_of(pair, (size_t)(i % 3));
        q.adapters = chain.names;
        q.n_adapters = chain.n;
        q.temperature = i == 3 ? 0.8f : 0;
        q.logprobs = 3;
        q.has_seed = true;
        q.seed = 7;
        q.compute = (int)mode;
        t[i] = submit(e, &q);
    }
    for (int i = 0; i < 4; i++) {
        collect(t[i], &answers[i]);
        for (size_t k = 0; k < answers[i].n; k++)
            record(tape, &(float){(float)answers[i].ids[k]}, 1);
        record(tape, answers[i].logprobs, answers[i].n);
    }
}

/* Every kind of module by itself, more rows than leave at once. */
static void modules(struct tape *tape)
{
    enum { ROWS = 45 };
    const struct model *m = engine_model(e);
    int32_t ids[ROWS];
    for (size_t i = 0; i < m->n_modules; i += i < 10 ? 1 : 7) {
        const struct module *u = &m->modules[i];
        bool embedding = u->kind == MODULE_EMBEDDING;
        float *x = calloc((size_t)(ROWS * u->k), sizeof *x);
        ck_assert_ptr_nonnull(x);
        for (int r = 0; r < ROWS; r++)
            ids[r] = r % (u->n < 7 ? (int)u->n : 7);
        for (int64_t k = 0; k < ROWS * u->k; k++)
            x[k] = (float)(k % 13) - 6;
        const struct module_request q = {.module = u->name,
                                         .adapters = chain_of(&base->second, 1),
                                         .x = embedding ? NULL : x,
                                         .ids = embedding ? ids : NULL,
                                         .rows = ROWS,
                                         .width = u->k,
                                         .compute = COMPUTE_EXACT};
        struct ticket *t = NULL;
        struct error err = ERROR_INIT;
        ck_assert_msg(engine_module(e, &q, &t, &err) == ST_OK, "%s: %s", u->name, err.text);
        ticket_join(t);
        ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s: %s", u->name, err.text);
        int32_t rows;
        int64_t n;
        const float *out = ticket_module(t, &rows, &n);
        record(tape, out, (size_t)(rows * n));
        ticket_free(t);
        free(x);
    }
}

static void ask_all(struct tape *tape)
{
    for (int mode = 0; mode < 2; mode++) {
        forward(tape, (enum compute)mode);
        if (base->makes_text)
            text(tape, (enum compute)mode);
    }
    modules(tape);
}

/* ---- the engine over the running test's base ---- */

static struct engine_options over(void)
{
    static struct adapter_request adapters[2];
    static char dir[256], paths_of[2][320];
    const char *both[] = {base->first, base->second};
    snprintf(dir, sizeof dir, "%s/%s", test_vectors(), base->folder);
    for (int i = 0; i < 2; i++) {
        snprintf(paths_of[i], sizeof paths_of[i], "%s/adapters/%s", dir, both[i]);
        adapters[i] =
            (struct adapter_request){.name = both[i], .path = paths_of[i], .trusted = true};
    }
    struct engine_options o = options();
    o.model_dir = dir;
    o.served_name = "base";
    o.adapters = adapters;
    o.n_adapters = *base->first ? 2 : 0;
    o.kv_memory = 8 << 20;
    return o;
}

static void run(struct tape *tape)
{
    open_kernels(1);
    const struct engine_options o = over();
    e = open_engine(&o);
    ask_all(tape);
    if (base->merges) {
        ck_assert_int_eq(merge(base->first, MERGE_RESIDENT), ST_OK);
        ask_all(tape);
        ck_assert_int_eq(unmerge(base->first), ST_OK);
    }
    if (*base->first) { // a swap, and a fraction
        ck_assert_int_eq(load(base->first, o.adapters[1].path, REPLACE_ALWAYS), ST_OK);
        ask_all(tape);
    }
    engine_free(e);
    close_kernels();
}

START_TEST(the_very_bits)
{
    struct tape host_tape = {0}, device_tape = {0};
    base = &bases[_i];
    guarded = false;
    run(&host_tape);
    guarded = true;
    run(&device_tape);
    ck_assert_uint_gt(host_tape.n, 1000);
    ck_assert_uint_eq(host_tape.n, device_tape.n);
    for (size_t i = 0; i < host_tape.n; i++)
        ck_assert_msg(!memcmp(&host_tape.v[i], &device_tape.v[i], sizeof(float)),
                      "%s: number %zu of %zu is %a, on the host %a", base->folder, i, host_tape.n,
                      device_tape.v[i], host_tape.v[i]);
    ck_assert_uint_eq(guarded_held(), 0);
    free(host_tape.v);
    free(device_tape.v);
}
END_TEST

/* Each allocation of the device fails in turn: the load says so and gives everything back. */
START_TEST(no_more_memory)
{
    int failures = 0;
    base = &bases[10]; // with heads
    guarded = true;
    open_kernels(1);
    const struct engine_options o = over();
    for (int n = 1;; n++) {
        struct error err = ERROR_INIT;
        struct engine *v = NULL;
        ck_assert_int_eq(engine_new(&o, &v, &err), ST_OK);
        guarded_fail(n);
        enum status st = engine_load(v, NULL, NULL, &err);
        guarded_fail(0);
        engine_free(v);
        ck_assert_uint_eq(guarded_held(), 0);
        if (st == ST_OK)
            break;
        failures++;
        ck_assert_msg(st == ST_OUT_OF_MEMORY, "%s", err.text);
        error_clear(&err);
    }
    ck_assert_int_gt(failures, 20);
    close_kernels();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_guarded");
    TCase *c = tcase_create("engine_guarded");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, the_very_bits, 0, (int)N_BASES);
    tcase_add_test(c, no_more_memory);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
