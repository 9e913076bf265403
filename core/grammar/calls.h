/*
 * Texts with calls of functions in them, written as a family writes its calls; their arguments are
 * bound by schemas. The description is a JSON object:
 *
 *   open      what begins calls ("": none does)      begin    what stands before the first call
 *   head      what stands before a call's name       middle   between its name and its arguments
 *   tail      behind its arguments                   between  between two calls (null: there is
 * one) end       behind the last call                   most     calls at most (0: any number) free
 * text may stand around them; such text never holds `open` bare      a whole text may be calls
 * without `open` and `begin`; other text begins otherwise calls     [{"name": as it is written,
 * "schema": of the arguments (absent: any object), "param": the field of the request that the
 * schema is}]
 *
 *   python    the arguments are f's keywords, between brackets
 *   key, value, close   the arguments stand in tags: key, a name, value, a value, close
 *   other     stands for value before what is no string; absent: the type does not show
 *   plain     the text begins behind `open`, where it is this and text, or calls; so behind every
 *             other `open`
 *   stop      within close: what ends a value to who reads it
 *
 * How these texts are read: arguments_word in schema_arguments.h.
 */
#ifndef OFTD_CORE_GRAMMAR_CALLS_H
#define OFTD_CORE_GRAMMAR_CALLS_H

#include <jansson.h>

#include "core/grammar/builder.h"

/* Defines rule 0. INVALID_VALUE: of a schema, naming it; or the description is none. */
enum status calls_read(struct builder *b, const json_t *description, struct error *err);

#endif
