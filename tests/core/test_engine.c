/*
 * Requests through the whole engine over the demo base: its oracle is demo/expected.json (greedy
 * texts of base and adapters, float32 by definition) and demo/expected.safetensors (logits), made
 * by other programs.
 */
#include <math.h>

#include "core/files/safetensors.h"
#include "tests/core/engine_fixture.h"

static json_t *expected(void)
{
    json_error_t why;
    json_t *v = json_load_file("demo/expected.json", 0, &why);
    ck_assert_msg(v != NULL, "%s", why.text);
    return v;
}

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
    o.kv_dtype = DT_F32;
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
/* A conversation is its rendered text, encoded as it stands. */
START_TEST(conversations)
{
    static const char text[] = "<|begin|><|user|>What is a\n";
    static struct answer said, written;
    const struct chat chat = {.variables = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user",
                                                     "content", "What is a")};
    const struct prompt plain = text_prompt(text), two[] = {{.chat = &chat}, {.chat = &chat}};
    struct generate_request a = ask(two, NULL, 6), b = ask(&plain, NULL, 6);
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    size_t len;
    ck_assert_int_eq(engine_render(e, &chat, &t, NULL), ST_OK);
    ticket_join(t);
    const char *prompt = ticket_text(t, &len);
    ck_assert(len == sizeof text - 1 && !memcmp(prompt, text, len));
    ticket_free(t);
    a.add_special = b.add_special = false;
    a.logprobs = b.logprobs = 0;
    collect(submit(e, &a), &said);
    collect(submit(e, &b), &written);
    expect_same(&said, &written);
    a.n_prompts = 2;
    ck_assert_int_eq(engine_generate(e, &a, &t, &err), ST_INVALID_VALUE);
    ck_assert_str_eq(err.param, "messages");
    error_clear(&err);
    json_decref(chat.variables);
}
END_TEST

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
    q.module = NULL;
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

/* Numbers are for a linear module, ids for an embedding: each asked for the other's is an error
 * that names the module. */
START_TEST(modules_know_their_kind)
{
    static const float x[256] = {1};
    static const int32_t ids[] = {0, 4096};
    static const struct {
        const char *module;
        bool numbers, ids;
        int32_t rows;
        const char *says;
    } cases[] = {{"model.layers.0.mlp.up_proj", false, true, 1, "rows of numbers"},
                 {"model.layers.0.mlp.up_proj", true, true, 1, "rows of numbers"},
                 {"model.embed_tokens", true, false, 1, "ids"},
                 {"model.embed_tokens", true, true, 1, "ids"},
                 {"model.embed_tokens", false, false, 1, "ids"},
                 {"model.embed_tokens", false, true, 2, "4096"},
                 {"model.embed_tokens", false, true, 0, "no rows"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct module_request q = {.module = cases[i].module,
                                         .x = cases[i].numbers ? x : NULL,
                                         .ids = cases[i].ids ? ids : NULL,
                                         .rows = cases[i].rows,
                                         .width = 256,
                                         .compute = -1};
        struct ticket *t = NULL;
        struct error err = ERROR_INIT;
        ck_assert_int_eq(engine_module(e, &q, &t, &err), ST_INVALID_VALUE);
        ck_assert_str_eq(err.param, "input");
        ck_assert_msg(strstr(err.text, cases[i].says), "%s", err.text);
        ck_assert(!cases[i].rows || strstr(err.text, cases[i].module));
        error_clear(&err);
    }
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
    tcase_add_test(c, conversations);
    tcase_add_test(c, modules);
    tcase_add_test(c, modules_know_their_kind);
    tcase_add_test(c, life);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
