/* A body as the routes take it: bytes -> JSON -> the field table of every route. */
#include "core/json.h"
#include "server/fields.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    json_t *body = NULL;
    if (json_parse((const char *)data, size, 32, "the body", &body, &err)) {
        error_clear(&err);
        return 0;
    }
    for (int set = FIELDS_none + 1; set < FIELDS_COUNT_; set++) {
        fields_check((enum field_set)set, body, &err);
        error_clear(&err);
    }
    json_decref(body);
    return 0;
}
