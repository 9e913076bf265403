/*
 * A thread on an epoll set of armed sockets, awake once a second for deadlines. Sockets belong to
 * the HTTP library; what makes it safe to touch them here is that watch_remove runs under the lock
 * before the library closes one. Events carry a serial number, not a pointer: one that comes late
 * finds nothing.
 *
 * A half-closed connection (the client sent FIN) counts as hung up: TCP does not tell a client that
 * only stopped sending from one that is gone.
 */
#include "server/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct watched {
    int fd;
    uint64_t serial;
    int64_t deadline; /* CLOCK_MONOTONIC seconds, 0: none */
    void *arg;        /* armed when not NULL */
    bool in_set;      /* of the epoll set, perhaps with its one shot spent */
    struct watched *prev, *next;
};

struct watch {
    struct watch_calls calls;
    pthread_mutex_t lock;
    pthread_t thread;
    int epoll, stop; /* stop: an eventfd */
    uint64_t serial;
    struct watched *list;
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void check_deadlines(struct watch *w)
{
    int64_t t = now();
    pthread_mutex_lock(&w->lock);
    for (struct watched *c = w->list; c; c = c->next)
        if (c->deadline && c->deadline < t) {
            c->deadline = 0;
            shutdown(c->fd, SHUT_RDWR);
        }
    pthread_mutex_unlock(&w->lock);
}

static void handle_hangup(struct watch *w, uint64_t serial)
{
    void *arg = NULL;
    pthread_mutex_lock(&w->lock);
    for (struct watched *c = w->list; c; c = c->next)
        if (c->serial == serial && c->arg) {
            arg = c->arg;
            c->arg = NULL;
            w->calls.hold(arg);
            break;
        }
    pthread_mutex_unlock(&w->lock);
    if (arg)
        w->calls.hangup(arg);
}

static void *watch_main(void *arg)
{
    struct watch *w = arg;
    struct epoll_event events[64];
    int64_t checked = now();
    for (;;) {
        int n = epoll_wait(w->epoll, events, 64, 1000);
        for (int i = 0; i < n; i++) {
            if (!events[i].data.u64)
                return NULL; /* the stop event */
            handle_hangup(w, events[i].data.u64);
        }
        if (now() != checked) {
            checked = now();
            check_deadlines(w);
        }
    }
}

enum status watch_open(const struct watch_calls *calls, struct watch **out, struct error *err)
{
    *out = NULL;
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return error_memory(err, "opening the hang-up watcher");
    w->calls = *calls;
    pthread_mutex_init(&w->lock, NULL);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->stop = eventfd(0, EFD_CLOEXEC);
    struct epoll_event stop = {.events = EPOLLIN, .data.u64 = 0};
    int code = 0;
    if (w->epoll < 0 || w->stop < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->stop, &stop))
        code = errno;
    if (!code)
        code = pthread_create(&w->thread, NULL, watch_main, w);
    if (code) {
        if (w->epoll >= 0)
            close(w->epoll);
        if (w->stop >= 0)
            close(w->stop);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return error_set(err, ST_OUT_OF_MEMORY, "the hang-up watcher: %s", strerror(code));
    }
    *out = w;
    return ST_OK;
}

void watch_close(struct watch *w)
{
    if (!w)
        return;
    uint64_t one = 1;
    while (write(w->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(w->thread, NULL);
    close(w->epoll);
    close(w->stop);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct watched *watch_add(struct watch *w, int fd)
{
    struct watched *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    pthread_mutex_lock(&w->lock);
    c->serial = ++w->serial;
    c->next = w->list;
    if (w->list)
        w->list->prev = c;
    w->list = c;
    pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_remove(struct watch *w, struct watched *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    if (c->in_set)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->prev)
        c->prev->next = c->next;
    else
        w->list = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void watch_deadline(struct watch *w, struct watched *c, int seconds)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    c->deadline = seconds ? now() + seconds : 0;
    pthread_mutex_unlock(&w->lock);
}

void watch_arm(struct watch *w, struct watched *c, void *arg)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    if (c->arg != arg) {
        struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = c->serial};
        c->arg = arg;
        epoll_ctl(w->epoll, c->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
        c->in_set = true;
    }
    pthread_mutex_unlock(&w->lock);
}

void watch_disarm(struct watch *w, struct watched *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    c->arg = NULL;
    pthread_mutex_unlock(&w->lock);
}
