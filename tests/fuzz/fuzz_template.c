/*
 * A chat template and, behind a line "---", variables as JSON. What parses must render within its
 * limits or say why not, the same each time; what does not parse names its reason.
 */
#include "core/json.h"
#include "core/template/template.h"
#include "tests/fuzz/fuzz.h"

static const struct template_limits limits = {
    .steps = 100000, .memory = (size_t)4 << 20, .output = (size_t)1 << 20};

static void use(const struct template *t, json_t *variables)
{
    struct buffer first = {0}, second = {0};
    struct error err = ERROR_INIT;
    enum status s = template_render(t, variables, 1700000000, &limits, &first, &err);
    fuzz_check(!s || s == ST_TEMPLATE_RAISED || s == ST_TEMPLATE_FAILED ||
               s == ST_TEMPLATE_UNSUPPORTED || s == ST_LIMIT_EXCEEDED);
    fuzz_check(!s || err.code == s);
    fuzz_check(first.len <= limits.output);
    fuzz_check(template_render(t, variables, 1700000000, &limits, &second, NULL) == s);
    fuzz_check(first.len == second.len && (!first.len || !memcmp(first.v, second.v, first.len)));
    buffer_free(&first);
    buffer_free(&second);
    error_clear(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *text = (const uint8_t *)"", *json = text;
    size_t len = 0, json_len = 0;
    struct template *t;
    struct error err = ERROR_INIT;
    json_t *variables = NULL;
    fuzz_part(&data, &size, &text, &len);
    if (!fuzz_part(&data, &size, &json, &json_len) ||
        json_parse((const char *)json, json_len, JSON_DEPTH_MAX, "variables", &variables, NULL) ||
        !json_is_object(variables)) {
        json_decref(variables);
        variables = json_object();
    }
    char *exact = malloc(len + 1); // so that a read beyond is seen
    fuzz_check(exact && variables);
    memcpy(exact, text, len);
    enum status s = template_parse(exact, len, &t, &err);
    fuzz_check(!s == !!t && (!s || (err.code == s && err.text[0])));
    fuzz_check(!s || s == ST_TEMPLATE_INVALID || s == ST_TEMPLATE_UNSUPPORTED);
    free(exact);
    if (!s)
        use(t, variables);
    template_free(t);
    json_decref(variables);
    error_clear(&err);
    return 0;
}
