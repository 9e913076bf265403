#include "tests/support/guarded.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SPACE  ((size_t)64 << 30) /* of addresses; pages come with their use */
#define HEADER ((size_t)64)       /* before an array: its bytes */
#define PAGES  ((size_t)64 << 10) /* arrays begin on pages, however large a system's are */
#define POISON ((size_t)1 << 20)  /* released arrays up to this size are overwritten */

struct kernels_state {
    struct kernels *inner;
};

/* All tables share one space, as the two modes of a device do. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *space;
static size_t used, held;
static int inside, fail_in;

static void protect(size_t from, size_t bytes, int how)
{
    if (bytes && mprotect(space + from, bytes, how))
        abort();
}

static void enter(void)
{
    pthread_mutex_lock(&lock);
    if (inside++ == 0)
        protect(0, used, PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&lock);
}

static void leave(void)
{
    pthread_mutex_lock(&lock);
    if (--inside == 0)
        protect(0, used, PROT_NONE);
    pthread_mutex_unlock(&lock);
}

/* ---- memory ---- */

static bool fails(size_t bytes, size_t whole)
{
    if (fail_in > 1)
        fail_in--;
    else if (fail_in == 1)
        return true;
    return bytes > SPACE / 4 || whole > SPACE - used;
}

static void *take(const struct kernels *self, size_t bytes)
{
    (void)self;
    size_t whole = (bytes + HEADER + PAGES - 1) / PAGES * PAGES;
    char *at = NULL;
    pthread_mutex_lock(&lock);
    if (!fails(bytes, whole)) {
        at = space + used;
        protect(used, whole, PROT_READ | PROT_WRITE);
        inside++;
        used += whole;
        held += bytes;
    }
    pthread_mutex_unlock(&lock);
    if (!at)
        return NULL;
    memcpy(at, &bytes, sizeof bytes);
    leave();
    return at + HEADER;
}

static void give(const struct kernels *self, void *p)
{
    (void)self;
    size_t bytes;
    if (!p)
        return;
    enter();
    memcpy(&bytes, (char *)p - HEADER, sizeof bytes);
    if (bytes <= POISON)
        memset(p, 0xff, bytes);
    leave();
    pthread_mutex_lock(&lock);
    held -= bytes;
    pthread_mutex_unlock(&lock);
}

static uint64_t available(const struct kernels *self)
{
    (void)self;
    return (uint64_t)1 << 30;
}

static void copy(const struct kernels *self, void *to, const void *from, size_t bytes)
{
    (void)self;
    enter();
    memcpy(to, from, bytes);
    leave();
}

/* Lists are the host's. */
static void begin(const struct kernels *self, const struct kv_rows *rows)
{
    (void)self;
    (void)rows;
}

static const char *fault(const struct kernels *self)
{
    (void)self;
    return NULL;
}

size_t guarded_held(void)
{
    return held;
}

void guarded_fail(int n)
{
    fail_in = n;
}

/* ---- what the CPU does ---- */

#define CALL(slot, ...)                                                                            \
    const struct kernels *inner = self->state->inner;                                              \
    enter();                                                                                       \
    inner->slot(inner, __VA_ARGS__);                                                               \
    leave()

static size_t act_bytes(const struct kernels *self, int32_t rows, int64_t k)
{
    return self->state->inner->act_bytes(self->state->inner, rows, k);
}

static void prepare(const struct kernels *self, const struct prepare_job *jobs, int n)
{
    CALL(prepare, jobs, n);
}

static void matmul(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    CALL(matmul, jobs, n);
}

static void dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                       int64_t rows, float *out)
{
    CALL(dequantize, w, row, rows, out);
}

static void gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                   int32_t n, float *out, int64_t ldo)
{
    CALL(gather, w, ids, n, out, ldo);
}

static void norm(const struct kernels *self, const struct norm_args *args, const float *x,
                 int64_t ldx, int32_t rows, float *out, int64_t ldo)
{
    CALL(norm, args, x, ldx, rows, out, ldo);
}

static void rope(const struct kernels *self, float *x, int64_t ld, int32_t rows, int32_t heads,
                 int32_t head_dim, int32_t rot, const float *cosines, const float *sines)
{
    CALL(rope, x, ld, rows, heads, head_dim, rot, cosines, sines);
}

static void kv_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                     const struct kv_rows *rows, const float *k, const float *v, int64_t ld)
{
    CALL(kv_store, kv, layer, rows, k, v, ld);
}

static void attention(const struct kernels *self, const struct attention_args *args)
{
    CALL(attention, args);
}

static void activate(const struct kernels *self, enum activation act, const float *gate,
                     int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                     float *out, int64_t ldo)
{
    CALL(activate, act, gate, ldg, up, ldu, rows, dim, out, ldo);
}

static void add(const struct kernels *self, float *x, int64_t ldx, const float *y, int64_t ldy,
                int32_t rows, int64_t dim)
{
    CALL(add, x, ldx, y, ldy, rows, dim);
}

static void scale(const struct kernels *self, float *x, int64_t n, float s)
{
    CALL(scale, x, n, s);
}

static void copy_rows(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                      int32_t n, int64_t dim, float *out, int64_t ldo)
{
    CALL(copy_rows, x, ldx, ids, n, dim, out, ldo);
}

static void add_rows(const struct kernels *self, const float *x, int64_t ldx, const int32_t *ids,
                     const float *shares, int32_t n, int64_t dim, float *out, int64_t ldo)
{
    CALL(add_rows, x, ldx, ids, shares, n, dim, out, ldo);
}

static void close_table(struct kernels *self)
{
    if (!self)
        return;
    self->state->inner->close(self->state->inner);
    free(self->state);
    free(self);
}

struct kernels *guarded_open(struct kernels *inner)
{
    struct kernels *k = calloc(1, sizeof *k);
    struct kernels_state *state = calloc(1, sizeof *state);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (!space)
        space = mmap(NULL, SPACE, PROT_NONE, flags, -1, 0);
    if (!k || !state || space == MAP_FAILED)
        abort();
    state->inner = inner;
    *k = (struct kernels){.device = "guarded:0",
                          .isa = inner->isa,
                          .mode = inner->mode,
                          .threads = inner->threads,
                          .state = state,
                          .own_memory = true,
                          .alloc = take,
                          .release = give,
                          .available = available,
                          .upload = copy,
                          .fault = fault,
                          .send = copy,
                          .fetch = copy,
                          .begin = begin,
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
