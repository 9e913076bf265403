/* The wording of /v1/chat/completions. */
#ifndef OFTD_SERVER_CHAT_H
#define OFTD_SERVER_CHAT_H

#include "server/completion.h"

extern const struct completion_form chat_form;

/* One more token in a list as chats tell logprobs: {token, logprob, bytes, top_logprobs}. */
void chat_logprob(struct choice *x, const struct token_info *t);

#endif
