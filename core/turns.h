/*
 * Turns: how work in the background keeps out of the steps' way.
 *
 * A step has a thread on every core and waits for the slowest of them. A further thread beside it
 * takes time slices of several milliseconds, and each of them delays every token. So what computes
 * beside the worker (loads, merges, exports) is cut into units of a tenth of a millisecond or so,
 * and while one step follows another a unit begins only in a turn, which the worker grants between
 * two steps and which lasts a part of a step. While the worker sleeps, units follow each other
 * unhindered.
 *
 *      worker       |==== step ====|         |==== step ====|         |==== step ====|  sleeps
 *      background                   unit unit                unit unit                  unit unit
 * ...
 *
 * Where fewer threads compute than there are cores nobody enters: the background has its own core.
 *
 * Giving way is a property of a thread, as its priority is: turns_enter says that this thread works
 * in the background, and from then on turns_pause marks the end of a unit. On every other thread
 * it does nothing, so files, digests, rotations and formats call it wherever their work can be cut
 * and need not know for whom they work.
 *
 * Why nobody waits for ever: the worker opens a turn after every step while a thread waits for one,
 * and lets all go on before it sleeps or ends; a turn lets every waiting thread do one unit,
 * however short it is. The worker waits for no thread but those inside a unit, and for those no
 * longer than the turn and a grace; a thread that is about to wait for something else (the disk)
 * leaves first (turns_away). Whoever pauses holds no lock.
 */
#ifndef OFTD_CORE_TURNS_H
#define OFTD_CORE_TURNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct turns {
    pthread_mutex_t lock;
    pthread_cond_t begun; /* a turn, or the worker sleeps */
    pthread_cond_t over;  /* nobody is inside a unit */
    atomic_bool busy;     /* steps follow each other */
    atomic_int waiting;   /* threads that want a turn */
    _Atomic(int64_t) end; /* of the turn; 0: there is none */
    uint64_t count;       /* turns so far */
    int inside;           /* threads that were let go on and have not paused since */
    int64_t (*now)(void); /* nanoseconds; tests bring their own */
};

/* False: the system refused. */
bool turns_open(struct turns *t);
/* No thread may be in it any more. */
void turns_close(struct turns *t);

/* ---- the worker ---- */

/* Steps follow (true), or none is left to do: then background threads go on at once. */
void turns_busy(struct turns *t, bool busy);
/* Between two steps: lets the threads that wait work for `ns` nanoseconds, and returns when all of
 * them have paused. At once when nobody waits. */
void turns_give(struct turns *t, int64_t ns);

/* ---- a background thread ---- */

void turns_enter(struct turns *t);
/* The end of a unit; may wait for the next turn. Holds no lock. */
void turns_pause(void);
/* Nobody needs to wait for this thread until it pauses again. */
void turns_away(void);
void turns_leave(void);

#endif
