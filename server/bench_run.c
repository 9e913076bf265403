/*
 * What is done with a crowd of streams (bench_crowd.h), and what its times say.
 *
 *      sequence 0   prompt |1  2  3  4  5  6  7  8|
 *      sequence 1     prompt    |1  2  3  4  5  6  7  8|
 *                               [--- all run -------]           the step is taken from here
 */
#include "server/bench_run.h"

#include <math.h>
#include <stdlib.h>

#include "server/bench_crowd.h"

/* Tokens before an adapter's load or a prompt is submitted, after a load has ended; and at most. */
#define TOKENS_BEFORE 16
#define TOKENS_AFTER  4
#define TOKENS_MOST   65536

/* ---- what the times say ---- */

/* While all sequences have begun and none has ended; false when one brought less than two tokens.
 */
static bool all_run(const struct crowd *c, double *from, double *until)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct bench_stream *s = &c->streams[i];
        if (s->n < 2)
            return false;
        *from = i ? fmax(*from, s->times[0]) : s->times[0];
        *until = i ? fmin(*until, s->times[s->n - 1]) : s->times[s->n - 1];
    }
    return c->n > 0;
}

/* The step while all sequences run, or over everything when they hardly overlap. */
static double step_of(const struct crowd *c)
{
    double from = 0, until = 0, earliest = INFINITY, latest = 0;
    size_t within = 0, all = 0;
    if (!all_run(c, &from, &until))
        return 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct bench_stream *s = &c->streams[i];
        earliest = fmin(earliest, s->times[0]);
        latest = fmax(latest, s->times[s->n - 1]);
        all += s->n - 1;
        for (size_t k = 0; k < s->n; k++)
            within += s->times[k] > from && s->times[k] <= until;
    }
    if (within >= c->n)
        return (until - from) * (double)c->n / (double)within;
    return (latest - earliest) * (double)c->n / (double)all;
}

static double longest_gap(const struct bench_stream *s, size_t from)
{
    double gap = 0;
    for (size_t k = from > 0 ? from : 1; k < s->n; k++)
        gap = fmax(gap, s->times[k] - s->times[k - 1]);
    return gap;
}

static void read_times(struct crowd *c, double start, struct bench_times *out)
{
    double from = 0, until = 0;
    *out = (struct bench_times){.step = step_of(c)};
    for (size_t i = 0; i < c->n; i++) {
        const struct bench_stream *s = &c->streams[i];
        c->waits[i] = s->n ? s->times[0] - start : 0;
        out->gap = fmax(out->gap, longest_gap(s, 1));
    }
    out->first_p50 = bench_percentile(c->waits, c->n, 0.5);
    out->first_p99 = bench_percentile(c->waits, c->n, 0.99);
    out->first = bench_percentile(c->waits, c->n, 1);
    if (all_run(c, &from, &until)) {
        size_t n = crowd_waits(c, c->n, from, until);
        out->wait_p50 = bench_percentile(c->waits, n, 0.5);
        out->wait_p99 = bench_percentile(c->waits, n, 0.99);
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
        s = crowd_submit(&crowd, host, c,
                         c->adapters ? host->adapters[i % (size_t)c->adapters] : NULL, i, err);
    if (!s)
        while (crowd_look(&crowd))
            crowd_rest(&crowd);
    s = s ? s : crowd_status(&crowd, err);
    for (size_t i = 0; i < crowd.n && !s; i++)
        count_pages(host, (int64_t)c->prompt + c->generate);
    if (!s)
        read_times(&crowd, start, out);
    crowd_close(&crowd);
    return s;
}

/* Waits for its end; seconds may be NULL. */
static enum status load_time(struct ticket *load, double *seconds, struct error *err)
{
    struct ticket_times times = {0};
    ticket_join(load);
    ticket_times(load, &times);
    if (seconds)
        *seconds = times.ended;
    return ticket_status(load, err);
}

enum status bench_load(struct engine *engine, const struct adapter_request *adapter,
                       double *seconds, struct error *err)
{
    struct ticket *load = NULL;
    enum status s = engine_adapter_load(engine, adapter, &load, err);
    s = s ? s : load_time(load, seconds, err);
    ticket_free(load);
    return s;
}

/* Follows the crowd until each of its first n streams has `tokens`; false when one ended before. */
static bool follow(struct crowd *c, size_t n, size_t tokens)
{
    for (;;) {
        bool running = crowd_look(c), there = true, ended = false;
        for (size_t i = 0; i < n; i++) {
            there &= c->streams[i].n >= tokens;
            ended |= c->streams[i].ended && c->streams[i].n < tokens;
        }
        if (there || ended || !running)
            return there;
        crowd_rest(c);
    }
}

/* Follows the stream until the load has ended. */
static void follow_load(struct crowd *c, const struct ticket *load)
{
    while (crowd_look(c) && !ticket_ended(load))
        crowd_rest(c);
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
    size_t before = 0;
    enum status s = crowd_open(&crowd, 1, (size_t)(c.generate > 0 ? c.generate : 1), err);
    s = s ? s : crowd_submit(&crowd, host, &c, NULL, 0, err);
    if (!s && follow(&crowd, 1, TOKENS_BEFORE)) {
        *out = (struct bench_times){.step = step_of(&crowd)};
        before = crowd.streams[0].n;
        s = engine_adapter_load(host->engine, adapter, &load, err);
    }
    if (load) {
        follow_load(&crowd, load);
        follow(&crowd, 1, crowd.streams[0].n + TOKENS_AFTER);
        s = load_time(load, &out->load, err);
        out->gap = longest_gap(&crowd.streams[0], before);
    } else if (!s) {
        s = crowd_status(&crowd, err);
    }
    if (crowd.n)
        count_pages(host, prompt + (int64_t)crowd.streams[0].n);
    ticket_free(load);
    crowd_close(&crowd);
    return s ? s : bench_load(host->engine, adapter, &out->alone, err);
}

/* The last stream is the entrant. */
static void read_entry(struct crowd *c, struct bench_times *out)
{
    const struct bench_stream *entrant = &c->streams[c->n - 1];
    double from = 0;
    for (size_t i = 0; i + 1 < c->n; i++)
        from = fmax(from, c->streams[i].times[0]);
    size_t n = crowd_waits(c, c->n - 1, from, entrant->sent);
    *out = (struct bench_times){.step = bench_percentile(c->waits, n, 0.5)};
    // a wait that began before the entrant was sent is one that it can lengthen
    n = crowd_waits(c, c->n - 1, entrant->sent - out->step, entrant->times[0] + out->step / 2);
    out->wait_p50 = bench_percentile(c->waits, n, 0.5);
    out->wait_p99 = bench_percentile(c->waits, n, 0.99);
    out->first = entrant->times[0] - entrant->sent;
}

enum status bench_entry(struct bench_host *host, const struct bench_case *c, int32_t entrant,
                        struct bench_times *out, struct error *err)
{
    const struct bench_case enters = {.sequences = 1, .prompt = entrant, .generate = 1};
    size_t n = (size_t)c->sequences;
    struct crowd crowd;
    enum status s = crowd_open(&crowd, n + 1, (size_t)c->generate, err);
    *out = (struct bench_times){0};
    for (size_t i = 0; i < n && !s; i++)
        s = crowd_submit(&crowd, host, c, NULL, i, err);
    if (!s && follow(&crowd, n, TOKENS_BEFORE)) {
        s = crowd_submit(&crowd, host, &enters, NULL, n, err);
        while (!s && crowd_look(&crowd) && !crowd.streams[n].ended)
            crowd_rest(&crowd);
        if (!s && crowd.streams[n].n)
            read_entry(&crowd, out);
    }
    s = s ? s : crowd_status(&crowd, err);
    for (size_t i = 0; i < crowd.n && !s; i++)
        count_pages(host, (i < n ? c->prompt : entrant) + (int64_t)crowd.streams[i].n);
    crowd_close(&crowd);
    return s;
}

/* ---- traffic ---- */

size_t bench_draw(const double *cumulative, size_t n, uint64_t *state)
{
    double share = (double)bench_random(state) * 0x1p-31;
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cumulative[middle] > share)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

double *bench_zipf(size_t n)
{
    double *v = calloc(n, sizeof *v), sum = 0;
    for (size_t i = 0; v && i < n; i++)
        v[i] = sum += 1 / (double)(i + 1);
    for (size_t i = 0; v && i < n; i++)
        v[i] /= sum;
    return v;
}

static bool any_ended(const struct crowd *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->streams[i].ended)
            return true;
    return false;
}

enum status bench_traffic(struct bench_host *host, const struct bench_case *c,
                          const char *const *names, size_t n, size_t requests,
                          struct bench_times *out, struct error *err)
{
    struct crowd crowd;
    double *cumulative = bench_zipf(n);
    enum status s = crowd_open(&crowd, (size_t)c->sequences, (size_t)c->generate, err);
    s = s || cumulative ? s : error_memory(err, "the shares of adapters");
    double start = bench_now();
    size_t tokens = 0, sent = 0;
    while (!s && sent < requests) {
        for (size_t i = 0; i < crowd.n && !s && sent < requests; i++) {
            struct bench_stream *stream = &crowd.streams[i];
            if (!stream->ended)
                continue;
            s = stream->ticket ? ticket_status(stream->ticket, err) : ST_OK;
            tokens += stream->n;
            if (!s) {
                s = crowd_submit(&crowd, host, c, names[bench_draw(cumulative, n, &host->random)],
                                 i, err);
                sent++;
            }
        }
        while (!s && sent < requests && crowd_look(&crowd) && !any_ended(&crowd))
            crowd_rest(&crowd);
    }
    double end = bench_now();
    if (!s)
        while (crowd_look(&crowd))
            crowd_rest(&crowd);
    s = s ? s : crowd_status(&crowd, err);
    for (size_t i = 0; i < crowd.n && !s; i++)
        for (size_t k = 0; k < crowd.streams[i].n; k++)
            tokens += crowd.streams[i].times[k] <= end;
    if (!s)
        *out = (struct bench_times){.rate = (double)tokens / (end - start)};
    for (size_t i = 0; i < sent && !s; i++)
        count_pages(host, (int64_t)c->prompt + c->generate);
    free(cumulative);
    crowd_close(&crowd);
    return s;
}
