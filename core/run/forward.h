/*
 * The raw pass: sequences that only read. Every row's results lie in one block that is sized, and
 * held against the reply's limit, before anything is computed; passes write into it directly.
 */
#ifndef OFTD_CORE_RUN_FORWARD_H
#define OFTD_CORE_RUN_FORWARD_H

#include "core/run/request.h"

#define BYTES_A_NUMBER  12 /* of a reply in decimal digits, about */
#define OUTPUTS_OF_HEAD (OUTPUT_LOGITS | OUTPUT_LAST_LOGITS | OUTPUT_LOGPROBS)

/* rows * width numbers in one reply; REPLY_TOO_LARGE. */
enum status forward_check_reply(const struct request_host *host, int64_t rows, int64_t width,
                                struct error *err);
/* The same for all outputs of a request, if every prompt's length is known already. */
enum status forward_check_size(const struct request *r, struct error *err);
/* Result buffers, once ids and routes are known. NOT_SUPPORTED: a row without a head. */
enum status forward_plan(struct ticket *t, struct error *err);

/* Does a row deliver at other positions than its last? */
bool forward_per_position(const struct request *r, int32_t row);
/* Where position pos of the sequence delivers (NULL members: nowhere); false: it does not. */
bool forward_output(const struct sequence *q, int32_t pos, struct row_output *out);
/* Positions [from, from + n) have been delivered: what is derived from them. NON_FINITE_OUTPUT. */
enum status forward_finish(const struct sequence *q, int32_t from, int32_t n,
                           const struct kernels *kernels, struct error *err);

#endif
