#include "core/run/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "core/run/batch.h"
#include "core/run/forward.h"
#include "core/run/image.h"
#include "core/run/pace.h"

/* What starting a sequence costs its lane beside the rows of its prompt. */
#define START_COST 64
/* A turn of the background takes this part of a step as they were of late, which rises by no more
 * than one part in RISE_OF_STEP with each longer one. */
#define TURN_OF_STEP 2
#define RISE_OF_STEP 8

/* Rows of a step up to which guesses are computed, and what a row more costs, of a step with one:
 * both as measured (docs/performance.md, step of N sequences). */
#define DRAFT_ROWS 16
#define DRAFT_COST 0.25f

struct queue {
    struct ticket *first, *last;
};

struct scheduler {
    struct scheduler_options o;
    struct sampler *sampler;
    struct step step;
    struct fair fair;
    struct pace pace;
    int32_t generating, reading; /* of the step: sequences that draw a token, prompt rows */
    struct sequence **running;   /* [max_sequences], by order, oldest first */
    int32_t n_running;
    struct ticket *held; /* all tickets with sequences, by .queued */
    struct queue modules;
    uint64_t order;
    bool reap; /* some held ticket is done */
    struct step_counts counts;
    atomic_int pages_used;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t come;
    struct queue inbox;
    bool kicked, stop;
    pthread_t thread;
    bool threaded; /* the starter's */
};

static void push(struct queue *q, struct ticket *t)
{
    t->queued = NULL;
    if (q->first)
        q->last->queued = t;
    else
        q->first = t;
    q->last = t;
}

static struct ticket *pop(struct queue *q)
{
    struct ticket *t = q->first;
    if (t)
        q->first = t->queued;
    return t;
}

enum status scheduler_open(const struct scheduler_options *o, struct scheduler **out,
                           struct error *err)
{
    *out = NULL;
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "the scheduler");
    s->o = *o;
    if (pthread_mutex_init(&s->lock, NULL)) {
        free(s);
        return error_memory(err, "the scheduler");
    }
    if (pthread_cond_init(&s->come, NULL)) {
        pthread_mutex_destroy(&s->lock);
        free(s);
        return error_memory(err, "the scheduler");
    }
    enum status st = sampler_open(o->kernels, o->model->vocab, &s->sampler, err);
    if (st == ST_OK)
        st = step_open(&s->step, o->model->vocab, o->max_rows, o->max_sequences, o->can_draw, err);
    if (st == ST_OK) {
        s->running = calloc((size_t)o->max_sequences, sizeof *s->running);
        if (!pace_open(&s->pace, o->prefill_stretch, o->max_sequences) || !s->running)
            st = error_memory(err, "the scheduler");
    }
    if (st != ST_OK) {
        scheduler_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void scheduler_close(struct scheduler *s)
{
    if (!s)
        return;
    step_close(&s->step);
    sampler_close(s->sampler);
    pace_close(&s->pace);
    free(s->running);
    pthread_cond_destroy(&s->come);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void scheduler_submit(struct scheduler *s, struct ticket *t)
{
    pthread_mutex_lock(&s->lock);
    push(&s->inbox, t);
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_kick(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->kicked = true;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_figures(const struct scheduler *s, struct scheduler_figures *out)
{
    out->pages = kvcache_frames(s->o.kv);
    out->pages_used = atomic_load(&((struct scheduler *)s)->pages_used);
}

/* ---- a sequence's way ---- */

static void wait_for_turn(struct scheduler *s, struct sequence *q, bool front)
{
    q->state = SEQUENCE_WAITING;
    fair_add(&s->fair, q, front);
}

/* The choices behind the first one share its prompt's pages: they start once it has been read. */
static void release_siblings(struct scheduler *s, struct sequence *q)
{
    const struct request *r = q->request;
    for (int32_t c = q->choice ? 0 : r->n - 1; c > 0; c--)
        if (q[c].state == SEQUENCE_NEW)
            wait_for_turn(s, &q[c], true);
}

static void leave(struct scheduler *s, struct sequence *q)
{
    if (q->state == SEQUENCE_DONE)
        return;
    if (q->state == SEQUENCE_WAITING)
        fair_remove(&s->fair, q);
    if (q->state == SEQUENCE_RUNNING)
        sequence_drop_pages(q, s->o.kv);
    atomic_fetch_sub(q->state == SEQUENCE_RUNNING ? &q->ticket->running : &q->ticket->waiting, 1);
    q->state = SEQUENCE_DONE;
    q->request->open--;
    s->reap = true;
}

/* The whole ticket fails; its sequences stop at once. Consumes err. */
static void fail(struct scheduler *s, struct ticket *t, enum status st, struct error *err)
{
    struct request *r = t->request;
    r->status = st;
    error_move(&r->error, err);
    for (size_t i = 0; i < r->n_sequences; i++) {
        if (r->sequences[i].state != SEQUENCE_DONE)
            s->counts.finished[st == ST_CANCELLED ? FINISH_CANCELLED : FINISH_ERROR]++;
        leave(s, &r->sequences[i]);
    }
    s->reap = true;
}

static void cancel(struct scheduler *s, struct ticket *t)
{
    struct error err = ERROR_INIT;
    error_set(&err, ST_CANCELLED, NULL);
    fail(s, t, ST_CANCELLED, &err);
}

static void end_ticket(struct scheduler *s, struct ticket *t)
{
    struct request *r = t->request;
    struct error err = ERROR_INIT;
    error_move(&err, &r->error);
    stats_time(s->o.stats, TIMING_END_TO_END, (double)(ticket_now() - t->submitted) * 1e-9);
    request_end(t, r->status, &err);
    error_clear(&err);
}

static void compact(struct scheduler *s)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->state == SEQUENCE_RUNNING)
            s->running[n++] = s->running[i];
    s->n_running = n;
}

/* The figures first: who has seen a ticket end finds it counted. */
static void settle(struct scheduler *s)
{
    stats_count(s->o.stats, &s->counts);
    s->counts = (struct step_counts){0};
    atomic_store(&s->pages_used, kvcache_used(s->o.kv));
    if (!s->reap)
        return;
    s->reap = false;
    compact(s);
    for (struct ticket **at = &s->held; *at;) {
        struct ticket *t = *at;
        if (t->request->open) {
            at = &t->queued;
            continue;
        }
        *at = t->queued;
        end_ticket(s, t);
    }
}

/* ---- what comes in ---- */

static void enqueue(struct scheduler *s, struct ticket *t)
{
    struct request *r = t->request;
    if (request_in_slices(r)) {
        push(&s->modules, t);
        return;
    }
    t->queued = s->held;
    s->held = t;
    for (size_t i = 0; i < r->n_sequences; i++) {
        struct sequence *q = &r->sequences[i];
        q->order = s->order++;
        if (!q->choice)
            wait_for_turn(s, q, false);
    }
}

static void take_inbox(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    struct queue in = s->inbox;
    s->inbox.first = NULL;
    bool kicked = s->kicked;
    s->kicked = false;
    pthread_mutex_unlock(&s->lock);
    while (in.first) {
        struct ticket *t = pop(&in);
        enqueue(s, t);
        kicked |= ticket_cancelled(t); /* perhaps before it came here */
    }
    for (struct ticket *t = kicked ? s->held : NULL; t; t = t->queued)
        if (ticket_cancelled(t))
            cancel(s, t);
}

/* ---- admission ---- */

/* Positions for which pages must be there before it starts. */
static int64_t positions_at_start(const struct scheduler *s, const struct sequence *q)
{
    int64_t window = s->o.model->window;
    int64_t most = q->computed + window + s->o.max_rows;
    return window && most < q->len ? most : q->len;
}

/* Takes the pages to start with; a page for each running sequence should remain, unless it would
 * otherwise be alone. */
static bool take_pages(struct scheduler *s, struct sequence *q)
{
    sequence_match(q, s->o.kv, s->o.model);
    int32_t need = pages_for(positions_at_start(s, q)) - q->n_pages;
    int32_t frames = (need + s->n_running) * kvcache_per_page(s->o.kv, q->route->compute);
    if (frames <= kvcache_available(s->o.kv) || !s->n_running)
        if (sequence_reserve(q, s->o.kv, q->computed + (int64_t)need * KV_PAGE))
            return true;
    sequence_drop_pages(q, s->o.kv);
    return false;
}

static void insert_running(struct scheduler *s, struct sequence *q)
{
    int32_t i = s->n_running++;
    for (; i > 0 && s->running[i - 1]->order > q->order; i--)
        s->running[i] = s->running[i - 1];
    s->running[i] = q;
    q->state = SEQUENCE_RUNNING;
    q->rows = 0;
    atomic_fetch_sub(&q->ticket->waiting, 1);
    atomic_fetch_add(&q->ticket->running, 1);
}

static void first_run(struct scheduler *s, struct sequence *q)
{
    struct ticket *t = q->ticket;
    q->ran = true;
    ticket_count(t, &(struct usage){.cached_tokens = q->computed});
    s->counts.cached_tokens += (uint64_t)q->computed;
    s->counts.prompt_tokens += q->choice ? 0 : (uint64_t)q->prompt_len;
    if (ticket_admit(t))
        stats_time(s->o.stats, TIMING_QUEUE, (double)(t->admitted - t->submitted) * 1e-9);
    if (++q->request->started == q->request->n_sequences)
        s->o.started(s->o.ctx, t);
}

static void admit(struct scheduler *s)
{
    struct sequence *q;
    while (s->n_running < s->o.max_sequences && (q = fair_next(&s->fair)) && take_pages(s, q)) {
        fair_start(&s->fair, q, q->len - q->computed + START_COST);
        insert_running(s, q);
        if (!q->ran)
            first_run(s, q);
    }
}

/* ---- planning ---- */

static void preempt(struct scheduler *s, struct sequence *q)
{
    sequence_drop_pages(q, s->o.kv);
    q->rows = 0;
    s->n_running--; /* it is the newest, the last one */
    atomic_fetch_sub(&q->ticket->running, 1);
    atomic_fetch_add(&q->ticket->waiting, 1);
    wait_for_turn(s, q, true);
    s->counts.preemptions++;
}

/* Pages for positions [0, upto), from newer sequences if need be; false: q itself had to go. */
static bool find_pages(struct scheduler *s, struct sequence *q, int64_t upto)
{
    while (!sequence_reserve(q, s->o.kv, upto)) {
        struct sequence *newest = s->running[s->n_running - 1];
        preempt(s, newest);
        if (newest == q)
            return false;
    }
    return true;
}

static int32_t unread(const struct sequence *q)
{
    return q->len - q->computed;
}

/* At most `most` rows for a sequence that reads; returns how many. Rows that deliver prompt logits
 * are taken out of *echo. */
static int32_t give(struct scheduler *s, struct sequence *q, int32_t most, int32_t *echo)
{
    int32_t n = unread(q) < most ? unread(q) : most, from, end;
    if (q->whole && n < unread(q))
        return 0;
    q->rows = n;
    step_prompt_rows(q, &from, &end);
    if (end - from > *echo) {
        end = from + *echo;
        n = q->rows = end - q->computed;
    }
    if (n <= 0 || !find_pages(s, q, q->computed + n)) {
        q->rows = 0;
        return 0;
    }
    *echo -= end - from;
    return n;
}

static bool reads(const struct sequence *q)
{
    return !q->rows && unread(q) > 1;
}

static struct sequence *shortest(const struct scheduler *s, const struct sequence *but)
{
    struct sequence *best = NULL;
    for (int32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (q != but && reads(q) && !q->passed && (!best || unread(q) < unread(best)))
            best = q;
    }
    return best;
}

/* At most `budget` rows; returns how many. */
static int32_t plan_prompts(struct scheduler *s, int32_t budget)
{
    int32_t echo = ECHO_ROWS;
    struct sequence *oldest = NULL, *q;
    for (int32_t i = 0; i < s->n_running; i++) {
        s->running[i]->passed = false;
        if (!oldest && reads(s->running[i]))
            oldest = s->running[i];
    }
    if (!oldest)
        return 0;
    int32_t half = budget - budget / 2, need = unread(oldest);
    int32_t others = budget - (need < half ? need : half), used = 0;
    if (oldest->whole) { // it takes all it needs or waits for ever
        used = give(s, oldest, budget, &echo);
        others = budget;
    }
    while (used < others && (q = shortest(s, oldest))) {
        q->passed = true;
        used += give(s, q, others - used, &echo);
    }
    if (!oldest->whole)
        used += give(s, oldest, budget - used, &echo);
    return used;
}

/* Its keys were turned as in a shorter text: all of it is read again. */
static void start_over(struct scheduler *s, struct sequence *q)
{
    sequence_drop_pages(q, s->o.kv);
    sequence_match(q, s->o.kv, s->o.model);
}

/* The sequence whose next guess is the likeliest to be right, with that chance. */
static struct sequence *likeliest(const struct scheduler *s, float *chance)
{
    struct sequence *best = NULL;
    *chance = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        float c = q->rows && q->rows <= q->draft.n ? draft_chance(&q->draft, q->rows) : 0;
        if (c > *chance) {
            *chance = c;
            best = q;
        }
    }
    return best;
}

/* Rows for guesses, as long as one brings more tokens than its time would bring without it. Nobody
 * gives a row or a page for them: they come last, and a page that is not filled goes back after the
 * pass. */
static void plan_drafts(struct scheduler *s)
{
    int32_t rows = 0, most = s->o.max_rows < DRAFT_ROWS ? s->o.max_rows : DRAFT_ROWS;
    for (int32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        rows += q->rows;
        q->draft.n = 0;
        if (q->rows == 1 && unread(q) == 1)
            sequence_guess(q, s->o.model);
    }
    float tokens = (float)rows, chance;
    struct sequence *q;
    while (rows && rows < most && (q = likeliest(s, &chance))) {
        if (chance * (1 + DRAFT_COST * (float)(rows - 1)) <= DRAFT_COST * tokens)
            return;
        if (!sequence_reserve(q, s->o.kv, q->len + q->rows)) {
            q->draft.n = q->rows - 1;
            continue;
        }
        q->rows++;
        rows++;
        tokens += chance;
    }
}

static void plan(struct scheduler *s)
{
    int32_t rows = 0, readers = 0;
    s->generating = s->reading = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        q->rows = 0;
        if (sequence_outgrown(q, s->o.model->stretch_at))
            start_over(s, q);
        if (unread(q) == 1 && find_pages(s, q, q->len)) {
            q->rows = 1;
            rows++;
            s->generating += q->request->kind == REQUEST_GENERATE;
        }
        readers += unread(q) > 1;
    }
    int32_t budget = s->o.max_rows - rows;
    if (rows && budget > s->o.prefill_chunk)
        budget = s->o.prefill_chunk;
    budget = pace_rows(&s->pace, s->generating, readers, budget);
    if (budget > 0)
        s->reading = plan_prompts(s, budget);
    if (s->o.speculate)
        plan_drafts(s);
}

/* ---- after a pass ---- */

static void note_token(struct scheduler *s, struct sequence *q)
{
    int64_t now = ticket_now();
    s->counts.generated_tokens++;
    if (q->last_token)
        stats_time(s->o.stats, TIMING_INTER_TOKEN, (double)(now - q->last_token) * 1e-9);
    else
        stats_time(s->o.stats, TIMING_FIRST_TOKEN, (double)(now - q->ticket->submitted) * 1e-9);
    q->last_token = now;
}

/* The token that is due and, as long as the guesses behind it turn out to be what is drawn, the
 * tokens that follow these. */
static enum status deliver_tokens(struct scheduler *s, struct sequence *q, int32_t slot,
                                  int32_t drafted, struct error *err)
{
    s->counts.drafts += drafted > 0;
    s->counts.draft_tokens += (uint64_t)drafted;
    for (int32_t i = 0;; i++) {
        int32_t len = q->len, guess = i < q->draft.n ? q->tokens[len] : -1;
        enum status st = sequence_accept(q, step_logits(&s->step, slot + i),
                                         step_draw(&s->step, slot + i), s->sampler, err);
        if (st != ST_OK || q->len == len)
            return st;
        note_token(s, q);
        bool right = q->tokens[len] == guess;
        if (guess >= 0)
            draft_judge(&q->draft, right);
        s->counts.accepted_tokens += i < drafted && right;
        if (i == drafted || !right || q->finish != FINISH_NONE)
            return ST_OK;
        sequence_computed(q, s->o.kv, 1, s->o.model->window);
    }
}

static enum status deliver_generated(struct scheduler *s, struct sequence *q, int32_t from,
                                     int32_t end, int32_t drafted, struct error *err)
{
    int32_t slot = q->slot;
    for (int32_t pos = from; pos < end; pos++) {
        enum status st =
            sequence_prompt_logits(q, pos, step_logits(&s->step, slot++), s->o.kernels, err);
        if (st != ST_OK)
            return st;
        q->wanted = pos + 1;
    }
    if (q->computed < q->len)
        return ST_OK;
    if (q->len == q->prompt_len)
        release_siblings(s, q);
    return deliver_tokens(s, q, slot, drafted, err);
}

static enum status deliver_read(const struct scheduler *s, struct sequence *q, int32_t from,
                                struct error *err)
{
    int32_t start = from > q->wanted ? from : q->wanted;
    enum status st = ST_OK;
    if (q->computed > start)
        st = forward_finish(q, start, q->computed - start, s->o.kernels, err);
    if (q->computed > q->wanted)
        q->wanted = q->computed;
    if (q->computed == q->len)
        q->finish = FINISH_STOP;
    return st;
}

static void deliver(struct scheduler *s, struct sequence *q)
{
    if (q->state != SEQUENCE_RUNNING)
        return; /* its ticket failed a moment ago */
    struct error err = ERROR_INIT;
    int32_t before = q->computed, drafted = q->rows - unread(q), from, end;
    if (drafted < 0)
        drafted = 0;
    step_prompt_rows(q, &from, &end);
    sequence_computed(q, s->o.kv, q->rows - drafted, s->o.model->window);
    enum status st = q->request->kind == REQUEST_GENERATE
                         ? deliver_generated(s, q, from, end, drafted, &err)
                         : deliver_read(s, q, before, &err);
    if (st != ST_OK) {
        fail(s, q->ticket, st, &err);
    } else if (q->finish != FINISH_NONE) {
        s->counts.finished[q->finish] += q->request->kind == REQUEST_GENERATE;
        leave(s, q);
    } else if (drafted) {
        sequence_trim(q, s->o.kv);
    }
    error_clear(&err);
}

static bool run_passes(struct scheduler *s)
{
    step_collect(&s->step, s->running, s->n_running);
    for (int32_t i = 0; i < s->step.n_items;) {
        struct batch b;
        enum compute mode = s->step.items[i]->route->compute;
        int32_t end = step_pass(&s->step, i, kvcache_kv(s->o.kv, mode), &b);
        int64_t start = ticket_now();
        s->o.forward(s->o.ctx, mode, &b);
        s->counts.pass_ns += ticket_now() - start;
        for (; i < end; i++)
            deliver(s, s->step.items[i]);
    }
    return s->step.n_items > 0;
}

/* One slice of the module or image request at the head, which then stands at the end. */
static bool run_module(struct scheduler *s)
{
    struct ticket *t = pop(&s->modules);
    if (!t)
        return false;
    struct request *r = t->request;
    if (ticket_admit(t))
        s->o.started(s->o.ctx, t);
    if (ticket_cancelled(t)) {
        r->status = ST_CANCELLED;
        end_ticket(s, t);
        return true;
    }
    int32_t left = r->module_rows - r->module_done;
    int32_t most = left < s->o.max_rows ? left : s->o.max_rows;
    int32_t n = s->o.module(s->o.ctx, r, r->module_done, most, &r->error);
    r->module_done += n;
    if (n && r->module_done < r->module_rows) {
        push(&s->modules, t);
        return true;
    }
    if (!n)
        r->status = r->error.code;
    else if (r->kind == REQUEST_IMAGES)
        r->status = images_finish(r, s->o.kernels, &r->error);
    else if (!sampler_finite(r->module_result, (int64_t)r->module_rows * r->module_out))
        r->status =
            error_set(&r->error, ST_NON_FINITE_OUTPUT, "module '%s': a result is not finite",
                      s->o.model->modules[r->module].name);
    end_ticket(s, t);
    return true;
}

bool scheduler_step(struct scheduler *s)
{
    int64_t start = s->o.now();
    take_inbox(s);
    settle(s);
    admit(s);
    plan(s);
    bool worked = run_passes(s);
    pace_note(&s->pace, s->generating, s->reading, s->o.now() - start);
    worked |= run_module(s);
    s->counts.steps += worked;
    s->counts.step_ns += worked ? s->o.now() - start : 0;
    settle(s);
    return worked;
}

/* ---- the thread ---- */

static bool sleep_until_needed(struct scheduler *s, bool idle)
{
    pthread_mutex_lock(&s->lock);
    while (idle && !s->inbox.first && !s->kicked && !s->stop)
        pthread_cond_wait(&s->come, &s->lock);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return !stop;
}

/* What a step takes, where it took `usual` so far and `last` just now. One that the system held up
 * or that read a long prompt shall not lend its length to the turns behind it. */
static int64_t usual_step(int64_t usual, int64_t last)
{
    int64_t most = usual + usual / RISE_OF_STEP;
    return !usual || last < most ? last : most;
}

static void *work(void *arg)
{
    struct scheduler *s = arg;
    int64_t usual = 0;
    for (bool idle = false; sleep_until_needed(s, idle);) {
        int64_t start = s->o.now();
        turns_busy(s->o.turns, true);
        idle = !scheduler_step(s);
        if (idle) {
            turns_busy(s->o.turns, false);
        } else {
            usual = usual_step(usual, s->o.now() - start);
            turns_give(s->o.turns, usual / TURN_OF_STEP);
        }
    }
    turns_busy(s->o.turns, false);
    return NULL;
}

enum status scheduler_start(struct scheduler *s, struct error *err)
{
    if (pthread_create(&s->thread, NULL, work, s))
        return error_set(err, ST_OUT_OF_MEMORY, "the worker's thread cannot be started");
    s->threaded = true;
    return ST_OK;
}

void scheduler_stop(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->come);
    pthread_mutex_unlock(&s->lock);
    if (s->threaded)
        pthread_join(s->thread, NULL);
    s->threaded = false;
    take_inbox(s);
    for (struct ticket *t = s->held; t; t = t->queued)
        cancel(s, t);
    settle(s);
    for (struct ticket *t; (t = pop(&s->modules));) {
        t->request->status = ST_CANCELLED;
        end_ticket(s, t);
    }
}
