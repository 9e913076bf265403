#include "core/run/stats.h"

#include <string.h>

static const double bounds[HISTOGRAM_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY};

bool stats_open(struct stats *s)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < TIMING_COUNT_; i++)
        memcpy(s->timings[i].bounds, bounds, sizeof bounds);
    return pthread_mutex_init(&s->lock, NULL) == 0;
}

void stats_close(struct stats *s)
{
    pthread_mutex_destroy(&s->lock);
}

void stats_time(struct stats *s, enum timing which, double seconds)
{
    int bucket = 0;
    while (seconds > bounds[bucket])
        bucket++;
    pthread_mutex_lock(&s->lock);
    s->timings[which].counts[bucket]++;
    s->timings[which].sum += seconds;
    s->timings[which].count++;
    pthread_mutex_unlock(&s->lock);
}

void stats_count(struct stats *s, const struct step_counts *more)
{
    pthread_mutex_lock(&s->lock);
    struct step_counts *c = &s->counts;
    c->prompt_tokens += more->prompt_tokens;
    c->generated_tokens += more->generated_tokens;
    c->cached_tokens += more->cached_tokens;
    c->preemptions += more->preemptions;
    c->steps += more->steps;
    c->step_ns += more->step_ns;
    c->pass_ns += more->pass_ns;
    c->drafts += more->drafts;
    c->draft_tokens += more->draft_tokens;
    c->accepted_tokens += more->accepted_tokens;
    for (int i = 0; i <= FINISH_ERROR; i++)
        c->finished[i] += more->finished[i];
    pthread_mutex_unlock(&s->lock);
}

void stats_read(struct stats *s, struct engine_stats *out)
{
    pthread_mutex_lock(&s->lock);
    const struct step_counts *c = &s->counts;
    out->prompt_tokens = c->prompt_tokens;
    out->generated_tokens = c->generated_tokens;
    out->cached_tokens = c->cached_tokens;
    out->preemptions = c->preemptions;
    out->steps = c->steps;
    out->step_seconds = 1e-9 * (double)c->step_ns;
    out->pass_seconds = 1e-9 * (double)c->pass_ns;
    out->drafts = c->drafts;
    out->draft_tokens = c->draft_tokens;
    out->accepted_tokens = c->accepted_tokens;
    memcpy(out->finished, c->finished, sizeof out->finished);
    out->time_to_first_token = s->timings[TIMING_FIRST_TOKEN];
    out->inter_token = s->timings[TIMING_INTER_TOKEN];
    out->end_to_end = s->timings[TIMING_END_TO_END];
    out->queue_time = s->timings[TIMING_QUEUE];
    out->adapter_load = s->timings[TIMING_ADAPTER_LOAD];
    pthread_mutex_unlock(&s->lock);
}
