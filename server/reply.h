/*
 * Answers: the only place where an outcome becomes an HTTP number and an error becomes words. A
 * handler gives exactly one answer; whatever it hands over is consumed.
 */
#ifndef OFTD_SERVER_REPLY_H
#define OFTD_SERVER_REPLY_H

#include "server/request.h"

#define TYPE_JSON  "application/json"
#define TYPE_SSE   "text/event-stream; charset=utf-8"
#define TYPE_TEXT  "text/plain; charset=utf-8"
#define TYPE_BYTES "application/octet-stream"

int reply_status(enum status s);

/* value NULL: memory ran out while it was built. */
void reply_json(struct request *q, int status, json_t *value);
void reply_buffer(struct request *q, int status, const char *type, struct buffer *b);
void reply_text(struct request *q, int status, const char *text);
/* 200, the body in parts. */
void reply_produce_body(struct request *q, const char *type, reply_produce *produce);
/* The error in the words of the route (OpenAI's, or the inference protocol's below /v2). */
void reply_error(struct request *q, struct error *err);
/* Its body alone, in the same words: for where the status line has gone. */
void reply_error_body(const struct request *q, const struct error *err, struct buffer *out);
/* The body of an error of a code alone, for a reply that has no request. */
void reply_plain_error(enum status code, int status, struct buffer *out);
/* The same for a code alone. */
void reply_failure(struct request *q, enum status code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* value is copied. When memory runs out the header is left out. */
void reply_header(struct request *q, const char *name, const char *value);

/* {"error":{"message","type","param","code","details"?}}, NULL when memory runs out. */
json_t *reply_error_json(const struct error *err);
/* Text as JSON; bytes that are not UTF-8 become U+FFFD. NULL when memory runs out. */
json_t *reply_text_json(const char *s);
/* [{code, severity, message, module?, field?, expected?, got?, permanent}] */
json_t *reply_findings_json(const struct findings *f);

#endif
