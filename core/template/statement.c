/*
 * Owns the grammar of tags. One row of a table per tag; what jinja2 knows beyond them (blocks,
 * inheritance, includes, autoescape) is refused by name.
 */
#include <string.h>

#include "core/template/parser.h"

/* Parses the body of a tag up to one of `ends` into parent's list; leaves the parser on the name
 * that ended it. */
static bool body(struct parser *p, const char *ends, struct node *parent, struct node **list)
{
    parser_skip(p, TOKEN_COLON); // as in Python
    return parser_expect(p, TOKEN_BLOCK_END) && statement_parse(p, ends, parent, list);
}

/* The same, as a frame of its own. */
static bool inner_body(struct parser *p, const char *ends, struct node *parent, struct node **list)
{
    struct node *outside = parser_frame(p);
    return body(p, ends, parent, list) && parser_frame_end(p, outside);
}

/* The same, taking the name too. */
static bool whole_body(struct parser *p, const char *end, struct node *n)
{
    return inner_body(p, end, n, &n->list) && parser_next(p);
}

/* An expression as a frame of its own. */
static struct node *inner_expression(struct parser *p)
{
    struct node *outside = parser_frame(p), *n = expression_parse(p, true);
    return n && parser_frame_end(p, outside) ? n : NULL;
}

static struct node *inner_filters(struct parser *p, bool inline_first)
{
    struct node *outside = parser_frame(p), *n = expression_filters(p, NULL, inline_first);
    return n && parser_frame_end(p, outside) ? n : NULL;
}

/* ---- targets ----------------------------------------------------------------------------------
 */

static struct node *parse_target(struct parser *p, bool members);

/* A target without commas at its top. */
static struct node *target_atom(struct parser *p, bool members)
{
    struct token *t = p->at;
    if (parser_skip(p, TOKEN_LPAREN)) {
        struct node *n = parser_enter(p) ? parse_target(p, false) : NULL;
        p->depth--;
        return n && parser_expect(p, TOKEN_RPAREN) ? n : NULL;
    }
    if (!parser_expect(p, TOKEN_NAME))
        return NULL;
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    bool word = !members && value_is(t->v.text, "loop");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        word |= value_is(t->v.text, words[i]);
    if (word)
        return parser_invalid(p, t->line, "can't assign to '%.*s'", (int)t->v.text->len,
                              t->v.text->v);
    struct node *n = expression_name(p, t);
    if (!n || !members || !parser_skip(p, TOKEN_DOT))
        return n;
    struct token *attribute = parser_expect(p, TOKEN_NAME);
    n = attribute ? parser_node(p, NODE_MEMBER, t->line, n, NULL, NULL) : NULL;
    if (n)
        n->text = attribute->v.text;
    return n;
}

/* Names and tuples of names, and attributes of namespaces where `members`. */
static struct node *parse_target(struct parser *p, bool members)
{
    int line = p->at->line;
    struct node *tuple = NULL, **end = NULL, *n;
    while ((n = target_atom(p, members))) {
        if (!tuple && !parser_is(p, TOKEN_COMMA))
            return n;
        if (!tuple && !(tuple = parser_node(p, NODE_TUPLE, line, NULL, NULL, NULL)))
            return NULL;
        parser_append(tuple, &tuple->list, &end, n);
        if (!parser_skip(p, TOKEN_COMMA) || expression_tuple_ends(p) ||
            parser_is(p, TOKEN_ASSIGN) || parser_is_name(p, "in"))
            return tuple;
    }
    return NULL;
}

/* ---- tags -------------------------------------------------------------------------------------
 */

static struct node *parse_set(struct parser *p)
{
    int line = parser_next(p)->line;
    struct node *target = parse_target(p, true);
    if (!target)
        return NULL;
    if (p->loops && target->kind == NODE_NAME && value_is(target->text, "loop"))
        return parser_invalid(p, line, "can't assign to special loop variable");
    if (parser_skip(p, TOKEN_ASSIGN)) {
        struct node *v = expression_tuple(p, true, false);
        return v ? parser_node(p, NODE_SET, line, target, v, NULL) : NULL;
    }
    struct node *filter = NULL;
    if (parser_is(p, TOKEN_PIPE) && !(filter = inner_filters(p, false)))
        return NULL;
    struct node *n = parser_node(p, NODE_SET_BLOCK, line, target, filter, NULL);
    return n && whole_body(p, "endset", n) ? n : NULL;
}

static struct node *parse_for(struct parser *p)
{
    int line = parser_next(p)->line;
    struct node *target = parse_target(p, false), *test = NULL;
    if (!target)
        return NULL;
    if (!parser_skip_name(p, "in"))
        return parser_invalid(p, line, "expected token 'in'");
    struct node *of = expression_tuple(p, false, false);
    if (!of || (parser_skip_name(p, "if") && !(test = inner_expression(p))))
        return NULL;
    struct node *n = parser_node(p, NODE_FOR, line, target, of, test);
    if (!n)
        return NULL;
    n->flag = parser_skip_name(p, "recursive");
    p->loops++;
    bool good = inner_body(p, "endfor else", n, &n->list);
    p->loops--;
    if (!good)
        return NULL;
    if (value_is(parser_next(p)->v.text, "endfor"))
        return n;
    return inner_body(p, "endfor", n, &n->other) && parser_next(p) ? n : NULL;
}

static struct node *parse_if(struct parser *p)
{
    int line = parser_next(p)->line;
    struct node *first = NULL, *last = NULL, *missing = p->missing;
    for (;;) {
        struct node *test = expression_tuple(p, false, false);
        struct node *n = test ? parser_node(p, NODE_IF, line, test, NULL, NULL) : NULL;
        if (!n || !body(p, "elif else endif", n, &n->list))
            return NULL;
        n->flag = last; // a chain, so that many of them nest no deeper
        if (last)
            last->other = n;
        first = first ? first : n;
        if (n->depth > first->depth)
            first->depth = n->depth;
        last = n;
        struct token *t = parser_next(p);
        line = t->line;
        p->missing = missing;
        if (value_is(t->v.text, "elif"))
            continue;
        bool whole = !value_is(t->v.text, "else") ||
                     (body(p, "endif", first, &last->other) && parser_next(p));
        p->missing = missing;
        return whole ? first : NULL;
    }
}

/* (a, b=1) */
static bool signature(struct parser *p, struct macro_shape *m, struct node *scope)
{
    size_t cap = 0, cap_defaults = 0;
    struct node **end = NULL;
    if (!parser_expect(p, TOKEN_LPAREN))
        return false;
    while (!parser_is(p, TOKEN_RPAREN)) {
        if (m->n && !parser_expect(p, TOKEN_COMMA))
            return false;
        struct token *t = parser_expect(p, TOKEN_NAME);
        if (!t)
            return false;
        const struct text **names = value_grow(p->heap, m->names, m->n, &cap, sizeof *names);
        struct node **defaults =
            value_grow(p->heap, m->defaults, m->n, &cap_defaults, sizeof *defaults);
        if (!names || !defaults)
            return parser_memory(p);
        m->names = names;
        m->defaults = defaults;
        m->names[m->n] = t->v.text;
        if (parser_skip(p, TOKEN_ASSIGN)) {
            struct node *v = inner_expression(p);
            if (!v)
                return false;
            m->defaults[m->n] = v;
            parser_append(scope, &scope->other, &end, v);
        } else if (m->n && m->defaults[m->n - 1]) {
            return parser_invalid(p, t->line, "non-default argument follows default argument");
        }
        m->n++;
    }
    return parser_next(p);
}

/* The body of a macro or of a call block: what it mentions tells what it takes. */
static bool macro_body(struct parser *p, const char *end, struct node *n)
{
    unsigned outside = p->mentions;
    int loops = p->loops;
    p->mentions = 0;
    p->loops = 0;
    bool good = whole_body(p, end, n);
    n->macro->takes_caller = p->mentions & MENTION_CALLER;
    n->macro->takes_varargs = p->mentions & MENTION_VARARGS;
    n->macro->takes_kwargs = p->mentions & MENTION_KWARGS;
    p->mentions |= outside;
    p->loops = loops;
    return good;
}

static struct node *parse_macro(struct parser *p)
{
    int line = parser_next(p)->line;
    struct token *t = parser_expect(p, TOKEN_NAME);
    struct node *name = t ? expression_name(p, t) : NULL;
    struct node *n = name ? parser_node(p, NODE_MACRO, line, name, NULL, NULL) : NULL;
    if (!n)
        return NULL;
    n->macro = value_alloc(p->heap, sizeof *n->macro);
    if (!n->macro)
        return parser_memory(p);
    n->macro->name = name->text;
    return signature(p, n->macro, n) && macro_body(p, "endmacro", n) ? n : NULL;
}

static struct node *parse_call(struct parser *p)
{
    struct node *n = parser_node(p, NODE_CALL_BLOCK, parser_next(p)->line, NULL, NULL, NULL);
    if (!n)
        return NULL;
    n->macro = value_alloc(p->heap, sizeof *n->macro);
    if (!n->macro)
        return parser_memory(p);
    if (parser_is(p, TOKEN_LPAREN) && !signature(p, n->macro, n))
        return NULL;
    n->a = expression_parse(p, true);
    if (!n->a)
        return NULL;
    if (n->a->kind != NODE_CALL)
        return parser_invalid(p, n->line, "expected call");
    n->depth = n->a->depth + 1;
    return macro_body(p, "endcall", n) ? n : NULL;
}

static struct node *parse_filter(struct parser *p)
{
    int line = parser_next(p)->line;
    struct node *filter = inner_filters(p, true);
    struct node *n = filter ? parser_node(p, NODE_FILTER_BLOCK, line, filter, NULL, NULL) : NULL;
    return n && whole_body(p, "endfilter", n) ? n : NULL;
}

static struct node *parse_with(struct parser *p)
{
    struct node *n = parser_node(p, NODE_WITH, parser_next(p)->line, NULL, NULL, NULL);
    struct node **end = NULL;
    while (n && !parser_is(p, TOKEN_BLOCK_END)) {
        if (n->other && !parser_expect(p, TOKEN_COMMA))
            return NULL;
        struct node *target = parse_target(p, false);
        struct node *v =
            target && parser_expect(p, TOKEN_ASSIGN) ? expression_parse(p, true) : NULL;
        struct node *set = v ? parser_node(p, NODE_SET, n->line, target, v, NULL) : NULL;
        if (!set)
            return NULL;
        parser_append(n, &n->other, &end, set);
    }
    return n && whole_body(p, "endwith", n) ? n : NULL;
}

/* transformers makes it a call block of a function that returns what the block gives. */
static struct node *parse_generation(struct parser *p)
{
    struct node *n = parser_node(p, NODE_CALL_BLOCK, parser_next(p)->line, NULL, NULL, NULL);
    if (!n)
        return NULL;
    n->macro = value_alloc(p->heap, sizeof *n->macro);
    if (!n->macro)
        return parser_memory(p);
    return macro_body(p, "endgeneration", n) ? n : NULL;
}

static struct node *parse_break(struct parser *p)
{
    struct token *t = parser_next(p);
    bool is_break = value_is(t->v.text, "break");
    if (!p->loops)
        return parser_invalid(p, t->line, "'%s' outside loop", is_break ? "break" : "continue");
    return parser_node(p, is_break ? NODE_BREAK : NODE_CONTINUE, t->line, NULL, NULL, NULL);
}

static struct node *parse_print(struct parser *p)
{
    struct token *t = parser_next(p);
    struct node *v = expression_parse(p, true);
    if (v && parser_is(p, TOKEN_COMMA))
        return parser_unsupported(p, t->line, "a print tag of several expressions");
    return v ? parser_node(p, NODE_OUTPUT, t->line, v, NULL, NULL) : NULL;
}

static const struct {
    const char *name;
    struct node *(*parse)(struct parser *p); /* NULL: known to jinja2, not to us */
} tags[] = {
    {"if", parse_if},       {"for", parse_for},
    {"set", parse_set},     {"macro", parse_macro},
    {"call", parse_call},   {"filter", parse_filter},
    {"with", parse_with},   {"generation", parse_generation},
    {"break", parse_break}, {"continue", parse_break},
    {"print", parse_print}, {"block", NULL},
    {"extends", NULL},      {"include", NULL},
    {"import", NULL},       {"from", NULL},
    {"autoescape", NULL},
};

/* Is the current name among those of ends? */
static bool ends_here(const struct parser *p, const char *ends)
{
    for (const char *e = ends; e && *e && parser_is(p, TOKEN_NAME);) {
        size_t n = strcspn(e, " ");
        if (p->at->v.text->len == n && !memcmp(p->at->v.text->v, e, n))
            return true;
        e += n + (e[n] == ' ');
    }
    return false;
}

static struct node *statement(struct parser *p, const char *ends)
{
    if (!parser_is(p, TOKEN_NAME))
        return parser_invalid(p, p->at->line, "tag name expected");
    const struct text *name = p->at->v.text;
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (!value_is(name, tags[i].name))
            continue;
        if (!tags[i].parse)
            return parser_unsupported(p, p->at->line, "the tag '%s' is not supported",
                                      tags[i].name);
        struct node *n = parser_enter(p) ? tags[i].parse(p) : NULL;
        p->depth--;
        return n && parser_expect(p, TOKEN_BLOCK_END) ? n : NULL;
    }
    bool closes = name->len > 3 &&
                  (!memcmp(name->v, "end", 3) || value_is(name, "else") || value_is(name, "elif"));
    if (closes)
        return parser_invalid(p, p->at->line, "unexpected tag '%.*s'%s%s", (int)name->len, name->v,
                              ends ? ", looking for: " : "", ends ? ends : "");
    return parser_unsupported(p, p->at->line, "unknown tag '%.*s'", (int)name->len, name->v);
}

bool statement_parse(struct parser *p, const char *ends, struct node *parent, struct node **list)
{
    struct node **end = NULL;
    int line = p->at->line;
    while (!parser_is(p, TOKEN_END)) {
        struct token *t = parser_next(p);
        struct node *n;
        if (t->kind == TOKEN_DATA) {
            n = parser_node(p, NODE_DATA, t->line, NULL, NULL, NULL);
            if (n)
                n->text = t->v.text;
        } else if (t->kind == TOKEN_VARIABLE_BEGIN) {
            n = expression_tuple(p, true, false);
            n = n && parser_expect(p, TOKEN_VARIABLE_END)
                    ? parser_node(p, NODE_OUTPUT, t->line, n, NULL, NULL)
                    : NULL;
        } else {
            if (ends && ends_here(p, ends))
                return true;
            n = statement(p, ends);
        }
        if (!n)
            return false;
        parser_append(parent, list, &end, n);
    }
    if (ends)
        parser_invalid(p, line, "unexpected end of template, looking for: %s", ends);
    return !ends;
}
