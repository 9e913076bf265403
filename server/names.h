/* Names of adapters in requests: `model`, `adapter`, lists in order. Results live in the request's
 * arena. */
#ifndef OFTD_SERVER_NAMES_H
#define OFTD_SERVER_NAMES_H

#include "server/request.h"

/* A name or a list of names (checked by the field table; NULL: none). */
enum status names_read(struct request *q, const json_t *value, struct name_list *out,
                       struct error *err);
/* `model` and `adapter` together: model is the base, an adapter, or base:adapter; with `adapter`
 * beside it the two must agree. *by_model: the adapter was named by `model` alone, so if there is
 * none of that name, it is the model that was not found. */
enum status names_resolve(struct request *q, const char *model, const json_t *adapter,
                          struct name_list *out, bool *by_model, struct error *err);
/* An adapter that `model` named is, to the client, a model: what err says becomes that. */
void names_not_found(bool by_model, const char *model, struct error *err);
/* x-adapter-id and x-adapter-digest of what a ticket ran on. */
void names_headers(struct request *q, const struct adapter_ref *refs, size_t n);

#endif
