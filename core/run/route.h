/*
 * What a sequence runs on: the adapter generations it was admitted with (in order, each with its
 * strength), the weight view and the compute mode. Two routes with the same key give the same
 * bits. A route holds references and counts in every generation's in_flight until route_leave.
 *
 * Requests for a chain of adapters that is merged see the merged view and no rotations, only what
 * a merge leaves out (an adapter's own biases, its head).
 */
#ifndef OFTD_CORE_RUN_ROUTE_H
#define OFTD_CORE_RUN_ROUTE_H

#include "core/arena.h"
#include "core/engine.h"
#include "core/run/merged.h"
#include "core/run/prefix.h"

/* Adapters by name, as a request gives them; memory is the ticket's. */
struct chain_names {
    const char *names[ADAPTERS_MAX];
    int32_t strength[ADAPTERS_MAX]; /* in 1/100 */
    int32_t n;
};

struct route {
    struct adapter *adapters[ADAPTERS_MAX]; /* as named, by reference */
    struct adapter *used[ADAPTERS_MAX]; /* with the strength, for the mode: the same or derived, by
                                           reference */
    int32_t n;
    const struct adapted *adapted[ADAPTERS_MAX]; /* what rows go through */
    struct adapted unmerged[ADAPTERS_MAX];
    int32_t n_adapted;
    struct view *view; /* by reference */
    enum compute compute;
    uint8_t key[PREFIX_KEY];
    struct adapter_ref
        refs[ADAPTERS_MAX]; /* copies that outlive the route, in the ticket's arena */
    bool entered;
    struct route *prev, *next; /* merged.c's list of routes in use */
};

/* Finds generations and view. may_load (the loader's thread): adapters on disk are loaded,
 * strengths and the other mode's rotations derived; otherwise *pending tells that the loader has
 * to. On failure the route holds nothing. ADAPTER_NOT_FOUND, BIAS_CONFLICT,
 * MODULES_TO_SAVE_UNSUPPORTED, MODEL_IS_MERGED, OUT_OF_MEMORY, and what loading answers. */
enum status route_enter(struct route *r, const struct chain_names *names, enum compute compute,
                        struct registry *registry, struct merged *merged, bool may_load,
                        bool *pending, struct arena *arena, struct error *err);
/* The head that one of the adapters brings along, or NULL; valid while the route is entered. */
const struct classifier *route_classifier(const struct route *r);
/* Gives everything back; does nothing on a route that holds nothing. */
void route_leave(struct route *r, struct merged *merged);

#endif
