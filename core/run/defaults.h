/* What a request that says nothing gets: generation_config.json's values (as vLLM takes them: each
 * key by itself, whatever do_sample says), else OpenAI's. A value that is out of range is as good
 * as absent. */
#ifndef OFTD_CORE_RUN_DEFAULTS_H
#define OFTD_CORE_RUN_DEFAULTS_H

#include "core/run/sampler.h"

#define DEFAULT_MAX_TOKENS 16 /* of OpenAI's completions */

/* generation may be NULL; max_tokens 0: it says nothing. */
void defaults_read(const json_t *generation, struct sampling *out);

#endif
