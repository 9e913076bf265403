/* A body as the routes take it: bytes -> JSON -> the field table of every route -> images, where it
 * has some. */
#include "core/json.h"
#include "server/fields.h"
#include "server/images.h"
#include "tests/fuzz/fuzz.h"

/* Every number of an image that is taken is finite, and there are as many as its shape says. */
static void read_images(const json_t *body)
{
    struct error err = ERROR_INIT;
    struct arena arena = {0};
    const struct images *v = NULL;
    if (field(body, "pixel_values") &&
        images_read(body, "pixel_values", &arena, &v, &err) == ST_OK) {
        int64_t each = (int64_t)v->size.channels * v->size.height * v->size.width;
        for (int64_t i = 0; i < v->n * each; i++)
            fuzz_check(isfinite(v->pixels[i]));
    }
    error_clear(&err);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    json_t *body = NULL;
    if (json_parse((const char *)data, size, 32, "the body", &body, &err)) {
        error_clear(&err);
        return 0;
    }
    for (int set = FIELDS_none + 1; set < FIELDS_COUNT_; set++) {
        bool good = fields_check((enum field_set)set, body, &err) == ST_OK;
        error_clear(&err);
        if (good && set == FIELDS_forward)
            read_images(body);
    }
    json_decref(body);
    return 0;
}
