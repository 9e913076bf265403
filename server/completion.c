/*
 * JSON -> struct generate_request (defaults stay unset: the engine knows generation_config.json),
 * and pieces -> choices; then the wording of /v1/completions. text_offset counts characters, as
 * Python clients do; the engine counts bytes. A token that has no text (a base without tokenizer)
 * is "token_id:N".
 */
#include "server/completion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/fields.h"
#include "server/inputs.h"
#include "server/names.h"
#include "server/server.h"
#include "server/structured.h"

/* ---- what was asked ---- */

static enum status read_stops(struct request *q, struct generate_request *r, struct error *err)
{
    const json_t *value = field(q->json, "stop"), *ids = field(q->json, "stop_token_ids");
    bool list = json_is_array(value);
    size_t n = !value ? 0 : list ? json_array_size(value) : 1;
    struct text *stops = arena_alloc(&q->arena, (n + 1) * sizeof *stops);
    r->stop_token_ids = inputs_ids(q, ids, &r->n_stop_token_ids);
    if (!stops || !r->stop_token_ids)
        return error_memory(err, "reading stops");
    for (size_t i = 0; i < n; i++) {
        const json_t *stop = list ? json_array_get(value, i) : value;
        stops[i] = (struct text){json_string_value(stop), json_string_length(stop)};
    }
    r->stop = stops;
    r->n_stop = n;
    return ST_OK;
}

static enum status read_bias(struct request *q, struct generate_request *r, struct error *err)
{
    json_t *value = (json_t *)field(q->json, "logit_bias");
    const char *key;
    json_t *bias;
    struct logit_bias *v = arena_alloc(&q->arena, (json_object_size(value) + 1) * sizeof *v);
    if (!v)
        return error_memory(err, "reading logit_bias");
    json_object_foreach(value, key, bias)
    {
        v[r->n_logit_bias].token = (int32_t)strtol(key, NULL, 10);
        v[r->n_logit_bias++].bias = (float)json_number_value(bias);
    }
    r->logit_bias = v;
    return ST_OK;
}

static void read_numbers(const json_t *body, struct generate_request *r)
{
    const json_t *seed = field(body, "seed");
    r->n = (int32_t)field_int(body, "n", UNSET_INT);
    r->min_tokens = (int32_t)field_int(body, "min_tokens", UNSET_INT);
    r->top_k = (int32_t)field_int(body, "top_k", UNSET_INT);
    r->top_k = r->top_k == -1 ? 0 : r->top_k;
    r->temperature = (float)field_number(body, "temperature", UNSET_FLOAT);
    r->top_p = (float)field_number(body, "top_p", UNSET_FLOAT);
    r->min_p = (float)field_number(body, "min_p", UNSET_FLOAT);
    r->repetition_penalty = (float)field_number(body, "repetition_penalty", UNSET_FLOAT);
    r->presence_penalty = (float)field_number(body, "presence_penalty", UNSET_FLOAT);
    r->frequency_penalty = (float)field_number(body, "frequency_penalty", UNSET_FLOAT);
    r->has_seed = seed != NULL;
    r->seed = seed ? (uint64_t)json_as_int(seed) : 0;
    r->ignore_eos = field_bool(body, "ignore_eos", false);
    r->skip_special = field_bool(body, "skip_special_tokens", true);
    r->compute = inputs_compute(body);
}

static enum status read_request(struct request *q, struct completion *c, struct error *err)
{
    const json_t *body = q->json, *stream = field(body, "stream_options");
    struct generate_request *r = &c->request;
    struct name_list names;
    const char *model = field_text(body, "model");
    c->model = model ? model : engine_name(q->server->engine);
    c->stream = field_bool(body, "stream", false);
    c->include_usage = stream && field_bool(stream, "include_usage", false);
    c->return_ids = field_bool(body, "return_token_ids", false);
    c->created = time(NULL);
    read_numbers(body, r);
    r->n = r->n == UNSET_INT ? 1 : r->n;
    c->told = (size_t)r->n;
    r->request_id = q->id;
    enum status s = names_resolve(q, model, field(body, "adapter"), &names, &c->by_model, err);
    if (s)
        return s;
    r->adapters = names.names;
    r->n_adapters = names.n;
    s = c->form->read(q, c, err);
    s = s ? s : inputs_strengths(q, r->n_adapters, &r->strengths, err);
    s = s ? s : read_stops(q, r, err);
    s = s ? s : read_bias(q, r, err);
    s = s ? s : structured_read(q, c->body, c->form->schema, r, err);
    if (s)
        return s;
    c->n_choices = r->n_prompts * (size_t)r->n;
    c->choices = calloc(c->n_choices, sizeof *c->choices);
    for (size_t i = 0; c->choices && i < c->n_choices; i++)
        c->choices[i].index = i;
    return c->choices ? ST_OK : error_memory(err, "reading the request");
}

enum status completion_read(struct request *q, const struct completion_form *form,
                            struct completion **out, struct error *err)
{
    struct completion *c = calloc(1, sizeof *c);
    enum status s = c ? ST_OK : error_memory(err, "reading the request");
    if (c) {
        c->form = form;
        c->body = q->json;
        s = read_request(q, c, err);
    }
    if (s) {
        completion_free(c);
        c = NULL;
    }
    *out = c;
    return s;
}

void completion_free(void *completion)
{
    struct completion *c = completion;
    if (!c)
        return;
    for (size_t i = 0; c->choices && i < c->n_choices; i++) {
        struct choice *x = &c->choices[i];
        buffer_free(&x->text);
        buffer_free(&x->ids);
        buffer_free(&x->tokens);
        buffer_free(&x->logprobs);
        buffer_free(&x->tops);
        buffer_free(&x->offsets);
        buffer_free(&x->scores);
        buffer_free(&x->thought);
        tool_parser_free(x->tools);
        reasoner_free(x->reasoner);
        text_logprobs_free(&x->of_texts);
    }
    free(c->choices);
    json_decref(c->chat.variables);
    json_decref(c->as_chat);
    free(c);
}

/* ---- what came ---- */

void completion_token_text(struct buffer *b, const char *piece, size_t len, int32_t id)
{
    if (piece)
        buffer_string(b, piece, len);
    else
        buffer_format(b, "\"token_id:%d\"", id);
}

/* JSON has no infinity: a token that cannot come is -9999, as vLLM says it. */
void completion_logprob(struct buffer *b, float f)
{
    if (isnan(f))
        buffer_text(b, "null");
    else
        buffer_f32(b, isinf(f) ? -9999.0f : f);
}

/* Entry i of what is told about a token: the alternatives, then (i == n_top) the token itself. */
struct top_entry {
    int32_t id;
    float logprob;
    const char *text;
    size_t len;
};

static struct top_entry top_entry(const struct token_info *t, int32_t i)
{
    if (i == t->n_top)
        return (struct top_entry){t->id, t->logprob, t->piece, t->piece_len};
    const struct token_logprob *x = &t->top[i];
    return (struct top_entry){x->id, x->logprob, x->piece, x->piece_len};
}

/* {"id": {"logprob", "rank", "decoded_token"}, ...}, the token itself first, as vLLM does. */
static void add_score(struct buffer *b, const struct token_info *t, int32_t n)
{
    buffer_text(b, b->len ? "," : "");
    if (isnan(t->logprob)) {
        buffer_text(b, "null");
        return;
    }
    for (int32_t i = -1; i < n && i < t->n_top; i++) {
        struct top_entry x = top_entry(t, i < 0 ? t->n_top : i);
        if (i >= 0 && x.id == t->id)
            continue;
        buffer_format(b, "%s\"%d\":{\"logprob\":", i < 0 ? "{" : ",", x.id);
        completion_logprob(b, x.logprob);
        buffer_format(b, ",\"rank\":%d,\"decoded_token\":", i < 0 ? t->rank : i + 1);
        completion_token_text(b, x.text, x.len, x.id);
        buffer_text(b, "}");
    }
    buffer_text(b, "}");
}

static void add_token(struct completion *c, struct choice *x, const struct token_info *t)
{
    if (c->return_ids && !t->prompt) {
        buffer_text(&x->ids, x->ids.len ? "," : "");
        buffer_int(&x->ids, t->id);
    }
    if (t->prompt && c->request.score_prompt)
        add_score(&x->scores, t, c->request.prompt_logprobs);
    if (!t->prompt) {
        x->sum_logprobs += t->logprob;
        x->n_tokens++;
    }
    if (!c->with_logprobs || (t->prompt && !c->request.echo))
        return;
    struct token_info shown = *t; /* a scored prompt may have brought more */
    if (t->prompt && shown.n_top > c->request.logprobs)
        shown.n_top = c->request.logprobs;
    c->form->add_logprob(x, &shown);
    x->any_logprob = true;
}

/* The text of a piece, token by token, so that it does not matter how many came at once. */
static void add_piece(struct completion *c, struct choice *x, const struct piece *p)
{
    size_t at = 0, k = 0;
    do {
        bool is_token = k < p->n_tokens, last = k + 1 >= p->n_tokens;
        size_t end = p->text.len;
        if (!last) {
            size_t all = p->tokens[k].text_offset + p->tokens[k].piece_len;
            size_t to = all > x->read ? all - x->read : 0;
            end = to < at ? at : to < end ? to : end;
        }
        c->thought_tokens += is_token && reasoner_thinking(x->reasoner);
        c->form->add_text(c, x, &(struct text){p->text.v + at, end - at},
                          last && p->finish != FINISH_NONE);
        if (is_token)
            add_token(c, x, &p->tokens[k]);
        at = end;
    } while (++k < p->n_tokens);
    x->read += p->text.len;
}

struct choice *completion_add(struct completion *c, const struct piece *p)
{
    size_t n = c->n_choices / c->request.n_prompts;
    size_t i = (size_t)p->prompt * n + (size_t)p->choice;
    if (i >= c->n_choices)
        return NULL;
    struct choice *x = &c->choices[i];
    x->any |= p->n_tokens > 0;
    add_piece(c, x, p);
    if (p->finish)
        x->finish = p->finish;
    bool failed = x->text.failed | x->ids.failed | x->tokens.failed | x->logprobs.failed |
                  x->tops.failed | x->offsets.failed | x->scores.failed |
                  text_logprobs_failed(&x->of_texts);
    return failed ? NULL : x;
}

const char *completion_finish(enum finish_reason r)
{
    switch (r) {
    case FINISH_STOP:
        return "\"stop\"";
    case FINISH_LENGTH:
        return "\"length\"";
    case FINISH_CANCELLED:
        return "\"abort\"";
    case FINISH_ERROR:
        return "\"error\"";
    case FINISH_NONE:
        break;
    }
    return "null";
}

void completion_list(struct buffer *out, const char *before, struct buffer *list)
{
    buffer_text(out, before);
    buffer_add(out, list->v, list->len);
    buffer_text(out, "]");
    buffer_clear(list);
}

/* The likeliest by token of the n choices that has not been told yet. */
static struct choice *best_left(struct choice *x, size_t n)
{
    struct choice *best = NULL;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double mean = x[i].n_tokens ? x[i].sum_logprobs / (double)x[i].n_tokens : 0;
        if (!x[i].told && (!best || mean > most)) {
            best = &x[i];
            most = mean;
        }
    }
    return best;
}

void completion_whole(struct completion *c, struct buffer *out)
{
    size_t each = c->n_choices / c->request.n_prompts, n = c->told;
    for (size_t i = 0; i < n * c->request.n_prompts; i++) {
        struct choice *of_prompt = c->choices + i / n * each;
        struct choice *x = each > n ? best_left(of_prompt, each) : of_prompt + i % n;
        x->index = i;
        x->told = true;
        buffer_text(out, i ? "," : "");
        c->form->write(c, x, true, out);
    }
}

void completion_usage(const struct usage *u, struct buffer *out)
{
    buffer_format(out,
                  "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%lld}}",
                  (long long)u->prompt_tokens, (long long)u->generated_tokens,
                  (long long)u->prompt_tokens + (long long)u->generated_tokens,
                  (long long)u->cached_tokens);
}

/* ---- /v1/completions ---- */

/* best_of and prompt_logprobs, whose answers need the whole of a choice. */
static enum status read_scores(struct request *q, struct completion *c, struct error *err)
{
    const json_t *body = q->json;
    struct generate_request *r = &c->request;
    int32_t most = engine_options(q->server->engine)->max_n;
    int32_t n = r->n;
    int32_t best_of = (int32_t)field_int(body, "best_of", n);
    r->score_prompt = field(body, "prompt_logprobs") != NULL;
    r->prompt_logprobs = (int32_t)field_int(body, "prompt_logprobs", 0);
    if (best_of < n)
        return error_param(err, ST_INVALID_VALUE, "best_of", "best_of is %d, less than n, %d",
                           best_of, n);
    if (best_of > n && best_of > most)
        return error_param(err, ST_INVALID_VALUE, "best_of", "best_of must be at most %d, got %d",
                           most, best_of);
    if (c->stream && (best_of > n || r->score_prompt))
        return error_param(err, ST_INVALID_VALUE, best_of > n ? "best_of" : "prompt_logprobs",
                           "%s cannot be streamed", best_of > n ? "best_of" : "prompt_logprobs");
    if (best_of > n && r->logprobs < 0)
        r->logprobs = 0; /* what choices are ranked by */
    r->n = best_of;
    return ST_OK;
}

static enum status read_text_form(struct request *q, struct completion *c, struct error *err)
{
    const json_t *body = q->json;
    struct generate_request *r = &c->request;
    r->max_tokens = (int32_t)field_int(body, "max_tokens", UNSET_INT);
    r->logprobs = (int32_t)field_int(body, "logprobs", -1);
    r->echo = field_bool(body, "echo", false);
    r->add_special = field_bool(body, "add_special_tokens", true);
    c->with_logprobs = field(body, "logprobs") != NULL;
    enum status s = read_scores(q, c, err);
    return s ? s : inputs_prompts(q, "prompt", &r->prompts, &r->n_prompts, err);
}

static void add_text(struct completion *c, struct choice *x, const struct text *text, bool finished)
{
    (void)c;
    (void)finished;
    buffer_add(&x->text, text->v, text->len);
}

/* A key may come once: two tokens may read the same (the likelier, which is first, is told), and
 * the token itself is often among the alternatives. */
static bool told_before(const struct token_info *t, int32_t i)
{
    struct top_entry x = top_entry(t, i);
    for (int32_t j = 0; j < i; j++) {
        struct top_entry y = top_entry(t, j);
        bool same_text = x.text && y.text && x.len == y.len && !memcmp(x.text, y.text, x.len);
        if (x.id == y.id || same_text)
            return true;
    }
    return false;
}

/* {"text": logprob, ...} */
static void add_top(struct buffer *b, const struct token_info *t)
{
    buffer_text(b, "{");
    for (int32_t i = 0; i <= t->n_top; i++) {
        if (told_before(t, i))
            continue;
        struct top_entry x = top_entry(t, i);
        buffer_text(b, i ? "," : "");
        completion_token_text(b, x.text, x.len, x.id);
        buffer_text(b, ":");
        completion_logprob(b, x.logprob);
    }
    buffer_text(b, "}");
}

static size_t character_offset(struct choice *x, size_t bytes)
{
    size_t end = bytes < x->text.len ? bytes : x->text.len;
    for (; x->bytes < end; x->bytes++)
        x->characters += ((unsigned char)x->text.v[x->bytes] & 0xc0) != 0x80;
    return x->characters;
}

static void add_logprob(struct choice *x, const struct token_info *t)
{
    const char *comma = x->any_logprob ? "," : "";
    buffer_text(&x->tokens, comma);
    completion_token_text(&x->tokens, t->piece, t->piece_len, t->id);
    buffer_text(&x->logprobs, comma);
    completion_logprob(&x->logprobs, t->logprob);
    buffer_text(&x->tops, comma);
    if (isnan(t->logprob))
        buffer_text(&x->tops, "null");
    else
        add_top(&x->tops, t);
    buffer_text(&x->offsets, comma);
    buffer_int(&x->offsets, (int64_t)character_offset(x, t->text_offset));
}

static bool pending(const struct completion *c, const struct choice *x)
{
    bool end = x->finish && !x->closed;
    return x->text.len > x->sent || end || x->ids.len || (c->with_logprobs && x->any_logprob);
}

static void write_choice(struct completion *c, struct choice *x, bool whole, struct buffer *out)
{
    size_t from = whole ? 0 : x->sent;
    buffer_format(out, "{\"index\":%zu,\"text\":", x->index);
    buffer_string(out, x->text.len ? x->text.v + from : "", x->text.len - from);
    x->sent = x->text.len;
    if (c->with_logprobs) {
        completion_list(out, ",\"logprobs\":{\"tokens\":[", &x->tokens);
        completion_list(out, ",\"token_logprobs\":[", &x->logprobs);
        completion_list(out, ",\"top_logprobs\":[", &x->tops);
        completion_list(out, ",\"text_offset\":[", &x->offsets);
        buffer_text(out, "}");
        x->any_logprob = false;
    } else {
        buffer_text(out, ",\"logprobs\":null");
    }
    buffer_format(out, ",\"finish_reason\":%s", completion_finish(x->finish));
    x->closed = x->finish != FINISH_NONE;
    if (c->return_ids)
        completion_list(out, ",\"token_ids\":[", &x->ids);
    if (c->request.score_prompt)
        completion_list(out, ",\"prompt_logprobs\":[", &x->scores);
    buffer_text(out, "}");
}

const struct completion_form text_form = {.prefix = "cmpl-",
                                          .object = "text_completion",
                                          .chunk = "text_completion",
                                          .schema = "response_format.json_schema.schema",
                                          .read = read_text_form,
                                          .add_text = add_text,
                                          .add_logprob = add_logprob,
                                          .pending = pending,
                                          .write = write_choice};
