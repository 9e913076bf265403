/*
 * The whole engine over the demo base: its oracle is demo/expected.json (greedy texts of base and
 * adapters, float32 by definition) and demo/expected.safetensors (logits), made by other programs.
 */
#include "tests/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "core/engine.h"
#include "core/files/safetensors.h"
#include "tests/faults/fault.h"

static const char *const names[] = {"austen", "devil", "jargon", "scripture"};
static const char *const paths[] = {"demo/adapters/austen", "demo/adapters/devil",
                                    "demo/adapters/jargon", "demo/adapters/scripture"};
static const char *const roots[] = {"demo/adapters"};

static struct kernels *exact, *fast, *loader;
static struct engine *e;

static struct engine_options options(void)
{
    static struct adapter_request adapters[4];
    for (int i = 0; i < 4; i++)
        adapters[i] = (struct adapter_request){.name = names[i], .path = paths[i], .trusted = true};
    return (struct engine_options){.model_dir = "demo/base",
                                   .chain = &chain_default,
                                   .kernels = {exact, fast, loader},
                                   .compute_generate = COMPUTE_EXACT,
                                   .compute_forward = COMPUTE_EXACT,
                                   .adapters = adapters,
                                   .n_adapters = 4,
                                   .adapter_memory = 1 << 30,
                                   .merge_memory = 1 << 30,
                                   .kv_memory = 64 << 20,
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

static struct engine *open_engine(const struct engine_options *o)
{
    struct error err = ERROR_INIT;
    struct engine *v = NULL;
    ck_assert_msg(engine_new(o, &v, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(engine_load(v, NULL, NULL, &err) == ST_OK, "%s", err.text);
    return v;
}

static void open_kernels(void)
{
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &exact, NULL), ST_OK);
    ck_assert_int_eq(cpu_kernels_share(exact, COMPUTE_FAST, &fast, NULL), ST_OK);
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &loader, NULL), ST_OK);
}

static void setup(void)
{
    open_kernels();
    const struct engine_options o = options();
    e = open_engine(&o);
}

static void close_kernels(void)
{
    exact->close(exact);
    fast->close(fast);
    loader->close(loader);
}

static void teardown(void)
{
    engine_free(e);
    close_kernels();
}

/* ---- requests ---- */

static struct generate_request ask(const struct prompt *prompt, const char *const *adapter,
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

static struct prompt text_prompt(const char *s)
{
    return (struct prompt){.text = s, .text_len = strlen(s)};
}

static struct ticket *submit(struct engine *on, const struct generate_request *q)
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
static void collect(struct ticket *t, struct answer *a)
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

static void generate(struct engine *on, const char *text, const char *adapter, int32_t max_tokens,
                     struct answer *a)
{
    const struct prompt p = text_prompt(text);
    struct generate_request q = ask(&p, &adapter, max_tokens);
    q.logprobs = 0;
    collect(submit(on, &q), a);
}

static void expect_same(const struct answer *a, const struct answer *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_mem_eq(a->ids, b->ids, a->n * sizeof *a->ids);
    ck_assert_mem_eq(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    ck_assert_str_eq(a->text, b->text);
}

static json_t *expected(void)
{
    json_error_t why;
    json_t *v = json_load_file("demo/expected.json", 0, &why);
    ck_assert_msg(v != NULL, "%s", why.text);
    return v;
}

/* ---- tests ---- */

static void check_case(const json_t *c, const struct answer *a)
{
    const json_t *ids = json_object_get(c, "token_ids");
    const char *text = json_string_value(json_object_get(c, "text"));
    ck_assert_uint_eq(a->n, json_array_size(ids));
    for (size_t i = 0; i < a->n; i++)
        ck_assert_int_eq(a->ids[i], json_integer_value(json_array_get(ids, i)));
    ck_assert_str_eq(a->text, text);
    ck_assert_int_eq(a->finish, FINISH_LENGTH);
}

START_TEST(greedy_texts_all_at_once)
{
    json_t *all = expected();
    const json_t *cases = json_object_get(all, "greedy");
    size_t n = json_array_size(cases);
    struct ticket *t[64];
    ck_assert(n > 20 && n <= 64);
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(cases, i);
        const char *adapter = json_string_value(json_object_get(c, "adapter"));
        const struct prompt p = text_prompt(json_string_value(json_object_get(c, "prompt")));
        const struct generate_request q =
            ask(&p, &adapter, (int32_t)json_array_size(json_object_get(c, "token_ids")));
        t[i] = submit(e, &q);
    }
    static struct answer a;
    for (size_t i = 0; i < n; i++) {
        collect(t[i], &a);
        check_case(json_array_get(cases, i), &a);
    }
    json_decref(all);
}
END_TEST

/* The same request alone, in a crowd, after a prefix hit, in tiny chunks, preempted again and
 * again: the same ids and the same bits of every logprob. */
START_TEST(nothing_else_shows)
{
    static struct answer alone[5], other;
    static const char *const prompt =
        "It is a truth universally acknowledged, that a single man in possession of a good "
        "fortune, "
        "must be in want of a wife. However little known the feelings or views of such a man may "
        "be on his first entering a neighbourhood";
    const char *adapters[5] = {NULL, names[0], names[1], names[2], names[3]};
    for (int i = 0; i < 5; i++)
        generate(e, prompt, adapters[i], 60, &alone[i]);
    for (int i = 0; i < 5; i++) { /* the prefix is known now */
        generate(e, prompt, adapters[i], 60, &other);
        expect_same(&alone[i], &other);
    }
    engine_free(e);
    struct engine_options o = options();
    o.max_rows = 16;
    o.prefill_chunk = 3;
    o.max_sequences = 8;
    o.kv_memory = 16 * 6 * 2 * 4 * 16 * 32 * 4; /* 16 pages of 6 layers, 4 heads of 32 */
    e = open_engine(&o);
    ck_assert_uint_eq(engine_options(e)->kv_memory, o.kv_memory);
    const struct prompt p = text_prompt(prompt);
    struct ticket *t[25];
    for (int i = 0; i < 25; i++) {
        struct generate_request q = ask(&p, &adapters[i % 5], 60);
        q.logprobs = i % 2;
        t[i] = submit(e, &q);
    }
    for (int i = 0; i < 25; i++) {
        collect(t[i], &other);
        expect_same(&alone[i % 5], &other);
    }
    struct engine_stats s;
    engine_stats(e, &s);
    ck_assert_uint_gt(s.preemptions, 0);
    ck_assert_uint_eq(s.kv_pages, 16);
    ck_assert_uint_eq(s.finished[FINISH_LENGTH], 25);
    ck_assert_uint_eq(s.time_to_first_token.count, 25);
    ck_assert_uint_eq(s.generated_tokens, 25 * 60);
}
END_TEST

static void compare(const float *got, const float *want, int64_t n, const char *what)
{
    double max = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fmax(max, fabs((double)want[i]));
        diff = fmax(diff, fabs((double)got[i] - (double)want[i]));
    }
    ck_assert_msg(diff <= 1e-4 * max, "%s: %g of %g", what, diff, max);
}

START_TEST(forward_gives_the_logits)
{
    struct safetensors *file = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(safetensors_open("demo/expected.safetensors", &file, &err) == ST_OK, "%s",
                  err.text);
    const struct tensor *ids = safetensors_find(file, "input_ids");
    ck_assert_ptr_nonnull(ids);
    int64_t n = ids->shape[ids->rank - 1];
    int32_t prompt[512];
    ck_assert(ids->dtype == DT_I64 && n <= 512);
    for (int64_t i = 0; i < n; i++)
        memcpy(&prompt[i], (const char *)ids->data + 8 * i, 4);
    const char *both[] = {"austen", "devil"};
    const struct name_list chains[6] = {{NULL, 0},      {&names[0], 1}, {&names[1], 1},
                                        {&names[2], 1}, {&names[3], 1}, {both, 2}};
    static const char *const keys[6] = {"logits.base",   "logits.austen",    "logits.devil",
                                        "logits.jargon", "logits.scripture", "logits.austen+devil"};
    struct prompt rows[6];
    for (int i = 0; i < 6; i++)
        rows[i] = (struct prompt){.ids = prompt, .n_ids = (size_t)n};
    const struct forward_request q = {.rows = rows,
                                      .n_rows = 6,
                                      .adapters = chains,
                                      .outputs = OUTPUT_LOGITS | OUTPUT_LAST_LOGITS,
                                      .compute = -1};
    struct ticket *t = NULL;
    ck_assert_msg(engine_forward(e, &q, &t, &err) == ST_OK, "%s", err.text);
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    size_t got;
    const struct forward_row *r = ticket_forward(t, &got);
    ck_assert_uint_eq(got, 6);
    int compared = 0;
    for (int i = 0; i < 6; i++) {
        const struct tensor *want = safetensors_find(file, keys[i]);
        if (!want)
            continue;
        compared++;
        int64_t v = engine_model(e)->vocab;
        float *f = malloc((size_t)(n * v) * sizeof *f);
        tensor_to_f32(want, 0, n * v, f);
        compare(r[i].logits, f, n * v, keys[i]);
        ck_assert_mem_eq(r[i].last_logits, r[i].logits + (n - 1) * v, (size_t)v * sizeof *f);
        ck_assert_uint_eq(r[i].n_adapters, chains[i].n);
        free(f);
    }
    ck_assert_int_ge(compared, 6);
    ticket_free(t);
    safetensors_close(file);
}
END_TEST

START_TEST(stop_strings_and_streams)
{
    static struct answer whole, cut;
    generate(e, "What is a", NULL, 40, &whole);
    const char *word = strstr(whole.text, "sure");
    ck_assert_ptr_nonnull(word);
    const struct prompt p = text_prompt("What is a");
    const struct text stop[] = {{"no such thing", 13}, {"sure", 4}};
    struct generate_request q = ask(&p, NULL, 40);
    q.stop = stop;
    q.n_stop = 2;
    collect(submit(e, &q), &cut);
    ck_assert_int_eq(cut.finish, FINISH_STOP);
    ck_assert_uint_eq(cut.len, (size_t)(word - whole.text));
    ck_assert_mem_eq(cut.text, whole.text, cut.len);
    /* a stop token: its text stays out, its id does not */
    const int32_t stop_id = whole.ids[3];
    q = ask(&p, NULL, 40);
    q.stop_token_ids = &stop_id;
    q.n_stop_token_ids = 1;
    collect(submit(e, &q), &cut);
    ck_assert_int_eq(cut.finish, FINISH_STOP);
    ck_assert_int_eq(cut.stop_token, stop_id);
    ck_assert_int_eq(cut.ids[cut.n - 1], stop_id);
    ck_assert(!strncmp(cut.text, whole.text, cut.len) && cut.len < whole.len);
    /* echo: the prompt's text first */
    q = ask(&p, NULL, 40);
    q.echo = true;
    collect(submit(e, &q), &cut);
    ck_assert(!strncmp(cut.text, "What is a", 9));
    ck_assert_str_eq(cut.text + 9, whole.text);
}
END_TEST

START_TEST(seeds_and_choices)
{
    const struct prompt p = text_prompt("And it came to pass");
    struct generate_request q = ask(&p, NULL, 12);
    q.temperature = 1;
    q.has_seed = true;
    q.seed = 5;
    q.n = 4;
    int32_t ids[2][4][12];
    for (int round = 0; round < 2; round++) {
        struct ticket *t = submit(e, &q);
        ticket_join(t);
        int n[4] = {0};
        for (struct piece v; ticket_read(t, &v);)
            for (size_t i = 0; i < v.n_tokens; i++)
                ids[round][v.choice][n[v.choice]++] = v.tokens[i].id;
        for (int c = 0; c < 4; c++)
            ck_assert_int_eq(n[c], 12);
        ticket_free(t);
    }
    ck_assert_mem_eq(ids[0], ids[1], sizeof ids[0]);
    ck_assert(memcmp(ids[0][0], ids[0][1], sizeof ids[0][0]));
}
END_TEST

/* Of a submit and, when it was taken, of the work. */
static enum status outcome(enum status submitted, struct ticket **t)
{
    if (submitted != ST_OK)
        return submitted;
    ticket_join(*t);
    enum status st = ticket_status(*t, NULL);
    ticket_free(*t);
    return st;
}

static enum status try_generate(const struct generate_request *q)
{
    struct ticket *t = NULL;
    return outcome(engine_generate(e, q, &t, NULL), &t);
}

START_TEST(bad_requests)
{
    const struct prompt p = text_prompt("x");
    const char *none = "nobody";
    struct generate_request q = ask(&p, &none, 4);
    ck_assert_int_eq(try_generate(&q), ST_ADAPTER_NOT_FOUND);
    none = "../austen";
    ck_assert_int_eq(try_generate(&q), ST_ADAPTER_NOT_FOUND);
    q = ask(&p, NULL, 4);
    q.temperature = -1;
    ck_assert_int_eq(try_generate(&q), ST_INVALID_VALUE);
    static struct prompt many[CHOICES_MAX];
    for (size_t i = 0; i < CHOICES_MAX; i++)
        many[i] = p;
    q = ask(many, NULL, 4);
    q.n_prompts = CHOICES_MAX;
    q.n = 2;
    ck_assert_int_eq(try_generate(&q), ST_INVALID_VALUE);
    q = ask(&p, NULL, 4);
    q.n = 17;
    ck_assert_int_eq(try_generate(&q), ST_INVALID_VALUE);
    const int32_t ids[] = {1, 4096};
    const struct prompt bad = {.ids = ids, .n_ids = 2};
    q = ask(&bad, NULL, 4);
    ck_assert_int_eq(try_generate(&q), ST_INVALID_VALUE);
    static char text[20000];
    memset(text, 'z', sizeof text - 1);
    const struct prompt longer = text_prompt(text);
    q = ask(&longer, NULL, 4);
    ck_assert_int_eq(try_generate(&q), ST_CONTEXT_LENGTH_EXCEEDED);
    const struct prompt broken = text_prompt("\xff\xfe");
    q = ask(&broken, NULL, 4);
    ck_assert_int_eq(try_generate(&q), ST_INVALID_VALUE);
    const struct prompt empty = text_prompt("");
    q = ask(&empty, NULL, 4); /* the base has a first token of its own */
    ck_assert_int_eq(try_generate(&q), ST_OK);
}
END_TEST

START_TEST(queue_limits_and_cancels)
{
    engine_free(e);
    struct engine_options o = options();
    o.max_queue = 3;
    o.max_sequences = 1;
    e = open_engine(&o);
    const struct prompt p = text_prompt("And it came to pass");
    const struct generate_request q = ask(&p, NULL, 900);
    struct ticket *t[50];
    int n = 0;
    enum status st = ST_OK;
    while (n < 50 && (st = engine_generate(e, &q, &t[n], NULL)) == ST_OK)
        n++;
    ck_assert_int_eq(st, ST_OVERLOADED);
    ck_assert_int_ge(n, 3);
    struct engine_stats s;
    engine_stats(e, &s);
    ck_assert_int_eq(s.running + s.waiting, n);
    for (int i = 0; i < n; i++)
        ticket_cancel(t[i]);
    for (int i = 0; i < n; i++) {
        ticket_join(t[i]);
        ck_assert_int_eq(ticket_status(t[i], NULL), ST_CANCELLED);
        ticket_free(t[i]);
    }
    const struct generate_request again = ask(&p, NULL, 3);
    ck_assert_int_eq(try_generate(&again), ST_OK);
    /* what nobody cancels, the drain does */
    ck_assert_int_eq(engine_generate(e, &q, &t[0], NULL), ST_OK);
    engine_drain(e, 10);
    ck_assert_int_eq(ticket_status(t[0], NULL), ST_CANCELLED);
    ck_assert_int_eq(engine_generate(e, &q, &t[1], NULL), ST_DRAINING);
    engine_free(e);
    e = NULL;
    ticket_cancel(t[0]); /* a ticket may outlive the engine */
    ticket_free(t[0]);
}
END_TEST

START_TEST(text_requests)
{
    static const char text[] = "The wife of the captain";
    struct ticket *t = NULL;
    ck_assert_int_eq(engine_tokenize(e, text, strlen(text), true, &t, NULL), ST_OK);
    ticket_join(t);
    size_t n;
    const int32_t *ids = ticket_ids(t, &n);
    static const int32_t want[] = {0, 379, 1251, 274, 263, 2273};
    ck_assert_uint_eq(n, 6);
    ck_assert_mem_eq(ids, want, sizeof want);
    struct ticket *u = NULL;
    ck_assert_int_eq(engine_detokenize(e, ids, n, true, &u, NULL), ST_OK);
    ticket_join(u);
    ck_assert_str_eq(ticket_text(u, &n), text);
    ticket_free(t);
    ticket_free(u);
}
END_TEST

/* A module alone: its rows, whatever their number, are those of one at a time. */
START_TEST(modules)
{
    enum { ROWS = 300, K = 256 };
    static float x[ROWS * K];
    for (int i = 0; i < ROWS * K; i++)
        x[i] = (float)((i * 37) % 101 - 50) / 50;
    const char *adapter = "jargon";
    struct module_request q = {.module = "model.layers.1.self_attn.q_proj",
                               .adapters = {&adapter, 1},
                               .x = x,
                               .rows = ROWS,
                               .width = K,
                               .compute = -1};
    struct ticket *t = NULL, *u = NULL;
    ck_assert_int_eq(engine_module(e, &q, &t, NULL), ST_OK);
    q.x = x + 299 * K;
    q.rows = 1;
    ck_assert_int_eq(engine_module(e, &q, &u, NULL), ST_OK);
    ticket_join(t);
    ticket_join(u);
    int32_t rows;
    int64_t n;
    const float *all = ticket_module(t, &rows, &n);
    ck_assert_int_eq(rows, ROWS);
    ck_assert_int_eq(n, 256);
    const float *one = ticket_module(u, &rows, &n);
    ck_assert_mem_eq(all + 299 * n, one, (size_t)n * sizeof *one);
    ticket_free(t);
    ticket_free(u);
    q.width = 255;
    ck_assert_int_eq(engine_module(e, &q, &t, NULL), ST_INVALID_VALUE);
    q.module = "model.nowhere";
    ck_assert_int_eq(engine_module(e, &q, &t, NULL), ST_MODULE_NOT_FOUND);
    const int32_t ids[] = {0, 4095};
    q = (struct module_request){
        .module = "model.embed_tokens", .ids = ids, .rows = 2, .compute = -1};
    ck_assert_int_eq(engine_module(e, &q, &t, NULL), ST_OK);
    ticket_join(t);
    ck_assert_ptr_nonnull(ticket_module(t, &rows, &n));
    ck_assert(rows == 2 && n == 256);
    ticket_free(t);
}
END_TEST

static enum status load(const char *name, const char *path, enum replace_policy replace)
{
    const struct adapter_request q = {
        .name = name, .path = path, .trusted = true, .replace = replace};
    struct ticket *t = NULL;
    return outcome(engine_adapter_load(e, &q, &t, NULL), &t);
}

static enum status unload(const char *name)
{
    struct ticket *t = NULL;
    return outcome(engine_adapter_unload(e, name, -1, &t, NULL), &t);
}

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

static struct ticket *start_merge(const char *name, enum merge_mode mode)
{
    const struct merge_request q = {
        .adapters = {&name, 1}, .mode = mode, .options = {.safe = true, .max_rel_fro = -1}};
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(engine_merge(e, &q, &t, &err) == ST_OK, "%s", err.text);
    return t;
}

static enum status merge(const char *name, enum merge_mode mode)
{
    struct ticket *t = start_merge(name, mode);
    return outcome(ST_OK, &t);
}

static enum status unmerge(const char *name)
{
    struct ticket *t = NULL;
    return outcome(engine_unmerge(e, name, &t, NULL), &t);
}

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
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 20) {
        struct ticket *t[5] = {0};
        enum status st[5];
        fault_arm(n);
        st[0] = engine_generate(e, &q, &t[0], NULL);
        st[1] = engine_forward(e, &f, &t[1], NULL);
        st[2] = engine_tokenize(e, "The wife", 8, true, &t[2], NULL);
        const struct adapter_request r = {
            .name = "jargon", .path = paths[2], .trusted = true, .replace = REPLACE_ALWAYS};
        st[3] = engine_adapter_load(e, &r, &t[3], NULL);
        st[4] = engine_unmerge(e, "nobody", &t[4], NULL);
        for (int i = 0; i < 5; i++)
            if (st[i] == ST_OK)
                ticket_join(t[i]);
        fired = fault_disarm();
        for (int i = 0; i < 5; i++) {
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

START_TEST(life)
{
    engine_free(e);
    e = NULL;
    engine_free(NULL);
    struct engine_options o = options();
    struct error err = ERROR_INIT;
    ck_assert_int_eq(engine_new(&o, &e, NULL), ST_OK);
    ck_assert_int_eq(engine_state(e, NULL), ENGINE_LOADING);
    ck_assert_int_eq(engine_check(e, NULL), ST_NOT_READY);
    engine_free(e);
    o.model_dir = "demo/adapters";
    ck_assert_int_eq(engine_new(&o, &e, NULL), ST_OK);
    ck_assert_int_ne(engine_load(e, NULL, NULL, &err), ST_OK);
    ck_assert(err.text[0]);
    error_clear(&err);
    ck_assert_int_eq(engine_state(e, NULL), ENGINE_FAILED);
    engine_free(e);
    o = options();
    o.kv_memory = 100;
    ck_assert_int_eq(engine_new(&o, &e, NULL), ST_OK);
    ck_assert_int_eq(engine_load(e, NULL, NULL, NULL), ST_CAPACITY_EXCEEDED);
    engine_free(e);
    o.kv_memory = 0;
    e = open_engine(&o);
    ck_assert_uint_gt(engine_options(e)->kv_memory, 0);
    ck_assert_str_eq(engine_name(e), "base");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine");
    TCase *c = tcase_create("engine");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, greedy_texts_all_at_once);
    tcase_add_test(c, nothing_else_shows);
    tcase_add_test(c, forward_gives_the_logits);
    tcase_add_test(c, stop_strings_and_streams);
    tcase_add_test(c, seeds_and_choices);
    tcase_add_test(c, bad_requests);
    tcase_add_test(c, queue_limits_and_cancels);
    tcase_add_test(c, text_requests);
    tcase_add_test(c, modules);
    tcase_add_test(c, adapters_come_and_go);
    tcase_add_test(c, adapters_on_demand_and_strengths);
    tcase_add_test(c, merged_beside_the_base);
    tcase_add_test(c, merged_in_place);
    tcase_add_test(c, exports);
    tcase_add_test(c, allocations_fail_while_serving);
    tcase_add_test(c, allocations_fail_while_loading);
    tcase_add_test(c, life);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
