/*
 * POST /v1/forward with `module`: numbers in, the module's output for them back. Leading sizes of
 * the input's shape are rows.
 */
#include <math.h>
#include <string.h>

#include "server/fields.h"
#include "server/handlers.h"
#include "server/images.h"
#include "server/inputs.h"
#include "server/names.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/tensors.h"

static bool is_embedding(const struct request *q)
{
    const struct model *m = engine_model(q->server->engine);
    int32_t i = model_module(m, field_text(q->json, "module"));
    return i >= 0 && m->modules[i].kind == MODULE_EMBEDDING;
}

static void answer_module(struct request *q)
{
    struct error err = ERROR_INIT;
    int64_t shape[5], n = 0;
    int32_t rows = 0;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const float *v = ticket_module(q->ticket, &rows, &n);
    struct tensors *t = tensors_new(q);
    /* the input's shape without what a row of it has (ids are all rows), then what a row became */
    const json_t *sizes = field(field(q->json, "input"), "shape");
    int64_t row[3];
    int row_rank = ticket_module_shape(q->ticket, row);
    int rank = row_rank > 1 ? 1 : (int)json_array_size(sizes) - !is_embedding(q);
    for (int i = 0; i < rank; i++)
        shape[i] = json_as_int(json_array_get(sizes, (size_t)i));
    for (int i = 0; i < row_rank; i++)
        shape[rank++] = row[i];
    if (t)
        buffer_text(tensors_text(t), "{\"output\":");
    if (!t || !tensors_add(t, v, shape, rank, "output", 0)) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    buffer_text(tensors_text(t), "}");
    const struct adapter_ref *refs = NULL;
    size_t n_refs = ticket_adapters(q->ticket, &refs);
    names_headers(q, refs, n_refs);
    tensors_reply(q, t);
}

/* Fills rows, width and x or ids of r from `input`. */
static enum status read_rows(struct request *q, bool ids, struct module_request *r,
                             struct error *err)
{
    const json_t *input = field(q->json, "input");
    const json_t *shape = field(input, "shape"), *data = field(input, "data");
    size_t rank = json_array_size(shape), n = json_array_size(data);
    int64_t sizes[4] = {1, 1, 1, 1}, product;
    for (size_t i = 0; i < rank; i++)
        sizes[i] = json_as_int(json_array_get(shape, i));
    if (!size_product(sizes, (int)rank, &product) || (uint64_t)product != n)
        return error_param(err, ST_INVALID_VALUE, "input",
                           "input: the shape does not give the %zu numbers of data", n);
    r->width = ids ? 1 : sizes[rank ? rank - 1 : 0];
    r->rows = (int32_t)(product / r->width);
    void *v = arena_alloc(&q->arena, (n + 1) * sizeof(float));
    if (!v)
        return error_memory(err, "reading input");
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(data, i);
        double d = json_number_value(value);
        if (ids && !(d >= 0 && d <= INT32_MAX && d == floor(d)))
            return error_param(err, ST_INVALID_VALUE, "input", "input: token ids are expected");
        if (ids)
            ((int32_t *)v)[i] = (int32_t)d;
        else
            ((float *)v)[i] = (float)d;
    }
    r->x = ids ? NULL : v;
    r->ids = ids ? v : NULL;
    return ST_OK;
}

static enum status check_reply_size(const struct request *q, const struct module *m, int32_t rows,
                                    struct error *err)
{
    uint64_t limit = engine_options(q->server->engine)->max_reply_bytes;
    uint64_t bytes = (uint64_t)rows * (uint64_t)m->n * 14; /* a float as text, and a comma */
    if (bytes <= limit)
        return ST_OK;
    return error_param(err, ST_REPLY_TOO_LARGE, "input",
                       "%d rows of %lld numbers take about %llu bytes, a reply at most %llu: send "
                       "fewer rows",
                       rows, (long long)m->n, (unsigned long long)bytes, (unsigned long long)limit);
}

static enum status read_input(struct request *q, const struct module *m, struct module_request *r,
                              struct error *err)
{
    enum status s;
    if (m->kind != MODULE_CONV2D) {
        s = read_rows(q, m->kind == MODULE_EMBEDDING, r, err);
        return s ? s : check_reply_size(q, m, r->rows, err);
    }
    const struct images *images = NULL;
    s = images_read(q->json, "input", &q->arena, &images, err);
    if (!s)
        r->images = *images;
    return s;
}

static enum status read_module(struct request *q, struct module_request *r, struct error *err)
{
    const struct model *m = engine_model(q->server->engine);
    if (!field(q->json, "input"))
        return error_param(err, ST_MISSING_FIELD, "input", "a module needs an input");
    if (field(q->json, "input_ids") || field(q->json, "text") || field(q->json, "pixel_values") ||
        field(q->json, "adapters"))
        return error_param(
            err, ST_INVALID_VALUE, "module",
            "send either input_ids, text, pixel_values, or module with input and adapter");
    int32_t i = model_module(m, r->module);
    if (i < 0)
        return error_param(err, ST_MODULE_NOT_FOUND, "module", "there is no module '%.200s'",
                           r->module);
    enum status s = names_read(q, field(q->json, "adapter"), &r->adapters, err);
    return s ? s : read_input(q, &m->modules[i], r, err);
}

void route_forward_module(struct request *q)
{
    struct module_request r = {.module = field_text(q->json, "module"),
                               .compute = inputs_compute(q->json),
                               .request_id = q->id};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    enum status s = read_module(q, &r, &err);
    s = s ? s : engine_module(q->server->engine, &r, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_module);
}
