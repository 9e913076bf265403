/* What a request may say that its text must be. */
#ifndef OFTD_CORE_GRAMMAR_KIND_H
#define OFTD_CORE_GRAMMAR_KIND_H

enum grammar_kind {
    GRAMMAR_NONE,
    GRAMMAR_JSON_OBJECT, /* any object; no text */
    GRAMMAR_JSON_SCHEMA, /* text: the schema as JSON */
    GRAMMAR_REGEX,       /* the whole text matches */
    GRAMMAR_CHOICE,      /* text: a JSON list of strings, of which it is one */
    GRAMMAR_GBNF,
    GRAMMAR_CALLS /* text: core/grammar/calls.h */
};

#endif
