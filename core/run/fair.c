#include "core/run/fair.h"

#include <string.h>

#include "core/run/sequence.h"

static struct lane *lane_of(const struct fair *f, const struct sequence *q)
{
    struct lane *l = f->lanes;
    while (l && memcmp(l->first->route->key, q->route->key, PREFIX_KEY))
        l = l->next;
    return l;
}

static void link_lane(struct fair *f, struct lane *l)
{
    l->prev = NULL;
    l->next = f->lanes;
    if (l->next)
        l->next->prev = l;
    f->lanes = l;
}

static void unlink_lane(struct fair *f, struct lane *l)
{
    if (l->prev)
        l->prev->next = l->next;
    else
        f->lanes = l->next;
    if (l->next)
        l->next->prev = l->prev;
}

/* The lane's head moves into another of its sequences. */
static struct lane *move_lane(struct fair *f, struct lane *l, struct sequence *to)
{
    unlink_lane(f, l);
    to->lane = *l;
    link_lane(f, &to->lane);
    return &to->lane;
}

static int64_t earliest(const struct fair *f)
{
    int64_t time = f->lanes ? f->lanes->time : 0;
    for (const struct lane *l = f->lanes; l; l = l->next)
        if (l->time < time)
            time = l->time;
    return time;
}

void fair_add(struct fair *f, struct sequence *q, bool front)
{
    struct lane *l = lane_of(f, q);
    f->waiting++;
    q->prev = q->next = NULL;
    if (!l) {
        q->lane = (struct lane){.first = q, .last = q, .time = earliest(f)};
        link_lane(f, &q->lane);
    } else if (front) {
        q->next = l->first;
        l->first->prev = q;
        l = move_lane(f, l, q);
        l->first = q;
    } else {
        q->prev = l->last;
        l->last->next = q;
        l->last = q;
    }
}

struct sequence *fair_next(const struct fair *f)
{
    const struct lane *best = f->lanes;
    for (const struct lane *l = best ? best->next : NULL; l; l = l->next)
        if (l->time < best->time || (l->time == best->time && l->first->order < best->first->order))
            best = l;
    return best ? best->first : NULL;
}

void fair_remove(struct fair *f, struct sequence *q)
{
    struct lane *l = lane_of(f, q);
    f->waiting--;
    if (q->prev)
        q->prev->next = q->next;
    if (q->next)
        q->next->prev = q->prev;
    if (l->last == q)
        l->last = q->prev;
    if (l->first == q) {
        if (q->next)
            move_lane(f, l, q->next)->first = q->next;
        else
            unlink_lane(f, l);
    }
    q->prev = q->next = NULL;
}

void fair_start(struct fair *f, struct sequence *q, int64_t cost)
{
    struct lane *l = lane_of(f, q);
    l->time += cost;
    fair_remove(f, q);
}
