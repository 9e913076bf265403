/* The facade's administration: adapters, merges, exports, figures. */
#include <stdlib.h>
#include <string.h>

#include "core/engine_state.h"

/* Registry and merges are there: the base has been loaded, whatever its device does now. */
static enum status serving(struct engine *e, struct error *err)
{
    pthread_mutex_lock(&e->lock);
    bool yes = e->state == ENGINE_READY || e->state == ENGINE_DRAINING || e->fault;
    pthread_mutex_unlock(&e->lock);
    return yes ? ST_OK : error_set(err, ST_NOT_READY, NULL);
}

static enum status begin(struct engine *e, struct ticket **t, struct error *err)
{
    *t = NULL;
    enum status st = engine_check(e, err);
    if (st == ST_OK && !(*t = ticket_new(&e->tickets)))
        st = error_memory(err, "a job");
    return st;
}

static enum status submit(struct engine *e, struct ticket *t, enum status st, struct ticket **out,
                          struct error *err)
{
    *out = NULL;
    if (st == ST_OK)
        st = engine_admit(e, t, false, 0, err);
    if (st != ST_OK) {
        ticket_discard(t);
        return st;
    }
    *out = t;
    jobs_submit(e->jobs, t);
    return ST_OK;
}

/* ---- adapters ---- */

static enum status not_merged(struct engine *e, const char *name, struct error *err)
{
    if (!name || !merged_holds(e->merged, name))
        return ST_OK;
    return error_set(err, ST_ADAPTER_MERGED, "adapter '%s' is merged: unmerge it first", name);
}

static enum status may_load(struct engine *e, const struct adapter_request *req, struct error *err)
{
    if (!req->name || !registry_name_valid(req->name))
        return error_param(err, ST_INVALID_VALUE, "name",
                           "an adapter's name must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}");
    if (!strcmp(req->name, e->o.served_name))
        return error_param(err, ST_NAME_IN_USE, "name", "'%s' is the base's name", req->name);
    return not_merged(e, req->name, err);
}

static bool loaded(struct engine *e, const char *name)
{
    struct adapter *a = registry_acquire(e->registry, name);
    adapter_unref(a);
    return a != NULL;
}

/* One whose load still runs will have ended when the loader comes to this job. */
static enum status must_be_listed(struct engine *e, const char *name, struct error *err)
{
    if (name && registry_lists(e->registry, name))
        return ST_OK;
    return error_param(err, ST_ADAPTER_NOT_FOUND, "name", "adapter '%.128s' is not loaded",
                       name ? name : "");
}

enum status engine_adapter_load(struct engine *e, const struct adapter_request *req,
                                struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    st = may_load(e, req, err);
    if (st == ST_OK)
        st = job_adapters(t, JOB_LOAD, req, 1, NULL, 0, 0, err);
    bool marked = st == ST_OK && !loaded(e, req->name);
    if (marked)
        registry_mark(e->registry, req->name, ADAPTER_LOADING, NULL);
    st = submit(e, t, st, out, err);
    if (marked && st != ST_OK)
        registry_mark(e->registry, req->name, ADAPTER_AVAILABLE, NULL);
    return st;
}

enum status engine_adapter_unload(struct engine *e, const char *name, double timeout_s,
                                  struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    st = must_be_listed(e, name, err);
    if (st == ST_OK)
        st = not_merged(e, name, err);
    if (st == ST_OK)
        st = job_adapters(t, JOB_UNLOAD, NULL, 0, &name, 1, timeout_s, err);
    return submit(e, t, st, out, err);
}

enum status engine_adapter_batch(struct engine *e, const struct adapter_request *load,
                                 size_t n_load, const char *const *unload, size_t n_unload,
                                 struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n_load && st == ST_OK; i++)
        st = may_load(e, &load[i], err);
    for (size_t i = 0; i < n_unload && st == ST_OK; i++) {
        st = must_be_listed(e, unload[i], err);
        if (st == ST_OK)
            st = not_merged(e, unload[i], err);
    }
    if (st == ST_OK)
        st = job_adapters(t, JOB_BATCH, load, n_load, unload, n_unload, 0, err);
    return submit(e, t, st, out, err);
}

enum status engine_adapter_validate(struct engine *e, const struct adapter_request *req,
                                    struct ticket **out, struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, job_adapters(t, JOB_VALIDATE, req, 1, NULL, 0, 0, err), out, err);
}

enum status engine_adapter_list(struct engine *e, bool available, struct adapter_info **out,
                                size_t *n, struct error *err)
{
    *out = NULL;
    *n = 0;
    enum status st = serving(e, err);
    if (st == ST_OK)
        st = registry_list(e->registry, available, out, n, err);
    for (size_t i = 0; st == ST_OK && i < *n; i++)
        (*out)[i].merged = merged_holds(e->merged, (*out)[i].name);
    return st;
}

enum status engine_adapter_info(struct engine *e, const char *name, struct adapter_info *out,
                                struct error *err)
{
    enum status st = serving(e, err);
    if (st == ST_OK)
        st = registry_info(e->registry, name, out, err);
    if (st == ST_OK)
        out->merged = merged_holds(e->merged, name);
    return st;
}

void engine_rescan(struct engine *e)
{
    if (serving(e, NULL) == ST_OK)
        registry_rescan(e->registry);
}

/* ---- merges, exports ---- */

static enum status must_exist(struct engine *e, const struct name_list *names, struct error *err)
{
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->names[i];
        if (!name || !registry_name_valid(name) ||
            (!loaded(e, name) && !registry_discoverable(e->registry, name)))
            return error_param(err, ST_ADAPTER_NOT_FOUND, "adapter",
                               "adapter '%.128s' is not loaded and no adapter directory holds it",
                               name ? name : "");
    }
    return ST_OK;
}

enum status engine_merge(struct engine *e, const struct merge_request *req, struct ticket **out,
                         struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    st = merge_check_base(e->model, err);
    if (st == ST_OK)
        st = must_exist(e, &req->adapters, err);
    if (st == ST_OK)
        st = job_merge(t, req, err);
    return submit(e, t, st, out, err);
}

enum status engine_unmerge(struct engine *e, const struct name_list *adapters, struct ticket **out,
                           struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    return submit(e, t, job_unmerge(t, adapters, err), out, err);
}

enum status engine_export(struct engine *e, const struct export_request *req, struct ticket **out,
                          struct error *err)
{
    struct ticket *t;
    enum status st = begin(e, &t, err);
    if (st != ST_OK)
        return st;
    st = req->adapters.n ? merge_check_base(e->model, err) : ST_OK;
    if (st == ST_OK)
        st = must_exist(e, &req->adapters, err);
    if (st == ST_OK)
        st = job_export(t, req, err);
    return submit(e, t, st, out, err);
}

enum status engine_merges(struct engine *e, struct merge_info **out, size_t *n, struct error *err)
{
    *out = NULL;
    *n = 0;
    enum status st = serving(e, err);
    return st == ST_OK ? merged_list(e->merged, out, n, err) : st;
}

/* ---- figures ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Distinct names and how many; out is cut at a whole name. */
static int32_t join(const char **names, size_t n, char *out, size_t size)
{
    int32_t distinct = 0;
    size_t len = 0;
    bool full = false;
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(names[i], names[i - 1]))
            continue;
        distinct++;
        size_t more = strlen(names[i]);
        full |= len + more + 1 >= size;
        if (full)
            continue;
        if (len)
            out[len++] = ',';
        memcpy(out + len, names[i], more + 1);
        len += more;
    }
    return distinct;
}

/* (lock) Adapters of the tickets that have running, or waiting, sequences. */
static int32_t adapters_of(struct engine *e, bool running, char *out, size_t size)
{
    size_t n = 0, most = 0;
    for (struct ticket *t = e->live; t; t = t->next)
        most += ADAPTERS_MAX;
    const char **names = NULL;
    for (struct ticket *t = e->live; t; t = t->next) {
        const struct adapter_ref *refs;
        size_t count = ticket_adapters(t, &refs);
        if (!count || atomic_load(running ? &t->running : &t->waiting) <= 0)
            continue;
        if (n + count > most || !names) {
            most = n + count > most ? n + count : most;
            const char **bigger = realloc(names, most * sizeof *names);
            if (!bigger)
                break;
            names = bigger;
        }
        for (size_t i = 0; i < count; i++)
            names[n++] = refs[i].name;
    }
    int32_t distinct = join(names, n, out, size);
    free(names);
    return distinct;
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
    memset(out, 0, sizeof *out);
    stats_read(&e->stats, out);
    bool ready = serving(e, NULL) == ST_OK;
    pthread_mutex_lock(&e->lock);
    for (struct ticket *t = e->live; t; t = t->next) {
        out->running += atomic_load(&t->running);
        out->waiting += atomic_load(&t->waiting);
    }
    out->adapters_running = adapters_of(e, true, out->running_names, sizeof out->running_names);
    out->adapters_waiting = adapters_of(e, false, out->waiting_names, sizeof out->waiting_names);
    pthread_mutex_unlock(&e->lock);
    if (!ready)
        return;
    struct scheduler_figures f;
    scheduler_figures(e->scheduler, &f);
    out->kv_pages = (uint64_t)f.pages;
    out->kv_pages_used = (uint64_t)f.pages_used;
    out->kv_usage = (double)f.pages_used / f.pages;
    const struct model *m = e->model;
    const struct kv_shape shape = {m->layers, m->kv_heads, m->head_dim};
    out->kv_page_bytes = m->kind != MODEL_CONVNET ? kvcache_frame_bytes(&shape, e->o.kv_dtype) : 0;
    out->weight_bytes = e->model->weight_bytes;
    out->merge_bytes = merged_bytes(e->merged);
    registry_stats(e->registry, &out->adapters);
}
