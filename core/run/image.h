/*
 * Requests about images: through the whole network (pixel_values) or through one convolution. They
 * go the way of module requests: checked and copied when submitted, then a slice in a step, as many
 * images as fit the rows of a step and a bounded work memory. The memory is taken for the slice
 * alone, so that waiting requests hold none; where there is none left, that request fails.
 */
#ifndef OFTD_CORE_RUN_IMAGE_H
#define OFTD_CORE_RUN_IMAGE_H

#include "core/run/request.h"

/* Checks the images of a raw pass and copies them. t->request is begun, its outputs are set.
 * REPLY_TOO_LARGE, INVALID_VALUE, NOT_SUPPORTED. */
enum status images_forward(struct ticket *t, const struct forward_request *q, struct error *err);
/* The same for a Conv2d by itself; request->module is set. */
enum status images_module(struct ticket *t, const struct module_request *q, struct error *err);

/* Images from `first` on that can go together; how many went, 0: err tells why. */
int32_t images_run(struct request *r, int32_t first, const struct kernels *kernels,
                   struct scratch *scratch, struct error *err);
/* All have run: what is derived, and that everything is finite. */
enum status images_finish(struct request *r, const struct kernels *kernels, struct error *err);

#endif
