/*
 * check_kernels' attention: rows of several sequences, side by side or not, over random pages of
 * keys and values of every type, in which what no row sees is no number.
 */
#include "tests/bench/check_kernels.h"

#include <stdio.h>

static struct kv_rows rows_of(const struct data *d)
{
    return (struct kv_rows){.rows = d->rows,
                            .positions = d->positions,
                            .pages = (const int32_t *const *)d->pages,
                            .ends = d->flag ? d->ends : NULL};
}

static void run_attention(struct kernels *t, struct data *d, int which)
{
    struct kv_rows rows = rows_of(d);
    struct attention_args a = {.kv = &d->kv[which],
                               .layer = 1,
                               .rows = &rows,
                               .q = d->x,
                               .out = d->out[which],
                               .ldq = d->k,
                               .ldo = d->k,
                               .heads = (int32_t)d->n,
                               .scale = 0.3f};
    if (d->kind & 1)
        a.softcap = 5;
    if (d->kind & 2)
        a.window = 37;
    if (d->kind & 4)
        a.alibi = d->z;
    int64_t ld = (int64_t)a.kv->kv_heads * a.kv->head_dim;
    t->kv_store(t, &d->kv[which], 1, &rows, d->y, d->y + d->rows * ld, ld);
    t->attention(t, &a);
}

/* What pages may hold: random numbers of the type, and steps behind each head. */
static void *random_heads(enum dtype dtype, size_t size, size_t head)
{
    char *v = memory_alloc(size);
    size_t steps = dtype == DT_I8 ? KV_PAGE * sizeof(float) : 0;
    for (size_t at = 0; at < size; at += head) {
        for (size_t i = 0; i < (head - steps) / dtype_size(dtype); i++) {
            float x = (float)between(-1000, 1000) * 1e-3f;
            if (dtype == DT_F32)
                ((float *)(void *)(v + at))[i] = x;
            else if (dtype == DT_F16)
                ((uint16_t *)(void *)(v + at))[i] = f32_to_f16(x);
            else
                v[at + i] = (char)between(-127, 127);
        }
        for (size_t i = 0; i < steps / sizeof(float); i++)
            ((float *)(void *)(v + at + head - steps))[i] = (float)between(0, 100) * 1e-4f;
    }
    return v;
}

/* Slots from `slot` on of a page of layer 1, which nobody sees, are no numbers. */
static void spoil(const struct kv *kv, int32_t page, int32_t slot)
{
    size_t size = dtype_size(kv->dtype), head = kv_head_bytes(kv->dtype, kv->head_dim);
    size_t steps = KV_PAGE * (size_t)kv_fours(kv->head_dim), dim = (size_t)kv->head_dim;
    for (int32_t h = 0; h < kv->kv_heads; h++)
        for (size_t s = (size_t)slot; s < KV_PAGE; s++) {
            size_t at = (size_t)(kv->n_pages + page) * kv->page_bytes + (size_t)h * head;
            char *k = (char *)kv->k + at, *v = (char *)kv->v + at;
            if (kv->dtype == DT_I8) {
                memset(k + steps + s * sizeof(float), 0xff, sizeof(float));
                memset(v + steps + s * sizeof(float), 0xff, sizeof(float));
                continue;
            }
            for (size_t i = 0; i < dim; i++)
                memset(k + (i * KV_PAGE + s) * size, 0xff, size);
            memset(v + s * dim * size, 0xff, dim * size);
        }
}

/* Rows of sequences, of which each has pages of its own: runs of up to `run` rows. */
struct attention_shape {
    int32_t rows, run, kv_heads, group, dim, longest;
    bool whole; /* a row sees all of its run */
};

/* The rows; returns how many pages they have. */
static int64_t random_rows(struct data *d, const struct attention_shape *v)
{
    int32_t longest = timing && v->run == 1 ? 1000 : v->longest, pages = 0, n = 1;
    d->positions = calloc((size_t)v->rows, sizeof *d->positions);
    d->ends = calloc((size_t)v->rows, sizeof *d->ends);
    d->pages = calloc((size_t)v->rows, sizeof *d->pages);
    for (int32_t i = 0; i < v->rows; i += n) {
        bool near = v->run == 1 && i % 3 == 0, far = v->run > 1 && i == 0;
        int32_t first = (int32_t)between(far ? longest - 20 : 0, near ? 20 : longest);
        n = i ? (int32_t)between(1, v->run) : v->run;
        n = n < v->rows - i ? n : v->rows - i;
        int32_t count = (first + n - 1) / KV_PAGE + 1, *list = malloc((size_t)count * sizeof *list);
        for (int32_t p = count - 1; p >= 0; p--)
            list[p] = pages++;
        for (int32_t r = i; r < i + n; r++) {
            d->positions[r] = first + r - i;
            d->ends[r] = first + n;
            d->pages[r] = list;
        }
    }
    return pages;
}

/* Over random keys of layer 1. */
static struct data random_attention(enum dtype dtype, const struct attention_shape *v)
{
    struct data d = {.rows = v->rows, .n = (int64_t)v->kv_heads * v->group, .flag = v->whole};
    d.k = d.n * v->dim;
    int64_t pages = random_rows(&d, v);
    size_t head = kv_head_bytes(dtype, v->dim);
    size_t size = 2 * (size_t)pages * (size_t)v->kv_heads * head;
    for (int i = 0; i < 2; i++) {
        d.kv[i] = (struct kv){.dtype = dtype,
                              .layers = 2,
                              .kv_heads = v->kv_heads,
                              .head_dim = v->dim,
                              .n_pages = pages,
                              .page_bytes = (size_t)v->kv_heads * head};
        d.kv[i].k = i ? memory_alloc(size) : random_heads(dtype, size, head);
        d.kv[i].v = i ? memory_alloc(size) : random_heads(dtype, size, head);
    }
    for (int32_t i = 0; i < d.rows; i++)
        if (d.ends[i] % KV_PAGE)
            spoil(&d.kv[0], d.pages[i][d.ends[i] / KV_PAGE], d.ends[i] % KV_PAGE);
    memcpy(d.kv[1].k, d.kv[0].k, size);
    memcpy(d.kv[1].v, d.kv[0].v, size);
    d.x = floats(d.rows * d.k);
    d.y = floats(2 * (int64_t)d.rows * v->kv_heads * v->dim);
    d.z = floats(d.n);
    outputs(&d, d.rows * d.k);
    return d;
}

void check_attention(void)
{
    static const struct attention_shape shapes[] = {{1, 1, 4, 8, 64, 300, false},
                                                    {7, 1, 2, 1, 80, 300, false},
                                                    {5, 1, 1, 5, 17, 300, false},
                                                    {3, 1, 3, 2, 8, 300, false},
                                                    {9, 1, 1, 19, 33, 300, false},
                                                    {64, 1, 2, 4, 128, 300, false},
                                                    {2, 1, 1, 3, 16, 2500, false}, // several spans
                                                    {3, 1, 1, 13, 48, 300, false},
                                                    // rows of one sequence beside others'
                                                    {70, 70, 1, 1, 32, 100, false},
                                                    {37, 23, 2, 4, 64, 200, false},
                                                    {41, 33, 1, 8, 128, 90, false},
                                                    {19, 17, 1, 4, 256, 150, false},
                                                    {12, 11, 1, 3, 300, 70, false},
                                                    {5, 4, 1, 2, 1024, 70, false},
                                                    {34, 33, 1, 2, 40, 1010, false},
                                                    {33, 33, 1, 1, 17, 40, false},
                                                    {5, 3, 1, 40, 20, 70, false},
                                                    {20, 20, 2, 5, 20, 60, true}};
    static const enum dtype dtypes[] = {DT_F32, DT_F16, DT_I8};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < 3 * 8; kind++) {
            enum dtype dtype = dtypes[kind / 8];
            struct data d = random_attention(dtype, &shapes[s]);
            d.kind = kind % 8;
            char what[48];
            snprintf(what, sizeof what, "%s %d heads of %d%s%s%s", dtype_name(dtype), (int)d.n,
                     (int)shapes[s].dim, kind & 1 ? " cap" : "", kind & 2 ? " win" : "",
                     kind & 4 ? " alibi" : "");
            compare("attention", what, &d, run_attention);
            release(&d);
        }
}
