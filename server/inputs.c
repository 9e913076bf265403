#include "server/inputs.h"

#include <string.h>

#include "server/fields.h"
#include "server/names.h"
#include "server/server.h"

int32_t *inputs_ids(struct request *q, const json_t *list, size_t *n)
{
    *n = json_array_size(list);
    int32_t *ids = arena_alloc(&q->arena, (*n + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < *n; i++)
        ids[i] = (int32_t)json_as_int(json_array_get(list, i));
    return ids;
}

static bool read_prompt(struct request *q, const json_t *value, struct prompt *p)
{
    if (json_is_string(value)) {
        p->text = json_string_value(value);
        p->text_len = json_string_length(value);
        return true;
    }
    p->ids = inputs_ids(q, value, &p->n_ids);
    return p->ids != NULL;
}

enum status inputs_prompts(struct request *q, const char *name, const struct prompt **out,
                           size_t *n, struct error *err)
{
    const json_t *value = field(q->json, name);
    bool many = json_is_array(value) && !json_is_number(json_array_get(value, 0));
    *n = many ? json_array_size(value) : 1;
    struct prompt *prompts = arena_alloc(&q->arena, *n * sizeof *prompts);
    bool whole = prompts != NULL;
    for (size_t i = 0; i < *n && whole; i++)
        whole = read_prompt(q, many ? json_array_get(value, i) : value, &prompts[i]);
    *out = prompts;
    return whole ? ST_OK : error_memory(err, "reading prompts");
}

enum status inputs_strengths(struct request *q, size_t n, const float **out, struct error *err)
{
    const json_t *value = field(q->json, "strength");
    bool list = json_is_array(value);
    *out = NULL;
    if (!value)
        return ST_OK;
    if (list && json_array_size(value) != n)
        return error_param(err, ST_INVALID_VALUE, "strength",
                           "%zu strengths for %zu adapters: one for each is expected",
                           json_array_size(value), n);
    float *v = arena_alloc(&q->arena, (n + 1) * sizeof *v);
    if (!v)
        return error_memory(err, "reading strengths");
    for (size_t i = 0; i < n; i++)
        v[i] = (float)json_number_value(list ? json_array_get(value, i) : value);
    *out = v;
    return ST_OK;
}

enum status inputs_row_adapters(struct request *q, struct forward_request *r, const char **model,
                                bool *by_model, struct error *err)
{
    struct name_list names;
    const char *named = field_text(q->json, "model");
    *model = named ? named : engine_name(q->server->engine);
    enum status s = names_resolve(q, named, field(q->json, "adapter"), &names, by_model, err);
    s = s ? s : inputs_strengths(q, names.n, &r->strengths, err);
    if (s)
        return s;
    struct name_list *lists = arena_alloc(&q->arena, (r->n_rows + 1) * sizeof *lists);
    if (!lists)
        return error_memory(err, "reading adapters");
    for (size_t i = 0; i < r->n_rows; i++)
        lists[i] = names;
    r->adapters = lists;
    return ST_OK;
}

int inputs_compute(const json_t *body)
{
    const char *compute = field_text(body, "compute");
    return !compute ? -1 : strcmp(compute, "fast") ? COMPUTE_EXACT : COMPUTE_FAST;
}
