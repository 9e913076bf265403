/* What the bodies of inference requests have in common. The body has been checked against the field
 * table; results live in the request's arena. */
#ifndef OFTD_SERVER_INPUTS_H
#define OFTD_SERVER_INPUTS_H

#include "server/request.h"

/* A list of token ids (NULL: none); NULL when memory runs out. */
int32_t *inputs_ids(struct request *q, const json_t *list, size_t *n);
/* The field `name`, of type PROMPT: a string, strings, ids, or lists of ids. */
enum status inputs_prompts(struct request *q, const char *name, const struct prompt **out,
                           size_t *n, struct error *err);
/* `strength` for n adapters; *out is NULL where it is absent. */
enum status inputs_strengths(struct request *q, size_t n, const float **out, struct error *err);
/* `model`, `adapter` and `strength` for every row of r: *model is what the reply calls it,
 * *by_model as names_resolve tells it. */
enum status inputs_row_adapters(struct request *q, struct forward_request *r, const char **model,
                                bool *by_model, struct error *err);
/* `compute`: an enum compute, or -1 where it is absent. */
int inputs_compute(const json_t *body);

#endif
