/*
 * Who starts next. Waiting sequences stand in lanes, one lane a route key (a chain of adapters on a
 * view); lanes share by start-time fair queuing: each has a virtual time that grows by the rows
 * its sequences will cost, the lane that is furthest behind goes next (the longest waiting one on a
 * tie), and a lane that was empty starts level with the one furthest behind, so silence saves no
 * credit and coming back one by one wins none. A chain with one request therefore waits for at most
 * one sequence of each other chain, whatever they have queued.
 *
 * Belongs to the worker and allocates nothing: a lane's head is kept in the first sequence that
 * stands in it and moves on to the next one when that leaves.
 */
#ifndef OFTD_CORE_RUN_FAIR_H
#define OFTD_CORE_RUN_FAIR_H

#include <stdbool.h>
#include <stdint.h>

struct sequence;

struct lane { /* embedded in every sequence, in use in the first of a lane */
    struct lane *prev, *next;
    struct sequence *first, *last;
    int64_t time;
};

struct fair {
    struct lane *lanes;
    int32_t waiting;
};

/* At the end of its lane, or (again: preempted, or a choice whose prompt is ready) at its front. */
void fair_add(struct fair *f, struct sequence *q, bool front);
/* The next to start, which stays where it is; NULL: nobody waits. */
struct sequence *fair_next(const struct fair *f);
/* Takes out the one that fair_next gave, charging its lane. */
void fair_start(struct fair *f, struct sequence *q, int64_t cost);
/* Takes out one that gives up. */
void fair_remove(struct fair *f, struct sequence *q);

#endif
