/*
 * The input of one pass: plain pointers, resolved by core/run once per step. A pass is a pure
 * function of it: nothing below takes a lock, asks a registry or allocates. One pass serves one
 * (view, mode) pair; rows are sorted so that those with the same adapters are neighbours.
 */
#ifndef OFTD_CORE_MODEL_BATCH_H
#define OFTD_CORE_MODEL_BATCH_H

#include "core/kernels.h"
#include "core/model/model.h"
#include "core/model/view.h"

#define ADAPTERS_MAX 8 /* adapters in order on one row */

/* A classification head that an adapter brings along: layers in order, tanh between them. */
struct classifier {
    enum classifier_kind kind;
    int32_t labels; /* rows of the last layer */
    int n_layers;
    struct {
        const struct weight *weight;
        const float *bias; /* or NULL */
    } layers[HEAD_LAYERS_MAX];
};

/* What an adapter does to the modules, as the network sees it. Owned by an adapter generation. */
struct adapted {
    const struct rotation *const *rotation; /* [n_modules], NULL entries: untouched */
    const float *const *bias; /* [n_modules] biases that replace the base's, or NULL: none at all */
    const struct classifier *classifier; /* its rows' way out instead of the base's, or NULL */
};

/* Rows [first, first + count) of the pass go through these adapters in order (x R_0 R_1 ...). n 0:
 * base. */
struct row_group {
    int32_t first, count;
    int32_t n;
    const struct adapted *const *adapted;
};

/* Where results of a row go; NULL: not wanted. */
struct row_output {
    int32_t row;
    float *hidden;   /* [hidden] after the final norm */
    float *logits;   /* [vocab], or of a classifier [labels] */
    float *pooled;   /* [hidden] of an encoder's first token, through its pooler */
    float *gathered; /* [hidden] that takes in what `hidden` would be: weight times it is added, or
                        (weight 0) the larger of both stays */
    float weight;
    struct draw *draw; /* what the logits are wanted for, where that is all: a table that draws
                          itself sets .token and leaves `logits` */
};

struct batch {
    const struct view *view;
    const struct kernels *kernels;
    int32_t rows;
    const int32_t *tokens; /* [rows]; NULL: embedded */
    const int32_t *types;  /* [rows] below model->token_types; NULL: all 0 */
    const float *embedded; /* [rows, ld_embedded] what enters the first layer */
    int64_t ld_embedded;
    struct kv_rows at; /* [rows] positions and pages */
    /* An encoder's sequences come whole, in one pass, and at.ends is their length. */
    /* [rows] the length of sequence by which the row's position turns, where the rope looks at it
     * (model->stretch_at, dynamic_at); NULL: as in short ones */
    const int32_t *lengths;
    const struct kv *kv;
    const struct row_group *groups; /* cover all rows, ascending */
    int32_t n_groups;
    const struct row_output *outputs; /* rows ascending */
    int32_t n_outputs;
};

/* Buffers of a pass, sized once for at most max_rows rows in at most max_groups groups. */
struct scratch;
enum status scratch_open(const struct model *m, const struct kernels *kernels, int32_t max_rows,
                         int32_t max_groups, struct scratch **out, struct error *err);
size_t scratch_bytes(const struct scratch *s);
void scratch_close(struct scratch *s);

/* One pass: stores the rows' K and V, writes the outputs. */
void model_forward(const struct model *m, const struct batch *b, struct scratch *s);

/* One module by itself: x [rows, module's k or, for an embedding, NULL with ids] -> out [rows, n];
 * rows <= max_rows of the scratch. groups as above. */
void model_module_forward(const struct model *m, int32_t module, const struct view *view,
                          const struct kernels *kernels, const struct row_group *groups,
                          int32_t n_groups, int32_t rows, const float *x, const int32_t *ids,
                          float *out, struct scratch *s);

#endif
