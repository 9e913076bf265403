/*
 * What the two halves of the parser share: the tokens, the nodes they make, the refusals. The
 * grammar is jinja2's, with its loose ends (a trailing comma, `a if b` without else).
 */
#ifndef OFTD_CORE_TEMPLATE_PARSER_H
#define OFTD_CORE_TEMPLATE_PARSER_H

#include "core/template/lexer.h"
#include "core/template/node.h"

/* Names with a meaning inside a macro: a bit of parser.mentions each. */
enum { MENTION_CALLER = 1, MENTION_VARARGS = 2, MENTION_KWARGS = 4 };

struct parser {
    struct heap *heap;
    struct token *at; /* the current one; TOKEN_END is never passed */
    int depth;        /* of the grammar's recursion */
    int loops;        /* that a break could leave */
    unsigned mentions;
    struct node *missing; /* of the frame at hand: the first filter or test that there is not */
    struct error *err;
};

/* All of these return NULL (or false) after they set the error. */

/* A node of one to three children (each may be NULL). */
struct node *parser_node(struct parser *p, enum node_kind kind, int line, struct node *a,
                         struct node *b, struct node *c);
/* Appends child to a list of parent; *end is where the next one goes (NULL: the first). */
void parser_append(struct node *parent, struct node **list, struct node ***end, struct node *child);
/* An empty parenthesis of the recursion: false when it is too deep. Pairs with p->depth--. */
bool parser_enter(struct parser *p);

/* A part of a template that jinja2 compiles as a frame of its own begins and ends: what is missing
 * in it is refused. What is missing within an if fails when it is reached: an if puts p->missing
 * back. */
struct node *parser_frame(struct parser *p);
bool parser_frame_end(struct parser *p, struct node *outside);
/* Refuses a filter or test by the name in n->text: NULL. */
void *parser_no_native(struct parser *p, const struct node *n);

bool parser_is(const struct parser *p, enum token_kind kind);
bool parser_is_name(const struct parser *p, const char *name);
struct token *parser_next(struct parser *p); /* the current one, moving on */
bool parser_skip(struct parser *p, enum token_kind kind);
bool parser_skip_name(struct parser *p, const char *name);
struct token *parser_expect(struct parser *p, enum token_kind kind);
void *parser_invalid(struct parser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *parser_unsupported(struct parser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *parser_memory(struct parser *p);

/* expression.c */
struct node *expression_parse(struct parser *p, bool with_condition);
/* One expression, or a tuple without parentheses. */
struct node *expression_tuple(struct parser *p, bool with_condition, bool parentheses);
/* Does the current token end a tuple? */
bool expression_tuple_ends(const struct parser *p);
struct node *expression_name(struct parser *p, const struct token *t);
/* Filters from the current `|` on (or, with inline_first, from a name on) applied to `to`. */
struct node *expression_filters(struct parser *p, struct node *to, bool inline_first);

/* statement.c: statements up to a tag that begins with one of `ends` (names with blanks between;
 * NULL: up to the end of the text). The parser stands on that name. */
bool statement_parse(struct parser *p, const char *ends, struct node *parent, struct node **list);

#endif
