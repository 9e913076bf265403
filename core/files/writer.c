/*
 * Owns that a folder or a file appears whole or not at all. Everything is written below a hidden
 * name in the same parent, each file and the folder are synced, then one rename makes it visible
 * and the parent is synced; no reader can meet a half-written model, and a full disk, a short write
 * or a kill leave only the hidden name.
 *
 * That hidden folder is locked (flock) as long as its writer lives, so the next writer of the same
 * name can tell one that a kill left behind (it gets the lock and removes it) from one in use,
 * which holds across PID namespaces where a process id would not.
 */
#include "core/files/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files/writer_stream.h"
#include "core/turns.h"

struct writer {
    char *final, *parent, *hidden; /* hidden: the path of the folder that is being written */
    int folder;                    /* its descriptor, locked; -1 */
    bool made;
    struct writer_stream stream;
};

static enum status sync_folder(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? writer_stream_error(err, path, "cannot be opened")
                  : writer_stream_finish(fd, path, err);
}

/* ---- names ------------------------------------------------------------------------------------
 */

/* Splits path (no trailing slashes) into *parent and the name within; both malloc'ed. */
static bool split(const char *path, char **parent, char **name)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t cut = len;
    while (cut && path[cut - 1] != '/')
        cut--;
    *name = strndup(path + cut, len - cut);
    *parent = cut ? strndup(path, cut > 1 ? cut - 1 : 1) : strdup(".");
    return *name && *parent;
}

static char *hidden_path(const char *parent, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/.%s.oftd-%ld.tmp", parent, name, (long)getpid()) < 0 ? NULL : path;
}

static bool bare_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* Empties and removes a folder of plain files. */
static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (bare_name(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

/* Removes hidden folders of the same name that no living writer holds. Best effort: what stays
 * costs disk, not correctness. */
static void remove_stale(const char *parent, const char *name)
{
    DIR *d = opendir(parent);
    size_t len = strlen(name);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *rest = e->d_name + 1 + len;
        int end = 0;
        if (e->d_name[0] != '.' || strncmp(e->d_name + 1, name, len) ||
            sscanf(rest, ".oftd-%*d.tmp%n", &end) < 0 || !end || rest[end])
            continue;
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char *path = NULL;
        if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) &&
            asprintf(&path, "%s/%s", parent, e->d_name) >= 0) {
            remove_folder(path);
            free(path);
        }
        if (fd >= 0)
            close(fd);
    }
    if (d)
        closedir(d);
}

/* ---- the folder -------------------------------------------------------------------------------
 */

static enum status make_hidden(struct writer *w, struct error *err)
{
    if (mkdir(w->hidden, 0777))
        return errno == EEXIST
                   ? error_set(err, ST_PATH_EXISTS, "%s: being written already", w->final)
                   : writer_stream_error(err, w->hidden, "cannot be made");
    w->made = true;
    w->folder = open(w->hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->folder < 0)
        return writer_stream_error(err, w->hidden, "cannot be opened");
    // a file system without locks is written all the same; only stale folders stay there
    if (flock(w->folder, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return error_set(err, ST_PATH_EXISTS, "%s: being written already", w->final);
    return ST_OK;
}

enum status writer_open(const char *final, struct writer **out, struct error *err)
{
    char *name = NULL;
    struct stat info;
    enum status s = ST_OK;
    *out = NULL;
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        return error_memory(err, "opening an output folder");
    w->folder = w->stream.fd = -1;
    w->final = strdup(final);
    if (!w->final || !split(final, &w->parent, &name)) {
        s = error_memory(err, "opening an output folder");
        goto done;
    }
    if (!bare_name(name)) {
        s = error_set(err, ST_INVALID_VALUE, "%s: not the name of a new folder", final);
        goto done;
    }
    if (!lstat(final, &info)) {
        s = error_set(err, ST_PATH_EXISTS, "%s: exists already", final);
        goto done;
    }
    w->hidden = hidden_path(w->parent, name);
    if (!w->hidden) {
        s = error_memory(err, "opening an output folder");
        goto done;
    }
    remove_stale(w->parent, name);
    s = make_hidden(w, err);
done:
    free(name);
    if (s)
        writer_abort(w);
    else
        *out = w;
    return s;
}

/* A new file of the folder. *path is malloc'ed, for messages. */
static enum status create(struct writer *w, const char *name, int *fd, char **path,
                          struct error *err)
{
    if (!bare_name(name))
        return error_set(err, ST_INVALID_VALUE, "%s: not the name of a file", name);
    if (asprintf(path, "%s/%s", w->hidden, name) < 0) {
        *path = NULL;
        return error_memory(err, "writing a file");
    }
    *fd = openat(w->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (*fd >= 0)
        return ST_OK;
    enum status s = writer_stream_error(err, *path, "cannot be made");
    free(*path);
    *path = NULL;
    return s;
}

enum status writer_json(struct writer *w, const char *name, const json_t *value, struct error *err)
{
    int fd = -1;
    char *path = NULL;
    uint64_t size = 0;
    enum status s = create(w, name, &fd, &path, err);
    if (s)
        return s;
    s = writer_stream_json(fd, value, JSON_INDENT(2) | JSON_ENCODE_ANY, path, &size, err);
    if (!s && !writer_stream_put(fd, "\n", 1))
        s = writer_stream_error(err, path, "cannot be written");
    enum status end = writer_stream_finish(fd, path, s ? NULL : err);
    free(path);
    return s ? s : end;
}

static enum status copy_bytes(int from, int to, const char *path, struct error *err)
{
    char buf[65536];
    for (;;) {
        ssize_t n = read(from, buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return writer_stream_error(err, path, "cannot be read");
        if (n == 0)
            return ST_OK;
        if (!writer_stream_put(to, buf, (size_t)n))
            return writer_stream_error(err, path, "cannot be written");
    }
}

enum status writer_copy(struct writer *w, const char *from_dir, const char *name, struct error *err)
{
    char *from_path = NULL, *path = NULL;
    struct stat info;
    int fd = -1;
    if (asprintf(&from_path, "%s/%s", from_dir, name) < 0)
        return error_memory(err, "copying a file");
    enum status s = ST_OK;
    int from = open(from_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) {
        if (errno != ENOENT)
            s = writer_stream_error(err, from_path, "cannot be read");
        goto done;
    }
    if (fstat(from, &info) || !S_ISREG(info.st_mode)) {
        s = error_set(err, ST_IO_ERROR, "%s: not a regular file", from_path);
        goto done;
    }
    s = create(w, name, &fd, &path, err);
    if (s)
        goto done;
    s = copy_bytes(from, fd, path, err);
    enum status end = writer_stream_finish(fd, path, s ? NULL : err);
    s = s ? s : end;
done:
    if (from >= 0)
        close(from);
    free(path);
    free(from_path);
    return s;
}

/* ---- tensors ----------------------------------------------------------------------------------
 */

enum status writer_tensors(struct writer *w, const char *name, const struct tensor *entries,
                           size_t n, struct error *err)
{
    struct writer_stream *f = &w->stream;
    if (f->path)
        return error_set(err, ST_INTERNAL, "%s: not finished yet", f->path);
    enum status s = create(w, name, &f->fd, &f->path, err);
    if (!s)
        s = writer_stream_begin(f, entries, n, err);
    if (s)
        writer_stream_clear(f);
    return s;
}

enum status writer_data(struct writer *w, const void *data, size_t size, struct error *err)
{
    return writer_stream_data(&w->stream, data, size, err);
}

enum status writer_end(struct writer *w, struct error *err)
{
    return writer_stream_end(&w->stream, err);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void writer_free(struct writer *w)
{
    writer_stream_clear(&w->stream);
    if (w->folder >= 0)
        close(w->folder);
    free(w->hidden);
    free(w->parent);
    free(w->final);
    free(w);
}

/* Never replaces anything, also where the file system cannot promise it in one call. */
static enum status publish(const struct writer *w, struct error *err)
{
    struct stat info;
    if (!renameat2(AT_FDCWD, w->hidden, AT_FDCWD, w->final, RENAME_NOREPLACE))
        return ST_OK;
    if (errno == EEXIST)
        return error_set(err, ST_PATH_EXISTS, "%s: exists already", w->final);
    if (errno != EINVAL && errno != ENOSYS)
        return writer_stream_error(err, w->final, "cannot be made");
    if (!lstat(w->final, &info))
        return error_set(err, ST_PATH_EXISTS, "%s: exists already", w->final);
    return rename(w->hidden, w->final) ? writer_stream_error(err, w->final, "cannot be made")
                                       : ST_OK;
}

enum status writer_commit(struct writer *w, struct error *err)
{
    enum status s = ST_OK;
    turns_away();
    if (w->stream.path)
        s = error_set(err, ST_INTERNAL, "%s: not finished yet", w->stream.path);
    else if (fsync(w->folder))
        s = writer_stream_error(err, w->hidden, "cannot be synced");
    else
        s = publish(w, err);
    if (s) {
        writer_abort(w);
        return s;
    }
    s = sync_folder(w->parent, err);
    writer_free(w);
    return s;
}

void writer_abort(struct writer *w)
{
    if (!w)
        return;
    if (w->made)
        remove_folder(w->hidden);
    writer_free(w);
}

enum status writer_file(const char *path, const struct tensor *tensors, size_t n, struct error *err)
{
    struct writer_stream f = {.fd = -1};
    char *parent = NULL, *name = NULL, *hidden = NULL;
    enum status s = ST_OK;
    if (!split(path, &parent, &name) || !(hidden = hidden_path(parent, name)) ||
        !(f.path = strdup(path))) {
        s = error_memory(err, "writing a file");
        goto done;
    }
    f.fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (f.fd < 0) {
        s = writer_stream_error(err, path, "cannot be made");
        goto done;
    }
    s = writer_stream_begin(&f, tensors, n, err);
    for (size_t i = 0; i < n && !s; i++)
        s = writer_stream_data(&f, tensors[i].data, tensors[i].bytes, err);
    if (!s)
        s = writer_stream_end(&f, err);
    if (!s && rename(hidden, path))
        s = writer_stream_error(err, path, "cannot be made");
    if (s)
        unlink(hidden);
    else
        s = sync_folder(parent, err);
done:
    writer_stream_clear(&f);
    free(hidden);
    free(name);
    free(parent);
    return s;
}
