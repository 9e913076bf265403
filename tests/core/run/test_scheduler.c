/* What the scheduler computes, over the network of world.h: generations and raw passes in worlds of
 * every size give the bits of the plain loop. */
#include "tests/core/run/world.h"

#include <math.h>

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
            a[j] = random_ask(mix(i * 100 + 3, (uint64_t)j));
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
            double sum = sampler_log_sum(&plain_kernels, x, VOCAB);
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
                    sampler_log_softmax(&plain_kernels, x, VOCAB);
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

/* Every choice tells the scored prompt, which was read once. */
START_TEST(choices_share_their_scores)
{
    struct world w;
    open_world(&w, roomy);
    const struct ask a = {
        .prompt = 90, .text = 2, .max_tokens = 2, .n = 3, .temperature = 1, .score = 3};
    struct ticket *t = ask(&w, &a);
    run(&w);
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    struct usage u;
    ticket_usage(t, &u);
    ck_assert_int_eq(u.cached_tokens, 2 * 80);
    int32_t tokens[90], told = 0;
    for (int32_t i = 0; i < 90; i++)
        tokens[i] = token_at(&a, i);
    for (struct piece p; ticket_read(t, &p);) {
        if (!p.n_tokens || !p.tokens[0].prompt)
            continue;
        ck_assert_uint_eq(p.n_tokens, 90);
        ck_assert_uint_eq(p.text.len, 0);
        ck_assert_int_eq(p.choice, told++);
        ck_assert(isnan(p.tokens[0].logprob));
        for (int32_t i = 1; i < 90; i++) {
            float x[VOCAB];
            int32_t above = 0;
            logits_of(hash_of(&a, tokens, i, 0), x);
            for (int32_t v = 0; v < VOCAB; v++)
                above += x[v] > x[tokens[i]];
            ck_assert(p.tokens[i].logprob ==
                      sampler_logprob(x[tokens[i]], sampler_log_sum(&plain_kernels, x, VOCAB)));
            ck_assert_int_eq(p.tokens[i].n_top, 2);
            ck_assert_int_eq(p.tokens[i].rank, above + 1);
            ck_assert_int_eq(p.tokens[i].top[0].id == tokens[i], above == 0);
        }
    }
    ck_assert_int_eq(told, 3);
    ticket_free(t);
    close_world(&w);
}
END_TEST

/* A text's embedding where all its positions have a part in it: in no split and after no preemption
 * another number. */
START_TEST(pooling_gathers_every_row)
{
    static const struct sizes all[] = {{256, 64, 32, 16, 0}, {13, 16, 4, 16, 0}, {12, 5, 5, 2, 0}};
    static const enum pooling poolings[] = {POOLING_FIRST, POOLING_MEAN, POOLING_MEAN_SQRT,
                                            POOLING_WEIGHTED, POOLING_MAX};
    struct ask a[6];
    float first[6][HIDDEN];
    for (int i = 0; i < 6; i++)
        a[i] = (struct ask){
            .prompt = 1 + i * 17, .text = (uint32_t)i % 2, .shared = 40, .route = i % 3};
    for (size_t z = 0; z < 3 * 5; z++) {
        enum pooling pooling = poolings[z / 3];
        struct world w;
        open_world(&w, all[z % 3]);
        w.model.pooling = pooling;
        for (int round = 0; round < 2; round++) { /* the second finds its prefixes */
            struct ticket *t = ask_forward(&w, a, 6, OUTPUT_EMBEDDING, ST_OK);
            run(&w);
            size_t n;
            const struct forward_row *rows = ticket_forward(t, &n);
            ck_assert_uint_eq(n, 6);
            for (size_t i = 0; i < n; i++) {
                int32_t tokens[512], len = a[i].prompt;
                double want[HIDDEN] = {0};
                for (int32_t j = 0; j < len; j++)
                    tokens[j] = token_at(&a[i], j);
                for (int32_t j = 0; j < (pooling == POOLING_FIRST ? 1 : len); j++)
                    for (int k = 0; k < HIDDEN; k++) {
                        uint64_t h = hash_of(&a[i], tokens, j + 1, 0);
                        double x = (double)(mix(h, 1000 + (uint64_t)k) >> 40);
                        x *= pooling == POOLING_WEIGHTED ? j + 1 : 1;
                        want[k] = pooling != POOLING_MAX ? want[k] + x : fmax(want[k], x);
                    }
                double weight = pooling == POOLING_MEAN        ? len
                                : pooling == POOLING_MEAN_SQRT ? sqrt(len)
                                : pooling == POOLING_WEIGHTED  ? len * (len + 1) / 2.0
                                                               : 1;
                for (int k = 0; k < HIDDEN; k++)
                    ck_assert_double_eq_tol(rows[i].embedding[k] / (want[k] / weight), 1, 1e-5);
                if (z % 3 == 0 && !round)
                    memcpy(first[i], rows[i].embedding, sizeof first[i]);
                ck_assert_mem_eq(first[i], rows[i].embedding, sizeof first[i]);
            }
            ticket_free(t);
        }
        close_world(&w);
    }
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
    tcase_add_test(c, choices_share_their_scores);
    tcase_add_test(c, pooling_gathers_every_row);
    tcase_add_test(c, neighbours_are_grouped);
    tcase_add_test(c, non_finite_logits_fail_their_ticket_alone);
    tcase_add_test(c, prompts_that_cannot_fit_are_refused);
    tcase_add_test(c, forward_delivers_every_row);
    tcase_add_test(c, forward_refuses_large_replies);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
