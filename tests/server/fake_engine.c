/*
 * See fake_engine.h. Here are the engine's life and its tickets; fake_work.c generates and
 * computes, fake_admin.c loads and merges. A test includes this file, which includes those.
 */
#include "tests/server/fake_engine.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VOCAB       32000
#define HIDDEN      4
#define SCRIPT_STEP 3 /* bytes of a token of a script */

struct node {
    struct node *next;
    struct piece piece;
    struct token_info token;
    struct token_logprob top[2];
    char text[24];
};

struct ticket {
    atomic_int refs;
    struct engine *engine;
    struct ticket *next;
    pthread_mutex_t lock;
    bool ended, cancelled, fail, broken, slow_end;
    enum status status;
    char text[200];
    char *script; /* what it says, or is; NULL: tokens by number */
    enum ticket_until until;
    ticket_wake *wake;
    void *arg;
    int n_prompts, n, max_tokens, at;
    struct node *unread, *tail, *all;
    struct adapter_ref refs_v[8];
    char names[8][130];
    size_t n_refs;
    struct usage usage;
    struct forward_row *rows;
    size_t n_rows;
    float *numbers;
    int32_t module_rows;
    int64_t module_n;
    int32_t *ids;
    size_t n_ids;
    struct job_result job;
    char job_name[130];
};

struct engine {
    pthread_mutex_t lock;
    pthread_t thread;
    atomic_bool stop, drain;
    atomic_int state, live, cancelled, ended;
    int step_us;
    struct ticket *tickets;
    struct model model;
    struct module modules[2];
    struct backend backend;
    struct engine_options options;
    struct kernels kernels;
    char loaded[16][130];
    int n_loaded;
    struct {
        char names[2][130];
        size_t n;
    } merged[4];
    size_t n_merged;
    pthread_t submitter; /* of the last /v1/forward */
    uint64_t generation;
    char last[300];
};

static void end_ticket(struct ticket *t, enum status s, const char *text)
{
    pthread_mutex_lock(&t->lock);
    t->status = s;
    snprintf(t->text, sizeof t->text, "%s", text ? text : "");
    t->ended = true;
    ticket_wake *wake = t->wake;
    t->wake = NULL;
    pthread_mutex_unlock(&t->lock);
    atomic_fetch_add(&t->engine->ended, 1);
    if (s == ST_CANCELLED)
        atomic_fetch_add(&t->engine->cancelled, 1);
    if (wake)
        wake(t->arg);
}

/* false: memory ran out. */
static bool emit(struct ticket *t, int prompt, int choice)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return false;
    bool last = t->at + 1 >= t->max_tokens;
    int len = t->script ? snprintf(n->text, sizeof n->text, "%.*s", SCRIPT_STEP,
                                   t->script + SCRIPT_STEP * t->at)
                        : snprintf(n->text, sizeof n->text, "t%d ", t->at);
    enum finish_reason end = t->script && last ? FINISH_STOP : FINISH_LENGTH;
    n->top[0] = (struct token_logprob){t->at, -0.25f, n->text, strlen(n->text)};
    n->top[1] = (struct token_logprob){t->at + 1000, -1.5f, "b", 1};
    n->token = (struct token_info){.id = t->at,
                                   .piece = n->text,
                                   .piece_len = (size_t)len,
                                   .logprob = -0.25f,
                                   .top = n->top,
                                   .n_top = 2};
    n->piece = (struct piece){.prompt = prompt,
                              .choice = choice,
                              .text = {n->text, (size_t)len},
                              .tokens = &n->token,
                              .n_tokens = 1,
                              .finish = last ? end : FINISH_NONE,
                              .stop_token = -1};
    pthread_mutex_lock(&t->lock);
    struct node *store = n;
    if (t->tail)
        t->tail->next = store;
    if (!t->unread)
        t->unread = store;
    t->tail = store;
    if (!t->all)
        t->all = store;
    t->usage.generated_tokens++;
    ticket_wake *wake = t->until == TICKET_EVENT ? t->wake : NULL;
    if (wake)
        t->wake = NULL;
    pthread_mutex_unlock(&t->lock);
    if (wake)
        wake(t->arg);
    return true;
}

static void unref(struct ticket *t)
{
    if (atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    for (struct node *n = t->all, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    atomic_fetch_sub(&t->engine->live, 1);
    pthread_mutex_destroy(&t->lock);
    findings_clear(&t->job.findings);
    for (size_t i = 0; i < t->job.n_names; i++)
        free(t->job.names[i]);
    free(t->job.names);
    free(t->rows);
    free(t->numbers);
    free(t->ids);
    free(t->script);
    free(t);
}

/* One step of a ticket; true: it ended. */
static bool step(struct ticket *t)
{
    pthread_mutex_lock(&t->lock);
    bool cancelled = t->cancelled || atomic_load(&t->engine->drain);
    pthread_mutex_unlock(&t->lock);
    if (cancelled) {
        end_ticket(t, ST_CANCELLED, "cancelled");
        return true;
    }
    if (t->fail || (t->broken && t->at == 2)) {
        end_ticket(t, ST_INTERNAL, "the fake failed");
        return true;
    }
    if (t->at >= t->max_tokens) {
        end_ticket(t, ST_OK, NULL);
        return true;
    }
    for (int p = 0; p < t->n_prompts; p++)
        for (int c = 0; c < t->n; c++)
            if (!emit(t, p, c)) {
                end_ticket(t, ST_OUT_OF_MEMORY, NULL);
                return true;
            }
    t->at++;
    return false;
}

static void *worker(void *arg)
{
    struct engine *e = arg;
    while (!atomic_load(&e->stop)) {
        usleep((useconds_t)e->step_us);
        pthread_mutex_lock(&e->lock);
        struct ticket *list = e->tickets;
        e->tickets = NULL;
        pthread_mutex_unlock(&e->lock);
        struct ticket *keep = NULL;
        while (list) {
            struct ticket *t = list;
            list = t->next;
            if (step(t)) {
                unref(t);
            } else {
                t->next = keep;
                keep = t;
            }
        }
        pthread_mutex_lock(&e->lock);
        while (keep) {
            struct ticket *t = keep;
            keep = t->next;
            t->next = e->tickets;
            e->tickets = t;
        }
        pthread_mutex_unlock(&e->lock);
    }
    return NULL;
}

static struct ticket *ticket_make(struct engine *e)
{
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    atomic_init(&t->refs, 2);
    t->engine = e;
    pthread_mutex_init(&t->lock, NULL);
    atomic_fetch_add(&e->live, 1);
    return t;
}

static enum status give_up(struct ticket *t, struct error *err)
{
    unref(t);
    unref(t);
    return error_memory(err, "faking");
}

static void submit(struct engine *e, struct ticket *t, struct ticket **out)
{
    *out = t;
    pthread_mutex_lock(&e->lock);
    t->next = e->tickets;
    e->tickets = t;
    pthread_mutex_unlock(&e->lock);
}

static bool loaded(struct engine *e, const char *name)
{
    for (int i = 0; i < e->n_loaded; i++)
        if (!strcmp(e->loaded[i], name))
            return true;
    return false;
}

static enum status use_adapters(struct engine *e, struct ticket *t, const char *const *names,
                                size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!loaded(e, names[i]))
            return error_set(err, ST_ADAPTER_NOT_FOUND, "there is no adapter '%s'", names[i]);
        snprintf(t->names[i], sizeof t->names[i], "%s", names[i]);
        t->refs_v[i] = (struct adapter_ref){t->names[i], "sha256:00", 1};
    }
    t->n_refs = n;
    return ST_OK;
}

/* ---- life ---- */

static char *describe(const struct weight *w, char *buf, size_t size)
{
    (void)w;
    snprintf(buf, size, "fake");
    return buf;
}

struct engine *fake_engine_new(int step_us)
{
    struct engine *e = calloc(1, sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
    e->step_us = step_us;
    atomic_init(&e->state, ENGINE_READY);
    e->backend = (struct backend){.name = "default", .describe = describe};
    e->modules[0] = (struct module){
        .name = "embed", .kind = MODULE_EMBEDDING, .n = 8, .k = HIDDEN, .backend = &e->backend};
    e->modules[1] = (struct module){.name = "linear",
                                    .kind = MODULE_LINEAR,
                                    .n = 3,
                                    .k = HIDDEN,
                                    .base = 1,
                                    .backend = &e->backend};
    e->model = (struct model){.model_type = "fake",
                              .architecture = "Fake",
                              .vocab = VOCAB,
                              .hidden = HIDDEN,
                              .pooling = POOLING_LAST,
                              .max_len = 4096,
                              .quant_method = "",
                              .bos = -1,
                              .modules = e->modules,
                              .n_modules = 2};
    e->options.max_reply_bytes = 1 << 28;
    e->options.max_sequences = 64;
    e->options.max_n = 16;
    e->options.kernels.exact = &e->kernels;
    strcpy(e->loaded[0], "alpha");
    strcpy(e->loaded[1], "beta");
    e->n_loaded = 2;
    e->generation = 2;
    if (pthread_create(&e->thread, NULL, worker, e))
        abort();
    return e;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    atomic_store(&e->stop, true);
    pthread_join(e->thread, NULL);
    while (e->tickets) {
        struct ticket *t = e->tickets;
        e->tickets = t->next;
        end_ticket(t, ST_CANCELLED, "stopped");
        unref(t);
    }
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void fake_engine_free(struct engine *e)
{
    engine_free(e);
}

void fake_engine_set_state(struct engine *e, enum engine_state state)
{
    atomic_store(&e->state, (int)state);
}

void fake_engine_counts(struct engine *e, struct fake_counts *out)
{
    *out = (struct fake_counts){.live = atomic_load(&e->live),
                                .cancelled = atomic_load(&e->cancelled),
                                .ended = atomic_load(&e->ended)};
}

pthread_t fake_engine_submitter(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    pthread_t submitter = e->submitter;
    pthread_mutex_unlock(&e->lock);
    return submitter;
}

const char *fake_engine_last_adapters(struct engine *e)
{
    return e->last;
}

/* Cancels everything at once. */
void engine_drain(struct engine *e, int64_t timeout_ms)
{
    (void)timeout_ms;
    atomic_store(&e->state, ENGINE_DRAINING);
    atomic_store(&e->drain, true);
}

enum engine_state engine_state(const struct engine *e, double *progress)
{
    if (progress)
        *progress = 0.5;
    return (enum engine_state)atomic_load(&e->state);
}

enum status engine_check(const struct engine *e, struct error *err)
{
    switch ((enum engine_state)atomic_load(&e->state)) {
    case ENGINE_READY:
        return ST_OK;
    case ENGINE_DRAINING:
        return error_set(err, ST_DRAINING, NULL);
    default:
        return error_set(err, ST_NOT_READY, NULL);
    }
}

const struct model *engine_model(const struct engine *e)
{
    return &e->model;
}
const char *engine_name(const struct engine *e)
{
    (void)e;
    return "base";
}
const char *engine_root(const struct engine *e)
{
    (void)e;
    return "/models/base";
}
enum status engine_chat_template(const struct engine *e, bool tools, struct text *text,
                                 struct error *err)
{
    static const char plain[] = "{{ '</think>' }}", calls[] = "{{ '</think><tool_call>' }}";
    (void)e;
    (void)err;
    if (text)
        *text =
            tools ? (struct text){calls, sizeof calls - 1} : (struct text){plain, sizeof plain - 1};
    return ST_OK;
}
bool engine_has_tokenizer(const struct engine *e)
{
    (void)e;
    return true;
}
const struct engine_options *engine_options(const struct engine *e)
{
    return &e->options;
}
void engine_rescan(struct engine *e)
{
    (void)e;
}

/* ---- tickets ---- */

bool ticket_wait(struct ticket *t, enum ticket_until until, ticket_wake *wake, void *arg)
{
    pthread_mutex_lock(&t->lock);
    bool arm = !t->ended && !(until == TICKET_EVENT && t->unread);
    t->until = until;
    t->wake = arm ? wake : NULL;
    t->arg = arg;
    pthread_mutex_unlock(&t->lock);
    return arm;
}

void ticket_join(struct ticket *t)
{
    while (!ticket_ended(t))
        usleep(1000);
}

bool ticket_ended(const struct ticket *t)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&t->lock;
    pthread_mutex_lock(lock);
    bool ended = t->ended;
    pthread_mutex_unlock(lock);
    return ended;
}

enum status ticket_status(struct ticket *t, struct error *err)
{
    if (t->status)
        error_set(err, t->status, "%s", t->text[0] ? t->text : status_text(t->status));
    return t->status;
}

void ticket_cancel(struct ticket *t)
{
    pthread_mutex_lock(&t->lock);
    t->cancelled = true;
    pthread_mutex_unlock(&t->lock);
}

void ticket_free(struct ticket *t)
{
    if (!t)
        return;
    ticket_cancel(t);
    unref(t);
}

void ticket_detach(struct ticket *t)
{
    if (t)
        unref(t);
}

void ticket_times(const struct ticket *t, struct ticket_times *out)
{
    (void)t;
    *out = (struct ticket_times){0.001, 0.002, 0.003};
}

bool ticket_read(struct ticket *t, struct piece *out)
{
    pthread_mutex_lock(&t->lock);
    struct node *n = t->unread;
    if (n) {
        *out = n->piece;
        t->unread = n->next;
    }
    pthread_mutex_unlock(&t->lock);
    return n != NULL;
}

bool ticket_thinks(const struct ticket *t)
{
    return t->script && !strncmp(t->script, "Hm, ", 4);
}

size_t ticket_adapters(const struct ticket *t, const struct adapter_ref **out)
{
    *out = t->refs_v;
    return t->n_refs;
}

void ticket_usage(const struct ticket *t, struct usage *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&t->lock;
    pthread_mutex_lock(lock);
    *out = t->usage;
    pthread_mutex_unlock(lock);
}

const struct forward_row *ticket_forward(const struct ticket *t, size_t *n)
{
    *n = t->n_rows;
    return t->rows;
}

const float *ticket_module(const struct ticket *t, int32_t *rows, int64_t *n)
{
    *rows = t->module_rows;
    *n = t->module_n;
    return t->numbers;
}

int ticket_module_shape(const struct ticket *t, int64_t shape[3])
{
    shape[0] = t->module_n;
    return 1;
}

const int32_t *ticket_ids(const struct ticket *t, size_t *n)
{
    *n = t->n_ids;
    return t->ids;
}

const char *ticket_text(const struct ticket *t, size_t *len)
{
    const char *text = t->script ? t->script : t->text;
    *len = strlen(text);
    return text;
}

const struct job_result *ticket_job(const struct ticket *t)
{
    return &t->job;
}

#include "tests/server/fake_admin.c"
#include "tests/server/fake_work.c"
