/*
 * Folding adapters into weights. merge_check applies THE rules (rules.c, a table) before anything
 * is allocated; merge_build dequantizes, rotates (W R^T in f32, an embedding W R), rounds to the
 * module's dtype and requantizes with the module's own back end (or keeps it dense), module by
 * module, into a new view beside the base. The base is never touched. Runs on the loader thread
 * with the loader's kernels.
 */
#ifndef OFTD_CORE_MERGE_MERGE_H
#define OFTD_CORE_MERGE_MERGE_H

#include "core/adapters/adapter.h"
#include "core/model/model.h"

struct merge_options {
    bool dense;         /* into */
    enum dtype dtype;   /* of the dense copy */
    bool safe;          /* refuse NaN and Inf */
    double max_rel_fro; /* < 0: no bound */
    bool dry_run;       /* report only, no view */
    uint64_t memory;    /* bytes the view may take (CAPACITY_EXCEEDED) */
};

struct merge_module_report {
    int32_t module;
    const char *backend;
    double rel_fro; /* |merged requantized - exact| / |exact|, Frobenius */
};
struct merge_report {
    struct merge_module_report *modules;
    size_t n;
    double rel_fro_max, rel_fro_mean, orthogonality_defect;
    uint64_t bytes;
    char **warnings;
    size_t n_warnings;
};
void merge_report_clear(struct merge_report *r);

/* The rules that hold for the whole base, before any adapter is looked up (GPTQ, layer
 * replication). */
enum status merge_check_base(const struct model *m, struct error *err);
/* All rules for these adapters (in order, of any mode). Warnings (tied embedding) go to
 * report->warnings. */
enum status merge_check(const struct model *m, struct adapter *const *adapters, size_t n,
                        const struct merge_options *options, struct merge_report *report,
                        struct error *err);
/* Builds. *out is a view with one reference (NULL after a dry run). progress may be NULL. */
enum status merge_build(const struct model *m, const struct chain *chain,
                        const struct kernels *kernels, struct adapter *const *adapters, size_t n,
                        const struct merge_options *options, progress_report *progress,
                        void *progress_ctx, struct view **out, struct merge_report *report,
                        struct error *err);

/* What merge_export writes, whole. */
struct merge_target {
    const struct view *view;         /* NULL: the base alone */
    struct adapter *const *adapters; /* what the view has merged, in order */
    size_t n_adapters;
    bool plain;
    enum dtype dtype;
    const char *path;
    progress_report *progress; /* or NULL */
    void *progress_ctx;
};
/* merge_export with what the adapters bring along besides rotations: their biases and a head. A
 * head makes the checkpoint one of its class (LlamaForSequenceClassification). */
enum status merge_write(const struct model *m, const struct checkpoint *cp,
                        const struct kernels *kernels, const struct merge_target *target,
                        struct error *err);

/* Writes a Hugging Face checkpoint of base + view (NULL: the base alone) to path: same
 * quantization, or plain when dense_dtype >= 0. Tokenizer and generation files are copied;
 * untouched modules keep their very bytes. */
enum status merge_export(const struct model *m, const struct checkpoint *cp,
                         const struct chain *chain, const struct kernels *kernels,
                         const struct view *view, bool plain, enum dtype dtype, const char *path,
                         progress_report *progress, void *progress_ctx, struct error *err);

#endif
