/*
 * A completion as a response: items in the order in which the model wrote them, thoughts, messages
 * of one part of text and calls of functions. What was asked is read as the chat's that says the
 * same (response_request.c), and its calls are found by the chat's own parser. Nothing is kept:
 * `store` and what would need it are refused by the field table. The frames of a stream are events
 * with their own names and numbers, in this order:
 *
 *     response.created, response.in_progress
 *     for each item
 *       response.output_item.added                    it, empty
 *       a message   response.content_part.added       its part, empty
 *                   response.output_text.delta ...    what came
 *                   response.output_text.done         all of it
 *                   response.content_part.done
 *       a call      response.function_call_arguments.delta ..., .done
 *       a thought   as a message; response.reasoning_text.delta ..., .done
 *       response.output_item.done
 *     response.completed                              or response.incomplete: no tokens are left
 *
 * Thoughts and calls cut the text into messages; what is empty between them is none. An answer
 * without text and calls has one empty message, but for a thought that was cut off. Logprobs are of
 * the tokens of messages (text_logprobs.c).
 */
#include "server/responses.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "server/chat.h"
#include "server/conversation.h"
#include "server/fields.h"
#include "server/response_request.h"
#include "server/tool_choice.h"

#define LOGPROBS "message.output_text.logprobs"

/* How far a stream has told its items. */
struct told {
    size_t slot;  /* the item at hand, as item_at counts */
    size_t index; /* its output_index */
    bool open;    /* it has been added */
};

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

static enum status read_response(struct request *q, struct completion *c, struct error *err)
{
    struct generate_request *r = &c->request;
    struct prompt *prompt = arena_alloc(&q->arena, sizeof *prompt);
    if (!prompt)
        return error_memory(err, "reading the request");
    c->own = arena_alloc(&q->arena, sizeof(struct told));
    if (!c->own)
        return error_memory(err, "reading the request");
    *(struct told *)c->own = (struct told){0};
    prompt->chat = &c->chat;
    r->prompts = prompt;
    r->param = "input";
    r->n_prompts = 1;
    r->max_tokens = (int32_t)field_int(q->json, "max_output_tokens", UNSET_INT);
    r->add_special = false;
    enum status s = read_include(q->json, c, err);
    s = s ? s : response_request_read(q, &c->as_chat, err);
    c->body = c->as_chat;
    s = s ? s : tool_choice_read(q, c, err);
    chat_reasoning(q, c);
    return s ? s : conversation_read(q, c->body, r->param, &c->chat, err);
}

/* ---- what came ---- */

static void add_logprob(struct choice *x, const struct token_info *t)
{
    text_logprobs_add(&x->of_texts, t);
}

/* A piece of the output. Even slots are texts, odd ones what stands between: thoughts, calls. */
struct item {
    size_t slot;
    const struct thought *thought;
    struct tool_call *call; /* both NULL: a text */
    size_t from, to;        /* of the choice's text, or of its thought */
    bool there;             /* false: the text is empty and so no item */
    bool ended;             /* nothing will be added to it */
    bool cut;               /* where the tokens were used up */
};

/* What stands between texts k and k + 1; false: nothing yet. */
static bool between(const struct completion *c, const struct choice *x, size_t k, struct item *it)
{
    size_t n, calls, earlier = 0;
    const struct thought *thoughts = reasoner_thoughts(x->reasoner, &n);
    struct tool_call *v = chat_calls(c, x, &calls);
    if (k >= n + calls)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t before = (thoughts[i].calls < calls ? thoughts[i].calls : calls) + i;
        if (before == k) {
            *it = (struct item){.thought = &thoughts[i]};
            return true;
        }
        earlier += before < k;
    }
    *it = (struct item){.call = &v[k - earlier]};
    return true;
}

/* Text k, between what stands before and behind it. */
static void read_text(const struct completion *c, const struct choice *x, size_t k, struct item *it)
{
    struct item before = {0}, behind = {0};
    bool finished = x->finish != FINISH_NONE, any = k && between(c, x, k - 1, &before);
    bool more = between(c, x, k, &behind);
    size_t n;
    chat_calls(c, x, &n);
    if (any)
        it->from = before.thought ? before.thought->behind : before.call->before;
    it->to = x->text.len;
    if (more)
        it->to = behind.thought ? behind.thought->before : behind.call->before;
    it->to = it->to < it->from ? it->from : it->to;
    it->ended = more || finished;
    it->cut = !more && x->finish == FINISH_LENGTH;
    bool empty = finished && !n && !x->text.len && !(any && it->cut);
    it->there = it->to > it->from || (!more && empty);
}

/* The rest of a thought, of a call. */
static void read_thought(const struct completion *c, const struct choice *x, size_t k,
                         const struct thought *t, struct item *it)
{
    struct item next;
    bool over = x->text.len > t->before || between(c, x, k + 1, &next);
    it->from = t->from;
    it->to = t->to;
    it->there = true;
    it->ended = over || x->finish != FINISH_NONE;
    it->cut = !over && x->finish == FINISH_LENGTH;
}

static void read_call(const struct choice *x, const struct tool_call *call, struct item *it)
{
    it->there = true;
    it->ended = call->whole || x->finish != FINISH_NONE;
    it->cut = !call->whole && x->finish == FINISH_LENGTH;
}

/* The item of a slot as far as it has come; false: there is none. */
static bool item_at(const struct completion *c, const struct choice *x, size_t slot,
                    struct item *it)
{
    struct item last;
    size_t k = slot / 2;
    *it = (struct item){0};
    if (slot % 2 ? !between(c, x, k, it) : k && !between(c, x, k - 1, &last))
        return false;
    it->slot = slot;
    if (it->thought)
        read_thought(c, x, k, it->thought, it);
    else if (it->call)
        read_call(x, it->call, it);
    else
        read_text(c, x, k, it);
    return true;
}

/* The text that holds the last byte of all. */
static size_t last_text(const struct completion *c, const struct choice *x)
{
    struct item it;
    size_t slot = x->of_texts.slot;
    while (item_at(c, x, slot, &it) && it.to < x->text.len)
        slot += 2;
    return slot;
}

/* Of calls, bytes; a name counts, though nothing stands in its arguments yet. */
static size_t called(const struct completion *c, const struct choice *x)
{
    size_t n, bytes = 0;
    const struct tool_call *calls = chat_calls(c, x, &n);
    for (size_t i = 0; i < n; i++)
        bytes += calls[i].name.len + calls[i].arguments.len;
    return bytes;
}

static void add_text(struct completion *c, struct choice *x, const struct text *text, bool finished)
{
    size_t said = x->text.len, thought = x->thought.len;
    size_t calls = c->with_logprobs ? called(c, x) : 0;
    chat_add_text(c, x, text, finished);
    if (!c->with_logprobs)
        return;
    bool other = x->thought.len > thought || called(c, x) > calls;
    size_t slot = x->text.len > said ? last_text(c, x) : NO_TEXT;
    size_t held = tool_parser_held(x->tools) + reasoner_held(x->reasoner);
    text_logprobs_read(&x->of_texts,
                       &(struct text_growth){text->len, held, slot, x->text.len - said, other});
}

static void write_text(const struct choice *x, const struct item *it, size_t from, size_t to,
                       struct buffer *out)
{
    const struct buffer *all = it->thought ? &x->thought : &x->text;
    buffer_string(out, all->len ? all->v + from : "", to - from);
}

/* Those of a text; unsent: that no frame has told yet. */
static void write_logprobs(struct choice *x, const struct item *it, bool unsent, struct buffer *out)
{
    buffer_text(out, ",\"logprobs\":[");
    text_logprobs_write(&x->of_texts, it->slot, unsent, out);
    buffer_text(out, "]");
}

static void write_part(struct choice *x, const struct item *it, bool empty, struct buffer *out)
{
    buffer_format(out,
                  "{\"type\":\"%s\",\"text\":", it->thought ? "reasoning_text" : "output_text");
    write_text(x, it, it->from, empty ? it->from : it->to, out);
    if (!it->thought) {
        buffer_text(out, ",\"annotations\":[]");
        if (empty)
            buffer_text(out, ",\"logprobs\":[]");
        else
            write_logprobs(x, it, false, out);
    }
    buffer_text(out, "}");
}

static void write_id(const struct request *q, const struct item *it, struct buffer *out)
{
    const char *kind = it->call ? "fc" : it->thought ? "rs" : "msg";
    buffer_format(out, "\"%s_%s_%zu\"", kind, q->id, it->slot);
}

static void write_call(const struct item *it, bool empty, struct buffer *out)
{
    buffer_format(out, ",\"call_id\":\"%s\",\"name\":", it->call->id);
    buffer_string(out, it->call->name.v, it->call->name.len);
    buffer_text(out, ",\"arguments\":");
    buffer_string(out, it->call->arguments.v, empty ? 0 : it->call->arguments.len);
}

static void write_item(const struct request *q, struct choice *x, const struct item *it, bool empty,
                       struct buffer *out)
{
    const char *type = it->call ? "function_call" : it->thought ? "reasoning" : "message";
    buffer_format(out, "{\"type\":\"%s\",\"id\":", type);
    write_id(q, it, out);
    buffer_format(out, ",\"status\":\"%s\"",
                  empty     ? "in_progress"
                  : it->cut ? "incomplete"
                            : "completed");
    if (it->call) {
        write_call(it, empty, out);
    } else {
        buffer_text(out, it->thought ? ",\"summary\":[]" : ",\"role\":\"assistant\"");
        buffer_text(out, ",\"content\":[");
        if (!empty)
            write_part(x, it, false, out);
        buffer_text(out, "]");
    }
    buffer_text(out, "}");
}

/* All items, without brackets. */
static void write_items(const struct request *q, const struct completion *c, struct buffer *out)
{
    struct choice *x = &c->choices[0];
    const char *comma = "";
    struct item it;
    for (size_t slot = 0; item_at(c, x, slot, &it); slot++) {
        if (!it.there)
            continue;
        buffer_text(out, comma);
        write_item(q, x, &it, false, out);
        comma = ",";
    }
}

/* ,"name": what the request has, or absent. */
static void write_given(const json_t *body, const char *name, const char *absent,
                        struct buffer *out)
{
    const json_t *v = field(body, name);
    char *text = v ? json_text(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    buffer_format(out, ",\"%s\":", name);
    buffer_text(out, text ? text : absent);
    out->failed |= v && !text;
    free(text);
}

static void write_usage(const struct usage *u, int64_t thought, struct buffer *out)
{
    if (!u) {
        buffer_text(out, "null");
        return;
    }
    long long read = (long long)u->prompt_tokens, written = (long long)u->generated_tokens;
    buffer_format(out,
                  "{\"input_tokens\":%lld,"
                  "\"input_tokens_details\":{\"cached_tokens\":%lld,\"cache_write_tokens\":0},"
                  "\"output_tokens\":%lld,\"output_tokens_details\":{\"reasoning_tokens\":%lld},"
                  "\"total_tokens\":%lld}",
                  read, (long long)u->cached_tokens, written, (long long)thought, read + written);
}

/* The response itself; usage NULL: it has just begun. */
static void write_response(const struct request *q, const struct completion *c,
                           const struct usage *usage, struct buffer *out)
{
    const struct choice *x = &c->choices[0];
    bool short_of = usage && x->finish == FINISH_LENGTH;
    const char *status = !usage ? "in_progress" : short_of ? "incomplete" : "completed";
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
    write_given(q->json, "tools", "[]", out);
    write_given(q->json, "text", "{\"format\":{\"type\":\"text\"}}", out);
    buffer_text(out, ",\"previous_response_id\":null,\"store\":false,\"truncation\":\"disabled\","
                     "\"output\":[");
    if (usage)
        write_items(q, c, out);
    buffer_text(out, "],\"usage\":");
    write_usage(usage, c->thought_tokens, out);
    buffer_text(out, "}");
}

static void write_answer(const struct request *q, struct completion *c, const struct usage *usage,
                         struct buffer *out)
{
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

static void item_event(const struct request *q, struct completion *c, struct choice *x,
                       const struct item *it, bool added, struct buffer *out)
{
    const struct told *t = c->own;
    open_event(c, added ? "output_item.added" : "output_item.done", out);
    buffer_format(out, ",\"output_index\":%zu,\"item\":", t->index);
    write_item(q, x, it, added, out);
    buffer_text(out, "}\n\n");
}

/* An event about what is within an item: a message's only part, or a call's arguments. */
static void open_inner_event(const struct request *q, struct completion *c, const char *name,
                             const struct item *it, struct buffer *out)
{
    const struct told *t = c->own;
    open_event(c, name, out);
    buffer_text(out, ",\"item_id\":");
    write_id(q, it, out);
    buffer_format(out, ",\"output_index\":%zu,", t->index);
    if (!it->call)
        buffer_text(out, "\"content_index\":0,");
}

static void part_event(const struct request *q, struct completion *c, struct choice *x,
                       const struct item *it, bool added, struct buffer *out)
{
    open_inner_event(q, c, added ? "content_part.added" : "content_part.done", it, out);
    buffer_text(out, "\"part\":");
    write_part(x, it, added, out);
    buffer_text(out, "}\n\n");
}

static void text_delta(const struct request *q, struct completion *c, struct choice *x,
                       const struct item *it, struct buffer *out)
{
    size_t *sent = it->thought ? &x->thought_sent : &x->sent;
    size_t from = *sent > it->from ? *sent : it->from;
    if (it->to <= from)
        return;
    open_inner_event(q, c, it->thought ? "reasoning_text.delta" : "output_text.delta", it, out);
    buffer_text(out, "\"delta\":");
    write_text(x, it, from, it->to, out);
    *sent = it->to;
    if (!it->thought)
        write_logprobs(x, it, true, out);
    buffer_text(out, "}\n\n");
}

static void text_done(const struct request *q, struct completion *c, struct choice *x,
                      const struct item *it, struct buffer *out)
{
    open_inner_event(q, c, it->thought ? "reasoning_text.done" : "output_text.done", it, out);
    buffer_text(out, "\"text\":");
    write_text(x, it, it->from, it->to, out);
    if (!it->thought)
        write_logprobs(x, it, false, out);
    buffer_text(out, "}\n\n");
    part_event(q, c, x, it, false, out);
}

static void call_delta(const struct request *q, struct completion *c, const struct item *it,
                       struct buffer *out)
{
    struct tool_call *call = it->call;
    if (call->arguments.len <= call->sent)
        return;
    open_inner_event(q, c, "function_call_arguments.delta", it, out);
    buffer_text(out, "\"delta\":");
    buffer_string(out, call->arguments.v + call->sent, call->arguments.len - call->sent);
    buffer_text(out, "}\n\n");
    call->sent = call->arguments.len;
}

static void call_done(const struct request *q, struct completion *c, const struct item *it,
                      struct buffer *out)
{
    open_inner_event(q, c, "function_call_arguments.done", it, out);
    buffer_text(out, "\"name\":");
    buffer_string(out, it->call->name.v, it->call->name.len);
    buffer_text(out, ",\"arguments\":");
    buffer_string(out, it->call->arguments.v, it->call->arguments.len);
    buffer_text(out, "}\n\n");
}

/* Tells what is new of the item at hand; false: no more items for now. */
static bool advance(const struct request *q, struct completion *c, struct choice *x,
                    struct buffer *out)
{
    struct told *t = c->own;
    struct item it;
    if (!item_at(c, x, t->slot, &it)) {
        x->closed = x->finish != FINISH_NONE;
        return false;
    }
    if (it.there && !t->open) {
        item_event(q, c, x, &it, true, out);
        if (!it.call)
            part_event(q, c, x, &it, true, out);
        t->open = true;
    }
    if (t->open && it.call)
        call_delta(q, c, &it, out);
    else if (t->open)
        text_delta(q, c, x, &it, out);
    if (!it.ended)
        return false;
    if (t->open) {
        if (it.call)
            call_done(q, c, &it, out);
        else
            text_done(q, c, x, &it, out);
        item_event(q, c, x, &it, false, out);
        t->index++;
    }
    t->open = false;
    t->slot++;
    return true;
}

static void write_frames(const struct request *q, struct completion *c, struct choice *x,
                         struct buffer *out)
{
    if (!x->begun) {
        response_event(q, c, "created", NULL, out);
        response_event(q, c, "in_progress", NULL, out);
        x->begun = true;
    }
    while (!out->failed && advance(q, c, x, out))
        ;
}

static void write_end(const struct request *q, struct completion *c, const struct usage *usage,
                      struct buffer *out)
{
    bool short_of = c->choices[0].finish == FINISH_LENGTH;
    response_event(q, c, short_of ? "incomplete" : "completed", usage, out);
}

const struct completion_form responses_form = {.schema = "text.format.schema",
                                               .parameters = "tools[%zu].parameters",
                                               .read = read_response,
                                               .add_text = add_text,
                                               .add_logprob = add_logprob,
                                               .answer = write_answer,
                                               .frames = write_frames,
                                               .end = write_end};
