/*
 * Owns the grammar of expressions. Precedence, loosest first: if-else, or, and, not, comparisons
 * (chained), + -, ~, * / // %, **, unary, filters and tests. `**` binds to the left and `-` of a
 * filtered value is filtered last, as in jinja2.
 */
#include <string.h>

#include "core/template/natives.h"
#include "core/template/parser.h"

static struct node *unary(struct parser *p, bool with_filter);

/* ---- operators --------------------------------------------------------------------------------
 */

static struct node *binary(struct parser *p, enum operation op, int line, struct node *a,
                           struct node *b)
{
    struct node *n = a && b ? parser_node(p, NODE_BINARY, line, a, b, NULL) : NULL;
    if (n)
        n->op = op;
    return n;
}

struct level {
    enum token_kind token;
    enum operation op;
};

/* The operator of the current token among n, moving on. */
static bool take(struct parser *p, const struct level *levels, size_t n, enum operation *op)
{
    for (size_t i = 0; i < n; i++)
        if (parser_skip(p, levels[i].token)) {
            *op = levels[i].op;
            return true;
        }
    return false;
}

static struct node *power(struct parser *p)
{
    struct node *n = unary(p, true);
    int line = p->at->line;
    while (n && parser_skip(p, TOKEN_POW)) {
        n = binary(p, OPERATOR_POW, line, n, unary(p, true));
        line = p->at->line;
    }
    return n;
}

static struct node *product(struct parser *p)
{
    static const struct level levels[] = {{TOKEN_MUL, OPERATOR_MUL},
                                          {TOKEN_DIV, OPERATOR_DIV},
                                          {TOKEN_FLOORDIV, OPERATOR_FLOORDIV},
                                          {TOKEN_MOD, OPERATOR_MOD}};
    enum operation op;
    struct node *n = power(p);
    int line = p->at->line;
    while (n && take(p, levels, 4, &op)) {
        n = binary(p, op, line, n, power(p));
        line = p->at->line;
    }
    return n;
}

static struct node *concat(struct parser *p)
{
    int line = p->at->line;
    struct node *first = product(p), **end = NULL;
    if (!first || !parser_is(p, TOKEN_TILDE))
        return first;
    struct node *n = parser_node(p, NODE_CONCAT, line, NULL, NULL, NULL);
    if (!n)
        return NULL;
    parser_append(n, &n->list, &end, first);
    while (parser_skip(p, TOKEN_TILDE)) {
        struct node *more = product(p);
        if (!more)
            return NULL;
        parser_append(n, &n->list, &end, more);
    }
    return n;
}

static struct node *sum(struct parser *p)
{
    static const struct level levels[] = {{TOKEN_ADD, OPERATOR_ADD}, {TOKEN_SUB, OPERATOR_SUB}};
    enum operation op;
    struct node *n = concat(p);
    int line = p->at->line;
    while (n && take(p, levels, 2, &op)) {
        n = binary(p, op, line, n, concat(p));
        line = p->at->line;
    }
    return n;
}

static bool comparison(struct parser *p, enum operation *op)
{
    static const struct level levels[] = {{TOKEN_EQ, OPERATOR_EQ}, {TOKEN_NE, OPERATOR_NE},
                                          {TOKEN_LT, OPERATOR_LT}, {TOKEN_LE, OPERATOR_LE},
                                          {TOKEN_GT, OPERATOR_GT}, {TOKEN_GE, OPERATOR_GE}};
    if (take(p, levels, 6, op))
        return true;
    if (parser_skip_name(p, "in")) {
        *op = OPERATOR_IN;
        return true;
    }
    if (!parser_is_name(p, "not") || p->at[1].kind != TOKEN_NAME ||
        !value_is(p->at[1].v.text, "in"))
        return false;
    p->at += 2;
    *op = OPERATOR_NOT_IN;
    return true;
}

static struct node *compare(struct parser *p)
{
    int line = p->at->line;
    struct node *n = sum(p), *whole = NULL, **end = NULL;
    enum operation op;
    while (n && comparison(p, &op)) {
        struct node *right = sum(p);
        struct node *operand = right ? parser_node(p, NODE_OPERAND, line, right, NULL, NULL) : NULL;
        if (!whole && operand)
            whole = parser_node(p, NODE_COMPARE, line, n, NULL, NULL);
        if (!whole || !operand)
            return NULL;
        operand->op = op;
        parser_append(whole, &whole->list, &end, operand);
    }
    return whole ? whole : n;
}

static struct node *negation(struct parser *p)
{
    int line = p->at->line;
    if (!parser_skip_name(p, "not"))
        return compare(p);
    struct node *n = parser_enter(p) ? negation(p) : NULL;
    p->depth--;
    return n ? parser_node(p, NODE_NOT, line, n, NULL, NULL) : NULL;
}

static struct node *conjunction(struct parser *p)
{
    int line = p->at->line;
    struct node *n = negation(p);
    while (n && parser_skip_name(p, "and")) {
        struct node *right = negation(p);
        n = right ? parser_node(p, NODE_AND, line, n, right, NULL) : NULL;
    }
    return n;
}

static struct node *disjunction(struct parser *p)
{
    int line = p->at->line;
    struct node *n = conjunction(p);
    while (n && parser_skip_name(p, "or")) {
        struct node *right = conjunction(p);
        n = right ? parser_node(p, NODE_OR, line, n, right, NULL) : NULL;
    }
    return n;
}

static struct node *condition(struct parser *p)
{
    int line = p->at->line;
    struct node *missing = p->missing;
    struct node *n = disjunction(p);
    while (n && parser_skip_name(p, "if")) {
        struct node *test = disjunction(p), *otherwise = NULL;
        if (!test)
            return NULL;
        if (parser_skip_name(p, "else")) {
            otherwise = expression_parse(p, true);
            if (!otherwise)
                return NULL;
        }
        n = parser_node(p, NODE_COND, line, n, test, otherwise);
        p->missing = missing;
        line = p->at->line;
    }
    return n;
}

struct node *expression_parse(struct parser *p, bool with_condition)
{
    struct node *n = NULL;
    if (parser_enter(p))
        n = with_condition ? condition(p) : disjunction(p);
    p->depth--;
    return n;
}

/* ---- atoms ------------------------------------------------------------------------------------
 */

static struct node *constant(struct parser *p, int line, struct value v)
{
    struct node *n = parser_node(p, NODE_CONST, line, NULL, NULL, NULL);
    if (n)
        n->value = v;
    return n;
}

struct node *expression_name(struct parser *p, const struct token *t)
{
    struct node *n = parser_node(p, NODE_NAME, t->line, NULL, NULL, NULL);
    struct undefined *u = value_alloc(p->heap, sizeof *u);
    if (!n || !u)
        return n ? parser_memory(p) : NULL;
    *u = (struct undefined){.name = t->v};
    n->text = t->v.text;
    n->undefined = u;
    p->mentions |= value_is(n->text, "caller")    ? MENTION_CALLER
                   : value_is(n->text, "varargs") ? MENTION_VARARGS
                   : value_is(n->text, "kwargs")  ? MENTION_KWARGS
                                                  : 0;
    return n;
}

static struct node *name(struct parser *p)
{
    static const struct {
        const char *name;
        struct value v;
    } words[] = {
        {"true", {.kind = VALUE_BOOL, .flag = true}},
        {"True", {.kind = VALUE_BOOL, .flag = true}},
        {"false", {.kind = VALUE_BOOL, .flag = false}},
        {"False", {.kind = VALUE_BOOL}},
        {"none", {.kind = VALUE_NONE}},
        {"None", {.kind = VALUE_NONE}},
    };
    struct token *t = parser_next(p);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (value_is(t->v.text, words[i].name))
            return constant(p, t->line, words[i].v);
    return expression_name(p, t);
}

static struct node *string(struct parser *p)
{
    struct token *t = parser_next(p);
    const struct text *whole = t->v.text;
    while (whole && parser_is(p, TOKEN_STRING))
        whole = value_append(p->heap, whole, parser_next(p)->v.text);
    if (!whole)
        return parser_memory(p);
    // a constant is shared between threads: nothing may be put behind it
    whole = value_borrow(p->heap, whole->v, whole->len);
    return whole ? constant(p, t->line, value_of_text(whole)) : parser_memory(p);
}

static struct node *list(struct parser *p)
{
    struct node *n = parser_node(p, NODE_LIST, parser_next(p)->line, NULL, NULL, NULL);
    struct node **end = NULL;
    while (n && !parser_is(p, TOKEN_RBRACKET)) {
        if (n->list && !parser_expect(p, TOKEN_COMMA))
            return NULL;
        if (parser_is(p, TOKEN_RBRACKET))
            break;
        struct node *item = expression_parse(p, true);
        if (!item)
            return NULL;
        parser_append(n, &n->list, &end, item);
    }
    parser_next(p);
    return n;
}

static struct node *dict(struct parser *p)
{
    struct node *n = parser_node(p, NODE_DICT, parser_next(p)->line, NULL, NULL, NULL);
    struct node **end = NULL;
    while (n && !parser_is(p, TOKEN_RBRACE)) {
        if (n->list && !parser_expect(p, TOKEN_COMMA))
            return NULL;
        if (parser_is(p, TOKEN_RBRACE))
            break;
        struct node *key = expression_parse(p, true);
        struct node *v = key && parser_expect(p, TOKEN_COLON) ? expression_parse(p, true) : NULL;
        struct node *pair = v ? parser_node(p, NODE_OPERAND, key->line, v, key, NULL) : NULL;
        if (!pair)
            return NULL;
        parser_append(n, &n->list, &end, pair);
    }
    parser_next(p);
    return n;
}

static struct node *primary(struct parser *p)
{
    struct token *t = p->at;
    struct node *n;
    switch (t->kind) {
    case TOKEN_NAME:
        return name(p);
    case TOKEN_STRING:
        return string(p);
    case TOKEN_INT:
    case TOKEN_FLOAT:
        parser_next(p);
        return constant(p, t->line, t->v);
    case TOKEN_LPAREN:
        parser_next(p);
        n = expression_tuple(p, true, true);
        return n && parser_expect(p, TOKEN_RPAREN) ? n : NULL;
    case TOKEN_LBRACKET:
        return list(p);
    case TOKEN_LBRACE:
        return dict(p);
    default:
        return parser_invalid(p, t->line, "unexpected '%s'", lexer_show(t));
    }
}

bool expression_tuple_ends(const struct parser *p)
{
    return parser_is(p, TOKEN_VARIABLE_END) || parser_is(p, TOKEN_BLOCK_END) ||
           parser_is(p, TOKEN_RPAREN);
}

struct node *expression_tuple(struct parser *p, bool with_condition, bool parentheses)
{
    int line = p->at->line;
    struct node *tuple = NULL, **end = NULL, *n;
    if (expression_tuple_ends(p)) {
        if (parentheses)
            return parser_node(p, NODE_TUPLE, line, NULL, NULL, NULL);
        return parser_invalid(p, line, "expected an expression, got '%s'", lexer_show(p->at));
    }
    while ((n = expression_parse(p, with_condition))) {
        if (!tuple && !parser_is(p, TOKEN_COMMA))
            return n;
        if (!tuple && !(tuple = parser_node(p, NODE_TUPLE, line, NULL, NULL, NULL)))
            return NULL;
        parser_append(tuple, &tuple->list, &end, n);
        // `for x in a, b recursive`
        if (!parser_skip(p, TOKEN_COMMA) || expression_tuple_ends(p) ||
            parser_is_name(p, "recursive"))
            return tuple;
    }
    return NULL;
}

/* ---- what follows an atom ---------------------------------------------------------------------
 */

static struct node *argument(struct parser *p)
{
    int line = p->at->line;
    enum node_kind kind = NODE_CONST;
    const struct text *key = NULL;
    if (parser_skip(p, TOKEN_MUL)) {
        kind = NODE_SPREAD;
    } else if (parser_skip(p, TOKEN_POW)) {
        kind = NODE_SPREAD_NAMED;
    } else if (parser_is(p, TOKEN_NAME) && p->at[1].kind == TOKEN_ASSIGN) {
        kind = NODE_KEYWORD;
        key = parser_next(p)->v.text;
        parser_next(p);
    }
    struct node *n = expression_parse(p, true);
    if (!n || kind == NODE_CONST)
        return n;
    n = parser_node(p, kind, line, n, NULL, NULL);
    if (n)
        n->text = key;
    return n;
}

/* Which kinds of arguments may follow one of this kind: positional, keyword, *, ** in this order;
 * a keyword may stand behind *. */
static int rank(const struct node *n)
{
    return n->kind == NODE_KEYWORD ? 1 : n->kind == NODE_SPREAD ? 2 : n->kind == NODE_SPREAD_NAMED;
}

/* (a, b, c=d, *e, **f) into call->list. */
static bool arguments(struct parser *p, struct node *call)
{
    struct node **end = NULL;
    bool seen[4] = {false};
    int line = parser_next(p)->line;
    while (!parser_is(p, TOKEN_RPAREN)) {
        if (call->list && !parser_expect(p, TOKEN_COMMA))
            return false;
        if (parser_is(p, TOKEN_RPAREN))
            break;
        struct node *n = argument(p);
        if (!n)
            return false;
        int kind = n->kind == NODE_SPREAD_NAMED ? 3 : rank(n);
        bool misplaced = seen[3] || (kind == 2 && seen[2]) || (kind == 0 && (seen[1] || seen[2]));
        if (misplaced) {
            parser_invalid(p, line, "invalid syntax for function call expression");
            return false;
        }
        seen[kind] = true;
        parser_append(call, &call->list, &end, n);
    }
    parser_next(p);
    return true;
}

static struct node *call(struct parser *p, struct node *callee)
{
    struct node *n = parser_node(p, NODE_CALL, p->at->line, callee, NULL, NULL);
    if (!n || !arguments(p, n))
        return NULL;
    if (callee->kind == NODE_ATTRIBUTE && natives_lacks_method(callee->text))
        return parser_unsupported(p, n->line, "the method '%.*s' is not supported",
                                  (int)callee->text->len, callee->text->v);
    if (callee->kind == NODE_NAME && natives_lacks_function(callee->text))
        return parser_unsupported(p, n->line, "the function '%.*s' is not supported",
                                  (int)callee->text->len, callee->text->v);
    return n;
}

static struct node *subscribed(struct parser *p)
{
    int line = p->at->line;
    struct node *part[3] = {NULL};
    if (!parser_is(p, TOKEN_COLON)) {
        part[0] = expression_parse(p, true);
        if (!part[0] || !parser_is(p, TOKEN_COLON))
            return part[0];
    }
    for (int i = 1; i < 3 && parser_skip(p, TOKEN_COLON); i++)
        if (!parser_is(p, TOKEN_COLON) && !parser_is(p, TOKEN_RBRACKET) &&
            !parser_is(p, TOKEN_COMMA) && !(part[i] = expression_parse(p, true)))
            return NULL;
    return parser_node(p, NODE_SLICE, line, part[0], part[1], part[2]);
}

static struct node *subscript(struct parser *p, struct node *of)
{
    struct token *t = parser_next(p);
    if (t->kind == TOKEN_DOT) {
        struct token *attribute = parser_next(p);
        if (attribute->kind == TOKEN_INT) {
            struct node *index = constant(p, attribute->line, attribute->v);
            return index ? parser_node(p, NODE_ITEM, t->line, of, index, NULL) : NULL;
        }
        if (attribute->kind != TOKEN_NAME)
            return parser_invalid(p, attribute->line, "expected name or number");
        struct node *n = parser_node(p, NODE_ATTRIBUTE, t->line, of, NULL, NULL);
        if (n) {
            n->text = attribute->v.text;
            n->flag = natives_is_attribute(n->text);
        }
        return n;
    }
    struct node *n = NULL, *tuple = NULL, **end = NULL;
    do {
        n = subscribed(p);
        if (n && !tuple && parser_is(p, TOKEN_COMMA))
            tuple = parser_node(p, NODE_TUPLE, t->line, NULL, NULL, NULL);
        if (n && tuple && n->kind == NODE_SLICE)
            return parser_unsupported(p, t->line, "a slice among several subscripts");
        if (n && tuple)
            parser_append(tuple, &tuple->list, &end, n);
    } while (n && parser_skip(p, TOKEN_COMMA));
    if (!n || !parser_expect(p, TOKEN_RBRACKET))
        return NULL;
    return parser_node(p, NODE_ITEM, t->line, of, tuple ? tuple : n, NULL);
}

static struct node *postfix(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_is(p, TOKEN_DOT) || parser_is(p, TOKEN_LBRACKET))
            n = subscript(p, n);
        else if (parser_is(p, TOKEN_LPAREN))
            n = call(p, n);
        else
            break;
    }
    return n;
}

/* The node of a filter or test whose name is the current token. */
static struct node *applied(struct parser *p, enum node_kind kind, struct node *to)
{
    struct token *t = parser_expect(p, TOKEN_NAME);
    if (!t)
        return NULL;
    struct node *n = parser_node(p, kind, t->line, to, NULL, NULL);
    if (!n)
        return NULL;
    n->text = t->v.text;
    n->native = kind == NODE_FILTER ? natives_filter(n->text) : natives_test(n->text);
    if (!n->native && !p->missing)
        p->missing = n;
    return parser_is(p, TOKEN_DOT) ? parser_no_native(p, n) : n;
}

struct node *expression_filters(struct parser *p, struct node *to, bool inline_first)
{
    while (inline_first || parser_skip(p, TOKEN_PIPE)) {
        to = applied(p, NODE_FILTER, to);
        if (!to || (parser_is(p, TOKEN_LPAREN) && !arguments(p, to)))
            return NULL;
        inline_first = false;
    }
    return to;
}

/* May the current token begin an argument of a test without parentheses? */
static bool bare_argument(const struct parser *p)
{
    switch (p->at->kind) {
    case TOKEN_NAME:
        return !parser_is_name(p, "else") && !parser_is_name(p, "or") && !parser_is_name(p, "and");
    case TOKEN_STRING:
    case TOKEN_INT:
    case TOKEN_FLOAT:
    case TOKEN_LBRACKET:
    case TOKEN_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct node *test(struct parser *p, struct node *of)
{
    int line = parser_next(p)->line;
    bool negated = parser_skip_name(p, "not");
    struct node *n = applied(p, NODE_TEST, of), **end = NULL;
    if (!n)
        return NULL;
    if (parser_is(p, TOKEN_LPAREN)) {
        if (!arguments(p, n))
            return NULL;
    } else if (bare_argument(p)) {
        if (parser_is_name(p, "is"))
            return parser_invalid(p, line, "you cannot chain multiple tests with is");
        struct node *argument_node = postfix(p, primary(p));
        if (!argument_node)
            return NULL;
        parser_append(n, &n->list, &end, argument_node);
    }
    return negated ? parser_node(p, NODE_NOT, line, n, NULL, NULL) : n;
}

static struct node *filtered(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_is(p, TOKEN_PIPE))
            n = expression_filters(p, n, false);
        else if (parser_is_name(p, "is"))
            n = test(p, n);
        else if (parser_is(p, TOKEN_LPAREN))
            n = call(p, n);
        else
            break;
    }
    return n;
}

static struct node *unary(struct parser *p, bool with_filter)
{
    int line = p->at->line;
    struct node *n;
    if (parser_is(p, TOKEN_SUB) || parser_is(p, TOKEN_ADD)) {
        enum node_kind kind = parser_next(p)->kind == TOKEN_SUB ? NODE_NEG : NODE_POS;
        n = parser_enter(p) ? unary(p, false) : NULL;
        p->depth--;
        n = n ? parser_node(p, kind, line, n, NULL, NULL) : NULL;
    } else {
        n = primary(p);
    }
    n = postfix(p, n);
    return with_filter ? filtered(p, n) : n;
}
