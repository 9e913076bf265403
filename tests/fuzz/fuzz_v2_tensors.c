/*
 * Tensors of the inference protocol. An input is the JSON of a body, a line "---", and the bytes
 * behind it.
 */
#include <math.h>

#include "core/json.h"
#include "server/fields.h"
#include "server/v2_tensors.h"
#include "tests/fuzz/fuzz.h"

/* Every element lies within what was sent. */
static void check_tensor(struct request *q, const struct v2_tensor *t)
{
    struct error err = ERROR_INIT;
    const int32_t *ints;
    const struct text *texts;
    const float *floats;
    if (t->bytes)
        fuzz_check(t->bytes >= q->body + q->json_len &&
                   t->size <= (size_t)(q->body + q->body_len - t->bytes));
    fuzz_check(!t->bytes != !t->data && t->n > 0);
    if (!v2_tensors_ints(q, t, -5, 1000, &ints, &err))
        for (int64_t i = 0; i < t->n; i++)
            fuzz_check(ints[i] >= -5 && ints[i] <= 1000);
    error_clear(&err);
    if (!v2_tensors_floats(q, t, &floats, &err))
        for (int64_t i = 0; i < t->n; i++)
            fuzz_check(isfinite(floats[i]));
    error_clear(&err);
    if (!v2_tensors_texts(q, t, &texts, &err))
        for (int64_t i = 0; i < t->n; i++)
            fuzz_check(texts[i].v[texts[i].len] == 0);
    error_clear(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *rest = data, *part;
    size_t left = size, len, n = 0;
    struct error err = ERROR_INIT;
    struct request q = {0};
    struct v2_tensor *v = NULL;
    if (!fuzz_part(&rest, &left, &part, &len))
        return 0;
    char *body = malloc(len + left + 1);
    memcpy(body, part, len);
    if (left)
        memcpy(body + len, rest, left);
    q.body = body;
    q.json_len = len;
    q.body_len = len + left;
    if (!json_parse(body, len, 32, "the body", &q.json, &err) &&
        !fields_check(FIELDS_infer, q.json, &err) && !v2_tensors_read(&q, &v, &n, &err))
        for (size_t i = 0; i < n; i++)
            check_tensor(&q, &v[i]);
    error_clear(&err);
    json_decref(q.json);
    arena_free(&q.arena);
    free(body);
    return 0;
}
