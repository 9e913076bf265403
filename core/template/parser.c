/*
 * Owns the parser's hands: taking tokens, making nodes, refusing. A tree deeper than DEPTH_MAX is
 * refused here, so that no walk over it needs to look where its stack ends.
 */
#include "core/template/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX   300 /* of the tree */
#define NESTING_MAX 120 /* of the grammar's recursion, about ten calls each */

static void *refuse(struct parser *p, enum status s, int line, const char *fmt, va_list ap)
{
    char text[512];
    vsnprintf(text, sizeof text, fmt, ap);
    if (!p->err || p->err->code == ST_OK) // the first one counts
        error_set(p->err, s, "chat template, line %d: %s", line, text);
    return NULL;
}

void *parser_invalid(struct parser *p, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    refuse(p, ST_TEMPLATE_INVALID, line, fmt, ap);
    va_end(ap);
    return NULL;
}

void *parser_unsupported(struct parser *p, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    refuse(p, ST_TEMPLATE_UNSUPPORTED, line, fmt, ap);
    va_end(ap);
    return NULL;
}

void *parser_memory(struct parser *p)
{
    error_memory(p->err, "parsing a chat template");
    return NULL;
}

bool parser_enter(struct parser *p)
{
    if (p->depth++ < NESTING_MAX)
        return true;
    return parser_unsupported(p, p->at->line, "nested deeper than %d levels", NESTING_MAX);
}

static void adopt(struct node *parent, const struct node *child)
{
    if (child && child->depth >= parent->depth)
        parent->depth = child->depth + 1;
}

struct node *parser_node(struct parser *p, enum node_kind kind, int line, struct node *a,
                         struct node *b, struct node *c)
{
    struct node *n = value_alloc(p->heap, sizeof *n);
    if (!n)
        return parser_memory(p);
    *n = (struct node){.kind = kind, .line = line, .a = a, .b = b, .c = c};
    adopt(n, a);
    adopt(n, b);
    adopt(n, c);
    if (n->depth > DEPTH_MAX)
        return parser_unsupported(p, line, "an expression of more than %d levels", DEPTH_MAX);
    return n;
}

void parser_append(struct node *parent, struct node **list, struct node ***end, struct node *child)
{
    struct node **at = *end ? *end : list;
    *at = child;
    *end = &child->next;
    adopt(parent, child);
}

struct node *parser_frame(struct parser *p)
{
    struct node *outside = p->missing;
    p->missing = NULL;
    return outside;
}

void *parser_no_native(struct parser *p, const struct node *n)
{
    return parser_unsupported(p, n->line, "no %s named '%.*s'",
                              n->kind == NODE_FILTER ? "filter" : "test", (int)n->text->len,
                              n->text->v);
}

bool parser_frame_end(struct parser *p, struct node *outside)
{
    const struct node *n = p->missing;
    p->missing = outside;
    return !n || parser_no_native(p, n);
}

bool parser_is(const struct parser *p, enum token_kind kind)
{
    return p->at->kind == kind;
}

bool parser_is_name(const struct parser *p, const char *name)
{
    return p->at->kind == TOKEN_NAME && value_is(p->at->v.text, name);
}

struct token *parser_next(struct parser *p)
{
    struct token *t = p->at;
    p->at += t->kind != TOKEN_END;
    return t;
}

bool parser_skip(struct parser *p, enum token_kind kind)
{
    bool is = parser_is(p, kind);
    if (is)
        parser_next(p);
    return is;
}

bool parser_skip_name(struct parser *p, const char *name)
{
    bool is = parser_is_name(p, name);
    if (is)
        parser_next(p);
    return is;
}

struct token *parser_expect(struct parser *p, enum token_kind kind)
{
    if (parser_is(p, kind))
        return parser_next(p);
    struct token wanted = {.kind = kind};
    return parser_invalid(p, p->at->line, "expected token '%s', got '%.*s'", lexer_show(&wanted),
                          p->at->kind == TOKEN_NAME ? (int)p->at->v.text->len : 40,
                          p->at->kind == TOKEN_NAME ? p->at->v.text->v : lexer_show(p->at));
}
