/*
 * What a base makes of a conversation: the chat templates that its folder brings, and a
 * conversation as the text of a prompt. Rendering is the work of an intake thread (request.c).
 */
#ifndef OFTD_CORE_RUN_CHAT_H
#define OFTD_CORE_RUN_CHAT_H

#include "core/buffer.h"
#include "core/engine.h"

struct chat_templates;

/* A folder without templates, or with one that cannot be read or run, is ST_OK: such a base serves
 * everything else, and conversations are told why. OUT_OF_MEMORY. */
enum status chat_templates_load(const char *dir, struct chat_templates **out, struct error *err);
void chat_templates_free(struct chat_templates *c); /* NULL is fine */

/* The template for a conversation with or without tools: ST_OK, CHAT_TEMPLATE_MISSING, or why it
 * cannot be run (TEMPLATE_*, FILE_UNREADABLE, ...). text (may be NULL): its text, borrowed; {NULL}
 * where there is none. */
enum status chat_templates_find(const struct chat_templates *c, bool tools, struct text *text,
                                struct error *err);
/* Appends the text of the prompt. `now`: Unix seconds, for strftime_now. TEMPLATE_* and
 * LIMIT_EXCEEDED as template_render; INVALID_VALUE when the last message cannot be continued. */
enum status chat_render(const struct chat_templates *c, const struct chat *chat, int64_t now,
                        struct buffer *out, struct error *err);

/* Does the text of the conversation's prompt end within a thought that its template has begun? */
bool chat_thinks(const struct chat *chat, const char *prompt, size_t len);

/* Bytes of all texts in a value; NULL has none. */
int64_t chat_bytes(const json_t *value);

#endif
