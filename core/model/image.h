/*
 * Images through a network or through one convolution, as core/run asks for it. What an image needs
 * depends on its size, which a request brings along: so the caller first has it planned, then gives
 * memory for as many images as it likes to have at once. Rows of all of them, whatever their
 * adapters, meet in each product; an image's result does not depend on its neighbours.
 */
#ifndef OFTD_CORE_MODEL_IMAGE_H
#define OFTD_CORE_MODEL_IMAGE_H

#include "core/model/batch.h"

struct image_plan {
    int32_t module; /* -1: the whole network, else a Conv2d by itself */
    struct image_size size;
    int64_t shape[3]; /* of an image's last hidden state, or of the module's output */
    int rank;
    int32_t positions; /* of an image in a pass: rows of the scratch that it needs at once */
    size_t map;        /* floats of the largest map of an image; 0: there are none */
    size_t folded;     /* ... of the largest that is folded as PEFT does it */
};

/* Numbers of one hidden state or of the module's output. */
static inline int64_t image_numbers(const struct image_plan *p)
{
    return p->shape[0] * p->shape[1] * (p->rank == 3 ? p->shape[2] : 1);
}

/* Where results of one image go; NULL: not wanted. */
struct image_output {
    float *logits; /* [vocab] */
    float *hidden; /* [plan.shape]; a module: its output */
    float *pooled; /* [hidden] */
};

struct image_batch {
    const struct image_plan *plan;
    const struct view *view;
    const struct kernels *kernels;
    const float *pixels; /* [n, channels, height, width] */
    int32_t n;
    const struct row_group *groups; /* cover the images, ascending */
    int32_t n_groups;
    const struct image_output *outputs; /* [n] */
};

/* Checks the size against the network (module -1) or the convolution: INVALID_VALUE with the
 * parameter's name, expected and got. NOT_SUPPORTED: it takes no images. */
enum status image_plan(const struct model *m, int32_t module, struct image_size size,
                       const char *param, struct image_plan *out, struct error *err);
/* How many images a pass may have: rows of the scratch, and bytes of work (at least one image). */
int32_t image_at_once(const struct model *m, const struct image_plan *p, int32_t max_rows,
                      int32_t max_groups, size_t bytes);
/* Bytes of work for n images (64-byte aligned); SIZE_MAX: more than there can be. */
size_t image_bytes(const struct model *m, const struct image_plan *p, int32_t n);
/* n <= image_at_once of the scratch. INVALID_VALUE: PEFT's own forward fails on such a map
 * (--conv2d peft). Takes no memory. */
enum status image_forward(const struct model *m, const struct image_batch *b, void *work,
                          struct scratch *s, struct error *err);

#endif
