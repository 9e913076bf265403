/*
 * POST /v2/models/{model}/generate and generate_stream: text in, text out, in Triton's words for
 * language models, over the machinery of /v1/completions. What a client sends beside the text may
 * stand in `parameters` or, as Triton allows, beside it; together it is one set of fields. Which
 * of the two forms the answer has, the path says, whatever `stream` does.
 */
#include <string.h>

#include "server/completion.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/v2_model.h"

static enum status read_form(struct request *q, struct completion *c, struct error *err)
{
    struct generate_request *r = &c->request;
    const json_t *text = field(q->json, "text_input");
    struct prompt *prompt = arena_alloc(&q->arena, sizeof *prompt);
    struct v2_model *model = arena_alloc(&q->arena, sizeof *model);
    if (!prompt || !model)
        return error_memory(err, "reading the request");
    if (r->n != UNSET_INT && r->n != 1)
        return error_param(err, ST_NOT_SUPPORTED, "n",
                           "n is not supported: there is one text_output");
    if (c->return_ids)
        return error_param(err, ST_NOT_SUPPORTED, "return_token_ids",
                           "return_token_ids is not supported: there is text_output alone");
    *prompt =
        (struct prompt){.text = json_string_value(text), .text_len = json_string_length(text)};
    r->prompts = prompt;
    r->n_prompts = 1;
    r->max_tokens = (int32_t)field_int(q->json, "max_tokens", UNSET_INT);
    r->logprobs = -1;
    r->add_special = field_bool(q->json, "add_special_tokens", true);
    c->own = model;
    return v2_model_read(q, model, err);
}

static void add_text(struct completion *c, struct choice *x, const struct text *text, bool finished)
{
    (void)c;
    (void)finished;
    buffer_add(&x->text, text->v, text->len);
}

/* The text from there on, in one object. */
static void write_text(const struct request *q, const struct completion *c, struct choice *x,
                       size_t from, struct buffer *out)
{
    const struct adapter_ref *refs = NULL;
    size_t n = ticket_adapters(q->ticket, &refs);
    buffer_text(out, "{");
    v2_model_text(c->own, refs, n, out);
    buffer_text(out, ",\"text_output\":");
    buffer_string(out, x->text.len ? x->text.v + from : "", x->text.len - from);
    buffer_text(out, "}");
    x->sent = x->text.len;
}

static void answer(const struct request *q, struct completion *c, const struct usage *usage,
                   struct buffer *out)
{
    (void)usage;
    write_text(q, c, &c->choices[0], 0, out);
}

static void frames(const struct request *q, struct completion *c, struct choice *x,
                   struct buffer *out)
{
    if (x->text.len == x->sent)
        return;
    buffer_text(out, "data: ");
    write_text(q, c, x, x->sent, out);
    buffer_text(out, "\n\n");
}

/* Triton's streams end without a word. */
static void end(const struct request *q, struct completion *c, const struct usage *usage,
                struct buffer *out)
{
    (void)q;
    (void)c;
    (void)usage;
    (void)out;
}

static enum status check_admitted(const struct request *q, const struct completion *c,
                                  struct error *err)
{
    const struct adapter_ref *refs = NULL;
    size_t n = ticket_adapters(q->ticket, &refs);
    return v2_model_ran(c->own, refs, n, err);
}

static const struct completion_form generate_form = {.read = read_form,
                                                     .add_text = add_text,
                                                     .answer = answer,
                                                     .frames = frames,
                                                     .end = end,
                                                     .admitted = check_admitted};

/* One object of what the body, its parameters and the path say. */
static enum status flatten(struct request *q, bool stream, struct error *err)
{
    json_t *parameters = json_object_get(q->json, "parameters"), *value;
    const char *key;
    if (field(q->json, "model"))
        return error_param(err, ST_INVALID_VALUE, "model", "model: the path names it");
    json_object_foreach(parameters, key, value)
    {
        if (json_object_get(q->json, key))
            return error_param(err, ST_INVALID_VALUE, key,
                               "%s is there twice: in parameters and beside them", key);
        if (!strcmp(key, "model"))
            return error_param(err, ST_INVALID_VALUE, key, "model: the path names it");
    }
    bool whole = !json_is_object(parameters) || !json_object_update(q->json, parameters);
    whole = whole && !json_object_set_new(q->json, "model", json_string(q->params[0]));
    whole = whole && !json_object_set_new(q->json, "stream", json_boolean(stream));
    return whole ? ST_OK : error_memory(err, "reading the request");
}

static void generate(struct request *q, bool stream)
{
    struct error err = ERROR_INIT;
    if (flatten(q, stream, &err))
        reply_error(q, &err);
    else
        route_generate(q, &generate_form);
}

void route_v2_generate(struct request *q)
{
    generate(q, false);
}

void route_v2_generate_stream(struct request *q)
{
    generate(q, true);
}
