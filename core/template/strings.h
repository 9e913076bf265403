/*
 * What methods of str and filters of text share: searching, cutting, cases. All count in code
 * points where Python does.
 */
#ifndef OFTD_CORE_TEMPLATE_STRINGS_H
#define OFTD_CORE_TEMPLATE_STRINGS_H

#include "core/template/render.h"

enum strings_case {
    STRINGS_UPPER,
    STRINGS_LOWER,
    STRINGS_CAPITALIZE,
    STRINGS_TITLE, /* str.title: a word is a run of cased letters */
    STRINGS_SWAP
};
enum status strings_case(struct render *r, const struct text *t, enum strings_case how,
                         struct value *out);
/* strip; chars NULL: white space. */
enum status strings_strip(struct render *r, const struct text *t, const struct text *chars,
                          bool left, bool right, struct value *out);
/* max < 0: all. */
enum status strings_replace(struct render *r, const struct text *t, const struct text *old,
                            const struct text *new, int64_t max, struct value *out);
/* A list of parts; sep NULL: white space. max < 0: all. */
enum status strings_split(struct render *r, const struct text *t, const struct text *sep,
                          int64_t max, bool from_right, struct value *out);
/* The last place of a text that is not empty in v[0..n), or NULL. */
const char *strings_last(const char *v, size_t n, const struct text *what);
enum status strings_lines(struct render *r, const struct text *t, bool keep, struct value *out);
/* Padded to a width; side < 0: text at the left, > 0: at the right, 0: in the middle. */
enum status strings_pad(struct render *r, const struct text *t, int64_t width, const char *fill,
                        size_t fill_len, int side, struct value *out);
enum status strings_escape(struct render *r, const struct text *t, struct value *out);
/* The same, unless it is escaped (jinja2's Markup). */
enum status strings_escaped(struct render *r, const struct text *t, struct value *out);
/* Would strings_escaped change it? */
bool strings_escapes(const struct text *t);
/* Takes t for escaped. */
enum status strings_mark(struct render *r, const struct text *t, struct value *out);
/* What is made of an escaped text, a text or texts, is escaped. s: how the making went. */
enum status strings_keep(struct render *r, enum status s, const struct text *of, struct value *out);
/* Joins str of each item; strict: they must be texts (str.join). */
enum status strings_join(struct render *r, const struct text *between, struct value items,
                         bool strict, struct value *out);

#endif
