/*
 * A route is a row. Everything that is policy about it (who may, how large, which fields, whether
 * the model must be there) stands in the row and is applied here, so that handlers only do their
 * work.
 */
#include "server/routes.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/json.h"
#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

#define SMALL_BODY (1024 * 1024)
#define NO_BODY    (64 * 1024) /* read and ignored */

/* clang-format off */
const struct route routes[] = {
    {"GET", "/", PLANE_PUBLIC, true, route_page, FIELDS_none, false, "", "text/html", "The page"},
    {"GET", "/page/{file}", PLANE_PUBLIC, true, route_page_file, FIELDS_none, false, "", "*/*", "A file of the page"},
    {"GET", "/health", PLANE_PUBLIC, true, route_health, FIELDS_none, false, "", "Health", "Ready?"},
    {"GET", "/v2/health/live", PLANE_PUBLIC, true, route_v2_live, FIELDS_none, false, "", "Live", "Alive?"},
    {"GET", "/v2/health/ready", PLANE_PUBLIC, true, route_v2_ready, FIELDS_none, false, "", "Ready", "Ready?"},
    {"GET", "/metrics", PLANE_PUBLIC, true, route_metrics, FIELDS_none, false, "", "text/plain", "Prometheus text"},
    {"GET", "/openapi.json", PLANE_PUBLIC, true, route_openapi, FIELDS_none, false, "", "Any", "This description"},

    {"GET", "/v1/models", PLANE_INFER, false, route_models, FIELDS_none, false, "", "ModelList", "The base and the loaded adapters"},
    {"GET", "/v1/models/{id}", PLANE_INFER, false, route_model_by_id, FIELDS_none, false, "", "Model", "One of them"},
    {"GET", "/v1/model", PLANE_INFER, false, route_model, FIELDS_none, false, "", "Network", "Architecture, modules, kernels"},
    {"GET", "/props", PLANE_INFER, false, route_props, FIELDS_none, false, "", "Any", "Properties"},
    {"POST", "/v1/completions", PLANE_INFER, false, route_completions, FIELDS_completions, true, "", "Completion", "Generate"},
    {"POST", "/v1/forward", PLANE_INFER, false, route_forward, FIELDS_forward, true, "", "Forward", "The raw pass"},
    {"POST", "/tokenize", PLANE_INFER, false, route_tokenize, FIELDS_tokenize, true, "", "Tokens", "Text to ids"},
    {"POST", "/detokenize", PLANE_INFER, false, route_detokenize, FIELDS_detokenize, true, "", "Content", "Ids to text"},
    {"POST", "/v1/chat/completions", PLANE_INFER, false, route_chat_completions, FIELDS_chat_completions, true, "", "ChatCompletion", "Chat"},
    {"POST", "/v1/responses", PLANE_INFER, false, route_responses, FIELDS_responses, true, "", "Response", "A response that is not kept"},
    {"POST", "/v1/embeddings", PLANE_INFER, false, route_embeddings, FIELDS_embeddings, true, "", "Embeddings", "Texts to vectors"},
    {"POST", "/v1/score", PLANE_INFER, false, route_score, FIELDS_score, true, "", "Scores", "Pairs of texts to scores"},
    {"POST", "/v1/rerank", PLANE_INFER, false, route_rerank, FIELDS_rerank, true, "", "Ranking", "Documents by their score"},
    {"POST", "/apply-template", PLANE_INFER, false, route_apply_template, FIELDS_apply_template, true, "", "Prompt", "Render a chat"},
    {"GET", "/v2", PLANE_INFER, true, route_v2_server, FIELDS_none, false, "", "V2Server", "Server metadata"},
    {"GET", "/v2/models/{model}", PLANE_INFER, false, route_v2_metadata, FIELDS_none, false, "", "V2Model", "Model metadata"},
    {"GET", "/v2/models/{model}/ready", PLANE_INFER, false, route_v2_model_ready, FIELDS_none, false, "", "V2Ready", "Model ready?"},
    {"POST", "/v2/models/{model}/infer", PLANE_INFER, false, route_v2_infer, FIELDS_infer, true, "", "V2Infer", "The raw pass on tensors"},
    {"GET", "/v2/models/{model}/versions/{version}", PLANE_INFER, false, route_v2_metadata, FIELDS_none, false, "", "V2Model", "Model metadata"},
    {"GET", "/v2/models/{model}/versions/{version}/ready", PLANE_INFER, false, route_v2_model_ready, FIELDS_none, false, "", "V2Ready", "Model ready?"},
    {"POST", "/v2/models/{model}/versions/{version}/infer", PLANE_INFER, false, route_v2_infer, FIELDS_infer, true, "", "V2Infer", "The raw pass on tensors"},
    {"POST", "/v2/models/{model}/generate", PLANE_INFER, false, route_v2_generate, FIELDS_generate, true, "", "V2Generated", "Text from text"},
    {"POST", "/v2/models/{model}/versions/{version}/generate", PLANE_INFER, false, route_v2_generate, FIELDS_generate, true, "", "V2Generated", "Text from text"},
    {"POST", "/v2/models/{model}/generate_stream", PLANE_INFER, false, route_v2_generate_stream, FIELDS_generate, true, "", "text/event-stream", "Text from text"},
    {"POST", "/v2/models/{model}/versions/{version}/generate_stream", PLANE_INFER, false, route_v2_generate_stream, FIELDS_generate, true, "", "text/event-stream", "Text from text"},

    {"GET", "/v1/adapters", PLANE_ADMIN, false, route_adapters_list, FIELDS_none, false, "available:boolean", "AdapterList", "Loaded, and available in the roots"},
    {"POST", "/v1/adapters", PLANE_ADMIN, false, route_adapters_load, FIELDS_load, false, "wait:boolean", "Adapter", "Load or replace"},
    {"POST", "/v1/adapters:batch", PLANE_ADMIN, false, route_adapters_batch, FIELDS_batch, false, "", "Batch", "All or nothing"},
    {"POST", "/v1/adapters:validate", PLANE_ADMIN, false, route_adapters_validate, FIELDS_load, false, "", "Validation", "Every finding, nothing loaded"},
    {"GET", "/v1/adapters/{name}", PLANE_ADMIN, false, route_adapters_get, FIELDS_none, false, "", "Adapter", "One adapter"},
    {"DELETE", "/v1/adapters/{name}", PLANE_ADMIN, false, route_adapters_unload, FIELDS_none, false, "timeout_s:number", "Unloaded", "Drain and free"},
    {"POST", "/v1/load_lora_adapter", PLANE_ADMIN, false, route_lora_load, FIELDS_load_lora, false, "", "text/plain", "As vLLM does"},
    {"POST", "/v1/unload_lora_adapter", PLANE_ADMIN, false, route_lora_unload, FIELDS_unload_lora, false, "", "text/plain", "As vLLM does"},
    {"POST", "/adapters", PLANE_ADMIN, false, route_sagemaker_load, FIELDS_load_sagemaker, false, "", "text/plain", "As SageMaker's containers do"},
    {"DELETE", "/adapters/{name}", PLANE_ADMIN, false, route_sagemaker_unload, FIELDS_none, false, "", "text/plain", "As SageMaker's containers do"},
    {"POST", "/v1/merge", PLANE_ADMIN, false, route_merge, FIELDS_merge, false, "", "Merge", "Fold adapters into weights"},
    {"GET", "/v1/merge", PLANE_ADMIN, false, route_merges, FIELDS_none, false, "", "MergeList", "What is merged"},
    {"POST", "/v1/unmerge", PLANE_ADMIN, false, route_unmerge, FIELDS_unmerge, false, "", "Unmerge", "The original bytes again"},
    {"POST", "/v1/export", PLANE_ADMIN, false, route_export, FIELDS_export, false, "", "Export", "Write a checkpoint"},
    {"POST", "/v2/repository/index", PLANE_ADMIN, false, route_v2_index, FIELDS_repository_index, false, "", "V2Index", "The base and the adapters"},
    {"POST", "/v2/repository/models/{model}/load", PLANE_ADMIN, false, route_v2_load, FIELDS_repository_load, false, "", "V2Loaded", "Load or reload"},
    {"POST", "/v2/repository/models/{model}/unload", PLANE_ADMIN, false, route_v2_unload, FIELDS_repository_unload, false, "", "V2Unloaded", "Drain and free"},
};
/* clang-format on */
const size_t n_routes = sizeof routes / sizeof routes[0];

/* ---- finding a row ---- */

/* Matches path to pattern; parameters are copied to the request's arena. */
static bool match(struct request *q, const char *pattern)
{
    const char *p = q->path;
    size_t n = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *p++)
                return false;
            continue;
        }
        size_t len = strcspn(p, "/");
        if (!len)
            return false;
        q->params[n++] = arena_strndup(&q->arena, p, len);
        p += len;
        pattern = strchr(pattern, '}') + 1;
    }
    return !*p;
}

/* HEAD is a GET without a body. */
static bool same_method(const struct request *q, const struct route *r)
{
    const char *method = strcmp(q->method, "HEAD") ? q->method : "GET";
    return !strcmp(method, r->method);
}

static bool hidden(const struct request *q, const struct route *r)
{
    return r->plane == PLANE_ADMIN && q->role.has_admin;
}

/* The row, or NULL; allow collects the methods of the path ("GET, HEAD, POST"). */
static const struct route *find(struct request *q, char *allow, size_t size)
{
    const struct route *found = NULL;
    allow[0] = 0;
    for (size_t i = 0; i < n_routes && !found; i++) {
        const struct route *r = &routes[i];
        if (hidden(q, r) || !match(q, r->pattern))
            continue;
        if (same_method(q, r))
            found = r;
        size_t n = strlen(allow);
        snprintf(allow + n, size - n, "%s%s%s", n ? ", " : "", r->method,
                 strcmp(r->method, "GET") ? "" : ", HEAD");
    }
    return found;
}

/* ---- before a handler ---- */

static void make_id(char *id, size_t size)
{
    uint8_t r[16] = {0};
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) {
        static atomic_ullong counter;
        uint64_t c = atomic_fetch_add(&counter, 1);
        memcpy(r, &c, sizeof c);
    }
    size_t n = (size_t)snprintf(id, size, "req-");
    for (size_t i = 0; i < sizeof r; i++)
        n += (size_t)snprintf(id + n, size - n, "%02x", r[i]);
}

/* A client's own id is taken when it is short and harmless in headers, logs and JSON. */
static void name_request(struct request *q)
{
    const char *id = request_header(q, "X-Request-Id");
    size_t n = id ? strlen(id) : 0;
    if (n && n <= REQUEST_ID_MAX &&
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/+=@-") == n)
        memcpy(q->id, id, n + 1);
    else
        make_id(q->id, sizeof q->id);
}

static void add_cors(struct request *q, const char *origin)
{
    reply_header(q, "Access-Control-Allow-Origin", origin);
    reply_header(q, "Vary", "Origin");
    reply_header(q, "Access-Control-Expose-Headers",
                 "x-request-id, x-adapter-id, x-adapter-digest, x-queue-time-ms, "
                 "x-time-to-first-token-ms, x-prompt-tokens, x-generated-tokens, traceparent, "
                 "Inference-Header-Content-Length");
}

static void answer_options(struct request *q, const char *allow, bool cors)
{
    struct buffer nothing = {0};
    char methods[80];
    snprintf(methods, sizeof methods, "%s, OPTIONS", allow);
    reply_header(q, "Allow", methods);
    if (cors) {
        reply_header(q, "Access-Control-Allow-Methods", methods);
        reply_header(q, "Access-Control-Allow-Headers",
                     "Authorization, Content-Type, X-Request-Id, traceparent, "
                     "Inference-Header-Content-Length");
        reply_header(q, "Access-Control-Max-Age", "600");
    }
    reply_buffer(q, 204, NULL, &nothing);
}

static enum status check_origin(struct request *q, struct error *err)
{
    struct server *s = q->server;
    const struct origin_policy policy = {
        .allowed = s->options.allowed_origins,
        .n_allowed = s->options.n_allowed_origins,
        .loopback_hosts_only = auth_keyless(s->auth) && q->role.loopback && !q->role.local_socket};
    const char *origin = request_header(q, "Origin");
    bool cors;
    enum status code = origin_check(&policy, origin, request_header(q, "Host"), &cors, err);
    if (cors)
        add_cors(q, origin);
    return code;
}

/* How much of the body is JSON: all, or what the header of the inference protocol says, and the
 * bytes of tensors follow. */
static enum status read_json_length(struct request *q, struct error *err)
{
    static const char name[] = "Inference-Header-Content-Length";
    const char *v = q->route->body == FIELDS_infer ? request_header(q, name) : NULL;
    char *end = NULL;
    if (!v)
        return ST_OK;
    errno = 0;
    unsigned long long n = *v >= '0' && *v <= '9' ? strtoull(v, &end, 10) : 0;
    if (!end || *end || errno || n >= SIZE_MAX)
        return error_param(err, ST_INVALID_VALUE, name, "%s: a number of bytes is expected", name);
    q->json_len = (size_t)n;
    return ST_OK;
}

static enum status check_route(struct request *q, const char *allow, struct error *err)
{
    if (!*allow)
        return error_set(err, ST_ROUTE_NOT_FOUND, "no such route: %.200s", q->path);
    if (!q->route) {
        reply_header(q, "Allow", allow);
        return error_set(err, ST_METHOD_NOT_ALLOWED, "%.20s is not allowed here, but %s", q->method,
                         allow);
    }
    struct server *s = q->server;
    bool exposed = !q->role.loopback && !q->role.admin && !q->role.has_admin;
    enum status code = auth_check(s->auth, q->route->plane, request_header(q, "Authorization"),
                                  exposed, q->key, err);
    if (!code && !q->route->before_ready)
        code = engine_check(s->engine, err);
    return code ? code : read_json_length(q, err);
}

static double monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

size_t routes_begin(struct request *q)
{
    struct error err = ERROR_INIT;
    char allow[64];
    q->started = monotonic();
    q->json_len = SIZE_MAX;
    name_request(q);
    reply_header(q, "X-Request-Id", q->id);
    const char *trace = request_header(q, "traceparent");
    if (trace_parent(trace, q->trace_id))
        reply_header(q, "traceparent", trace);
    enum status s = check_origin(q, &err);
    q->route = s ? NULL : find(q, allow, sizeof allow);
    if (!s && !strcmp(q->method, "OPTIONS") && *allow)
        answer_options(q, allow, request_header(q, "Origin") != NULL);
    else if (!s)
        s = check_route(q, allow, &err);
    if (s)
        reply_error(q, &err);
    if (q->reply.status)
        return 0;
    if (q->route->large_body)
        return q->server->options.max_body_bytes;
    return q->route->body ? SMALL_BODY : NO_BODY;
}

void routes_too_large(struct request *q, size_t limit)
{
    reply_failure(q, ST_BODY_TOO_LARGE, NULL, "the body has more than %zu bytes", limit);
}

static enum status parse_body(struct request *q, struct error *err)
{
    enum status s = ST_OK;
    if (q->json_len == SIZE_MAX)
        q->json_len = q->body_len;
    if (q->json_len > q->body_len)
        return error_param(err, ST_INVALID_VALUE, "Inference-Header-Content-Length",
                           "Inference-Header-Content-Length is %zu, but the body has %zu bytes",
                           q->json_len, q->body_len);
    if (!q->json_len)
        q->json = json_object();
    else
        s = json_parse(q->body, q->json_len, q->server->options.json_depth, "the body", &q->json,
                       err);
    if (s == ST_CONFIG_DUPLICATE_KEY)
        s = err->code = ST_INVALID_JSON;
    if (!s && !q->json)
        s = error_memory(err, "reading the body");
    return s ? s : fields_check(q->route->body, q->json, err);
}

void routes_run(struct request *q)
{
    struct error err = ERROR_INIT;
    bool lacks_params = strchr(q->route->pattern, '{') && !q->params[0];
    if (lacks_params)
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
    else if (q->route->body && parse_body(q, &err))
        reply_error(q, &err);
    else
        q->route->handler(q);
}

/* ---- after a handler ---- */

static const char *header_sent(const struct request *q, const char *name)
{
    for (const struct reply_header *h = q->reply.headers; h; h = h->next)
        if (!strcmp(h->name, name))
            return h->value;
    return NULL;
}

void routes_done(struct request *q)
{
    struct server *s = q->server;
    int status = q->reply.status;
    bool lost = q->hung_up || !status;
    if (lost)
        atomic_fetch_add(&s->counters.disconnects, 1);
    if (status > 0 && status < HTTP_STATUS_MAX)
        atomic_fetch_add(&s->counters.by_status[status], 1);
    atomic_fetch_add(&s->counters.reply_bytes, q->reply_bytes);
    struct ticket_times times = {-1, -1, -1};
    struct usage usage = {q->prompt_tokens, q->generated_tokens, 0};
    if (q->ticket) {
        ticket_times(q->ticket, &times);
        ticket_usage(q->ticket, &usage);
    }
    bool quiet = q->route && q->route->plane == PLANE_PUBLIC && status < 400;
    log_event(s->log, quiet ? LOG_DEBUG : LOG_INFO, "request", LOG_TEXT("id", q->id),
              LOG_TEXT("trace_id", q->trace_id), LOG_TEXT("method", q->method),
              LOG_TEXT("path", q->route ? q->path : "(unknown)"),
              LOG_INT("status", lost ? 499 : status), LOG_INT("bytes", (int64_t)q->reply_bytes),
              LOG_REAL("ms", 1e3 * (monotonic() - q->started)),
              LOG_REAL("queue_ms", 1e3 * times.admitted),
              LOG_REAL("first_token_ms", 1e3 * times.first_token), LOG_TEXT("key", q->key),
              LOG_TEXT("adapter", header_sent(q, "x-adapter-id")),
              LOG_INT("prompt_tokens", usage.prompt_tokens ? usage.prompt_tokens : -1),
              LOG_INT("generated_tokens", usage.generated_tokens ? usage.generated_tokens : -1));
}
