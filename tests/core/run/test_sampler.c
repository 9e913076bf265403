#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/run/sampler.h"
#include "tests/core/model/plain_kernels.h"

#define V 12

static struct sampler *sampler;

static void setup(void)
{
    ck_assert_int_eq(sampler_open(&plain_kernels, V, &sampler, NULL), ST_OK);
}

static void teardown(void)
{
    sampler_close(sampler);
}

static struct sampling plain(float temperature)
{
    return (struct sampling){
        .temperature = temperature, .top_p = 1, .repetition = 1, .logprobs = -1, .seed = 7};
}

static int32_t pick(const struct sampling *p, const int32_t *tokens, int32_t prompt, int32_t len,
                    const float *x)
{
    return sampler_pick(sampler, p, &(struct history){tokens, prompt, len, 0, NULL}, x);
}

/* The known answers that come with Random123 (kat_vectors, philox4x32 10). */
START_TEST(philox_known_answers)
{
    static const struct {
        uint32_t c[4], k[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        sampler_philox(kat[i].c, kat[i].k, out);
        ck_assert_mem_eq(out, kat[i].out, sizeof out);
    }
}
END_TEST

START_TEST(uniform_is_uniform_and_keyed)
{
    int bins[10] = {0};
    for (int i = 0; i < 10000; i++) {
        double u = sampler_uniform(42, i % 3, i);
        ck_assert(u >= 0 && u < 1);
        bins[(int)(u * 10)]++;
    }
    for (int i = 0; i < 10; i++)
        ck_assert_int_le(abs(bins[i] - 1000), 150); /* five sigma */
    ck_assert(sampler_uniform(1, 0, 0) != sampler_uniform(2, 0, 0));
    ck_assert(sampler_uniform(1, 0, 0) != sampler_uniform(1, 1, 0));
    ck_assert(sampler_uniform(1, 0, 0) != sampler_uniform(1, 0, 1));
}
END_TEST

START_TEST(greedy_takes_the_lowest_id_on_ties)
{
    const float x[V] = {0, 1, 3, 3, 2, 3};
    struct sampling p = plain(0);
    ck_assert_int_eq(pick(&p, NULL, 0, 0, x), 2);
}
END_TEST

/* Penalties by hand: x/r or x*r for everything seen, then f * count + p for the output. */
START_TEST(penalties)
{
    const float x[V] = {4.0f, 3.9f, 3.8f, -1};
    const int32_t said[] = {0, 1, 1, 1};
    struct sampling p = plain(0);
    p.repetition = 2; /* 2.0, 1.95, 3.8 */
    ck_assert_int_eq(pick(&p, said, 2, 4, x), 2);
    p = plain(0);
    p.frequency = 0.06f; /* 4.0 (prompt only), 3.9 - 0.12, 3.8 */
    ck_assert_int_eq(pick(&p, said, 2, 4, x), 0);
    p.presence = 0.5f;
    ck_assert_int_eq(pick(&p, said, 0, 4, x), 2); /* 4 - .56, 3.9 - .68, 3.8 */
    /* nothing is left behind: the same again */
    ck_assert_int_eq(pick(&p, said, 0, 4, x), 2);
    p = plain(0);
    ck_assert_int_eq(pick(&p, said, 0, 4, x), 0);
    /* a negative logit becomes smaller, not larger */
    const float below[V] = {-2, -1.5f, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9};
    const int32_t one[] = {1};
    p.repetition = 1.5f; /* -2 against -2.25 */
    ck_assert_int_eq(pick(&p, one, 1, 1, below), 0);
}
END_TEST

START_TEST(bias_and_min_tokens)
{
    const float x[V] = {5, 4, 3};
    const struct logit_bias bias[] = {{2, 2.5f}};
    const int32_t stops[] = {0, 2};
    struct sampling p = plain(0);
    p.bias = bias;
    p.n_bias = 1;
    ck_assert_int_eq(pick(&p, NULL, 0, 0, x), 2);
    p.stops = stops;
    p.n_stops = 2;
    p.min_tokens = 2;
    const int32_t said[] = {1, 1, 1};
    ck_assert_int_eq(pick(&p, said, 1, 2, x), 1); /* one is out: end tokens are forbidden */
    ck_assert_int_eq(pick(&p, said, 1, 3, x), 2);
    ck_assert(sampler_is_stop(&p, 2));
    ck_assert(!sampler_is_stop(&p, 1));
}
END_TEST

static void frequencies(const struct sampling *p, const float *x, double out[V])
{
    enum { N = 20000 };
    memset(out, 0, V * sizeof *out);
    for (int32_t i = 0; i < N; i++) {
        const struct history h = {.choice = i};
        out[sampler_pick(sampler, p, &h, x)] += 1.0 / N;
    }
}

/* Drawn frequencies against probabilities computed here in double, in id order and unsorted. */
START_TEST(draws_follow_the_distribution)
{
    const float x[V] = {0.5f, 2, -1, 1.5f, 0, 0.25f, -3, 1, 0.75f, -0.5f, 2, 1.25f};
    struct sampling p = plain(0.7f);
    double want[V], sum = 0, got[V];
    for (int i = 0; i < V; i++)
        sum += want[i] = exp(x[i] / 0.7);
    frequencies(&p, x, got);
    for (int i = 0; i < V; i++)
        ck_assert_double_le(fabs(got[i] - want[i] / sum), 0.02);
}
END_TEST

START_TEST(filters_keep_the_right_set)
{
    /* probabilities 0.4 0.3 0.2 0.1 in a shuffled order, the rest next to nothing */
    float x[V];
    for (int i = 0; i < V; i++)
        x[i] = -50;
    x[7] = logf(0.4f), x[2] = logf(0.3f), x[9] = logf(0.2f), x[0] = logf(0.1f);
    double got[V];
    struct sampling p = plain(1);
    p.top_k = 2;
    frequencies(&p, x, got);
    ck_assert_double_le(fabs(got[7] - 4.0 / 7), 0.02);
    ck_assert_double_le(fabs(got[2] - 3.0 / 7), 0.02);
    p = plain(1);
    p.top_p = 0.71f; /* 0.4 + 0.3 < 0.71: the third crosses it and stays */
    frequencies(&p, x, got);
    ck_assert_double_le(fabs(got[9] - 2.0 / 9), 0.02);
    ck_assert(got[0] == 0);
    p.top_k = 3; /* of what top_k left: 4/9 + 3/9 = 0.778 >= 0.71, so two */
    frequencies(&p, x, got);
    ck_assert(got[9] == 0 && got[2] > 0);
    p = plain(1);
    p.min_p = 0.6f; /* 0.3 / 0.4 stays, 0.2 / 0.4 goes */
    frequencies(&p, x, got);
    ck_assert(got[2] > 0 && got[9] == 0);
    p = plain(1);
    p.top_p = 0; /* at least one token stays */
    frequencies(&p, x, got);
    ck_assert(got[7] > 0.999);
}
END_TEST

#define MANY 3001

struct drawn {
    double x;
    int32_t id;
};

static int in_order(const void *a, const void *b)
{
    const struct drawn *l = a, *r = b;
    return l->x != r->x ? (l->x < r->x ? 1 : -1) : l->id - r->id;
}

/* The definition, in double: whether `id` is what u draws from x, up to rounding. */
static bool is_drawn(const struct sampling *p, const float *x, double u, int32_t id)
{
    static struct drawn d[MANY];
    double e[MANY], total = 0, sum = 0, acc = 0;
    bool filtered = (p->top_k > 0 && p->top_k < MANY) || p->top_p < 1 || p->min_p > 0;
    int32_t k = p->top_k > 0 && p->top_k < MANY ? p->top_k : MANY, kept = 0, at = 0;
    for (int32_t i = 0; i < MANY; i++)
        d[i] = (struct drawn){(double)x[i], i};
    if (filtered)
        qsort(d, MANY, sizeof *d, in_order);
    double max = -INFINITY;
    for (int32_t i = 0; i < MANY; i++)
        max = fmax(max, d[i].x);
    for (int32_t i = 0; i < k; i++)
        total += e[i] = exp((d[i].x - max) / (double)p->temperature);
    for (; kept < k; kept++) {
        if (filtered && kept &&
            (e[kept] == 0 || e[kept] < (double)p->min_p || sum >= (double)p->top_p * total))
            break;
        sum += e[kept];
    }
    while (at < kept && d[at].id != id)
        acc += e[at++];
    double room = 1e-5 * total; // of a sum in f32, and of one entry more or less in what is kept
    double edge = kept < MANY && filtered ? e[kept - 1] : 0;
    return at < kept && acc <= u * sum + room && acc + e[at] >= u * (sum - edge) - room;
}

/* A vocabulary larger than what the sampler looks at first: flat, steep, cut down to a few. */
START_TEST(draws_are_the_definitions)
{
    static const struct {
        int32_t top_k;
        float top_p, min_p;
    } filters[] = {{0, 1, 0},       {50, 1, 0},    {1, 1, 0},       {40, 0.9f, 0},
                   {700, 0.99f, 0}, {0, 0.9f, 0},  {0, 0, 0},       {0, 0.9999f, 0},
                   {0, 1, 0.05f},   {0, 1, 1e-5f}, {0, 0.5f, 0.2f}, {MANY, 0.95f, 0}};
    static float x[MANY];
    struct sampler *s;
    ck_assert_int_eq(sampler_open(&plain_kernels, MANY, &s, NULL), ST_OK);
    for (int shape = 0; shape < 4; shape++)
        for (size_t f = 0; f < sizeof filters / sizeof *filters; f++)
            for (int32_t choice = 0; choice < 15; choice++) {
                uint64_t *bits = sampler_bits(s);
                memset(bits, shape == 3 ? 0 : 0xff, (MANY + 63) / 64 * sizeof *bits);
                for (int32_t i = 0; i < MANY; i++) {
                    double u = sampler_uniform(99, choice, i);
                    x[i] = (float)(shape == 1 ? -3 * log(1 - u) : 2 * u); // steep, flat
                    if (shape == 2)
                        x[i] = (float)(i % 7); // many equals
                }
                if (shape == 3)
                    for (int32_t i = 0; i < MANY; i += 501)
                        bits[i / 64] |= 1ull << i % 64;
                const struct sampling p = {.temperature = 0.8f,
                                           .top_k = filters[f].top_k,
                                           .top_p = filters[f].top_p,
                                           .min_p = filters[f].min_p,
                                           .repetition = 1,
                                           .seed = 5};
                const struct history h = {.choice = choice, .allowed = bits};
                int32_t id = sampler_pick(s, &p, &h, x);
                for (int32_t i = 0; shape == 3 && i < MANY; i++)
                    x[i] = i % 501 ? -INFINITY : x[i];
                ck_assert_msg(is_drawn(&p, x, sampler_uniform(5, choice, 0), id),
                              "shape %d, filter %zu, choice %d: %d", shape, f, choice, id);
            }
    sampler_close(s);
}
END_TEST

/* Cutting at k among equals keeps the lowest ids, as an order by (logit, id) says. */
START_TEST(ties_at_the_cut_are_by_id)
{
    float x[V] = {0};
    struct sampling p = plain(1);
    double got[V];
    p.top_k = 3;
    frequencies(&p, x, got);
    ck_assert(got[0] > 0.3 && got[1] > 0.3 && got[2] > 0.3);
}
END_TEST

START_TEST(logprobs)
{
    const float x[V] = {1, 3, 2, 3};
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += exp(x[i]);
    double log_sum = sampler_log_sum(&plain_kernels, x, V);
    ck_assert_double_le(fabs(log_sum - log(sum)), 1e-6);
    struct token_logprob top[V + 3];
    ck_assert_int_eq(sampler_top(x, V, log_sum, 3, top), 3);
    ck_assert_int_eq(top[0].id, 1);
    ck_assert_int_eq(top[1].id, 3);
    ck_assert_int_eq(top[2].id, 2);
    ck_assert_double_le(fabs(top[2].logprob - (2 - log(sum))), 1e-6);
    ck_assert_int_eq(sampler_top(x, V, log_sum, V + 3, top), V);
    float y[V];
    memcpy(y, x, sizeof y);
    sampler_log_softmax(&plain_kernels, y, V);
    ck_assert(y[2] == top[2].logprob);
}
END_TEST

/* Sums of any length against the definition in double; the most likely against all that were
 * sorted. */
START_TEST(logprobs_of_many)
{
    static const int32_t lengths[] = {1, 255, 256, 257, 2048, 2049, MANY};
    float x[MANY];
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        int32_t n = lengths[l] < MANY ? lengths[l] : MANY;
        double sum = 0, most = -INFINITY;
        for (int32_t i = 0; i < n; i++) { // few values, so that some are as likely as others
            x[i] = (float)floor(64 * sampler_uniform(5, n, i)) / 2 - 40;
            most = fmax(most, (double)x[i]);
        }
        for (int32_t i = 0; i < n; i++)
            sum += exp((double)x[i] - most);
        double log_sum = sampler_log_sum(&plain_kernels, x, n);
        ck_assert_double_le(fabs(log_sum - most - log(sum)), 1e-6);
        struct token_logprob top[20];
        int32_t got = sampler_top(x, n, log_sum, 20, top);
        ck_assert_int_eq(got, n < 20 ? n : 20);
        for (int32_t k = 0; k < got; k++) { // as many stand before it as are likelier, or first
            int32_t before = 0;
            for (int32_t i = 0; i < n; i++)
                before += x[i] > x[top[k].id] || (x[i] == x[top[k].id] && i < top[k].id);
            ck_assert_int_eq(before, k);
        }
    }
}
END_TEST

START_TEST(finite_or_not)
{
    float x[19] = {0};
    ck_assert(sampler_finite(x, 19));
    for (int i = 0; i < 19; i++) {
        x[i] = NAN;
        ck_assert(!sampler_finite(x, 19));
        x[i] = -INFINITY;
        ck_assert(!sampler_finite(x, 19));
        x[i] = -3e38f;
        ck_assert(sampler_finite(x, 19));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sampler");
    TCase *c = tcase_create("sampler");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, philox_known_answers);
    tcase_add_test(c, uniform_is_uniform_and_keyed);
    tcase_add_test(c, greedy_takes_the_lowest_id_on_ties);
    tcase_add_test(c, penalties);
    tcase_add_test(c, bias_and_min_tokens);
    tcase_add_test(c, draws_follow_the_distribution);
    tcase_add_test(c, filters_keep_the_right_set);
    tcase_add_test(c, draws_are_the_definitions);
    tcase_add_test(c, ties_at_the_cut_are_by_id);
    tcase_add_test(c, logprobs);
    tcase_add_test(c, logprobs_of_many);
    tcase_add_test(c, finite_or_not);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
