/*
 * A list of parts: a stretch of the text and the floats behind it. The text is sent first, with the
 * numbers that belong into it, then the parts that are bytes. All numbers are looked at before the
 * status line goes out: JSON has no NaN, and a reply cannot be taken back.
 */
#include "server/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "server/reply.h"

#define NUMBERS_A_TIME 4096

struct part {
    size_t text_end; /* text[previous part's text_end .. text_end) comes before it */
    struct floats floats;
};

struct tensors {
    struct buffer text;
    struct part *parts;
    size_t n, cap;
    bool binary;    /* some part is */
    bool text_sent; /* now the bytes */
    size_t part;    /* being written */
    size_t text_at; /* next byte of text */
    int64_t at;     /* next float of the part */
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
        q->state = t;
        q->state_free = tensors_free;
    }
    return t;
}

struct buffer *tensors_text(struct tensors *t)
{
    return &t->text;
}

bool tensors_floats(struct tensors *t, const struct floats *f)
{
    if (!GROW(t->parts, t->cap, t->n + 1, 16))
        return false;
    t->parts[t->n++] = (struct part){.text_end = t->text.len, .floats = *f};
    t->binary |= f->binary;
    return true;
}

bool tensors_add(struct tensors *t, const float *v, const int64_t *shape, int rank,
                 const char *name, size_t row)
{
    struct floats f = {.v = v, .n = 1, .name = name, .row = row};
    buffer_text(&t->text, "{\"shape\":[");
    for (int i = 0; i < rank; i++) {
        buffer_format(&t->text, "%s%lld", i ? "," : "", (long long)shape[i]);
        f.n *= shape[i];
    }
    buffer_text(&t->text, "],\"datatype\":\"FP32\",\"data\":[");
    bool whole = tensors_floats(t, &f);
    buffer_text(&t->text, "]}");
    return whole;
}

/* ---- writing ---- */

static void write_numbers(const struct floats *f, int64_t from, int64_t to, struct buffer *out)
{
    for (int64_t i = from; i < to; i++) {
        if (i)
            buffer_add(out, ",", 1);
        if (f->v)
            buffer_f32(out, f->v[i]);
        else
            buffer_add(out, "0", 1);
    }
}

/* x86 is little-endian, as the protocol. */
static void write_bytes(const struct floats *f, int64_t from, int64_t to, struct buffer *out)
{
    size_t size = (size_t)(to - from) * sizeof *f->v;
    char *room = buffer_room(out, size);
    if (room && f->v)
        memcpy(room, f->v + from, size);
    else if (room)
        memset(room, 0, size);
    if (room)
        out->len += size;
}

/* The next floats of a part; then the part is done. */
static void write_some(struct tensors *t, const struct part *p, struct buffer *out)
{
    int64_t left = p->floats.n - t->at;
    int64_t end = t->at + (left < NUMBERS_A_TIME ? left : NUMBERS_A_TIME);
    if (p->floats.binary)
        write_bytes(&p->floats, t->at, end, out);
    else
        write_numbers(&p->floats, t->at, end, out);
    t->at = end;
    if (end < p->floats.n)
        return;
    t->part++;
    t->at = 0;
}

static void write_text(struct tensors *t, size_t end, struct buffer *out)
{
    buffer_add(out, t->text.v + t->text_at, end - t->text_at);
    t->text_at = end;
}

/* reply_produce */
static enum produce produce(struct request *q, struct buffer *out)
{
    struct tensors *t = q->state;
    while (out->len < PRODUCE_SIZE / 2) {
        if (t->part == t->n) {
            write_text(t, t->text.len, out);
            if (t->text_sent || !t->binary)
                return PRODUCE_END;
            t->text_sent = true;
            t->part = 0;
            continue;
        }
        const struct part *p = &t->parts[t->part];
        if (p->floats.binary != t->text_sent) {
            t->part++;
            continue;
        }
        if (!t->text_sent)
            write_text(t, p->text_end, out);
        write_some(t, p, out);
    }
    return PRODUCE_MORE;
}

/* ---- before ---- */

static bool all_finite(const struct floats *f)
{
    for (int64_t i = 0; f->v && i < f->n; i++)
        if (!isfinite(f->v[i]))
            return false;
    return true;
}

/* Bytes of the text with its numbers, which are written once to be counted; false: no memory. */
static bool text_length(const struct tensors *t, uint64_t *length)
{
    struct buffer scratch = {0};
    *length = t->text.len;
    for (size_t i = 0; i < t->n && !scratch.failed; i++) {
        const struct floats *f = &t->parts[i].floats;
        for (int64_t at = 0; !f->binary && at < f->n; at += NUMBERS_A_TIME) {
            int64_t end = at + NUMBERS_A_TIME < f->n ? at + NUMBERS_A_TIME : f->n;
            buffer_clear(&scratch);
            write_numbers(f, at, end, &scratch);
            *length += scratch.len;
        }
    }
    bool whole = !scratch.failed;
    buffer_free(&scratch);
    return whole;
}

static void reply_binary(struct request *q, struct tensors *t)
{
    uint64_t length, bytes = 0;
    char text[24];
    if (!text_length(t, &length)) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < t->n; i++)
        bytes += t->parts[i].floats.binary ? (uint64_t)t->parts[i].floats.n * sizeof(float) : 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)length);
    reply_header(q, "Inference-Header-Content-Length", text);
    reply_produce_body(q, TYPE_BYTES, produce);
    q->reply.produced = length + bytes;
}

void tensors_reply(struct request *q, struct tensors *t)
{
    if (t->text.failed) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct floats *f = &t->parts[i].floats;
        if (!all_finite(f)) {
            reply_failure(q, ST_NON_FINITE_OUTPUT, NULL, "row %zu: %s holds NaN or Inf", f->row,
                          f->name);
            return;
        }
    }
    if (t->binary)
        reply_binary(q, t);
    else
        reply_produce_body(q, TYPE_JSON, produce);
}
