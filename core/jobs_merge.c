#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/jobs.h"

/* progress_report of a ticket's work. */
static bool wanted(void *ticket, double done)
{
    (void)done;
    return !ticket_cancelled(ticket);
}

static void drop(struct adapter **v, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        adapter_unref(v[i]);
}

/* The generations of a chain, with references, loaded from disk where needed. */
static enum status find(const struct jobs_options *o, const struct chain_names *names,
                        struct adapter **out, struct error *err)
{
    for (int32_t i = 0; i < names->n; i++) {
        const char *name = names->names[i];
        enum status st = ST_OK;
        out[i] = registry_acquire(o->registry, name);
        if (!out[i] && registry_discoverable(o->registry, name)) {
            st = registry_autoload(o->registry, name, err);
            if (st == ST_OK)
                out[i] = registry_acquire(o->registry, name);
        }
        if (!out[i] && st == ST_OK)
            st = error_param(err, ST_ADAPTER_NOT_FOUND, "adapter",
                             "adapter '%s' is not loaded and no adapter directory holds it", name);
        if (st != ST_OK) {
            drop(out, i);
            return st;
        }
    }
    return ST_OK;
}

static uint64_t room(const struct jobs_options *o)
{
    uint64_t used = merged_bytes(o->merged);
    return o->merge_memory > used ? o->merge_memory - used : 0;
}

/* The merged weights of a chain: checked, then built of exact mode's rotations. */
static enum status build_view(const struct jobs_options *o, struct ticket *t,
                              struct adapter *const *adapters, const struct merge_options *options,
                              struct view **out, struct error *err)
{
    struct job *j = t->job;
    size_t n = (size_t)j->names.n;
    struct adapter *exact[ADAPTERS_MAX] = {0};
    enum status st = merge_check(o->model, adapters, n, options, &j->result.report, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = registry_derive(o->registry, adapters[i], adapters[i]->strength, COMPUTE_EXACT,
                             &exact[i], err);
    if (st == ST_OK)
        st = merge_build(o->model, o->chain, o->kernels, exact, n, options, wanted, t, out,
                         &j->result.report, err);
    drop(exact, j->names.n);
    return st;
}

/* Everything up to the view; the entry says where it will stand. */
static enum status build(const struct jobs_options *o, struct ticket *t, struct adapter **adapters,
                         struct merged_entry *entry, struct error *err)
{
    struct job *j = t->job;
    enum status st = merged_check(o->merged, entry, err);
    if (st != ST_OK)
        return st;
    j->options.memory = room(o);
    st = build_view(o, t, adapters, &j->options, &entry->view, err);
    if (st != ST_OK)
        return st;
    entry->modules = j->result.modules = j->result.report.n;
    j->result.bytes = j->result.report.bytes;
    for (int32_t i = 0; i < j->names.n; i++)
        if (!jobs_add_name(&j->result, j->names.names[i]))
            return error_memory(err, "a merge");
    return ST_OK;
}

enum status jobs_merge(const struct jobs_options *o, struct ticket *t, bool *park,
                       struct error *err)
{
    struct job *j = t->job;
    struct adapter *adapters[ADAPTERS_MAX] = {0};
    enum status st = merge_check_base(o->model, err);
    if (st == ST_OK)
        st = find(o, &j->names, adapters, err);
    if (st != ST_OK)
        return st;
    struct merged_entry *entry = merged_entry_new(adapters, j->names.n, j->mode, j->options.dense);
    st = entry ? build(o, t, adapters, entry, err) : error_memory(err, "a merge");
    drop(adapters, j->names.n);
    if (st != ST_OK || j->options.dry_run) {
        merged_entry_free(entry);
        return st;
    }
    if (j->mode == MERGE_IN_PLACE) {
        j->entry = entry;
        merged_closing(o->merged, entry);
        *park = true;
    } else {
        merged_publish(o->merged, entry);
    }
    return ST_OK;
}

bool jobs_merge_poll(const struct jobs_options *o, struct ticket *t)
{
    if (merged_others(o->merged) > 0)
        return false;
    merged_publish(o->merged, t->job->entry);
    t->job->entry = NULL;
    return true;
}

void jobs_merge_abandon(const struct jobs_options *o, struct ticket *t)
{
    merged_closing(o->merged, NULL);
    merged_entry_free(t->job->entry);
    t->job->entry = NULL;
}

static bool known(const struct job_result *r, const char *name)
{
    for (size_t i = 0; i < r->n_names; i++)
        if (!strcmp(r->names[i], name))
            return true;
    return false;
}

/* What will be unmerged; only the loader's thread merges and unmerges, so that is what will go. */
static enum status tell_unmerged(const struct jobs_options *o, const struct chain_names *meant,
                                 struct job_result *r, struct error *err)
{
    struct merge_info *v = NULL;
    size_t n = 0;
    enum status st = merged_list(o->merged, &v, &n, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (!merged_meant(meant, v[i].adapters, v[i].n_adapters))
            continue;
        r->bytes += v[i].bytes;
        for (size_t k = 0; k < v[i].n_adapters && st == ST_OK; k++)
            if (!known(r, v[i].adapters[k]) && !jobs_add_name(r, v[i].adapters[k]))
                st = error_memory(err, "an unmerge");
    }
    merge_infos_free(v, n);
    return st;
}

enum status jobs_unmerge(const struct jobs_options *o, struct ticket *t, struct error *err)
{
    const struct chain_names *meant = &t->job->names;
    enum status st = tell_unmerged(o, meant, &t->job->result, err);
    if (st != ST_OK)
        return st;
    struct merged_entry *e = merged_remove(o->merged, meant);
    if (!e && meant->n > 1)
        return error_param(err, ST_NOT_MERGED, "adapter",
                           "these adapters are not merged together in this order");
    if (!e)
        return meant->n ? error_param(err, ST_NOT_MERGED, "adapter", "adapter '%s' is not merged",
                                      meant->names[0])
                        : error_set(err, ST_NOT_MERGED, NULL);
    while (e) {
        struct merged_entry *next = e->next;
        merged_entry_free(e);
        e = next;
    }
    return ST_OK;
}

/* ---- exports ---- */

/* The folder that holds `path` must lie below the export directory, links resolved. */
static enum status export_path(const struct jobs_options *o, const struct job *j, char **out,
                               struct error *err)
{
    *out = NULL;
    if (j->trusted) {
        *out = strdup(j->path);
        return *out ? ST_OK : error_memory(err, "an export");
    }
    if (!o->export_dir)
        return error_param(err, ST_PATH_OUTSIDE_ROOT, "path",
                           "exports are off: the daemon has no export directory");
    const char *p = j->path;
    bool bad = !p[0] || p[0] == '/';
    for (const char *part = p; part && !bad; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        bad = n == 0 || (n == 1 && part[0] == '.') || (n == 2 && !memcmp(part, "..", 2));
    }
    if (bad || strlen(p) > 1024)
        return error_param(err, ST_PATH_OUTSIDE_ROOT, "path",
                           "'%.256s' is not a name below the export directory", p);
    size_t size = strlen(o->export_dir) + strlen(p) + 2;
    char *full = malloc(size);
    if (!full)
        return error_memory(err, "an export");
    snprintf(full, size, "%s/%s", o->export_dir, p);
    char root[PATH_MAX], parent[PATH_MAX];
    char *slash = strrchr(full, '/');
    *slash = 0;
    bool inside = realpath(o->export_dir, root) && realpath(full, parent) &&
                  !strncmp(parent, root, strlen(root)) &&
                  (!parent[strlen(root)] || parent[strlen(root)] == '/' || !strcmp(root, "/"));
    *slash = '/';
    if (!inside) {
        free(full);
        return error_param(err, ST_PATH_OUTSIDE_ROOT, "path",
                           "'%.256s' does not lie in a folder below the export directory", p);
    }
    *out = full;
    return ST_OK;
}

static uint64_t bytes_of(const char *dir)
{
    uint64_t bytes = 0;
    DIR *d = opendir(dir);
    struct stat info;
    for (struct dirent *e; d && (e = readdir(d));)
        if (!fstatat(dirfd(d), e->d_name, &info, 0) && S_ISREG(info.st_mode))
            bytes += (uint64_t)info.st_size;
    if (d)
        closedir(d);
    return bytes;
}

/* The weights to write: those of the merge that serves this chain, or ones built for this export.
 */
static enum status export_view(const struct jobs_options *o, struct ticket *t,
                               struct adapter *const *adapters, struct view **out,
                               struct error *err)
{
    struct job *j = t->job;
    *out = j->plain ? NULL : merged_view(o->merged, adapters, j->names.n);
    if (*out)
        return ST_OK;
    const struct merge_options options = {.dense = j->plain,
                                          .dtype = j->dtype,
                                          .safe = true,
                                          .max_rel_fro = -1,
                                          .memory = j->trusted ? UINT64_MAX : room(o)};
    return build_view(o, t, adapters, &options, out, err);
}

static enum status export_to(const struct jobs_options *o, struct ticket *t, const char *path,
                             struct adapter *const *adapters, struct error *err)
{
    struct job *j = t->job;
    struct view *view = NULL;
    enum status st = j->names.n ? export_view(o, t, adapters, &view, err) : ST_OK;
    const struct merge_target target = {.view = view,
                                        .adapters = adapters,
                                        .n_adapters = (size_t)j->names.n,
                                        .plain = j->plain,
                                        .dtype = j->dtype,
                                        .path = path,
                                        .progress = wanted,
                                        .progress_ctx = t};
    if (st == ST_OK)
        st = merge_write(o->model, o->checkpoint, o->kernels, &target, err);
    if (st == ST_OK)
        j->result.bytes = bytes_of(path);
    view_unref(view);
    return st;
}

enum status jobs_export(const struct jobs_options *o, struct ticket *t, struct error *err)
{
    struct job *j = t->job;
    struct adapter *adapters[ADAPTERS_MAX] = {0};
    char *path = NULL;
    enum status st = j->names.n ? merge_check_base(o->model, err) : ST_OK;
    if (st == ST_OK)
        st = export_path(o, j, &path, err);
    if (st == ST_OK)
        st = find(o, &j->names, adapters, err);
    if (st == ST_OK && path) {
        st = export_to(o, t, path, adapters, err);
        drop(adapters, j->names.n);
    }
    free(path);
    return st;
}
