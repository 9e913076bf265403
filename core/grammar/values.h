/*
 * The values of JSON as fragments: what a schema says nothing about, and what it narrows.
 *
 * White space is what people write: nothing, one space, or a new line and up to 20 spaces or tabs;
 * a text that goes on for ever is none. Python's spelling differs in its words (True, False, None),
 * in strings between ' too, where they are bound by nothing or a constant, and in what stands
 * behind a backslash.
 */
#ifndef OFTD_CORE_GRAMMAR_VALUES_H
#define OFTD_CORE_GRAMMAR_VALUES_H

#include <jansson.h>

#include "core/grammar/builder.h"
#include "core/grammar/chars.h"

/* How values are spelled. */
enum spelling { SPELLED_JSON, SPELLED_PYTHON };

/* Rules that are shared; -1: not there yet. */
struct values {
    struct builder *b;
    enum spelling spelling;
    int64_t digits; /* most of a number behind its first one, and behind the point */
    int32_t space, value, object, array, string, number;
};

void values_open(struct values *v, struct builder *b);

struct fragment values_space(struct values *v);
struct fragment values_any(struct values *v);
struct fragment values_object(struct values *v);
struct fragment values_array(struct values *v);
struct fragment values_number(struct values *v);
struct fragment values_integer(struct values *v);
struct fragment values_boolean(struct values *v);
struct fragment values_null(struct values *v);
/* A string of from..to characters (to REPEAT_MANY: any number). */
struct fragment values_string(struct values *v, int64_t from, int64_t to);
/* Between double quotation marks. */
struct fragment values_quoted(struct values *v, struct fragment content);
/* Just this value; a string in its canonical spelling, white space as above. */
struct fragment values_constant(struct values *v, const json_t *value);
/* `open` and what stands between it and `close`, with white space. */
struct fragment values_between(struct values *v, char open, struct fragment inner, char close);
/* A comma with white space behind it. */
struct fragment values_comma(struct values *v);
/* name: value */
struct fragment values_member(struct values *v, struct fragment name, struct fragment value);

/* Whole numbers from low to high, canonical. */
struct fragment values_integers(struct values *v, int64_t low, int64_t high);

/* An end of a range of numbers. */
struct bound {
    bool given, open; /* open: the end itself is not in it */
    double at;
};
/* Decimals without exponent within the bounds. INVALID_VALUE: no such number, or a bound of 1e15
 * and more. */
enum status values_decimals(struct values *v, struct bound low, struct bound high,
                            struct fragment *out, struct error *err);

#endif
