/* The handlers that the route table names, by file. */
#ifndef OFTD_SERVER_HANDLERS_H
#define OFTD_SERVER_HANDLERS_H

#include "server/request.h"

/* route_completions.c, route_forward.c, route_module.c, route_tokenize.c */
request_step route_completions, route_chat_completions, route_responses, route_forward,
    route_forward_module, route_tokenize, route_detokenize, route_apply_template;
/* route_embeddings.c, route_scores.c */
request_step route_embeddings, route_score, route_rerank;
/* route_models.c */
request_step route_models, route_model_by_id, route_model, route_props;
/* route_adapters.c */
request_step route_adapters_list, route_adapters_get, route_adapters_load, route_adapters_unload,
    route_adapters_batch, route_adapters_validate;
/* route_lora.c */
request_step route_lora_load, route_lora_unload, route_sagemaker_load, route_sagemaker_unload;
/* route_v2_models.c, route_v2_infer.c, route_v2_generate.c */
request_step route_v2_server, route_v2_metadata, route_v2_model_ready, route_v2_index,
    route_v2_load, route_v2_unload, route_v2_infer, route_v2_generate, route_v2_generate_stream;
/* route_merge.c */
request_step route_merge, route_merges, route_unmerge, route_export;
/* route_page.c */
request_step route_page, route_page_file;
/* route_status.c, metrics.c, openapi.c */
request_step route_health, route_v2_live, route_v2_ready, route_metrics, route_openapi;
/* routes.c: a route of the contract that this version does not serve: 501 */

#endif
