/*
 * A completion as a chat: generated from a conversation, and told as a message. Whole answers and
 * frames are written from the same choice, whose text is the message's content, and whose calls
 * tool_calls.c finds, and whose thoughts reasoning.c does. The frames of a choice, in order: its
 * role; thoughts, content and the parts of calls as they come, one thing a frame; the end with its
 * reason. Logprobs are of all tokens, those of calls
 * too, and go with the next frame but the first.
 */
#include "server/chat.h"

#include <math.h>
#include <string.h>

#include "server/conversation.h"
#include "server/fields.h"
#include "server/server.h"
#include "server/tool_choice.h"

/* ---- what was asked ---- */

static enum status read_logprobs(const json_t *body, struct completion *c, struct error *err)
{
    const json_t *top = field(body, "top_logprobs");
    c->with_logprobs = field_bool(body, "logprobs", false);
    if (top && json_as_int(top) && !c->with_logprobs)
        return error_param(err, ST_INVALID_VALUE, "top_logprobs",
                           "top_logprobs: logprobs must be true");
    c->request.logprobs = c->with_logprobs ? (int32_t)field_int(body, "top_logprobs", 0) : -1;
    return ST_OK;
}

static enum status read_chat(struct request *q, struct completion *c, struct error *err)
{
    const json_t *body = q->json;
    struct generate_request *r = &c->request;
    struct prompt *prompt = arena_alloc(&q->arena, sizeof *prompt);
    if (!prompt)
        return error_memory(err, "reading the request");
    prompt->chat = &c->chat;
    r->prompts = prompt;
    r->param = "messages";
    r->n_prompts = 1;
    int64_t most = field_int(body, "max_tokens", UNSET_INT);
    r->max_tokens = (int32_t)field_int(body, "max_completion_tokens", most);
    r->add_special = field_bool(body, "add_special_tokens", false);
    enum status s = read_logprobs(body, c, err);
    s = s ? s : tool_choice_read(q, c, err);
    chat_reasoning(q, c);
    return s ? s : conversation_read(q, c->body, r->param, &c->chat, err);
}

/* A text that a grammar holds to a form has no thoughts. */
void chat_reasoning(const struct request *q, struct completion *c)
{
    struct text template = {0};
    bool tools = json_array_size(field(c->body, "tools")) > 0;
    if (!tool_choice_free(c) || engine_chat_template(q->server->engine, tools, &template, NULL))
        return;
    c->reasoning = reasoning_format_of(template.v, template.len);
    c->chat.thought = reasoning_open(c->reasoning);
    c->request.skip_special &= !reasoning_special(c->reasoning);
}

/* ---- what came ---- */

void chat_add_text(struct completion *c, struct choice *x, const struct text *text, bool finished)
{
    bool tools = c->tool_format != TOOLS_NONE, reasons = c->reasoning != REASONING_NONE;
    if (tools && !x->tools)
        x->tools = tool_parser_new(c->tool_format, field(c->body, "tools"));
    if (reasons && !x->reasoner)
        x->reasoner = reasoner_new(c->reasoning, c->thinks);
    if ((tools && !x->tools) || (reasons && !x->reasoner)) {
        x->text.failed = true;
        return;
    }
    if (reasons)
        reasoner_push(x->reasoner, text->v, text->len, finished,
                      &(struct reasoning_sink){&x->thought, &x->text, x->tools});
    else if (tools)
        tool_parser_push(x->tools, text->v, text->len, finished, &x->text);
    else
        buffer_add(&x->text, text->v, text->len);
    x->text.failed |= x->thought.failed | (tools && tool_parser_failed(x->tools)) |
                      (reasons && reasoner_failed(x->reasoner));
}

static void add_token(struct buffer *b, const char *piece, size_t len, int32_t id, float logprob)
{
    buffer_text(b, "{\"token\":");
    completion_token_text(b, piece, len, id);
    buffer_text(b, ",\"logprob\":");
    completion_logprob(b, logprob);
    buffer_text(b, piece ? ",\"bytes\":[" : ",\"bytes\":null");
    for (size_t i = 0; piece && i < len; i++) {
        buffer_text(b, i ? "," : "");
        buffer_int(b, (unsigned char)piece[i]);
    }
    buffer_text(b, piece ? "]" : "");
}

void chat_logprob(const struct token_info *t, struct buffer *b)
{
    add_token(b, t->piece, t->piece_len, t->id, t->logprob);
    buffer_text(b, ",\"top_logprobs\":[");
    for (int32_t i = 0; i < t->n_top; i++) {
        const struct token_logprob *o = &t->top[i];
        buffer_text(b, i ? "," : "");
        add_token(b, o->piece, o->piece_len, o->id, o->logprob);
        buffer_text(b, "}");
    }
    buffer_text(b, "]}");
}

static void add_logprob(struct choice *x, const struct token_info *t)
{
    buffer_text(&x->logprobs, x->logprobs.len ? "," : "");
    chat_logprob(t, &x->logprobs);
}

struct tool_call *chat_calls(const struct completion *c, const struct choice *x, size_t *n)
{
    struct tool_call *calls = tool_parser_calls(x->tools, n);
    while (*n && !calls[*n - 1].told)
        --*n;
    if (c->one_call && *n > 1)
        *n = 1;
    return calls;
}

/* The first call of which something has not been told, or NULL. */
static struct tool_call *next_call(const struct completion *c, const struct choice *x, size_t *i)
{
    size_t n;
    struct tool_call *calls = chat_calls(c, x, &n);
    for (*i = 0; *i < n; ++*i)
        if (!calls[*i].announced || calls[*i].arguments.len > calls[*i].sent)
            return &calls[*i];
    return NULL;
}

static bool pending(const struct completion *c, const struct choice *x)
{
    size_t i;
    return !x->begun || x->text.len > x->sent || x->thought.len > x->thought_sent ||
           x->any_logprob || x->ids.len || (x->finish && !x->closed) || next_call(c, x, &i);
}

static const char *finish_of(const struct completion *c, const struct choice *x)
{
    size_t n;
    chat_calls(c, x, &n);
    bool calls = n && x->finish == FINISH_STOP && !c->named_call; /* OpenAI's named call: stop */
    return calls ? "\"tool_calls\"" : completion_finish(x->finish);
}

/* What stands behind the message in every choice. */
static void write_rest(struct completion *c, struct choice *x, bool empty, const char *finish,
                       struct buffer *out)
{
    if (c->with_logprobs && !empty) {
        completion_list(out, ",\"logprobs\":{\"content\":[", &x->logprobs);
        buffer_text(out, ",\"refusal\":null}");
        x->any_logprob = false;
    } else {
        buffer_text(out, ",\"logprobs\":null");
    }
    buffer_format(out, ",\"finish_reason\":%s", finish);
    if (c->return_ids && !empty)
        completion_list(out, ",\"token_ids\":[", &x->ids);
    else if (c->return_ids)
        buffer_text(out, ",\"token_ids\":[]");
    buffer_text(out, "}");
}

static void write_call(const struct tool_call *call, struct buffer *out)
{
    buffer_format(out, "\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", call->id);
    buffer_string(out, call->name.v, call->name.len);
    buffer_text(out, ",\"arguments\":");
}

/* By the name that vLLM and OpenRouter have for it, and by DeepSeek's: clients read one of them. */
static void write_thought(const char *text, size_t len, struct buffer *out)
{
    buffer_text(out, "\"reasoning\":");
    buffer_string(out, text, len);
    buffer_text(out, ",\"reasoning_content\":");
    buffer_string(out, text, len);
}

static void write_message(struct completion *c, struct choice *x, struct buffer *out)
{
    size_t n;
    const struct tool_call *calls = chat_calls(c, x, &n);
    buffer_text(out, "\"message\":{\"role\":\"assistant\",\"content\":");
    if ((n || x->thought.len) && !x->text.len)
        buffer_text(out, "null");
    else
        buffer_string(out, x->text.len ? x->text.v : "", x->text.len);
    buffer_text(out, ",\"refusal\":null");
    if (x->thought.len) {
        buffer_text(out, ",");
        write_thought(x->thought.v, x->thought.len, out);
    }
    for (size_t i = 0; i < n; i++) {
        buffer_text(out, i ? ",{" : ",\"tool_calls\":[{");
        write_call(&calls[i], out);
        buffer_string(out, calls[i].arguments.v, calls[i].arguments.len);
        buffer_text(out, "}}");
    }
    buffer_text(out, n ? "]}" : "}");
    write_rest(c, x, false, finish_of(c, x), out);
}

static void write_call_delta(struct tool_call *call, size_t i, struct buffer *out)
{
    buffer_format(out, "{\"tool_calls\":[{\"index\":%zu,", i);
    if (!call->announced) {
        write_call(call, out);
        buffer_text(out, "\"\"}}]}");
        call->announced = true;
        return;
    }
    buffer_text(out, "\"function\":{\"arguments\":");
    buffer_string(out, call->arguments.v + call->sent, call->arguments.len - call->sent);
    buffer_text(out, "}}]}");
    call->sent = call->arguments.len;
}

/* The next thing to tell of choice x. */
static void write_delta(struct completion *c, struct choice *x, struct buffer *out)
{
    size_t i;
    struct tool_call *call = next_call(c, x, &i);
    const char *finish = "null";
    bool first = !x->begun;
    buffer_text(out, "\"delta\":");
    if (first) {
        buffer_text(out, "{\"role\":\"assistant\",\"content\":\"\"}");
        x->begun = true;
    } else if (x->thought.len > x->thought_sent) {
        buffer_text(out, "{");
        write_thought(x->thought.v + x->thought_sent, x->thought.len - x->thought_sent, out);
        buffer_text(out, "}");
        x->thought_sent = x->thought.len;
    } else if (x->text.len > x->sent) {
        buffer_text(out, "{\"content\":");
        buffer_string(out, x->text.v + x->sent, x->text.len - x->sent);
        buffer_text(out, "}");
        x->sent = x->text.len;
    } else if (call) {
        write_call_delta(call, i, out);
    } else {
        buffer_text(out, "{}");
        finish = finish_of(c, x);
        x->closed = x->finish != FINISH_NONE;
    }
    write_rest(c, x, first, finish, out);
}

static void write_choice(struct completion *c, struct choice *x, bool whole, struct buffer *out)
{
    buffer_format(out, "{\"index\":%zu,", (size_t)(x - c->choices));
    if (whole)
        write_message(c, x, out);
    else
        write_delta(c, x, out);
}

const struct completion_form chat_form = {.prefix = "chatcmpl-",
                                          .object = "chat.completion",
                                          .chunk = "chat.completion.chunk",
                                          .schema = "response_format.json_schema.schema",
                                          .parameters = "tools[%zu].function.parameters",
                                          .read = read_chat,
                                          .add_text = chat_add_text,
                                          .add_logprob = add_logprob,
                                          .pending = pending,
                                          .write = write_choice};
