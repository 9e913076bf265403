/*
 * One generating request between its JSON and its answer: what was asked (for the engine), and the
 * choices as their pieces come in. Whole answers and stream frames are written from the same
 * choices. What is generated from, and how a choice is worded, is the form's: text here
 * (/v1/completions), messages in chat.c (/v1/chat/completions).
 */
#ifndef OFTD_SERVER_COMPLETION_H
#define OFTD_SERVER_COMPLETION_H

#include "server/reasoning.h"
#include "server/request.h"
#include "server/text_logprobs.h"
#include "server/tool_calls.h"

struct completion;

struct choice {
    struct buffer text; /* all of it so far; of a chat: without its tool calls */
    struct buffer ids;  /* JSON lists without brackets, since the last frame */
    struct buffer tokens, logprobs, tops, offsets; /* a chat fills logprobs alone */
    struct buffer scores;                          /* of the prompt, as vLLM tells them */
    double sum_logprobs;                           /* of its n_tokens, when choices are ranked */
    size_t n_tokens;
    size_t index; /* as the reply calls it */
    bool told;
    size_t bytes, characters; /* text_offset of the last token, in both units */
    size_t read;              /* bytes that have come */
    size_t sent;              /* of text, in frames */
    bool any, any_logprob;
    enum finish_reason finish;
    struct tool_parser *tools;     /* chat: NULL until a piece came, or no tools */
    struct reasoner *reasoner;     /* chat: NULL until a piece came, or no reasoning */
    struct buffer thought;         /* chat: all of it so far */
    size_t thought_sent;           /* of it, in frames */
    struct text_logprobs of_texts; /* of a response */
    bool begun, closed; /* chat: the frames of the role and of the end have been written */
};

/* One wording of generation. */
struct completion_form {
    const char *prefix, *object, *chunk; /* of the id; of a whole answer and of a frame */
    /* The fields of a grammar's schema: of the text; of tool %zu's arguments (a format). */
    const char *schema, *parameters;
    /* What is generated from, and the fields of this form alone. */
    enum status (*read)(struct request *q, struct completion *c, struct error *err);
    /* Text that came, of one token at most, the last of its choice: finished. */
    void (*add_text)(struct completion *c, struct choice *x, const struct text *text,
                     bool finished);
    /* Of the token whose text came last. */
    void (*add_logprob)(struct choice *x, const struct token_info *t);
    /* Is there something in choice x that a frame should tell? */
    bool (*pending)(const struct completion *c, const struct choice *x);
    /* Choice x as JSON: the next frame's part of what is new, or (whole) all. */
    void (*write)(struct completion *c, struct choice *x, bool whole, struct buffer *out);
    /* A form whose answer is no list of choices has these instead of the two above: the whole
     * answer; the frames of what is new in choice x; those of the end. */
    void (*answer)(const struct request *q, struct completion *c, const struct usage *usage,
                   struct buffer *out);
    void (*frames)(const struct request *q, struct completion *c, struct choice *x,
                   struct buffer *out);
    void (*end)(const struct request *q, struct completion *c, const struct usage *usage,
                struct buffer *out);
    /* (optional) Before anything is answered: is it what was asked for? */
    enum status (*admitted)(const struct request *q, const struct completion *c, struct error *err);
};
extern const struct completion_form text_form; /* completion.c */

struct completion {
    const struct completion_form *form;
    struct generate_request request;
    const json_t *body; /* what is read: the request's, or as_chat */
    json_t *as_chat;    /* responses: the chat that says the same; owned */
    const char *model;  /* as the reply calls it */
    bool stream, include_usage, return_ids, with_logprobs;
    bool by_model; /* the adapter came from `model` alone */
    int64_t created;
    struct choice *choices;
    size_t n_choices;                /* of all prompts */
    size_t told;                     /* of each prompt: fewer than there are with best_of */
    struct chat chat;                /* chat: the conversation, its variables owned */
    enum tool_format tool_format;    /* chat: how calls are found in the text */
    enum reasoning_format reasoning; /* chat: how thoughts are found in it */
    bool thinks;                     /* chat: the prompt has begun a thought */
    int64_t thought_tokens;          /* chat: of all choices */
    const json_t *allowed;           /* chat: the tools that may be called; NULL: all */
    bool one_call;                   /* chat: of several calls the first alone is told */
    bool named_call;                 /* chat: the one function that must be called */
    void *own;                       /* the form's, in the request's arena */
    int64_t sequence;                /* responses: the number of the next event */
    struct piece first;              /* read before the stream began */
    bool has_first;
};

/* Reads the checked body of q; everything borrowed lives in q (its JSON, its arena). *out is freed
 * with completion_free. */
enum status completion_read(struct request *q, const struct completion_form *form,
                            struct completion **out, struct error *err);
void completion_free(void *completion);

/* Adds a piece to its choice and returns it; NULL when memory ran out. */
struct choice *completion_add(struct completion *c, const struct piece *p);
/* The choices of a whole answer, without brackets; with best_of the best of each prompt. */
void completion_whole(struct completion *c, struct buffer *out);
void completion_usage(const struct usage *u, struct buffer *out);

/* Reads the checked body of q, generates and answers, in the form's words (route_completions.c). */
void route_generate(struct request *q, const struct completion_form *form);

/* For the forms. */
/* A token's text as JSON; a number that JSON has; `null` or the reason's name as JSON. */
void completion_token_text(struct buffer *b, const char *piece, size_t len, int32_t id);
void completion_logprob(struct buffer *b, float f);
const char *completion_finish(enum finish_reason r);
/* before, what the list holds (a JSON list without brackets), and "]"; the list is empty after. */
void completion_list(struct buffer *out, const char *before, struct buffer *list);

#endif
