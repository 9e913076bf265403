#include "core/run/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "core/grammar/grammar.h"
#include "core/grow.h"
#include "core/run/forward.h"

/* Does the request want the prompt's tokens back? */
static bool shows_prompt(const struct request *r)
{
    return r->echo || r->sampling.prompt_logprobs >= 0;
}

/* The choices behind the first one show what it has kept of their prompt. */
static void share_prompt(struct sequence *q)
{
    q->echo = q[-q->choice].echo;
    q->echo_text = q[-q->choice].echo_text;
}

/* Feeds the prompt to the stream; its text and tokens are kept if they are to be shown. */
static enum status read_prompt(struct sequence *q, struct error *err)
{
    const struct request *r = q->request;
    struct arena *arena = &q->ticket->arena;
    char *text = NULL;
    size_t len = 0, cap = 0;
    enum status st = ST_OK;
    bool keep = shows_prompt(r) && !q->choice;
    if (keep) {
        q->echo = arena_alloc(arena, (size_t)q->prompt_len * sizeof *q->echo);
        if (!q->echo)
            return error_memory(err, "a request");
    }
    for (int32_t i = 0; i < q->prompt_len && st == ST_OK; i++) {
        const char *piece = "";
        size_t n = 0;
        if (q->stream)
            st = token_stream_push(q->stream, q->tokens[i], &piece, &n, err);
        if (st != ST_OK || !keep)
            continue;
        if (len + n + 1 > cap) {
            size_t bigger = 2 * (len + n + 1);
            char *grown = realloc(text, bigger);
            if (!grown) {
                st = error_memory(err, "a request");
                break;
            }
            text = grown;
            cap = bigger;
        }
        if (text && n)
            memcpy(text + len, piece, n);
        q->echo[i] = (struct token_info){
            .id = q->tokens[i], .prompt = true, .piece_len = n, .text_offset = len, .logprob = NAN};
        len += n;
    }
    if (st == ST_OK && keep) {
        char *kept = arena_strndup(arena, text ? text : "", len);
        if (kept) {
            for (int32_t i = 0; i < q->prompt_len; i++)
                q->echo[i].piece = kept + q->echo[i].text_offset;
            q->echo_text = (struct text){kept, len};
        } else {
            st = error_memory(err, "a request");
        }
    }
    free(text);
    if (q->choice)
        share_prompt(q);
    if (r->echo)
        q->text_len = q->text_out = q->echo_text.len;
    return st;
}

enum status sequence_open(struct sequence *q, const int32_t *ids, int32_t n, int32_t limit,
                          struct error *err)
{
    struct request *r = q->request;
    q->prompt_len = q->len = n;
    q->limit = limit > n ? limit : n;
    q->page_cap = pages_for(q->limit);
    q->tokens = malloc((size_t)q->limit * sizeof *q->tokens);
    q->pages = malloc((size_t)q->page_cap * sizeof *q->pages);
    if (!q->tokens || !q->pages)
        return error_memory(err, "a request");
    memcpy(q->tokens, ids, (size_t)n * sizeof *ids);
    q->whole = r->host->model->kind == MODEL_ENCODER;
    if (r->kind == REQUEST_FORWARD) {
        q->per_position = forward_per_position(r, q->prompt);
        return ST_OK;
    }
    q->per_position =
        !q->choice && ((r->echo && r->sampling.logprobs >= 0) || r->sampling.prompt_logprobs >= 0);
    q->stop.strings = r->stop;
    q->stop.n = r->n_stop;
    if (r->host->tokenizer) {
        enum status st = token_stream_open(r->host->tokenizer, r->skip_special, &q->stream, err);
        if (st != ST_OK)
            return st;
    }
    return read_prompt(q, err);
}

void sequence_clear(struct sequence *q)
{
    free(q->tokens);
    free(q->pages);
    free(q->held);
    draft_clear(&q->draft);
    token_stream_close(q->stream);
    stop_clear(&q->stop);
    q->tokens = q->pages = NULL;
    q->held = NULL;
    q->stream = NULL;
}

/* ---- pages ---- */

int32_t sequence_turns_by(const struct sequence *q, int32_t pos)
{
    if (q->request->host->model->dynamic_at > 0)
        return pos < q->prompt_len ? q->prompt_len : pos + 1;
    return q->stretched ? q->len : 0;
}

/* Keys of their own, where positions turn unlike those of a shorter text: a block that no text can
 * have begins them. */
static void set_apart(struct sequence *q, int32_t id)
{
    int32_t mark[KV_PAGE];
    for (int i = 0; i < KV_PAGE; i++)
        mark[i] = -id;
    prefix_next(q->key, mark, q->key);
}

int32_t sequence_match(struct sequence *q, struct kvcache *c, const struct model *m)
{
    q->computed = q->known = q->n_pages = q->first_page = 0;
    memcpy(q->key, q->route->key, PREFIX_KEY);
    q->stretched = m->stretch_at > 0 && q->len > m->stretch_at;
    if (q->stretched)
        set_apart(q, 1);
    else if (m->dynamic_at > 0 && q->prompt_len > m->dynamic_at)
        set_apart(q, q->prompt_len);
    /* the last token is always computed, so that its logits exist; so is every position that still
     * owes outputs */
    int32_t most = q->per_position && q->wanted < q->len - 1 ? q->wanted : q->len - 1;
    while (!q->whole && (q->known + 1) * KV_PAGE <= most) {
        uint8_t key[PREFIX_KEY];
        prefix_next(q->key, q->tokens + q->known * KV_PAGE, key);
        int32_t page = kvcache_find(c, key);
        if (page < 0)
            break;
        memcpy(q->key, key, PREFIX_KEY);
        q->pages[q->n_pages++] = page;
        q->known++;
    }
    q->computed = q->known * KV_PAGE;
    return q->computed;
}

bool sequence_reserve(struct sequence *q, struct kvcache *c, int64_t upto)
{
    for (int32_t need = pages_for(upto); q->n_pages < need; q->n_pages++) {
        int32_t page = kvcache_take(c, q->route->compute);
        if (page < 0)
            return false;
        q->pages[q->n_pages] = page;
    }
    return true;
}

void sequence_trim(struct sequence *q, struct kvcache *c)
{
    while (q->n_pages > pages_for(q->len))
        kvcache_drop(c, q->pages[--q->n_pages]);
}

void sequence_guess(struct sequence *q, const struct model *m)
{
    int32_t most = q->request->sampling.max_tokens - (q->len - q->prompt_len);
    if (most > q->limit - q->len)
        most = q->limit - q->len;
    most--; /* a row at the last token's position would bring another one */
    if (m->stretch_at > 0 && !q->stretched && most > m->stretch_at - q->len)
        most = m->stretch_at - q->len;
    draft_guess(&q->draft, q->tokens, q->len, most);
}

void sequence_computed(struct sequence *q, struct kvcache *c, int32_t rows, int32_t window)
{
    q->computed += rows;
    while (!q->whole && (q->known + 1) * KV_PAGE <= q->computed) {
        prefix_next(q->key, q->tokens + q->known * KV_PAGE, q->key);
        kvcache_know(c, q->pages[q->known], q->key);
        q->known++;
    }
    /* the next row looks at positions above computed - window */
    while (window > 0 && (q->first_page + 1) * KV_PAGE - 1 <= q->computed - window)
        kvcache_drop(c, q->pages[q->first_page++]);
}

void sequence_drop_pages(struct sequence *q, struct kvcache *c)
{
    /* the last first: a prefix is worth more than what follows it, and is evicted later */
    while (q->n_pages > q->first_page)
        kvcache_drop(c, q->pages[--q->n_pages]);
    q->computed = q->known = q->n_pages = q->first_page = 0;
}

/* ---- outputs ---- */

static enum status non_finite(const struct sequence *q, int32_t pos, struct error *err)
{
    return error_set(err, ST_NON_FINITE_OUTPUT,
                     "prompt %d, choice %d: the logits after position %d are not finite", q->prompt,
                     q->choice, pos);
}

/* What an alternative would read: the text of (last token, it) without the last token's. */
static enum status alternative(struct sequence *q, int32_t last, struct token_logprob *v,
                               struct error *err)
{
    const struct tokenizer *t = q->request->host->tokenizer;
    char *one = NULL, *two = NULL;
    size_t n_one = 0, n_two = 0;
    const int32_t pair[2] = {last, v->id};
    v->piece = "";
    if (!t)
        return ST_OK;
    enum status st = tokenizer_decode(t, pair, 1, false, &one, &n_one, err);
    if (st == ST_OK)
        st = tokenizer_decode(t, pair, 2, false, &two, &n_two, err);
    if (st == ST_OK && (n_one > n_two || memcmp(one, two, n_one))) {
        /* they share a character */
        free(two);
        two = NULL;
        n_one = 0;
        st = tokenizer_decode(t, &v->id, 1, false, &two, &n_two, err);
    }
    if (st == ST_OK) {
        v->piece = arena_strndup(&q->ticket->arena, two + n_one, n_two - n_one);
        v->piece_len = n_two - n_one;
        if (!v->piece)
            st = error_memory(err, "logprobs");
    }
    free(one);
    free(two);
    return st;
}

/* The logprob of info->id, which followed the token `last`, and the k most likely beside it. */
static enum status fill_logprobs(struct sequence *q, const struct kernels *kernels,
                                 const float *logits, int32_t last, int32_t k,
                                 struct token_info *info, struct error *err)
{
    int32_t vocab = q->request->host->model->vocab;
    double log_sum = sampler_log_sum(kernels, logits, vocab);
    info->logprob = sampler_logprob(logits[info->id], log_sum);
    if (k <= 0)
        return ST_OK;
    struct token_logprob *top = arena_alloc(&q->ticket->arena, (size_t)k * sizeof *top);
    if (!top)
        return error_memory(err, "logprobs");
    info->n_top = sampler_top(logits, vocab, log_sum, k, top);
    info->top = top;
    enum status st = ST_OK;
    for (int32_t i = 0; i < info->n_top && st == ST_OK; i++)
        st = alternative(q, last, &top[i], err);
    return st;
}

enum status sequence_prompt_logits(struct sequence *q, int32_t pos, const float *logits,
                                   const struct kernels *kernels, struct error *err)
{
    const struct sampling *p = &q->request->sampling;
    int32_t vocab = q->request->host->model->vocab;
    int32_t k = q->request->echo ? p->logprobs : -1;
    struct token_info *info = &q->echo[pos + 1];
    if (!sampler_finite(logits, vocab))
        return non_finite(q, pos, err);
    if (p->prompt_logprobs >= 0)
        info->rank = sampler_rank(logits, vocab, info->id);
    return fill_logprobs(q, kernels, logits, q->tokens[pos],
                         k > p->prompt_logprobs ? k : p->prompt_logprobs, info, err);
}

static enum status hold(struct sequence *q, const struct token_info *info)
{
    if (!GROW(q->held, q->held_cap, q->n_held + 1, 4))
        return ST_OUT_OF_MEMORY;
    q->held[q->n_held++] = *info;
    return ST_OK;
}

/* The prompt itself, once, before the first token. */
static enum status emit_echo(struct sequence *q)
{
    struct piece piece = {.prompt = q->prompt,
                          .choice = q->choice,
                          .text = q->request->echo ? q->echo_text : (struct text){"", 0},
                          .tokens = q->echo,
                          .n_tokens = (size_t)q->prompt_len,
                          .stop_token = -1};
    return ticket_emit(q->ticket, &piece);
}

/* Sends text (copied) and the held tokens whose text has left with it; all of them at the end. */
static enum status emit(struct sequence *q, const char *text, size_t len, int32_t stop_token)
{
    q->text_out += len;
    size_t n = 0;
    while (n < q->n_held && (q->finish != FINISH_NONE ||
                             q->held[n].text_offset + q->held[n].piece_len <= q->text_out))
        n++;
    if (!len && !n && q->finish == FINISH_NONE)
        return ST_OK;
    struct piece piece = {.prompt = q->prompt,
                          .choice = q->choice,
                          .text = {"", len},
                          .n_tokens = n,
                          .finish = q->finish,
                          .stop_token = stop_token};
    struct arena *arena = &q->ticket->arena;
    if (len && !(piece.text.v = arena_strndup(arena, text, len)))
        return ST_OUT_OF_MEMORY;
    if (n && !(piece.tokens = arena_copy(arena, q->held, n * sizeof *q->held)))
        return ST_OUT_OF_MEMORY;
    if (n) {
        memmove(q->held, q->held + n, (q->n_held - n) * sizeof *q->held);
        q->n_held -= n;
    }
    return ticket_emit(q->ticket, &piece);
}

/* Text of the stream's end and what the stop strings held back, into one piece. */
static enum status finish_text(struct sequence *q, const struct text *first, char **text,
                               size_t *len, struct error *err)
{
    const char *rest = "";
    size_t n = 0;
    struct text out = {"", 0};
    bool matched = false;
    enum status st = ST_OK;
    size_t kept = first->len;
    char *all = malloc(kept + 1);
    if (!all)
        return error_memory(err, "a piece of text");
    if (kept)
        memcpy(all, first->v, kept);
    if (q->stream)
        st = token_stream_flush(q->stream, &rest, &n, err);
    if (st == ST_OK)
        st = stop_push(&q->stop, rest, n, &out, &matched);
    if (st == ST_OK) {
        size_t held = matched ? 0 : q->stop.len - q->stop.out;
        char *grown = realloc(all, kept + out.len + held + 1);
        if (grown) {
            all = grown;
            if (out.len)
                memcpy(all + kept, out.v, out.len);
            kept += out.len;
            struct text tail = stop_flush(&q->stop);
            if (held)
                memcpy(all + kept, tail.v, held);
            kept += held;
            if (matched)
                q->finish = FINISH_STOP;
        } else {
            st = ST_OUT_OF_MEMORY;
        }
    }
    if (st != ST_OK) {
        free(all);
        return st;
    }
    *text = all;
    *len = kept;
    return ST_OK;
}

/* One more token: what it adds to the text, and whether the choice ends with it. */
static enum status say(struct sequence *q, struct token_info *info, struct error *err)
{
    const struct sampling *p = &q->request->sampling;
    const char *piece = "";
    size_t n = 0;
    bool matched = false, end = sampler_is_stop(p, info->id);
    struct text out = {"", 0};
    enum status st = ST_OK;
    if (!end && q->stream)
        st = token_stream_push(q->stream, info->id, &piece, &n, err);
    if (st != ST_OK)
        return st;
    info->text_offset = q->text_len;
    info->piece_len = n;
    info->piece = n ? arena_strndup(&q->ticket->arena, piece, n) : "";
    q->text_len += n;
    if (!info->piece || hold(q, info) != ST_OK)
        return error_memory(err, "a token");
    st = stop_push(&q->stop, piece, n, &out, &matched);
    if (st != ST_OK)
        return error_memory(err, "a piece of text");
    if (end || matched)
        q->finish = FINISH_STOP;
    else if (q->len - q->prompt_len >= p->max_tokens || q->len >= q->limit)
        q->finish = FINISH_LENGTH;
    if (q->finish == FINISH_NONE || matched)
        return emit(q, out.v, out.len, -1) == ST_OK ? ST_OK : error_memory(err, "a piece");
    char *text = NULL;
    size_t len = 0;
    st = finish_text(q, &out, &text, &len, err);
    if (st == ST_OK && emit(q, text, len, end ? info->id : -1) != ST_OK)
        st = ST_OUT_OF_MEMORY;
    free(text);
    return st == ST_OUT_OF_MEMORY ? error_memory(err, "a piece of text") : st;
}

/* What may come next by the request's grammar. *complete: nothing, and the text is whole. */
static enum status allowed(struct sequence *q, uint64_t *bits, bool *complete, struct error *err)
{
    const struct request *r = q->request;
    const struct sampling *p = &r->sampling;
    bool ends, any;
    enum status st =
        follow_allowed(grammar_tables(r->grammar), &q->follower, q->tokens + q->prompt_len,
                       q->len - q->prompt_len, bits, &ends, &any, err);
    if (st == ST_OK && !ends && !any)
        st =
            error_set(err, ST_NOT_SUPPORTED, "no token of the vocabulary goes on with the grammar");
    *complete = ends && !any;
    for (size_t i = 0; i < p->n_stops && ends; i++)
        if (p->stops[i] >= 0 && p->stops[i] < r->host->model->vocab)
            bits[p->stops[i] / 64] |= (uint64_t)1 << p->stops[i] % 64;
    return st;
}

/* The choice ends without another token. */
static enum status finish(struct sequence *q, struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    q->finish = FINISH_STOP;
    enum status st = finish_text(q, &(struct text){"", 0}, &text, &len, err);
    if (st == ST_OK && emit(q, text, len, -1) != ST_OK)
        st = error_memory(err, "a piece of text");
    free(text);
    return st;
}

bool sequence_draws(const struct sequence *q, struct draw *out)
{
    const struct request *r = q->request;
    const struct history h = {q->tokens, q->prompt_len, q->len, q->choice, NULL};
    out->token = DRAW_NOT_YET;
    return r->kind == REQUEST_GENERATE && !r->grammar && !q->draft.n &&
           sampler_draws(&r->sampling, &h, r->host->model->vocab, out);
}

enum status sequence_accept(struct sequence *q, const float *logits, const struct draw *drawn,
                            struct sampler *s, struct error *err)
{
    const struct request *r = q->request;
    if (q->len == q->prompt_len && q->echo && emit_echo(q) != ST_OK)
        return error_memory(err, "a piece of text");
    if (!r->sampling.max_tokens) {
        q->finish = FINISH_LENGTH;
        return emit(q, "", 0, -1) == ST_OK ? ST_OK : error_memory(err, "a piece of text");
    }
    bool here = drawn->token == DRAW_NOT_YET; // it is not drawn yet
    if (here ? !sampler_finite(logits, r->host->model->vocab) : drawn->token < 0)
        return non_finite(q, q->len - 1, err);
    struct history h = {q->tokens, q->prompt_len, q->len, q->choice, NULL};
    if (r->grammar) {
        bool complete;
        enum status st = allowed(q, sampler_bits(s), &complete, err);
        if (st != ST_OK || complete)
            return st != ST_OK ? st : finish(q, err);
        h.allowed = sampler_bits(s);
    }
    struct token_info info = {.id = here ? sampler_pick(s, &r->sampling, &h, logits) : drawn->token,
                              .logprob = NAN};
    if (r->sampling.logprobs >= 0) {
        enum status st = fill_logprobs(q, sampler_kernels(s), logits, q->tokens[q->len - 1],
                                       r->sampling.logprobs, &info, err);
        if (st != ST_OK)
            return st;
    }
    ticket_count(q->ticket, &(struct usage){.generated_tokens = 1});
    q->tokens[q->len++] = info.id;
    return say(q, &info, err);
}
