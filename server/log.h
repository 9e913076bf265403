/*
 * The log: one line an event, to standard error, for people ("time level event key=value ...") or
 * machines (one JSON object a line). Callers never wait: lines go through a bounded queue to a
 * writer thread, and are dropped and counted when the queue is full or standard error does not take
 * them. What users send (prompts, texts, keys) is never logged.
 */
#ifndef OFTD_SERVER_LOG_H
#define OFTD_SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log_options {
    bool json;
    enum log_level level; /* lines below it are not written */
    int fd;
};

struct log;
enum status log_open(const struct log_options *options, struct log **out, struct error *err);
/* Writes what is queued, but waits no longer than a second for a reader; NULL is fine. */
void log_close(struct log *log);

enum log_type { LOG_END_, LOG_TEXT_, LOG_INT_, LOG_REAL_ };
struct log_field {
    const char *key;
    enum log_type type;
    const char *text;
    int64_t integer;
    double real;
};
#define LOG_TEXT(k, v)                                                                             \
    {                                                                                              \
        .key = (k), .type = LOG_TEXT_, .text = (v)                                                 \
    }
#define LOG_INT(k, v)                                                                              \
    {                                                                                              \
        .key = (k), .type = LOG_INT_, .integer = (v)                                               \
    }
#define LOG_REAL(k, v)                                                                             \
    {                                                                                              \
        .key = (k), .type = LOG_REAL_, .real = (v)                                                 \
    }

/* log NULL: nothing happens. A NULL or empty text and a negative number are left out. */
#define log_event(log, level, event, ...)                                                          \
    log_write((log), (level), (event), (const struct log_field[]){__VA_ARGS__, {.type = LOG_END_}})
void log_write(struct log *log, enum log_level level, const char *event,
               const struct log_field *fields);
uint64_t log_dropped(const struct log *log);

#endif
