/*
 * One round of a case: every sequence is a request of its own, as clients send them; this thread
 * sleeps on one bell that all tickets ring, reads what is there and notes when. A token's time is
 * that of its arrival here, so what is measured is what a client of the process sees.
 *
 *      sequence 0   prompt |1  2  3  4  5  6  7  8|
 *      sequence 1     prompt    |1  2  3  4  5  6  7  8|
 *                               [--- all run -------]           the step is taken from here
 *
 * Prompts are random ids, other ones each round, so that no prefix is found again.
 */
#include "server/bench_run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of an activation: tokens before the load is submitted and after it has ended; and at most. */
#define TOKENS_BEFORE 16
#define TOKENS_AFTER  4
#define TOKENS_MOST   65536

struct run {
    struct ticket *ticket;
    double *times; /* [cap] when each token came */
    size_t n, cap;
    bool ended;
};

struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t rings, seen;
    struct run *runs; /* [n] */
    size_t n;
};

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the crowd ---- */

static enum status crowd_open(struct crowd *c, size_t n, size_t tokens, struct error *err)
{
    *c = (struct crowd){.lock = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER};
    c->runs = calloc(n, sizeof *c->runs);
    if (!c->runs)
        return error_memory(err, "a round of the bench");
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        c->runs[i].cap = tokens;
        c->runs[i].times = calloc(tokens, sizeof *c->runs[i].times);
        if (!c->runs[i].times)
            return error_memory(err, "a round of the bench");
    }
    return ST_OK;
}

static void crowd_close(struct crowd *c)
{
    for (size_t i = 0; i < c->n; i++) {
        ticket_free(c->runs[i].ticket);
        free(c->runs[i].times);
    }
    free(c->runs);
}

static void ring(void *arg)
{
    struct crowd *c = arg;
    pthread_mutex_lock(&c->lock);
    c->rings++;
    pthread_cond_signal(&c->rung);
    pthread_mutex_unlock(&c->lock);
}

/* Reads what is there; true: the bell is armed, or the sequence is over. */
static bool drain(struct crowd *c, struct run *run)
{
    struct piece piece;
    double t = bench_now();
    run->ended = ticket_ended(run->ticket); /* asked first: what came before is read below */
    while (ticket_read(run->ticket, &piece)) {
        // a character that several tokens make comes in one piece: its wait is shared among them
        double from = run->n ? run->times[run->n - 1] : t;
        for (size_t k = 1; k <= piece.n_tokens && run->n < run->cap; k++)
            run->times[run->n++] = from + (t - from) * (double)k / (double)piece.n_tokens;
    }
    return run->ended || ticket_wait(run->ticket, TICKET_EVENT, ring, c);
}

/* Reads of all; false when none runs any more. */
static bool look(struct crowd *c)
{
    bool running = false;
    for (size_t i = 0; i < c->n; i++) {
        while (!c->runs[i].ended && !drain(c, &c->runs[i]))
            ;
        running |= !c->runs[i].ended;
    }
    return running;
}

static void rest(struct crowd *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->rings == c->seen)
        pthread_cond_wait(&c->rung, &c->lock);
    c->seen = c->rings;
    pthread_mutex_unlock(&c->lock);
}

static enum status submit(struct bench_host *host, const struct bench_case *c, size_t i,
                          struct run *run, struct error *err)
{
    int32_t *ids = malloc((size_t)c->prompt * sizeof *ids);
    if (!ids)
        return error_memory(err, "making a prompt");
    uint64_t vocab = (uint64_t)engine_model(host->engine)->vocab;
    for (int32_t k = 0; k < c->prompt; k++) {
        host->random = host->random * 6364136223846793005u + 1442695040888963407u;
        ids[k] = (int32_t)((host->random >> 33) % (vocab ? vocab : 1));
    }
    const struct prompt prompt = {.ids = ids, .n_ids = (size_t)c->prompt};
    const char *name = c->adapters ? host->adapters[i % (size_t)c->adapters] : NULL;
    const struct generate_request r = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .adapters = &name,
                                       .n_adapters = name ? 1 : 0,
                                       .n = 1,
                                       .max_tokens = c->generate,
                                       .min_tokens = UNSET_INT,
                                       .top_k = UNSET_INT,
                                       .logprobs = -1,
                                       .temperature = 0,
                                       .top_p = UNSET_FLOAT,
                                       .min_p = UNSET_FLOAT,
                                       .repetition_penalty = UNSET_FLOAT,
                                       .presence_penalty = UNSET_FLOAT,
                                       .frequency_penalty = UNSET_FLOAT,
                                       .ignore_eos = true,
                                       .compute = (int)host->compute};
    enum status s = engine_generate(host->engine, &r, &run->ticket, err);
    free(ids);
    return s;
}

/* ---- what the times say ---- */

/* The step while all sequences run, or over everything when they hardly overlap. */
static double step_of(const struct crowd *c)
{
    double from = 0, until = 0, earliest = 0, latest = 0;
    size_t within = 0, all = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct run *r = &c->runs[i];
        if (r->n < 2)
            return 0;
        double first = r->times[0], last = r->times[r->n - 1];
        from = i && from > first ? from : first;
        until = i && until < last ? until : last;
        earliest = i && earliest < first ? earliest : first;
        latest = i && latest > last ? latest : last;
        all += r->n - 1;
    }
    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < c->runs[i].n; k++)
            within += c->runs[i].times[k] > from && c->runs[i].times[k] <= until;
    if (within >= c->n)
        return (until - from) * (double)c->n / (double)within;
    return (latest - earliest) * (double)c->n / (double)all;
}

static double longest_gap(const struct run *r, size_t from)
{
    double gap = 0;
    for (size_t k = from > 0 ? from : 1; k < r->n; k++)
        if (r->times[k] - r->times[k - 1] > gap)
            gap = r->times[k] - r->times[k - 1];
    return gap;
}

static void read_times(const struct crowd *c, double start, struct bench_times *out)
{
    *out = (struct bench_times){.step = step_of(c)};
    for (size_t i = 0; i < c->n; i++) {
        double first = c->runs[i].n ? c->runs[i].times[0] - start : 0;
        double gap = longest_gap(&c->runs[i], 1);
        out->first = out->first > first ? out->first : first;
        out->gap = out->gap > gap ? out->gap : gap;
    }
}

/* ---- rounds ---- */

static void count_pages(struct bench_host *host, int64_t positions)
{
    host->kv_pages += (uint64_t)(positions + KV_PAGE - 1) / KV_PAGE;
}

enum status bench_round(struct bench_host *host, const struct bench_case *c,
                        struct bench_times *out, struct error *err)
{
    struct crowd crowd;
    enum status s = crowd_open(&crowd, (size_t)c->sequences, (size_t)c->generate, err);
    double start = bench_now();
    for (size_t i = 0; i < crowd.n && !s; i++)
        s = submit(host, c, i, &crowd.runs[i], err);
    if (!s)
        while (look(&crowd))
            rest(&crowd);
    for (size_t i = 0; i < crowd.n && !s; i++) {
        s = ticket_status(crowd.runs[i].ticket, err);
        count_pages(host, (int64_t)c->prompt + c->generate);
    }
    if (!s)
        read_times(&crowd, start, out);
    crowd_close(&crowd);
    return s;
}

enum status bench_load(struct engine *engine, const struct adapter_request *adapter,
                       struct error *err)
{
    struct ticket *load = NULL;
    enum status s = engine_adapter_load(engine, adapter, &load, err);
    if (!s) {
        ticket_join(load);
        s = ticket_status(load, err);
    }
    ticket_free(load);
    return s;
}

/* Follows the stream until it has `tokens`; false when it ended before. */
static bool follow(struct crowd *c, size_t tokens)
{
    while (look(c)) {
        if (c->runs[0].n >= tokens)
            return true;
        rest(c);
    }
    return false;
}

/* Follows the stream until the load has ended. */
static void follow_load(struct crowd *c, const struct ticket *load)
{
    while (look(c) && !ticket_ended(load))
        rest(c);
}

enum status bench_activation(struct bench_host *host, const struct adapter_request *adapter,
                             int32_t prompt, struct bench_times *out, struct error *err)
{
    int64_t room = engine_model(host->engine)->max_len - prompt;
    const struct bench_case c = {.sequences = 1,
                                 .prompt = prompt,
                                 .generate = (int32_t)(room < TOKENS_MOST ? room : TOKENS_MOST)};
    struct crowd crowd;
    struct ticket *load = NULL;
    struct ticket_times times = {0};
    size_t before = 0;
    enum status s = crowd_open(&crowd, 1, (size_t)(c.generate > 0 ? c.generate : 1), err);
    s = s ? s : submit(host, &c, 0, &crowd.runs[0], err);
    if (!s && follow(&crowd, TOKENS_BEFORE)) {
        *out = (struct bench_times){.step = step_of(&crowd)};
        before = crowd.runs[0].n;
        s = engine_adapter_load(host->engine, adapter, &load, err);
    }
    if (load) {
        follow_load(&crowd, load);
        follow(&crowd, crowd.runs[0].n + TOKENS_AFTER);
        ticket_join(load);
        ticket_times(load, &times);
        s = ticket_status(load, err);
        out->load = times.ended;
        out->gap = longest_gap(&crowd.runs[0], before);
    } else if (!s) {
        s = ticket_status(crowd.runs[0].ticket, err);
    }
    if (crowd.n)
        count_pages(host, prompt + (int64_t)crowd.runs[0].n);
    ticket_free(load);
    crowd_close(&crowd);
    return s;
}
