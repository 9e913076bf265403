/* The wording of /v1/responses. */
#ifndef OFTD_SERVER_RESPONSES_H
#define OFTD_SERVER_RESPONSES_H

#include "server/completion.h"

extern const struct completion_form responses_form;

#endif
