/*
 * An HTTP thread serves hundreds of connections, and a body of some megabytes takes seconds to
 * parse, check, copy and free: all of these would wait. So what is large is worked on here. These
 * threads are the server's own, not the engine's intake: a step of a request reads the request,
 * writes its answer and submits to the engine, which intake workers, below in the house, must not
 * know; and intake that waits for bodies would hold up the tokens of small requests. A large body
 * waits for other large ones only.
 *
 * The account is one number. What a body takes is not its length: "[[],[],[]" grows fortyfold when
 * it is read. The parsed size is bounded from its punctuation before anything is parsed:
 *
 *     , or the first value   a number: a node of 32 bytes, twice 8 in the growing list it is in,
 *                            twice 8 in the parser's record
 *     "                      half of a string's node, with the least of its copy
 *     :                      also a bucket, the key and a link in the object's order
 *     [ {                    a node, and room for the first values or 8 buckets
 *     text                   a string is copied, once while it is being read
 *
 * Punctuation inside strings counts, too: more than needed, never less.
 */
#include "server/bodies.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PARSER_BYTES    1024
#define VALUE_BYTES     64
#define QUOTE_BYTES     32
#define MEMBER_BYTES    128
#define CONTAINER_BYTES 320

struct bodies {
    uint64_t limit;
    atomic_ullong taken;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct body_work *first, **last;
    bool closing;
    int n_threads;
    pthread_t threads[];
};

static void *reader_main(void *arg)
{
    struct bodies *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->first && !b->closing)
            pthread_cond_wait(&b->changed, &b->lock);
        struct body_work *w = b->first;
        if (!w)
            break;
        b->first = w->next;
        if (!b->first)
            b->last = &b->first;
        pthread_mutex_unlock(&b->lock);
        w->run(w->arg);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

enum status bodies_open(uint64_t limit, int threads, struct bodies **out, struct error *err)
{
    *out = NULL;
    struct bodies *b = calloc(1, sizeof *b + (size_t)threads * sizeof b->threads[0]);
    if (!b)
        return error_memory(err, "opening the readers of bodies");
    b->limit = limit;
    b->last = &b->first;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    while (b->n_threads < threads) {
        if (pthread_create(&b->threads[b->n_threads], NULL, reader_main, b)) {
            bodies_close(b);
            return error_set(err, ST_OUT_OF_MEMORY, "a reader of bodies cannot be started");
        }
        b->n_threads++;
    }
    *out = b;
    return ST_OK;
}

void bodies_close(struct bodies *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->closing = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->n_threads; i++)
        pthread_join(b->threads[i], NULL);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

uint64_t bodies_taken(const struct bodies *b)
{
    return atomic_load(&b->taken);
}

void bodies_queue(struct bodies *b, struct body_work *w)
{
    w->next = NULL;
    pthread_mutex_lock(&b->lock);
    *b->last = w;
    b->last = &w->next;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* ---- one body ---- */

/* All of n, or none (false). */
static bool take(struct bodies *b, struct body *body, uint64_t n)
{
    unsigned long long taken = atomic_load(&b->taken);
    do {
        if (n > b->limit - taken)
            return false;
    } while (!atomic_compare_exchange_weak(&b->taken, &taken, taken + n));
    body->taken += n;
    return true;
}

static void give(struct bodies *b, struct body *body, uint64_t n)
{
    atomic_fetch_sub(&b->taken, n);
    body->taken -= n;
}

static enum status overloaded(struct error *err)
{
    error_set(err, ST_OVERLOADED, "the bodies being received take all of --body-memory");
    return ST_OVERLOADED;
}

enum status body_add(struct bodies *b, struct body *body, const void *data, size_t n,
                     struct error *err)
{
    size_t before = body->text.cap;
    buffer_add(&body->text, data, n);
    if (body->text.failed)
        return error_memory(err, "receiving the body");
    return take(b, body, body->text.cap - before) ? ST_OK : overloaded(err);
}

uint64_t body_parsed_size(const char *text, size_t len)
{
    uint64_t values = len > 0, quotes = 0, members = 0, containers = 0;
    for (size_t i = 0; i < len; i++) {
        values += text[i] == ',';
        quotes += text[i] == '"';
        members += text[i] == ':';
        containers += (text[i] == '[') + (text[i] == '{');
    }
    return (len ? PARSER_BYTES : 0) + values * VALUE_BYTES + quotes * QUOTE_BYTES +
           members * MEMBER_BYTES + containers * CONTAINER_BYTES + 2 * (uint64_t)len;
}

enum status body_take_parsed(struct bodies *b, struct body *body, size_t json, struct error *err)
{
    size_t len = json < body->text.len ? json : body->text.len;
    uint64_t parsed = body_parsed_size(body->text.v, len), all = body->taken + parsed;
    if (all > b->limit) {
        error_set(err, ST_BODY_TOO_LARGE,
                  "the body takes up to %llu bytes when it is read, all bodies together may take "
                  "%llu",
                  (unsigned long long)all, (unsigned long long)b->limit);
        return ST_BODY_TOO_LARGE;
    }
    return take(b, body, parsed) ? ST_OK : overloaded(err);
}

void body_drop_text(struct bodies *b, struct body *body)
{
    give(b, body, body->text.cap);
    buffer_free(&body->text);
}

void body_free(struct bodies *b, struct body *body)
{
    give(b, body, body->taken);
    buffer_free(&body->text);
}
