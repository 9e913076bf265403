/*
 * Owns which ratios `oftd bench` prints and how. A figure is the median over the rounds of a / b,
 * where a and b were measured one soon after the other in the same round; its parts are the medians
 * of a and of b, low and high the least and the greatest ratio. best is what a noisy machine hides
 * least: the best a of all rounds over the best b.
 *
 *      decode      bytes of weights a step reads / seconds of a step      over the read bandwidth
 *      prefill     2 operations a weight and token / seconds a token      over the fp32 peak
 *      the rest    a case over another one that differs in one thing
 *
 * A round in which one of the parts was not measured (its tokens came all at once: no step) does
 * not count; a figure without any round is left out.
 */
#include "server/bench_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a figure is made of: one value of a round; s is NULL for what belongs to no case. */
typedef double part(const struct bench_result *r, const struct bench_series *s, size_t round);

struct figure {
    char name[40], text[80];
    const char *unit;              /* of the parts */
    double value, low, high, a, b; /* a, b: in unit */
    double best;                   /* the best a of all rounds over the best b */
};

/* The sequences that waits are told of, at most. */
#define CROWD 8
/* Cores that others may use before figures are called doubtful. */
#define QUIET 0.25

#define FIGURES_MAX (BENCH_SERIES_MAX + 16)

struct report {
    const struct bench_result *r;
    struct figure figures[FIGURES_MAX];
    size_t n;
    double *values; /* [3][rounds] */
};

/* ---- parts ---- */

static double step_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].step * 1e3;
}

static double first_p50_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].first_p50 * 1e3;
}

static double first_p99_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].first_p99 * 1e3;
}

static double wait_p50_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].wait_p50 * 1e3;
}

static double wait_p99_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].wait_p99 * 1e3;
}

static double traffic_rate(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].rate;
}

static double gap_ms(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)r;
    return s->times[round].gap * 1e3;
}

static double tokens_generated(const struct bench_result *r, const struct bench_series *s,
                               size_t round)
{
    double step = step_ms(r, s, round);
    return step > 0 ? 1e3 * s->c.sequences / step : 0;
}

static double weights_read(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    double step = step_ms(r, s, round);
    return step > 0 ? 1e-6 * r->step_bytes / step : 0;
}

static double prompt_tokens(const struct bench_result *r, const struct bench_series *s,
                            size_t round)
{
    (void)r;
    double seconds = s->times[round].first;
    return seconds > 0 ? (double)s->c.prompt * s->c.sequences / seconds : 0;
}

static double operations(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    return 1e-9 * r->token_operations * prompt_tokens(r, s, round);
}

static double read_probe(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)s;
    return 1e-9 * r->read[round];
}

static double peak_probe(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)s;
    return 1e-9 * r->peak[round];
}

static double peak_memory(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)s, (void)round;
    return 1e-6 * r->peak_bytes;
}

static double own_memory(const struct bench_result *r, const struct bench_series *s, size_t round)
{
    (void)s, (void)round;
    return 1e-6 * r->anonymous_bytes;
}

static double needed_memory(const struct bench_result *r, const struct bench_series *s,
                            size_t round)
{
    (void)s, (void)round;
    return 1e-6 * (r->checkpoint_bytes + r->kv_bytes + r->adapter_bytes);
}

/* ---- figures ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. */
static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Adds a / b over the rounds that have both; NULL: there is none. The caller names it. */
static struct figure *add(struct report *p, const char *unit, part *a,
                          const struct bench_series *sa, part *b, const struct bench_series *sb)
{
    size_t rounds = p->r->rounds, n = 0;
    double *va = p->values, *vb = va + rounds, *ratios = vb + rounds;
    for (size_t i = 0; i < rounds; i++) {
        va[n] = a(p->r, sa, i);
        vb[n] = b(p->r, sb, i);
        if (va[n] > 0 && vb[n] > 0) {
            ratios[n] = va[n] / vb[n];
            n++;
        }
    }
    if (!n || p->n == FIGURES_MAX)
        return NULL;
    struct figure *f = &p->figures[p->n++];
    *f = (struct figure){.unit = unit, .value = median(ratios, n), .a = median(va, n)};
    f->low = ratios[0];
    f->high = ratios[n - 1];
    f->b = median(vb, n);
    bool least = !strcmp(unit, "ms") || !strcmp(unit, "MB");
    f->best = least ? va[0] / vb[0] : va[n - 1] / vb[n - 1];
    return f;
}

static void name(struct figure *f, const char *json, const char *text)
{
    if (!f)
        return;
    snprintf(f->name, sizeof f->name, "%s", json);
    snprintf(f->text, sizeof f->text, "%s", text);
}

static bool decodes(const struct bench_series *s)
{
    return s->c.generate > 1;
}

/* Of those that differ in nothing but sequences and adapters. */
static bool plain(const struct bench_series *s)
{
    return !s->c.exact && !s->c.known && !s->c.busy;
}

static const struct bench_series *find(const struct bench_result *r, bool decode, int32_t sequences,
                                       int32_t adapters)
{
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        if (plain(s) && s->c.sequences == sequences && s->c.adapters == adapters &&
            decodes(s) == decode)
            return s;
    }
    return NULL;
}

static void add_decode(struct report *p, const struct bench_series *one)
{
    const struct bench_result *r = p->r;
    name(add(p, "GB/s", weights_read, one, read_probe, NULL), "decode_1_of_read_bandwidth",
         "decode, 1 sequence, of the read bandwidth");
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        if (!plain(s) || !decodes(s) || s->c.sequences == 1 || s->c.adapters)
            continue;
        struct figure *f = add(p, "ms", step_ms, s, step_ms, one);
        if (f) {
            snprintf(f->name, sizeof f->name, "step_%d_of_step_1", s->c.sequences);
            snprintf(f->text, sizeof f->text, "step of %d sequences, of a step of one",
                     s->c.sequences);
        }
    }
}

static void add_prefill(struct report *p)
{
    const struct bench_result *r = p->r;
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        if (decodes(s) || s->c.adapters)
            continue;
        struct figure *f = add(p, "Gop/s", operations, s, peak_probe, NULL);
        if (f) {
            snprintf(f->name, sizeof f->name, "prefill_%sof_fp32_peak", s->c.exact ? "exact_" : "");
            snprintf(f->text, sizeof f->text, "prefill of %d tokens%s, of the fp32 peak",
                     s->c.prompt, s->c.exact ? " in exact mode" : "");
        }
    }
}

/* Cases that differ in one thing from another one of the base. */
static void add_beside(struct report *p, const struct bench_series *one)
{
    const struct bench_result *r = p->r;
    const struct bench_series *near = NULL;
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        if (s->c.busy)
            name(add(p, "tokens/s", tokens_generated, s, tokens_generated, one),
                 "busy_neighbour_of_idle", "1 sequence beside a busy process, of without");
        if (!s->c.known)
            continue;
        if (!near) {
            near = s;
            continue;
        }
        struct figure *f = add(p, "tokens/s", tokens_generated, s, tokens_generated, near);
        name(f, "context_long_of_short", "");
        if (f)
            snprintf(f->text, sizeof f->text, "1 sequence after %d tokens, of after %d",
                     s->c.prompt, near->c.prompt);
    }
}

/* A case on adapters, of the same case on the base. */
static void add_adapter_case(struct report *p, const struct bench_series *s,
                             const struct bench_series *base)
{
    if (!decodes(s)) {
        name(add(p, "tokens/s", prompt_tokens, s, prompt_tokens, base), "prefill_adapter",
             "prefill with 1 adapter, of without");
        return;
    }
    if (s->c.sequences == 1) {
        name(add(p, "ms", step_ms, s, step_ms, base), "step_1_adapter",
             "inter-token time with 1 adapter, of without");
        return;
    }
    struct figure *f = add(p, "tokens/s", tokens_generated, s, tokens_generated, base);
    if (f) {
        snprintf(f->name, sizeof f->name, "sequences_%d_adapters_%d", s->c.sequences,
                 s->c.adapters);
        snprintf(f->text, sizeof f->text, "%d sequences with %d %s, of without", s->c.sequences,
                 s->c.adapters, s->c.adapters > 1 ? "distinct adapters" : "adapter");
    }
}

static void add_adapters(struct report *p)
{
    const struct bench_result *r = p->r;
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        const struct bench_series *base = find(r, decodes(s), s->c.sequences, 0);
        if (plain(s) && s->c.adapters && base)
            add_adapter_case(p, s, base);
    }
}

/* The most sequences up to CROWD, all on adapters of their own or (distinct false) on the base. */
static const struct bench_series *crowd(const struct bench_result *r, bool distinct)
{
    const struct bench_series *most = NULL;
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        if (plain(s) && decodes(s) && s->c.sequences > 1 && s->c.sequences <= CROWD &&
            s->c.adapters == (distinct ? s->c.sequences : 0) &&
            (!most || s->c.sequences > most->c.sequences))
            most = s;
    }
    return most;
}

/* How much longer than usual one has to wait for a token. */
static void add_waits(struct report *p, const struct bench_series *one)
{
    const struct bench_series *streams = crowd(p->r, false), *distinct = crowd(p->r, true);
    const struct bench_series load = {.times = p->r->activation}, entry = {.times = p->r->entry};
    struct figure *f =
        distinct ? add(p, "ms", first_p99_ms, distinct, first_p50_ms, distinct) : NULL;
    name(f, "first_token_p99_of_p50", "");
    if (f)
        snprintf(f->text, sizeof f->text, "first token of %d with distinct adapters, p99 of p50",
                 distinct->c.sequences);
    f = streams ? add(p, "ms", wait_p99_ms, streams, wait_p50_ms, streams) : NULL;
    name(f, "token_wait_p99_of_p50", "");
    if (f)
        snprintf(f->text, sizeof f->text, "waits of %d sequences, p99 of p50",
                 streams->c.sequences);
    f = entry.times ? add(p, "ms", wait_p99_ms, &entry, step_ms, &entry) : NULL;
    name(f, "entry_wait_p99_of_p50", "");
    if (f)
        snprintf(f->text, sizeof f->text, "p99 of waits while a prompt of %d enters, of p50",
                 p->r->prompt);
    if (load.times)
        name(add(p, "ms", gap_ms, &load, step_ms, &load), "activation_gap_of_step",
             "longest wait while 1 adapter loads, of a step");
    if (one)
        name(add(p, "ms", gap_ms, one, step_ms, one), "quiet_gap_of_step",
             "longest wait of 1 sequence else, of a step");
}

static void add_traffic(struct report *p)
{
    const struct bench_series zipf = {.times = p->r->zipf}, single = {.times = p->r->single};
    struct figure *f =
        zipf.times ? add(p, "tokens/s", traffic_rate, &zipf, traffic_rate, &single) : NULL;
    name(f, "zipf_of_one_adapter", "");
    if (f)
        snprintf(f->text, sizeof f->text, "Zipf traffic on %zu adapters, of on one", p->r->pool);
}

static bool make(struct report *p, const struct bench_result *r)
{
    *p = (struct report){.r = r, .values = calloc(3 * r->rounds, sizeof *p->values)};
    if (!p->values)
        return false;
    const struct bench_series *one = find(r, true, 1, 0);
    if (one)
        add_decode(p, one);
    add_prefill(p);
    add_adapters(p);
    if (one)
        add_beside(p, one);
    add_waits(p, one);
    add_traffic(p);
    name(add(p, "MB", peak_memory, NULL, needed_memory, NULL), "peak_memory",
         "peak memory, of checkpoint + KV + adapters");
    name(add(p, "MB", own_memory, NULL, needed_memory, NULL), "own_memory",
         "of that, memory that is no file's");
    return true;
}

/* The median of one part; 0 when the case was not measured. */
static double middle(struct report *p, part *a, const struct bench_series *s)
{
    for (size_t i = 0; i < p->r->rounds; i++)
        p->values[i] = a(p->r, s, i);
    return median(p->values, p->r->rounds);
}

static double load_median(struct report *p, bool alone)
{
    const struct bench_times *t = p->r->activation;
    for (size_t i = 0; t && i < p->r->rounds; i++)
        p->values[i] = alone ? t[i].alone : t[i].load;
    return t ? median(p->values, p->r->rounds) : 0;
}

static double foreign_cores(const struct bench_result *r, const struct bench_series *s,
                            size_t round)
{
    (void)s;
    return r->foreign[round];
}

/* ---- output ---- */

bool bench_report_text(const struct bench_result *r)
{
    struct report p;
    if (!make(&p, r))
        return false;
    printf("%s: %s, %s, %d threads, %s, %zu adapters; medians of %zu rounds\n", r->model,
           r->architecture, r->isa, r->threads, r->compute, r->adapters, r->rounds);
    printf("  loaded %.0f MB in %.2f s, first token after %.2f s (%.1f MB of weights a step)\n",
           1e-6 * r->checkpoint_bytes, r->load_seconds, r->first_token_seconds,
           1e-6 * r->step_bytes);
    if (r->activation)
        printf("  an adapter is active after %.1f ms, beside a stream after %.1f ms\n",
               1e3 * load_median(&p, true), 1e3 * load_median(&p, false));
    for (size_t i = 0; i < r->n_series; i++) {
        const struct bench_series *s = &r->series[i];
        double rate = middle(&p, decodes(s) ? tokens_generated : prompt_tokens, s);
        if (rate > 0 && plain(s))
            printf("  %-8s %4d sequences, %4d adapters %12.1f tokens/s\n",
                   decodes(s) ? "decode" : "prefill", s->c.sequences, s->c.adapters, rate);
    }
    for (size_t i = 0; i < p.n; i++) {
        const struct figure *f = &p.figures[i];
        printf("  %-50s %6.2f   (%.2f to %.2f)   %.4g and %.4g %s\n", f->text, f->value, f->low,
               f->high, f->a, f->b, f->unit);
    }
    double foreign = middle(&p, foreign_cores, NULL);
    if (foreign > QUIET)
        printf("  other processes kept %.1f cores busy: these ratios are not to be trusted\n",
               foreign);
    free(p.values);
    return true;
}

static json_t *figures_json(const struct report *p)
{
    json_t *all = json_object();
    for (size_t i = 0; i < p->n; i++) {
        const struct figure *f = &p->figures[i];
        json_t *v = json_pack("{s:f, s:f, s:f, s:f, s:[f, f], s:s, s:s}", "value", f->value, "best",
                              f->best, "low", f->low, "high", f->high, "parts", f->a, f->b, "unit",
                              f->unit, "text", f->text);
        if (json_object_set_new(all, f->name, v)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

static json_t *cases_json(struct report *p)
{
    json_t *all = json_array();
    for (size_t i = 0; i < p->r->n_series; i++) {
        const struct bench_series *s = &p->r->series[i];
        json_t *v = json_pack("{s:s, s:i, s:i, s:i, s:b, s:b, s:f, s:f}", "kind",
                              decodes(s) ? "decode" : "prefill", "sequences", s->c.sequences,
                              "adapters", s->c.adapters, "prompt", s->c.prompt, "exact", s->c.exact,
                              "busy", s->c.busy, "tokens_per_second",
                              middle(p, decodes(s) ? tokens_generated : prompt_tokens, s),
                              "step_ms", middle(p, step_ms, s));
        if (json_array_append_new(all, v)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

json_t *bench_report_json(const struct bench_result *r)
{
    struct report p;
    if (!make(&p, r))
        return NULL;
    const struct bench_series *prefill = find(r, false, 1, 0), *decode = find(r, true, r->batch, 0);
    double peak = middle(&p, peak_probe, NULL), read = middle(&p, read_probe, NULL);
    double prefill_rate = prefill ? middle(&p, prompt_tokens, prefill) : 0;
    double prefill_operations = prefill ? middle(&p, operations, prefill) : 0;
    double decode_rate = decode ? middle(&p, tokens_generated, decode) : 0;
    double decode_read = decode ? middle(&p, weights_read, decode) : 0;
    json_t *figures = figures_json(&p), *cases = cases_json(&p);
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f}, s:{s:f, s:f, s:f}, "
        "s:{s:f, s:f}, s:{s:f, s:f, s:f, s:f}, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:o, s:o}",
        "model", r->model, "architecture", r->architecture, "isa", r->isa, "threads", r->threads,
        "compute", r->compute, "adapters", (json_int_t)r->adapters, "batch", (json_int_t)r->batch,
        "prompt", (json_int_t)r->prompt, "generate", (json_int_t)r->generate, "rounds",
        (json_int_t)r->rounds, "prefill", "tokens_per_second", prefill_rate, "ratio_to_fp32_peak",
        peak > 0 ? prefill_operations / peak : 0, "decode", "tokens_per_second", decode_rate,
        "bytes_per_step", r->step_bytes, "ratio_to_read_bandwidth",
        read > 0 ? decode_read / read : 0, "probes", "read_bytes_per_second", read * 1e9,
        "fp32_operations_per_second", peak * 1e9, "load", "seconds", r->load_seconds,
        "first_token_seconds", r->first_token_seconds, "adapter_seconds", load_median(&p, true),
        "adapter_beside_stream_seconds", load_median(&p, false), "memory", "peak_bytes",
        r->peak_bytes, "anonymous_bytes", r->anonymous_bytes, "checkpoint_bytes",
        r->checkpoint_bytes, "kv_bytes", r->kv_bytes, "adapter_bytes", r->adapter_bytes,
        "foreign_cores", middle(&p, foreign_cores, NULL), "figures", figures, "cases", cases);
    free(p.values);
    return value;
}
