#include "core/turns.h"

#include <stddef.h>

#include "core/clock.h"

/* How much longer than the turn the worker waits for a unit that has begun: a quarter of it, and
 * this. */
#define GRACE_NS 200000

/* What this thread is to the turns that it entered. */
static _Thread_local struct {
    struct turns *turns;
    bool inside; /* counted in turns->inside */
} mine;

bool turns_open(struct turns *t)
{
    *t = (struct turns){.now = clock_ns};
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr))
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    bool ok = !pthread_mutex_init(&t->lock, NULL) && !pthread_cond_init(&t->begun, &attr) &&
              !pthread_cond_init(&t->over, &attr);
    pthread_condattr_destroy(&attr);
    return ok;
}

void turns_close(struct turns *t)
{
    pthread_cond_destroy(&t->over);
    pthread_cond_destroy(&t->begun);
    pthread_mutex_destroy(&t->lock);
}

/* ---- the worker ---- */

void turns_busy(struct turns *t, bool busy)
{
    if (atomic_load(&t->busy) == busy)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->busy, busy);
    pthread_cond_broadcast(&t->begun);
    pthread_mutex_unlock(&t->lock);
}

void turns_give(struct turns *t, int64_t ns)
{
    if (!atomic_load(&t->waiting))
        return;
    const struct timespec latest = clock_timespec(clock_ns() + ns + ns / 4 + GRACE_NS);
    pthread_mutex_lock(&t->lock);
    t->inside += atomic_exchange(&t->waiting, 0);
    t->count++;
    atomic_store(&t->end, t->now() + ns);
    pthread_cond_broadcast(&t->begun);
    int late = 0;
    while (t->inside && !late)
        late = pthread_cond_timedwait(&t->over, &t->lock, &latest);
    atomic_store(&t->end, 0);
    pthread_mutex_unlock(&t->lock);
}

/* ---- a background thread ---- */

/* (lock) */
static void step_out(struct turns *t)
{
    if (mine.inside && --t->inside == 0)
        pthread_cond_signal(&t->over);
    mine.inside = false;
}

/* (lock) Is a turn on in which another unit may begin? */
static bool is_on(struct turns *t)
{
    return t->now() < atomic_load(&t->end);
}

/* (lock) */
static void wait_for_turn(struct turns *t)
{
    uint64_t count = t->count;
    atomic_fetch_add(&t->waiting, 1);
    while (atomic_load(&t->busy) && t->count == count)
        pthread_cond_wait(&t->begun, &t->lock);
    mine.inside = t->count != count; // the worker has counted it already
    if (!mine.inside)
        atomic_fetch_sub(&t->waiting, 1);
}

void turns_enter(struct turns *t)
{
    mine.turns = t;
}

void turns_pause(void)
{
    struct turns *t = mine.turns;
    if (!t || !atomic_load(&t->busy) || (mine.inside && is_on(t)))
        return;
    pthread_mutex_lock(&t->lock);
    if (!mine.inside && is_on(t)) {
        t->inside++;
        mine.inside = true;
    } else {
        step_out(t);
        wait_for_turn(t);
    }
    pthread_mutex_unlock(&t->lock);
}

void turns_away(void)
{
    struct turns *t = mine.turns;
    if (!t || !mine.inside)
        return;
    pthread_mutex_lock(&t->lock);
    step_out(t);
    pthread_mutex_unlock(&t->lock);
}

void turns_leave(void)
{
    turns_away();
    mine.turns = NULL;
}
