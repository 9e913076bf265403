/*
 * Owns the way from what a user names to a folder: a path, or ORG/NAME[@REVISION] in the local
 * Hugging Face cache. It never fetches; it says which command would. The cache:
 *
 *     CACHE/models--ORG--NAME/refs/main            a text: the commit that "main" means here
 *     CACHE/models--ORG--NAME/snapshots/COMMIT/    the folder, links to ../../blobs
 *
 * Ids and revisions are checked to be plain components, so a name cannot lead out of the cache.
 */
#include "core/files/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Components of letters, digits, '.', '_', '-' and, between them, up to `slashes` slashes. */
static bool well_formed(const char *s, int slashes)
{
    bool start = true;
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                      (*s >= '0' && *s <= '9') || *s == '_';
        if (!letter && (start || (*s != '.' && *s != '-' && *s != '/')))
            return false;
        start = *s == '/';
        if (start && slashes-- == 0)
            return false;
    }
    return !start;
}

static char *cache_root(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {
        {"HF_HUB_CACHE", ""},
        {"HF_HOME", "/hub"},
        {"XDG_CACHE_HOME", "/huggingface/hub"},
        {"HOME", "/.cache/huggingface/hub"},
    };
    char *root = NULL;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value && *value)
            return asprintf(&root, "%s%s", value, places[i].below) < 0 ? NULL : root;
    }
    return strdup(".cache/huggingface/hub");
}

/* The commit that revision means in repo: what refs/REVISION says, or the revision itself. */
static enum status resolve(const char *repo, const char *revision, char commit[128],
                           struct error *err)
{
    char *path = NULL;
    if (asprintf(&path, "%s/refs/%s", repo, revision) < 0)
        return error_memory(err, "looking up a model");
    snprintf(commit, 128, "%s", revision);
    FILE *f = fopen(path, "r");
    free(path);
    if (!f)
        return errno == ENOMEM ? error_memory(err, "looking up a model") : ST_OK;
    if (fscanf(f, "%127s", commit) != 1)
        *commit = 0;
    fclose(f);
    return ST_OK;
}

/* The snapshot of id ("ORG/NAME") at revision; *dir stays NULL if the cache has none. */
static enum status look_up(const char *root, const char *id, const char *revision, char **dir,
                           struct error *err)
{
    char *repo = NULL, *found = NULL, commit[128];
    const char *slash = strchr(id, '/');
    int org = slash ? (int)(slash - id) : 0;
    if (asprintf(&repo, "%s/models--%.*s%s%s", root, org, id, slash ? "--" : "",
                 slash ? slash + 1 : id) < 0)
        return error_memory(err, "looking up a model");
    enum status s = resolve(repo, revision, commit, err);
    if (!s && well_formed(commit, 0) && asprintf(&found, "%s/snapshots/%s", repo, commit) < 0) {
        found = NULL;
        s = error_memory(err, "looking up a model");
    }
    if (found && is_folder(found)) {
        *dir = found;
        found = NULL;
    }
    free(found);
    free(repo);
    return s;
}

enum status checkpoint_locate(const char *spec, char **dir, struct error *err)
{
    char *id = NULL, *root = NULL;
    enum status s = ST_OK;
    *dir = NULL;
    id = strdup(spec);
    root = cache_root();
    if (is_folder(spec)) {
        *dir = id;
        id = NULL;
        s = *dir ? ST_OK : error_memory(err, "looking up a model");
        goto done;
    }
    if (!id || !root) {
        s = error_memory(err, "looking up a model");
        goto done;
    }
    char *at = strchr(id, '@');
    if (at)
        *at = 0;
    const char *revision = at ? at + 1 : "main";
    if (!well_formed(id, 1) || !well_formed(revision, 8)) {
        s = error_set(err, ST_FILE_UNREADABLE, "%s: no such folder", spec);
        goto done;
    }
    s = look_up(root, id, revision, dir, err);
    if (!s && !*dir)
        s = error_set(err, ST_FILE_UNREADABLE,
                      "%s: no such folder, and not in the Hugging Face cache %s: fetch it with `hf "
                      "download %s%s%s`",
                      spec, root, id, at ? " --revision " : "", at ? revision : "");
done:
    free(root);
    free(id);
    return s;
}
