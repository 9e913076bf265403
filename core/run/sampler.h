/*
 * From logits to a token, as vLLM and transformers do it, in this order:
 *
 *   repetition penalty (over prompt and output: x < 0 ? x * r : x / r), frequency and presence
 *   penalty (over the output: x -= f * count + p), logit_bias, end and stop tokens forbidden until
 *   min_tokens are out, and what the grammar does not allow always; temperature 0 (below 1e-5): the
 *   largest, lowest id on ties; else x / T, top_k, top_p (over what top_k left; the token that
 *   crosses the sum stays), min_p (relative to the most likely), and one draw from what is left, in
 *   order of (logit descending, id), or of id where all are left.
 *
 * The draw is random but not of a state: u = philox(seed; position, choice), so a seeded answer
 * depends on nothing else: no batch, no order, no other request. The exponentials are the kernels',
 * the same bits with every instruction set. Logprobs are of the model's own
 * distribution, before all of the above.
 *
 * A sampler is scratch memory of one thread.
 */
#ifndef OFTD_CORE_RUN_SAMPLER_H
#define OFTD_CORE_RUN_SAMPLER_H

#include "core/engine.h"
#include "core/kernels.h"

/* What a request wants, resolved; all values are in range. */
struct sampling {
    float temperature, top_p, min_p;
    float repetition, presence, frequency;
    int32_t top_k;                     /* <= 0: all */
    int32_t logprobs, prompt_logprobs; /* < 0: none */
    int32_t min_tokens, max_tokens;
    uint64_t seed;
    const struct logit_bias *bias;
    size_t n_bias;
    const int32_t *stops; /* tokens that end a choice: stop_token_ids and, unless ignored, eos */
    size_t n_stops;
};

/* What has been said so far: tokens[0..len), of which the first prompt_len are the prompt. */
struct history {
    const int32_t *tokens;
    int32_t prompt_len, len;
    int32_t choice;
    const uint64_t *allowed; /* a bit for each token that may come next; NULL: all may */
};

struct sampler;
/* kernels: borrowed; of the thread that picks. */
enum status sampler_open(const struct kernels *kernels, int32_t vocab, struct sampler **out,
                         struct error *err);
void sampler_close(struct sampler *s);
const struct kernels *sampler_kernels(const struct sampler *s);

/* Whether a pick reads nothing but the logits as they are, how it is drawn then, and whether no
 * more is wanted of them; *out is set for it, or to DRAW_NOT_YET. */
bool sampler_draws(const struct sampling *p, const struct history *h, int32_t vocab,
                   struct draw *out);
/* Room for such bits, for one pick. */
uint64_t *sampler_bits(struct sampler *s);
/* logits [vocab], all finite -> the next token. */
int32_t sampler_pick(struct sampler *s, const struct sampling *p, const struct history *h,
                     const float *logits);

bool sampler_finite(const float *x, int64_t n);
bool sampler_is_stop(const struct sampling *p, int32_t token);
/* log of the sum of exp(x); x is finite */
double sampler_log_sum(const struct kernels *kernels, const float *x, int32_t n);
static inline float sampler_logprob(float x, double log_sum)
{
    return (float)((double)x - log_sum);
}
/* The k most likely, descending, lowest id first on ties; returns how many (k, or n if fewer). */
int32_t sampler_top(const float *x, int32_t n, double log_sum, int32_t k,
                    struct token_logprob *out);
/* How many of x are at least x[token]: 1 is the most likely. */
int32_t sampler_rank(const float *x, int32_t n, int32_t token);
/* log softmax in place */
void sampler_log_softmax(const struct kernels *kernels, float *x, int32_t n);

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, 2011). */
void sampler_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Uniform in [0, 1), 53 bits. */
double sampler_uniform(uint64_t seed, int32_t choice, int32_t position);

#endif
