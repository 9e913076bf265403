#include "core/run/intake.h"

#include <stdlib.h>

#include "core/run/request.h"

struct intake {
    void (*ready)(void *ctx, struct ticket *t);
    void *ctx;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t come;
    struct ticket *first, *last;
    bool stop;
    pthread_t *threads; /* the opener's */
    int32_t n_threads;
};

static void handle(struct intake *s, struct ticket *t)
{
    struct error err = ERROR_INIT;
    enum status st = ST_OK;
    enum request_kind kind = t->request->kind;
    bool text = kind == REQUEST_DETOKENIZE || kind == REQUEST_RENDER;
    if (ticket_cancelled(t))
        st = error_set(&err, ST_CANCELLED, NULL);
    else
        st = text ? request_text(t, &err) : request_ids(t, &err);
    if (st != ST_OK || kind == REQUEST_TOKENIZE || text)
        request_end(t, st, &err);
    else
        s->ready(s->ctx, t);
    error_clear(&err);
}

static struct ticket *next(struct intake *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->first && !s->stop)
        pthread_cond_wait(&s->come, &s->lock);
    struct ticket *t = s->stop ? NULL : s->first;
    if (t)
        s->first = t->queued;
    pthread_mutex_unlock(&s->lock);
    return t;
}

static void *work(void *arg)
{
    struct intake *s = arg;
    for (struct ticket *t; (t = next(s));)
        handle(s, t);
    return NULL;
}

enum status intake_open(int32_t threads, void (*ready)(void *ctx, struct ticket *t), void *ctx,
                        struct intake **out, struct error *err)
{
    *out = NULL;
    struct intake *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "intake");
    s->ready = ready;
    s->ctx = ctx;
    s->threads = calloc((size_t)threads, sizeof *s->threads);
    if (!s->threads || pthread_mutex_init(&s->lock, NULL)) {
        free(s->threads);
        free(s);
        return error_memory(err, "intake");
    }
    if (pthread_cond_init(&s->come, NULL)) {
        pthread_mutex_destroy(&s->lock);
        free(s->threads);
        free(s);
        return error_memory(err, "intake");
    }
    for (; s->n_threads < threads; s->n_threads++)
        if (pthread_create(&s->threads[s->n_threads], NULL, work, s)) {
            intake_stop(s);
            intake_close(s);
            return error_set(err, ST_OUT_OF_MEMORY, "an intake thread cannot be started");
        }
    *out = s;
    return ST_OK;
}

void intake_submit(struct intake *s, struct ticket *t)
{
    t->queued = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->first)
        s->last->queued = t;
    else
        s->first = t;
    s->last = t;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
}

void intake_stop(struct intake *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->come);
    pthread_mutex_unlock(&s->lock);
    for (int32_t i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    s->n_threads = 0;
    while (s->first) {
        struct ticket *t = s->first;
        s->first = t->queued;
        request_end(t, ST_CANCELLED, NULL);
    }
}

void intake_close(struct intake *s)
{
    if (!s)
        return;
    pthread_cond_destroy(&s->come);
    pthread_mutex_destroy(&s->lock);
    free(s->threads);
    free(s);
}
