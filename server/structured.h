/* What a body says that the text must be: response_format (OpenAI's) or structured_outputs
 * (vLLM's). */
#ifndef OFTD_SERVER_STRUCTURED_H
#define OFTD_SERVER_STRUCTURED_H

#include "server/request.h"

/* body: that of q, or one that says the same; schema_param: q's own field of the schema in
 * response_format. Fills grammar, its text, which lives in q's arena, and its field. INVALID_VALUE:
 * both, or several at once; what is wrong with a schema, regex or grammar itself is found when it
 * is compiled. */
enum status structured_read(struct request *q, const json_t *body, const char *schema_param,
                            struct generate_request *r, struct error *err);

#endif
