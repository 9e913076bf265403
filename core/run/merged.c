#include "core/run/merged.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/route.h"

struct merged {
    const struct model *model;
    const struct rotation **none; /* [n_modules] NULLs: no rotation anywhere */
    void (*left)(void *ctx);
    void *ctx;
    pthread_mutex_t lock;
    struct merged_entry *entries;
    const struct merged_entry *closing;
    struct route *routes;
};

enum status merged_open(const struct model *m, void (*left)(void *ctx), void *ctx,
                        struct merged **out, struct error *err)
{
    *out = NULL;
    struct merged *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "the list of merges");
    s->model = m;
    s->left = left;
    s->ctx = ctx;
    s->none = calloc(m->n_modules + 1, sizeof *s->none);
    if (!s->none || pthread_mutex_init(&s->lock, NULL)) {
        free(s->none);
        free(s);
        return error_memory(err, "the list of merges");
    }
    *out = s;
    return ST_OK;
}

void merged_close(struct merged *m)
{
    if (!m)
        return;
    while (m->entries) {
        struct merged_entry *e = m->entries;
        m->entries = e->next;
        merged_entry_free(e);
    }
    pthread_mutex_destroy(&m->lock);
    free(m->none);
    free(m);
}

struct merged_entry *merged_entry_new(struct adapter *const *adapters, int32_t n,
                                      enum merge_mode mode, bool dense)
{
    struct merged_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->mode = mode;
    e->dense = dense;
    for (int32_t i = 0; i < n; i++) {
        e->names[i] = strdup(adapters[i]->name);
        if (!e->names[i]) {
            merged_entry_free(e);
            return NULL;
        }
        e->n = i + 1;
        memcpy(e->identities[i], adapters[i]->identity, DIGEST_SIZE);
    }
    return e;
}

void merged_entry_free(struct merged_entry *e)
{
    if (!e)
        return;
    for (int32_t i = 0; i < e->n; i++)
        free(e->names[i]);
    view_unref(e->view);
    free(e);
}

static bool same_chain(const struct merged_entry *e, struct adapter *const *adapters, int32_t n)
{
    bool same = e->n == n;
    for (int32_t i = 0; same && i < n; i++)
        same = !strcmp(e->names[i], adapters[i]->name) &&
               !memcmp(e->identities[i], adapters[i]->identity, DIGEST_SIZE);
    return same;
}

static bool has_name(const struct merged_entry *e, const char *name)
{
    for (int32_t i = 0; i < e->n; i++)
        if (!strcmp(e->names[i], name))
            return true;
    return false;
}

static const struct merged_entry *in_place(const struct merged *m)
{
    for (const struct merged_entry *e = m->entries; e; e = e->next)
        if (e->mode == MERGE_IN_PLACE)
            return e;
    return NULL;
}

static void rotate(struct route *r)
{
    r->n_adapted = r->n;
    for (int32_t i = 0; i < r->n; i++)
        r->adapted[i] = &r->used[i]->adapted;
}

/* The weights hold the rotations already; biases and a head that an adapter brings along are none
 * of them. */
static void unmerged_only(const struct merged *m, struct route *r)
{
    r->n_adapted = 0;
    for (int32_t i = 0; i < r->n; i++) {
        const struct adapted *whole = &r->used[i]->adapted;
        if (!whole->bias && !whole->classifier)
            continue;
        struct adapted *a = &r->unmerged[r->n_adapted];
        *a = (struct adapted){m->none, whole->bias, whole->classifier};
        r->adapted[r->n_adapted++] = a;
    }
}

enum status merged_enter(struct merged *m, struct route *r, struct error *err)
{
    pthread_mutex_lock(&m->lock);
    const struct merged_entry *owner = m->closing ? m->closing : in_place(m);
    if (owner && !same_chain(owner, r->used, r->n)) {
        pthread_mutex_unlock(&m->lock);
        return error_set(err, ST_MODEL_IS_MERGED,
                         "adapter '%s' is merged in place: the base and other adapters are not "
                         "served until it is unmerged",
                         owner->names[0]);
    }
    struct view *view = NULL;
    for (const struct merged_entry *e = m->entries; e && !view; e = e->next)
        if (same_chain(e, r->used, r->n))
            view = e->view;
    if (view) {
        r->view = view_ref(view);
        unmerged_only(m, r);
    } else {
        r->view = m->model->base; /* lives as long as the model */
        rotate(r);
    }
    r->prev = NULL;
    r->next = m->routes;
    if (m->routes)
        m->routes->prev = r;
    m->routes = r;
    pthread_mutex_unlock(&m->lock);
    prefix_root(m->model->identity, r->view->id, r->compute, r->used, r->n, r->key);
    return ST_OK;
}

void merged_leave(struct merged *m, struct route *r)
{
    pthread_mutex_lock(&m->lock);
    if (r->prev)
        r->prev->next = r->next;
    else
        m->routes = r->next;
    if (r->next)
        r->next->prev = r->prev;
    pthread_mutex_unlock(&m->lock);
    if (r->view != m->model->base)
        view_unref(r->view);
    r->view = NULL;
    m->left(m->ctx);
}

enum status merged_check(struct merged *m, const struct merged_entry *e, struct error *err)
{
    enum status st = ST_OK;
    pthread_mutex_lock(&m->lock);
    const struct merged_entry *owner = m->closing ? m->closing : in_place(m);
    for (const struct merged_entry *v = m->entries; v && st == ST_OK; v = v->next) {
        bool same = v->n == e->n;
        for (int32_t i = 0; same && i < v->n; i++)
            same = !strcmp(v->names[i], e->names[i]);
        if (same)
            st = error_set(err, ST_ADAPTER_MERGED,
                           "adapter '%s' is merged already: unmerge it "
                           "first",
                           e->names[0]);
    }
    if (st == ST_OK && owner)
        st = error_set(err, ST_MODEL_IS_MERGED,
                       "adapter '%s' is merged in place: unmerge it before another merge",
                       owner->names[0]);
    pthread_mutex_unlock(&m->lock);
    return st;
}

void merged_closing(struct merged *m, const struct merged_entry *e)
{
    pthread_mutex_lock(&m->lock);
    m->closing = e;
    pthread_mutex_unlock(&m->lock);
}

int32_t merged_others(struct merged *m)
{
    int32_t n = 0;
    pthread_mutex_lock(&m->lock);
    for (const struct route *r = m->routes; m->closing && r; r = r->next)
        n += !same_chain(m->closing, r->used, r->n);
    pthread_mutex_unlock(&m->lock);
    return n;
}

void merged_publish(struct merged *m, struct merged_entry *e)
{
    pthread_mutex_lock(&m->lock);
    e->next = m->entries;
    m->entries = e;
    m->closing = NULL;
    pthread_mutex_unlock(&m->lock);
}

bool merged_meant(const struct chain_names *meant, char *const *chain, size_t n)
{
    bool all = meant->n < 2 || (size_t)meant->n == n, one = false;
    for (size_t i = 0; i < n && meant->n > 1 && all; i++)
        all = !strcmp(chain[i], meant->names[i]);
    for (size_t i = 0; i < n && meant->n == 1 && !one; i++)
        one = !strcmp(chain[i], meant->names[0]);
    return meant->n == 1 ? one : all;
}

struct merged_entry *merged_remove(struct merged *m, const struct chain_names *meant)
{
    struct merged_entry *removed = NULL;
    pthread_mutex_lock(&m->lock);
    for (struct merged_entry **at = &m->entries; *at;) {
        struct merged_entry *e = *at;
        if (!merged_meant(meant, e->names, (size_t)e->n)) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        e->next = removed;
        removed = e;
    }
    pthread_mutex_unlock(&m->lock);
    return removed;
}

struct view *merged_view(struct merged *m, struct adapter *const *adapters, int32_t n)
{
    struct view *view = NULL;
    pthread_mutex_lock(&m->lock);
    for (const struct merged_entry *e = m->entries; e && !view; e = e->next)
        if (!e->dense && same_chain(e, adapters, n))
            view = view_ref(e->view);
    pthread_mutex_unlock(&m->lock);
    return view;
}

bool merged_holds(struct merged *m, const char *name)
{
    pthread_mutex_lock(&m->lock);
    bool holds = m->closing && has_name(m->closing, name);
    for (const struct merged_entry *e = m->entries; e && !holds; e = e->next)
        holds = has_name(e, name);
    pthread_mutex_unlock(&m->lock);
    return holds;
}

uint64_t merged_bytes(struct merged *m)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&m->lock);
    for (const struct merged_entry *e = m->entries; e; e = e->next)
        bytes += e->view->bytes;
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

static bool describe(const struct merged_entry *e, struct merge_info *out)
{
    out->mode = e->mode;
    out->modules = e->modules;
    out->bytes = e->view->bytes;
    out->adapters = calloc((size_t)e->n + 1, sizeof *out->adapters);
    if (!out->adapters)
        return false;
    for (int32_t i = 0; i < e->n; i++) {
        out->adapters[i] = strdup(e->names[i]);
        if (!out->adapters[i])
            return false;
        out->n_adapters++;
    }
    return true;
}

enum status merged_list(struct merged *m, struct merge_info **out, size_t *n, struct error *err)
{
    size_t count = 0, i = 0;
    bool ok = true;
    *out = NULL;
    *n = 0;
    pthread_mutex_lock(&m->lock);
    for (const struct merged_entry *e = m->entries; e; e = e->next)
        count++;
    struct merge_info *v = calloc(count + 1, sizeof *v);
    for (const struct merged_entry *e = m->entries; v && ok && e; e = e->next)
        ok = describe(e, &v[i++]);
    pthread_mutex_unlock(&m->lock);
    if (!v || !ok) {
        merge_infos_free(v, i);
        return error_memory(err, "the list of merges");
    }
    *out = v;
    *n = count;
    return ST_OK;
}

void merge_infos_free(struct merge_info *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++) {
        for (size_t j = 0; j < v[i].n_adapters; j++)
            free(v[i].adapters[j]);
        free(v[i].adapters);
    }
    free(v);
}
