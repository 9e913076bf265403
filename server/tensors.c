/*
 * A list of parts: a stretch of the text and the tensor behind it. All numbers are looked at before
 * the status line goes out: JSON has no NaN, and a reply cannot be taken back.
 */
#include "server/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/reply.h"

#define MAX_RANK       5
#define NUMBERS_A_TIME 4096

struct part {
    size_t text_end; /* text[previous part's text_end .. text_end) comes before it */
    const float *v;
    int64_t shape[MAX_RANK];
    int rank;
    int64_t n;
    const char *name;
    size_t row;
};

struct tensors {
    struct buffer text;
    struct part *parts;
    size_t n, cap;
    size_t part;    /* being written */
    size_t text_at; /* next byte of text */
    int64_t at;     /* next element, -1: the text has not been written */
};

static void tensors_free(void *state)
{
    struct tensors *t = state;
    buffer_free(&t->text);
    free(t->parts);
    free(t);
}

struct tensors *tensors_new(struct request *q)
{
    struct tensors *t = calloc(1, sizeof *t);
    if (t) {
        t->at = -1;
        q->state = t;
        q->state_free = tensors_free;
    }
    return t;
}

struct buffer *tensors_text(struct tensors *t)
{
    return &t->text;
}

bool tensors_add(struct tensors *t, const float *v, const int64_t *shape, int rank,
                 const char *name, size_t row)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 16;
        struct part *parts = realloc(t->parts, cap * sizeof *parts);
        if (!parts)
            return false;
        t->parts = parts;
        t->cap = cap;
    }
    struct part *p = &t->parts[t->n++];
    *p = (struct part){
        .text_end = t->text.len, .v = v, .rank = rank, .n = 1, .name = name, .row = row};
    for (int i = 0; i < rank; i++) {
        p->shape[i] = shape[i];
        p->n *= shape[i];
    }
    return true;
}

static void write_text(struct tensors *t, size_t end, struct buffer *out)
{
    buffer_add(out, t->text.v + t->text_at, end - t->text_at);
    t->text_at = end;
}

static void write_head(const struct part *p, struct buffer *out)
{
    buffer_text(out, "{\"shape\":[");
    for (int i = 0; i < p->rank; i++)
        buffer_format(out, "%s%lld", i ? "," : "", (long long)p->shape[i]);
    buffer_text(out, "],\"datatype\":\"FP32\",\"data\":[");
}

/* reply_produce */
static enum produce produce(struct request *q, struct buffer *out)
{
    struct tensors *t = q->state;
    while (out->len < PRODUCE_SIZE / 2) {
        if (t->part == t->n) {
            write_text(t, t->text.len, out);
            return PRODUCE_END;
        }
        const struct part *p = &t->parts[t->part];
        if (t->at < 0) {
            write_text(t, p->text_end, out);
            write_head(p, out);
            t->at = 0;
        }
        int64_t end = p->n - t->at < NUMBERS_A_TIME ? p->n : t->at + NUMBERS_A_TIME;
        for (; t->at < end; t->at++) {
            if (t->at)
                buffer_add(out, ",", 1);
            buffer_f32(out, p->v[t->at]);
        }
        if (t->at == p->n) {
            buffer_text(out, "]}");
            t->part++;
            t->at = -1;
        }
    }
    return PRODUCE_MORE;
}

static bool all_finite(const struct part *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!isfinite(p->v[i]))
            return false;
    return true;
}

void tensors_reply(struct request *q, struct tensors *t)
{
    if (t->text.failed) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < t->n; i++)
        if (!all_finite(&t->parts[i])) {
            reply_failure(q, ST_NON_FINITE_OUTPUT, NULL, "row %zu: %s holds NaN or Inf",
                          t->parts[i].row, t->parts[i].name);
            return;
        }
    reply_produce_body(q, TYPE_JSON, produce);
}
