#include "core/run/ticket.h"

#include <stdlib.h>

#include "core/clock.h"

int64_t ticket_now(void)
{
    return clock_ns();
}

struct ticket *ticket_new(const struct ticket_host *host)
{
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    if (pthread_mutex_init(&t->lock, NULL)) {
        free(t);
        return NULL;
    }
    if (pthread_cond_init(&t->changed, NULL)) {
        pthread_mutex_destroy(&t->lock);
        free(t);
        return NULL;
    }
    atomic_init(&t->refs, 2);
    atomic_init(&t->cancelled, false);
    t->queue_tokens = -1;
    t->host = host;
    t->submitted = ticket_now();
    return t;
}

static void destroy(struct ticket *t)
{
    if (t->release)
        t->release(t);
    arena_free(&t->arena);
    error_clear(&t->error);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void ticket_discard(struct ticket *t)
{
    if (t)
        destroy(t);
}

void ticket_unref(struct ticket *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        destroy(t);
}

bool ticket_cancelled(const struct ticket *t)
{
    return atomic_load_explicit(&t->cancelled, memory_order_relaxed);
}

/* Runs the armed wake-up, if there is one. The lock is held on entry and not on return. */
static void wake_and_unlock(struct ticket *t)
{
    ticket_wake *wake = t->wake;
    void *arg = t->wake_arg;
    t->wake = NULL;
    if (wake) {
        t->waking = true;
        t->waker = pthread_self();
    }
    pthread_mutex_unlock(&t->lock);
    if (!wake)
        return;
    wake(arg);
    pthread_mutex_lock(&t->lock);
    t->waking = false;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

enum status ticket_emit(struct ticket *t, const struct piece *piece)
{
    struct event *e = arena_alloc(&t->arena, sizeof *e);
    if (!e)
        return ST_OUT_OF_MEMORY;
    e->piece = *piece;
    pthread_mutex_lock(&t->lock);
    if (t->unread)
        t->last->next = e;
    else
        t->unread = e;
    t->last = e;
    if (t->until == TICKET_EVENT)
        wake_and_unlock(t);
    else
        pthread_mutex_unlock(&t->lock);
    return ST_OK;
}

bool ticket_admit(struct ticket *t)
{
    pthread_mutex_lock(&t->lock);
    bool first = !t->admitted;
    if (first)
        t->admitted = ticket_now();
    pthread_mutex_unlock(&t->lock);
    return first;
}

int64_t ticket_count(struct ticket *t, const struct usage *more)
{
    pthread_mutex_lock(&t->lock);
    if (more->generated_tokens && !t->first_token)
        t->first_token = ticket_now();
    t->usage.prompt_tokens += more->prompt_tokens;
    t->usage.generated_tokens += more->generated_tokens;
    t->usage.cached_tokens += more->cached_tokens;
    int64_t submitted = t->submitted;
    pthread_mutex_unlock(&t->lock);
    return submitted;
}

void ticket_set_adapters(struct ticket *t, const struct adapter_ref *refs, size_t n)
{
    pthread_mutex_lock(&t->lock);
    t->adapters = refs;
    t->n_adapters = n;
    pthread_mutex_unlock(&t->lock);
}

void ticket_set_rows(struct ticket *t, const struct forward_row *rows, size_t n)
{
    pthread_mutex_lock(&t->lock);
    t->rows = rows;
    t->n_rows = n;
    pthread_mutex_unlock(&t->lock);
}

void ticket_end(struct ticket *t, enum status status, struct error *err)
{
    pthread_mutex_lock(&t->lock);
    const struct ticket_host *host = t->host;
    t->host = NULL;
    t->status = status;
    t->end = ticket_now();
    if (status != ST_OK) {
        if (err)
            error_move(&t->error, err);
        if (t->error.code != status)
            error_set(&t->error, status, NULL);
    }
    t->ended = true;
    pthread_cond_broadcast(&t->changed);
    wake_and_unlock(t);
    host->ended(host->ctx, t);
}

/* ---- what the holder of a reference may do (core/engine.h) ---- */

bool ticket_wait(struct ticket *t, enum ticket_until until, ticket_wake *wake, void *arg)
{
    pthread_mutex_lock(&t->lock);
    bool arm = !t->ended && !(until == TICKET_EVENT && t->unread);
    t->until = until;
    t->wake = arm ? wake : NULL;
    t->wake_arg = arg;
    pthread_mutex_unlock(&t->lock);
    return arm;
}

void ticket_join(struct ticket *t)
{
    pthread_mutex_lock(&t->lock);
    while (!t->ended)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static pthread_mutex_t *lock_of(const struct ticket *t)
{
    return &((struct ticket *)t)->lock;
}

bool ticket_ended(const struct ticket *t)
{
    pthread_mutex_lock(lock_of(t));
    bool ended = t->ended;
    pthread_mutex_unlock(lock_of(t));
    return ended;
}

enum status ticket_status(struct ticket *t, struct error *err)
{
    pthread_mutex_lock(&t->lock);
    enum status st = t->status;
    if (err) {
        error_clear(err);
        err->code = t->error.code;
        memcpy(err->text, t->error.text, sizeof err->text);
        memcpy(err->param, t->error.param, sizeof err->param);
        const struct findings *f = &t->error.findings;
        for (size_t i = 0; i < f->n; i++) {
            const struct finding *v = &f->v[i];
            findings_add(&err->findings, v->severity, v->code, v->module, v->field, v->expected,
                         v->got, "%s", v->message ? v->message : status_text(v->code));
            if (err->findings.n == i + 1)
                err->findings.v[i].permanent = v->permanent;
        }
        err->findings.lost |= f->lost;
        if (t->error.details)
            err->details = json_incref(t->error.details);
    }
    pthread_mutex_unlock(&t->lock);
    return st;
}

void ticket_cancel(struct ticket *t)
{
    pthread_mutex_lock(&t->lock);
    if (!t->ended) {
        atomic_store(&t->cancelled, true);
        t->host->kick(t->host->ctx);
    }
    pthread_mutex_unlock(&t->lock);
}

static void forget(struct ticket *t, bool cancel)
{
    pthread_mutex_lock(&t->lock);
    t->wake = NULL;
    while (t->waking && !pthread_equal(t->waker, pthread_self()))
        pthread_cond_wait(&t->changed, &t->lock);
    t->wake = NULL;
    pthread_mutex_unlock(&t->lock);
    if (cancel)
        ticket_cancel(t);
    ticket_unref(t);
}

void ticket_free(struct ticket *t)
{
    if (t)
        forget(t, true);
}

void ticket_detach(struct ticket *t)
{
    if (t)
        forget(t, false);
}

void ticket_times(const struct ticket *t, struct ticket_times *out)
{
    pthread_mutex_lock(lock_of(t));
    int64_t from = t->submitted;
    out->admitted = t->admitted ? (double)(t->admitted - from) * 1e-9 : -1;
    out->first_token = t->first_token ? (double)(t->first_token - from) * 1e-9 : -1;
    out->ended = t->end ? (double)(t->end - from) * 1e-9 : -1;
    pthread_mutex_unlock(lock_of(t));
}

bool ticket_read(struct ticket *t, struct piece *out)
{
    pthread_mutex_lock(&t->lock);
    struct event *e = t->unread;
    if (e) {
        *out = e->piece;
        t->unread = e->next;
        if (!t->unread)
            t->last = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    return e != NULL;
}

bool ticket_thinks(const struct ticket *t)
{
    return atomic_load(&t->thinks);
}

size_t ticket_adapters(const struct ticket *t, const struct adapter_ref **out)
{
    pthread_mutex_lock(lock_of(t));
    size_t n = t->n_adapters;
    *out = t->adapters;
    pthread_mutex_unlock(lock_of(t));
    return n;
}

void ticket_usage(const struct ticket *t, struct usage *out)
{
    pthread_mutex_lock(lock_of(t));
    *out = t->usage;
    pthread_mutex_unlock(lock_of(t));
}

const struct forward_row *ticket_forward(const struct ticket *t, size_t *n)
{
    pthread_mutex_lock(lock_of(t));
    const struct forward_row *rows = t->ended && t->status == ST_OK ? t->rows : NULL;
    *n = rows ? t->n_rows : 0;
    pthread_mutex_unlock(lock_of(t));
    return rows;
}
