/*
 * The keys are one immutable value behind a pointer: a check takes a reference under a short lock,
 * a reload publishes another value. Kept are the keys' SHA-256 digests, so a comparison takes the
 * same time whatever is sent and however long it is, and every key is compared.
 */
#include "server/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/digest.h"

#define KEY_FILE_MAX (1 << 20)

struct key {
    uint8_t digest[DIGEST_SIZE];
    bool admin;
    char name[AUTH_NAME_MAX + 1];
};
struct keys {
    atomic_int refs;
    struct key *v;
    size_t n, n_api, n_admin;
};

struct auth {
    char *paths[2]; /* API keys, admin keys */
    pthread_mutex_t lock;
    struct keys *keys;
};

static void keys_unref(struct keys *k)
{
    if (k && atomic_fetch_sub(&k->refs, 1) == 1) {
        free(k->v);
        free(k);
    }
}

static struct keys *keys_ref(const struct auth *a)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&a->lock;
    pthread_mutex_lock(lock);
    struct keys *k = a->keys;
    atomic_fetch_add(&k->refs, 1);
    pthread_mutex_unlock(lock);
    return k;
}

/* What stands behind a key, up to white space; nothing if it is a comment. */
static bool read_name(const char *text, char name[AUTH_NAME_MAX + 1])
{
    size_t n = 0;
    text += strspn(text, " \t\r\n");
    while (*text != '#' && text[n] > ' ' && text[n] < 0x7F && n < AUTH_NAME_MAX)
        n++;
    memcpy(name, text, n);
    name[n] = 0;
    return *text == '#' || strcspn(text, " \t\r\n") == n;
}

static enum status add_key(struct keys *k, const char *text, size_t len, bool admin,
                           struct error *err)
{
    struct key *v = realloc(k->v, (k->n + 1) * sizeof *v);
    if (!v)
        return error_memory(err, "reading keys");
    k->v = v;
    digest_bytes(text, len, v[k->n].digest);
    if (!read_name(text + len, v[k->n].name))
        return error_set(err, ST_FILE_UNREADABLE,
                         "key %zu of the file: its name is longer than %d characters, or has other "
                         "than printable ASCII ones",
                         (admin ? k->n_admin : k->n_api) + 1, AUTH_NAME_MAX);
    v[k->n++].admin = admin;
    *(admin ? &k->n_admin : &k->n_api) += 1;
    return ST_OK;
}

static enum status read_keys(struct keys *k, const char *path, bool admin, struct error *err)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return error_set(err, ST_FILE_UNREADABLE, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t cap = 0, total = 0, before = k->n;
    ssize_t n;
    enum status s = ST_OK;
    while (!s && (n = getline(&line, &cap, f)) >= 0) {
        char *start = line + strspn(line, " \t");
        size_t len = strcspn(start, " \t\r\n");
        total += (size_t)n;
        if (total > KEY_FILE_MAX)
            s = error_set(err, ST_FILE_UNREADABLE, "%s: more than %d bytes", path, KEY_FILE_MAX);
        else if (len && *start != '#')
            s = add_key(k, start, len, admin, err);
    }
    if (!s && !feof(f)) /* getline stops for other reasons, too */
        s = error_set(err, ST_FILE_UNREADABLE, "%s: %s", path, strerror(errno));
    if (!s && k->n == before)
        s = error_set(err, ST_FILE_UNREADABLE, "%s: it holds no key", path);
    free(line);
    fclose(f);
    return s;
}

static enum status keys_read(struct auth *a, struct keys **out, struct error *err)
{
    enum status s = ST_OK;
    *out = NULL;
    struct keys *k = calloc(1, sizeof *k);
    if (!k)
        return error_memory(err, "reading keys");
    atomic_init(&k->refs, 1);
    for (int i = 0; i < 2 && !s; i++)
        if (a->paths[i])
            s = read_keys(k, a->paths[i], i == 1, err);
    if (s) {
        keys_unref(k);
        k = NULL;
    }
    *out = k;
    return s;
}

enum status auth_open(const char *api_key_file, const char *admin_key_file, struct auth **out,
                      struct error *err)
{
    const char *paths[2] = {api_key_file, admin_key_file};
    struct auth *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a)
        return error_memory(err, "reading keys");
    pthread_mutex_init(&a->lock, NULL);
    enum status s = ST_OK;
    for (int i = 0; i < 2 && !s; i++)
        if (paths[i] && !(a->paths[i] = strdup(paths[i])))
            s = error_memory(err, "reading keys");
    if (!s)
        s = keys_read(a, &a->keys, err);
    if (s) {
        auth_close(a);
        return s;
    }
    *out = a;
    return ST_OK;
}

enum status auth_reload(struct auth *a, struct error *err)
{
    struct keys *fresh, *old;
    enum status s = keys_read(a, &fresh, err);
    if (!fresh)
        return s;
    pthread_mutex_lock(&a->lock);
    old = a->keys;
    a->keys = fresh;
    pthread_mutex_unlock(&a->lock);
    keys_unref(old);
    return ST_OK;
}

void auth_close(struct auth *a)
{
    if (!a)
        return;
    keys_unref(a->keys);
    pthread_mutex_destroy(&a->lock);
    free(a->paths[0]);
    free(a->paths[1]);
    free(a);
}

bool auth_keyless(const struct auth *a)
{
    return !a->paths[0] && !a->paths[1];
}

/* What the shown key opens, and its name. */
static enum plane plane_of(const struct keys *k, const char *authorization,
                           char name[AUTH_NAME_MAX + 1])
{
    uint8_t digest[DIGEST_SIZE];
    unsigned api = 0, admin = 0;
    size_t match = k->n;
    *name = 0;
    if (!authorization || strncasecmp(authorization, "Bearer ", 7))
        return PLANE_PUBLIC;
    const char *key = authorization + 7 + strspn(authorization + 7, " ");
    digest_bytes(key, strlen(key), digest);
    for (size_t i = 0; i < k->n; i++) {
        unsigned differ = 0;
        for (int j = 0; j < DIGEST_SIZE; j++)
            differ |= digest[j] ^ k->v[i].digest[j];
        *(k->v[i].admin ? &admin : &api) |= differ == 0;
        match = differ ? match : i;
    }
    if (match < k->n)
        strcpy(name, k->v[match].name);
    return admin ? PLANE_ADMIN : api ? PLANE_INFER : PLANE_PUBLIC;
}

enum status auth_check(const struct auth *a, enum plane plane, const char *authorization,
                       bool exposed, char name[AUTH_NAME_MAX + 1], struct error *err)
{
    struct keys *k = keys_ref(a);
    bool any = k->n > 0, api = k->n_api > 0, admin = k->n_admin > 0;
    enum plane shown = plane_of(k, authorization, name);
    keys_unref(k);

    if (plane == PLANE_PUBLIC)
        return ST_OK;
    if (plane == PLANE_INFER) {
        if (!api || shown >= PLANE_INFER)
            return ST_OK;
        return error_set(err, ST_INVALID_API_KEY,
                         "send a valid key as 'Authorization: Bearer KEY'");
    }
    if (exposed && !admin)
        return error_set(err, ST_ADMIN_DISABLED,
                         "the listener is bound beyond loopback: give --admin-key-file or "
                         "--admin-listen to administrate");
    if (!any || shown == PLANE_ADMIN)
        return ST_OK;
    if (shown == PLANE_INFER)
        return error_set(err, ST_ADMIN_KEY_REQUIRED, NULL);
    return error_set(err, ST_INVALID_API_KEY,
                     "send a valid admin key as 'Authorization: Bearer KEY'");
}
