/*
 * `oftd serve`, the daemon: config -> chain -> engine -> listen -> load -> serve -> drain -> close.
 * It listens before it loads, so that health tells how far it is (a socket of the service manager's
 * is served when it has loaded: connections wait there); the line on standard output comes when
 * requests are taken. Signals are read as events by this thread: no handler runs anywhere.
 *
 * A device that fails is one of this thread's events, too: with --device-failure cpu the daemon
 * then closes all but its sockets and begins anew on the CPU, with the adapters that were loaded.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "backends/scheme.h"
#include "server/cmd_common.h"
#include "server/cmd_tables.h"
#include "server/http.h"
#include "server/server.h"
#include "server/systemd.h"

#define REPLY_GRACE_MS 5000 /* for replies that are being sent when all work has ended */

struct daemon {
    const struct config *config;
    char *dir;
    struct layer_range *replication;
    struct scheme scheme; /* --quantize; zeroed: none */
    struct cmd_tables tables;
    struct adapter_request *adapters; /* --adapter; .path is malloc'ed */
    size_t n_adapters;
    struct engine *engine;
    struct server server;
    struct http *http;
    struct systemd_sockets passed;
    int signals; /* a signalfd */
    int fault;   /* an eventfd: the device has failed */
};

/* What a daemon that begins anew takes over. */
struct heritage {
    struct systemd_sockets sockets;
    struct adapter_info *adapters;
    size_t n;
};

/* ---- putting it together ---- */

static enum status find_adapters(struct daemon *d, struct error *err)
{
    const struct config_pairs *pairs = &d->config->adapter;
    d->adapters = calloc(pairs->n + 1, sizeof *d->adapters);
    if (!d->adapters)
        return error_memory(err, "reading the adapters");
    for (size_t i = 0; i < pairs->n; i++) {
        char *path = NULL;
        enum status s = checkpoint_locate(pairs->v[i].value, &path, err);
        if (s)
            return s;
        /* Pinned: a path from the command line is in no root, so it could not come back. */
        d->adapters[d->n_adapters++] = (struct adapter_request){
            .name = pairs->v[i].name, .path = path, .trusted = true, .pinned = true};
    }
    return ST_OK;
}

/* Before anything is loaded. That no name is given twice, the configuration has seen to. */
static enum status check_names(const struct daemon *d, struct error *err)
{
    static const char form[] = "letters, digits, '.', '_' and '-' are expected, at most 128, and a "
                               "letter or digit first";
    const char *base = d->config->served_model_name;
    if (base && !registry_name_valid(base))
        return error_param(err, ST_INVALID_VALUE, "--served-model-name",
                           "--served-model-name: '%.200s' is no name: %s", base, form);
    base = engine_name(d->engine);
    for (size_t i = 0; i < d->n_adapters; i++) {
        const char *name = d->adapters[i].name;
        if (!registry_name_valid(name))
            return error_param(err, ST_INVALID_VALUE, "--adapter",
                               "--adapter: '%.200s' is no name: %s", name, form);
        if (!strcmp(name, base))
            return error_param(err, ST_NAME_IN_USE, "--adapter",
                               "--adapter: '%s' is the name of the base", name);
    }
    return ST_OK;
}

static void on_failed(void *ctx)
{
    const struct daemon *d = ctx;
    uint64_t one = 1;
    while (write(d->fault, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static enum status open_engine(struct daemon *d, struct error *err)
{
    const struct config *c = d->config;
    const struct engine_options options = {
        .model_dir = d->dir,
        .served_name = c->served_model_name,
        .chain = &chain_default,
        .kernels = cmd_tables_engine(&d->tables),
        .spare_core = d->tables.host || d->tables.threads < cpu_threads(),
        .model = {.replication = d->replication,
                  .n_replication = c->layer_replication.n,
                  .max_len = c->max_model_len,
                  .conv2d_peft = c->conv2d == CONFIG_CONV2D_PEFT,
                  .quantize = c->quantize ? &d->scheme : NULL,
                  .head = c->head == CONFIG_HEAD_8 ? scheme_head8 : NULL,
                  .quantize_threads = d->tables.threads},
        .compute_generate = c->compute == CONFIG_COMPUTE_EXACT ? COMPUTE_EXACT : COMPUTE_FAST,
        .compute_forward = c->compute == CONFIG_COMPUTE_FAST ? COMPUTE_FAST : COMPUTE_EXACT,
        .adapters = d->adapters,
        .n_adapters = d->n_adapters,
        .failed = on_failed,
        .failed_ctx = d,
        .adapter_roots = (const char *const *)c->adapter_dir.v,
        .n_adapter_roots = c->adapter_dir.n,
        .autoload = c->autoload,
        .adapter = {.permissive = c->adapter_checks == CONFIG_CHECKS_PERMISSIVE,
                    .neumann_peft = c->neumann_series == CONFIG_NEUMANN_PEFT},
        .export_dir = c->export_dir,
        .kv_memory = c->kv_memory,
        .adapter_memory = c->adapter_memory,
        .merge_memory = c->merge_memory,
        .max_rows = (int32_t)c->max_batch_rows,
        .prefill_chunk = (int32_t)c->prefill_chunk,
        .prefill_stretch = c->prefill_stretch,
        .max_sequences = (int32_t)c->max_sequences,
        .speculate = c->speculate == CONFIG_SPECULATE_NGRAM,
        .kv_dtype = cmd_kv_dtype(c),
        .max_queue = (int32_t)c->max_queue,
        .max_queue_tokens = c->max_queue_tokens,
        .max_forward_rows = (int32_t)c->max_forward_rows,
        .max_reply_bytes = c->max_reply_bytes,
        .max_n = (int32_t)c->max_n,
        .intake_threads = (int32_t)c->intake_threads};
    return engine_new(&options, &d->engine, err);
}

static enum status open_server(struct daemon *d, struct error *err)
{
    static const enum log_level levels[] = {[CONFIG_LEVEL_DEBUG] = LOG_DEBUG,
                                            [CONFIG_LEVEL_INFO] = LOG_INFO,
                                            [CONFIG_LEVEL_WARN] = LOG_WARNING,
                                            [CONFIG_LEVEL_ERROR] = LOG_ERROR};
    const struct config *c = d->config;
    const struct log_options log = {.json = c->log_format == CONFIG_LOG_JSON,
                                    .level = levels[c->log_level],
                                    .fd = STDERR_FILENO};
    d->server.options =
        (struct server_options){.allowed_origins = (const char *const *)c->allowed_origin.v,
                                .n_allowed_origins = c->allowed_origin.n,
                                .max_body_bytes = c->max_body_bytes,
                                .json_depth = (int)c->max_json_depth,
                                .retry_after_s = 1,
                                .metrics_vllm = c->metrics_compat == CONFIG_METRICS_VLLM};
    d->server.engine = d->engine;
    d->server.started = (double)time(NULL);
    d->server.isa = d->tables.exact->isa;
    d->server.device = d->tables.exact->device;
    enum status s = auth_open(c->api_key_file, c->admin_key_file, &d->server.auth, err);
    return s ? s : log_open(&log, &d->server.log, err);
}

static enum status open_http(struct daemon *d, struct error *err)
{
    const struct config *c = d->config;
    const struct http_options options = {.listen = c->listen,
                                         .admin_listen = c->admin_listen,
                                         .listen_fd = d->passed.http,
                                         .admin_fd = d->passed.admin,
                                         .tls_cert = c->tls_cert,
                                         .tls_key = c->tls_key,
                                         .threads = (int)c->http_threads,
                                         .max_connections = (int)c->max_connections,
                                         .body_memory = c->body_memory,
                                         .header_timeout_s = (int)c->header_timeout,
                                         .idle_timeout_s = (int)c->idle_timeout,
                                         .write_timeout_s = (int)c->write_timeout};
    enum status s = http_start(&options, &d->server, &d->http, err);
    atomic_store(&d->server.http, d->http);
    return s;
}

/* As many connections as the configuration allows, if the machine lets us. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static enum status open_signals(struct daemon *d, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    d->signals = signalfd(-1, &set, SFD_CLOEXEC);
    return d->signals < 0 ? error_set(err, ST_IO_ERROR, "signalfd: %s", strerror(errno)) : ST_OK;
}

static enum status check_device(struct daemon *d, struct error *err)
{
    const struct config *c = d->config;
    if (c->device_failure == CONFIG_FAILURE_CPU && strcmp(c->device, "auto") != 0 &&
        strcmp(c->device, "cpu") != 0)
        return error_param(err, ST_INVALID_VALUE, "--device-failure",
                           "--device-failure cpu: --device %s asks for a GPU, auto does not",
                           c->device);
    d->fault = eventfd(0, EFD_CLOEXEC);
    return d->fault < 0 ? error_set(err, ST_IO_ERROR, "eventfd: %s", strerror(errno)) : ST_OK;
}

static enum status open_daemon(struct daemon *d, struct error *err)
{
    enum status s = open_signals(d, err);
    raise_descriptor_limit();
    s = s ? s : check_device(d, err);
    s = s ? s : checkpoint_locate(d->config->model, &d->dir, err);
    s = s ? s : find_adapters(d, err);
    s = s ? s : cmd_replication(d->config, &d->replication, err);
    if (!s && d->config->quantize)
        s = scheme_parse(d->config->quantize, &d->scheme, err);
    s = s ? s : cmd_tables_open(d->config, true, &d->tables, err);
    s = s ? s : open_engine(d, err);
    s = s ? s : check_names(d, err);
    s = s ? s : open_server(d, err);
    if (!d->passed.http && !d->passed.admin)
        s = s ? s : systemd_sockets(&d->passed, err);
    bool wait = d->passed.http || d->passed.admin; /* who comes early is not told 503 */
    return s || wait ? s : open_http(d, err);
}

static void close_daemon(struct daemon *d)
{
    if (d->engine)
        engine_drain(d->engine, 0);
    http_stop(d->http, REPLY_GRACE_MS);
    engine_free(d->engine);
    auth_close(d->server.auth);
    log_close(d->server.log);
    cmd_tables_close(&d->tables);
    for (size_t i = 0; i < d->n_adapters; i++)
        free((char *)d->adapters[i].path);
    free(d->adapters);
    free(d->replication);
    scheme_clear(&d->scheme);
    free(d->dir);
    if (d->signals >= 0)
        close(d->signals);
    if (d->fault >= 0)
        close(d->fault);
}

/* ---- running ---- */

struct loading {
    struct daemon *daemon;
    pthread_t thread;
    int done; /* an eventfd */
    atomic_bool stop;
    enum status status;
    struct error error;
};

static bool on_progress(void *arg, double done)
{
    struct loading *l = arg;
    cmd_progress("loading", done);
    return !atomic_load(&l->stop);
}

static void *load_main(void *arg)
{
    struct loading *l = arg;
    uint64_t one = 1;
    l->status = engine_load(l->daemon->engine, on_progress, l, &l->error);
    cmd_progress_end();
    while (write(l->done, &one, sizeof one) < 0 && errno == EINTR)
        ;
    return NULL;
}

static int read_signal(struct daemon *d)
{
    struct signalfd_siginfo info;
    ssize_t n = read(d->signals, &info, sizeof info);
    return n == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

static void reload(struct daemon *d)
{
    struct error err = ERROR_INIT;
    if (auth_reload(d->server.auth, &err))
        log_event(d->server.log, LOG_ERROR, "keys_kept", LOG_TEXT("message", err.text));
    else
        log_event(d->server.log, LOG_INFO, "reloaded", LOG_TEXT("what", "keys and roots"));
    error_clear(&err);
    if (!engine_check(d->engine, NULL))
        engine_rescan(d->engine);
}

/* A second signal ends the program at once, as it does by default. */
static void let_signals_kill(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Waits until the model is loaded. *stopped: a signal to stop came meanwhile, and the load ended
 * after the module or adapter that it was at; nothing has been taken yet that had to be drained. */
static enum status load(struct daemon *d, bool *stopped, struct error *err)
{
    struct loading l = {.daemon = d, .done = eventfd(0, EFD_CLOEXEC)};
    if (l.done < 0 || pthread_create(&l.thread, NULL, load_main, &l)) {
        if (l.done >= 0)
            close(l.done);
        return error_set(err, ST_OUT_OF_MEMORY, "the loading thread cannot be started");
    }
    struct pollfd p[] = {{.fd = l.done, .events = POLLIN}, {.fd = d->signals, .events = POLLIN}};
    while (!*stopped && !(p[0].revents & POLLIN)) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents & POLLIN) {
            int sig = read_signal(d);
            *stopped = sig == SIGTERM || sig == SIGINT;
        }
    }
    if (*stopped) {
        atomic_store(&l.stop, true);
        systemd_notify("STOPPING=1");
        log_event(d->server.log, LOG_INFO, "stopping", LOG_TEXT("message", "while loading"));
        let_signals_kill();
    }
    pthread_join(l.thread, NULL);
    close(l.done);
    if (*stopped && l.status == ST_CANCELLED) {
        error_clear(&l.error);
        return ST_OK;
    }
    error_move(err, &l.error);
    return l.status;
}

/* A chat template that cannot be run keeps nothing but conversations from being served. */
static void tell_of_chat(struct daemon *d)
{
    struct error err = ERROR_INIT;
    enum status s = engine_chat_template(d->engine, false, NULL, &err);
    if (s && s != ST_CHAT_TEMPLATE_MISSING)
        log_event(d->server.log, LOG_WARNING, "no_chat", LOG_TEXT("code", status_code(s)),
                  LOG_TEXT("message", err.text));
    error_clear(&err);
}

static void announce(struct daemon *d)
{
    const struct model *m = engine_model(d->engine);
    systemd_notify("READY=1");
    printf("oftd: listening on %s\n", http_url(d->http));
    fflush(stdout);
    log_event(d->server.log, LOG_INFO, "ready", LOG_TEXT("model", engine_name(d->engine)),
              LOG_TEXT("architecture", m->architecture), LOG_TEXT("device", d->server.device),
              LOG_TEXT("isa", d->server.isa), LOG_INT("threads", d->tables.threads),
              LOG_INT("weight_bytes", (int64_t)m->weight_bytes),
              LOG_TEXT("listen", http_url(d->http)),
              LOG_TEXT("admin_listen", http_admin_url(d->http)));
    tell_of_chat(d);
    if (auth_keyless(d->server.auth) && !http_loopback(d->http))
        log_event(d->server.log, LOG_WARNING, "open_to_all", LOG_TEXT("listen", http_url(d->http)),
                  LOG_TEXT("message", "everybody who reaches this address may infer"));
}

static void warn(struct daemon *d, const char *event, const char *message)
{
    log_event(d->server.log, LOG_WARNING, event, LOG_TEXT("message", message));
}

/* Whether the failed device's daemon may begin anew: nobody would see that a merge is gone. */
static bool may_begin_anew(struct daemon *d)
{
    struct merge_info *merges = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0;
    engine_check(d->engine, &err);
    bool wanted = d->config->device_failure == CONFIG_FAILURE_CPU;
    bool known = engine_merges(d->engine, &merges, &n, NULL) == ST_OK;
    merge_infos_free(merges, n);
    warn(d, "device_failed", err.text);
    if (wanted && (!known || n))
        warn(d, "not_restarted", "adapters are merged, which the CPU would not know of");
    error_clear(&err);
    return wanted && known && !n;
}

/* Until a signal to stop; true: until the device failed, and the CPU goes on. */
static bool serve(struct daemon *d)
{
    struct pollfd p[] = {{.fd = d->signals, .events = POLLIN}, {.fd = d->fault, .events = POLLIN}};
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents & POLLIN) {
            p[1].fd = -1; // once
            if (may_begin_anew(d))
                return true;
        }
        int sig = p[0].revents & POLLIN ? read_signal(d) : 0;
        if (sig == SIGHUP)
            reload(d);
        if (sig == SIGTERM || sig == SIGINT)
            break;
    }
    let_signals_kill();
    systemd_notify("STOPPING=1");
    http_quiesce(d->http);
    log_event(d->server.log, LOG_INFO, "draining",
              LOG_INT("timeout_s", d->config->shutdown_timeout));
    engine_drain(d->engine, d->config->shutdown_timeout * 1000);
    return false;
}

/* ---- beginning anew ---- */

static void bequeath(struct daemon *d, struct heritage *h)
{
    struct error err = ERROR_INIT;
    if (engine_adapter_list(d->engine, false, &h->adapters, &h->n, &err))
        warn(d, "adapters_lost", err.text);
    error_clear(&err);
    http_hand_over(d->http, &h->sockets.http, &h->sockets.admin);
    systemd_notify("RELOADING=1");
}

/* Loads what was loaded, but for --adapter's, which are; what cannot be is told of, no more. */
static void inherit(struct daemon *d, struct heritage *h)
{
    for (size_t i = 0; i < h->n; i++) {
        struct ticket *t = NULL;
        struct error err = ERROR_INIT;
        const struct adapter_request r = {.name = h->adapters[i].name,
                                          .path = h->adapters[i].path,
                                          .trusted = true,
                                          .pinned = h->adapters[i].pinned,
                                          .replace = REPLACE_IF_DIGEST_DIFFERS};
        if (h->adapters[i].state == ADAPTER_READY && engine_adapter_load(d->engine, &r, &t, &err))
            warn(d, "adapter_lost", err.text);
        ticket_detach(t);
        error_clear(&err);
        adapter_info_clear(&h->adapters[i]);
    }
    free(h->adapters);
    *h = (struct heritage){0};
}

/* A daemon from its beginning to its end; *again: another one is to begin, with *h. */
static enum status run(const struct config *config, struct heritage *h, bool *again,
                       struct error *err)
{
    struct daemon d = {.config = config, .signals = -1, .fault = -1, .passed = h->sockets};
    bool stopped = false;
    *again = false;
    enum status s = open_daemon(&d, err);
    s = s ? s : load(&d, &stopped, err);
    if (!s && !stopped && !d.http)
        s = open_http(&d, err);
    if (!s && !stopped) {
        announce(&d);
        inherit(&d, h);
        *again = serve(&d);
    }
    if (*again)
        bequeath(&d, h);
    close_daemon(&d);
    return s;
}

static enum status on_the_cpu(struct config *config, struct error *err)
{
    free(config->device);
    config->device = strdup("cpu");
    return config->device ? ST_OK : error_memory(err, "starting anew");
}

int cmd_serve(int argc, char **argv, char **envp)
{
    struct config config;
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("serve", argc, argv, envp, &config, &code))
        return code;
    struct heritage h = {0};
    bool again = false;
    enum status s = run(&config, &h, &again, &err);
    if (again) {
        s = on_the_cpu(&config, &err);
        s = s ? s : run(&config, &h, &again, &err);
    }
    for (size_t i = 0; i < h.n; i++)
        adapter_info_clear(&h.adapters[i]);
    free(h.adapters);
    config_clear(&config);
    return s ? cmd_refuse(&err) : EXIT_DONE;
}
