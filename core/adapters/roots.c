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
    *out = (struct roots){.v = calloc(n + 1, sizeof *out->v)};
    bool whole = out->v != NULL;
    for (; whole && out->n < n; out->n++) {
        struct root *root = &out->v[out->n];
        root->given = strdup(dirs[out->n]);
        root->real = root->given ? realpath(root->given, NULL) : NULL;
        whole = root->given && (root->real || errno != ENOMEM);
    }
    if (whole)
        return ST_OK;
    roots_close(out);
    return error_memory(err, "opening the adapter folders");
}

void roots_close(struct roots *r)
{
    for (size_t i = 0; r->v && i < r->n; i++) {
        free(r->v[i].given);
        free(r->v[i].real);
    }
    free(r->v);
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
        if (!r->v[i].real)
            continue;
        enum status s = resolve_in(r->v[i].real, path, dir, err);
        if (s)
            return s;
        if (*dir && lies_below(*dir, r->v[i].real)) {
            *root = r->v[i].real;
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
                     "%s: there is no such adapter folder below %s%s", path, r->v[0].given,
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
        if (r->v[i].real && has_adapter(r->v[i].real, name))
            return true;
    return false;
}

void roots_each(const struct roots *r, bool (*valid)(const char *name),
                bool (*each)(void *ctx, const char *name, const char *path), void *ctx)
{
    bool more = true;
    for (size_t i = 0; i < r->n && more; i++) {
        DIR *d = r->v[i].real ? opendir(r->v[i].real) : NULL;
        struct dirent *e;
        while (d && more && (e = readdir(d)))
            if (valid(e->d_name) && has_adapter(r->v[i].real, e->d_name)) {
                char path[PATH_MAX];
                int n = snprintf(path, sizeof path, "%s/%s", r->v[i].real, e->d_name);
                if (n > 0 && (size_t)n < sizeof path)
                    more = each(ctx, e->d_name, path);
            }
        if (d)
            closedir(d);
    }
}
