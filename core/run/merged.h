/*
 * Which weights a chain of adapters sees now. An entry is an immutable value: the chain that was
 * merged (names and identities), its view, its mode. Entries come and go behind one short lock;
 * a request keeps the view it entered with.
 *
 * In place: the base serves nobody but that chain. closing is the time between "built" and
 * "published": requests of others are refused already, those that are inside finish first
 * (merged_others counts them).
 */
#ifndef OFTD_CORE_RUN_MERGED_H
#define OFTD_CORE_RUN_MERGED_H

#include "core/engine.h"

struct merged;
struct route;
struct chain_names;

struct merged_entry {
    char *names[ADAPTERS_MAX];
    uint8_t identities[ADAPTERS_MAX][DIGEST_SIZE];
    int32_t n;
    enum merge_mode mode;
    bool dense; /* kept in another form than the checkpoint's */
    struct view *view;
    size_t modules;
    struct merged_entry *next;
};

/* left is called (any thread, no lock held) whenever a route has left. */
enum status merged_open(const struct model *m, void (*left)(void *ctx), void *ctx,
                        struct merged **out, struct error *err);
void merged_close(struct merged *m);

/* Sets the route's view, key and what its rows go through. MODEL_IS_MERGED. */
enum status merged_enter(struct merged *m, struct route *r, struct error *err);
void merged_leave(struct merged *m, struct route *r);

/* An entry for this chain, without a view yet. NULL: no memory. */
struct merged_entry *merged_entry_new(struct adapter *const *adapters, int32_t n,
                                      enum merge_mode mode, bool dense);
void merged_entry_free(struct merged_entry *e);

/* May this chain be merged so? ADAPTER_MERGED, MODEL_IS_MERGED. */
enum status merged_check(struct merged *m, const struct merged_entry *e, struct error *err);
/* From now on others are refused (in place only). The entry stays the caller's. */
void merged_closing(struct merged *m, const struct merged_entry *e); /* NULL: open again */
/* Routes in use that are not for the chain of the closing entry. */
int32_t merged_others(struct merged *m);
/* Consumes the entry; ends closing. */
void merged_publish(struct merged *m, struct merged_entry *e);
/* Does an unmerge of these names mean the merge of this chain? (engine_unmerge) */
bool merged_meant(const struct chain_names *meant, char *const *chain, size_t n);
/* Takes out the entries that are meant; a list for the caller to free. */
struct merged_entry *merged_remove(struct merged *m, const struct chain_names *meant);
/* The view of exactly this chain in the checkpoint's own form, by reference, or NULL. */
struct view *merged_view(struct merged *m, struct adapter *const *adapters, int32_t n);

bool merged_holds(struct merged *m, const char *name); /* merged or closing */
uint64_t merged_bytes(struct merged *m);
enum status merged_list(struct merged *m, struct merge_info **out, size_t *n, struct error *err);

#endif
