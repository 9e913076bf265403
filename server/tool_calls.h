/*
 * Tool calls in what a model says: found as the text comes in, however it is cut into pieces.
 */
#ifndef OFTD_SERVER_TOOL_CALLS_H
#define OFTD_SERVER_TOOL_CALLS_H

#include <jansson.h>

#include "core/buffer.h"
#include "server/tool_format.h"

#define TOOL_ID_MAX 96

struct tool_call {
    char id[TOOL_ID_MAX];
    struct buffer name;
    struct buffer arguments; /* a JSON text; grows while it comes */
    size_t before;           /* so many bytes of the content stand before it */
    bool told;               /* it is surely a call: name and id may be told */
    bool whole;              /* its arguments have ended */
    bool announced;          /* for the writer of frames: has been told, and so much of the */
    size_t sent;             /* arguments with it */
};

struct tool_parser;

/* format is not NONE. tools: of the request, in the chat's words, borrowed (NULL: unknown); the
 * types of arguments are looked up in them where the text does not say them. NULL when memory runs
 * out. */
struct tool_parser *tool_parser_new(enum tool_format format, const json_t *tools);
void tool_parser_free(struct tool_parser *p); /* NULL is fine */
/* Reads more of a choice's text; last: it is all there. What is no call is appended to content. */
void tool_parser_push(struct tool_parser *p, const char *text, size_t len, bool last,
                      struct buffer *content);
/* Calls so far, in order; the last may lack its name (not told yet). NULL is fine: none. */
struct tool_call *tool_parser_calls(struct tool_parser *p, size_t *n);
/* Bytes that have come and are neither content nor a call yet. NULL is fine: none. */
size_t tool_parser_held(const struct tool_parser *p);
/* Memory ran out: content and calls are not whole. */
bool tool_parser_failed(const struct tool_parser *p);

#endif
