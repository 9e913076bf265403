#include "core/jobs.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/run/request.h"

struct jobs {
    struct jobs_options o;
    struct ticket *parked; /* the thread's own */
    atomic_int n_parked;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t come;
    struct ticket *urgent, *urgent_last, *normal, *normal_last;
    bool kicked, stop;
    pthread_t thread; /* the opener's */
    bool threaded;
};

/* ---- making jobs ---- */

static void release(struct ticket *t)
{
    struct job_result *r = &t->job->result;
    adapter_info_clear(&r->adapter);
    findings_clear(&r->findings);
    merge_report_clear(&r->report);
    for (size_t i = 0; i < r->n_names; i++)
        free(r->names[i]);
    free(r->names);
    adapter_unref(t->job->retired);
    merged_entry_free(t->job->entry);
}

static struct job *job_new(struct ticket *t, enum job_kind kind)
{
    struct job *j = arena_alloc(&t->arena, sizeof *j);
    if (!j)
        return NULL;
    j->kind = kind;
    t->job = j;
    t->release = release;
    return j;
}

static bool copy_string(struct arena *a, const char *from, const char **to)
{
    *to = from ? arena_strdup(a, from) : NULL;
    return !from || *to;
}

enum status job_adapters(struct ticket *t, enum job_kind kind, const struct adapter_request *load,
                         size_t n_load, const char *const *unload, size_t n_unload,
                         double timeout_s, struct error *err)
{
    struct job *j = job_new(t, kind);
    if (!j)
        return error_memory(err, "a job");
    j->timeout_s = timeout_s;
    j->load = arena_alloc(&t->arena, (n_load + 1) * sizeof *j->load);
    j->unload = arena_alloc(&t->arena, (n_unload + 1) * sizeof *j->unload);
    bool ok = j->load && j->unload;
    for (; ok && j->n_load < n_load; j->n_load++) {
        struct adapter_request *to = &j->load[j->n_load];
        const struct adapter_request *from = &load[j->n_load];
        *to = *from;
        ok = copy_string(&t->arena, from->name, &to->name) &&
             copy_string(&t->arena, from->path, &to->path) &&
             copy_string(&t->arena, from->if_digest, &to->if_digest);
    }
    for (; ok && j->n_unload < n_unload; j->n_unload++)
        ok = copy_string(&t->arena, unload[j->n_unload], &j->unload[j->n_unload]);
    return ok ? ST_OK : error_memory(err, "a job");
}

static enum status copy_names(struct ticket *t, const struct name_list *names, struct error *err)
{
    struct chain_names *to = &t->job->names;
    if (names->n > ADAPTERS_MAX)
        return error_param(err, ST_INVALID_VALUE, "adapter", "at most %d adapters in order",
                           ADAPTERS_MAX);
    for (size_t i = 0; i < names->n; i++) {
        if (!names->names[i] || !registry_name_valid(names->names[i]))
            return error_param(err, ST_ADAPTER_NOT_FOUND, "adapter", "there is no adapter '%.128s'",
                               names->names[i] ? names->names[i] : "");
        to->strength[i] = 100;
        to->names[i] = arena_strdup(&t->arena, names->names[i]);
        if (!to->names[i])
            return error_memory(err, "a job");
    }
    to->n = (int32_t)names->n;
    return ST_OK;
}

enum status job_merge(struct ticket *t, const struct merge_request *req, struct error *err)
{
    struct job *j = job_new(t, JOB_MERGE);
    if (!j)
        return error_memory(err, "a job");
    if (!req->adapters.n)
        return error_param(err, ST_MISSING_FIELD, "adapter", "which adapter is to be merged?");
    j->mode = req->mode;
    j->options = req->options;
    return copy_names(t, &req->adapters, err);
}

enum status job_unmerge(struct ticket *t, const struct name_list *adapters, struct error *err)
{
    if (!job_new(t, JOB_UNMERGE))
        return error_memory(err, "a job");
    return copy_names(t, adapters, err);
}

enum status job_export(struct ticket *t, const struct export_request *req, struct error *err)
{
    struct job *j = job_new(t, JOB_EXPORT);
    if (!j || !copy_string(&t->arena, req->path, &j->path))
        return error_memory(err, "a job");
    j->trusted = req->trusted;
    j->plain = req->plain;
    j->dtype = req->dtype;
    return copy_names(t, &req->adapters, err);
}

const struct job_result *ticket_job(const struct ticket *t)
{
    return t->job && ticket_ended(t) ? &t->job->result : NULL;
}

bool jobs_add_name(struct job_result *r, const char *name)
{
    char **bigger = realloc(r->names, (r->n_names + 1) * sizeof *bigger);
    if (!bigger)
        return false;
    r->names = bigger;
    r->names[r->n_names] = strdup(name);
    return r->names[r->n_names++] != NULL;
}

/* ---- doing them ---- */

static enum status not_merged(const struct jobs_options *o, const char *name, struct error *err)
{
    if (!merged_holds(o->merged, name))
        return ST_OK;
    return error_set(err, ST_ADAPTER_MERGED, "adapter '%s' is merged: unmerge it first", name);
}

/* Listings show a name that has no generation as what became of it. */
static void mark(const struct jobs_options *o, const char *name, enum adapter_state state,
                 const char *text)
{
    struct adapter *a = registry_acquire(o->registry, name);
    if (!a)
        registry_mark(o->registry, name, state, text);
    adapter_unref(a);
}

static enum status load(const struct jobs_options *o, struct ticket *t, struct error *err)
{
    struct job *j = t->job;
    const struct adapter_request *q = &j->load[0];
    struct error why = ERROR_INIT;
    enum status st = not_merged(o, q->name, &why);
    int64_t start = ticket_now();
    if (st == ST_OK)
        st = registry_load(o->registry, q, &j->result.replaced, &j->result.adapter, &why);
    if (st == ST_OK)
        stats_time(o->stats, TIMING_ADAPTER_LOAD, (double)(ticket_now() - start) * 1e-9);
    else
        mark(o, q->name, ADAPTER_FAILED, why.text[0] ? why.text : status_text(st));
    if (err && st != ST_OK)
        error_move(err, &why);
    error_clear(&why);
    return st;
}

static enum status batch(const struct jobs_options *o, struct job *j, struct error *err)
{
    enum status st = ST_OK;
    for (size_t i = 0; i < j->n_load && st == ST_OK; i++)
        st = not_merged(o, j->load[i].name, err);
    for (size_t i = 0; i < j->n_unload && st == ST_OK; i++)
        st = not_merged(o, j->unload[i], err);
    for (size_t i = 0; i < j->n_load && st == ST_OK; i++)
        if (!jobs_add_name(&j->result, j->load[i].name))
            st = error_memory(err, "a job");
    if (st == ST_OK)
        st = registry_batch(o->registry, j->load, j->n_load, j->unload, j->n_unload, err);
    return st;
}

static enum status unload(const struct jobs_options *o, struct job *j, bool *park,
                          struct error *err)
{
    enum status st = not_merged(o, j->unload[0], err);
    if (st == ST_OK)
        st = registry_retire(o->registry, j->unload[0], &j->retired, &j->retired_bytes, err);
    if (st != ST_OK || !j->retired)
        return st;
    if (j->timeout_s >= 0)
        j->deadline = ticket_now() + (int64_t)(fmin(j->timeout_s, 1e9) * 1e9) + 1;
    *park = true;
    return ST_OK;
}

/* A generation that still has requests when the time is up goes with the last of them. */
static bool unload_poll(struct job *j)
{
    bool idle = atomic_load(&j->retired->in_flight) == 0;
    if (!idle && !(j->deadline && ticket_now() >= j->deadline))
        return false;
    j->result.bytes = idle ? j->retired_bytes : 0;
    adapter_unref(j->retired);
    j->retired = NULL;
    return true;
}

static void enter(struct jobs *s, struct ticket *t)
{
    struct error err = ERROR_INIT;
    enum status st = ST_OK;
    if (ticket_cancelled(t))
        st = error_set(&err, ST_CANCELLED, NULL);
    if (st == ST_OK)
        st = request_enter(t, true, &err);
    if (st == ST_OK)
        st = request_plan(t, &err);
    if (st == ST_OK)
        s->o.ready(s->o.ctx, t);
    else
        request_end(t, st, &err);
    error_clear(&err);
}

static enum status run_job(struct jobs *s, struct ticket *t, bool *park, struct error *err)
{
    struct job *j = t->job;
    if (ticket_cancelled(t)) {
        if (j->kind == JOB_LOAD)
            mark(&s->o, j->load[0].name, ADAPTER_AVAILABLE, NULL);
        return error_set(err, ST_CANCELLED, NULL);
    }
    switch (j->kind) {
    case JOB_LOAD:
        return load(&s->o, t, err);
    case JOB_UNLOAD:
        return unload(&s->o, j, park, err);
    case JOB_BATCH:
        return batch(&s->o, j, err);
    case JOB_VALIDATE:
        return registry_validate(s->o.registry, &j->load[0], &j->result.findings, err);
    case JOB_MERGE:
        return jobs_merge(&s->o, t, park, err);
    case JOB_UNMERGE:
        return jobs_unmerge(&s->o, t, err);
    case JOB_EXPORT:
        return jobs_export(&s->o, t, err);
    }
    return error_set(err, ST_INTERNAL, NULL);
}

static void run(struct jobs *s, struct ticket *t)
{
    if (t->request) {
        enter(s, t);
        return;
    }
    struct error err = ERROR_INIT;
    bool park = false;
    enum status st = run_job(s, t, &park, &err);
    if (st == ST_OK && park) {
        t->queued = s->parked;
        s->parked = t;
        atomic_fetch_add(&s->n_parked, 1);
    } else {
        ticket_end(t, st, &err);
    }
    error_clear(&err);
}

static void end_parked(struct jobs *s, struct ticket **at, enum status st)
{
    struct ticket *t = *at;
    *at = t->queued;
    atomic_fetch_sub(&s->n_parked, 1);
    ticket_end(t, st, NULL);
}

/* Ends the parked jobs whose time has come, or all of them. */
static void look_at_parked(struct jobs *s, bool all)
{
    for (struct ticket **at = &s->parked; *at;) {
        struct ticket *t = *at;
        bool merge = t->job->kind == JOB_MERGE;
        if (all || ticket_cancelled(t)) {
            if (merge)
                jobs_merge_abandon(&s->o, t);
            end_parked(s, at, ST_CANCELLED);
        } else if (merge ? jobs_merge_poll(&s->o, t) : unload_poll(t->job)) {
            end_parked(s, at, ST_OK);
        } else {
            at = &t->queued;
        }
    }
}

/* ---- the thread ---- */

static struct ticket *pop(struct ticket **first)
{
    struct ticket *t = *first;
    if (t)
        *first = t->queued;
    return t;
}

static int64_t first_deadline(const struct jobs *s)
{
    int64_t first = 0;
    for (const struct ticket *t = s->parked; t; t = t->queued)
        if (t->job->deadline && (!first || t->job->deadline < first))
            first = t->job->deadline;
    return first;
}

/* (lock) */
static bool is_called(const struct jobs *s)
{
    return s->stop || s->urgent || s->normal || s->kicked;
}

/* Gets memory ready until there is a call or nothing to do. (lock) */
static void prepare(struct jobs *s)
{
    for (bool more = true; more && !is_called(s);) {
        pthread_mutex_unlock(&s->lock);
        more = registry_prepare(s->o.registry);
        pthread_mutex_lock(&s->lock);
    }
}

/* Sleeps until there is a ticket, a kick or a deadline; false: stop. */
static bool next(struct jobs *s, struct ticket **out)
{
    int64_t deadline = first_deadline(s);
    const struct timespec ts = clock_timespec(deadline);
    pthread_mutex_lock(&s->lock);
    prepare(s);
    int late = 0;
    while (!is_called(s) && !late)
        late = deadline ? pthread_cond_timedwait(&s->come, &s->lock, &ts)
                        : pthread_cond_wait(&s->come, &s->lock);
    s->kicked = false;
    *out = NULL;
    if (!s->stop)
        *out = s->urgent ? pop(&s->urgent) : pop(&s->normal);
    bool go = !s->stop;
    pthread_mutex_unlock(&s->lock);
    return go;
}

static void *work(void *arg)
{
    struct jobs *s = arg;
    turns_enter(s->o.turns);
    for (struct ticket *t; next(s, &t);) {
        turns_pause();
        if (t)
            run(s, t);
        look_at_parked(s, false);
        turns_away();
    }
    turns_leave();
    return NULL;
}

enum status jobs_open(const struct jobs_options *o, struct jobs **out, struct error *err)
{
    *out = NULL;
    struct jobs *s = calloc(1, sizeof *s);
    if (!s || pthread_mutex_init(&s->lock, NULL)) {
        free(s);
        return error_memory(err, "the loader");
    }
    s->o = *o;
    pthread_condattr_t attr;
    int failed = pthread_condattr_init(&attr);
    if (!failed) {
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        failed = pthread_cond_init(&s->come, &attr);
        pthread_condattr_destroy(&attr);
    }
    if (failed) {
        pthread_mutex_destroy(&s->lock);
        free(s);
        return error_memory(err, "the loader");
    }
    if (pthread_create(&s->thread, NULL, work, s)) {
        jobs_close(s);
        return error_set(err, ST_OUT_OF_MEMORY, "the loader's thread cannot be started");
    }
    s->threaded = true;
    *out = s;
    return ST_OK;
}

void jobs_submit(struct jobs *s, struct ticket *t)
{
    t->queued = NULL;
    pthread_mutex_lock(&s->lock);
    struct ticket **first = t->request ? &s->urgent : &s->normal;
    struct ticket **last = t->request ? &s->urgent_last : &s->normal_last;
    if (*first)
        (*last)->queued = t;
    else
        *first = t;
    *last = t;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
}

void jobs_kick(struct jobs *s)
{
    if (!atomic_load(&s->n_parked))
        return;
    pthread_mutex_lock(&s->lock);
    s->kicked = true;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
}

void jobs_stop(struct jobs *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
    if (s->threaded)
        pthread_join(s->thread, NULL);
    s->threaded = false;
    for (struct ticket *t; (t = pop(&s->urgent));)
        request_end(t, ST_CANCELLED, NULL);
    for (struct ticket *t; (t = pop(&s->normal));)
        ticket_end(t, ST_CANCELLED, NULL);
    look_at_parked(s, true);
}

void jobs_close(struct jobs *s)
{
    if (!s)
        return;
    pthread_cond_destroy(&s->come);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
