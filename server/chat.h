/* The wording of /v1/chat/completions. */
#ifndef OFTD_SERVER_CHAT_H
#define OFTD_SERVER_CHAT_H

#include "server/completion.h"

extern const struct completion_form chat_form;

/* For responses.c, whose answers are the same in other words. */
/* How the base's thoughts are found in its answer, once the tools and the grammar are known. */
void chat_reasoning(const struct request *q, struct completion *c);
/* Text that came: to the choice's thought, to its text, or to its calls. */
void chat_add_text(struct completion *c, struct choice *x, const struct text *text, bool finished);
/* The calls that may be told. */
struct tool_call *chat_calls(const struct completion *c, const struct choice *x, size_t *n);
/* A token as chats tell logprobs: {token, logprob, bytes, top_logprobs}. */
void chat_logprob(const struct token_info *t, struct buffer *b);

#endif
