#include "tests/support/mirrored.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/place.h"

#define ARRAYS_MAX 64

struct array {
    void *host, *device;
    size_t bytes;
    bool back; /* it is written */
};

/* The arrays of a call. */
struct call {
    const struct kernels *device;
    struct place place;
    struct array v[ARRAYS_MAX];
    int n;
};

struct kernels_state {
    struct kernels *device;
};

static void *check(void *p)
{
    if (!p) {
        fprintf(stderr, "mirrored: no memory on the device\n");
        abort();
    }
    return p;
}

static struct call begin(const struct kernels *self)
{
    struct call c = {.device = self->state->device};
    c.place.kernels = c.device;
    return c;
}

/* An array of the host where the device sees it, NULL for NULL. */
static void *bring(struct call *c, const void *host, size_t bytes, bool back)
{
    if (!host || c->n == ARRAYS_MAX)
        return host ? check(NULL) : NULL;
    struct array *a = &c->v[c->n++];
    *a = (struct array){(void *)host, check(c->device->alloc(c->device, bytes + 64)), bytes, back};
    c->device->upload(c->device, a->device, host, bytes);
    return a->device;
}

/* Floats of a matrix of rows, up to the last one's end. */
static size_t matrix(int64_t rows, int64_t ld, int64_t dim)
{
    return rows > 0 ? (size_t)((rows - 1) * ld + dim) * sizeof(float) : 0;
}

static void end(struct call *c)
{
    for (int i = 0; i < c->n; i++) {
        struct array *a = &c->v[i];
        if (a->back)
            c->device->fetch(c->device, a->host, a->device, a->bytes);
        c->device->release(c->device, a->device);
    }
    place_close(&c->place);
    const char *fault = c->device->fault(c->device);
    if (fault) {
        fprintf(stderr, "mirrored: %s\n", fault);
        abort();
    }
}

static const struct weight *bring_weight(struct call *c, const struct weight *w)
{
    if (w && !w->data) { // a permutation alone
        struct weight *copy = check(calloc(1, sizeof *copy));
        *copy = *w;
        copy->perm = bring(c, w->perm, (size_t)w->k * sizeof *w->perm, false);
        return copy;
    }
    return w ? check((void *)place_weight(&c->place, w)) : NULL;
}

/* ---- slots ---- */

/* The device's, and behind them where act.q lies in them: here act.q is the buffer. */
static size_t act_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    return self->state->device->act_bytes(self->state->device, rows, k) + sizeof(ptrdiff_t);
}

static struct rotation *bring_rotation(struct call *c, const struct rotation *r)
{
    struct rotation *copy = check(malloc(sizeof *copy));
    size_t n = (size_t)(r->shared ? 1 : r->blocks);
    *copy = *r;
    copy->data = bring(c, r->data, n * rotation_block_bytes(r->dtype, r->block), false);
    return copy;
}

static void prepare_one(const struct kernels *self, const struct prepare_job *host)
{
    struct call c = begin(self);
    struct prepare_job j = *host;
    struct rotate_group groups[8];
    const struct rotation *rotations[8][4] = {{NULL}};
    size_t bytes = act_bytes(self, j.rows, j.k) - sizeof(ptrdiff_t);
    j.x = bring(&c, j.x, matrix(j.rows, j.ldx, j.k), false);
    j.buffer = bring(&c, j.buffer, bytes, true);
    for (int i = 0; i < j.n_groups; i++) {
        groups[i] = j.groups[i];
        for (int s = 0; s < groups[i].n; s++)
            rotations[i][s] = bring_rotation(&c, j.groups[i].r[s]);
        groups[i].r = rotations[i];
    }
    j.groups = groups;
    j.w = bring_weight(&c, j.w);
    c.device->prepare(c.device, &j, 1);
    // the result is at the same place of the host's buffer, or it is x
    if (j.a->x == j.x)
        j.a->x = host->x;
    else
        j.a->x = (const float *)((char *)host->buffer + ((char *)j.a->x - (char *)j.buffer));
    end(&c);
    if (j.a->q) {
        ptrdiff_t at = (const char *)j.a->q - (char *)j.buffer;
        memcpy((char *)host->buffer + bytes, &at, sizeof at);
        j.a->q = host->buffer;
    }
    for (int i = 0; i < j.n_groups; i++)
        for (int s = 0; s < groups[i].n; s++)
            free((void *)rotations[i][s]);
    if (host->w && !host->w->data)
        free((void *)j.w);
}

static void prepare(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    for (int i = 0; i < n; i++)
        prepare_one(self, &jobs[i]);
}

static void matmul(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    for (int i = 0; i < n; i++) {
        struct call c = begin(self);
        struct matmul_job j = jobs[i];
        struct act a = *j.a;
        a.x = bring(&c, a.x, matrix(a.rows, a.ldx, a.k), false);
        if (a.q) {
            size_t bytes = act_bytes(self, a.rows, a.k) - sizeof(ptrdiff_t);
            ptrdiff_t at;
            memcpy(&at, (const char *)a.q + bytes, sizeof at);
            a.q = (char *)bring(&c, a.q, bytes, false) + at;
        }
        j.a = &a;
        j.out = bring(&c, j.out, matrix(a.rows, j.ldo, j.w->n), true);
        j.bias = bring(&c, j.bias, (size_t)j.w->n * sizeof *j.bias, false);
        j.w = bring_weight(&c, j.w);
        c.device->matmul(c.device, &j, 1);
        end(&c);
    }
}

static void dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                       int64_t rows, float *out)
{
    struct call c = begin(self);
    float *to = bring(&c, out, matrix(rows, w->k, w->k), true);
    c.device->dequantize(c.device, bring_weight(&c, w), row, rows, to);
    end(&c);
}

static void gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                   int32_t n, float *out, int64_t ldo)
{
    struct call c = begin(self);
    float *to = bring(&c, out, matrix(n, ldo, w->k), true);
    c.device->gather(c.device, bring_weight(&c, w), ids, n, to, ldo);
    end(&c);
}

static void norm(const struct kernels *self, const struct norm_args *args, const float *x,
                 int64_t ldx, int32_t rows, float *out, int64_t ldo)
{
    struct call c = begin(self);
    struct norm_args a = *args;
    size_t bytes = (size_t)a.dim * sizeof(float);
    a.weight = bring(&c, a.weight, bytes, false);
    a.bias = bring(&c, a.bias, bytes, false);
    float *to = bring(&c, out, matrix(rows, ldo, a.dim), true);
    const float *from = out == x ? to : bring(&c, x, matrix(rows, ldx, a.dim), false);
    c.device->norm(c.device, &a, from, ldx, rows, to, ldo);
    end(&c);
}

static void rope(const struct kernels *self, float *x, int64_t ld, int32_t rows, int32_t heads,
                 int32_t head_dim, int32_t rot, const float *cosines, const float *sines)
{
    struct call c = begin(self);
    size_t angles = matrix(rows, rot / 2, rot / 2);
    float *to = bring(&c, x, matrix(rows, ld, (int64_t)heads * head_dim), true);
    const float *cs = bring(&c, cosines, angles, false), *sn = bring(&c, sines, angles, false);
    c.device->rope(c.device, to, ld, rows, heads, head_dim, rot, cs, sn);
    end(&c);
}

static struct kv bring_kv(struct call *c, const struct kv *kv, bool back)
{
    struct kv copy = *kv;
    size_t bytes = (size_t)kv->layers * (size_t)kv->n_pages * kv->page_bytes;
    copy.k = bring(c, kv->k, bytes, back);
    copy.v = bring(c, kv->v, bytes, back);
    return copy;
}

static void kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                     const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    struct call c = begin(self);
    const struct kv copy = bring_kv(&c, kv, true);
    size_t bytes = matrix(rows->rows, ld, (int64_t)kv->kv_heads * kv->head_dim);
    const float *from_k = bring(&c, k, bytes, false), *from_v = bring(&c, v, bytes, false);
    c.device->begin(c.device, rows);
    c.device->kv_store(c.device, &copy, layer, rows, from_k, from_v, ld);
    end(&c);
}

static void attention(const struct kernels *self, const struct attention_args *args)
{
    struct call c = begin(self);
    struct attention_args a = *args;
    const struct kv copy = bring_kv(&c, a.kv, false);
    int64_t dim = (int64_t)a.heads * a.kv->head_dim;
    a.kv = &copy;
    a.q = bring(&c, a.q, matrix(a.rows->rows, a.ldq, dim), false);
    a.out = bring(&c, a.out, matrix(a.rows->rows, a.ldo, dim), true);
    a.alibi = bring(&c, a.alibi, (size_t)a.heads * sizeof *a.alibi, false);
    c.device->begin(c.device, a.rows);
    c.device->attention(c.device, &a);
    end(&c);
}

static void activate(const struct kernels *self, enum activation act, const float *gate,
                     int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                     float *out, int64_t ldo)
{
    struct call c = begin(self);
    float *to = bring(&c, out, matrix(rows, ldo, dim), true);
    const float *g = out == gate ? to : bring(&c, gate, matrix(rows, ldg, dim), false);
    const float *u = bring(&c, up, matrix(rows, ldu, dim), false);
    c.device->activate(c.device, act, g, ldg, u, ldu, rows, dim, to, ldo);
    end(&c);
}

static void add(const struct kernels *self, float *x, int64_t ldx, const float *y, int64_t ldy,
                int32_t rows, int64_t dim)
{
    struct call c = begin(self);
    float *to = bring(&c, x, matrix(rows, ldx, dim), true);
    const float *from = bring(&c, y, matrix(rows, ldy, dim), false);
    c.device->add(c.device, to, ldx, from, ldy, rows, dim);
    end(&c);
}

static void scale(const struct kernels *self, float *x, int64_t n, float s)
{
    struct call c = begin(self);
    c.device->scale(c.device, bring(&c, x, (size_t)n * sizeof *x, true), n, s);
    end(&c);
}

/* One behind the greatest of ids; n where there are none. */
static int64_t rows_of(const int32_t *ids, int32_t n)
{
    int64_t most = ids ? 0 : n;
    for (int32_t i = 0; ids && i < n; i++)
        most = ids[i] >= most ? ids[i] + 1 : most;
    return most;
}

static void copy_rows(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                      int32_t n, int64_t dim, float *out, int64_t ldo)
{
    struct call c = begin(self);
    const float *from = bring(&c, x, matrix(rows_of(ids, n), ldx, dim), false);
    float *to = bring(&c, out, matrix(n, ldo, dim), true);
    c.device->copy_rows(c.device, from, ldx, ids, n, dim, to, ldo);
    end(&c);
}

static void add_rows(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                     const float *shares, int32_t n, int64_t dim, float *out, int64_t ldo)
{
    struct call c = begin(self);
    const float *from = bring(&c, x, matrix(n, ldx, dim), false);
    float *to = bring(&c, out, matrix(rows_of(ids, n), ldo, dim), true);
    c.device->add_rows(c.device, from, ldx, ids, shares, n, dim, to, ldo);
    end(&c);
}

static void close_table(struct kernels *self)
{
    if (!self)
        return;
    self->state->device->close(self->state->device);
    free(self->state);
    free(self);
}

struct kernels *mirrored_open(struct kernels *device)
{
    struct kernels *k = check(calloc(1, sizeof *k));
    struct kernels_state *state = check(calloc(1, sizeof *state));
    state->device = device;
    *k = (struct kernels){.device = device->device,
                          .isa = device->isa,
                          .mode = device->mode,
                          .threads = 1,
                          .state = state,
                          .act_bytes = act_bytes,
                          .prepare = prepare,
                          .matmul = matmul,
                          .dequantize = dequantize,
                          .gather = gather,
                          .norm = norm,
                          .rope = rope,
                          .kv_store = kv_store,
                          .attention = attention,
                          .activate = activate,
                          .add = add,
                          .scale = scale,
                          .copy_rows = copy_rows,
                          .add_rows = add_rows,
                          .close = close_table};
    return k;
}
