/* A body as the routes take it: bytes -> JSON (what jansson reads, and no more) -> the field table
 * of every route -> images, where it has some. */
#include "core/json.h"
#include "server/fields.h"
#include "server/images.h"
#include "tests/fuzz/fuzz.h"

#define DEPTH 32

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

/* What jansson makes of it, when it is not too deep. */
static void compare(const char *text, size_t size, const json_t *body)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    if (json_shape(text, size).depth > DEPTH)
        return;
    json_t *own = json_loadb(text, size, flags, NULL);
    fuzz_check(body ? json_equal(own, body) : !own);
    json_decref(own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    json_t *body = NULL;
    const char *text = size ? (const char *)data : "";
    enum status s = json_parse(text, size, DEPTH, "the body", &body, &err);
    compare(text, size, body);
    if (s) {
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
