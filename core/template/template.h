/*
 * Chat templates: Jinja as transformers runs it (an immutable sandbox, trim_blocks, lstrip_blocks,
 * no autoescape, the loopcontrols extension, its own tojson, raise_exception, strftime_now and the
 * generation tag), from text to text. What published templates use is here; the rest is refused by
 * name and line when the template is parsed, not when a client first needs it.
 */
#ifndef OFTD_CORE_TEMPLATE_TEMPLATE_H
#define OFTD_CORE_TEMPLATE_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/status.h"

/* Immutable once parsed: many threads may render it at once. */
struct template;

/* Reads len bytes of UTF-8; text may go afterwards. Errors: TEMPLATE_INVALID (what jinja2 calls a
 * syntax error), TEMPLATE_UNSUPPORTED (a tag, filter, test, function or method that jinja2 may know
 * and we do not), OUT_OF_MEMORY; each names the line. *out is NULL after an error. */
enum status template_parse(const char *text, size_t len, struct template **out, struct error *err);
void template_free(struct template *t); /* NULL is fine */

/* What one rendering may take; 0 is the default. */
struct template_limits {
    uint64_t steps; /* nodes evaluated, items visited, 64-byte pieces of text compared */
    size_t memory;  /* bytes of values alive or dead */
    size_t output;  /* bytes appended to out */
};

/*
 * Renders with an object of variables (borrowed, not changed). `now` is in Unix seconds, shown in
 * local time by strftime_now. Appends to out; what was appended before an error stays there.
 *
 * Errors: TEMPLATE_RAISED (raise_exception; the text is the template's), TEMPLATE_FAILED (what
 * would be an exception of jinja2 or Python), TEMPLATE_UNSUPPORTED (what only a run can tell, such
 * as an integer beyond 64 bits), LIMIT_EXCEEDED, OUT_OF_MEMORY.
 */
enum status template_render(const struct template *t, json_t *variables, int64_t now,
                            const struct template_limits *limits, struct buffer *out,
                            struct error *err);

#endif
