/*
 * What the passes over images share. Private to core/model.
 *
 * A map is a layer's images with a vector of channels for each pixel: pixel (y, x) of image b is
 * row (b * height + y) * width + x of a matrix, so that a 1x1 convolution is a product and every
 * other one a product of gathered rows. What comes in from outside has its channels outermost; the
 * strides say so and only the first convolution meets it.
 */
#ifndef OFTD_CORE_MODEL_IMAGE_PASS_H
#define OFTD_CORE_MODEL_IMAGE_PASS_H

#include "core/model/cut.h"
#include "core/model/image.h"
#include "core/model/pass.h"

struct map {
    const float *v;
    int32_t n, channels, height, width;
    int64_t image, pixel, channel; /* strides in floats; rows lie as pixels do */
};

/* Room in which maps are turned into the ones that PEFT's forward convolves. */
struct folding {
    float *all; /* [n, folded] */
    float *one; /* [folded] */
};

/* Pixels of a map's output along an axis (0: rows); 0: the window does not fit. */
int32_t conv_size(const struct conv2d *c, int axis, int32_t in);
/* The map of rows [n*height*width, ld]. */
struct map map_of_rows(const float *v, int64_t ld, int32_t n, int32_t channels, int32_t height,
                       int32_t width);
/* What a request sends: [n, channels, height, width]. */
struct map map_of_pixels(const float *v, int32_t n, struct image_size size);

/* in through a convolution, p's rows being its images, to out [n*oh*ow, ld]. */
enum status conv_forward(const struct pass *p, int32_t module, const struct map *in, float *out,
                         int64_t ld, const struct folding *f, struct error *err);
/* x [rows, ld] * scale + shift by channel, in place. */
void affine_rows(const struct affine *a, float *x, int64_t ld, int64_t rows, int64_t dim);

/* Floats of a folded map's image, if the convolution folds its inputs at all. */
size_t conv_folded(const struct model *m, int32_t module, int32_t height, int32_t width);

/* A convnet's plan, memory and pass; those of a network of patches. */
enum status convnet_plan(const struct model *m, struct image_plan *p, const char *param,
                         struct error *err);
void convnet_cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c);
enum status convnet_forward(const struct pass *p, const struct image_batch *b, void *work,
                            struct error *err);
enum status patches_plan(const struct model *m, struct image_plan *p, const char *param,
                         struct error *err);
void patches_cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c);
enum status patches_forward(const struct pass *p, const struct image_batch *b, void *work,
                            struct error *err);

#endif
