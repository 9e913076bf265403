/* What a model thinks before it speaks, told apart from what it says as the text comes in. */
#ifndef OFTD_SERVER_REASONING_H
#define OFTD_SERVER_REASONING_H

#include "core/buffer.h"
#include "server/tool_calls.h"

/* In the order in which a template is asked for them. */
enum reasoning_format {
    REASONING_NONE,
    REASONING_HARMONY,
    REASONING_THINK,
    REASONING_BRACKETS,
    REASONING_COMMAND
};

/* By what the base's chat template contains. */
enum reasoning_format reasoning_format_of(const char *template, size_t len);
/* What begins a thought, and may end a prompt; NULL: nothing does. */
const char *reasoning_open(enum reasoning_format f);
/* Are its tags special tokens, which the text must not leave out? */
bool reasoning_special(enum reasoning_format f);

/* Where it goes. calls NULL: what is said is all content. */
struct reasoning_sink {
    struct buffer *thought, *content;
    struct tool_parser *calls;
};

/* Thoughts between which nothing is said or called are one. */
struct thought {
    size_t from, to; /* of all that was thought */
    size_t before;   /* so many bytes of the content stand before it, and so many calls */
    size_t calls;
    size_t behind; /* where the content behind it begins, once there is some */
};

struct reasoner;

/* open: the prompt ends within a thought. NULL when memory runs out. f is not NONE. */
struct reasoner *reasoner_new(enum reasoning_format f, bool open);
void reasoner_free(struct reasoner *r); /* NULL is fine */
/* Reads more of a choice's text; last: it is all there. */
void reasoner_push(struct reasoner *r, const char *text, size_t len, bool last,
                   const struct reasoning_sink *to);
/* Thoughts so far, in order. NULL is fine: none. */
const struct thought *reasoner_thoughts(const struct reasoner *r, size_t *n);
/* Would the next text be a thought, as far as it is known? NULL is fine: no. */
bool reasoner_thinking(const struct reasoner *r);
/* Bytes that have come and are not read yet. NULL is fine: none. */
size_t reasoner_held(const struct reasoner *r);
/* Memory ran out. */
bool reasoner_failed(const struct reasoner *r);

#endif
