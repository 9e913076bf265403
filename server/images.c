/*
 * Owns the reading of images: a tensor of rank 4 whose shape gives its numbers. Whether a network
 * takes images of that size is core's to say.
 */
#include "server/images.h"

#include "server/fields.h"

enum status images_read(const json_t *body, const char *name, struct arena *arena,
                        const struct images **out, struct error *err)
{
    const json_t *tensor = field(body, name);
    const json_t *shape = field(tensor, "shape"), *data = field(tensor, "data");
    size_t n = json_array_size(data);
    int64_t sizes[4] = {0}, product;
    for (size_t i = 0; i < json_array_size(shape) && i < 4; i++)
        sizes[i] = json_as_int(json_array_get(shape, i));
    if (json_array_size(shape) != 4)
        return error_param(err, ST_INVALID_VALUE, name,
                           "%s: the shape [images, channels, height, width] is expected", name);
    if (!size_product(sizes, 4, &product) || (uint64_t)product != n)
        return error_param(err, ST_INVALID_VALUE, name,
                           "%s: the shape does not give the %zu numbers of data", name, n);
    struct images *images = arena_alloc(arena, sizeof *images);
    float *v = arena_alloc(arena, n * sizeof *v);
    if (!images || !v)
        return error_memory(err, "reading images");
    for (size_t i = 0; i < n; i++)
        v[i] = (float)json_number_value(json_array_get(data, i));
    *images = (struct images){
        v, (int32_t)sizes[0], {(int32_t)sizes[1], (int32_t)sizes[2], (int32_t)sizes[3]}};
    *out = images;
    return ST_OK;
}
