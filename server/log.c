/*
 * A ring of lines between everybody and one writer thread. The invariant that keeps the daemon
 * alive when nobody reads its log: only the writer touches the descriptor, it writes at most
 * PIPE_BUF bytes and only after poll() said that they fit, and producers never wait for it.
 */
#include "server/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/buffer.h"

#define LINES     1024
#define LINE_SIZE 768

struct line {
    uint16_t len;
    char text[LINE_SIZE];
};

struct log {
    struct log_options options;
    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct line *ring; /* [LINES]; first .. first + n - 1 are waiting */
    size_t first, n;
    bool closing;
    atomic_ullong dropped;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

/* false: the reader is gone or did not read for `ms`. */
static bool write_line(struct log *log, const char *text, size_t len, int ms)
{
    while (len) {
        struct pollfd p = {.fd = log->options.fd, .events = POLLOUT};
        int ready = poll(&p, 1, ms);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || !(p.revents & POLLOUT))
            return false;
        ssize_t n = write(log->options.fd, text, len < PIPE_BUF ? len : PIPE_BUF);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static void *writer_main(void *arg)
{
    struct log *log = arg;
    struct line line;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        while (!log->n && !log->closing)
            pthread_cond_wait(&log->filled, &log->lock);
        if (!log->n)
            break;
        line = log->ring[log->first];
        log->first = (log->first + 1) % LINES;
        log->n--;
        int wait_ms = log->closing ? 0 : 1000;
        pthread_mutex_unlock(&log->lock);
        if (!write_line(log, line.text, line.len, wait_ms))
            atomic_fetch_add(&log->dropped, 1);
        pthread_mutex_lock(&log->lock);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

enum status log_open(const struct log_options *options, struct log **out, struct error *err)
{
    struct log *log = calloc(1, sizeof *log);
    *out = NULL;
    if (log)
        log->ring = malloc(LINES * sizeof *log->ring);
    if (!log || !log->ring) {
        free(log);
        return error_memory(err, "opening the log");
    }
    log->options = *options;
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->filled, NULL);
    int code = pthread_create(&log->writer, NULL, writer_main, log);
    if (code) {
        free(log->ring);
        free(log);
        return error_set(err, ST_OUT_OF_MEMORY, "the log's thread: %s", strerror(code));
    }
    *out = log;
    return ST_OK;
}

void log_close(struct log *log)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    log->closing = true;
    pthread_cond_signal(&log->filled);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->writer, NULL);
    pthread_cond_destroy(&log->filled);
    pthread_mutex_destroy(&log->lock);
    free(log->ring);
    free(log);
}

static bool worth_telling(const struct log_field *f)
{
    if (f->type == LOG_TEXT_)
        return f->text && *f->text;
    return f->type == LOG_REAL_ ? f->real >= 0 : f->integer >= 0;
}

static void add_value(struct buffer *b, const struct log_field *f, bool quoted)
{
    if (f->type == LOG_INT_)
        buffer_int(b, f->integer);
    else if (f->type == LOG_REAL_)
        buffer_format(b, "%.6g", f->real);
    else if (quoted || strpbrk(f->text, " \"=\\\t\r\n"))
        buffer_cstring(b, f->text);
    else
        buffer_text(b, f->text);
}

static void format_line(struct buffer *b, bool json, enum log_level level, const char *event,
                        const struct log_field *fields)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    char when[40];
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%03ldZ", now.tv_nsec / 1000000);
    if (json)
        buffer_format(b, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", when,
                      level_names[level], event);
    else
        buffer_format(b, "%s %-7s %s", when, level_names[level], event);
    for (; fields->type != LOG_END_; fields++) {
        if (!worth_telling(fields))
            continue;
        buffer_format(b, json ? ",\"%s\":" : " %s=", fields->key);
        add_value(b, fields, json);
    }
    buffer_text(b, json ? "}" : "");
}

void log_write(struct log *log, enum log_level level, const char *event,
               const struct log_field *fields)
{
    if (!log || level < log->options.level)
        return;
    struct buffer b = {0};
    format_line(&b, log->options.json, level, event, fields);
    bool fits = !b.failed && b.len < LINE_SIZE;
    if (!fits && !b.failed) { /* too long: the event alone */
        const struct log_field none = {.type = LOG_END_};
        buffer_clear(&b);
        format_line(&b, log->options.json, level, event, &none);
        fits = !b.failed;
    }
    buffer_text(&b, "\n");
    pthread_mutex_lock(&log->lock);
    if (fits && !b.failed && log->n < LINES) {
        struct line *line = &log->ring[(log->first + log->n++) % LINES];
        line->len = (uint16_t)b.len;
        memcpy(line->text, b.v, b.len);
        pthread_cond_signal(&log->filled);
    } else {
        atomic_fetch_add(&log->dropped, 1);
    }
    pthread_mutex_unlock(&log->lock);
    buffer_free(&b);
}

uint64_t log_dropped(const struct log *log)
{
    return log ? atomic_load(&log->dropped) : 0;
}
