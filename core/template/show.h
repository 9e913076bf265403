/*
 * Values as text: str, repr, and JSON as json.dumps writes it.
 */
#ifndef OFTD_CORE_TEMPLATE_SHOW_H
#define OFTD_CORE_TEMPLATE_SHOW_H

#include "core/template/render.h"

enum status show_str(struct render *r, struct value v, struct buffer *b);
enum status show_repr(struct render *r, struct value v, struct buffer *b);
/* str(v) as a value. */
enum status show_text(struct render *r, struct value v, const struct text **out);
/* The shortest digits that read back, as repr(float); returns the length. to holds 32 bytes. */
int show_float(double f, char *to);

struct json_style {
    bool ascii, sort;
    const struct text *indent; /* NULL: one line */
    const struct text *item, *key;
};
enum status show_json(struct render *r, const struct json_style *style, struct value v,
                      struct buffer *b);

#endif
