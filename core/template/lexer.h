/*
 * Text to tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks: where data
 * ends and tags begin, which white space around a tag goes, what names, numbers and strings are.
 */
#ifndef OFTD_CORE_TEMPLATE_LEXER_H
#define OFTD_CORE_TEMPLATE_LEXER_H

#include "core/template/value.h"

enum token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_ADD,
    TOKEN_SUB,
    TOKEN_DIV,
    TOKEN_FLOORDIV,
    TOKEN_MUL,
    TOKEN_MOD,
    TOKEN_POW,
    TOKEN_TILDE,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_LPAREN,
    TOKEN_RPAREN,
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_GT,
    TOKEN_GE,
    TOKEN_LT,
    TOKEN_LE,
    TOKEN_ASSIGN,
    TOKEN_DOT,
    TOKEN_COLON,
    TOKEN_PIPE,
    TOKEN_COMMA,
    TOKEN_SEMICOLON
};

struct token {
    enum token_kind kind;
    int line;
    struct value v; /* TEXT of data, names and strings; INT; FLOAT */
};

struct tokens {
    struct token *v; /* in the heap; TOKEN_END is the last */
    size_t n, cap;
};

/* Texts of tokens lie in the heap. Errors: TEMPLATE_INVALID, TEMPLATE_UNSUPPORTED, OUT_OF_MEMORY.
 */
enum status lexer_read(struct heap *h, const char *text, size_t len, struct tokens *out,
                       struct error *err);
/* A token as messages show it. */
const char *lexer_show(const struct token *t);

#endif
