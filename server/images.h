/* A tensor [images, channels, height, width] of a body. */
#ifndef OFTD_SERVER_IMAGES_H
#define OFTD_SERVER_IMAGES_H

#include "core/arena.h"
#include "core/engine.h"

/* Field `name` of a checked body into the arena. INVALID_VALUE: the shape does not give the
 * numbers, or is none of images. */
enum status images_read(const json_t *body, const char *name, struct arena *arena,
                        const struct images **out, struct error *err);

#endif
