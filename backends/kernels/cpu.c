/*
 * Owns the composition of a CPU table: every slot is the portable version first, then CPUID decides
 * which twins are laid over it. Slots themselves are in the other files of this folder. A pool and
 * its threads' scratch may serve several tables (exact and fast); the last one closed frees them.
 */
#include "backends/kernels/cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/twins.h"
#include "core/memory.h"

#define MIN_CHUNK_CYCLES 8000.0 /* about 2 us: handing out a chunk costs well below one */
#define CHUNKS_A_THREAD  6
#define MAX_THREADS      1024

struct pool_share {
    atomic_int users;
    struct pool *pool;
    int threads;
    float **scratch;
    void *shared;
};

struct cpu_table {
    struct kernels kernels;
    struct kernels_state state;
    const struct isa *isa;
};

struct isa {
    const char *name;
    bool (*present)(void);
    void (*overlay)(struct twins *t);
};

static bool always(void)
{
    return true;
}

static bool never(void)
{
    return false;
}

#define OVERLAY(isa)                                                                               \
    static void overlay_##isa(struct twins *t)                                                     \
    {                                                                                              \
        decode_##isa(t);                                                                           \
        matmul_##isa(t);                                                                           \
        fast_##isa(t);                                                                             \
        strided_##isa(t);                                                                          \
        lookup_##isa(t);                                                                           \
        rotate_##isa(t);                                                                           \
        attention_##isa(t);                                                                        \
        norm_##isa(t);                                                                             \
        elementwise_##isa(t);                                                                      \
        series_##isa(t);                                                                           \
    }
OVERLAY(portable)

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
OVERLAY(avx2)
OVERLAY(avx512)

static void overlay_avxvnni(struct twins *t)
{
    overlay_avx2(t);
    fast_avxvnni(t);
    strided_avxvnni(t);
}

static void overlay_amx(struct twins *t)
{
    overlay_avx512(t);
    fast_amx(t);
}

static bool has_f16c(void) // no word of __builtin_cpu_supports for every compiler
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avxvnni(void)
{
    const unsigned vnni = 1u << 4;
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & vnni);
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bf16");
}

#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM of asm/prctl.h, for older headers */
#define TILE_DATA          18     /* XFEATURE_XTILEDATA */

/* The kernel asks to be asked, once for the process, before it saves 8 KB more of a thread; it
 * refuses where processor or hypervisor have no tiles. */
static bool has_amx(void)
{
    const unsigned tile = 1u << 24, int8 = 1u << 25;
    unsigned a, b, c, d;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tile) && (d & int8) &&
           !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}
#else
#define has_avx2        never
#define has_avxvnni     never
#define has_avx512      never
#define has_amx         never
#define overlay_amx     NULL
#define overlay_avx2    NULL
#define overlay_avxvnni NULL
#define overlay_avx512  NULL
#endif

#if defined(__aarch64__)
#include <sys/auxv.h>
OVERLAY(neon)

static bool has_neon(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}
#else
#define has_neon     never
#define overlay_neon NULL
#endif

/* Best first; those of another architecture are known by name. */
static const struct isa isas[] = {
    {.name = "amx", .present = has_amx, .overlay = overlay_amx},
    {.name = "avx512", .present = has_avx512, .overlay = overlay_avx512},
    {.name = "avxvnni", .present = has_avxvnni, .overlay = overlay_avxvnni},
    {.name = "avx2", .present = has_avx2, .overlay = overlay_avx2},
    {.name = "neon", .present = has_neon, .overlay = overlay_neon},
    {.name = "portable", .present = always, .overlay = overlay_portable},
};
#define N_ISAS (sizeof isas / sizeof isas[0])

bool cpu_has(const char *isa)
{
    for (size_t i = 0; i < N_ISAS; i++)
        if (!strcmp(isa, isas[i].name))
            return isas[i].present();
    return false;
}

/* NULL and err: there is none. */
static const struct isa *choose_isa(const char *name, struct error *err)
{
    bool any = !name || !strcmp(name, "auto");
    for (size_t i = 0; i < N_ISAS; i++) {
        if (!any && strcmp(name, isas[i].name) != 0)
            continue;
        if (isas[i].present())
            return &isas[i];
        if (!any) {
            error_set(err, ST_NOT_SUPPORTED,
                      "isa: this processor does not have what \"%s\" needs; \"auto\" takes the "
                      "best that it has",
                      name);
            return NULL;
        }
    }
    error_set(err, ST_INVALID_VALUE,
              "isa: \"%s\" is not known, expected auto, portable, avx2, avxvnni, avx512, amx or "
              "neon",
              name);
    return NULL;
}

/* ---- how many threads ---- */

/* Up to two numbers of a file; -1 for "max" or what is missing. */
static void read_numbers(const char *path, long long *a, long long *b)
{
    *a = -1;
    if (b)
        *b = -1;
    FILE *f = fopen(path, "r");
    char line[128];
    if (f && fgets(line, sizeof line, f)) {
        char *end = line;
        *a = strtoll(line, &end, 10);
        if (end == line) {
            *a = -1;
            end = strchr(line, ' ');
        }
        if (b && end)
            *b = strtoll(end, NULL, 10);
    }
    if (f)
        fclose(f);
}

int cpu_threads(void)
{
    int n = 1;
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set))
        n = CPU_COUNT(&set);
    long long quota, period;
    read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period);
    if (quota <= 0) {
        read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, NULL);
        read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, NULL);
    }
    if (quota > 0 && period > 0 && quota / period < n)
        n = (int)(quota / period);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

int64_t chunk_count(const struct kernels *self, int64_t units, double cycles)
{
    double worth = (double)units * cycles / MIN_CHUNK_CYCLES;
    if (self->threads == 1 || worth < 2 || units < 2)
        return units > 0;
    int64_t most = (int64_t)self->threads * CHUNKS_A_THREAD;
    int64_t chunks = worth < (double)most ? (int64_t)worth : most;
    if (chunks > self->threads) // as many for each: one left over would hold up all others
        chunks -= chunks % self->threads;
    return chunks < units ? chunks : units;
}

/* ---- opening and closing ---- */

static void share_release(struct pool_share *s)
{
    if (!s || atomic_fetch_sub(&s->users, 1) > 1)
        return;
    pool_close(s->pool);
    for (int i = 0; s->scratch && i < s->threads; i++)
        memory_free(s->scratch[i]);
    memory_free(s->shared);
    free(s->scratch);
    free(s);
}

static enum status share_new(int threads, struct pool_share **out, struct error *err)
{
    struct pool_share *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "opening the kernels");
    atomic_init(&s->users, 1);
    s->threads = threads;
    s->scratch = calloc((size_t)threads, sizeof *s->scratch);
    s->shared = memory_alloc(LOOKUP_BYTES); // fresh pages: nothing until somebody uses them
    bool ok = s->scratch && s->shared;
    for (int i = 0; ok && i < threads; i++)
        ok = (s->scratch[i] = memory_alloc(SCRATCH_FLOATS * sizeof(float))) != NULL;
    enum status st = ok ? pool_open(threads, &s->pool, err)
                        : error_memory(err, "allocating the kernels' scratch memory");
    if (st != ST_OK) {
        share_release(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

static void close_table(struct kernels *self)
{
    if (!self)
        return;
    share_release(self->state->share);
    free((struct cpu_table *)self); // kernels is its first member
}

/* Takes over one use of share, also on failure. */
static enum status table_new(const struct isa *isa, enum compute mode, struct pool_share *share,
                             struct kernels **out, struct error *err)
{
    struct cpu_table *t = calloc(1, sizeof *t);
    if (!t) {
        share_release(share);
        return error_memory(err, "opening the kernels");
    }
    t->isa = isa;
    t->state.share = share;
    t->state.pool = share->pool;
    t->state.scratch = share->scratch;
    t->state.shared = share->shared;
    overlay_portable(&t->state.twins);
    isa->overlay(&t->state.twins);
    t->kernels = (struct kernels){
        .device = "cpu",
        .isa = isa->name,
        .mode = mode,
        .threads = share->threads,
        .state = &t->state,
        .act_bytes = rotate_act_bytes,
        .prepare = rotate_prepare,
        .matmul = matmul_run,
        .dequantize = decode_dequantize,
        .gather = decode_gather,
        .norm = norm_run,
        .rope = elementwise_rope,
        .kv_store = attention_kv_store,
        .attention = attention_run,
        .activate = elementwise_activate,
        .add = elementwise_add,
        .scale = elementwise_scale,
        .copy_rows = elementwise_copy_rows,
        .add_rows = elementwise_add_rows,
        .likelihoods = elementwise_likelihoods,
        .gemm = blas_gemm,
        .solve = blas_solve,
        .combine = series_combine,
        .squares = series_squares,
        .largest = series_largest,
        .to_bytes = series_to_bytes,
        .close = close_table,
    };
    *out = &t->kernels;
    return ST_OK;
}

enum status cpu_kernels_open(const char *isa, enum compute mode, int threads, struct kernels **out,
                             struct error *err)
{
    struct error why = ERROR_INIT;
    struct pool_share *share = NULL;
    const struct isa *chosen = choose_isa(isa, &why);
    enum status st = why.code;
    *out = NULL;
    if (!chosen) {
        error_move(err, &why);
        return st;
    }
    if (threads > MAX_THREADS)
        return error_set(err, ST_INVALID_VALUE, "threads: %d is more than the limit of %d", threads,
                         MAX_THREADS);
    st = share_new(threads > 0 ? threads : cpu_threads(), &share, err);
    return share ? table_new(chosen, mode, share, out, err) : st;
}

enum status cpu_kernels_share(const struct kernels *with, enum compute mode, struct kernels **out,
                              struct error *err)
{
    const struct cpu_table *table = (const struct cpu_table *)with; // kernels is its first member
    *out = NULL;
    atomic_fetch_add(&table->state.share->users, 1);
    return table_new(table->isa, mode, table->state.share, out, err);
}
