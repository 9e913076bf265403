/* The whole pass against float32 PyTorch's logits, and the promise that batching is invisible. */
#include "backends/kernels/cpu.h"
#include "tests/core/model/fixture.h"
#include "tests/faults/fault.h"

static const char *const names[] = {
    "families/llama",     "families/mistral",        "families/qwen2",     "fixtures/plain-bf16",
    "fixtures/plain-f16", "families/qwen3",          "families/gemma2",    "families/gemma3",
    "families/phi3",      "families/gpt_neox",       "families/falcon",    "families/opt",
    "families/gpt2",      "families/mixtral",        "families/qwen3_moe", "fixtures/bnb4-gpt_neox",
    "fixtures/bnb4-phi3", "fixtures/gptq4-gpt_neox", "fixtures/gptq4-phi3"};

#define N_NAMES ((int)(sizeof names / sizeof *names))

static struct kernels *cpu;

/* The best table of this machine, with two threads, in the plain one's place. */
static void use_cpu(void)
{
    struct error err = ERROR_INIT;
    ck_assert_msg(cpu_kernels_open("auto", COMPUTE_EXACT, 2, &cpu, &err) == ST_OK, "%s", err.text);
    fixture_kernels = cpu;
}

static void use_plain(void)
{
    fixture_kernels = &plain_kernels;
    cpu->close(cpu);
}

START_TEST(logits_as_the_reference)
{
    if (!fixture_exists(names[_i]))
        return;
    struct fixture f;
    fixture_open(&f, names[_i]);
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
    for (int32_t s = 0; s < f.rows; s++) {
        fixture_prefill(&f, s, f.len, NULL, 0, got);
        tensor_to_f32(fixture_tensor(&f, "logits.base"), (int64_t)((size_t)s * n), (int64_t)n,
                      want);
        double error = relative(got, want, (int64_t)n);
        ck_assert_msg(error < 2e-5, "%s, row %d: off by %g", names[_i], (int)s, error);
    }
    free(got);
    free(want);
    fixture_close(&f);
}
END_TEST

START_TEST(chunks_do_not_show)
{
    static const int32_t chunks[] = {1, 3, 7, 16};
    struct fixture f;
    if (!fixture_exists(names[_i]))
        return;
    fixture_open(&f, names[_i]);
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *whole = malloc(n * sizeof *whole), *parts = malloc(n * sizeof *parts);
    fixture_prefill(&f, 1, f.len, NULL, 0, whole);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        memset(parts, 0, n * sizeof *parts);
        fixture_prefill(&f, 1, chunks[i], NULL, 0, parts);
        ck_assert_msg(!memcmp(whole, parts, n * sizeof *whole), "%s, chunks of %d", names[_i],
                      (int)chunks[i]);
    }
    free(whole);
    free(parts);
    fixture_close(&f);
}
END_TEST

/* Two sequences, one ahead of the other, mixed prefill and decode rows in every batch. */
START_TEST(neighbours_do_not_show)
{
    struct fixture f;
    if (!fixture_exists(names[_i]))
        return;
    fixture_open(&f, names[_i]);
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *alone[2], *mixed[2];
    for (int32_t s = 0; s < 2; s++) {
        alone[s] = malloc(n * sizeof(float));
        mixed[s] = calloc(n, sizeof(float));
        fixture_prefill(&f, s, f.len, NULL, 0, alone[s]);
    }
    int32_t at[2] = {0, 0};
    for (int32_t step = 0; at[0] < f.len || at[1] < f.len; step++) {
        struct rows b;
        rows_start(&b, &f);
        for (int32_t s = 0; s < 2; s++) {
            int32_t k = s == 0 ? 1 + step % 4 : 2 + 3 * (step % 2);
            k = f.len - at[s] < k ? f.len - at[s] : k;
            if (k > 0)
                rows_add(&b, &f, s, at[s], k, NULL, 0, mixed[s]);
            at[s] += k;
        }
        rows_run(&b, &f);
    }
    for (int32_t s = 0; s < 2; s++) {
        ck_assert(!memcmp(alone[s], mixed[s], n * sizeof(float)));
        free(alone[s]);
        free(mixed[s]);
    }
    fixture_close(&f);
}
END_TEST

/* Logits of some rows only, out of order in memory, and hidden states: the head's other ways. */
START_TEST(wanted_rows_only)
{
    struct fixture f;
    fixture_open(&f, "families/llama");
    int64_t vocab = f.m->vocab, hidden = f.m->hidden;
    size_t n = (size_t)f.len * (size_t)vocab;
    float *all = malloc(n * sizeof *all), *some = calloc(n, sizeof *some);
    float *states = calloc((size_t)(f.len * hidden), sizeof *states), *out = malloc(n);
    fixture_prefill(&f, 0, f.len, NULL, 0, all);
    struct rows b;
    rows_start(&b, &f);
    rows_add(&b, &f, 0, 0, f.len, NULL, 0, some);
    int32_t kept = 0;
    for (int32_t i = 0; i < f.len; i++) {
        struct row_output o = {.row = i};
        if (i % 2)
            o.hidden = states + i * hidden;
        if (i % 3 == 0)
            o.logits = some + (f.len - 1 - i) * vocab;
        if (o.hidden || o.logits)
            b.outputs[kept++] = o;
    }
    b.batch.n_outputs = kept;
    rows_run(&b, &f);
    for (int32_t i = 0; i < f.len; i++) {
        if (i % 3 == 0)
            ck_assert(!memcmp(some + (f.len - 1 - i) * vocab, all + i * vocab,
                              (size_t)vocab * sizeof *all));
        if (i % 2 == 0)
            continue;
        // logits = head(hidden)
        model_module_forward(f.m, f.m->config->head, f.m->base, fixture_kernels, NULL, 0, 1,
                             states + i * hidden, NULL, out, f.scratch);
        ck_assert(!memcmp(out, all + i * vocab, (size_t)vocab * sizeof *all));
    }
    free(all);
    free(some);
    free(states);
    free(out);
    fixture_close(&f);
}
END_TEST

/* A pass takes no memory. */
START_TEST(no_allocation)
{
    struct fixture f;
    struct rows b;
    fixture_open(&f, "families/llama");
    float *logits = malloc((size_t)f.len * (size_t)f.m->vocab * sizeof *logits);
    rows_start(&b, &f);
    rows_add(&b, &f, 0, 0, 5, NULL, 0, logits);
    fault_arm(1);
    rows_run(&b, &f);
    ck_assert(!fault_disarm());
    free(logits);
    fixture_close(&f);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, logits_as_the_reference, 0, N_NAMES);
    tcase_add_loop_test(t, chunks_do_not_show, 0, N_NAMES);
    tcase_add_loop_test(t, neighbours_do_not_show, 0, N_NAMES);
    tcase_add_test(t, wanted_rows_only);
    tcase_add_test(t, no_allocation);
    tcase_set_timeout(t, 60);
}

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/decoder");
    TCase *plain = tcase_create("plain kernels"), *fast = tcase_create("cpu kernels");
    add_tests(plain);
    add_tests(fast);
    tcase_add_checked_fixture(fast, use_cpu, use_plain);
    suite_add_tcase(s, plain);
    suite_add_tcase(s, fast);
    return s;
}

CHECK_MAIN(suite)
