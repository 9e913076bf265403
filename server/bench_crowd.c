/*
 * Every sequence is a request of its own, as clients send them; this thread sleeps on one bell that
 * all tickets ring, reads what is there and notes when. A token's time is that of its arrival here,
 * so what is measured is what a client of the process sees.
 *
 * Prompts are random ids, other ones each time, so that no prefix is found again; unless the case
 * says that they are known: then they depend on nothing but the stream.
 */
#include "server/bench_crowd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t bench_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

enum status crowd_open(struct crowd *c, size_t n, size_t tokens, struct error *err)
{
    *c = (struct crowd){.lock = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER};
    c->streams = calloc(n, sizeof *c->streams);
    c->waits = calloc(n * tokens, sizeof *c->waits);
    if (!c->streams || !c->waits)
        return error_memory(err, "a round of the bench");
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        c->streams[i].cap = tokens;
        c->streams[i].ended = true;
        c->streams[i].times = calloc(tokens, sizeof *c->streams[i].times);
        if (!c->streams[i].times)
            return error_memory(err, "a round of the bench");
    }
    return ST_OK;
}

void crowd_close(struct crowd *c)
{
    for (size_t i = 0; i < c->n; i++) {
        ticket_free(c->streams[i].ticket);
        free(c->streams[i].times);
    }
    free(c->streams);
    free(c->waits);
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
static bool drain(struct crowd *c, struct bench_stream *s)
{
    struct piece piece;
    double t = bench_now();
    s->ended = ticket_ended(s->ticket); /* asked first: what came before is read below */
    while (ticket_read(s->ticket, &piece)) {
        // a character that several tokens make comes in one piece: its wait is shared among them
        double from = s->n ? s->times[s->n - 1] : t;
        for (size_t k = 1; k <= piece.n_tokens && s->n < s->cap; k++)
            s->times[s->n++] = from + (t - from) * (double)k / (double)piece.n_tokens;
    }
    return s->ended || ticket_wait(s->ticket, TICKET_EVENT, ring, c);
}

bool crowd_look(struct crowd *c)
{
    bool running = false;
    for (size_t i = 0; i < c->n; i++) {
        while (!c->streams[i].ended && !drain(c, &c->streams[i]))
            ;
        running |= !c->streams[i].ended;
    }
    return running;
}

void crowd_rest(struct crowd *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->rings == c->seen)
        pthread_cond_wait(&c->rung, &c->lock);
    c->seen = c->rings;
    pthread_mutex_unlock(&c->lock);
}

enum status crowd_submit(struct crowd *crowd, struct bench_host *host, const struct bench_case *c,
                         const char *adapter, size_t s, struct error *err)
{
    struct bench_stream *stream = &crowd->streams[s];
    int32_t *ids = malloc((size_t)c->prompt * sizeof *ids);
    if (!ids)
        return error_memory(err, "making a prompt");
    uint64_t vocab = (uint64_t)engine_model(host->engine)->vocab, known = s + 1;
    for (int32_t k = 0; k < c->prompt; k++)
        ids[k] = (int32_t)(bench_random(c->known ? &known : &host->random) % (vocab ? vocab : 1));
    const struct prompt prompt = {.ids = ids, .n_ids = (size_t)c->prompt};
    const struct generate_request r = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .adapters = &adapter,
                                       .n_adapters = adapter ? 1 : 0,
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
                                       .compute = c->exact ? COMPUTE_EXACT : (int)host->compute};
    ticket_free(stream->ticket);
    stream->ticket = NULL;
    stream->n = 0;
    stream->sent = bench_now();
    enum status st = engine_generate(host->engine, &r, &stream->ticket, err);
    stream->ended = st != ST_OK;
    free(ids);
    return st;
}

enum status crowd_status(struct crowd *c, struct error *err)
{
    enum status s = ST_OK;
    for (size_t i = 0; i < c->n && !s; i++)
        if (c->streams[i].ticket && c->streams[i].ended)
            s = ticket_status(c->streams[i].ticket, err);
    return s;
}

/* ---- what the times say ---- */

size_t crowd_waits(struct crowd *c, size_t most, double from, double until)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n && i < most; i++) {
        const struct bench_stream *s = &c->streams[i];
        for (size_t k = 1; k < s->n; k++)
            if (s->times[k - 1] >= from && s->times[k] <= until)
                c->waits[n++] = s->times[k] - s->times[k - 1];
    }
    return n;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(double *v, size_t n, double p)
{
    if (!n)
        return 0;
    qsort(v, n, sizeof *v, by_value);
    size_t rank = (size_t)ceil(p * (double)n);
    return v[(rank ? rank : 1) - 1];
}
