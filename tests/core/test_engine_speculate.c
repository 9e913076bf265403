/*
 * Guessing ahead shows in nothing but time: requests of every kind (greedy, sampled, several
 * choices, stop strings and tokens, penalties, biases, structured outputs, scored prompts, chains
 * of adapters) give the same pieces with the same bits of every logprob as without, in both modes,
 * alone, after a prefix hit, in a crowd, in small chunks, preempted and resumed, and on families
 * with other mechanisms.
 */
#include <stdio.h>

#include "core/buffer.h"
#include "tests/core/engine_fixture.h"

#define CHOICES 3

/* All that is seen of a request, by choice. */
struct seen {
    struct buffer said[CHOICES];
};

static void put(struct buffer *b, const void *v, size_t n)
{
    buffer_add(b, v, n);
}

static void put_token(struct buffer *b, const struct token_info *v)
{
    put(b, &v->id, sizeof v->id);
    put(b, &v->prompt, sizeof v->prompt);
    put(b, &v->logprob, sizeof v->logprob);
    put(b, &v->rank, sizeof v->rank);
    put(b, &v->text_offset, sizeof v->text_offset);
    put(b, v->piece, v->piece_len);
    for (int32_t i = 0; i < v->n_top; i++) {
        put(b, &v->top[i].id, sizeof v->top[i].id);
        put(b, &v->top[i].logprob, sizeof v->top[i].logprob);
        put(b, v->top[i].piece, v->top[i].piece_len);
    }
}

static void read_seen(struct ticket *t, struct seen *s)
{
    struct error err = ERROR_INIT;
    struct piece p;
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    *s = (struct seen){0};
    while (ticket_read(t, &p)) {
        struct buffer *b = &s->said[p.choice];
        put(b, p.text.v, p.text.len);
        for (size_t i = 0; i < p.n_tokens; i++)
            put_token(b, &p.tokens[i]);
        put(b, &p.finish, sizeof p.finish);
        put(b, &p.stop_token, sizeof p.stop_token);
    }
    ticket_free(t);
}

/* Compares with what was said before (empty: nothing yet, so it is kept). */
static void expect_seen(struct seen *want, struct seen *got, int request, const char *when)
{
    for (int c = 0; c < CHOICES; c++) {
        struct buffer *w = &want->said[c], *g = &got->said[c];
        ck_assert(!w->failed && !g->failed);
        if (!w->len) {
            *w = *g;
            continue;
        }
        ck_assert_msg(w->len == g->len && !memcmp(w->v, g->v, w->len),
                      "request %d, choice %d, %s: other pieces", request, c, when);
        buffer_free(g);
    }
}

/* ---- the demo ---- */

enum { N = 12 };

static const char *const chain[] = {"austen", "devil"};
static const struct text ends[] = {{" the", 4}, {"and a", 5}};
static const int32_t end_tokens[] = {17, 33, 80};
static const struct logit_bias biases[] = {{40, 3}, {50, 4}, {60, -5}};
static struct prompt prompts[3];

static void fill(struct generate_request q[N], enum compute mode)
{
    static const char person[] =
        "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"enum\":"
        "[\"Ahab\",\"Starbuck\"]},\"age\":{\"type\":\"integer\",\"maximum\":99}},\"required\":["
        "\"name\",\"age\"]},\"minItems\":4,\"maxItems\":6}";
    static const char words[] = "(sea|ship|whale|the sea )( and (sea|ship|whale|the sea )){20,}";
    prompts[0] = text_prompt("The ship was at sea. The ship was at sea. The ship was");
    prompts[1] = text_prompt("What is a");
    prompts[2] = text_prompt("He looked at him, and said, that he looked at him, and said");
    for (int i = 0; i < N; i++) {
        q[i] = ask(&prompts[i % 3], i % 4 ? &names[i % 4] : NULL, 60);
        q[i].logprobs = i % 2 ? 5 : 0;
        q[i].has_seed = true;
        q[i].seed = (uint64_t)i;
        q[i].compute = (int)mode;
    }
    q[0].max_tokens = 150;
    q[1].adapters = chain;
    q[1].n_adapters = 2;
    for (int i = 2; i < 5; i++) {
        q[i].temperature = 0.4f;
        q[i].n = CHOICES;
    }
    q[4].top_p = 0.8f;
    q[4].top_k = 10;
    q[5].stop = ends;
    q[5].n_stop = 2;
    q[6].stop_token_ids = end_tokens;
    q[6].n_stop_token_ids = 3;
    q[6].min_tokens = 20;
    q[6].ignore_eos = false;
    q[7].repetition_penalty = 1.1f;
    q[7].frequency_penalty = 0.1f;
    q[7].presence_penalty = 0.2f;
    q[8].logit_bias = biases;
    q[8].n_logit_bias = 3;
    q[8].min_p = 0.02f;
    q[8].temperature = 0.7f;
    q[9].grammar = GRAMMAR_JSON_SCHEMA;
    q[9].grammar_text = (struct text){person, strlen(person)};
    q[9].ignore_eos = false;
    q[9].max_tokens = 200;
    q[10].grammar = GRAMMAR_REGEX;
    q[10].grammar_text = (struct text){words, strlen(words)};
    q[10].temperature = 0.5f;
    q[10].max_tokens = 120;
    q[11].echo = q[11].score_prompt = true;
    q[11].prompt_logprobs = 2;
}

static void run_all(struct seen want[N], enum compute mode, bool at_once, const char *when)
{
    struct generate_request q[N];
    struct ticket *t[N];
    struct seen got;
    fill(q, mode);
    for (int i = 0; i < N && at_once; i++)
        t[i] = submit(e, &q[i]);
    for (int i = 0; i < N; i++) {
        read_seen(at_once ? t[i] : submit(e, &q[i]), &got);
        expect_seen(&want[i], &got, i, when);
    }
}

static struct engine_stats stats(void)
{
    struct engine_stats s;
    engine_stats(e, &s);
    return s;
}

static void reopen(const struct engine_options *o)
{
    engine_free(e);
    e = open_engine(o);
}

static void forget(struct seen *s, int n)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < CHOICES; c++)
            buffer_free(&s[i].said[c]);
}

START_TEST(it_shows_in_nothing)
{
    static struct seen want[N];
    enum compute mode = _i ? COMPUTE_FAST : COMPUTE_EXACT;
    struct engine_options o = options();
    memset(want, 0, sizeof want);
    run_all(want, mode, false, "without");
    ck_assert_uint_eq(stats().draft_tokens, 0);
    uint64_t steps = stats().steps, tokens = stats().generated_tokens;
    uint64_t page = stats().kv_page_bytes;
    o.speculate = true;
    reopen(&o);
    run_all(want, mode, false, "alone");
    struct engine_stats s = stats();
    ck_assert_uint_eq(s.generated_tokens, tokens);
    ck_assert_uint_gt(s.accepted_tokens, tokens / 8);
    ck_assert_uint_lt(s.steps + s.accepted_tokens / 2, steps);
    run_all(want, mode, false, "after a prefix hit");
    run_all(want, mode, true, "in a crowd");
    o.kv_memory = (mode == COMPUTE_EXACT ? 36 : 18) * page; // frames: a page of floats takes two
    o.prefill_chunk = 5;
    o.max_rows = 16;
    o.max_sequences = 6;
    reopen(&o);
    run_all(want, mode, true, "preempted and resumed");
    s = stats();
    ck_assert(s.preemptions > 0 && s.accepted_tokens > 0);
    forget(want, N);
}
END_TEST

/* ---- families with other mechanisms ---- */

static const struct base {
    const char *folder;
    int32_t prompt, generated;
} bases[] = {{"families/gemma2", 44, 40},
             {"families/mistral", 44, 60},
             {"families/falcon", 44, 40},
             {"families/mixtral", 44, 40},
             {"families/gpt2", 44, 20},
             {"families/gpt_neox", 44, 20},
             {"families/phi3-longrope", 20, 20},

             {"fixtures/gptq4-g32-actorder", 90, 60}};
#define N_BASES (int)(sizeof bases / sizeof *bases)

START_TEST(on_other_families)
{
    const struct base *base = &bases[_i];
    static struct seen want[3];
    char dir[256];
    int32_t ids[96];
    snprintf(dir, sizeof dir, "%s/%s", test_vectors(), base->folder);
    struct engine_options o = options();
    o.model_dir = dir;
    o.n_adapters = 0;
    memset(want, 0, sizeof want);
    for (int32_t i = 0; i < base->prompt; i++)
        ids[i] = 5 + i * i % 7;
    for (int round = 0; round < 3; round++) {
        o.speculate = round > 0;
        if (round < 2)
            reopen(&o);
        for (int i = 0; i < 3; i++) {
            struct seen got;
            const struct prompt p = {.ids = ids, .n_ids = (size_t)(base->prompt - i)};
            struct generate_request q = ask(&p, NULL, base->generated);
            /* so few tokens that they come again and again */
            const struct logit_bias few[] = {{5, 60}, {6, 60}, {7, 60}};
            q.logit_bias = few;
            q.n_logit_bias = 3;
            q.logprobs = 3;
            q.temperature = i ? 0.2f : 0;
            q.has_seed = true;
            read_seen(submit(e, &q), &got);
            expect_seen(&want[i], &got, i, base->folder);
        }
    }
    ck_assert_msg(stats().accepted_tokens > 10, "%s: %d of %d guesses", base->folder,
                  (int)stats().accepted_tokens, (int)stats().draft_tokens);
    forget(want, 3);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_speculate");
    TCase *c = tcase_create("engine_speculate");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, it_shows_in_nothing, 0, 2);
    tcase_add_loop_test(c, on_other_families, 0, N_BASES);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
