/*
 * A completion as a response: one message with one part of text, generated from the input's
 * messages through the base's chat template. Nothing is kept: `store` and what would need it are
 * refused by the field table. The frames of a stream are events with their own names and numbers,
 * in this order:
 *
 *     response.created, response.in_progress
 *     response.output_item.added          the message, empty
 *     response.content_part.added         its part, empty
 *     response.output_text.delta ...      what came
 *     response.output_text.done           all of it
 *     response.content_part.done, response.output_item.done
 *     response.completed                  or response.incomplete: the tokens were used up
 */
#include "server/responses.h"

#include <stdlib.h>
#include <string.h>

#include "server/chat.h"
#include "server/conversation.h"
#include "server/fields.h"

#define LOGPROBS "message.output_text.logprobs"

/* ---- what was asked ---- */

static enum status read_include(const json_t *body, struct completion *c, struct error *err)
{
    /* what there is none of here */
    static const char *const without[] = {
        "reasoning.encrypted_content",   "file_search_call.results",
        "web_search_call.results",       "web_search_call.action.sources",
        "message.input_image.image_url", "computer_call_output.output.image_url",
        "code_interpreter_call.outputs", NULL};
    const json_t *list = field(body, "include"), *top = field(body, "top_logprobs");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const char *const *w = without;
        c->with_logprobs |= !strcmp(name, LOGPROBS);
        while (*w && strcmp(*w, name))
            w++;
        if (!*w && strcmp(name, LOGPROBS))
            return error_param(err, ST_INVALID_VALUE, "include", "include: there is no '%.80s'",
                               name);
    }
    if (top && json_as_int(top) && !c->with_logprobs)
        return error_param(err, ST_INVALID_VALUE, "top_logprobs",
                           "top_logprobs: include must hold " LOGPROBS);
    c->request.logprobs = c->with_logprobs ? (int32_t)field_int(body, "top_logprobs", 0) : -1;
    return ST_OK;
}

/* Appends {role, content}; role NULL: message is one already. */
static bool add_message(json_t *list, const char *role, const json_t *message)
{
    if (!role)
        return !json_array_append(list, (json_t *)message);
    json_t *m = json_pack("{s:s, s:O}", "role", role, "content", (json_t *)message);
    return !json_array_append_new(list, m);
}

/* A message as a chat has it; what else an item holds (its id) is no business of a template. */
static bool add_item(json_t *list, const json_t *item)
{
    return add_message(list, json_string_value(field(item, "role")), field(item, "content"));
}

static enum status read_messages(struct request *q, struct completion *c, struct error *err)
{
    const json_t *instructions = field(q->json, "instructions"), *input = field(q->json, "input");
    json_t *list = json_array();
    bool whole = list && (!instructions || add_message(list, "system", instructions));
    if (whole && json_is_string(input))
        whole = add_message(list, "user", input);
    for (size_t i = 0; whole && i < json_array_size(input); i++)
        whole = add_item(list, json_array_get(input, i));
    enum status s =
        whole ? conversation_of(q, list, &c->chat, err) : error_memory(err, "reading the input");
    json_decref(list);
    const json_t *effort = field(field(q->json, "reasoning"), "effort");
    if (!s && effort && json_object_set(c->chat.variables, "reasoning_effort", (json_t *)effort))
        s = error_memory(err, "reading the input");
    return s;
}

static enum status read_response(struct request *q, struct completion *c, struct error *err)
{
    struct generate_request *r = &c->request;
    struct prompt *prompt = arena_alloc(&q->arena, sizeof *prompt);
    if (!prompt)
        return error_memory(err, "reading the request");
    prompt->chat = &c->chat;
    r->prompts = prompt;
    r->param = "input";
    r->n_prompts = 1;
    r->max_tokens = (int32_t)field_int(q->json, "max_output_tokens", UNSET_INT);
    r->add_special = false;
    enum status s = read_include(q->json, c, err);
    return s ? s : read_messages(q, c, err);
}

/* ---- what came ---- */

static void add_text(struct completion *c, struct choice *x, const struct text *text, bool finished)
{
    (void)c;
    (void)finished;
    buffer_add(&x->text, text->v, text->len);
}

/* What the frames have told of the logprobs stays, for the end: in tops. */
static void keep_logprobs(struct choice *x, struct buffer *out)
{
    if (x->logprobs.len && x->tops.len)
        buffer_text(&x->tops, ",");
    buffer_add(&x->tops, x->logprobs.v, x->logprobs.len);
    buffer_clear(&x->logprobs);
    out->failed |= x->tops.failed;
    x->any_logprob = false;
}

static void write_text(const struct choice *x, size_t from, struct buffer *out)
{
    buffer_string(out, x->text.len ? x->text.v + from : "", x->text.len - from);
}

static void write_part(const struct choice *x, bool empty, struct buffer *out)
{
    buffer_text(out, "{\"type\":\"output_text\",\"text\":");
    write_text(x, empty ? x->text.len : 0, out);
    buffer_text(out, ",\"annotations\":[],\"logprobs\":[");
    if (!empty)
        buffer_add(out, x->tops.v, x->tops.len);
    buffer_text(out, "]}");
}

static const char *status_of(const struct choice *x)
{
    return !x->finish ? "in_progress" : x->finish == FINISH_LENGTH ? "incomplete" : "completed";
}

static void write_item(const struct request *q, const struct choice *x, bool empty,
                       struct buffer *out)
{
    buffer_format(out,
                  "{\"type\":\"message\",\"id\":\"msg_%s\",\"status\":\"%s\",\"role\":"
                  "\"assistant\",\"content\":[",
                  q->id, empty ? "in_progress" : status_of(x));
    if (!empty)
        write_part(x, false, out);
    buffer_text(out, "]}");
}

/* ,"name": what the request has, or absent. */
static void write_given(const json_t *body, const char *name, const char *absent,
                        struct buffer *out)
{
    const json_t *v = field(body, name);
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    buffer_format(out, ",\"%s\":", name);
    buffer_text(out, text ? text : absent);
    out->failed |= v && !text;
    free(text);
}

static void write_usage(const struct usage *u, struct buffer *out)
{
    if (!u) {
        buffer_text(out, "null");
        return;
    }
    long long read = (long long)u->prompt_tokens, written = (long long)u->generated_tokens;
    buffer_format(out,
                  "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},"
                  "\"output_tokens\":%lld,\"output_tokens_details\":{\"reasoning_tokens\":0},"
                  "\"total_tokens\":%lld}",
                  read, (long long)u->cached_tokens, written, read + written);
}

/* The response itself; usage NULL: it has just begun. */
static void write_response(const struct request *q, const struct completion *c,
                           const struct usage *usage, struct buffer *out)
{
    const struct choice *x = &c->choices[0];
    const char *status = usage ? status_of(x) : "in_progress";
    bool short_of = usage && x->finish == FINISH_LENGTH;
    buffer_format(
        out,
        "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\""
        ",\"background\":false,\"error\":null,\"incomplete_details\":%s,\"model\":",
        q->id, (long long)c->created, status,
        short_of ? "{\"reason\":\"max_output_tokens\"}" : "null");
    buffer_cstring(out, c->model);
    write_given(q->json, "instructions", "null", out);
    write_given(q->json, "max_output_tokens", "null", out);
    write_given(q->json, "metadata", "{}", out);
    write_given(q->json, "temperature", "null", out);
    write_given(q->json, "top_p", "null", out);
    write_given(q->json, "top_logprobs", "0", out);
    write_given(q->json, "parallel_tool_calls", "true", out);
    write_given(q->json, "tool_choice", "\"auto\"", out);
    write_given(q->json, "reasoning", "null", out);
    write_given(q->json, "user", "null", out);
    buffer_text(out,
                ",\"previous_response_id\":null,\"store\":false,\"text\":{\"format\":{\"type\":"
                "\"text\"}},\"tools\":[],\"truncation\":\"disabled\",\"output\":[");
    if (usage)
        write_item(q, x, false, out);
    buffer_text(out, "],\"usage\":");
    write_usage(usage, out);
    buffer_text(out, "}");
}

static void write_answer(const struct request *q, struct completion *c, const struct usage *usage,
                         struct buffer *out)
{
    keep_logprobs(&c->choices[0], out);
    write_response(q, c, usage, out);
}

/* ---- events ---- */

static void open_event(struct completion *c, const char *name, struct buffer *out)
{
    buffer_format(out,
                  "event: response.%s\ndata: {\"type\":\"response.%s\",\"sequence_number\":%lld",
                  name, name, (long long)c->sequence++);
}

/* An event that tells the whole response. */
static void response_event(const struct request *q, struct completion *c, const char *name,
                           const struct usage *usage, struct buffer *out)
{
    open_event(c, name, out);
    buffer_text(out, ",\"response\":");
    write_response(q, c, usage, out);
    buffer_text(out, "}\n\n");
}

static void item_event(const struct request *q, struct completion *c, const struct choice *x,
                       bool added, struct buffer *out)
{
    open_event(c, added ? "output_item.added" : "output_item.done", out);
    buffer_text(out, ",\"output_index\":0,\"item\":");
    write_item(q, x, added, out);
    buffer_text(out, "}\n\n");
}

/* An event about the part of text. */
static void open_part_event(const struct request *q, struct completion *c, const char *name,
                            struct buffer *out)
{
    open_event(c, name, out);
    buffer_format(out, ",\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,", q->id);
}

static void part_event(const struct request *q, struct completion *c, const struct choice *x,
                       bool added, struct buffer *out)
{
    open_part_event(q, c, added ? "content_part.added" : "content_part.done", out);
    buffer_text(out, "\"part\":");
    write_part(x, added, out);
    buffer_text(out, "}\n\n");
}

static void delta_event(const struct request *q, struct completion *c, struct choice *x,
                        struct buffer *out)
{
    open_part_event(q, c, "output_text.delta", out);
    buffer_text(out, "\"delta\":");
    write_text(x, x->sent, out);
    x->sent = x->text.len;
    buffer_text(out, ",\"logprobs\":[");
    buffer_add(out, x->logprobs.v, x->logprobs.len);
    buffer_text(out, "]}\n\n");
    keep_logprobs(x, out);
}

static void begin(const struct request *q, struct completion *c, struct choice *x,
                  struct buffer *out)
{
    response_event(q, c, "created", NULL, out);
    response_event(q, c, "in_progress", NULL, out);
    item_event(q, c, x, true, out);
    part_event(q, c, x, true, out);
    x->begun = true;
}

static void finish(const struct request *q, struct completion *c, struct choice *x,
                   struct buffer *out)
{
    keep_logprobs(x, out);
    open_part_event(q, c, "output_text.done", out);
    buffer_text(out, "\"text\":");
    write_text(x, 0, out);
    buffer_text(out, ",\"logprobs\":[");
    buffer_add(out, x->tops.v, x->tops.len);
    buffer_text(out, "]}\n\n");
    part_event(q, c, x, false, out);
    item_event(q, c, x, false, out);
    x->closed = true;
}

static void write_frames(const struct request *q, struct completion *c, struct choice *x,
                         struct buffer *out)
{
    if (!x->begun)
        begin(q, c, x, out);
    if (x->text.len > x->sent)
        delta_event(q, c, x, out);
    if (x->finish && !x->closed)
        finish(q, c, x, out);
}

static void write_end(const struct request *q, struct completion *c, const struct usage *usage,
                      struct buffer *out)
{
    bool short_of = c->choices[0].finish == FINISH_LENGTH;
    response_event(q, c, short_of ? "incomplete" : "completed", usage, out);
}

const struct completion_form responses_form = {.read = read_response,
                                               .add_text = add_text,
                                               .add_logprob = chat_logprob,
                                               .answer = write_answer,
                                               .frames = write_frames,
                                               .end = write_end};
