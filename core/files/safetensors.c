/*
 * Owns the safetensors container: bytes in, a sorted list of borrowed tensors out.
 *
 *     0        8                  8+n                                   size
 *     | n: u64 | {"name":{...}}   | data: tensor after tensor, no holes |
 *
 * What makes a tensor safe to read is established once, here: its extent lies inside the file, is
 * exactly as long as shape and dtype say, and overlaps no other (sorted by begin, each extent
 * starts where the one before it ends, the first at 0, the last at the end of the file). Nothing is
 * copied but the names. A header that is no header is one error; entries that are wrong are
 * findings, all of them.
 *
 * Refused on purpose: sub-byte and complex dtypes, names that nobody can print, more values than a
 * checkpoint needs (counted before the JSON parser may allocate for them).
 */
#include "core/files/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"

/* Commas and brackets an honest header has for each tensor: 3 brackets, 5 commas, one more for each
 * further dimension. */
#define MARKS_PER_TENSOR 10

struct safetensors {
    char *path;
    const unsigned char *bytes;
    size_t size, header; /* of the file; of the JSON text */
    bool mapped;
    struct tensor *tensors;
    size_t n_tensors;
    char *names; /* of all tensors, one block */
};

struct extent {
    uint64_t begin, end;
    const char *name;
};

/* One header being checked. */
struct reader {
    struct safetensors *st;
    struct findings findings;
    struct extent *extents;
    size_t n_extents;
    bool offsets_whole; /* every entry's offsets could be read */
};

/* ---- the header as a text ---------------------------------------------------------------------
 */

static enum status header_extent(struct safetensors *st, struct error *err)
{
    uint64_t n = 0;
    if (st->size < 8)
        return error_set(err, ST_CHECKPOINT_INVALID,
                         "%s: header too small: the file has %zu bytes, expected at least 8",
                         st->path, st->size);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | st->bytes[i];
    if (n > SAFETENSORS_HEADER_MAX)
        return error_set(err, ST_CHECKPOINT_INVALID,
                         "%s: header too large: %llu bytes, expected at most %d", st->path,
                         (unsigned long long)n, SAFETENSORS_HEADER_MAX);
    if (n > st->size - 8)
        return error_set(err, ST_CHECKPOINT_INVALID,
                         "%s: header of %llu bytes does not fit the file of %zu bytes (truncated?)",
                         st->path, (unsigned long long)n, st->size);
    if (n == 0 || st->bytes[8] != '{')
        return error_set(err, ST_CHECKPOINT_INVALID,
                         "%s: header does not start with '{': not a safetensors file", st->path);
    st->header = (size_t)n;
    return ST_OK;
}

static enum status header_json(const struct safetensors *st, json_t **out, struct error *err)
{
    const char *text = (const char *)st->bytes + 8;
    if (json_shape(text, st->header).marks > (size_t)SAFETENSORS_TENSORS_MAX * MARKS_PER_TENSOR)
        return error_set(err, ST_CHECKPOINT_INVALID, "%s: header describes more than %d tensors",
                         st->path, SAFETENSORS_TENSORS_MAX);
    struct error why = ERROR_INIT;
    enum status s = json_parse(text, st->header, 3, "header", out, &why);
    if (s == ST_OUT_OF_MEMORY)
        error_set(err, s, "%s: %s", st->path, why.text);
    else if (s)
        s = error_set(err, ST_CHECKPOINT_INVALID, "%s: %s", st->path, why.text);
    else if (!json_is_object(*out)) // unreachable while the first byte is '{'
        s = error_set(err, ST_CHECKPOINT_INVALID, "%s: header is not an object", st->path);
    error_clear(&why);
    return s;
}

/* ---- entries ----------------------------------------------------------------------------------
 */

static void complain(struct reader *r, const char *name, const char *field, const char *expected,
                     const char *got)
{
    findings_add(&r->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, name, field, expected, got,
                 "%s: tensor %s: %s: expected %s, got %s", r->st->path, name, field, expected, got);
}

/* What a JSON value is, for a message. */
static const char *kind_of(const json_t *v)
{
    if (!v)
        return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number that is not an integer";
    default:
        return "null or a boolean";
    }
}

/* At most 40 bytes of a text from outside, whole characters, for a message. */
static const char *shorten(const char *text, char out[48])
{
    int n = (int)strnlen(text, 41);
    if (n > 40)
        for (n = 40; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80;)
            n--;
    snprintf(out, 48, "%.*s%s", n, text, text[n] ? "..." : "");
    return out;
}

static void check_metadata(struct reader *r, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v)) {
        complain(r, "__metadata__", "value", "an object of strings", kind_of(v));
        return;
    }
    json_object_foreach(v, key, value)
    {
        if (!json_is_string(value))
            complain(r, "__metadata__", key, "a string", kind_of(value));
    }
}

/* The entries of a JSON array that must be integers of 0 .. INT64_MAX; false after a finding. */
static bool read_integers(struct reader *r, const char *name, const char *field, const json_t *v,
                          size_t most, int64_t *out, size_t *n)
{
    char expected[64];
    snprintf(expected, sizeof expected, "an array of at most %zu integers >= 0", most);
    if (!json_is_array(v)) {
        complain(r, name, field, expected, kind_of(v));
        return false;
    }
    *n = json_array_size(v);
    if (*n > most) {
        char got[32];
        snprintf(got, sizeof got, "%zu", *n);
        complain(r, name, field, expected, got);
        return false;
    }
    for (size_t i = 0; i < *n; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0) {
            complain(r, name, field, expected,
                     json_is_integer(x) ? "a negative integer" : kind_of(x));
            return false;
        }
        out[i] = json_integer_value(x);
    }
    return true;
}

static bool read_dtype(struct reader *r, const char *name, const json_t *v, enum dtype *out)
{
    if (!json_is_string(v)) {
        complain(r, name, "dtype", "a string", kind_of(v));
        return false;
    }
    const char *text = json_string_value(v);
    char got[48];
    if (strlen(text) == json_string_length(v) && dtype_parse(text, out))
        return true;
    findings_add(&r->findings, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, name, "dtype",
                 "BOOL, U8..U64, I8..I64, F8_E4M3, F8_E5M2, F8_E8M0, F16, BF16, F32 or F64",
                 shorten(text, got), "%s: tensor %s: dtype %s is not supported", r->st->path, name,
                 got);
    return false;
}

static bool read_offsets(struct reader *r, const char *name, const json_t *v, struct extent *out)
{
    int64_t o[2];
    size_t n = 0;
    if (!read_integers(r, name, "data_offsets", v, 2, o, &n))
        return false;
    if (n != 2) {
        complain(r, name, "data_offsets", "[begin, end]", "fewer than two integers");
        return false;
    }
    if (o[1] < o[0]) {
        char got[64];
        snprintf(got, sizeof got, "[%lld, %lld]", (long long)o[0], (long long)o[1]);
        complain(r, name, "data_offsets", "begin <= end", got);
        return false;
    }
    *out = (struct extent){.begin = (uint64_t)o[0], .end = (uint64_t)o[1], .name = name};
    return true;
}

/* Does the extent hold exactly what shape and dtype say? */
static void check_bytes(struct reader *r, const struct tensor *t, const struct extent *x)
{
    int64_t dims[TENSOR_MAX_RANK + 1], bytes = 0;
    char expected[64], got[64];
    memcpy(dims, t->shape, sizeof t->shape);
    dims[t->rank] = (int64_t)dtype_size(t->dtype);
    if (!size_product(dims, t->rank + 1, &bytes)) {
        complain(r, t->name, "shape", "a size below 2^63 bytes",
                 tensor_shape_text(t, got, sizeof got));
        return;
    }
    if ((uint64_t)bytes == x->end - x->begin)
        return;
    char shape[128];
    snprintf(expected, sizeof expected, "%lld bytes", (long long)bytes);
    snprintf(got, sizeof got, "%llu bytes", (unsigned long long)(x->end - x->begin));
    findings_add(&r->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, t->name, "data_offsets",
                 expected, got, "%s: tensor %s: %s %s takes %s, data_offsets give %s", r->st->path,
                 t->name, dtype_name(t->dtype), tensor_shape_text(t, shape, sizeof shape), expected,
                 got);
}

/* One entry into *t (name set by the caller); what is wrong with it becomes findings. */
static void read_entry(struct reader *r, struct tensor *t, const json_t *v)
{
    struct extent x = {0};
    size_t rank = 0;
    if (!json_is_object(v)) {
        complain(r, t->name, "value", "an object with dtype, shape and data_offsets", kind_of(v));
        r->offsets_whole = false;
        return;
    }
    bool dtype = read_dtype(r, t->name, json_object_get(v, "dtype"), &t->dtype);
    bool shape = read_integers(r, t->name, "shape", json_object_get(v, "shape"), TENSOR_MAX_RANK,
                               t->shape, &rank);
    bool offsets = read_offsets(r, t->name, json_object_get(v, "data_offsets"), &x);
    t->rank = (int)rank;
    if (offsets)
        r->extents[r->n_extents++] = x;
    else
        r->offsets_whole = false;
    if (dtype && shape && offsets)
        check_bytes(r, t, &x);
    size_t data = r->st->size - 8 - r->st->header;
    if (offsets && x.end <= data) {
        t->data = r->st->bytes + 8 + r->st->header + x.begin;
        t->bytes = (size_t)(x.end - x.begin);
    }
}

static int by_extent(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

/* No holes, no overlap, and the data ends where the file ends. */
static void check_layout(struct reader *r)
{
    uint64_t at = 0, data = r->st->size - 8 - r->st->header;
    char expected[64], got[64];
    qsort(r->extents, r->n_extents, sizeof *r->extents, by_extent);
    for (size_t i = 0; i < r->n_extents; i++) {
        const struct extent *x = &r->extents[i];
        if (x->begin != at) {
            snprintf(expected, sizeof expected, "begin %llu", (unsigned long long)at);
            snprintf(got, sizeof got, "%llu (%s)", (unsigned long long)x->begin,
                     x->begin > at ? "a hole before it" : "an overlap");
            complain(r, x->name, "data_offsets", expected, got);
        }
        at = x->end > at ? x->end : at;
    }
    if (at == data)
        return;
    snprintf(expected, sizeof expected, "%llu bytes of data", (unsigned long long)at);
    snprintf(got, sizeof got, "%llu", (unsigned long long)data);
    findings_add(&r->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, NULL, "size", expected, got,
                 "%s: the tensors take %s, the file holds %s (%s)", r->st->path, expected, got,
                 at > data ? "truncated?" : "trailing bytes");
}

/* The first name of the header that is too long, or NULL and the bytes that all names take. */
static const char *measure_names(json_t *header, size_t *total)
{
    const char *key;
    json_t *value;
    *total = 1;
    json_object_foreach(header, key, value)
    {
        size_t len = strlen(key);
        if (len > SAFETENSORS_NAME_MAX)
            return key;
        *total += len + 1;
    }
    return NULL;
}

/* Room for n entries and their names, which are filled in; false when memory runs out. */
static bool take_names(struct reader *r, json_t *header, size_t n, size_t total)
{
    size_t i = 0;
    const char *key;
    json_t *value;
    r->st->names = malloc(total);
    r->st->tensors = calloc(n + 1, sizeof *r->st->tensors);
    r->extents = calloc(n + 1, sizeof *r->extents);
    if (!r->st->names || !r->st->tensors || !r->extents)
        return false;
    char *at = r->st->names;
    json_object_foreach(header, key, value)
    {
        if (!strcmp(key, "__metadata__"))
            continue;
        r->st->tensors[i].name = at;
        r->st->tensors[i++].file = r->st->path;
        at = stpcpy(at, key) + 1;
    }
    r->st->n_tensors = i;
    return true;
}

static enum status read_entries(struct safetensors *st, json_t *header, struct error *err)
{
    struct reader r = {.st = st, .offsets_whole = true};
    const char *key;
    json_t *value;
    size_t i = 0, n = json_object_size(header), total = 0;
    enum status s = ST_OK;
    if (n > SAFETENSORS_TENSORS_MAX)
        return error_set(err, ST_CHECKPOINT_INVALID, "%s: %zu tensors, expected at most %d",
                         st->path, n, SAFETENSORS_TENSORS_MAX);
    key = measure_names(header, &total);
    if (key)
        return error_set(err, ST_CHECKPOINT_INVALID,
                         "%s: tensor %s: a name of %zu bytes, expected at most %d", st->path,
                         shorten(key, (char[48]){0}), strlen(key), SAFETENSORS_NAME_MAX);
    if (!take_names(&r, header, n, total)) {
        s = error_memory(err, "listing tensors");
        goto done;
    }
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__"))
            read_entry(&r, &st->tensors[i++], value);
        else
            check_metadata(&r, value);
    }
    if (r.offsets_whole)
        check_layout(&r);
    s = error_from_findings(err, &r.findings);
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
done:
    free(r.extents);
    return s;
}

/* ---- open and close ---------------------------------------------------------------------------
 */

static enum status map_file(const char *path, const void **bytes, size_t *size, struct error *err)
{
    enum status s = ST_OK;
    struct stat info;
    // O_NONBLOCK: a FIFO in an adapter folder must not hold the loader for ever
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, errno == ENOMEM ? ST_OUT_OF_MEMORY : ST_FILE_UNREADABLE, "%s: %s",
                         path, strerror(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        s = error_set(err, ST_FILE_UNREADABLE, "%s: not a regular file", path);
        goto done;
    }
    *size = (size_t)info.st_size;
    if (*size == 0) // nothing to map: the parser says what is missing
        goto done;
    void *p = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        s = error_set(err, errno == ENOMEM ? ST_OUT_OF_MEMORY : ST_FILE_UNREADABLE,
                      "%s: cannot be mapped: %s", path, strerror(errno));
    else
        *bytes = p;
done:
    close(fd);
    return s;
}

/* Takes the mapping over (when mapped), also on failure. */
static enum status parse(const void *bytes, size_t size, bool mapped, const char *path,
                         struct safetensors **out, struct error *err)
{
    json_t *header = NULL;
    enum status s = ST_OK;
    struct safetensors *st = calloc(1, sizeof *st);
    if (!st) {
        if (mapped)
            munmap((void *)bytes, size);
        return error_memory(err, "opening a safetensors file");
    }
    *st = (struct safetensors){.bytes = bytes, .size = size, .mapped = mapped};
    st->path = strdup(path);
    if (!st->path) {
        s = error_memory(err, "opening a safetensors file");
        goto done;
    }
    s = header_extent(st, err);
    if (s)
        goto done;
    s = header_json(st, &header, err);
    if (s)
        goto done;
    s = read_entries(st, header, err);
    if (s)
        goto done;
    *out = st;
    st = NULL;
done:
    json_decref(header);
    safetensors_close(st);
    return s;
}

enum status safetensors_open(const char *path, struct safetensors **out, struct error *err)
{
    const void *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    enum status s = map_file(path, &bytes, &size, err);
    return s ? s : parse(bytes, size, bytes != NULL, path, out, err);
}

enum status safetensors_parse(const void *bytes, size_t size, const char *path,
                              struct safetensors **out, struct error *err)
{
    *out = NULL;
    return parse(bytes, size, false, path, out, err);
}

void safetensors_forget(const struct safetensors *st)
{
    if (st->mapped)
        madvise((void *)st->bytes, st->size, MADV_DONTNEED);
}

void safetensors_close(struct safetensors *st)
{
    if (!st)
        return;
    if (st->mapped)
        munmap((void *)st->bytes, st->size);
    free(st->tensors);
    free(st->names);
    free(st->path);
    free(st);
}

const struct tensor *safetensors_tensors(const struct safetensors *st, size_t *n)
{
    *n = st->n_tensors;
    return st->tensors;
}

const struct tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    const struct tensor key = {.name = name};
    return bsearch(&key, st->tensors, st->n_tensors, sizeof key, by_name);
}

const char *safetensors_path(const struct safetensors *st)
{
    return st->path;
}

size_t safetensors_size(const struct safetensors *st)
{
    return st->size;
}

const char *safetensors_header(const struct safetensors *st, size_t *size)
{
    *size = st->header;
    return (const char *)st->bytes + 8;
}
