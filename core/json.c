/*
 * Owns the step from JSON text to jansson values with the daemon's limits, and the two small
 * services that every reader and writer of JSON needs: the nearest known word, and a float that
 * reads back. jansson parses; it is asked to refuse duplicates and to allow NUL. Depth is checked
 * before it, since its own limit is a build constant.
 */
#include "core/json.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Deepest nesting of arrays and objects in text, as brackets outside strings tell. */
static int depth_of(const char *text, size_t len)
{
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > deepest)
                deepest = depth;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return deepest;
}

/* jansson 2.14 reports some failed allocations as bad syntax and loses characters at others (its
 * strbuffer's append is not checked), so memory is watched from below. */
static _Thread_local bool ran_out;

static void *watched_malloc(size_t size)
{
    void *p = malloc(size);
    ran_out |= !p;
    return p;
}

static void watch(void)
{
    json_set_alloc_funcs(watched_malloc, free);
}

enum status json_parse(const char *text, size_t len, int max_depth, const char *what, json_t **out,
                       struct error *err)
{
    *out = NULL;
    if (depth_of(text, len) > max_depth)
        return error_set(err, ST_INVALID_JSON, "%s: nested deeper than %d levels", what, max_depth);
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
    ran_out = false;
    json_error_t e;
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    if (ran_out) {
        json_decref(*out);
        *out = NULL;
        return error_memory(err, "parsing JSON");
    }
    if (*out)
        return ST_OK;
    switch (json_error_code(&e)) {
    case json_error_out_of_memory:
        return error_memory(err, "parsing JSON");
    case json_error_duplicate_key:
        return error_set(err, ST_CONFIG_DUPLICATE_KEY, "%s: line %d: %s", what, e.line, e.text);
    default:
        return error_set(err, ST_INVALID_JSON, "%s: line %d, column %d: %s", what, e.line, e.column,
                         e.text);
    }
}

/* The whole file, malloc'ed. */
static enum status read_whole(const char *path, size_t max_bytes, char **out, size_t *len,
                              struct error *err)
{
    char *text = NULL;
    enum status s = ST_OK;
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f)
        return error_set(err, ST_FILE_UNREADABLE, "%s: %s", path, strerror(errno));
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
    *out = text;
    text = NULL;
done:
    free(text);
    fclose(f);
    return s;
}

enum status json_read(const char *path, size_t max_bytes, json_t **out, struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    *out = NULL;
    enum status s = read_whole(path, max_bytes, &text, &len, err);
    if (s)
        return s;
    s = json_parse(text, len, JSON_DEPTH_MAX, path, out, err);
    free(text);
    if (!s && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        s = error_set(err, ST_INVALID_JSON, "%s: an object is expected", path);
    }
    return s;
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
