/*
 * Owns the way from a file to JSON values (json_parse.c reads the text itself), and the small
 * services that every reader and writer of JSON needs: the shape of a text, copies and texts of
 * values, the nearest known word, and a float that reads back.
 */
#include "core/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buffer.h"

/* Where the string that begins before at ends, or the text. */
static const char *string_end(const char *at, const char *end)
{
    const char *quote = at;
    for (;;) {
        if (quote <= at)
            quote = memchr(at, '"', (size_t)(end - at));
        if (!quote)
            quote = end;
        const char *slash = memchr(at, '\\', (size_t)(quote - at));
        if (!slash)
            return quote;
        if (end - slash <= 2)
            return end;
        at = slash + 2;
    }
}

struct json_shape json_shape(const char *text, size_t len)
{
    struct json_shape shape = {0};
    const char *end = text + len;
    int depth = 0;
    for (const char *p = text; p < end;) {
        char c = *p++;
        if (c == '"') {
            p = string_end(p, end);
            p += p < end;
        } else if (c == '[' || c == '{') {
            shape.marks++;
            if (++depth > shape.depth)
                shape.depth = depth;
        } else if (c == ']' || c == '}') {
            depth--;
        } else if (c == ',') {
            shape.marks++;
        }
    }
    return shape;
}

enum status json_read_text(const char *path, size_t max_bytes, char **out, size_t *len,
                           struct error *err)
{
    char *text = NULL;
    enum status s = ST_OK;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hold us up
    if (fd < 0)
        return error_set(err, ST_FILE_UNREADABLE, "%s: %s", path, strerror(errno));
    FILE *f = fdopen(fd, "rb");
    if (!f) {
        close(fd);
        return error_memory(err, "reading JSON");
    }
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
        s = error_set(err, ST_FILE_UNREADABLE, "%s: not a regular file", path);
        goto done;
    }
    if ((uint64_t)st.st_size > max_bytes) {
        s = error_set(err, ST_FILE_UNREADABLE, "%s: %lld bytes, at most %zu are read", path,
                      (long long)st.st_size, max_bytes);
        goto done;
    }
    text = malloc((size_t)st.st_size + 1);
    if (!text) {
        s = error_memory(err, "reading JSON");
        goto done;
    }
    *len = fread(text, 1, (size_t)st.st_size, f);
    if (*len != (size_t)st.st_size) {
        s = error_set(err, ST_FILE_UNREADABLE, "%s: read %zu of %lld bytes", path, *len,
                      (long long)st.st_size);
        goto done;
    }
    text[*len] = 0;
    *out = text;
    text = NULL;
done:
    free(text);
    fclose(f);
    return s;
}

static enum status read_kind(const char *path, size_t max_bytes, bool list, json_t **out,
                             struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    *out = NULL;
    enum status s = json_read_text(path, max_bytes, &text, &len, err);
    if (!text)
        return s;
    s = json_parse(text, len, JSON_DEPTH_MAX, path, out, err);
    free(text);
    if (!s && (list ? !json_is_array(*out) : !json_is_object(*out))) {
        json_decref(*out);
        *out = NULL;
        s = error_set(err, ST_INVALID_JSON, "%s: %s is expected", path,
                      list ? "a list" : "an object");
    }
    return s;
}

enum status json_read(const char *path, size_t max_bytes, json_t **out, struct error *err)
{
    return read_kind(path, max_bytes, false, out, err);
}

enum status json_read_list(const char *path, size_t max_bytes, json_t **out, struct error *err)
{
    return read_kind(path, max_bytes, true, out, err);
}

json_t *json_copy_object(const json_t *object)
{
    json_t *to = json_object(), *value;
    const char *key;
    size_t len;
    bool whole = to && json_is_object(object);
    json_object_keylen_foreach((json_t *)object, key, len, value)
    {
        whole = whole && !json_object_setn(to, key, len, value);
    }
    if (whole)
        return to;
    json_decref(to);
    return NULL;
}

static int take_text(const char *text, size_t size, void *to)
{
    struct buffer *b = to;
    buffer_add(b, text, size);
    return b->failed ? -1 : 0;
}

char *json_text(const json_t *value, size_t flags)
{
    struct buffer b = {0};
    bool whole = !json_dump_callback(value, take_text, &b, flags);
    buffer_add(&b, "", 1);
    if (whole && !b.failed)
        return b.v;
    buffer_free(&b);
    return NULL;
}

/* Edit distance (insert, delete, replace), at most `limit` + 1; words beyond 63 bytes count as far.
 */
static size_t distance(const char *a, const char *b, size_t limit)
{
    size_t n = strlen(a), m = strlen(b), row[64];
    if (n > 63 || m > 63)
        return limit + 1;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *nearest_word(const char *word, const char *const *candidates, size_t n)
{
    size_t limit = strlen(word) / 3 + 1, best = limit + 1;
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, candidates[i], limit);
        if (d < best) {
            best = d;
            found = candidates[i];
        }
    }
    return found;
}

int format_f32(float f, char *buf)
{
    int n = 0;
    for (int digits = 6; digits <= 9; digits++) {
        n = snprintf(buf, 32, "%.*g", digits, (double)f);
        if (strtof(buf, NULL) == f)
            break;
    }
    return n;
}
