/*
 * The loader: one thread for all that reads files or computes beside the worker: adapters (loads,
 * autoloads, strengths), merges, exports. What it builds it publishes by a swap; the worker never
 * waits for it, and while sequences run it computes in their turns only (core/turns.h). Requests
 * that wait for an adapter go before other work.
 *
 * A job that waits for requests to finish (an unload that drains, a merge in place) is parked and
 * looked at again when something has left, so that the thread is free for those very requests.
 */
#ifndef OFTD_CORE_JOBS_H
#define OFTD_CORE_JOBS_H

#include "core/run/merged.h"
#include "core/run/route.h"
#include "core/run/stats.h"
#include "core/run/ticket.h"
#include "core/turns.h"

struct jobs;

struct jobs_options {
    const struct model *model;
    const struct checkpoint *checkpoint;
    const struct chain *chain;
    const struct kernels *kernels; /* the loader's */
    struct registry *registry;
    struct merged *merged;
    struct stats *stats;
    struct turns *turns; /* between the worker's steps; NULL: it needs to wait for none */
    uint64_t merge_memory;
    const char *export_dir; /* NULL: none */
    /* A request whose adapters are there and whose sequences are planned. */
    void (*ready)(void *ctx, struct ticket *t);
    void *ctx;
};

enum status jobs_open(const struct jobs_options *o, struct jobs **out, struct error *err);
/* Ends the thread; what waits ends with CANCELLED. */
void jobs_stop(struct jobs *s);
void jobs_close(struct jobs *s);
/* A ticket made by one of those below, or a request's whose routes are pending. */
void jobs_submit(struct jobs *s, struct ticket *t);
/* Something was cancelled or has left. Cheap when nothing is parked. */
void jobs_kick(struct jobs *s);

enum job_kind { JOB_LOAD, JOB_UNLOAD, JOB_BATCH, JOB_VALIDATE, JOB_MERGE, JOB_UNMERGE, JOB_EXPORT };

struct job {
    enum job_kind kind;
    struct adapter_request *load; /* in the ticket's arena */
    size_t n_load;
    const char **unload;
    size_t n_unload;
    double timeout_s;
    struct chain_names names; /* merge, unmerge, export */
    enum merge_mode mode;
    struct merge_options options;
    const char *path;
    bool trusted, plain;
    enum dtype dtype;
    struct job_result result;

    int64_t deadline;        /* parked: CLOCK_MONOTONIC ns, 0: none */
    struct adapter *retired; /* unload: by reference */
    uint64_t retired_bytes;
    struct merged_entry *entry; /* merge in place: built, not published */
};

/* Each copies its arguments into the ticket and checks what needs no file. On failure the ticket is
 * left for ticket_discard. */
enum status job_adapters(struct ticket *t, enum job_kind kind, const struct adapter_request *load,
                         size_t n_load, const char *const *unload, size_t n_unload,
                         double timeout_s, struct error *err);
enum status job_merge(struct ticket *t, const struct merge_request *req, struct error *err);
enum status job_unmerge(struct ticket *t, const struct name_list *adapters, struct error *err);
enum status job_export(struct ticket *t, const struct export_request *req, struct error *err);

/* jobs_merge.c, on the loader's thread. *park: ask jobs_merge_poll later. */
enum status jobs_merge(const struct jobs_options *o, struct ticket *t, bool *park,
                       struct error *err);
bool jobs_merge_poll(const struct jobs_options *o, struct ticket *t); /* true: it is published */
void jobs_merge_abandon(const struct jobs_options *o, struct ticket *t);
enum status jobs_unmerge(const struct jobs_options *o, struct ticket *t, struct error *err);
enum status jobs_export(const struct jobs_options *o, struct ticket *t, struct error *err);
/* A copy for a job's result; false: no memory. */
bool jobs_add_name(struct job_result *r, const char *name);

#endif
