/*
 * The tree of a parsed template. One kind of node for everything; which members a kind uses stands
 * beside it. Names are resolved when the template is parsed (scope.h): a variable is a slot of a
 * frame some hops outwards.
 */
#ifndef OFTD_CORE_TEMPLATE_NODE_H
#define OFTD_CORE_TEMPLATE_NODE_H

#include "core/template/value.h"

enum node_kind {
    /* expressions */
    NODE_CONST,        /* value */
    NODE_NAME,         /* text, where, undefined */
    NODE_LIST,         /* list: items */
    NODE_TUPLE,        /* list: items; also a target */
    NODE_DICT,         /* list: pairs (NODE_OPERAND), value in a, key in b */
    NODE_NOT,          /* a */
    NODE_NEG,          /* a */
    NODE_POS,          /* a */
    NODE_BINARY,       /* op, a, b */
    NODE_AND,          /* a, b */
    NODE_OR,           /* a, b */
    NODE_COMPARE,      /* a; list: operands (NODE_OPERAND) */
    NODE_OPERAND,      /* op, a */
    NODE_CONCAT,       /* list */
    NODE_COND,         /* a if b else c (or NULL) */
    NODE_ATTRIBUTE,    /* a.text */
    NODE_ITEM,         /* a[b] */
    NODE_SLICE,        /* a:b:c, each may be NULL */
    NODE_CALL,         /* a(list) */
    NODE_FILTER,       /* a|native(list); a is NULL where a block is filtered; text */
    NODE_TEST,         /* a is native(list); text: the name of what there is not (native NULL) */
    NODE_KEYWORD,      /* in arguments: text=a */
    NODE_SPREAD,       /* in arguments: *a */
    NODE_SPREAD_NAMED, /* in arguments: **a */
    NODE_MEMBER,       /* a target: the attribute `text` of the namespace a (a NODE_NAME) */
    /* statements */
    NODE_DATA,         /* text */
    NODE_OUTPUT,       /* a */
    NODE_FOR,          /* for a in b if c: list, else other; inner, test_scope, other_scope */
    NODE_IF,           /* if a: list, else other: an elif, or what an else holds */
    NODE_SET,          /* a = b */
    NODE_SET_BLOCK,    /* a = list, through the filter b or NULL; inner */
    NODE_MACRO,        /* a (a name) = macro of list; inner, macro */
    NODE_CALL_BLOCK,   /* the call a (NULL: the block alone), caller is list; inner, macro */
    NODE_FILTER_BLOCK, /* list through the filter a; inner */
    NODE_WITH,         /* list; other: NODE_SET each; inner */
    NODE_BREAK,
    NODE_CONTINUE
};

enum operation {
    OPERATOR_ADD,
    OPERATOR_SUB,
    OPERATOR_MUL,
    OPERATOR_DIV,
    OPERATOR_FLOORDIV,
    OPERATOR_MOD,
    OPERATOR_POW,
    OPERATOR_EQ,
    OPERATOR_NE,
    OPERATOR_LT,
    OPERATOR_LE,
    OPERATOR_GT,
    OPERATOR_GE,
    OPERATOR_IN,
    OPERATOR_NOT_IN
};

/* A variable: slot of the frame that is `hops` frames outwards. */
struct where {
    uint32_t hops, slot;
};

/* What a slot holds when its scope is entered. */
enum load {
    LOAD_PARAMETER, /* set by whoever enters */
    LOAD_NOTHING,
    LOAD_OUTER, /* the value of an outer variable */
    LOAD_GLOBAL /* a variable of the request, or one of ours */
};
struct symbol {
    const struct text *name;
    enum load load;
    struct where outer; /* hops >= 1, from this scope */
    uint32_t global;    /* in the template's list */
};
struct scope {
    struct scope *parent;
    struct symbol *v;
    size_t n, cap;
};

/* A macro's signature. The parameters are the first slots of its scope. */
struct macro_shape {
    const struct text *name; /* NULL: the caller of a call block */
    size_t n;
    const struct text **names;
    struct node **defaults; /* n, NULL where there is none */
    bool takes_caller, takes_varargs, takes_kwargs;
    uint32_t caller, varargs, kwargs; /* their slots */
};

struct node {
    enum node_kind kind;
    enum operation op;
    int line;
    int depth;         /* levels of nodes below */
    bool flag;         /* FOR: recursive; IF: an elif; ATTRIBUTE: some type of Python has it */
    struct node *next; /* in the list it belongs to */
    struct node *a, *b, *c, *list, *other;
    const struct text *text;
    struct value value;
    struct where where;
    const struct native *native;
    const struct undefined *undefined;
    struct scope *inner, *test_scope, *other_scope;
    struct where loop; /* NODE_FOR: the slot of `loop` in inner */
    struct macro_shape *macro;
};

struct template
{
    struct heap heap;
    struct node *body;
    struct scope root;
    const struct text **globals; /* names that are looked up in the request */
    size_t n_globals, cap_globals;
};

#endif
