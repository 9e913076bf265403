/*
 * Owns the walk through a schema's alternatives. It ends after a number of schemas, types and
 * constants that no tool has: references may go in circles.
 */
#include "core/grammar/kinds.h"

#include <stdbool.h>
#include <string.h>

#include "core/grammar/schema_merge.h"

#define SEEN_MAX 10000

static unsigned kind_named(const json_t *name)
{
    static const struct {
        const char *name;
        enum kind kind;
    } kinds[] = {{"string", KIND_STRING},   {"number", KIND_NUMBER}, {"integer", KIND_NUMBER},
                 {"boolean", KIND_BOOLEAN}, {"null", KIND_NULL},     {"object", KIND_NESTED},
                 {"array", KIND_NESTED}};
    for (size_t i = 0; json_is_string(name) && i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcmp(json_string_value(name), kinds[i].name))
            return kinds[i].kind;
    return 0;
}

enum kind kind_of(const json_t *v)
{
    return json_is_string(v)    ? KIND_STRING
           : json_is_number(v)  ? KIND_NUMBER
           : json_is_boolean(v) ? KIND_BOOLEAN
           : json_is_null(v)    ? KIND_NULL
                                : KIND_NESTED;
}

static unsigned allowed(const json_t *root, const json_t *schema, int *left)
{
    static const char *const several[] = {"anyOf", "oneOf", "allOf"};
    const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum");
    const char *pointer = json_string_value(json_object_get(schema, "$ref"));
    unsigned all = kind_named(type);
    if (--*left < 0)
        return 0;
    for (size_t i = 0; i < json_array_size(type) && --*left >= 0; i++)
        all |= kind_named(json_array_get(type, i));
    bool named = all != 0;
    for (size_t i = 0; !named && i < json_array_size(list) && --*left >= 0; i++)
        all |= kind_of(json_array_get(list, i));
    if (!all && json_object_get(schema, "const"))
        all = kind_of(json_object_get(schema, "const"));
    if (!all && pointer)
        all = allowed(root, schema_find(root, pointer), left);
    for (size_t k = 0; !all && k < sizeof several / sizeof several[0]; k++) {
        list = json_object_get(schema, several[k]);
        for (size_t i = 0; i < json_array_size(list) && *left >= 0; i++)
            all |= allowed(root, json_array_get(list, i), left);
    }
    return all;
}

unsigned kinds_allowed(const json_t *root, const json_t *schema)
{
    int left = SEEN_MAX;
    return allowed(root, schema, &left);
}
