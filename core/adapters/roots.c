/*
 * Owns path resolution. A relative path is tried below each root; `..` is refused as a word, and
 * the real path that links lead to must lie below the same root. (The files inside the folder are
 * checked again when they are opened: package.h.)
 */
#include "core/adapters/roots.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_NAME "adapter_config.json"

enum status roots_open(const char *const *dirs, size_t n, struct roots *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    out->given = calloc(n + 1, sizeof *out->given);
    out->real = calloc(n + 1, sizeof *out->real);
    if (!out->given || !out->real)
        goto fail;
    for (out->n = 0; out->n < n; out->n++) {
        out->given[out->n] = strdup(dirs[out->n]);
        if (!out->given[out->n])
            goto fail;
        out->real[out->n] = realpath(dirs[out->n], NULL);
        if (!out->real[out->n] && errno == ENOMEM) {
            out->n++;
            goto fail;
        }
    }
    return ST_OK;
fail:
    roots_close(out);
    return error_memory(err, "opening the adapter folders");
}

void roots_close(struct roots *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->given[i]);
        free(r->real[i]);
    }
    free(r->given);
    free(r->real);
    memset(r, 0, sizeof *r);
}

static bool has_parent_step(const char *path)
{
    for (const char *p = path; p; p = strchr(p, '/')) {
        p += strspn(p, "/");
        if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2]))
            return true;
    }
    return false;
}

static bool lies_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    return !strncmp(path, root, n) && (path[n] == '/' || !path[n] || (n && root[n - 1] == '/'));
}

static void outside(struct findings *f, const char *path, const char *why)
{
    findings_add(f, SEVERITY_ERROR, ST_PATH_OUTSIDE_ROOT, NULL, "path",
                 "a path below the adapter folders", path, "%s: %s", path, why);
}

static char *join(const char *a, const char *b)
{
    char *path = malloc(strlen(a) + strlen(b) + 2);
    if (path)
        sprintf(path, "%s/%s", a, b);
    return path;
}

/* path in root i: *dir stays NULL where there is no such thing. */
static enum status resolve_in(const char *root, const char *path, char **dir, struct error *err)
{
    char *whole = *path == '/' ? strdup(path) : join(root, path);
    if (whole)
        *dir = realpath(whole, NULL);
    bool lost = !whole || (!*dir && errno == ENOMEM);
    free(whole);
    return lost ? error_memory(err, "looking for an adapter") : ST_OK;
}

enum status roots_resolve(const struct roots *r, const char *path, char **dir, const char **root,
                          struct findings *findings, struct error *err)
{
    *dir = NULL;
    *root = NULL;
    if (!r->n) {
        outside(findings, path, "no adapter folder (--adapter-dir) is configured");
        return ST_OK;
    }
    if (has_parent_step(path) || strlen(path) >= PATH_MAX) {
        outside(findings, path, "it leads outside the adapter folders");
        return ST_OK;
    }
    bool led_out = false;
    for (size_t i = 0; i < r->n; i++) {
        if (!r->real[i])
            continue;
        enum status s = resolve_in(r->real[i], path, dir, err);
        if (s)
            return s;
        if (*dir && lies_below(*dir, r->real[i])) {
            *root = r->real[i];
            return ST_OK;
        }
        led_out |= *dir != NULL || *path == '/';
        free(*dir);
        *dir = NULL;
    }
    if (led_out)
        outside(findings, path, "it leads outside the adapter folders");
    else
        findings_add(findings, SEVERITY_ERROR, ST_FILE_UNREADABLE, NULL, "path",
                     "a folder below the adapter folders", path,
                     "%s: there is no such adapter folder below %s%s", path, r->given[0],
                     r->n > 1 ? " and the other roots" : "");
    return ST_OK;
}

/* Has root/name an adapter's config? */
static bool has_adapter(const char *root, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s/" CONFIG_NAME, root, name);
    return n > 0 && (size_t)n < sizeof path && !access(path, R_OK);
}

bool roots_have(const struct roots *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->real[i] && has_adapter(r->real[i], name))
            return true;
    return false;
}

void roots_each(const struct roots *r, bool (*valid)(const char *name),
                bool (*each)(void *ctx, const char *name, const char *path), void *ctx)
{
    bool more = true;
    for (size_t i = 0; i < r->n && more; i++) {
        DIR *d = r->real[i] ? opendir(r->real[i]) : NULL;
        struct dirent *e;
        while (d && more && (e = readdir(d)))
            if (valid(e->d_name) && has_adapter(r->real[i], e->d_name)) {
                char path[PATH_MAX];
                int n = snprintf(path, sizeof path, "%s/%s", r->real[i], e->d_name);
                if (n > 0 && (size_t)n < sizeof path)
                    more = each(ctx, e->d_name, path);
            }
        if (d)
            closedir(d);
    }
}
