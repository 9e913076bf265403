/* The wording of /v1/chat/completions. */
#ifndef OFTD_SERVER_CHAT_H
#define OFTD_SERVER_CHAT_H

#include "server/completion.h"

extern const struct completion_form chat_form;

#endif
