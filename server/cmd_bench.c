/*
 * `oftd bench`: prefill and decode in tokens a second through the engine itself, beside what the
 * machine gives in the same minute (probe.h) and the ratios to that. Prompts are random ids, other
 * ones each round, so no prefix is found again. The best round counts.
 *
 *   decode   bytes of weights that a step reads, times steps a second, over the read bandwidth
 *   prefill  2 operations a weight and token, times tokens a second, over the fp32 peak
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "backends/kernels/probe.h"
#include "core/engine.h"
#include "core/model/view.h"
#include "server/cmd_common.h"

struct bench {
    const struct config *config;
    char *dir;
    struct layer_range *replication;
    struct kernels *exact, *fast, *loader;
    struct adapter_request *adapters; /* .path is malloc'ed */
    size_t n_adapters;
    struct engine *engine;
    enum compute compute;
    uint64_t random;
    double prefill, decode; /* tokens a second, the best round */
    double bandwidth, peak; /* bytes, operations a second */
};

/* ---- one sequence ---- */

struct run {
    struct ticket *ticket;
    size_t tokens; /* seen */
    bool ended;
};

/* Wakes of all sequences of a round. */
struct bell {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t count;
};

static void ring(void *arg)
{
    struct bell *b = arg;
    pthread_mutex_lock(&b->lock);
    b->count++;
    pthread_cond_signal(&b->rung);
    pthread_mutex_unlock(&b->lock);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int32_t random_id(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((b->random >> 33) % (uint64_t)engine_model(b->engine)->vocab);
}

static enum status submit(struct bench *b, size_t i, int32_t max_tokens, struct run *run,
                          struct error *err)
{
    size_t n = (size_t)b->config->prompt;
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids)
        return error_memory(err, "making a prompt");
    for (size_t k = 0; k < n; k++)
        ids[k] = random_id(b);
    const struct prompt prompt = {.ids = ids, .n_ids = n};
    const char *name = b->n_adapters ? b->adapters[i % b->n_adapters].name : NULL;
    const struct generate_request r = {.prompts = &prompt,
                                       .n_prompts = 1,
                                       .adapters = &name,
                                       .n_adapters = name ? 1 : 0,
                                       .n = 1,
                                       .max_tokens = max_tokens,
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
                                       .compute = (int)b->compute};
    enum status s = engine_generate(b->engine, &r, &run->ticket, err);
    free(ids);
    return s;
}

/* Reads what is there; then the bell is armed, or there was something more. */
static bool drain(struct run *run, struct bell *bell)
{
    struct piece piece;
    run->ended =
        ticket_ended(run->ticket); /* asked first: pieces that came before are read below */
    while (ticket_read(run->ticket, &piece))
        run->tokens += piece.n_tokens;
    return run->ended || ticket_wait(run->ticket, TICKET_EVENT, ring, bell);
}

/* ---- one round ---- */

struct moments {
    double start, first, end; /* first: every sequence has its first token */
    size_t tokens_at_first, tokens;
};

static void follow(struct run *runs, size_t n, struct moments *m)
{
    struct bell bell = {.lock = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER};
    uint64_t seen = 0;
    for (bool running = true; running;) {
        bool all_started = true;
        running = false;
        m->tokens = 0;
        for (size_t i = 0; i < n; i++) {
            while (!runs[i].ended && !drain(&runs[i], &bell))
                ;
            running |= !runs[i].ended;
            all_started &= runs[i].tokens > 0;
            m->tokens += runs[i].tokens;
        }
        m->end = now();
        if (all_started && !m->first) {
            m->first = m->end;
            m->tokens_at_first = m->tokens;
        }
        pthread_mutex_lock(&bell.lock);
        while (running && bell.count == seen)
            pthread_cond_wait(&bell.rung, &bell.lock);
        seen = bell.count;
        pthread_mutex_unlock(&bell.lock);
    }
}

static enum status round_of(struct bench *b, int32_t max_tokens, struct moments *m,
                            struct error *err)
{
    size_t n = (size_t)b->config->batch;
    struct run *runs = calloc(n, sizeof *runs);
    if (!runs)
        return error_memory(err, "benching");
    enum status s = ST_OK;
    *m = (struct moments){.start = now()};
    for (size_t i = 0; i < n && !s; i++)
        s = submit(b, i, max_tokens, &runs[i], err);
    if (!s)
        follow(runs, n, m);
    for (size_t i = 0; i < n && !s; i++)
        s = ticket_status(runs[i].ticket, err);
    for (size_t i = 0; i < n; i++)
        ticket_free(runs[i].ticket);
    free(runs);
    return s;
}

static enum status measure(struct bench *b, struct error *err)
{
    const struct config *c = b->config;
    for (int64_t i = 0; i <= c->repeat; i++) { /* round 0 warms up */
        struct moments prefill = {0}, decode = {0};
        cmd_progress("measuring", (double)i / (double)(c->repeat + 1));
        enum status s = round_of(b, 1, &prefill, err);
        s = s ? s : round_of(b, (int32_t)c->generate, &decode, err);
        if (s)
            return s;
        double rate = (double)(c->prompt * c->batch) / (prefill.end - prefill.start);
        if (i && rate > b->prefill)
            b->prefill = rate;
        rate = (double)(decode.tokens - decode.tokens_at_first) / (decode.end - decode.first);
        if (i && decode.end > decode.first && rate > b->decode)
            b->decode = rate;
    }
    cmd_progress_end();
    return ST_OK;
}

/* ---- opening ---- */

static enum status open_bench(struct bench *b, struct error *err)
{
    const struct config *c = b->config;
    const char *isa = cmd_isa(c);
    b->compute = c->compute == CONFIG_COMPUTE_EXACT ? COMPUTE_EXACT : COMPUTE_FAST;
    b->adapters = calloc(c->adapter.n + 1, sizeof *b->adapters);
    enum status s = b->adapters ? ST_OK : error_memory(err, "benching");
    s = s ? s : cmd_check_supported(c, err);
    s = s ? s : checkpoint_locate(c->model, &b->dir, err);
    for (size_t i = 0; i < c->adapter.n && !s; i++) {
        char *path = NULL;
        s = checkpoint_locate(c->adapter.v[i].value, &path, err);
        if (!s)
            b->adapters[b->n_adapters++] = (struct adapter_request){
                .name = c->adapter.v[i].name, .path = path, .trusted = true, .pinned = true};
    }
    s = s ? s : cmd_replication(c, &b->replication, err);
    s = s ? s : cpu_kernels_open(isa, COMPUTE_EXACT, (int)c->threads, &b->exact, err);
    s = s ? s : cpu_kernels_share(b->exact, COMPUTE_FAST, &b->fast, err);
    s = s ? s : cpu_kernels_open(isa, COMPUTE_EXACT, 1, &b->loader, err);
    const struct engine_options options = {
        .model_dir = b->dir,
        .chain = &chain_default,
        .kernels = {.exact = b->exact, .fast = b->fast, .loader = b->loader},
        .model = {.replication = b->replication,
                  .n_replication = c->layer_replication.n,
                  .max_len = c->max_model_len,
                  .conv2d_peft = c->conv2d == CONFIG_CONV2D_PEFT},
        .compute_generate = b->compute,
        .compute_forward = b->compute,
        .adapters = b->adapters,
        .n_adapters = b->n_adapters,
        .adapter = {.permissive = c->adapter_checks == CONFIG_CHECKS_PERMISSIVE,
                    .neumann_peft = c->neumann_series == CONFIG_NEUMANN_PEFT},
        .kv_memory = c->kv_memory,
        .adapter_memory = c->adapter_memory,
        .max_rows = (int32_t)c->max_batch_rows,
        .prefill_chunk = (int32_t)c->prefill_chunk,
        .max_sequences = (int32_t)(c->max_sequences > c->batch ? c->max_sequences : c->batch),
        .max_queue = (int32_t)c->batch + 1,
        .max_queue_tokens = (c->batch + 1) * (c->prompt + c->generate),
        .max_forward_rows = 1,
        .max_reply_bytes = 1,
        .max_n = 1,
        .intake_threads = 1};
    s = s ? s : engine_new(&options, &b->engine, err);
    s = s ? s : engine_load(b->engine, cmd_progress, "loading", err);
    cmd_progress_end();
    return s;
}

static void close_bench(struct bench *b)
{
    engine_free(b->engine);
    struct kernels *tables[] = {b->loader, b->fast, b->exact};
    for (size_t i = 0; i < 3; i++)
        if (tables[i])
            tables[i]->close(tables[i]);
    for (size_t i = 0; i < b->n_adapters; i++)
        free((char *)b->adapters[i].path);
    free(b->adapters);
    free(b->replication);
    free(b->dir);
}

/* ---- figures ---- */

/* Weights that every token multiplies with: all but pure lookups. */
static bool multiplied(const struct model *m, size_t i)
{
    return !m->modules[i].input_embedding;
}

static double step_bytes(const struct model *m)
{
    double bytes = 0;
    for (size_t i = 0; i < m->n_modules; i++)
        if (multiplied(m, i))
            bytes += (double)weight_bytes(m->base->weights[i]);
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

static void report(const struct bench *b)
{
    const struct config *c = b->config;
    const struct model *m = engine_model(b->engine);
    double steps = b->decode / (double)c->batch;
    double bytes_ratio = b->bandwidth > 0 ? step_bytes(m) * steps / b->bandwidth : 0;
    double peak_ratio = b->peak > 0 ? token_operations(m) * b->prefill / b->peak : 0;
    const char *mode = b->compute == COMPUTE_FAST ? "fast" : "exact";
    if (c->json) {
        cmd_print_json(json_pack(
            "{s:s, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:{s:f, s:f}, s:{s:f, s:f, s:f}, "
            "s:{s:f, s:f}}",
            "model", engine_name(b->engine), "architecture", m->architecture, "isa", b->exact->isa,
            "threads", b->exact->threads, "compute", mode, "adapters", (json_int_t)b->n_adapters,
            "batch", (json_int_t)c->batch, "prompt", (json_int_t)c->prompt, "generate",
            (json_int_t)c->generate, "prefill", "tokens_per_second", b->prefill,
            "ratio_to_fp32_peak", peak_ratio, "decode", "tokens_per_second", b->decode,
            "bytes_per_step", step_bytes(m), "ratio_to_read_bandwidth", bytes_ratio, "probes",
            "read_bytes_per_second", b->bandwidth, "fp32_operations_per_second", b->peak));
        return;
    }
    printf("%s: %s, %s, %d threads, %s, %zu adapters\n", engine_name(b->engine), m->architecture,
           b->exact->isa, b->exact->threads, mode, b->n_adapters);
    printf("  prefill %10.1f tokens/s   %5.2f of the fp32 peak, %.1f GFLOP/s (batch %lld, prompt "
           "%lld)\n",
           b->prefill, peak_ratio, b->peak / 1e9, (long long)c->batch, (long long)c->prompt);
    printf("  decode  %10.1f tokens/s   %5.2f of the read bandwidth, %.1f GB/s (%.1f MB a step)\n",
           b->decode, bytes_ratio, b->bandwidth / 1e9, step_bytes(m) / 1e6);
}

int cmd_bench(int argc, char **argv, char **envp)
{
    struct config c;
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("bench", argc, argv, envp, &c, &code))
        return code;
    struct bench b = {.config = &c, .random = 1};
    enum status s = open_bench(&b, &err);
    s = s ? s : measure(&b, &err);
    if (!s) {
        b.bandwidth = probe_read_bandwidth(b.exact->threads);
        b.peak = probe_fp32_peak(b.exact->threads);
        report(&b);
    }
    close_bench(&b);
    config_clear(&c);
    return s ? cmd_refuse(&err) : EXIT_DONE;
}
