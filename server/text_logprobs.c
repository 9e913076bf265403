/*
 * Owns whose a token is. What grows by its bytes says so: a token by which a text grows is that
 * text's, one by which a thought or a call grows is nobody's. A token by which nothing grows waits
 * while its bytes are held back by who reads them, since they may turn out to be text: it goes with
 * the next one if the text grows by that much more; other bytes were a tag. A token without bytes
 * (the end, half a character) belongs to the text at hand, or waits with the next byte.
 *
 * The invariant: entries are taken in the order of the tokens, so that those of a text are one
 * range of the list.
 */
#include "server/text_logprobs.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "server/chat.h"

static void begin(struct text_logprobs *l, size_t slot)
{
    l->slot = slot;
    if (l->n_ranges && l->ranges[l->n_ranges - 1].slot == slot)
        return;
    if (!GROW(l->ranges, l->cap_ranges, l->n_ranges + 1, 4)) {
        l->failed = true;
        return;
    }
    l->ranges[l->n_ranges++] = (struct text_range){slot, l->list.len};
}

/* Lets go of those that waited and have none of the last bytes. */
static void drop(struct text_logprobs *l, size_t last)
{
    size_t n = 0, bytes = 0, told = l->read > last ? l->read - last : 0;
    while (n < l->n_tokens && l->tokens[n].end <= told)
        bytes += l->tokens[n++].bytes;
    if (!n)
        return;
    l->n_tokens -= n;
    memmove(l->tokens, l->tokens + n, l->n_tokens * sizeof *l->tokens);
    l->waiting.len -= bytes;
    memmove(l->waiting.v, l->waiting.v + bytes, l->waiting.len);
}

void text_logprobs_read(struct text_logprobs *l, const struct text_growth *g)
{
    l->read += g->bytes;
    l->in = g->slot != NO_TEXT || (!g->bytes && !g->other && !l->apart);
    l->wait = !l->in && (g->bytes ? g->held > 0 : !g->other);
    l->end = l->read + !g->bytes;
    if (g->slot != NO_TEXT) {
        drop(l, g->held + g->grown);
        begin(l, g->slot);
        buffer_add(&l->list, l->waiting.v, l->waiting.len);
        buffer_clear(&l->waiting);
        l->n_tokens = 0;
        l->apart = false;
    } else if (g->bytes || g->other) {
        drop(l, g->held);
        l->apart |= g->other;
    }
}

void text_logprobs_add(struct text_logprobs *l, const struct token_info *t)
{
    struct buffer *to = l->in ? &l->list : &l->waiting;
    size_t before = to->len;
    if (!l->in && !l->wait)
        return;
    if (l->in)
        begin(l, l->slot);
    buffer_text(to, ",");
    chat_logprob(t, to);
    if (l->in || to->failed)
        return;
    if (!GROW(l->tokens, l->cap_tokens, l->n_tokens + 1, 4)) {
        l->failed = true;
        return;
    }
    l->tokens[l->n_tokens++] = (struct waiting_token){l->end, to->len - before};
}

void text_logprobs_write(struct text_logprobs *l, size_t slot, bool unsent, struct buffer *out)
{
    size_t i = 0;
    while (i < l->n_ranges && l->ranges[i].slot != slot)
        i++;
    if (i == l->n_ranges)
        return;
    size_t from = l->ranges[i].from;
    size_t to = i + 1 < l->n_ranges ? l->ranges[i + 1].from : l->list.len;
    if (unsent && l->sent > from)
        from = l->sent < to ? l->sent : to;
    if (to > from) /* without its first comma */
        buffer_add(out, l->list.v + from + 1, to - from - 1);
    if (unsent && to > l->sent)
        l->sent = to;
}

bool text_logprobs_failed(const struct text_logprobs *l)
{
    return l->failed | l->list.failed | l->waiting.failed;
}

void text_logprobs_free(struct text_logprobs *l)
{
    buffer_free(&l->list);
    buffer_free(&l->waiting);
    free(l->ranges);
    free(l->tokens);
}
