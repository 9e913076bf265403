/*
 * Who is served: GET /v1/models and /v1/models/{id} in OpenAI's words, GET /v1/model (the network,
 * module by module) and GET /props.
 */
#include <stdlib.h>
#include <string.h>

#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

static json_t *base_json(const struct server *s)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:n, s:I}", "id", engine_name(s->engine), "object",
                     "model", "created", (json_int_t)s->started, "owned_by", "oftd", "root",
                     engine_root(s->engine), "parent", "max_model_len",
                     (json_int_t)engine_model(s->engine)->max_len);
}

static json_t *adapter_json(const struct server *s, const struct adapter_info *a)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:I}", "id", a->name, "object",
                     "model", "created", (json_int_t)s->started, "owned_by", "oftd", "root",
                     a->path ? a->path : "", "parent", engine_name(s->engine), "max_model_len",
                     (json_int_t)engine_model(s->engine)->max_len, "digest", a->digest,
                     "generation", (json_int_t)a->generation);
}

/* Only what serves: something that is still loading is no model yet. */
static bool serves(const struct adapter_info *a)
{
    return a->state == ADAPTER_READY;
}

void route_models(struct request *q)
{
    struct server *s = q->server;
    struct error err = ERROR_INIT;
    struct adapter_info *v = NULL;
    size_t n = 0;
    if (engine_adapter_list(s->engine, false, &v, &n, &err)) {
        reply_error(q, &err);
        return;
    }
    json_t *list = json_array();
    bool whole = list && !json_array_append_new(list, base_json(s));
    for (size_t i = 0; i < n; i++) {
        if (whole && serves(&v[i]))
            whole = !json_array_append_new(list, adapter_json(s, &v[i]));
        adapter_info_clear(&v[i]);
    }
    free(v);
    json_t *body = whole ? json_pack("{s:s, s:O}", "object", "list", "data", list) : NULL;
    json_decref(list);
    reply_json(q, 200, body);
}

void route_model_by_id(struct request *q)
{
    struct server *s = q->server;
    const char *id = q->params[0];
    struct error err = ERROR_INIT;
    struct adapter_info info = {0};
    if (!strcmp(id, engine_name(s->engine))) {
        reply_json(q, 200, base_json(s));
        return;
    }
    enum status code = engine_adapter_info(s->engine, id, &info, &err);
    if (code == ST_ADAPTER_NOT_FOUND || (!code && !serves(&info))) {
        error_clear(&err);
        reply_failure(q, ST_MODEL_NOT_FOUND, "id", "there is no model '%.200s'", id);
    } else if (code) {
        reply_error(q, &err);
    } else {
        reply_json(q, 200, adapter_json(s, &info));
    }
    adapter_info_clear(&info);
}

/* ---- the network ---- */

static const char *const kinds[] = {"linear", "conv1d", "conv2d", "embedding"};

static void write_module(const struct server *s, const struct model *m, size_t i, struct buffer *b)
{
    const struct module *x = &m->modules[i];
    const struct weight *w = m->base && m->base->weights ? m->base->weights[i] : NULL;
    char text[160] = "";
    buffer_text(b, i ? ",{\"name\":" : "{\"name\":");
    buffer_cstring(b, x->name);
    buffer_format(b, ",\"kind\":\"%s\",\"shape\":[%lld,%lld],\"backend\":", kinds[x->kind],
                  (long long)x->n, (long long)x->k);
    buffer_cstring(b, x->backend ? x->backend->name : NULL);
    buffer_text(b, ",\"why\":");
    buffer_cstring(b, x->why);
    buffer_text(b, ",\"parameters\":");
    buffer_cstring(b, w && x->backend ? x->backend->describe(w, text, sizeof text) : NULL);
    buffer_format(b, ",\"bytes\":%llu", w ? (unsigned long long)weight_bytes(w) : 0ull);
    if (x->base != (int32_t)i) {
        buffer_text(b, ",\"weights_of\":");
        buffer_cstring(b, m->modules[x->base].name);
    }
    buffer_text(b, ",\"device\":");
    buffer_cstring(b, s->device);
    buffer_format(b, ",\"mergeable\":%s}", x->backend && x->backend->requantize ? "true" : "false");
}

static const char *const model_kinds[] = {"decoder", "encoder", "convnet"};

/* What a classifier's logits are of. */
static void write_classifier(const struct model *m, struct buffer *b)
{
    if (!m->classifier) {
        buffer_text(b, ",\"classifier\":null");
        return;
    }
    buffer_format(b, ",\"classifier\":{\"of\":\"%s\",\"problem_type\":",
                  m->classifier == CLASSIFIER_SEQUENCE ? "sequences" : "tokens");
    if (m->problem_type)
        buffer_cstring(b, m->problem_type);
    else
        buffer_text(b, "null");
    buffer_text(b, ",\"labels\":[");
    for (int32_t i = 0; i < m->labels; i++) {
        buffer_text(b, i ? "," : "");
        buffer_cstring(b, m->label_names[i]);
    }
    buffer_text(b, "]}");
}

void route_model(struct request *q)
{
    const struct server *s = q->server;
    const struct model *m = engine_model(s->engine);
    const struct engine_options *o = engine_options(s->engine);
    struct buffer b = {0};
    buffer_text(&b, "{\"id\":");
    buffer_cstring(&b, engine_name(s->engine));
    buffer_text(&b, ",\"root\":");
    buffer_cstring(&b, engine_root(s->engine));
    buffer_text(&b, ",\"architecture\":");
    buffer_cstring(&b, m->architecture);
    buffer_text(&b, ",\"model_type\":");
    buffer_cstring(&b, m->model_type);
    buffer_text(&b, ",\"quant_method\":");
    buffer_cstring(&b, m->quant_method);
    buffer_format(&b,
                  ",\"kind\":\"%s\",\"layers\":%d,\"hidden\":%d,\"vocab\":%d,\"heads\":%d,"
                  "\"kv_heads\":%d,\"head_dim\":%d,\"max_model_len\":%lld,\"tied\":%s,"
                  "\"replicated\":%s,\"weight_bytes\":%llu,\"file_bytes\":%llu,",
                  model_kinds[m->kind], m->layers, m->hidden, m->vocab, m->heads, m->kv_heads,
                  m->head_dim, (long long)m->max_len, m->tied ? "true" : "false",
                  m->replicated ? "true" : "false", (unsigned long long)m->weight_bytes,
                  (unsigned long long)m->file_bytes);
    buffer_text(&b, "\"identity\":");
    buffer_cstring(&b, m->identity);
    buffer_text(&b, ",\"device\":");
    buffer_cstring(&b, s->device);
    buffer_text(&b, ",\"kernels\":{\"isa\":");
    buffer_cstring(&b, s->isa);
    buffer_format(&b, ",\"threads\":%d,\"generate\":\"%s\",\"forward\":\"%s\"}",
                  o->kernels.exact ? o->kernels.exact->threads : 0,
                  o->compute_generate == COMPUTE_FAST ? "fast" : "exact",
                  o->compute_forward == COMPUTE_FAST ? "fast" : "exact");
    write_classifier(m, &b);
    buffer_text(&b, ",\"modules\":[");
    for (size_t i = 0; i < m->n_modules; i++)
        write_module(s, m, i, &b);
    buffer_text(&b, "]}");
    reply_buffer(q, 200, TYPE_JSON, &b);
}

void route_props(struct request *q)
{
    const struct server *s = q->server;
    const struct model *m = engine_model(s->engine);
    const struct engine_options *o = engine_options(s->engine);
    json_t *eos = json_array();
    for (size_t i = 0; eos && i < m->n_eos; i++)
        json_array_append_new(eos, json_integer(m->eos[i]));
    struct error why = ERROR_INIT;
    struct text template = {0};
    bool runs = !engine_chat_template(s->engine, false, &template, &why);
    reply_json(q, 200,
               json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:o, s:b, s:b, s:s, s:o, s:o}",
                         "version", OFTD_VERSION, "model", engine_name(s->engine), "model_path",
                         engine_root(s->engine), "max_model_len", (json_int_t)m->max_len, "vocab",
                         (json_int_t)m->vocab, "max_sequences", o->max_sequences, "bos_token_id",
                         m->bos, "eos_token_ids", eos, "tokenizer", engine_has_tokenizer(s->engine),
                         "autoload", o->autoload, "compute",
                         o->compute_generate == COMPUTE_FAST ? "fast" : "exact", "chat_template",
                         template.v ? json_stringn(template.v, template.len) : json_null(),
                         "chat_template_error", runs ? json_null() : reply_text_json(why.text)));
    error_clear(&why);
}
