/*
 * Owns the loading of weights: module by module, by the back end that claimed it, within a limit of
 * bytes. Modules that are quantized on the way need several times their size while they are at it,
 * so only as many as there are threads are in flight at once, and the file's pages go as soon as a
 * module is done: the peak is the packed base and one module a thread.
 *
 * Threads take modules in order from one counter. Which thread loads a module does not touch its
 * bytes. A failure stops all of them; the one that is told is that of the first module in order:
 * all before it were taken, and are waited for.
 */
#include <pthread.h>
#include <stdlib.h>

#include "core/model/build.h"
#include "core/model/view.h"

#define THREADS_MAX 64

struct loading {
    struct model *m;
    const struct checkpoint *cp;
    const struct model_options *options;
    struct weight **owned; /* [n_modules]: NULL where the module owns none */
    uint64_t total, limit; /* bytes in the end, as far as known before; bytes allowed */
    uint64_t later;        /* bytes that a second output layer takes after them */
    progress_report *progress;
    void *progress_ctx;

    pthread_mutex_t lock; /* what follows */
    size_t next;
    uint64_t done, used; /* of total; bytes that the loaded weights take */
    enum status status;
    size_t failed; /* the module whose failure status is; 0: it is nobody's, or the first's */
    struct error *err;
};

/* What a module takes in memory, about: its bytes in the file, or of its codes to be. */
static uint64_t module_bytes(const struct loading *l, size_t i)
{
    const struct module *u = &l->m->modules[i];
    struct module_spec spec;
    uint64_t bytes = 0;
    if (u->base != (int32_t)i || model_spec(l->m, l->cp, (int32_t)i, &spec))
        return 0;
    if (u->quantized)
        return (uint64_t)u->n * (uint64_t)u->k / 8 * (uint64_t)l->options->quantize->bits;
    for (size_t t = 0; t < spec.n_tensors; t++)
        bytes += spec.tensors[t].bytes;
    return bytes;
}

static enum status too_large(uint64_t need, uint64_t limit, const char *what, struct error *err)
{
    const double gib = 1024.0 * 1024 * 1024;
    return error_set(err, ST_CAPACITY_EXCEEDED,
                     "the base needs %s%.2f GiB of memory, %.2f GiB are available to it", what,
                     (double)need / gib, (double)limit / gib);
}

enum status model_load_weight(const struct model *m, const struct checkpoint *cp,
                              const struct model_options *options, int32_t module,
                              struct weight *out, struct error *err)
{
    struct module_spec spec;
    *out = (struct weight){0};
    enum status s = model_spec(m, cp, module, &spec);
    if (s != ST_OK)
        return error_set(err, s, NULL);
    const struct module *u = &m->modules[module];
    return u->quantized ? quantize_load(u->backend, options->quantize, &spec, false, out, err)
                        : u->backend->load(&spec, (struct slice){0}, out, err);
}

/* Under the lock: the next module to load; n_modules: none is left, or something failed. */
static size_t take(struct loading *l)
{
    const struct model *m = l->m;
    while (l->next < m->n_modules && m->modules[l->next].base != (int32_t)l->next)
        l->next++;
    return l->status || l->next == m->n_modules ? m->n_modules : l->next++;
}

/* Under the lock: counts a module that is loaded, or keeps its failure if no module before it has
 * one. */
static void account(struct loading *l, size_t i, enum status s, struct error *err)
{
    if (s && (!l->status || i < l->failed)) {
        l->status = s;
        l->failed = i;
        error_move(l->err, err);
    }
    if (l->status)
        return;
    l->done += module_bytes(l, i);
    l->used += weight_bytes(l->owned[i]);
    // Codebooks unfold: only now is it known what they take.
    uint64_t need = l->used + (l->total - l->done) + l->later;
    if (need > l->limit)
        l->status = too_large(need, l->limit, "at least ", l->err);
    else if (l->progress &&
             !l->progress(l->progress_ctx, l->total ? (double)l->done / (double)l->total : 1))
        l->status = error_set(l->err, ST_CANCELLED, "the load was stopped");
}

static void *work(void *loading)
{
    struct loading *l = loading;
    pthread_mutex_lock(&l->lock);
    for (size_t i; (i = take(l)) < l->m->n_modules;) {
        struct error err = ERROR_INIT;
        pthread_mutex_unlock(&l->lock);
        l->owned[i] = calloc(1, sizeof *l->owned[i]);
        enum status s =
            l->owned[i] ? model_load_weight(l->m, l->cp, l->options, (int32_t)i, l->owned[i], &err)
                        : error_memory(&err, l->m->modules[i].name);
        checkpoint_forget(l->cp); // else the file stands in memory beside the weights
        pthread_mutex_lock(&l->lock);
        account(l, i, s, &err);
        error_clear(&err);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* All modules, on this thread and others; fewer than asked for if the system gives no more. */
static void load_all(struct loading *l)
{
    pthread_t threads[THREADS_MAX];
    int n = 0, wanted = l->m->quantization ? l->options->quantize_threads - 1 : 0;
    if (wanted > THREADS_MAX)
        wanted = THREADS_MAX;
    while (n < wanted && !pthread_create(&threads[n], NULL, work, l))
        n++;
    work(l);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

static void free_weights(struct weight **owned, size_t n)
{
    for (size_t i = 0; owned && i < n; i++) {
        weight_clear(owned[i]);
        free(owned[i]);
    }
    free(owned);
}

enum status load_weights(struct model *m, const struct checkpoint *cp,
                         const struct model_options *options, progress_report *progress,
                         void *progress_ctx, uint64_t limit, struct error *err)
{
    struct loading l = {.m = m,
                        .cp = cp,
                        .options = options,
                        .limit = limit,
                        .progress = progress,
                        .progress_ctx = progress_ctx,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .err = err};
    for (size_t i = 0; i < m->n_modules; i++)
        l.total += module_bytes(&l, i);
    if (quantize_makes_head(m, options)) {
        const struct module *head = &m->modules[m->config->head];
        l.later = (uint64_t)head->n * (uint64_t)head->k / 8 * (uint64_t)options->head->bits;
    }
    if (l.total + l.later > limit)
        return too_large(l.total + l.later, limit, "", err);
    l.owned = calloc(m->n_modules + 1, sizeof *l.owned);
    if (!l.owned)
        return error_memory(err, "the base");
    load_all(&l);
    enum status s = l.status;
    if (s == ST_OK) {
        m->base = view_new(m, l.owned);
        if (m->base)
            m->weight_bytes = m->base->bytes;
        else
            s = error_memory(err, "the base");
    }
    if (s != ST_OK)
        free_weights(l.owned, m->n_modules);
    return s;
}
