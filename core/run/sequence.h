/*
 * One choice of one prompt (or one row of a raw pass): its tokens, the KV pages it holds, and the
 * way from a logit row to a piece of text. Made by intake, run by the worker.
 *
 *   tokens    [0 ............ prompt_len ........ len)        limit: where it must stop; what lies
 *             behind len is a guess (draft.h)
 *   computed  K and V of [0, computed) are stored; the pass of a step does the next ones
 *   wanted    outputs of [0, wanted) have been delivered: a sequence that was preempted computes
 *             its positions again but delivers nothing twice
 *
 * The text of a choice is what its tokens add to the text of its prompt (decode(prompt + output)
 * without decode(prompt)), so that a completion begins with its space. Tokens leave with the piece
 * that completes their text; while a stop string may be forming both are held back.
 */
#ifndef OFTD_CORE_RUN_SEQUENCE_H
#define OFTD_CORE_RUN_SEQUENCE_H

#include "core/grammar/follow.h"
#include "core/run/draft.h"
#include "core/run/fair.h"
#include "core/run/kvcache.h"
#include "core/run/request.h"
#include "core/run/stop.h"

enum sequence_state {
    SEQUENCE_NEW,     /* not the worker's yet, or waits for the first choice's prompt */
    SEQUENCE_WAITING, /* in a lane */
    SEQUENCE_RUNNING,
    SEQUENCE_DONE
};

struct sequence {
    struct ticket *ticket;
    struct request *request;
    const struct route *route;
    int32_t prompt, choice;
    enum sequence_state state;
    uint64_t order; /* of submission */

    int32_t *tokens;      /* [limit] */
    const int32_t *types; /* [prompt_len], the request's; NULL: all 0 */
    int32_t len, prompt_len, limit;
    int32_t computed, wanted;
    bool whole;     /* an encoder's: all positions in one pass, no prefix of it means anything */
    bool stretched; /* what is stored was turned as in a sequence longer than model->stretch_at */
    bool per_position; /* outputs of prompt positions are wanted: no prefix may be skipped */
    bool ran;          /* it has run before */
    bool passed;       /* it had its chance in this step (planning) */

    int32_t *pages; /* [page_cap]; entries [first_page, n_pages) are held */
    int32_t n_pages, first_page, page_cap;
    uint8_t key[PREFIX_KEY]; /* of block `known` - 1 */
    int32_t known;           /* blocks whose keys have been chained */

    struct sequence *prev, *next; /* in a lane */
    struct lane lane;
    int32_t rows; /* of the step being planned: unread positions, then some of the draft's */
    int32_t slot; /* its first logits of the step (batch.h) */
    struct draft draft;

    struct follower follower;    /* where the choice stands in the request's grammar */
    struct token_stream *stream; /* NULL: no tokenizer, or a raw pass */
    struct stop stop;
    size_t text_len, text_out; /* bytes of the choice's text so far, and of those that left */
    struct token_info *held;   /* tokens that have not left */
    size_t n_held, held_cap;
    struct token_info *echo; /* [prompt_len] or NULL; the first choice's, which scores it */
    struct text echo_text;
    enum finish_reason finish;
    int64_t last_token; /* ns, for the figures */
};

static inline int32_t pages_for(int64_t positions)
{
    return (int32_t)((positions + KV_PAGE - 1) / KV_PAGE);
}

/* q is zeroed but for ticket, request, route, prompt, choice; copies ids. */
enum status sequence_open(struct sequence *q, const int32_t *ids, int32_t n, int32_t limit,
                          struct error *err);
/* Frees everything but what the ticket's pieces point to; pages must be dropped before. */
void sequence_clear(struct sequence *q);

/* ---- pages (worker) ---- */

/* Must all that is stored be computed again, because the sequence has outgrown stretch_at (of the
 * model; 0: never)? */
static inline bool sequence_outgrown(const struct sequence *q, int32_t stretch_at)
{
    return stretch_at > 0 && q->len > stretch_at && !q->stretched;
}
/* The length of sequence by which position pos is turned (struct batch). */
int32_t sequence_turns_by(const struct sequence *q, int32_t pos);
/* Starts from nothing: takes what the prefix cache has; returns the positions found there. */
int32_t sequence_match(struct sequence *q, struct kvcache *c, const struct model *m);
/* Pages for positions [0, upto); false: there are not enough, what was taken is kept. */
bool sequence_reserve(struct sequence *q, struct kvcache *c, int64_t upto);
/* Gives back the pages behind those of the text: refused guesses were stored there. */
void sequence_trim(struct sequence *q, struct kvcache *c);
/* Guesses what comes next as far as it may be computed with the next token; see draft.h. */
void sequence_guess(struct sequence *q, const struct model *m);
/* `rows` more positions are stored: full pages become known, those behind the window go back. */
void sequence_computed(struct sequence *q, struct kvcache *c, int32_t rows, int32_t window);
void sequence_drop_pages(struct sequence *q, struct kvcache *c);

/* ---- outputs (worker) ---- */

/* logits [vocab] of prompt position pos: the logprob of the next prompt token. */
enum status sequence_prompt_logits(struct sequence *q, int32_t pos, const float *logits,
                                   const struct kernels *kernels, struct error *err);
/* Whether nothing but the logits of the last position, as they are, says what comes next, and how
 * it is drawn of them; *out is set for it, or to DRAW_NOT_YET. */
bool sequence_draws(const struct sequence *q, struct draw *out);
/* logits of the last position, or what has been drawn of them: draws, decodes, emits. finish tells
 * whether the choice ended. */
enum status sequence_accept(struct sequence *q, const float *logits, const struct draw *drawn,
                            struct sampler *s, struct error *err);

#endif
