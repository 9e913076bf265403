/*
 * Reading what stands within one call, byte by byte, for tool_calls.c: three ways of writing, three
 * readers (tool_json.c, tool_tags.c, tool_python.c). A reader fills a call's name and arguments, a
 * JSON text, and says when it is surely a call (told); what it has put there it never takes back.
 */
#ifndef OFTD_SERVER_TOOL_READER_H
#define OFTD_SERVER_TOOL_READER_H

#include "server/tool_calls.h"
#include "server/tool_format.h"

#define TOOL_HEAD_MAX 256 /* bytes of a name and what stands around it */
#define TOOL_DEPTH    64

enum reading {
    READ_ON,
    READ_WHOLE, /* the call has ended */
    READ_BROKEN /* it is none, or (told) goes on wrongly */
};

struct tool_reader {
    const struct tool_row *row;
    const json_t *tools;          /* of the request, for the types of arguments; NULL: unknown */
    int state;                    /* the reader's own */
    struct buffer word;           /* a key, a name, a value that is not told yet */
    int target;                   /* of the value that is read */
    char kind;                    /* its first character, or its quote */
    int depth;                    /* of brackets within it */
    char open[TOOL_DEPTH];        /* what closes them */
    bool string, escape;          /* where in it we are */
    bool comma;                   /* stands before what follows */
    bool whole;                   /* the value is the whole call: no object around it */
    bool text;                    /* it is a string, whatever it looks like */
    unsigned types;               /* that it may have */
    unsigned high;                /* the first half of a character that is written as two */
    bool has_name, has_arguments; /* the call */
    bool failed;                  /* memory ran out */
};

/* Takes the next byte of the call. *taken false: it belongs to what follows. */
typedef enum reading tool_read(struct tool_reader *r, struct tool_call *call, char c, bool *taken);
/* From { on; from a name on (named). */
tool_read tool_json_read, tool_json_read_named;
tool_read tool_tags_read;   /* from a name on */
tool_read tool_python_read; /* from a name on */

/* For the readers: text as the inside of a JSON string. */
void tool_reader_escape(const char *text, size_t len, struct buffer *out);
bool tool_reader_space(char c);
/* Does the end of word spell text? */
bool tool_reader_ends(const struct buffer *word, const char *text);

#endif
