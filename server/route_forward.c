/*
 * POST /v1/forward: rows through the whole network. With `module` it is one module's pass
 * (route_module.c).
 */
#include <string.h>

#include "server/account.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/images.h"
#include "server/inputs.h"
#include "server/names.h"
#include "server/outputs.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/tensors.h"

static void write_adapters(const struct adapter_ref *refs, size_t n, struct buffer *b)
{
    buffer_text(b, "[");
    for (size_t i = 0; i < n; i++) {
        buffer_text(b, i ? ",{\"name\":" : "{\"name\":");
        buffer_cstring(b, refs[i].name);
        buffer_text(b, ",\"digest\":");
        buffer_cstring(b, refs[i].digest);
        buffer_format(b, ",\"generation\":%llu}", (unsigned long long)refs[i].generation);
    }
    buffer_text(b, "]");
}

static bool add_row(struct tensors *t, const struct model *m, const struct forward_row *r,
                    size_t index)
{
    struct buffer *text = tensors_text(t);
    buffer_format(text, "%s{\"index\":%zu,\"adapters\":", index ? "," : "", index);
    write_adapters(r->adapters, r->n_adapters, text);
    for (size_t i = 0; i < N_OUTPUTS; i++) {
        const struct output_kind *k = &outputs_kinds[i];
        const float *v = outputs_of(r, k);
        int64_t shape[3];
        int rank = outputs_shape(m, r, k, shape);
        if (!v)
            continue;
        buffer_format(text, ",\"%s\":", k->name);
        if (!tensors_add(t, v, shape, rank, k->name, index))
            return false;
    }
    buffer_text(text, "}");
    return true;
}

static struct tensors *build_reply(struct request *q, const struct forward_row *rows, size_t n)
{
    const struct engine *e = q->server->engine;
    struct tensors *t = tensors_new(q);
    if (!t)
        return NULL;
    struct buffer *text = tensors_text(t);
    buffer_text(text, "{\"model\":");
    buffer_cstring(text, engine_name(e));
    buffer_text(text, ",\"rows\":[");
    for (size_t i = 0; i < n; i++)
        if (!add_row(t, engine_model(e), &rows[i], i))
            return NULL;
    buffer_format(text, "],\"usage\":{\"prompt_tokens\":%lld}}", (long long)q->prompt_tokens);
    return t;
}

static void answer_forward(struct request *q)
{
    struct error err = ERROR_INIT;
    size_t n = 0;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const struct forward_row *rows = ticket_forward(q->ticket, &n);
    account_headers(q, false);
    struct tensors *t = build_reply(q, rows, n);
    if (!t) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    tensors_reply(q, t);
}

static enum status read_rows(struct request *q, struct forward_request *r, struct error *err)
{
    const json_t *ids = field(q->json, "input_ids"), *texts = field(q->json, "text");
    const json_t *list = ids ? ids : texts;
    bool images = field(q->json, "pixel_values");
    if (!!ids + !!texts + images != 1)
        return error_param(err, ids || texts ? ST_INVALID_VALUE : ST_MISSING_FIELD, "input_ids",
                           "send either input_ids, text, pixel_values, or module with input");
    if (images) {
        enum status s = images_read(q->json, "pixel_values", &q->arena, &r->images, err);
        r->n_rows = s ? 0 : (size_t)r->images->n;
        return s;
    }
    r->n_rows = json_array_size(list);
    struct prompt *rows = arena_alloc(&q->arena, r->n_rows * sizeof *rows);
    if (!rows)
        return error_memory(err, "reading rows");
    for (size_t i = 0; i < r->n_rows; i++) {
        const json_t *row = json_array_get(list, i);
        if (texts) {
            rows[i].text = json_string_value(row);
            rows[i].text_len = json_string_length(row);
            continue;
        }
        rows[i].ids = inputs_ids(q, row, &rows[i].n_ids);
        if (!rows[i].ids)
            return error_memory(err, "reading rows");
    }
    r->rows = rows;
    return ST_OK;
}

static enum status read_adapters(struct request *q, struct forward_request *r, struct error *err)
{
    const json_t *each = field(q->json, "adapters"), *all = field(q->json, "adapter");
    if (each && all)
        return error_param(err, ST_INVALID_VALUE, "adapter", "send adapters or adapter, not both");
    if (!each && !all)
        return ST_OK;
    if (each && json_array_size(each) != r->n_rows)
        return error_param(err, ST_INVALID_VALUE, "adapters",
                           "%zu entries for %zu rows: one for each is expected",
                           json_array_size(each), r->n_rows);
    struct name_list *lists = arena_alloc(&q->arena, r->n_rows * sizeof *lists);
    enum status s = lists ? ST_OK : error_memory(err, "reading adapters");
    for (size_t i = 0; i < r->n_rows && !s; i++)
        s = names_read(q, each ? json_array_get(each, i) : all, &lists[i], err);
    r->adapters = lists;
    return s;
}

static unsigned output_bit(const char *name)
{
    const struct output_kind *k = outputs_named(name);
    return k ? k->bit : 0;
}

static unsigned read_outputs(const json_t *body)
{
    const json_t *list = field(body, "outputs");
    unsigned bits = list ? 0 : OUTPUT_LAST_LOGITS;
    for (size_t i = 0; i < json_array_size(list); i++)
        bits |= output_bit(json_string_value(json_array_get(list, i)));
    return bits;
}

static void forward_network(struct request *q)
{
    struct forward_request r = {.outputs = read_outputs(q->json),
                                .compute = inputs_compute(q->json),
                                .add_special = field_bool(q->json, "add_special_tokens", true),
                                .request_id = q->id};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    enum status s = ST_OK;
    if (field(q->json, "input"))
        s = error_param(&err, ST_MISSING_FIELD, "module", "input belongs to a module");
    s = s ? s : read_rows(q, &r, &err);
    s = s ? s : read_adapters(q, &r, &err);
    s = s ? s : engine_forward(q->server->engine, &r, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_forward);
}

void route_forward(struct request *q)
{
    if (field(q->json, "module"))
        route_forward_module(q);
    else
        forward_network(q);
}
