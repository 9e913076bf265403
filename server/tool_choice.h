/* Whether and how the answer of a chat may be tool calls: tools, tool_choice, parallel_tool_calls.
 */
#ifndef OFTD_SERVER_TOOL_CHOICE_H
#define OFTD_SERVER_TOOL_CHOICE_H

#include "server/completion.h"

/* Fills what c says of calls, and its request's grammar where a call is demanded. INVALID_VALUE,
 * NOT_SUPPORTED, OUT_OF_MEMORY, and why the base has no template. */
enum status tool_choice_read(struct request *q, struct completion *c, struct error *err);

/* Then: may the text be anything between its calls? */
bool tool_choice_free(const struct completion *c);

#endif
