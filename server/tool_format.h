/* How families write calls of functions: THE table. */
#ifndef OFTD_SERVER_TOOL_FORMAT_H
#define OFTD_SERVER_TOOL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

/* In the order in which a template is asked for them. */
enum tool_format {
    TOOLS_NONE,
    TOOLS_HARMONY,
    TOOLS_RECIPIENT,
    TOOLS_TAGS,
    TOOLS_GLM,
    TOOLS_HERMES,
    TOOLS_DSML_32,
    TOOLS_DSML,
    TOOLS_DEEPSEEK,
    TOOLS_DEEPSEEK_31,
    TOOLS_KIMI,
    TOOLS_COMMAND_R7B,
    TOOLS_COMMAND_R,
    TOOLS_LFM,
    TOOLS_FUNCTION,
    TOOLS_LLAMA,
    TOOLS_MISTRAL_NAMED,
    TOOLS_MISTRAL,
    TOOLS_BAR,
    TOOLS_LIST
};

/* How calls are written, in the words of core/grammar/calls.h, for a grammar that binds them. */
struct tool_writing {
    const char *begin, *head, *middle, *tail, *between,
        *end;                               /* between NULL: one call an opening */
    bool quoted;                            /* names are JSON strings */
    bool python;                            /* arguments are keywords */
    const char *key, *value, *close, *stop; /* or stand in tags; key NULL: they do not */
    const char *other; /* for value, before what is no string; NULL: the tags do not tell */
    const char *plain; /* where the text begins behind `open`: what stands between it and text */
};

/* A call in tags: name f, name_end; for each argument key k, key_end, value v, stop; close. */
struct tool_tags {
    const char *name, *name_end, *key, *key_end, *value, *stop, *close;
    bool lines; /* a value stands on lines of its own */
    bool tells; /* what stands before a value ends with ="true"> if it is a string */
};

struct tool_row {
    const char *evidence[4];      /* the template contains one of these ... */
    const char *also;             /* ... and this (NULL: nothing more) ... */
    const char *others[2];        /* ... and none of these */
    const char *open, *close;     /* "": none */
    const char *inner;            /* before each call within them */
    const char *skip[2];          /* what else may stand between calls; the longer first */
    const char *drop[2];          /* tags that are neither content nor calls */
    bool begun;                   /* the prompt ends with `open`: the text begins behind it */
    bool bare;                    /* a message may be calls without a tag */
    bool named;                   /* a call may be its name, and its arguments behind it */
    const struct tool_tags *tags; /* a call is written in them */
    bool python;                  /* a call is f(k=v); of a bare one: may be */
    bool special;   /* some tag is a special token, which the text must not leave out */
    bool short_ids; /* ids of nine letters and digits */
    bool numbered;  /* a name is functions.f:N, and that the call's id */
    struct tool_writing writing;
};

/* By what the base's chat template contains; NONE: no way of writing that is known. */
enum tool_format tool_format_of(const char *template, size_t len);
const struct tool_row *tool_format_row(enum tool_format f);

#endif
