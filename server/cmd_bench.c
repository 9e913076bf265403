/*
 * `oftd bench`: what the engine does beside what the machine gives in the same minute (probe.h).
 * This file opens the engine, plans the cases (bench_run.h), runs them round by round and hands
 * what they took to bench_report.h.
 *
 * In a round every case runs once, those that are compared next to each other, so that a machine
 * that changes its mind changes both parts of a ratio. Round 0 warms up and counts for nothing but
 * the peak of memory: the probes, which take memory of their own, start after it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "backends/scheme.h"
#include "backends/kernels/probe.h"
#include "core/model/view.h"
#include "server/bench_cpu.h"
#include "server/bench_neighbour.h"
#include "server/bench_report.h"
#include "server/cmd_common.h"
#include "server/cmd_tables.h"

#define DECODE_PROMPT 32 /* tokens before those that decoding is measured with, at most */
#define SHORT         64 /* the contexts that are compared: this one, and the longest up to */
#define LONG          4096
#define CROWD         8 /* sequences that others enter beside, and of traffic, at most */
#define REQUESTS      8 /* of traffic, for each of its sequences */

struct bench {
    const struct config *config;
    char *dir;
    struct layer_range *replication;
    struct scheme scheme; /* --quantize; zeroed: none */
    struct cmd_tables tables;
    char *adapter_path; /* of the first adapter */
    const char **names; /* [n_adapters] borrowed from the config */
    struct engine *engine;
    struct bench_host host;
    struct bench_neighbour neighbour;
    struct adapter_info *found; /* [n_found] in --adapter-dir */
    size_t n_found;
    const char **pool;         /* [result.pool] names of those that can be loaded */
    struct bench_times *times; /* [cases + 4][rounds]: the result's */
    double *probes;            /* [3][rounds]: the result's */
    struct bench_result result;
};

/* ---- opening ---- */

static int32_t decode_prompt(const struct config *c)
{
    return (int32_t)(c->prompt < DECODE_PROMPT ? c->prompt : DECODE_PROMPT);
}

static enum status open_engine(struct bench *b, struct error *err)
{
    const struct config *c = b->config;
    enum compute compute = c->compute == CONFIG_COMPUTE_EXACT ? COMPUTE_EXACT : COMPUTE_FAST;
    int64_t crowd = 1 + (c->batch > (int64_t)c->adapter.n ? c->batch : (int64_t)c->adapter.n);
    const struct engine_options options = {
        .model_dir = b->dir,
        .chain = &chain_default,
        .kernels = cmd_tables_engine(&b->tables),
        .spare_core = b->tables.threads < cpu_threads(),
        .model = {.replication = b->replication,
                  .n_replication = c->layer_replication.n,
                  .max_len = c->max_model_len,
                  .conv2d_peft = c->conv2d == CONFIG_CONV2D_PEFT,
                  .quantize = c->quantize ? &b->scheme : NULL,
                  .head = c->head == CONFIG_HEAD_8 ? scheme_head8 : NULL,
                  .quantize_threads = b->tables.threads},
        .compute_generate = compute,
        .compute_forward = compute,
        .adapter_roots = (const char *const *)c->adapter_dir.v,
        .n_adapter_roots = c->adapter_dir.n,
        .autoload = true,
        .adapter = {.permissive = c->adapter_checks == CONFIG_CHECKS_PERMISSIVE,
                    .neumann_peft = c->neumann_series == CONFIG_NEUMANN_PEFT},
        .kv_memory = c->kv_memory,
        .adapter_memory = c->adapter_memory,
        .max_rows = (int32_t)c->max_batch_rows,
        .prefill_chunk = (int32_t)c->prefill_chunk,
        .prefill_stretch = c->prefill_stretch,
        .max_sequences = (int32_t)(c->max_sequences > crowd ? c->max_sequences : crowd),
        .speculate = c->speculate == CONFIG_SPECULATE_NGRAM,
        .kv_dtype = compute == COMPUTE_FAST ? cmd_kv_dtype(c) : DT_F32,
        .max_queue = (int32_t)crowd + 1,
        .max_queue_tokens = (crowd + 1) * (c->prompt + c->generate),
        .max_forward_rows = 1,
        .max_reply_bytes = 1,
        .max_n = 1,
        .intake_threads = 1};
    double start = bench_now();
    enum status s = engine_new(&options, &b->engine, err);
    s = s ? s : engine_load(b->engine, cmd_progress, "loading", err);
    cmd_progress_end();
    b->result.load_seconds = bench_now() - start;
    b->host = (struct bench_host){.engine = b->engine, .compute = compute, .random = 1};
    if (!s) {
        const struct bench_case first = {.sequences = 1, .prompt = decode_prompt(c), .generate = 1};
        struct bench_times times;
        s = bench_round(&b->host, &first, &times, err);
        b->result.first_token_seconds = bench_now() - start;
    }
    return s;
}

static struct adapter_request request_of(const char *name, const char *path)
{
    return (struct adapter_request){
        .name = name, .path = path, .trusted = true, .pinned = true, .replace = REPLACE_ALWAYS};
}

static enum status load_adapters(struct bench *b, struct error *err)
{
    const struct config_pairs *adapters = &b->config->adapter;
    b->names = calloc(adapters->n + 1, sizeof *b->names);
    if (!b->names)
        return error_memory(err, "benching");
    b->host.adapters = b->names;
    for (size_t i = 0; i < adapters->n; i++) {
        char *path = NULL;
        enum status s = checkpoint_locate(adapters->v[i].value, &path, err);
        const struct adapter_request request = request_of(adapters->v[i].name, path);
        s = s ? s : bench_load(b->engine, &request, NULL, err);
        if (i)
            free(path);
        else
            b->adapter_path = path;
        if (s)
            return s;
        b->names[b->host.n_adapters++] = request.name;
    }
    return ST_OK;
}

/* What --adapter-dir holds, in an order that has nothing to do with the names. */
static enum status find_pool(struct bench *b, struct error *err)
{
    if (!b->config->adapter_dir.n)
        return ST_OK;
    enum status s = engine_adapter_list(b->engine, true, &b->found, &b->n_found, err);
    b->pool = s ? NULL : calloc(b->n_found + 1, sizeof *b->pool);
    if (!s && !b->pool)
        s = error_memory(err, "benching");
    for (size_t i = 0; i < b->n_found && !s; i++)
        if (b->found[i].state == ADAPTER_AVAILABLE || b->found[i].state == ADAPTER_READY)
            b->pool[b->result.pool++] = b->found[i].name;
    if (!s && !b->result.pool)
        s = error_param(err, ST_ADAPTER_NOT_FOUND, "adapter-dir",
                        "no adapter to measure with in --adapter-dir %s",
                        b->config->adapter_dir.v[0]);
    for (size_t i = b->result.pool; i > 1 && !s; i--) {
        size_t k = bench_random(&b->host.random) % i;
        const char *last = b->pool[i - 1];
        b->pool[i - 1] = b->pool[k];
        b->pool[k] = last;
    }
    return s;
}

static enum status open_bench(struct bench *b, struct error *err)
{
    const struct config *c = b->config;
    enum status s = cmd_check_supported(c, err);
    s = s || c->measure != CONFIG_MEASURE_ALL ? s : bench_neighbour_start(&b->neighbour, err);
    s = s ? s : checkpoint_locate(c->model, &b->dir, err);
    s = s ? s : cmd_replication(c, &b->replication, err);
    if (!s && c->quantize)
        s = scheme_parse(c->quantize, &b->scheme, err);
    s = s ? s : cmd_tables_open(b->config, false, &b->tables, err);
    s = s ? s : open_engine(b, err);
    s = s ? s : load_adapters(b, err);
    return s ? s : find_pool(b, err);
}

static void close_bench(struct bench *b)
{
    engine_free(b->engine);
    cmd_tables_close(&b->tables);
    bench_neighbour_end(&b->neighbour);
    for (size_t i = 0; i < b->n_found; i++)
        adapter_info_clear(&b->found[i]);
    free(b->found);
    free(b->pool);
    free(b->times);
    free(b->probes);
    free(b->adapter_path);
    free(b->names);
    free(b->replication);
    scheme_clear(&b->scheme);
    free(b->dir);
}

/* ---- the plan ---- */

static void plan_case(struct bench_result *r, struct bench_case c)
{
    if (r->n_series < BENCH_SERIES_MAX)
        r->series[r->n_series++].c = c;
}

/* With and without adapters, next to each other. */
static void plan_decode(struct bench *b, int64_t sequences)
{
    const struct config *c = b->config;
    struct bench_result *r = &b->result;
    struct bench_case k = {.sequences = (int32_t)sequences,
                           .prompt = decode_prompt(c),
                           .generate = (int32_t)c->generate};
    size_t n = b->host.n_adapters, most = n < (size_t)sequences ? n : (size_t)sequences;
    bool last = sequences >= c->batch;
    plan_case(r, k);
    if (c->measure == CONFIG_MEASURE_RATES)
        return;
    if (sequences == 1 && c->measure == CONFIG_MEASURE_ALL) {
        k.busy = true;
        plan_case(r, k);
        k.busy = false;
    }
    k.adapters = 1;
    if (n && (sequences == 1 || last))
        plan_case(r, k);
    k.adapters = (int32_t)most;
    if (most > 1 && (last || sequences >= CROWD))
        plan_case(r, k);
}

static void plan_prefill(struct bench *b)
{
    const struct config *c = b->config;
    struct bench_case k = {.sequences = 1, .prompt = (int32_t)c->prompt, .generate = 1};
    plan_case(&b->result, k);
    if (c->measure == CONFIG_MEASURE_RATES)
        return;
    k.exact = true;
    if (b->host.compute != COMPUTE_EXACT)
        plan_case(&b->result, k);
    k.exact = false;
    k.adapters = 1;
    if (b->host.n_adapters)
        plan_case(&b->result, k);
}

/* A token after a long and after a short prompt; the long one is computed once. */
static void plan_context(struct bench *b)
{
    const struct config *c = b->config;
    int64_t most = engine_model(b->engine)->max_len - c->generate;
    struct bench_case k = {
        .sequences = 1, .prompt = SHORT, .generate = (int32_t)c->generate, .known = true};
    if (most <= SHORT)
        return;
    plan_case(&b->result, k);
    k.prompt = (int32_t)(most < LONG ? most : LONG);
    plan_case(&b->result, k);
}

static void plan_cases(struct bench *b)
{
    const struct config *c = b->config;
    size_t n = b->host.n_adapters;
    if (c->measure == CONFIG_MEASURE_TRAFFIC)
        return;
    for (int64_t sequences = 1; sequences < c->batch; sequences *= 2)
        plan_decode(b, sequences);
    plan_decode(b, c->batch);
    if ((int64_t)n > c->batch && c->measure != CONFIG_MEASURE_RATES)
        plan_decode(b, (int64_t)n);
    plan_prefill(b);
    if (c->measure == CONFIG_MEASURE_ALL)
        plan_context(b);
}

static enum status plan(struct bench *b, struct error *err)
{
    const struct config *c = b->config;
    struct bench_result *r = &b->result;
    bool all = c->measure == CONFIG_MEASURE_ALL;
    plan_cases(b);
    r->rounds = (size_t)c->repeat;
    b->times = calloc((r->n_series + 4) * r->rounds, sizeof *b->times);
    b->probes = calloc(3 * r->rounds, sizeof *b->probes);
    if (!b->times || !b->probes)
        return error_memory(err, "benching");
    for (size_t i = 0; i < r->n_series; i++)
        r->series[i].times = b->times + i * r->rounds;
    struct bench_times *more = b->times + r->n_series * r->rounds;
    r->activation = all && b->host.n_adapters ? more : NULL;
    r->entry = all ? more + r->rounds : NULL;
    r->zipf = b->pool ? more + 2 * r->rounds : NULL;
    r->single = b->pool ? more + 3 * r->rounds : NULL;
    r->read = b->probes;
    r->peak = r->read + r->rounds;
    r->foreign = r->peak + r->rounds;
    return ST_OK;
}

/* ---- the rounds ---- */

/* Weights that every token multiplies with: all but pure lookups. */
static bool multiplied(const struct model *m, size_t i)
{
    return !m->modules[i].input_embedding;
}

static double step_bytes(const struct model *m, enum compute compute)
{
    double bytes = 0;
    for (size_t i = 0; i < m->n_modules; i++) {
        bool second = m->head8 && m->modules[i].output_embedding && compute == COMPUTE_FAST;
        if (multiplied(m, i))
            bytes += (double)weight_bytes(second ? m->head8 : m->base->weights[i]);
    }
    return bytes;
}

/* The head takes part once a sequence, not once a prompt token. */
static double token_operations(const struct model *m)
{
    double weights = 0;
    for (size_t i = 0; i < m->n_modules; i++)
        if (multiplied(m, i) && !m->modules[i].output_embedding)
            weights += (double)m->modules[i].n * (double)m->modules[i].k;
    return 2 * weights;
}

/* Resident bytes that are no file's (pages of the mapped checkpoint go when others need memory); 0
 * where the system does not tell. */
static double anonymous_bytes(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return 1024.0 * (double)kib;
}

static void read_memory(struct bench *b)
{
    struct rusage usage;
    struct engine_stats stats;
    getrusage(RUSAGE_SELF, &usage);
    engine_stats(b->engine, &stats);
    uint64_t pages = b->host.kv_pages < stats.kv_pages ? b->host.kv_pages : stats.kv_pages;
    b->result.peak_bytes = 1024.0 * (double)usage.ru_maxrss;
    b->result.anonymous_bytes = anonymous_bytes();
    b->result.kv_bytes = (double)pages * (double)stats.kv_page_bytes;
    b->result.adapter_bytes = (double)stats.adapters.bytes;
}

static enum status activate(struct bench *b, struct bench_times *times, struct error *err)
{
    const struct adapter_request request = request_of(b->names[0], b->adapter_path);
    return bench_activation(&b->host, &request, decode_prompt(b->config), times, err);
}

/* The crowd of entries and traffic. */
static struct bench_case crowd_of(const struct config *c, int64_t generate)
{
    return (struct bench_case){.sequences = (int32_t)(c->batch < CROWD ? c->batch : CROWD),
                               .prompt = decode_prompt(c),
                               .generate = (int32_t)generate};
}

static enum status enter(struct bench *b, struct bench_times *times, struct error *err)
{
    // enough for every step that the prompt takes, however many rows a step has
    const struct bench_case c = crowd_of(b->config, b->config->generate + 128);
    return bench_entry(&b->host, &c, (int32_t)b->config->prompt, times, err);
}

/* On all adapters of the pool, then on its first one. */
static enum status traffic(struct bench *b, size_t slot, struct error *err)
{
    const struct bench_case c = crowd_of(b->config, b->config->generate);
    size_t requests = REQUESTS * (size_t)c.sequences;
    struct bench_result *r = &b->result;
    enum status s = bench_traffic(&b->host, &c, b->pool, r->pool, requests, &r->zipf[slot], err);
    return s ? s : bench_traffic(&b->host, &c, b->pool, 1, requests, &r->single[slot], err);
}

/* What the bench goes on for, for the bar. */
static void progress(const struct bench *b, size_t round, size_t done)
{
    size_t cases = b->result.n_series + 1;
    cmd_progress("measuring",
                 (double)(round * cases + done) / (double)((b->result.rounds + 1) * cases));
}

static enum status run_case(struct bench *b, struct bench_series *series, size_t slot,
                            struct error *err)
{
    if (series->c.busy)
        bench_neighbour_run(&b->neighbour);
    enum status s = bench_round(&b->host, &series->c, &series->times[slot], err);
    if (series->c.busy)
        bench_neighbour_rest(&b->neighbour);
    return s;
}

/* Round 0 is written where round 1 is written again. */
static enum status run_round(struct bench *b, size_t round, struct error *err)
{
    struct bench_result *r = &b->result;
    size_t slot = round ? round - 1 : 0;
    const struct bench_cpu start = bench_cpu_read(&b->neighbour);
    enum status s = ST_OK;
    if (round)
        r->read[slot] = probe_read_bandwidth(b->tables.threads);
    for (size_t i = 0; i < r->n_series && !s; i++) {
        struct bench_series *series = &r->series[i];
        progress(b, round, i);
        if (round && series->c.generate == 1 && !series->c.adapters && !series->c.exact)
            r->peak[slot] = probe_fp32_peak(b->tables.threads);
        s = run_case(b, series, slot, err);
    }
    if (!s && r->entry)
        s = enter(b, &r->entry[slot], err);
    if (!s && r->activation)
        s = activate(b, &r->activation[slot], err);
    if (!s && r->zipf)
        s = traffic(b, slot, err);
    r->foreign[slot] = bench_cpu_foreign(&start, &b->neighbour);
    return s;
}

static enum status measure(struct bench *b, struct error *err)
{
    enum status s = plan(b, err);
    for (size_t round = 0; round <= b->result.rounds && !s; round++) {
        s = run_round(b, round, err);
        if (!round)
            read_memory(b);
    }
    cmd_progress_end();
    return s;
}

static void describe(struct bench *b)
{
    const struct config *c = b->config;
    const struct model *m = engine_model(b->engine);
    struct bench_result *r = &b->result;
    r->model = engine_name(b->engine);
    r->architecture = m->architecture;
    r->isa = b->tables.exact->isa;
    r->threads = b->tables.threads;
    r->compute = b->host.compute == COMPUTE_FAST ? "fast" : "exact";
    r->batch = (int32_t)c->batch;
    r->prompt = (int32_t)c->prompt;
    r->generate = (int32_t)c->generate;
    r->adapters = b->host.n_adapters;
    r->step_bytes = step_bytes(m, b->host.compute);
    r->token_operations = token_operations(m);
    r->checkpoint_bytes = (double)m->file_bytes;
}

int cmd_bench(int argc, char **argv, char **envp)
{
    struct config c;
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("bench", argc, argv, envp, &c, &code))
        return code;
    struct bench b = {.config = &c};
    enum status s = open_bench(&b, &err);
    s = s ? s : measure(&b, &err);
    bool printed = true;
    if (!s) {
        describe(&b);
        printed =
            c.json ? cmd_print_json(bench_report_json(&b.result)) : bench_report_text(&b.result);
    }
    close_bench(&b);
    config_clear(&c);
    if (s)
        return cmd_refuse(&err);
    return printed ? EXIT_DONE : EXIT_REFUSED;
}
