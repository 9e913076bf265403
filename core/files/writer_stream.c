/*
 * Owns the bytes of a safetensors file that is being written:
 *
 *     n: u64 | {"__metadata__":{"format":"pt"},"name":{...}} and spaces up to 8 | data
 *
 * The data lies in the reference's order (alignment of the dtype descending, then name), whatever
 * order the tensors are announced and streamed in: readers that view the bytes as an array of the
 * dtype need that alignment. So each tensor's place is computed first and its bytes are written to
 * that place; the file is complete exactly when the last announced tensor is.
 */
#include "core/files/writer_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/files/safetensors.h"
#include "core/turns.h"

#define UNIT ((size_t)256 << 10) /* bytes that are written at once */

struct writer_place { /* one tensor */
    const char *name;
    enum dtype dtype;
    uint64_t bytes, begin; /* begin: relative to the data */
};

enum status writer_stream_error(struct error *err, const char *path, const char *what)
{
    return error_set(err, errno == ENOMEM ? ST_OUT_OF_MEMORY : ST_IO_ERROR, "%s: %s: %s", path,
                     what, strerror(errno));
}

bool writer_stream_put(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO;
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Where a dump of JSON goes: collected, then written. */
struct sink {
    int fd, error; /* errno of the first write that failed */
    size_t n;
    uint64_t total;
    char buf[8192];
};

static void sink_flush(struct sink *k)
{
    if (!k->error && !writer_stream_put(k->fd, k->buf, k->n))
        k->error = errno;
    k->n = 0;
}

static int sink_take(const char *text, size_t size, void *sink)
{
    struct sink *k = sink;
    k->total += size;
    while (size) {
        size_t part = sizeof k->buf - k->n < size ? sizeof k->buf - k->n : size;
        memcpy(k->buf + k->n, text, part);
        k->n += part;
        text += part;
        size -= part;
        if (k->n == sizeof k->buf)
            sink_flush(k);
    }
    return k->error ? -1 : 0;
}

/* A failure is remembered, whatever jansson makes of it (core/json.h: json_text). */
enum status writer_stream_json(int fd, const json_t *value, size_t flags, const char *path,
                               uint64_t *size, struct error *err)
{
    struct sink k = {.fd = fd};
    bool dumped = !json_dump_callback(value, sink_take, &k, flags);
    sink_flush(&k);
    errno = k.error;
    if (k.error)
        return writer_stream_error(err, path, "cannot be written");
    if (!dumped)
        return error_memory(err, "writing JSON");
    *size = k.total;
    return ST_OK;
}

static bool put_at(int fd, const void *data, size_t size, uint64_t offset)
{
    const char *at = data;
    const uint64_t first = offset;
    while (size) {
        turns_pause();
        ssize_t n = pwrite(fd, at, size < UNIT ? size : UNIT, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO;
            return false;
        }
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    // the device begins meanwhile, so that finishing has little to wait for; a hint, no more
    sync_file_range(fd, (off_t)first, (off_t)(offset - first), SYNC_FILE_RANGE_WRITE);
    return true;
}

enum status writer_stream_finish(int fd, const char *path, struct error *err)
{
    turns_away();
    enum status s = fsync(fd) ? writer_stream_error(err, path, "cannot be synced") : ST_OK;
    if (close(fd) && !s)
        s = writer_stream_error(err, path, "cannot be closed");
    return s;
}

void writer_stream_clear(struct writer_stream *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f->names);
    free(f->places);
    *f = (struct writer_stream){.fd = -1};
}

/* The reference's order of the data. */
static int by_layout(const void *a, const void *b)
{
    const struct writer_place *x = *(const struct writer_place *const *)a,
                              *y = *(const struct writer_place *const *)b;
    size_t m = dtype_size(x->dtype), n = dtype_size(y->dtype);
    if (m != n)
        return m > n ? -1 : 1;
    return strcmp(x->name, y->name);
}

static enum status copy_entries(struct writer_stream *f, const struct tensor *entries, size_t n,
                                struct error *err)
{
    size_t total = 1;
    for (size_t i = 0; i < n; i++)
        total += strlen(entries[i].name) + 1;
    f->names = malloc(total);
    f->places = calloc(n + 1, sizeof *f->places);
    if (!f->names || !f->places)
        return error_memory(err, "writing tensors");
    char *at = f->names;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &entries[i];
        int64_t dims[TENSOR_MAX_RANK + 1], bytes = 0;
        memcpy(dims, t->shape, sizeof t->shape);
        dims[t->rank] = (int64_t)dtype_size(t->dtype);
        if (!size_product(dims, t->rank + 1, &bytes))
            return error_set(err, ST_INVALID_VALUE, "%s: tensor %s: larger than 2^63 bytes",
                             f->path, t->name);
        f->places[i] =
            (struct writer_place){.name = at, .dtype = t->dtype, .bytes = (uint64_t)bytes};
        at = stpcpy(at, t->name) + 1;
    }
    f->n = n;
    return ST_OK;
}

/* Gives each tensor its place; refuses a name that occurs twice. */
static enum status lay_out(struct writer_stream *f, struct writer_place **sorted, struct error *err)
{
    uint64_t at = 0;
    for (size_t i = 0; i < f->n; i++)
        sorted[i] = &f->places[i];
    qsort(sorted, f->n, sizeof *sorted, by_layout);
    for (size_t i = 0; i < f->n; i++) {
        sorted[i]->begin = at;
        if (sorted[i]->bytes > INT64_MAX - at)
            return error_set(err, ST_INVALID_VALUE, "%s: larger than 2^63 bytes", f->path);
        at += sorted[i]->bytes;
    }
    return ST_OK;
}

/* {"dtype", "shape", "data_offsets"}; NULL when memory runs out. */
static json_t *entry_json(const struct tensor *t, const struct writer_place *p)
{
    json_t *shape = json_array();
    for (int i = 0; shape && i < t->rank; i++)
        if (json_array_append_new(shape, json_integer(t->shape[i]))) {
            json_decref(shape);
            shape = NULL;
        }
    return shape ? json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->dtype), "shape", shape,
                             "data_offsets", (json_int_t)p->begin,
                             (json_int_t)p->begin + (json_int_t)p->bytes)
                 : NULL;
}

static enum status header_json(struct writer_stream *f, const struct tensor *entries,
                               struct writer_place **sorted, json_t **out, struct error *err)
{
    json_t *h = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    enum status s = h ? ST_OK : error_memory(err, "writing tensors");
    for (size_t i = 0; i < f->n && !s; i++) {
        size_t number = (size_t)(sorted[i] - f->places);
        const char *name = sorted[i]->name;
        if (json_object_get(h, name))
            s = error_set(err, ST_INVALID_VALUE, "%s: tensor %s: announced twice", f->path, name);
        else if (json_object_set_new(h, name, entry_json(&entries[number], sorted[i])))
            s = error_memory(err, "writing tensors");
    }
    if (s) {
        json_decref(h);
        h = NULL;
    }
    *out = h;
    return s;
}

/* Length, JSON, spaces up to a multiple of 8. */
static enum status write_header(struct writer_stream *f, const json_t *header, struct error *err)
{
    unsigned char length[8] = {0};
    uint64_t size = 0;
    if (!writer_stream_put(f->fd, length, 8)) // filled in when it is known
        return writer_stream_error(err, f->path, "cannot be written");
    enum status s = writer_stream_json(f->fd, header, JSON_COMPACT, f->path, &size, err);
    if (s)
        return s;
    uint64_t padded = (size + 7) / 8 * 8;
    if (padded > SAFETENSORS_HEADER_MAX)
        return error_set(err, ST_INVALID_VALUE, "%s: too many tensors for one file", f->path);
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(padded >> (8 * i));
    if (!writer_stream_put(f->fd, "        ", (size_t)(padded - size)) ||
        !put_at(f->fd, length, 8, 0))
        return writer_stream_error(err, f->path, "cannot be written");
    f->data = 8 + padded;
    return ST_OK;
}

/* Skips tensors without bytes. */
static void next_tensor(struct writer_stream *f)
{
    while (f->at < f->n && f->done == f->places[f->at].bytes) {
        f->at++;
        f->done = 0;
    }
}

enum status writer_stream_begin(struct writer_stream *f, const struct tensor *entries, size_t n,
                                struct error *err)
{
    json_t *header = NULL;
    struct writer_place **sorted = calloc(n + 1, sizeof *sorted);
    if (!sorted)
        return error_memory(err, "writing tensors");
    enum status s = copy_entries(f, entries, n, err);
    if (!s)
        s = lay_out(f, sorted, err);
    if (!s)
        s = header_json(f, entries, sorted, &header, err);
    if (!s)
        s = write_header(f, header, err);
    if (!s)
        next_tensor(f);
    json_decref(header);
    free(sorted);
    return s;
}

enum status writer_stream_data(struct writer_stream *f, const void *data, size_t size,
                               struct error *err)
{
    const char *from = data;
    while (size) {
        if (f->at == f->n)
            return error_set(err, ST_INTERNAL, "%s: %zu bytes more than announced", f->path, size);
        const struct writer_place *p = &f->places[f->at];
        size_t part = p->bytes - f->done < size ? (size_t)(p->bytes - f->done) : size;
        if (!put_at(f->fd, from, part, f->data + p->begin + f->done))
            return writer_stream_error(err, f->path, "cannot be written");
        f->done += part;
        from += part;
        size -= part;
        next_tensor(f);
    }
    return ST_OK;
}

enum status writer_stream_end(struct writer_stream *f, struct error *err)
{
    enum status s = ST_OK;
    if (f->at < f->n)
        s = error_set(err, ST_INTERNAL, "%s: tensor %s: expected %llu bytes, got %llu", f->path,
                      f->places[f->at].name, (unsigned long long)f->places[f->at].bytes,
                      (unsigned long long)f->done);
    else
        s = writer_stream_finish(f->fd, f->path, err);
    if (f->at >= f->n)
        f->fd = -1; // closed, whatever finish said
    writer_stream_clear(f);
    return s;
}
