/*
 * Who is there, in the words of the open inference protocol: the server, a model and its tensors,
 * whether it is ready, and the model repository, whose models are the base and the adapters. What
 * is in an adapter folder but not loaded is known and not ready, and may be loaded; the base can be
 * neither loaded again nor unloaded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/adapters_log.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/outputs.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/v2_model.h"

void route_v2_server(struct request *q)
{
    reply_json(q, 200,
               json_pack("{s:s, s:s, s:[s, s, s, s]}", "name", "oftd", "version", OFTD_VERSION,
                         "extensions", "binary_tensor_data", "parameters", "generate",
                         "model_repository"));
}

/* ---- one model ---- */

/* Answers when there is no such model or version, else true: info of its adapter (empty: the
 * base). */
static bool find_model(struct request *q, struct v2_model *m, struct adapter_info *info)
{
    struct error err = ERROR_INIT;
    enum status s = v2_model_read(q, m, &err);
    if (!s && m->names.n)
        s = engine_adapter_info(q->server->engine, m->names.names[0], info, &err);
    if (!s)
        return true;
    v2_model_refuse(q, m, &err);
    return false;
}

static void write_tensor(struct buffer *b, const char *name, const char *type, const char *sizes)
{
    if (b->len && b->v[b->len - 1] == '}')
        buffer_text(b, ",");
    buffer_format(b, "{\"name\":\"%s\",\"datatype\":\"%s\",\"shape\":[%s]}", name, type, sizes);
}

/* Of the network itself; an adapter may bring a head of another width along. */
static void write_outputs(const struct model *m, struct buffer *b)
{
    bool image = m->image.channels > 0;
    int32_t width = m->classifier ? m->labels : m->vocab;
    for (size_t i = 0; i < N_OUTPUTS; i++) {
        const struct output_kind *k = &outputs_kinds[i];
        bool has = !k->hidden ? m->has_head : k->each_token || m->pooling != POOLING_NONE;
        bool one =
            !k->each_token || (!k->hidden && (image || m->classifier == CLASSIFIER_SEQUENCE));
        char sizes[64];
        if (image && k->bit == OUTPUT_HIDDEN && m->kind == MODEL_CONVNET)
            snprintf(sizes, sizeof sizes, "-1,-1,-1,-1");
        else
            snprintf(sizes, sizeof sizes, "-1,%s%d", one ? "" : "-1,",
                     k->hidden ? m->hidden : width);
        if (has)
            write_tensor(b, k->name, "FP32", sizes);
    }
}

static void write_inputs(const struct model *m, struct buffer *b)
{
    const struct image_size *image = &m->image;
    char sizes[80];
    snprintf(sizes, sizeof sizes, "-1,%d,%d,%d", image->channels,
             image->height ? image->height : -1, image->width ? image->width : -1);
    if (image->channels) {
        write_tensor(b, "pixel_values", "FP32", sizes);
    } else {
        write_tensor(b, "input_ids", "INT64", "-1,-1");
        write_tensor(b, "attention_mask", "INT64", "-1,-1");
    }
    write_tensor(b, "adapter", "BYTES", "-1");
}

void route_v2_metadata(struct request *q)
{
    const struct model *m = engine_model(q->server->engine);
    struct v2_model model;
    struct adapter_info info = {0};
    struct buffer b = {0};
    if (!find_model(q, &model, &info))
        return;
    uint64_t version = model.names.n ? info.generation : V2_MODEL_BASE;
    adapter_info_clear(&info);
    buffer_text(&b, "{\"name\":");
    buffer_cstring(&b, model.name);
    buffer_text(&b, ",\"versions\":[");
    if (version)
        buffer_format(&b, "\"%llu\"", (unsigned long long)version);
    buffer_text(&b, "],\"platform\":\"oftd\",\"inputs\":[");
    write_inputs(m, &b);
    buffer_text(&b, "],\"outputs\":[");
    write_outputs(m, &b);
    buffer_text(&b, "]}");
    reply_buffer(q, 200, TYPE_JSON, &b);
}

void route_v2_model_ready(struct request *q)
{
    struct v2_model model;
    struct adapter_info info = {0};
    if (!find_model(q, &model, &info))
        return;
    bool ready = !model.names.n || info.state == ADAPTER_READY;
    adapter_info_clear(&info);
    reply_json(q, ready ? 200 : 503, json_pack("{s:s, s:b}", "name", model.name, "ready", ready));
}

/* ---- the repository ---- */

static json_t *index_entry(const struct adapter_info *a)
{
    static const char *const states[] = {"LOADING", "READY", "UNLOADING", "UNAVAILABLE",
                                         "UNAVAILABLE"};
    json_t *version =
        a->generation ? json_sprintf("%llu", (unsigned long long)a->generation) : json_string("");
    const char *reason = a->error ? a->error : a->state == ADAPTER_AVAILABLE ? "not loaded" : "";
    return json_pack("{s:s, s:o, s:s, s:s}", "name", a->name, "version", version, "state",
                     states[a->state], "reason", reason);
}

void route_v2_index(struct request *q)
{
    struct engine *e = q->server->engine;
    struct error err = ERROR_INIT;
    struct adapter_info *v = NULL;
    size_t n = 0;
    bool ready = field_bool(q->json, "ready", false);
    if (engine_adapter_list(e, !ready, &v, &n, &err)) {
        reply_error(q, &err);
        return;
    }
    json_t *list = json_array();
    const struct adapter_info base = {
        .name = (char *)engine_name(e), .state = ADAPTER_READY, .generation = V2_MODEL_BASE};
    bool whole = list && !json_array_append_new(list, index_entry(&base));
    for (size_t i = 0; i < n; i++) {
        if (whole && (!ready || v[i].state == ADAPTER_READY))
            whole = !json_array_append_new(list, index_entry(&v[i]));
        adapter_info_clear(&v[i]);
    }
    free(v);
    if (!whole) {
        json_decref(list);
        list = NULL;
    }
    reply_json(q, 200, list);
}

static bool is_base(const struct request *q)
{
    return !strcmp(q->params[0], engine_name(q->server->engine));
}

static void answer_load(struct request *q)
{
    struct error err = ERROR_INIT;
    if (adapters_log_load(q, q->params[0], &err))
        reply_error(q, &err);
    else
        reply_json(q, 200, json_pack("{s:s, s:b}", "name", q->params[0], "load", 1));
}

/* Loads, or takes the folder's new content in a hot swap; what has not changed stays. */
void route_v2_load(struct request *q)
{
    const struct adapter_request r = {.name = q->params[0], .replace = REPLACE_IF_DIGEST_DIFFERS};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (is_base(q))
        reply_failure(q, ST_NAME_IN_USE, "model", "'%.128s' is the base: it is loaded, and stays",
                      q->params[0]);
    else if (engine_adapter_load(q->server->engine, &r, &ticket, &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_load);
}

static void answer_unload(struct request *q)
{
    struct error err = ERROR_INIT;
    if (adapters_log_unload(q, q->params[0], &err))
        reply_error(q, &err);
    else
        reply_json(q, 200, json_pack("{s:s, s:b}", "name", q->params[0], "unload", 1));
}

void route_v2_unload(struct request *q)
{
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (is_base(q))
        reply_failure(q, ST_NAME_IN_USE, "model", "'%.128s' is the base: it is loaded, and stays",
                      q->params[0]);
    else if (engine_adapter_unload(q->server->engine, q->params[0], -1, &ticket, &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_unload);
}
