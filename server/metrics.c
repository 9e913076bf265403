/*
 * GET /metrics: Prometheus text. Names mirror vLLM's behind the prefix oftd_; with
 * --metrics-compat vllm the ones that the Gateway API inference extension scrapes come a second
 * time behind `vllm:`.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/handlers.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/server.h"

static void head(struct buffer *b, const char *name, const char *type, const char *help)
{
    buffer_format(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void value(struct buffer *b, const char *name, const char *type, const char *help, double v)
{
    head(b, name, type, help);
    buffer_format(b, "%s %.17g\n", name, v);
}

static void histogram(struct buffer *b, const char *name, const char *help,
                      const struct histogram *h)
{
    uint64_t total = 0;
    head(b, name, "histogram", help);
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        total += h->counts[i];
        if (isinf(h->bounds[i]) || i == HISTOGRAM_BUCKETS - 1)
            break;
        buffer_format(b, "%s_bucket{le=\"%.9g\"} %llu\n", name, h->bounds[i],
                      (unsigned long long)total);
    }
    buffer_format(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
                  (unsigned long long)h->count, name, h->sum, name, (unsigned long long)h->count);
}

/* A label's value: what Prometheus escapes. */
static void label(struct buffer *b, const char *key, const char *text)
{
    buffer_format(b, "%s=\"", key);
    for (; text && *text; text++) {
        if (*text == '\\' || *text == '"')
            buffer_add(b, "\\", 1);
        buffer_add(b, *text == '\n' ? " " : text, 1);
    }
    buffer_text(b, "\"");
}

static void finished(struct buffer *b, const char *name, const struct engine_stats *s)
{
    static const struct {
        enum finish_reason reason;
        const char *word;
    } reasons[] = {{FINISH_STOP, "stop"},
                   {FINISH_LENGTH, "length"},
                   {FINISH_CANCELLED, "abort"},
                   {FINISH_ERROR, "error"}};
    head(b, name, "counter", "Choices that ended, by reason.");
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        buffer_format(b, "%s{finished_reason=\"%s\"} %llu\n", name, reasons[i].word,
                      (unsigned long long)s->finished[reasons[i].reason]);
}

/* max_lora: distinct adapters that one batch can hold, which is as many as there are sequences. */
static void lora_info(struct buffer *b, const char *name, int32_t max_sequences,
                      const struct engine_stats *s)
{
    char max[16];
    snprintf(max, sizeof max, "%d", max_sequences);
    head(b, name, "gauge", "Adapters with running and waiting requests; the value is the time.");
    buffer_format(b, "%s{", name);
    label(b, "max_lora", max);
    buffer_text(b, ",");
    label(b, "running_lora_adapters", s->running_names);
    buffer_text(b, ",");
    label(b, "waiting_lora_adapters", s->waiting_names);
    buffer_format(b, "} %lld\n", (long long)time(NULL));
}

/* What both prefixes share: PREFIX name. */
static void mirrored(struct buffer *b, const char *p, int32_t max_sequences,
                     const struct engine_stats *s)
{
    char n[80];
#define NAME(x) (snprintf(n, sizeof n, "%s%s", p, x), n)
    value(b, NAME("num_requests_running"), "gauge", "Sequences that run.", s->running);
    value(b, NAME("num_requests_waiting"), "gauge", "Requests that wait.", s->waiting);
    value(b, NAME("prompt_tokens_total"), "counter", "Prompt tokens.", (double)s->prompt_tokens);
    value(b, NAME("generation_tokens_total"), "counter", "Generated tokens.",
          (double)s->generated_tokens);
    value(b, NAME("spec_decode_num_drafts_total"), "counter", "Guesses that were computed.",
          (double)s->drafts);
    value(b, NAME("spec_decode_num_draft_tokens_total"), "counter", "Tokens of them.",
          (double)s->draft_tokens);
    value(b, NAME("spec_decode_num_accepted_tokens_total"), "counter", "Those that were right.",
          (double)s->accepted_tokens);
    histogram(b, NAME("time_to_first_token_seconds"), "From submission to the first token.",
              &s->time_to_first_token);
    histogram(b, NAME("e2e_request_latency_seconds"), "From submission to the end.",
              &s->end_to_end);
    finished(b, NAME("request_success_total"), s);
    lora_info(b, NAME("lora_requests_info"), max_sequences, s);
#undef NAME
}

static void adapters(struct buffer *b, struct engine *e)
{
    static const char *const tiers[] = {"loading", "memory", "draining", "failed", "disk"};
    struct adapter_info *v = NULL;
    size_t n = 0;
    head(b, "oftd_adapter_loaded", "gauge", "Adapters by where they are.");
    if (engine_adapter_list(e, false, &v, &n, NULL))
        return;
    for (size_t i = 0; i < n; i++) {
        buffer_text(b, "oftd_adapter_loaded{");
        label(b, "adapter", v[i].name);
        buffer_text(b, ",");
        label(b, "tier", tiers[v[i].state]);
        buffer_text(b, ",");
        label(b, "pinned", v[i].pinned ? "true" : "false");
        buffer_format(b, "} %d\n", v[i].state == ADAPTER_READY);
        adapter_info_clear(&v[i]);
    }
    free(v);
}

/* What only vLLM's names have. */
static void vllm_figures(struct buffer *b, const struct engine_stats *s)
{
    value(b, "vllm:gpu_cache_usage_perc", "gauge", "Share of the KV cache in use.", s->kv_usage);
    value(b, "vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use.", s->kv_usage);
    histogram(b, "vllm:inter_token_latency_seconds", "Between tokens.", &s->inter_token);
    head(b, "vllm:cache_config_info", "gauge", "Tokens of a KV page, and pages.");
    buffer_format(b, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%llu\"} 1\n",
                  KV_PAGE, (unsigned long long)s->kv_pages);
}

static void engine_figures(struct buffer *b, struct engine *e, bool vllm)
{
    struct engine_stats s;
    engine_stats(e, &s);
    int32_t max_sequences = engine_options(e)->max_sequences;
    mirrored(b, "oftd_", max_sequences, &s);
    value(b, "oftd_kv_cache_usage_ratio", "gauge", "Share of the KV pages in use.", s.kv_usage);
    histogram(b, "oftd_inter_token_latency_seconds", "Between tokens of a choice.", &s.inter_token);
    histogram(b, "oftd_request_queue_time_seconds", "From submission to admission.", &s.queue_time);
    histogram(b, "oftd_adapter_load_seconds", "Loading an adapter.", &s.adapter_load);
    value(b, "oftd_cached_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
          (double)s.cached_tokens);
    value(b, "oftd_preemptions_total", "counter", "Sequences that gave up their KV pages.",
          (double)s.preemptions);
    value(b, "oftd_steps_total", "counter", "Steps of the worker.", (double)s.steps);
    value(b, "oftd_step_seconds_total", "counter", "Time of these steps.", s.step_seconds);
    value(b, "oftd_pass_seconds_total", "counter", "Of that, in passes through the model.",
          s.pass_seconds);
    value(b, "oftd_kv_pages", "gauge", "KV pages.", (double)s.kv_pages);
    value(b, "oftd_kv_page_bytes", "gauge", "Bytes of a KV page.", (double)s.kv_page_bytes);
    value(b, "oftd_weight_bytes", "gauge", "Bytes of the base's weights.", (double)s.weight_bytes);
    value(b, "oftd_merge_bytes", "gauge", "Bytes of merged copies.", (double)s.merge_bytes);
    value(b, "oftd_adapter_working_set", "gauge", "Bytes of resident adapters.",
          (double)s.adapters.bytes);
    value(b, "oftd_adapter_memory_bytes", "gauge", "Their budget.", (double)s.adapters.budget);
    value(b, "oftd_adapter_loads_total", "counter", "Adapters loaded.", (double)s.adapters.loads);
    value(b, "oftd_adapter_evictions_total", "counter", "Adapters evicted.",
          (double)s.adapters.evictions);
    value(b, "oftd_adapter_load_failures_total", "counter", "Adapters refused.",
          (double)s.adapters.failures);
    adapters(b, e);
    if (vllm) {
        mirrored(b, "vllm:", max_sequences, &s);
        vllm_figures(b, &s);
    }
}

static void http_figures(struct buffer *b, const struct server *s)
{
    head(b, "oftd_http_requests_total", "counter", "Answers by status.");
    for (int i = 0; i < HTTP_STATUS_MAX; i++) {
        unsigned long long n = atomic_load(&s->counters.by_status[i]);
        if (n)
            buffer_format(b, "oftd_http_requests_total{code=\"%d\"} %llu\n", i, n);
    }
    value(b, "oftd_http_disconnects_total", "counter", "Clients that left before the end.",
          (double)atomic_load(&s->counters.disconnects));
    value(b, "oftd_http_reply_bytes_total", "counter", "Bytes of bodies sent.",
          (double)atomic_load(&s->counters.reply_bytes));
    value(b, "oftd_log_lines_dropped_total", "counter", "Log lines that nobody read.",
          (double)log_dropped(s->log));
    struct http *http = atomic_load(&s->http);
    if (!http)
        return;
    struct http_stats h;
    http_stats(http, &h);
    value(b, "oftd_http_connections", "gauge", "Open connections.", (double)h.connections);
    value(b, "oftd_http_requests", "gauge", "Requests in work.", (double)h.requests);
    value(b, "oftd_http_body_bytes", "gauge", "Memory taken by bodies.", (double)h.body_bytes);
}

void route_metrics(struct request *q)
{
    struct server *s = q->server;
    struct buffer b = {0};
    double progress;
    enum engine_state state = engine_state(s->engine, &progress);
    bool loaded = state == ENGINE_READY || state == ENGINE_DRAINING;
    value(&b, "oftd_up", "gauge", "1: requests are taken.", !engine_check(s->engine, NULL));
    head(&b, "oftd_build_info", "gauge", "Version and kernels.");
    buffer_text(&b, "oftd_build_info{");
    label(&b, "version", OFTD_VERSION);
    buffer_text(&b, ",");
    label(&b, "isa", s->isa);
    buffer_text(&b, ",");
    label(&b, "device", s->device);
    buffer_text(&b, "} 1\n");
    value(&b, "oftd_start_time_seconds", "gauge", "When the daemon started.", s->started);
    http_figures(&b, s);
    if (loaded)
        engine_figures(&b, s->engine, s->options.metrics_vllm);
    reply_buffer(q, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}
