/*
 * Owns the reading of adapter folders. A file is opened once, checked by its descriptor (regular,
 * below the root wherever links led, not too large) and read once; one that changes its size
 * meanwhile is refused.
 */
#include "core/adapters/package.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/turns.h"

#define CONFIG_NAME  "adapter_config.json"
#define TENSORS_NAME "adapter_model.safetensors"
#define PICKLE_NAME  "adapter_model.bin"
#define CONFIG_MAX   ((uint64_t)16 << 20)
#define HEADER       16
#define UNIT         ((size_t)256 << 10) /* read at once */
#define AHEAD        ((size_t)16 << 20)  /* asked of a disk that is waited for */

static enum status unreadable(struct findings *f, enum status code, const char *path,
                              const char *expected, const char *got)
{
    return findings_add(f, SEVERITY_ERROR, code, NULL, strrchr(path, '/') + 1, expected, got,
                        "%s: %s", path, got);
}

/* Where links led must be below root. */
static bool lies_beneath(int fd, const char *root)
{
    char link[64], real[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof real - 1);
    if (n < 0)
        return false;
    real[n] = 0;
    size_t len = strlen(root);
    return !strncmp(real, root, len) && (real[len] == '/' || (len && root[len - 1] == '/'));
}

/* Opens path and finds its size; -1 with a finding. */
static int open_file(const char *path, const char *beneath, uint64_t max, size_t *size,
                     struct findings *f)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        unreadable(f, ST_FILE_UNREADABLE, path, "a readable file", strerror(errno));
        return -1;
    }
    char got[96];
    if (beneath && !lies_beneath(fd, beneath)) {
        unreadable(f, ST_PATH_OUTSIDE_ROOT, path, "a file below the root",
                   "a link leads outside the root");
    } else if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        unreadable(f, ST_FILE_UNREADABLE, path, "a regular file", "not a regular file");
    } else if ((uint64_t)st.st_size > max) {
        char expected[96];
        snprintf(expected, sizeof expected, "at most %llu bytes", (unsigned long long)max);
        snprintf(got, sizeof got, "%lld bytes are more than the %llu that fit",
                 (long long)st.st_size, (unsigned long long)max);
        unreadable(f, ST_CAPACITY_EXCEEDED, path, expected, got);
    } else {
        *size = (size_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

/* pread of a unit. When it has to wait for the disk, nobody waits for it, and the disk learns what
 * will be read next. */
static ssize_t read_unit(int fd, char *out, size_t at, size_t size)
{
    const struct iovec v = {out, size - at < UNIT ? size - at : UNIT};
    ssize_t n = preadv2(fd, &v, 1, (off_t)at, RWF_NOWAIT);
    if (n >= 0)
        return n;
    if (errno == EAGAIN) {
        turns_away();
        for (size_t next = at; next < size && next < at + AHEAD; next += UNIT)
            posix_fadvise(fd, (off_t)next, (off_t)UNIT, POSIX_FADV_WILLNEED);
    }
    return pread(fd, out, v.iov_len, (off_t)at);
}

static bool read_file(int fd, const char *path, char *out, size_t size, struct findings *f)
{
    size_t at = 0;
    while (at < size) {
        turns_pause();
        ssize_t n = read_unit(fd, out + at, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    char more;
    if (at == size && pread(fd, &more, 1, (off_t)size) == 0)
        return true;
    unreadable(f, ST_FILE_UNREADABLE, path, "a file at rest", "it changed while it was being read");
    return false;
}

static char *join(const char *dir, const char *name)
{
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    if (path)
        sprintf(path, "%s/%s", dir, name);
    return path;
}

static void put_u64(char *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (char)(v >> 8 * i);
}

/* A folder that has only the pickle gets a sentence of its own. */
static void mention_pickle(const char *dir, struct findings *f)
{
    char *path = join(dir, PICKLE_NAME);
    if (path && !access(path, F_OK))
        unreadable(f, ST_FILE_UNREADABLE, path, TENSORS_NAME,
                   "a pickle is not read: save the adapter with safetensors");
    free(path);
}

enum status package_read(const char *dir, const char *beneath, uint64_t max_bytes,
                         struct ledger *ledger, struct package *out, struct findings *findings,
                         struct error *err)
{
    enum status s = ST_OK;
    int config = -1, tensors = -1;
    size_t n_config = 0, n_tensors = 0;
    memset(out, 0, sizeof *out);
    out->config_path = join(dir, CONFIG_NAME);
    out->tensors_path = join(dir, TENSORS_NAME);
    if (!out->config_path || !out->tensors_path) {
        s = error_memory(err, "opening an adapter");
        goto done;
    }
    uint64_t room = memory_available() / 2;
    if (max_bytes && max_bytes < room)
        room = max_bytes;
    config = open_file(out->config_path, beneath, CONFIG_MAX, &n_config, findings);
    tensors = open_file(out->tensors_path, beneath, room, &n_tensors, findings);
    if (tensors < 0)
        mention_pickle(dir, findings);
    out->ledger = ledger;
    out->taken = HEADER + n_config + n_tensors + 1;
    out->bytes = ledger_take(ledger, out->taken);
    if (!out->bytes) {
        s = error_memory(err, "reading an adapter");
        goto done;
    }
    put_u64(out->bytes, n_config);
    put_u64(out->bytes + 8, n_tensors);
    char *at = out->bytes + HEADER;
    if (config >= 0 && read_file(config, out->config_path, at, n_config, findings)) {
        out->config = at;
        out->config_size = n_config;
    }
    at += n_config;
    if (tensors >= 0 && read_file(tensors, out->tensors_path, at, n_tensors, findings)) {
        out->tensors = at;
        out->tensors_size = n_tensors;
    }
done:
    if (config >= 0)
        close(config);
    if (tensors >= 0)
        close(tensors);
    return s;
}

void package_clear(struct package *p)
{
    free(p->config_path);
    free(p->tensors_path);
    ledger_leave(p->ledger, p->bytes, p->taken);
    memset(p, 0, sizeof *p);
}

size_t package_size(const struct package *p)
{
    return HEADER + p->config_size + p->tensors_size;
}

void *package_take(struct package *p, size_t *taken)
{
    void *bytes = p->bytes;
    *taken = p->taken;
    p->bytes = NULL;
    return bytes;
}

void package_digest(const struct package *p, uint8_t out[DIGEST_SIZE])
{
    digest_bytes(p->bytes, package_size(p), out);
}
