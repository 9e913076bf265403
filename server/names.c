/*
 * Who is asked: turns what clients write into an ordered list of adapter names. Whether they exist
 * is for the engine to say.
 */
#include "server/names.h"

#include <string.h>

#include "server/fields.h"
#include "server/reply.h"
#include "server/server.h"

enum status names_read(struct request *q, const json_t *value, struct name_list *out,
                       struct error *err)
{
    *out = (struct name_list){NULL, 0};
    if (!value || json_is_null(value))
        return ST_OK;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    const char **names = arena_alloc(&q->arena, (n + 1) * sizeof *names);
    if (!names)
        return error_memory(err, "reading names");
    for (size_t i = 0; i < n; i++)
        names[i] = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
    *out = (struct name_list){names, n};
    return ST_OK;
}

/* The adapter that `model` names, NULL for the base. */
static enum status adapter_of_model(const char *model, const char *base, const char **out,
                                    struct error *err)
{
    size_t len = strlen(base);
    *out = NULL;
    if (!strcmp(model, base))
        return ST_OK;
    if (!strncmp(model, base, len) && model[len] == ':')
        *out = model + len + 1;
    else
        *out = model;
    if (registry_name_valid(*out))
        return ST_OK;
    return error_param(err, ST_MODEL_NOT_FOUND, "model", "there is no model '%.200s'", model);
}

enum status names_resolve(struct request *q, const char *model, const json_t *adapter,
                          struct name_list *out, bool *by_model, struct error *err)
{
    const char *base = engine_name(q->server->engine), *named = NULL;
    *by_model = false;
    enum status s = names_read(q, adapter, out, err);
    if (!s && model)
        s = adapter_of_model(model, base, &named, err);
    if (s || !named)
        return s;
    if (!adapter) {
        const char *copy = arena_strdup(&q->arena, named);
        const char **names = arena_alloc(&q->arena, sizeof *names);
        if (!copy || !names)
            return error_memory(err, "reading names");
        names[0] = copy;
        *out = (struct name_list){names, 1};
        *by_model = named == model;
        return ST_OK;
    }
    if (out->n == 1 && !strcmp(out->names[0], named))
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, "adapter",
                       "model names the adapter '%.128s' and adapter names another: send one",
                       named);
}

void names_not_found(bool by_model, const char *model, struct error *err)
{
    if (by_model && err->code == ST_ADAPTER_NOT_FOUND)
        error_param(err, ST_MODEL_NOT_FOUND, "model", "there is no model '%.200s'", model);
}

void names_headers(struct request *q, const struct adapter_ref *refs, size_t n)
{
    struct buffer ids = {0}, digests = {0};
    for (size_t i = 0; i < n; i++) {
        buffer_text(&ids, i ? "," : "");
        buffer_text(&digests, i ? "," : "");
        buffer_text(&ids, refs[i].name);
        buffer_text(&digests, refs[i].digest);
    }
    buffer_add(&ids, "", 1);
    buffer_add(&digests, "", 1);
    if (!ids.failed && !digests.failed) {
        reply_header(q, "x-adapter-id", ids.v);
        reply_header(q, "x-adapter-digest", digests.v);
    }
    buffer_free(&ids);
    buffer_free(&digests);
}
