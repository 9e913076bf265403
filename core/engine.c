#include "core/engine.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/engine_state.h"
#include "core/grammar/grammar.h"
#include "core/memory.h"
#include "core/run/defaults.h"
#include "core/run/image.h"
#include "core/run/sequence.h"

/* ---- the options ---- */

static bool keep(struct arena *a, const char **s)
{
    if (*s)
        *s = arena_strdup(a, *s);
    return *s != NULL;
}

static bool keep_optional(struct arena *a, const char **s)
{
    return !*s || keep(a, s);
}

static bool keep_options(struct engine *e)
{
    struct engine_options *o = &e->o;
    struct adapter_request *adapters =
        arena_copy(&e->arena, o->adapters, o->n_adapters * sizeof *adapters);
    const char **roots =
        arena_copy(&e->arena, o->adapter_roots, o->n_adapter_roots * sizeof *roots);
    struct layer_range *layers =
        arena_copy(&e->arena, o->model.replication, o->model.n_replication * sizeof *layers);
    bool ok = keep(&e->arena, &o->model_dir) && keep_optional(&e->arena, &o->served_name) &&
              keep_optional(&e->arena, &o->export_dir) && (adapters || !o->n_adapters) &&
              (roots || !o->n_adapter_roots) && (layers || !o->model.n_replication);
    for (size_t i = 0; ok && adapters && i < o->n_adapters; i++)
        ok = keep(&e->arena, &adapters[i].name) && keep_optional(&e->arena, &adapters[i].path) &&
             keep_optional(&e->arena, &adapters[i].if_digest);
    for (size_t i = 0; ok && roots && i < o->n_adapter_roots; i++)
        ok = keep(&e->arena, &roots[i]);
    o->adapters = adapters;
    o->adapter_roots = roots;
    o->model.replication = o->model.n_replication ? layers : NULL;
    return ok;
}

/* The last part of the folder's path. */
static const char *folder_name(struct arena *a, const char *dir)
{
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && dir[start - 1] != '/')
        start--;
    return arena_strndup(a, dir + start, end - start);
}

static enum status check_options(const struct engine_options *o, struct error *err)
{
    if (!o->model_dir || !o->chain || !o->kernels.exact || !o->kernels.fast || !o->kernels.loader)
        return error_set(err, ST_INVALID_VALUE, "the engine needs a model, a chain and kernels");
    if (o->max_rows < 1 || o->prefill_chunk < 1 || o->max_sequences < 1 || o->max_queue < 1 ||
        o->max_n < 1 || o->max_forward_rows < 1 || o->intake_threads < 1)
        return error_set(err, ST_INVALID_VALUE, "a limit of the engine is below 1");
    if (o->kv_dtype != DT_F32 && o->kv_dtype != DT_F16 && o->kv_dtype != DT_I8)
        return error_set(err, ST_INVALID_VALUE, "keys and values are F32, F16 or I8");
    return ST_OK;
}

/* ---- tickets' host ---- */

static void unlink_ticket(struct engine *e, struct ticket *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        e->live = t->next;
    if (t->next)
        t->next->prev = t->prev;
}

static void dequeue(struct engine *e, struct ticket *t)
{
    if (t->queue_tokens < 0)
        return;
    e->waiting--;
    e->waiting_tokens -= t->queue_tokens;
    t->queue_tokens = -1;
}

static void ticket_gone(void *ctx, struct ticket *t)
{
    struct engine *e = ctx;
    pthread_mutex_lock(&e->lock);
    dequeue(e, t);
    unlink_ticket(e, t);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    ticket_unref(t);
}

static void kick(void *ctx)
{
    struct engine *e = ctx;
    scheduler_kick(e->scheduler);
    jobs_kick(e->jobs);
}

static void started(void *ctx, struct ticket *t)
{
    struct engine *e = ctx;
    pthread_mutex_lock(&e->lock);
    dequeue(e, t);
    pthread_mutex_unlock(&e->lock);
}

static enum status taking(const struct engine *e, struct error *err)
{
    switch (e->state) {
    case ENGINE_READY:
        return ST_OK;
    case ENGINE_DRAINING:
        return error_set(err, ST_DRAINING, NULL);
    case ENGINE_FAILED:
        if (e->fault)
            return error_set(err, ST_NOT_READY, "the device has failed: %s", e->fault);
        break;
    case ENGINE_LOADING:
        break;
    }
    return error_set(err, ST_NOT_READY, NULL);
}

enum status engine_admit(struct engine *e, struct ticket *t, bool queue, int64_t tokens,
                         struct error *err)
{
    pthread_mutex_lock(&e->lock);
    enum status st = taking(e, err);
    if (st == ST_OK && queue && e->waiting >= e->o.max_queue)
        st = error_set(err, ST_OVERLOADED, "%d requests are waiting already", e->waiting);
    // a single request may be larger than the limit: it is then the only one
    if (st == ST_OK && queue && e->waiting && e->o.max_queue_tokens > 0 &&
        tokens > e->o.max_queue_tokens - e->waiting_tokens)
        st = error_set(err, ST_OVERLOADED, "about %lld tokens are waiting already",
                       (long long)e->waiting_tokens);
    if (st == ST_OK) {
        if (queue) {
            t->queue_tokens = tokens;
            e->waiting++;
            e->waiting_tokens += tokens;
        }
        t->prev = NULL;
        t->next = e->live;
        if (e->live)
            e->live->prev = t;
        e->live = t;
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

/* ---- the worker's arithmetic ---- */

static const struct kernels *kernels_of(const struct engine *e, enum compute mode)
{
    return mode == COMPUTE_FAST ? e->o.kernels.fast : e->o.kernels.exact;
}

/* A device that has failed ends the service: nothing is taken any more, what runs gets NaNs, which
 * end it in words. */
static void look_for_fault(struct engine *e)
{
    const struct kernels *k = e->o.kernels.exact;
    const char *fault = k->own_memory ? k->fault(k) : NULL;
    if (!fault)
        return;
    pthread_mutex_lock(&e->lock);
    bool news = !e->fault;
    e->fault = fault;
    if (e->state == ENGINE_READY)
        e->state = ENGINE_FAILED;
    pthread_mutex_unlock(&e->lock);
    if (news && e->o.failed)
        e->o.failed(e->o.failed_ctx);
}

static void forward(void *ctx, enum compute mode, struct batch *b)
{
    struct engine *e = ctx;
    b->kernels = kernels_of(e, mode);
    model_forward(e->model, b, e->scratch[mode]);
    look_for_fault(e);
}

static int32_t module(void *ctx, struct request *r, int32_t first, int32_t rows, struct error *err)
{
    struct engine *e = ctx;
    const struct route *route = &r->routes[0];
    if (r->at_once > 0)
        return images_run(r, first, kernels_of(e, r->compute), e->scratch[r->compute], err);
    const struct row_group group = {
        .count = rows, .n = route->n_adapted, .adapted = route->adapted};
    model_module_forward(e->model, r->module, route->view, kernels_of(e, r->compute), &group, 1,
                         rows, r->module_x ? r->module_x + first * r->module_in : NULL,
                         r->module_ids ? r->module_ids + first : NULL,
                         r->module_result + first * r->module_out, e->scratch[r->compute]);
    look_for_fault(e);
    return rows;
}

/* ---- where tickets go after intake and loader ---- */

static void planned(void *ctx, struct ticket *t)
{
    struct engine *e = ctx;
    scheduler_submit(e->scheduler, t);
}

static void tokenized(void *ctx, struct ticket *t)
{
    struct engine *e = ctx;
    if (t->request->pending) {
        jobs_submit(e->jobs, t);
        return;
    }
    struct error err = ERROR_INIT;
    enum status st = request_plan(t, &err);
    if (st == ST_OK)
        scheduler_submit(e->scheduler, t);
    else
        request_end(t, st, &err);
    error_clear(&err);
}

static void route_left(void *ctx)
{
    struct engine *e = ctx;
    if (e->jobs)
        jobs_kick(e->jobs);
}

/* ---- life ---- */

enum status engine_new(const struct engine_options *options, struct engine **out, struct error *err)
{
    *out = NULL;
    enum status st = check_options(options, err);
    if (st != ST_OK)
        return st;
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return error_memory(err, "the engine");
    e->o = *options;
    e->tickets = (struct ticket_host){.ctx = e, .kick = kick, .ended = ticket_gone};
    bool ok = keep_options(e);
    if (ok && !e->o.served_name)
        ok = (e->o.served_name = folder_name(&e->arena, e->o.model_dir)) != NULL;
    pthread_condattr_t attr;
    ok = ok && pthread_condattr_init(&attr) == 0;
    if (ok) {
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        ok = pthread_mutex_init(&e->lock, NULL) == 0 &&
             pthread_cond_init(&e->changed, &attr) == 0 && stats_open(&e->stats) &&
             turns_open(&e->turns);
        pthread_condattr_destroy(&attr);
    }
    if (!ok) {
        arena_free(&e->arena);
        free(e);
        return error_memory(err, "the engine");
    }
    if (e->o.max_rows < e->o.max_sequences)
        e->o.max_rows = e->o.max_sequences;
    *out = e;
    return ST_OK;
}

/* The longest sequence of a mode whose pages are so many. */
static int64_t longest(const struct engine *e, int64_t pages)
{
    const struct model *m = e->model;
    bool slides = m->window > 0 && pages >= pages_for((int64_t)m->window + e->o.max_rows) + 2;
    return slides || m->max_len <= pages * KV_PAGE ? m->max_len : pages * KV_PAGE;
}

/* Frames: what the budget holds, at most what all sequences could ever use. */
static enum status open_kv(struct engine *e, struct error *err)
{
    const struct model *m = e->model;
    struct engine_options *o = &e->o;
    struct kv_shape shape = {m->layers, m->kv_heads, m->head_dim};
    e->host.max_len[COMPUTE_EXACT] = e->host.max_len[COMPUTE_FAST] = m->max_len;
    if (m->kind == MODEL_ENCODER && e->o.max_rows < m->max_len)
        e->o.max_rows = (int32_t)m->max_len; // a text is one pass
    if (m->image.channels > 0) {             // an image brings its own
        shape = (struct kv_shape){1, 1, 1};
        return kvcache_open(o->kernels.exact, &shape, DT_F32, 1, &e->kv, err);
    }
    if (m->kind != MODEL_DECODER) // what is read once is not worth a rounding
        o->kv_dtype = DT_F32;
    uint64_t frame = kvcache_frame_bytes(&shape, o->kv_dtype);
    uint64_t whole = kvcache_frame_bytes(&shape, DT_F32), per_page = (whole + frame - 1) / frame;
    uint64_t page = frame * per_page; // of exact mode
    if (!o->kv_memory) {
        const struct kernels *k = o->kernels.exact;
        uint64_t free_bytes = k->own_memory ? k->available(k) : memory_available();
        uint64_t others = o->adapter_memory + o->merge_memory;
        uint64_t rest = free_bytes > others ? free_bytes - others : 0;
        o->kv_memory = rest / 2 > free_bytes / 8 ? rest / 2 : free_bytes / 8;
    }
    uint64_t most = (uint64_t)o->max_sequences * (uint64_t)(pages_for(m->max_len) + 1) * per_page;
    uint64_t frames = o->kv_memory / frame;
    frames = frames < most ? frames : most;
    frames = frames < INT32_MAX / 4 ? frames : INT32_MAX / 4;
    frames -= frames % per_page;
    if (!frames)
        return error_param(err, ST_CAPACITY_EXCEEDED, "kv_memory",
                           "%llu bytes do not hold one page of keys and values, which takes %llu",
                           (unsigned long long)o->kv_memory, (unsigned long long)page);
    o->kv_memory = frames * frame;
    e->host.max_len[COMPUTE_FAST] = longest(e, (int64_t)frames);
    e->host.max_len[COMPUTE_EXACT] = longest(e, (int64_t)(frames / per_page));
    return kvcache_open(o->kernels.exact, &shape, o->kv_dtype, (int64_t)frames, &e->kv, err);
}

struct progress {
    struct engine *e;
    progress_report *next;
    void *ctx;
};

static bool on_progress(void *ctx, double done)
{
    struct progress *p = ctx;
    atomic_store(&p->e->progress, done);
    return !p->next || p->next(p->ctx, done);
}

static enum status open_files(struct engine *e, struct progress *p, struct error *err)
{
    const struct engine_options *o = &e->o;
    enum status st = checkpoint_open(o->model_dir, &e->checkpoint, err);
    if (st == ST_OK)
        st = tokenizer_load(o->model_dir, &e->tokenizer, err);
    if (st == ST_OK)
        st = chat_templates_load(o->model_dir, &e->chat, err);
    if (st == ST_OK)
        st = model_open(e->checkpoint, &o->model, o->chain, o->kernels.exact, on_progress, p,
                        &e->model, err);
    return st;
}

/* What most requests compute in. */
static enum compute usual_mode(const struct engine *e)
{
    return e->model->kind == MODEL_DECODER ? e->o.compute_generate : e->o.compute_forward;
}

static enum status open_adapters(struct engine *e, struct progress *p, struct error *err)
{
    const struct engine_options *o = &e->o;
    struct registry_options r = {.roots = o->adapter_roots,
                                 .n_roots = o->n_adapter_roots,
                                 .base_name = o->served_name,
                                 .memory = o->adapter_memory,
                                 .autoload = o->autoload,
                                 .adapter = o->adapter};
    r.adapter.mode = usual_mode(e);
    enum status st = registry_open(e->model, o->kernels.loader, &r, &e->registry, err);
    if (st == ST_OK)
        st = merged_open(e->model, route_left, e, &e->merged, err);
    for (size_t i = 0; i < o->n_adapters && st == ST_OK; i++)
        st = on_progress(p, 1) ? registry_load(e->registry, &o->adapters[i], NULL, NULL, err)
                               : error_set(err, ST_CANCELLED, "the load was stopped");
    return st;
}

static enum status open_worker(struct engine *e, struct error *err)
{
    const struct engine_options *o = &e->o;
    enum status st = open_kv(e, err);
    for (int mode = 0; mode < 2 && st == ST_OK; mode++)
        st = scratch_open(e->model, kernels_of(e, mode), o->max_rows, o->max_sequences,
                          &e->scratch[mode], err);
    const struct scheduler_options s = {.model = e->model,
                                        .kernels =
                                            o->kernels.host ? o->kernels.host : o->kernels.exact,
                                        .kv = e->kv,
                                        .stats = &e->stats,
                                        .turns = &e->turns,
                                        .max_rows = o->max_rows,
                                        .prefill_chunk = o->prefill_chunk,
                                        .prefill_stretch = o->prefill_stretch,
                                        .now = ticket_now,
                                        .max_sequences = o->max_sequences,
                                        .speculate = o->speculate,
                                        .can_draw = o->kernels.exact->draw != NULL,
                                        .forward = forward,
                                        .module = module,
                                        .started = started,
                                        .ctx = e};
    if (st == ST_OK)
        st = scheduler_open(&s, &e->scheduler, err);
    return st;
}

static enum status start_threads(struct engine *e, struct error *err)
{
    const struct engine_options *o = &e->o;
    const struct jobs_options j = {.model = e->model,
                                   .checkpoint = e->checkpoint,
                                   .chain = o->chain,
                                   .kernels = o->kernels.loader,
                                   .registry = e->registry,
                                   .merged = e->merged,
                                   .stats = &e->stats,
                                   .turns = o->spare_core ? NULL : &e->turns,
                                   .merge_memory = o->merge_memory,
                                   .export_dir = o->export_dir,
                                   .ready = planned,
                                   .ctx = e};
    enum status st = scheduler_start(e->scheduler, err);
    if (st == ST_OK)
        st = jobs_open(&j, &e->jobs, err);
    if (st == ST_OK)
        st = intake_open(o->intake_threads, tokenized, e, &e->intake, err);
    return st;
}

static void set_state(struct engine *e, enum engine_state state)
{
    pthread_mutex_lock(&e->lock);
    e->state = state;
    pthread_mutex_unlock(&e->lock);
}

enum status engine_load(struct engine *e, progress_report *progress, void *progress_ctx,
                        struct error *err)
{
    struct progress p = {e, progress, progress_ctx};
    enum status st = open_files(e, &p, err);
    if (st == ST_OK)
        st = open_adapters(e, &p, err);
    if (st == ST_OK)
        st = open_worker(e, err);
    if (st == ST_OK) {
        e->host.model = e->model;
        e->host.tokenizer = e->tokenizer;
        e->host.chat = e->chat;
        e->host.options = &e->o;
        e->host.registry = e->registry;
        e->host.merged = e->merged;
        defaults_read(e->checkpoint->generation, &e->host.defaults);
        if (e->tokenizer)
            st = grammars_open(e->tokenizer, e->model->vocab, &e->host.grammars, err);
        st = st ? st : start_threads(e, err);
    }
    set_state(e, st == ST_OK ? ENGINE_READY : ENGINE_FAILED);
    return st;
}

/* (lock) */
static void cancel_all(struct engine *e)
{
    for (struct ticket *t = e->live; t; t = t->next)
        ticket_cancel(t);
}

void engine_drain(struct engine *e, int64_t timeout_ms)
{
    int64_t end = ticket_now() + (timeout_ms > 0 ? timeout_ms : 0) * 1000000;
    const struct timespec ts = clock_timespec(end);
    pthread_mutex_lock(&e->lock);
    if (e->state == ENGINE_READY)
        e->state = ENGINE_DRAINING;
    int late = 0;
    while (e->live && !late)
        late = pthread_cond_timedwait(&e->changed, &e->lock, &ts);
    cancel_all(e);
    while (e->live)
        pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->state = e->state == ENGINE_READY ? ENGINE_DRAINING : e->state;
    cancel_all(e);
    pthread_mutex_unlock(&e->lock);
    intake_stop(e->intake);
    jobs_stop(e->jobs);
    scheduler_stop(e->scheduler);
    intake_close(e->intake);
    jobs_close(e->jobs);
    scheduler_close(e->scheduler);
    scratch_close(e->scratch[0]);
    scratch_close(e->scratch[1]);
    kvcache_close(e->kv);
    merged_close(e->merged);
    registry_close(e->registry);
    grammars_close(e->host.grammars);
    tokenizer_free(e->tokenizer);
    chat_templates_free(e->chat);
    model_close(e->model);
    checkpoint_close(e->checkpoint);
    turns_close(&e->turns);
    stats_close(&e->stats);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    arena_free(&e->arena);
    free(e);
}

enum engine_state engine_state(const struct engine *e, double *progress)
{
    struct engine *v = (struct engine *)e;
    if (progress)
        *progress = atomic_load(&v->progress);
    pthread_mutex_lock(&v->lock);
    enum engine_state state = v->state;
    pthread_mutex_unlock(&v->lock);
    return state;
}

enum status engine_check(const struct engine *e, struct error *err)
{
    struct engine *v = (struct engine *)e;
    pthread_mutex_lock(&v->lock);
    enum status st = taking(v, err);
    pthread_mutex_unlock(&v->lock);
    return st;
}

const struct model *engine_model(const struct engine *e)
{
    return e->model;
}

const char *engine_name(const struct engine *e)
{
    return e->o.served_name;
}

const char *engine_root(const struct engine *e)
{
    return e->o.model_dir;
}

bool engine_has_tokenizer(const struct engine *e)
{
    return e->tokenizer != NULL;
}

const struct engine_options *engine_options(const struct engine *e)
{
    return &e->o;
}

const char *engine_piece(const struct engine *e, int32_t id, size_t *len)
{
    *len = 0;
    return e->tokenizer ? tokenizer_piece(e->tokenizer, id, len) : NULL;
}

enum status engine_chat_template(const struct engine *e, bool tools, struct text *text,
                                 struct error *err)
{
    return chat_templates_find(e->chat, tools, text, err);
}

/* ---- submitting ---- */

/* A ticket if requests are taken now; the checks of the request itself come before its place in the
 * queue. */
static enum status begin(struct engine *e, struct ticket **t, struct error *err)
{
    *t = NULL;
    enum status st = engine_check(e, err);
    if (st == ST_OK && !(*t = ticket_new(&e->tickets)))
        st = error_memory(err, "a request");
    return st;
}

static void forget(struct engine *e, struct ticket *t)
{
    pthread_mutex_lock(&e->lock);
    dequeue(e, t);
    unlink_ticket(e, t);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    request_leave(t->request);
}

/* Sends a request that has been copied on its way, or discards the ticket. */
static enum status submit(struct engine *e, struct ticket *t, enum status st, struct ticket **out,
                          struct error *err)
{
    *out = NULL;
    if (st == ST_OK)
        st = engine_admit(e, t, true, request_estimate(t->request), err);
    if (st == ST_OK) {
        st = request_enter(t, false, err);
        if (st == ST_OK && !t->request->pending && request_in_slices(t->request))
            st = request_plan(t, err);
        if (st != ST_OK)
            forget(e, t);
    }
    if (st != ST_OK) {
        ticket_discard(t);
        return st;
    }
    const struct request *r = t->request;
    atomic_store(&t->waiting, (int)(r->n_prompts * (size_t)r->n));
    *out = t;
    if (!request_in_slices(r))
        intake_submit(e->intake, t);
    else if (r->pending)
        jobs_submit(e->jobs, t);
    else
        scheduler_submit(e->scheduler, t);
    return ST_OK;
}

enum status engine_generate(struct engine *e, const struct generate_request *req,
                            struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_generate(t, &e->host, req, err), out, err);
}

enum status engine_forward(struct engine *e, const struct forward_request *req, struct ticket **out,
                           struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_forward(t, &e->host, req, err), out, err);
}

enum status engine_module(struct engine *e, const struct module_request *req, struct ticket **out,
                          struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_module(t, &e->host, req, err), out, err);
}

enum status engine_tokenize(struct engine *e, const char *text, size_t len, bool add_special,
                            struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_tokenize(t, &e->host, text, len, add_special, err), out, err);
}

enum status engine_detokenize(struct engine *e, const int32_t *ids, size_t n, bool skip_special,
                              struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_detokenize(t, &e->host, ids, n, skip_special, err), out, err);
}

enum status engine_render(struct engine *e, const struct chat *chat, struct ticket **out,
                          struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, request_render(t, &e->host, chat, err), out, err);
}
