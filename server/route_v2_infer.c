/*
 * POST /v2/models/{model}/infer: the raw pass of /v1/forward behind the tensors of the open
 * inference protocol, of token ids or of images. All rows have one length there: attention_mask
 * says which ids of a row count (in one piece), and what it leaves out is zero in every output. A
 * row whose adapter is empty runs on what the path names; the model's own adapter may be named
 * again, another one may not.
 */
#include <string.h>

#include "server/account.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/outputs.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/tensors.h"
#include "server/v2_model.h"
#include "server/v2_tensors.h"

struct wanted {
    const struct output_kind *kind;
    bool binary;
};

/* Between the request and its answer; in the request's arena. */
struct infer {
    struct v2_model model;
    const char *id;
    int64_t rows, positions;
    int64_t *first;        /* [rows]: ids before it are masked */
    struct wanted *wanted; /* [n_wanted] of N_OUTPUTS */
    size_t n_wanted;
    bool all_binary;
};

/* ---- reading ---- */

static enum status read_model(struct request *q, struct infer **out, struct error *err)
{
    struct infer *x = *out = arena_alloc(&q->arena, sizeof *x);
    if (!x)
        return error_memory(err, "reading the request");
    x->id = field_text(q->json, "id");
    return v2_model_read(q, &x->model, err);
}

static enum status check_inputs(const struct v2_tensor *v, size_t n, struct error *err)
{
    static const char *const known[] = {"input_ids", "attention_mask", "pixel_values", "adapter"};
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            found |= !strcmp(v[i].name, known[k]);
        if (!found)
            return error_param(err, ST_INVALID_VALUE, "inputs",
                               "inputs: there is no tensor '%.80s': input_ids, attention_mask, "
                               "pixel_values and adapter are known",
                               v[i].name);
    }
    return ST_OK;
}

/* [B, T] */
static enum status check_shape(const struct infer *x, const struct v2_tensor *t, struct error *err)
{
    if (t->rank == 2 && t->shape[0] == x->rows && t->shape[1] == x->positions)
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, t->name,
                       "%s: the shape of input_ids, [%lld, %lld], is expected", t->name,
                       (long long)x->rows, (long long)x->positions);
}

/* The ones of a row: from *first, *n of them. */
static bool ones(const int32_t *mask, int64_t n, int64_t *first, size_t *count)
{
    int64_t from = 0, to = n;
    while (from < n && !mask[from])
        from++;
    while (to > from && !mask[to - 1])
        to--;
    *first = from;
    *count = (size_t)(to - from);
    for (int64_t i = from; i < to; i++)
        if (!mask[i])
            return false;
    return to > from;
}

static enum status apply_mask(struct request *q, struct infer *x, const struct v2_tensor *t,
                              struct prompt *rows, struct error *err)
{
    const int32_t *mask;
    enum status s = check_shape(x, t, err);
    s = s ? s : v2_tensors_ints(q, t, 0, 1, &mask, err);
    for (int64_t i = 0; i < x->rows && !s; i++) {
        if (!ones(mask + i * x->positions, x->positions, &x->first[i], &rows[i].n_ids))
            return error_param(err, ST_INVALID_VALUE, t->name,
                               "%s: row %lld: ones in one piece are expected, at least one",
                               t->name, (long long)i);
        rows[i].ids += x->first[i];
    }
    return s;
}

static enum status read_ids(struct request *q, struct infer *x, const struct v2_tensor *ids,
                            const struct v2_tensor *mask, struct forward_request *r,
                            struct error *err)
{
    const int32_t *numbers;
    if (ids->rank != 2)
        return error_param(err, ST_INVALID_VALUE, "input_ids",
                           "input_ids: a shape [rows, positions] is expected");
    x->rows = ids->shape[0];
    x->positions = ids->shape[1];
    enum status s = v2_tensors_ints(q, ids, 0, INT32_MAX, &numbers, err);
    if (s)
        return s;
    struct prompt *rows = arena_alloc(&q->arena, (size_t)x->rows * sizeof *rows);
    x->first = arena_alloc(&q->arena, (size_t)x->rows * sizeof *x->first);
    if (!rows || !x->first)
        return error_memory(err, "reading rows");
    for (int64_t i = 0; i < x->rows; i++)
        rows[i] = (struct prompt){.ids = numbers + i * x->positions, .n_ids = (size_t)x->positions};
    r->rows = rows;
    r->n_rows = (size_t)x->rows;
    r->positions = (int32_t)x->positions;
    return mask ? apply_mask(q, x, mask, rows, err) : ST_OK;
}

static enum status read_images(struct request *q, struct infer *x, const struct v2_tensor *t,
                               struct forward_request *r, struct error *err)
{
    struct images *images = arena_alloc(&q->arena, sizeof *images);
    const float *pixels;
    if (!images)
        return error_memory(err, "reading images");
    if (t->rank != 4)
        return error_param(err, ST_INVALID_VALUE, t->name,
                           "%s: a shape [images, channels, height, width] is expected", t->name);
    enum status s = v2_tensors_floats(q, t, &pixels, err);
    if (s)
        return s;
    *images = (struct images){pixels,
                              (int32_t)t->shape[0],
                              {(int32_t)t->shape[1], (int32_t)t->shape[2], (int32_t)t->shape[3]}};
    x->rows = t->shape[0];
    r->images = images;
    r->n_rows = (size_t)x->rows;
    return ST_OK;
}

static enum status read_rows(struct request *q, struct infer *x, const struct v2_tensor *v,
                             size_t n, struct forward_request *r, struct error *err)
{
    const struct v2_tensor *ids = v2_tensors_find(v, n, "input_ids");
    const struct v2_tensor *mask = v2_tensors_find(v, n, "attention_mask");
    const struct v2_tensor *pixels = v2_tensors_find(v, n, "pixel_values");
    if (!ids && !pixels)
        return error_param(err, ST_MISSING_FIELD, "input_ids",
                           "inputs: the tensor input_ids (or pixel_values) is required");
    if (pixels && (ids || mask))
        return error_param(err, ST_INVALID_VALUE, "pixel_values",
                           "pixel_values: it goes without input_ids and attention_mask");
    return pixels ? read_images(q, x, pixels, r, err) : read_ids(q, x, ids, mask, r, err);
}

/* "a" or "a,b", in order, into names. */
static enum status read_names(struct request *q, struct infer *x, const struct text *text,
                              int64_t row, struct name_list *out, struct error *err)
{
    const struct name_list *own = &x->model.names;
    *out = *own;
    if (!text->len)
        return ST_OK;
    size_t n = 1;
    for (size_t i = 0; i < text->len; i++)
        n += text->v[i] == ',';
    const char **names = arena_alloc(&q->arena, n * sizeof *names);
    if (!names)
        return error_memory(err, "reading adapters");
    const char *at = text->v;
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(at, ",");
        names[i] = arena_strndup(&q->arena, at, len);
        if (!names[i])
            return error_memory(err, "reading adapters");
        if (strlen(text->v) != text->len || !registry_name_valid(names[i]))
            return error_param(err, ST_INVALID_VALUE, "adapter",
                               "adapter: row %lld: '%.128s' is no name", (long long)row, names[i]);
        at += len + 1;
    }
    if (own->n && (n != 1 || strcmp(names[0], own->names[0])))
        return error_param(err, ST_INVALID_VALUE, "adapter",
                           "adapter: row %lld: the model is the adapter '%.128s' and the row names "
                           "another",
                           (long long)row, own->names[0]);
    *out = (struct name_list){names, n};
    return ST_OK;
}

static enum status read_adapters(struct request *q, struct infer *x, const struct v2_tensor *t,
                                 struct forward_request *r, struct error *err)
{
    const struct text *texts = NULL;
    bool column = t && t->rank == 2 && t->shape[1] == 1;
    if (t && (t->shape[0] != x->rows || (t->rank != 1 && !column)))
        return error_param(err, ST_INVALID_VALUE, "adapter", "adapter: a shape [%lld] is expected",
                           (long long)x->rows);
    enum status s = t ? v2_tensors_texts(q, t, &texts, err) : ST_OK;
    if (s)
        return s;
    struct name_list *lists = arena_alloc(&q->arena, r->n_rows * sizeof *lists);
    if (!lists)
        return error_memory(err, "reading adapters");
    for (size_t i = 0; i < r->n_rows && !s; i++) {
        lists[i] = x->model.names;
        if (texts)
            s = read_names(q, x, &texts[i], (int64_t)i, &lists[i], err);
    }
    r->adapters = lists;
    return s;
}

static enum status read_outputs(struct request *q, struct infer *x, struct forward_request *r,
                                struct error *err)
{
    const json_t *list = field(q->json, "outputs"), *all = field(q->json, "parameters");
    const char *compute = all ? field_text(all, "compute") : NULL;
    x->all_binary = all && field_bool(all, "binary_data_output", false);
    x->n_wanted = json_array_size(list);
    x->wanted = arena_alloc(&q->arena, N_OUTPUTS * sizeof *x->wanted);
    if (!x->wanted)
        return error_memory(err, "reading outputs");
    bool any_text = !x->n_wanted && !x->all_binary;
    for (size_t i = 0; i < x->n_wanted; i++) {
        const json_t *output = json_array_get(list, i), *own = field(output, "parameters");
        struct wanted *w = &x->wanted[i];
        w->kind = outputs_named(field_text(output, "name"));
        w->binary = own ? field_bool(own, "binary_data", x->all_binary) : x->all_binary;
        if (!w->kind)
            return error_param(err, ST_INVALID_VALUE, "outputs",
                               "outputs: there is no tensor '%.80s': logits, last_logits, "
                               "hidden_states, logprobs and embedding are known",
                               field_text(output, "name"));
        any_text |= !w->binary;
        if (r->outputs & w->kind->bit)
            return error_param(err, ST_INVALID_VALUE, "outputs", "outputs: %s is asked for twice",
                               w->kind->name);
        r->outputs |= w->kind->bit;
    }
    r->number_bytes = any_text ? 0 : (int32_t)sizeof(float);
    r->compute = !compute ? -1 : strcmp(compute, "fast") ? COMPUTE_EXACT : COMPUTE_FAST;
    return ST_OK;
}

/* ---- answering ---- */

/* The shape of an output: that of its rows, which must have one. each: a vector a position. */
struct layout {
    int64_t shape[4];
    int rank;
    int64_t row; /* numbers a row; each: a position */
    bool each;
};

static enum status place(const struct infer *x, const struct model *m,
                         const struct forward_row *rows, const struct output_kind *k,
                         struct layout *p, struct error *err)
{
    int64_t first[3], other[3];
    int rank = outputs_shape(m, &rows[0], k, first);
    *p = (struct layout){.shape = {x->rows}, .rank = 1, .row = 1};
    p->each = outputs_each_token(&rows[0], k);
    for (int i = 0; i < rank; i++) {
        p->shape[p->rank++] = i || !p->each ? first[i] : x->positions;
        p->row *= i || !p->each ? first[i] : 1;
    }
    for (int64_t r = 1; r < x->rows; r++) {
        int other_rank = outputs_shape(m, &rows[r], k, other);
        if (other_rank != rank ||
            memcmp(first + p->each, other + p->each, (size_t)(rank - p->each) * sizeof *first) != 0)
            return error_param(
                err, ST_INVALID_VALUE, k->name,
                "%s: row %lld gives %lld numbers, row 0 %lld: their heads do not fit into one "
                "tensor",
                k->name, (long long)r, (long long)other[other_rank - 1],
                (long long)first[rank - 1]);
    }
    return ST_OK;
}

/* The rows of one output, filled up to the positions that were sent. */
static bool add_data(struct tensors *t, const struct infer *x, const struct forward_row *rows,
                     const struct wanted *w, const struct layout *p)
{
    struct buffer *text = tensors_text(t);
    bool whole = true, any = false;
    for (int64_t i = 0; i < x->rows && whole; i++) {
        int64_t before = p->each ? x->first[i] : 0, n = p->each ? rows[i].tokens : 1;
        int64_t after = p->each ? x->positions - before - n : 0;
        const struct floats parts[] = {{.n = before * p->row},
                                       {.v = outputs_of(&rows[i], w->kind), .n = n * p->row},
                                       {.n = after * p->row}};
        for (size_t k = 0; k < 3 && whole; k++) {
            struct floats f = parts[k];
            f.binary = w->binary;
            f.name = w->kind->name;
            f.row = (size_t)i;
            if (!f.n)
                continue;
            buffer_text(text, any && !w->binary ? "," : "");
            any = true;
            whole = tensors_floats(t, &f);
        }
    }
    return whole;
}

static enum status add_output(struct tensors *t, const struct infer *x, const struct model *m,
                              const struct forward_row *rows, const struct wanted *w,
                              struct error *err)
{
    struct buffer *text = tensors_text(t);
    struct layout p;
    enum status s = place(x, m, rows, w->kind, &p, err);
    if (s)
        return s;
    int64_t n = 1;
    buffer_format(text, "{\"name\":\"%s\",\"datatype\":\"FP32\",\"shape\":[", w->kind->name);
    for (int i = 0; i < p.rank; i++) {
        buffer_format(text, "%s%lld", i ? "," : "", (long long)p.shape[i]);
        n *= p.shape[i];
    }
    if (w->binary)
        buffer_format(text, "],\"parameters\":{\"binary_data_size\":%lld}}",
                      (long long)n * (long long)sizeof(float));
    else
        buffer_text(text, "],\"data\":[");
    bool whole = add_data(t, x, rows, w, &p);
    buffer_text(text, w->binary ? "" : "]}");
    return whole ? ST_OK : error_memory(err, "a reply");
}

/* Nothing was asked for: what the engine gave. */
static void want_default(struct infer *x, const struct forward_row *row)
{
    for (size_t i = 0; !x->n_wanted && i < N_OUTPUTS; i++)
        if (outputs_of(row, &outputs_kinds[i]))
            x->wanted[x->n_wanted++] = (struct wanted){&outputs_kinds[i], x->all_binary};
}

static enum status build_reply(struct request *q, struct infer *x, const struct forward_row *rows,
                               struct tensors *t, struct error *err)
{
    struct buffer *text = tensors_text(t);
    enum status s = ST_OK;
    buffer_text(text, "{");
    v2_model_text(&x->model, rows[0].adapters, rows[0].n_adapters, text);
    if (x->id) {
        buffer_text(text, ",\"id\":");
        buffer_cstring(text, x->id);
    }
    buffer_text(text, ",\"outputs\":[");
    want_default(x, &rows[0]);
    for (size_t i = 0; i < x->n_wanted && !s; i++) {
        buffer_text(text, i ? "," : "");
        s = add_output(t, x, engine_model(q->server->engine), rows, &x->wanted[i], err);
    }
    buffer_text(text, "]}");
    return s;
}

static void answer_infer(struct request *q)
{
    struct infer *x = q->state;
    struct error err = ERROR_INIT;
    size_t n = 0;
    enum status s = ticket_status(q->ticket, &err);
    const struct forward_row *rows = s ? NULL : ticket_forward(q->ticket, &n);
    for (size_t i = 0; i < n && !s; i++)
        s = v2_model_ran(&x->model, rows[i].adapters, rows[i].n_adapters, &err);
    if (s) {
        v2_model_refuse(q, &x->model, &err);
        return;
    }
    account_headers(q, false);
    struct tensors *t = tensors_new(q);
    s = t ? build_reply(q, x, rows, t, &err) : error_memory(&err, "a reply");
    if (s)
        reply_error(q, &err);
    else
        tensors_reply(q, t);
}

void route_v2_infer(struct request *q)
{
    struct forward_request r = {.request_id = q->id};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    struct v2_tensor *v = NULL;
    struct infer *x = NULL;
    size_t n = 0;
    enum status s = read_model(q, &x, &err);
    s = s ? s : v2_tensors_read(q, &v, &n, &err);
    s = s ? s : check_inputs(v, n, &err);
    s = s ? s : read_rows(q, x, v, n, &r, &err);
    s = s ? s : read_adapters(q, x, v2_tensors_find(v, n, "adapter"), &r, &err);
    s = s ? s : read_outputs(q, x, &r, &err);
    s = s ? s : engine_forward(q->server->engine, &r, &ticket, &err);
    q->state = x;
    if (!s)
        request_wait(q, ticket, TICKET_END, answer_infer);
    else if (x)
        v2_model_refuse(q, &x->model, &err);
    else
        reply_error(q, &err);
}
