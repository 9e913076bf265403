/*
 * Owns the names: who serves which, from where, and the lock. Everything that reads files or
 * computes happens without the lock: an operation first prepares (path, digest, adapter_load), then
 * commits under the lock, where nothing can fail half-way: room in the table is taken and the
 * victims of eviction are chosen before anything is changed (slots.h). References that the registry
 * gives up are dropped after the lock, since the last one frees.
 */
#include "core/adapters/registry.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/adapters/listing.h"
#include "core/adapters/registry_state.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool registry_name_valid(const char *name)
{
    size_t n = strspn(name, LETTERS "._-");
    return n >= 1 && n <= 128 && !name[n] && strchr(LETTERS, *name);
}

/* ---- opening and closing ---- */

void registry_close(struct registry *r)
{
    if (!r)
        return;
    slots_clear(&r->table);
    for (size_t i = 0; r->root_names && i < r->n_roots; i++)
        free(r->root_names[i]);
    free(r->root_names);
    roots_close(&r->roots);
    free(r->base_name);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->roots_lock);
    free(r);
}

enum status registry_open(const struct model *m, const struct kernels *kernels,
                          const struct registry_options *options, struct registry **out,
                          struct error *err)
{
    *out = NULL;
    struct registry *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err, "opening the adapter registry");
    pthread_mutex_init(&r->lock, NULL); // cannot fail with default attributes
    pthread_mutex_init(&r->roots_lock, NULL);
    r->m = m;
    r->k = kernels;
    r->options = options->adapter;
    r->options.max_bytes = options->memory;
    r->table.memory = options->memory;
    r->autoload = options->autoload;
    r->n_roots = options->n_roots;
    r->base_name = strdup(options->base_name ? options->base_name : "");
    r->table.ledger = r->options.ledger = ledger_new();
    r->root_names = calloc(r->n_roots + 1, sizeof *r->root_names);
    bool whole = r->base_name && r->root_names && r->table.ledger;
    for (size_t i = 0; whole && i < r->n_roots; i++)
        whole = (r->root_names[i] = strdup(options->roots[i]));
    enum status s = whole ? roots_open(options->roots, options->n_roots, &r->roots, err)
                          : error_memory(err, "opening the adapter registry");
    if (s) {
        registry_close(r);
        return s;
    }
    *out = r;
    return ST_OK;
}

/* ---- readers ---- */

struct adapter *registry_acquire(struct registry *r, const char *name)
{
    pthread_mutex_lock(&r->lock);
    struct slot *s = slots_loaded(&r->table, name);
    struct adapter *a = s ? adapter_ref(s->a) : NULL;
    if (a)
        atomic_store(&a->last_used, slots_now());
    pthread_mutex_unlock(&r->lock);
    return a;
}

struct adapter *registry_acquire_derived(struct registry *r, struct adapter *a, int32_t strength,
                                         enum compute mode)
{
    if (strength == a->strength && mode == a->mode)
        return adapter_ref(a);
    pthread_mutex_lock(&r->lock);
    struct adapter *d = slots_derived(&r->table, a, strength, mode);
    if (d)
        atomic_store(&d->last_used, slots_now());
    adapter_ref(d);
    pthread_mutex_unlock(&r->lock);
    return d;
}

bool registry_discoverable(struct registry *r, const char *name)
{
    return r->autoload && registry_in_roots(r, name);
}

/* ---- committing ---- */

/* A load between its preparation and its commit. */
struct pending {
    const struct adapter_request *req;
    struct adapter *a;   /* NULL: the one that is there stays */
    char *name;          /* for a new slot */
    uint64_t generation; /* once published */
    bool replaced;
};

static void pending_clear(struct pending *p)
{
    adapter_unref(p->a);
    free(p->name);
    memset(p, 0, sizeof *p);
}

/* (lock) Marks what unloads and replacements take out. */
static enum status choose_leaving(struct registry *r, struct pending *p, size_t n,
                                  const char *const *unload, size_t n_unload, struct error *err)
{
    for (size_t i = 0; i < n_unload; i++) {
        struct slot *s = slots_removable(&r->table, unload[i]);
        if (!s)
            return error_set(err, ST_ADAPTER_NOT_FOUND, "adapter %s is not loaded", unload[i]);
        s->leaving = true;
    }
    for (size_t i = 0; i < n; i++) {
        struct slot *s = slots_loaded(&r->table, p[i].req->name);
        p[i].replaced = p[i].a && s && !s->leaving;
        if (p[i].a && s)
            s->leaving = true;
    }
    slots_leave_derived(&r->table);
    return ST_OK;
}

/* (lock) */
static void publish(struct registry *r, struct pending *p)
{
    if (!p->a) {
        struct slot *s = slots_loaded(&r->table, p->req->name);
        if (s)
            s->pinned |= p->req->pinned;
        return;
    }
    p->a->generation = p->generation = ++r->generations;
    r->loads++;
    struct slot *s = slots_insert(&r->table, p->name);
    p->name = NULL;
    s->a = p->a;
    p->a = NULL;
    s->pinned = p->req->pinned;
    s->mark = ADAPTER_READY;
    s->since = slots_now();
    free(s->error);
    s->error = NULL;
}

/* All loads and unloads in one swap, or none. */
static enum status commit(struct registry *r, struct pending *p, size_t n,
                          const char *const *unload, size_t n_unload, struct error *err)
{
    struct trash trash = {0};
    pthread_mutex_lock(&r->lock);
    enum status s = ST_OK;
    if (!slots_reserve(&r->table.named, n) || !slots_trash(&r->table, &trash))
        s = error_memory(err, "publishing an adapter");
    if (!s)
        s = choose_leaving(r, p, n, unload, n_unload, err);
    size_t asked = slots_leaving(&r->table);
    if (!s)
        s = slots_make_room(&r->table, err);
    if (s) {
        slots_stay(&r->table);
    } else {
        r->evictions += slots_leaving(&r->table) - asked;
        slots_sweep(&r->table, &trash);
        for (size_t i = 0; i < n; i++)
            publish(r, &p[i]);
    }
    pthread_mutex_unlock(&r->lock);
    slots_empty(&trash);
    return s;
}

/* ---- preparing ---- */

/* The folder of a request (*dir, malloc'ed) and the root that its files must lie below (*root, NULL
 * for a trusted path); *dir is NULL with a finding. */
static enum status locate(struct registry *r, const struct adapter_request *req, char **dir,
                          char **root, struct findings *f, struct error *err)
{
    const char *path = req->path ? req->path : req->name, *found = NULL;
    *dir = *root = NULL;
    if (req->trusted) {
        *dir = strdup(path);
        return *dir ? ST_OK : error_memory(err, "loading an adapter");
    }
    pthread_mutex_lock(&r->roots_lock);
    enum status s = roots_resolve(&r->roots, path, dir, &found, f, err);
    *root = found ? strdup(found) : NULL;
    pthread_mutex_unlock(&r->roots_lock);
    if (!s && found && !*root)
        s = error_memory(err, "loading an adapter");
    return s;
}

static enum status check_name(const struct registry *r, const char *name, struct error *err)
{
    if (!registry_name_valid(name))
        return error_param(err, ST_INVALID_VALUE, "name",
                           "an adapter's name must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}");
    if (!strcmp(name, r->base_name))
        return error_param(err, ST_NAME_IN_USE, "name", "%s is the name of the base model", name);
    return ST_OK;
}

/* What the request says about a generation that serves already; *may_stay: it stays if it has
 * the digest of the files. */
static enum status check_policy(struct registry *r, const struct adapter_request *req,
                                bool unloading, bool *may_stay, uint8_t loaded[DIGEST_SIZE],
                                struct error *err)
{
    char text[DIGEST_TEXT] = "none";
    pthread_mutex_lock(&r->lock);
    struct slot *s = slots_loaded(&r->table, req->name);
    if (s) {
        memcpy(loaded, s->a->digest, DIGEST_SIZE);
        memcpy(text, s->a->digest_text, DIGEST_TEXT);
    }
    pthread_mutex_unlock(&r->lock);
    bool there = s && !unloading;
    *may_stay = there && req->replace == REPLACE_IF_DIGEST_DIFFERS;
    if (req->if_digest && strcmp(req->if_digest, text))
        return error_param(err, ST_DIGEST_MISMATCH, "if_digest",
                           "the loaded digest of %s is %s, expected %s", req->name, text,
                           req->if_digest);
    if (there && req->replace == REPLACE_NEVER)
        return error_param(err, ST_NAME_IN_USE, "name", "adapter %s is loaded already", req->name);
    return ST_OK;
}

static enum status same_digest(const char *dir, const uint8_t loaded[DIGEST_SIZE], bool *same,
                               struct error *err)
{
    uint8_t digest[DIGEST_SIZE];
    enum status s = adapter_digest(dir, digest, err);
    *same = !s && !memcmp(digest, loaded, DIGEST_SIZE);
    return s;
}

/* The path that replies show is the one that was asked for. */
static bool show_path(struct adapter *a, const char *path)
{
    char *copy = path ? strdup(path) : NULL;
    if (!copy)
        return !path;
    free(a->path);
    a->path = copy;
    return true;
}

/* Everything up to the commit; nothing has changed after a refusal. */
static enum status prepare(struct registry *r, const struct adapter_request *req, bool unloading,
                           struct pending *p, struct error *err)
{
    struct findings f = {0};
    char *dir = NULL, *root = NULL;
    bool may_stay = false, stays = false;
    uint8_t loaded[DIGEST_SIZE];
    memset(p, 0, sizeof *p);
    p->req = req;
    enum status s = check_name(r, req->name, err);
    if (!s)
        s = check_policy(r, req, unloading, &may_stay, loaded, err);
    if (!s)
        s = locate(r, req, &dir, &root, &f, err);
    if (!s)
        s = error_from_findings(err, &f);
    if (!s && may_stay)
        s = same_digest(dir, loaded, &stays, err);
    if (s || stays)
        goto done;
    struct adapter_options options = r->options;
    options.beneath = root;
    s = adapter_load(r->m, r->k, dir, req->name, &options, &p->a, err);
    if (s)
        goto done;
    p->name = strdup(req->name);
    if (!p->name || !show_path(p->a, req->path))
        s = error_memory(err, "loading an adapter");
done:
    findings_clear(&f);
    free(dir);
    free(root);
    if (s)
        pending_clear(p);
    return s;
}

static void count_failure(struct registry *r)
{
    pthread_mutex_lock(&r->lock);
    r->failures++;
    pthread_mutex_unlock(&r->lock);
}

/* What replies say about the load, made before it is published: nothing can fail after that. */
static enum status describe(struct registry *r, const struct pending *p, struct adapter_info *out,
                            struct error *err)
{
    if (!p->a) {
        enum status s = registry_info(r, p->req->name, out, err);
        out->pinned |= p->req->pinned;
        return s;
    }
    const struct slot slot = {.name = p->name, .a = p->a, .pinned = p->req->pinned};
    return listing_describe(NULL, &slot, out) ? ST_OK : error_memory(err, "describing an adapter");
}

enum status registry_load(struct registry *r, const struct adapter_request *req, bool *replaced,
                          struct adapter_info *out, struct error *err)
{
    struct pending p;
    struct adapter_info info = {0};
    enum status s = prepare(r, req, false, &p, err);
    if (!s && out)
        s = describe(r, &p, &info, err);
    if (!s)
        s = commit(r, &p, 1, NULL, 0, err);
    if (replaced)
        *replaced = !s && p.replaced;
    if (!s && out) {
        *out = info;
        if (p.generation)
            out->generation = p.generation;
    } else {
        adapter_info_clear(&info);
    }
    pending_clear(&p);
    if (s)
        count_failure(r);
    return s;
}

enum status registry_batch(struct registry *r, const struct adapter_request *load, size_t n_load,
                           const char *const *unload, size_t n_unload, struct error *err)
{
    struct pending *p = calloc(n_load + 1, sizeof *p);
    enum status s = p ? ST_OK : error_memory(err, "loading adapters");
    for (size_t i = 0; i < n_load && !s; i++) {
        bool unloading = false;
        for (size_t j = 0; j < n_unload; j++)
            unloading |= !strcmp(unload[j], load[i].name);
        for (size_t j = 0; j < i && !s; j++)
            if (!strcmp(load[j].name, load[i].name))
                s = error_param(err, ST_NAME_IN_USE, "load", "adapter %s occurs twice in load",
                                load[i].name);
        if (!s)
            s = prepare(r, &load[i], unloading, &p[i], err);
    }
    if (!s)
        s = commit(r, p, n_load, unload, n_unload, err);
    for (size_t i = 0; p && i < n_load; i++)
        pending_clear(&p[i]);
    free(p);
    if (s)
        count_failure(r);
    return s;
}

enum status registry_validate(struct registry *r, const struct adapter_request *req,
                              struct findings *findings, struct error *err)
{
    char *dir = NULL, *root = NULL;
    struct error why = ERROR_INIT;
    if (check_name(r, req->name, &why))
        findings_add(findings, SEVERITY_ERROR, why.code, NULL, "name", NULL, req->name, "%s",
                     why.text);
    error_clear(&why);
    enum status s = locate(r, req, &dir, &root, findings, err);
    struct adapter_options options = r->options;
    options.beneath = root;
    if (!s && dir)
        s = adapter_validate(r->m, r->k, dir, &options, findings, err);
    free(dir);
    free(root);
    return s;
}

enum status registry_autoload(struct registry *r, const char *name, struct error *err)
{
    struct adapter *a = registry_acquire(r, name);
    adapter_unref(a);
    if (a)
        return ST_OK;
    if (!registry_discoverable(r, name))
        return error_set(err, ST_ADAPTER_NOT_FOUND, "adapter %s is neither loaded nor in a root",
                         name);
    struct adapter_request req = {.name = name, .replace = REPLACE_NEVER};
    return registry_load(r, &req, NULL, NULL, err);
}

enum status registry_derive(struct registry *r, struct adapter *a, int32_t strength,
                            enum compute mode, struct adapter **out, struct error *err)
{
    struct trash trash = {0};
    *out = registry_acquire_derived(r, a, strength, mode);
    if (*out)
        return ST_OK;
    struct adapter *d = NULL;
    enum status s = adapter_derive(r->m, r->k, a, strength, mode, &d, err);
    if (s)
        return s;
    pthread_mutex_lock(&r->lock);
    if (!slots_reserve(&r->table.derived, 1) || !slots_trash(&r->table, &trash))
        s = error_memory(err, "deriving from an adapter");
    if (!s)
        s = slots_make_room(&r->table, err);
    if (s) {
        slots_stay(&r->table);
    } else {
        slots_sweep(&r->table, &trash);
        r->evictions += trash.n;
        // the parent may have been replaced meanwhile: then only this request uses it
        struct slot *parent = slots_loaded(&r->table, a->name);
        if (parent && parent->a->generation == a->generation)
            slots_keep_derived(&r->table, d);
        *out = d;
        d = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    slots_empty(&trash);
    adapter_unref(d);
    return s;
}

bool registry_prepare(struct registry *r)
{
    return ledger_prepare(r->table.ledger);
}

enum status registry_retire(struct registry *r, const char *name, struct adapter **out,
                            uint64_t *bytes, struct error *err)
{
    struct trash trash = {0};
    *out = NULL;
    *bytes = 0;
    pthread_mutex_lock(&r->lock);
    struct slot *s = slots_removable(&r->table, name);
    bool room = s && slots_trash(&r->table, &trash);
    if (room) {
        *out = adapter_ref(s->a);
        if (s->a)
            *bytes =
                s->a->packed_bytes + s->a->rotation_bytes + slots_derived_bytes(&r->table, s->a);
        s->leaving = true;
        slots_leave_derived(&r->table);
        slots_sweep(&r->table, &trash);
    }
    pthread_mutex_unlock(&r->lock);
    slots_empty(&trash);
    if (!s)
        return error_set(err, ST_ADAPTER_NOT_FOUND, "adapter %s is not loaded", name);
    return room ? ST_OK : error_memory(err, "unloading an adapter");
}
