#include "core/run/request.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/run/defaults.h"
#include "core/grammar/grammar.h"
#include "core/run/forward.h"
#include "core/run/image.h"
#include "core/run/sequence.h"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum status try_ = (call);                                                                 \
        if (try_ != ST_OK)                                                                         \
            return try_;                                                                           \
    } while (0)

static void release(struct ticket *t)
{
    struct request *r = t->request;
    if (!r)
        return;
    for (size_t i = 0; r->types && i < r->n_prompts; i++) {
        token_ids_free(&r->ids[i]);
        token_ids_free(&r->types[i]);
    }
    for (size_t i = 0; i < r->n_sequences; i++)
        sequence_clear(&r->sequences[i]);
    free(r->sequences);
    free(r->results);
    free(r->module_result);
    free(r->text);
    json_decref(r->chat.variables);
    grammar_unref(r->grammar);
}

static enum status begin(struct ticket *t, const struct request_host *host, enum request_kind kind,
                         size_t n_prompts, size_t n_routes, struct error *err)
{
    struct request *r = arena_alloc(&t->arena, sizeof *r);
    if (!r)
        return error_memory(err, "a request");
    t->request = r;
    t->release = release;
    r->kind = kind;
    r->host = host;
    r->prompts = arena_alloc(&t->arena, (n_prompts + 1) * sizeof *r->prompts);
    r->ids = arena_alloc(&t->arena, (n_prompts + 1) * sizeof *r->ids);
    r->types = arena_alloc(&t->arena, (n_prompts + 1) * sizeof *r->types);
    r->names = arena_alloc(&t->arena, (n_routes + 1) * sizeof *r->names);
    r->routes = arena_alloc(&t->arena, (n_routes + 1) * sizeof *r->routes);
    if (!r->prompts || !r->ids || !r->types || !r->names || !r->routes)
        return error_memory(err, "a request");
    r->n_prompts = n_prompts;
    r->n_routes = n_routes;
    return ST_OK;
}

static enum status only_decoder(const struct request_host *host, const char *what,
                                struct error *err)
{
    const struct model *m = host->model;
    if (m->kind != MODEL_DECODER)
        return error_set(err, ST_NOT_SUPPORTED, "%s: '%s' is not a decoder", what, m->model_type);
    if (m->classifier)
        return error_set(err, ST_NOT_SUPPORTED,
                         "%s: the base is a classifier (%s): POST "
                         "/v1/forward gives its logits",
                         what, m->architecture);
    return ST_OK;
}

/* adapted: rows have adapters, which may bring a head along (forward_plan will know). */
static enum status check_outputs(const struct request_host *host, unsigned outputs, bool adapted,
                                 struct error *err)
{
    const struct model *m = host->model;
    if (!m->has_head && !adapted && outputs & OUTPUTS_OF_HEAD)
        return error_param(err, ST_NOT_SUPPORTED, "outputs",
                           "a '%s' model has no logits: ask for 'hidden_states' or 'embedding'",
                           m->model_type);
    if (m->pooling == POOLING_NONE && outputs & OUTPUT_EMBEDDING)
        return error_param(err, ST_NOT_SUPPORTED, "outputs",
                           "%s, so there is no 'embedding': /v1/forward has 'hidden_states'",
                           m->no_embedding ? m->no_embedding : "it is no network of texts");
    return ST_OK;
}

static enum status check_ids(const struct request_host *host, const char *param, const int32_t *ids,
                             size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= host->model->vocab)
            return error_param(err, ST_INVALID_VALUE, param,
                               "token id %d is outside the vocabulary of %d", ids[i],
                               host->model->vocab);
    return ST_OK;
}

/* The prompt must leave room for `more` tokens behind it. */
static enum status check_length(const struct request *r, const char *param, size_t n, int more,
                                struct error *err)
{
    int64_t max_len = r->host->max_len[r->compute];
    if (!n)
        return error_param(err, ST_INVALID_VALUE, param, "a prompt has no tokens");
    if (n > INT32_MAX - 1 || (int64_t)n + more > max_len)
        return error_param(err, ST_CONTEXT_LENGTH_EXCEEDED, param,
                           "a prompt has %zu tokens, the context is %lld%s", n, (long long)max_len,
                           more ? " and must hold one generated token too" : "");
    return ST_OK;
}

static int room_wanted(const struct request *r)
{
    return r->kind == REQUEST_GENERATE && r->sampling.max_tokens > 0;
}

/* The prompt's text is not there yet: request_ids makes it. */
static enum status copy_chat(struct request *r, const struct chat *chat, struct error *err)
{
    bool tools = json_array_size(json_object_get(chat->variables, "tools")) > 0;
    enum status st = chat_templates_find(r->host->chat, tools, NULL, err);
    if (st != ST_OK)
        return st;
    r->chat = *chat;
    json_incref(r->chat.variables);
    return ST_OK;
}

static enum status copy_prompts(struct ticket *t, const struct prompt *prompts, size_t n,
                                const char *param, struct error *err)
{
    struct request *r = t->request;
    r->param = arena_strdup(&t->arena, param);
    if (!r->param)
        return error_memory(err, "a request");
    for (size_t i = 0; i < n; i++) {
        const struct prompt *from = &prompts[i];
        struct prompt *to = &r->prompts[i];
        enum status st = ST_OK;
        if (from->chat) {
            if (!r->host->tokenizer)
                return error_param(err, ST_TOKENIZER_MISSING, param, NULL);
            TRY(copy_chat(r, from->chat, err));
        } else if (from->text) {
            if (!r->host->tokenizer)
                return error_param(err, ST_TOKENIZER_MISSING, param, NULL);
            to->text = arena_strndup(&t->arena, from->text, from->text_len);
            to->text_len = from->text_len;
            if (from->second)
                to->second = arena_strndup(&t->arena, from->second, from->second_len);
            to->second_len = from->second_len;
        } else if (from->n_ids) {
            st = check_length(r, param, from->n_ids, room_wanted(r), err);
            if (st == ST_OK)
                st = check_ids(r->host, param, from->ids, from->n_ids, err);
            if (st != ST_OK)
                return st;
            to->ids = arena_copy(&t->arena, from->ids, from->n_ids * sizeof *from->ids);
            to->n_ids = from->n_ids;
        }
        if ((from->text && !to->text) || (from->second && !to->second) ||
            (from->n_ids && !from->text && !to->ids))
            return error_memory(err, "a prompt");
    }
    return ST_OK;
}

static enum status copy_names(struct ticket *t, struct chain_names *to, const char *const *names,
                              size_t n, const float *strengths, struct error *err)
{
    if (n > ADAPTERS_MAX)
        return error_param(err, ST_INVALID_VALUE, "adapter", "at most %d adapters on one row",
                           ADAPTERS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!names[i] || !registry_name_valid(names[i]))
            return error_param(err, ST_ADAPTER_NOT_FOUND, "adapter", "there is no adapter '%.128s'",
                               names[i] ? names[i] : "");
        float s = strengths ? strengths[i] : 1;
        if (!(s >= 0 && s <= 1))
            return error_param(err, ST_INVALID_VALUE, "strength",
                               "strength must be in 0..1, got %g", (double)s);
        to->names[i] = arena_strdup(&t->arena, names[i]);
        to->strength[i] = (int32_t)lroundf(s * 100);
        if (!to->names[i])
            return error_memory(err, "a request");
    }
    to->n = (int32_t)n;
    return ST_OK;
}

/* ---- generation ---- */

static enum status pick_float(float given, float otherwise, float min, float max, const char *name,
                              float *out, struct error *err)
{
    *out = isnan(given) ? otherwise : given;
    if (*out >= min && *out <= max)
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, name, "%s must be in %g..%g, got %g", name,
                       (double)min, (double)max, (double)*out);
}

static enum status pick_int(int32_t given, int32_t otherwise, int64_t min, int64_t max,
                            const char *name, int32_t *out, struct error *err)
{
    int64_t v = given == UNSET_INT ? otherwise : given;
    *out = (int32_t)v;
    if (v >= min && v <= max)
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, name, "%s must be in %lld..%lld, got %lld", name,
                       (long long)min, (long long)max, (long long)v);
}

static enum status sampling_numbers(struct request *r, const struct generate_request *q,
                                    struct error *err)
{
    const struct sampling *d = &r->host->defaults;
    struct sampling *p = &r->sampling;
    const int64_t any = INT32_MAX;
    TRY(pick_float(q->temperature, d->temperature, 0, 1e6f, "temperature", &p->temperature, err));
    TRY(pick_float(q->top_p, d->top_p, 0, 1, "top_p", &p->top_p, err));
    TRY(pick_float(q->min_p, d->min_p, 0, 1, "min_p", &p->min_p, err));
    TRY(pick_float(q->repetition_penalty, d->repetition, 1e-6f, 1e6f, "repetition_penalty",
                   &p->repetition, err));
    TRY(pick_float(q->presence_penalty, 0, -2, 2, "presence_penalty", &p->presence, err));
    TRY(pick_float(q->frequency_penalty, 0, -2, 2, "frequency_penalty", &p->frequency, err));
    TRY(pick_int(q->top_k, d->top_k, -1, any, "top_k", &p->top_k, err));
    int32_t unsaid = q->prompts->chat ? INT32_MAX : DEFAULT_MAX_TOKENS;
    TRY(pick_int(q->max_tokens, d->max_tokens ? d->max_tokens : unsaid, 0, any, "max_tokens",
                 &p->max_tokens, err));
    TRY(pick_int(q->min_tokens, 0, 0, p->max_tokens, "min_tokens", &p->min_tokens, err));
    TRY(pick_int(q->logprobs, -1, INT32_MIN + 1, LOGPROBS_MAX, "logprobs", &p->logprobs, err));
    TRY(pick_int(q->score_prompt ? q->prompt_logprobs : -1, -1, -1, LOGPROBS_MAX, "prompt_logprobs",
                 &p->prompt_logprobs, err));
    TRY(pick_int(q->n, 1, 1, r->host->options->max_n, "n", &r->n, err));
    p->seed = q->seed;
    if (!q->has_seed && getrandom(&p->seed, sizeof p->seed, 0) != (ssize_t)sizeof p->seed)
        p->seed = (uint64_t)ticket_now();
    return ST_OK;
}

static enum status sampling_tokens(struct ticket *t, const struct generate_request *q,
                                   struct error *err)
{
    struct request *r = t->request;
    const struct model *m = r->host->model;
    struct sampling *p = &r->sampling;
    TRY(check_ids(r->host, "stop_token_ids", q->stop_token_ids, q->n_stop_token_ids, err));
    for (size_t i = 0; i < q->n_logit_bias; i++) {
        TRY(check_ids(r->host, "logit_bias", &q->logit_bias[i].token, 1, err));
        if (!(fabsf(q->logit_bias[i].bias) <= 100))
            return error_param(err, ST_INVALID_VALUE, "logit_bias",
                               "a bias must be in -100..100, got %g",
                               (double)q->logit_bias[i].bias);
    }
    size_t n_eos = q->ignore_eos ? 0 : m->n_eos;
    int32_t *stops = arena_alloc(&t->arena, (q->n_stop_token_ids + n_eos + 1) * sizeof *stops);
    p->bias = arena_copy(&t->arena, q->logit_bias, q->n_logit_bias * sizeof *p->bias);
    if (!stops || (q->n_logit_bias && !p->bias))
        return error_memory(err, "a request");
    p->n_bias = q->n_logit_bias;
    for (size_t i = 0; i < q->n_stop_token_ids; i++)
        stops[p->n_stops++] = q->stop_token_ids[i];
    for (size_t i = 0; i < n_eos; i++)
        stops[p->n_stops++] = m->eos[i];
    p->stops = stops;
    return ST_OK;
}

static enum status copy_stops(struct ticket *t, const struct generate_request *q, struct error *err)
{
    struct request *r = t->request;
    if (!q->n_stop)
        return ST_OK;
    if (!r->host->tokenizer)
        return error_param(err, ST_TOKENIZER_MISSING, "stop", NULL);
    if (q->n_stop > STOPS_MAX)
        return error_param(err, ST_INVALID_VALUE, "stop", "at most %d stop strings, got %zu",
                           STOPS_MAX, q->n_stop);
    struct text *stop = arena_alloc(&t->arena, q->n_stop * sizeof *stop);
    if (!stop)
        return error_memory(err, "a request");
    for (size_t i = 0; i < q->n_stop; i++) {
        if (!q->stop[i].len || q->stop[i].len > STOP_BYTES_MAX)
            return error_param(err, ST_INVALID_VALUE, "stop",
                               "a stop string must have 1..%d bytes, got %zu", STOP_BYTES_MAX,
                               q->stop[i].len);
        stop[i].v = arena_strndup(&t->arena, q->stop[i].v, q->stop[i].len);
        stop[i].len = q->stop[i].len;
        if (!stop[i].v)
            return error_memory(err, "a request");
    }
    r->stop = stop;
    r->n_stop = q->n_stop;
    return ST_OK;
}

static enum status copy_grammar(struct ticket *t, const struct generate_request *q,
                                struct error *err)
{
    struct request *r = t->request;
    r->grammar_kind = q->grammar;
    if (!q->grammar)
        return ST_OK;
    if (!r->host->grammars)
        return error_set(err, ST_TOKENIZER_MISSING, NULL);
    r->grammar_text.len = q->grammar_text.len;
    r->grammar_text.v = arena_strndup(&t->arena, q->grammar_text.v, q->grammar_text.len);
    if (q->grammar_param)
        r->grammar_param = arena_strndup(&t->arena, q->grammar_param, strlen(q->grammar_param));
    bool whole = r->grammar_text.v && (r->grammar_param || !q->grammar_param);
    return whole ? ST_OK : error_memory(err, "a request");
}

enum status request_generate(struct ticket *t, const struct request_host *host,
                             const struct generate_request *q, struct error *err)
{
    TRY(only_decoder(host, "generation", err));
    if (!q->n_prompts || q->n_prompts > CHOICES_MAX)
        return error_param(err, ST_INVALID_VALUE, "prompt", "1..%d prompts are allowed, got %zu",
                           CHOICES_MAX, q->n_prompts);
    if (q->prompts->chat && q->n_prompts > 1)
        return error_param(err, ST_INVALID_VALUE, "messages", "one conversation is allowed");
    TRY(begin(t, host, REQUEST_GENERATE, q->n_prompts, 1, err));
    struct request *r = t->request;
    r->compute = q->compute < 0 ? host->options->compute_generate : (enum compute)q->compute;
    r->add_special = q->add_special;
    r->skip_special = q->skip_special;
    r->echo = q->echo;
    TRY(sampling_numbers(r, q, err));
    if (q->n_prompts * (size_t)r->n > CHOICES_MAX)
        return error_param(err, ST_INVALID_VALUE, "n", "%zu prompts of %d choices: at most %d",
                           q->n_prompts, r->n, CHOICES_MAX);
    TRY(sampling_tokens(t, q, err));
    TRY(copy_stops(t, q, err));
    TRY(copy_grammar(t, q, err));
    TRY(copy_names(t, &r->names[0], q->adapters, q->n_adapters, q->strengths, err));
    return copy_prompts(t, q->prompts, q->n_prompts, q->param ? q->param : "prompt", err);
}

/* ---- the raw pass, a module, text ---- */

enum status request_forward(struct ticket *t, const struct request_host *host,
                            const struct forward_request *q, struct error *err)
{
    const char *param = q->param ? q->param : "input_ids";
    if (!q->n_rows || q->n_rows > (size_t)host->options->max_forward_rows)
        return error_param(err, ST_INVALID_VALUE, param, "1..%d rows are allowed, got %zu",
                           host->options->max_forward_rows, q->n_rows);
    enum request_kind kind = q->images ? REQUEST_IMAGES : REQUEST_FORWARD;
    if (!q->images && host->model->image.channels > 0)
        return error_param(err, ST_NOT_SUPPORTED, param,
                           "a '%s' model reads images: send pixel_values", host->model->model_type);
    TRY(begin(t, host, kind, q->images ? 0 : q->n_rows, q->n_rows, err));
    struct request *r = t->request;
    r->compute = q->compute < 0 ? host->options->compute_forward : (enum compute)q->compute;
    r->add_special = q->add_special;
    r->outputs = q->outputs              ? q->outputs
                 : host->model->has_head ? OUTPUT_LAST_LOGITS
                                         : OUTPUT_HIDDEN;
    r->number_bytes = q->number_bytes;
    r->positions = q->positions;
    r->n = 1;
    bool adapted = false;
    for (size_t i = 0; q->adapters && i < q->n_rows; i++) {
        TRY(copy_names(t, &r->names[i], q->adapters[i].names, q->adapters[i].n, q->strengths, err));
        adapted |= q->adapters[i].n > 0;
    }
    TRY(check_outputs(host, r->outputs, adapted, err));
    if (q->images)
        return images_forward(t, q, err);
    TRY(copy_prompts(t, q->rows, q->n_rows, param, err));
    return forward_check_size(r, err);
}

static const char *module_kind_text(enum module_kind kind)
{
    return kind == MODULE_EMBEDDING ? "an embedding"
           : kind == MODULE_CONV2D  ? "a convolution"
                                    : "a linear one";
}

enum status request_module(struct ticket *t, const struct request_host *host,
                           const struct module_request *q, struct error *err)
{
    TRY(begin(t, host, REQUEST_MODULE, 0, 1, err));
    struct request *r = t->request;
    int32_t index = q->module ? model_module(host->model, q->module) : -1;
    if (index < 0)
        return error_param(err, ST_MODULE_NOT_FOUND, "module", "the base has no module '%.256s'",
                           q->module ? q->module : "");
    const struct module *m = &host->model->modules[index];
    bool lookup = m->kind == MODULE_EMBEDDING;
    r->compute = q->compute < 0 ? host->options->compute_forward : (enum compute)q->compute;
    r->module = index;
    TRY(copy_names(t, &r->names[0], q->adapters.names, q->adapters.n, NULL, err));
    if ((m->kind == MODULE_CONV2D) != (q->images.pixels != NULL))
        return error_param(err, ST_INVALID_VALUE, "input", "module '%s', %s, takes %s", m->name,
                           module_kind_text(m->kind), q->images.pixels ? "no images" : "images");
    if (q->images.pixels)
        return images_module(t, q, err);
    if (q->rows < 1)
        return error_param(err, ST_INVALID_VALUE, "input", "the input has no rows");
    if (lookup ? !q->ids || q->x : !q->x || q->ids)
        return error_param(err, ST_INVALID_VALUE, "input", "module '%s', %s, takes %s", m->name,
                           module_kind_text(m->kind), lookup ? "ids" : "rows of numbers");
    if (!lookup && q->width != m->k)
        return error_param(err, ST_INVALID_VALUE, "input",
                           "module '%s' takes rows of %lld numbers, got %lld", m->name,
                           (long long)m->k, (long long)q->width);
    for (int32_t i = 0; lookup && i < q->rows; i++)
        if (q->ids[i] < 0 || q->ids[i] >= m->n)
            return error_param(err, ST_INVALID_VALUE, "input",
                               "id %d is outside the %lld rows of module '%s'", q->ids[i],
                               (long long)m->n, m->name);
    r->module_rows = q->rows;
    r->module_in = m->k;
    r->module_out = lookup ? m->k : m->n;
    TRY(forward_check_reply(host, (int64_t)q->rows, r->module_out, err));
    size_t rows = (size_t)q->rows;
    if (lookup)
        r->module_ids = arena_copy(&t->arena, q->ids, rows * sizeof *q->ids);
    else
        r->module_x = arena_copy(&t->arena, q->x, rows * (size_t)m->k * sizeof *q->x);
    r->module_result = malloc(rows * (size_t)r->module_out * sizeof *r->module_result);
    if ((!r->module_ids && !r->module_x) || !r->module_result)
        return error_memory(err, "a module's rows");
    return ST_OK;
}

enum status request_tokenize(struct ticket *t, const struct request_host *host, const char *text,
                             size_t len, bool add_special, struct error *err)
{
    TRY(begin(t, host, REQUEST_TOKENIZE, 1, 0, err));
    const struct prompt prompt = {.text = text, .text_len = len};
    t->request->add_special = add_special;
    return copy_prompts(t, &prompt, 1, "content", err);
}

enum status request_detokenize(struct ticket *t, const struct request_host *host,
                               const int32_t *ids, size_t n, bool skip_special, struct error *err)
{
    if (!host->tokenizer)
        return error_param(err, ST_TOKENIZER_MISSING, "tokens", NULL);
    TRY(begin(t, host, REQUEST_DETOKENIZE, 1, 0, err));
    struct prompt *p = &t->request->prompts[0];
    t->request->skip_special = skip_special;
    p->ids = arena_copy(&t->arena, ids, n * sizeof *ids);
    p->n_ids = n;
    return n && !p->ids ? error_memory(err, "a request") : ST_OK;
}

enum status request_render(struct ticket *t, const struct request_host *host,
                           const struct chat *chat, struct error *err)
{
    TRY(begin(t, host, REQUEST_RENDER, 1, 0, err));
    return copy_chat(t->request, chat, err);
}

int64_t request_estimate(const struct request *r)
{
    int64_t n = chat_bytes(r->chat.variables);
    for (size_t i = 0; i < r->n_prompts; i++)
        n += (int64_t)(r->prompts[i].text ? r->prompts[i].text_len + r->prompts[i].second_len
                                          : r->prompts[i].n_ids);
    if (r->kind == REQUEST_IMAGES)
        n += (int64_t)r->module_rows * r->images.positions;
    return n;
}

/* ---- on its way ---- */

/* The conversation as text, which is malloc'ed. */
static enum status render(const struct request *r, char **text, size_t *len, struct error *err)
{
    struct buffer b = {0};
    enum status st = chat_render(r->host->chat, &r->chat, (int64_t)time(NULL), &b, err);
    if (st != ST_OK) {
        buffer_free(&b);
        return st;
    }
    *text = b.v;
    *len = b.len;
    return ST_OK;
}

/* The distinct generations of all routes, for the reply's head. */
static enum status publish_adapters(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    size_t n = 0, most = 0;
    for (size_t i = 0; i < r->n_routes; i++)
        most += (size_t)r->routes[i].n;
    struct adapter_ref *refs = arena_alloc(&t->arena, (most + 1) * sizeof *refs);
    if (!refs)
        return error_memory(err, "a request");
    for (size_t i = 0; i < r->n_routes; i++)
        for (int32_t j = 0; j < r->routes[i].n; j++) {
            const struct adapter_ref *v = &r->routes[i].refs[j];
            size_t k = 0;
            while (k < n && (refs[k].generation != v->generation || strcmp(refs[k].name, v->name)))
                k++;
            if (k == n)
                refs[n++] = *v;
        }
    ticket_set_adapters(t, refs, n);
    return ST_OK;
}

/* What the base's head gives is not what such an adapter's rows get. */
static enum status check_module(const struct request *r, struct error *err)
{
    const struct model *m = r->host->model;
    if (r->kind != REQUEST_MODULE || !model_is_head(m, r->module) ||
        !route_classifier(&r->routes[0]))
        return ST_OK;
    return error_param(err, ST_NOT_SUPPORTED, "module",
                       "the adapter brings a head of its own along instead of the base's '%s'",
                       m->modules[r->module].name);
}

enum status request_enter(struct ticket *t, bool may_load, struct error *err)
{
    struct request *r = t->request;
    r->pending = false;
    for (size_t i = 0; i < r->n_routes; i++) {
        bool pending = false;
        if (r->routes[i].entered)
            continue;
        TRY(route_enter(&r->routes[i], &r->names[i], r->compute, r->host->registry, r->host->merged,
                        may_load, &pending, &t->arena, err));
        r->pending |= pending;
    }
    if (r->pending)
        return ST_OK;
    TRY(check_module(r, err));
    return publish_adapters(t, err);
}

/* The template writes every special token itself, so the post-processor adds none. */
static enum status chat_ids(struct ticket *t, struct token_ids *ids, struct error *err)
{
    const struct request *r = t->request;
    char *text = NULL;
    size_t len = 0;
    enum status st = render(r, &text, &len, err);
    atomic_store(&t->thinks, text && chat_thinks(&r->chat, text, len));
    if (st == ST_OK)
        st = tokenizer_encode(r->host->tokenizer, text ? text : "", len, r->add_special, ids, err);
    free(text);
    return st;
}

/* A pair's ids, and their types if the network has such. */
static enum status pair_ids(const struct request *r, size_t i, struct error *err)
{
    const struct prompt *p = &r->prompts[i];
    const struct text_pair texts = {p->text, p->second, p->text_len, p->second_len};
    struct token_ids *types = &r->types[i];
    int32_t most = r->host->model->token_types;
    TRY(tokenizer_encode_pair(r->host->tokenizer, &texts, r->add_special, &r->ids[i], types, err));
    for (size_t k = 0; most && k < types->n; k++)
        if (types->v[k] >= most)
            return error_param(
                err, ST_INVALID_VALUE, r->param,
                "the tokenizer gives a token of a pair the type %d, the model has %d", types->v[k],
                most);
    if (!most)
        types->n = 0;
    return ST_OK;
}

enum status request_ids(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    for (size_t i = 0; i < r->n_prompts; i++) {
        const struct prompt *p = &r->prompts[i];
        struct token_ids *ids = &r->ids[i];
        if (ticket_cancelled(t))
            return error_set(err, ST_CANCELLED, NULL);
        if (r->chat.variables)
            TRY(chat_ids(t, ids, err));
        if (p->second)
            TRY(pair_ids(r, i, err));
        else if (p->text)
            TRY(tokenizer_encode(r->host->tokenizer, p->text, p->text_len, r->add_special, ids,
                                 err));
        for (size_t j = 0; j < p->n_ids; j++)
            if (!token_ids_push(ids, p->ids[j]))
                return error_memory(err, "a prompt");
        if (r->kind == REQUEST_TOKENIZE)
            continue;
        int32_t bos = r->host->model->bos;
        if (!ids->n && bos >= 0 && !token_ids_push(ids, bos))
            return error_memory(err, "a prompt");
        TRY(check_length(r, r->param, ids->n, room_wanted(r), err));
        TRY(check_ids(r->host, r->param, ids->v, ids->n, err));
    }
    if (!r->grammar_kind)
        return ST_OK;
    enum status s = grammars_get(r->host->grammars, r->grammar_kind, r->grammar_text.v,
                                 r->grammar_text.len, &r->grammar, err);
    bool whole = r->grammar_kind == GRAMMAR_CALLS && *err->param; /* it names the schema's field */
    if (s == ST_INVALID_VALUE && r->grammar_param && !whole)
        error_within(err, r->grammar_param);
    return s;
}

/* Rows of an adapter that was trained with a head of labels have no tokens to draw. */
static enum status check_route(const struct request *r, struct error *err)
{
    const struct route *v = &r->routes[0];
    for (int32_t i = 0; r->kind == REQUEST_GENERATE && i < v->n; i++)
        if (v->used[i]->adapted.classifier)
            return error_param(
                err, ST_NOT_SUPPORTED, "model",
                "adapter '%s' brings a classification head along, which gives labels "
                "and no tokens: POST /v1/forward gives its logits",
                v->used[i]->name);
    return ST_OK;
}

enum status request_plan(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    if (r->kind == REQUEST_MODULE)
        return ST_OK;
    TRY(check_route(r, err));
    if (r->kind != REQUEST_GENERATE)
        TRY(forward_plan(t, err));
    if (r->kind == REQUEST_IMAGES)
        return ST_OK;
    r->sequences = calloc(r->n_prompts * (size_t)r->n, sizeof *r->sequences);
    if (!r->sequences)
        return error_memory(err, "a request");
    struct usage usage = {0};
    for (size_t i = 0; i < r->n_prompts; i++) {
        const struct token_ids *ids = &r->ids[i];
        int64_t limit = (int64_t)ids->n + r->sampling.max_tokens;
        if (limit > r->host->max_len[r->compute])
            limit = r->host->max_len[r->compute];
        usage.prompt_tokens += (int64_t)ids->n;
        for (int32_t c = 0; c < r->n; c++) {
            struct sequence *q = &r->sequences[r->n_sequences++];
            q->ticket = t;
            q->request = r;
            q->route = &r->routes[r->kind == REQUEST_FORWARD ? i : 0];
            q->prompt = (int32_t)i;
            q->choice = c;
            q->types = r->types[i].n ? r->types[i].v : NULL;
            TRY(sequence_open(q, ids->v, (int32_t)ids->n, (int32_t)limit, err));
        }
    }
    r->open = r->n_sequences;
    ticket_count(t, &usage);
    return ST_OK;
}

enum status request_text(struct ticket *t, struct error *err)
{
    struct request *r = t->request;
    if (r->kind == REQUEST_RENDER)
        return render(r, &r->text, &r->text_len, err);
    return tokenizer_decode(r->host->tokenizer, r->prompts[0].ids, r->prompts[0].n_ids,
                            r->skip_special, &r->text, &r->text_len, err);
}

void request_leave(struct request *r)
{
    for (size_t i = 0; i < r->n_routes; i++)
        route_leave(&r->routes[i], r->host->merged);
}

void request_end(struct ticket *t, enum status status, struct error *err)
{
    struct request *r = t->request;
    for (size_t i = 0; i < r->n_sequences; i++)
        sequence_clear(&r->sequences[i]);
    request_leave(r);
    if (status == ST_OK && r->rows)
        ticket_set_rows(t, r->rows, r->n_routes);
    ticket_end(t, status, err);
}

/* ---- results, for the holder of the ticket (core/engine.h) ---- */

static const struct request *finished(const struct ticket *t, enum request_kind kind)
{
    const struct request *r = ticket_ended(t) ? t->request : NULL;
    return r && t->status == ST_OK && r->kind == kind ? r : NULL;
}

const float *ticket_module(const struct ticket *t, int32_t *rows, int64_t *n)
{
    const struct request *r = finished(t, REQUEST_MODULE);
    *rows = r ? r->module_rows : 0;
    *n = r ? r->module_out : 0;
    return r ? r->module_result : NULL;
}

int ticket_module_shape(const struct ticket *t, int64_t shape[3])
{
    const struct request *r = finished(t, REQUEST_MODULE);
    shape[0] = r ? r->module_out : 0;
    if (!r || !r->at_once)
        return 1;
    memcpy(shape, r->images.shape, sizeof r->images.shape);
    return r->images.rank;
}

const int32_t *ticket_ids(const struct ticket *t, size_t *n)
{
    const struct request *r = finished(t, REQUEST_TOKENIZE);
    *n = r ? r->ids[0].n : 0;
    return r ? r->ids[0].v : NULL;
}

const char *ticket_text(const struct ticket *t, size_t *len)
{
    const struct request *r = finished(t, REQUEST_DETOKENIZE);
    if (!r)
        r = finished(t, REQUEST_RENDER);
    *len = r ? r->text_len : 0;
    return r ? r->text : NULL;
}
