/*
 * Owns the cut of a template into tokens. What looks odd is jinja2's: one newline at the end of the
 * text is dropped; a tag takes the newline behind it, a comment too, an expression not; blanks
 * before a tag go when nothing else stands on its line; `-` takes all white space, `+` keeps it;
 * braces are balanced, so that `}}` may end a dict inside an expression.
 */
#include "core/template/lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "core/template/characters.h"
#include "core/utf8.h"

#define NESTING_MAX 256

struct lexer {
    struct heap *heap;
    const char *v; /* newlines are \n */
    size_t len, at;
    int line;
    bool line_starting; /* what was read last ended with a newline */
    char closers[NESTING_MAX];
    size_t depth;
    struct tokens *out;
    struct error *err;
};

static enum status memory(struct lexer *x)
{
    return error_memory(x->err, "reading a chat template");
}

#define INVALID(x, ...)     error_set((x)->err, ST_TEMPLATE_INVALID, __VA_ARGS__)
#define UNSUPPORTED(x, ...) error_set((x)->err, ST_TEMPLATE_UNSUPPORTED, __VA_ARGS__)

static enum status push(struct lexer *x, enum token_kind kind, struct value v)
{
    struct tokens *t = x->out;
    struct token *all = value_grow(x->heap, t->v, t->n, &t->cap, sizeof *t->v);
    if (!all)
        return memory(x);
    t->v = all;
    t->v[t->n++] = (struct token){.kind = kind, .line = x->line, .v = v};
    return ST_OK;
}

static enum status push_text(struct lexer *x, enum token_kind kind, const char *v, size_t len)
{
    const struct text *t = value_borrow(x->heap, v, len);
    return t ? push(x, kind, value_of_text(t)) : memory(x);
}

/* Moves to `to`, counting lines. */
static void advance(struct lexer *x, size_t to)
{
    if (to > x->at)
        x->line_starting = x->v[to - 1] == '\n';
    for (; x->at < to; x->at++)
        x->line += x->v[x->at] == '\n';
}

static bool starts(const struct lexer *x, size_t at, const char *s)
{
    size_t n = strlen(s);
    return x->len - at >= n && !memcmp(x->v + at, s, n);
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    return at + characters_space_before(x->v + at, x->len - at);
}

/* The end of a tag at `at` whose closer is `close` ("%}"): behind it and the white space that goes
 * with it; 0 if it is none. `plus`: "+%}" is one too, and a newline goes with the plain one. */
static size_t tag_end(const struct lexer *x, size_t at, const char *close, bool plus)
{
    if (at < x->len && x->v[at] == '-' && starts(x, at + 1, close))
        return skip_space(x, at + 3);
    if (plus && at < x->len && x->v[at] == '+' && starts(x, at + 1, close))
        return at + 3;
    if (!starts(x, at, close))
        return 0;
    return at + 2 + (plus && at + 2 < x->len && x->v[at + 2] == '\n');
}

/* The data [from, to) in front of a tag with the given sign ('-', '+' or 0); strip: the tag is one
 * that takes the blanks of its line. */
static enum status data(struct lexer *x, size_t from, size_t to, char sign, bool strip)
{
    size_t end = to;
    if (sign == '-') {
        end -= characters_space_behind(x->v + from, to - from);
    } else if (sign != '+' && strip) {
        size_t line = to;
        while (line > from && x->v[line - 1] != '\n')
            line--;
        if ((line > from || x->line_starting) &&
            characters_space_before(x->v + line, to - line) == to - line)
            end = line;
    }
    enum status s = ST_OK;
    if (end > from)
        s = push_text(x, TOKEN_DATA, x->v + from, end - from);
    advance(x, to);
    return s;
}

/* Is there "{%[-+]? WORD" at `at`, and a closer? Its end in *end, its sign in *sign. */
static bool raw_tag(const struct lexer *x, size_t at, const char *word, char *sign, size_t *end)
{
    if (!starts(x, at, "{%"))
        return false;
    at += 2;
    *sign = 0;
    if (at < x->len && (x->v[at] == '-' || x->v[at] == '+'))
        *sign = x->v[at++];
    at = skip_space(x, at);
    if (!starts(x, at, word))
        return false;
    at = skip_space(x, at + strlen(word));
    bool last = word[0] == 'e';
    if (!last && starts(x, at, "+%}"))
        return false;
    *end = tag_end(x, at, "%}", last);
    if (*end && !last && x->v[at] == '%')
        *end = at + 2; // the newline behind {% raw %} stays
    return *end;
}

static enum status raw(struct lexer *x, size_t end)
{
    int line = x->line;
    advance(x, end);
    size_t from = x->at;
    if (from == x->len) // jinja2's rule for a missing end wants a character
        return ST_OK;
    for (size_t at = from; at < x->len; at++) {
        char sign;
        size_t behind;
        if (x->v[at] != '{' || !raw_tag(x, at, "endraw", &sign, &behind))
            continue;
        enum status s = data(x, from, at, sign, true);
        advance(x, behind);
        return s;
    }
    return INVALID(x, "chat template, line %d: missing end of raw directive", line);
}

static enum status comment(struct lexer *x)
{
    if (x->at == x->len)
        return ST_OK; // as with raw
    for (size_t at = x->at; at < x->len; at++) {
        size_t end = tag_end(x, at, "#}", true);
        if (end) {
            advance(x, end);
            return ST_OK;
        }
    }
    return INVALID(x, "chat template, line %d: missing end of comment tag", x->line);
}

static size_t digits(const struct lexer *x, size_t at, int base)
{
    // (_?[digit])*
    for (;;) {
        size_t i = at + (at < x->len && x->v[at] == '_');
        int c = i < x->len ? (unsigned char)x->v[i] | 32 : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
        if (i < x->len && x->v[i] < '0')
            d = 99;
        if (d >= base)
            return at;
        at = i + 1;
    }
}

static bool digit(const struct lexer *x, size_t at)
{
    return at < x->len && x->v[at] >= '0' && x->v[at] <= '9';
}

/* The end of the float at x->at, or 0. */
static size_t float_end(const struct lexer *x)
{
    size_t at = digits(x, x->at, 10), end = 0;
    if (x->at && x->v[x->at - 1] == '.')
        return 0;
    if (at + 1 < x->len && x->v[at] == '.' && digit(x, at + 1))
        end = at = digits(x, at + 1, 10);
    if (at < x->len && (x->v[at] | 32) == 'e') {
        size_t e = at + 1;
        e += e < x->len && (x->v[e] == '+' || x->v[e] == '-');
        if (digit(x, e))
            end = digits(x, e, 10);
    }
    return end;
}

static enum status number(struct lexer *x)
{
    char clean[64];
    size_t end = float_end(x), n = 0;
    bool real = end;
    int base = 10;
    if (!real) {
        const char *p = x->v + x->at;
        char mark = x->at + 1 < x->len && p[0] == '0' ? (char)(p[1] | 32) : 0;
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
        end = base == 10 ? 0 : digits(x, x->at + 2, base);
        if (end <= x->at + 2)
            base = 10;
        if (base == 10 && p[0] == '0') // "00" is one number, "01" two
            end = digits(x, x->at, 1);
        else if (base == 10)
            end = digits(x, x->at, 10);
    }
    for (size_t i = x->at + (base == 10 ? 0 : 2); i < end; i++) {
        if (x->v[i] == '_')
            continue;
        if (n + 1 == sizeof clean)
            return UNSUPPORTED(x, "chat template, line %d: a number of more than %zu digits",
                               x->line, sizeof clean - 1);
        clean[n++] = x->v[i];
    }
    clean[n] = 0;
    errno = 0;
    struct value v =
        real ? value_float(strtod(clean, NULL)) : value_int((int64_t)strtoll(clean, NULL, base));
    if (!real && errno)
        return UNSUPPORTED(x, "chat template, line %d: %s: an integer beyond 64 bits", x->line,
                           clean);
    enum status s = push(x, real ? TOKEN_FLOAT : TOKEN_INT, v);
    advance(x, end);
    return s;
}

static int hex(const char *v, size_t n)
{
    int c = 0;
    for (size_t i = 0; i < n; i++) {
        int d = v[i] >= '0' && v[i] <= '9'                 ? v[i] - '0'
                : (v[i] | 32) >= 'a' && (v[i] | 32) <= 'f' ? (v[i] | 32) - 'a' + 10
                                                           : -1;
        if (d < 0 || c > 0xFFFFFF)
            return -1;
        c = c * 16 + d;
    }
    return c;
}

/* The escape at v[*i] (behind the backslash; n bytes in all) to `to`; the bytes written, or -1. */
static int escape(const char *v, size_t n, size_t *i, char *to)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char c = v[(*i)++];
    if (c == '\n')
        return 0;
    for (size_t k = 0; plain[k]; k += 2)
        if (plain[k] == c) {
            *to = plain[k + 1];
            return 1;
        }
    int code = -1;
    size_t wide = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (wide) {
        code = n - *i < wide ? -1 : hex(v + *i, wide);
        *i += wide;
    } else if (c >= '0' && c <= '7') {
        code = c - '0';
        for (int k = 0; k < 2 && *i < n && v[*i] >= '0' && v[*i] <= '7'; k++)
            code = code * 8 + v[(*i)++] - '0';
    } else if (c == 'N') {
        return -1;
    } else { // an unknown escape is itself
        to[0] = '\\';
        to[1] = c;
        return 2;
    }
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return -1;
    return (int)utf8_write((uint32_t)code, to);
}

static enum status string(struct lexer *x)
{
    char quote = x->v[x->at];
    size_t end = x->at + 1;
    bool plain = true;
    while (end < x->len && x->v[end] != quote) {
        plain &= x->v[end] != '\\';
        end += 1 + (x->v[end] == '\\');
    }
    if (end >= x->len)
        return INVALID(x, "chat template, line %d: unexpected char '%c'", x->line, quote);
    const char *v = x->v + x->at + 1;
    size_t n = end - x->at - 1, len = n;
    if (!plain) {
        char *to = value_alloc(x->heap, n + 4);
        if (!to)
            return memory(x);
        len = 0;
        for (size_t i = 0; i < n;) {
            if (v[i] != '\\') {
                to[len++] = v[i++];
                continue;
            }
            i++;
            int k = escape(v, n, &i, to + len);
            if (k < 0)
                return UNSUPPORTED(x, "chat template, line %d: an escape in a string", x->line);
            len += (size_t)k;
        }
        v = to;
    }
    enum status s = push_text(x, TOKEN_STRING, v, len);
    advance(x, end + 1);
    return s;
}

static enum status name(struct lexer *x)
{
    size_t end = x->at, n;
    bool good = true;
    while (end < x->len) {
        uint32_t c = utf8_read(x->v + end, &n);
        if (!characters_word(c))
            break;
        good &= end > x->at || !(c >= '0' && c <= '9');
        end += n;
    }
    if (!good)
        return INVALID(x, "chat template, line %d: invalid character in identifier", x->line);
    enum status s = push_text(x, TOKEN_NAME, x->v + x->at, end - x->at);
    advance(x, end);
    return s;
}

static const struct {
    char text[3];
    enum token_kind kind;
} operators[] = {
    {"//", TOKEN_FLOORDIV}, {"**", TOKEN_POW},      {"==", TOKEN_EQ},    {"!=", TOKEN_NE},
    {">=", TOKEN_GE},       {"<=", TOKEN_LE},       {"+", TOKEN_ADD},    {"-", TOKEN_SUB},
    {"/", TOKEN_DIV},       {"*", TOKEN_MUL},       {"%", TOKEN_MOD},    {"~", TOKEN_TILDE},
    {"[", TOKEN_LBRACKET},  {"]", TOKEN_RBRACKET},  {"(", TOKEN_LPAREN}, {")", TOKEN_RPAREN},
    {"{", TOKEN_LBRACE},    {"}", TOKEN_RBRACE},    {">", TOKEN_GT},     {"<", TOKEN_LT},
    {"=", TOKEN_ASSIGN},    {".", TOKEN_DOT},       {":", TOKEN_COLON},  {"|", TOKEN_PIPE},
    {",", TOKEN_COMMA},     {";", TOKEN_SEMICOLON},
};
#define N_OPERATORS (sizeof operators / sizeof operators[0])

static enum status balance(struct lexer *x, char c)
{
    const char *open = strchr("({[", c), *close = strchr(")}]", c);
    if (open) {
        if (x->depth == NESTING_MAX)
            return UNSUPPORTED(x, "chat template, line %d: brackets nested deeper than %d", x->line,
                               NESTING_MAX);
        x->closers[x->depth++] = ")}]"[open - "({["];
    } else if (close) {
        if (!x->depth)
            return INVALID(x, "chat template, line %d: unexpected '%c'", x->line, c);
        if (x->closers[--x->depth] != c)
            return INVALID(x, "chat template, line %d: unexpected '%c', expected '%c'", x->line, c,
                           x->closers[x->depth]);
    }
    return ST_OK;
}

static enum status punctuation(struct lexer *x)
{
    for (size_t i = 0; i < N_OPERATORS; i++) {
        if (!starts(x, x->at, operators[i].text))
            continue;
        size_t n = strlen(operators[i].text);
        enum status s = n == 1 ? balance(x, operators[i].text[0]) : ST_OK;
        if (!s)
            s = push(x, operators[i].kind, (struct value){0});
        advance(x, x->at + n);
        return s;
    }
    size_t n;
    utf8_read(x->v + x->at, &n);
    return INVALID(x, "chat template, line %d: unexpected char '%.*s'", x->line, (int)n,
                   x->v + x->at);
}

/* One token inside a tag. */
static enum status token(struct lexer *x)
{
    char c = x->v[x->at];
    size_t n;
    if (c >= '0' && c <= '9')
        return number(x);
    if (c == '"' || c == '\'')
        return string(x);
    if (characters_word(utf8_read(x->v + x->at, &n)))
        return name(x);
    return punctuation(x);
}

/* The inside of {{ }} or {% %}. */
static enum status tag(struct lexer *x, bool block)
{
    const char *close = block ? "%}" : "}}";
    for (;;) {
        if (x->at == x->len)
            return ST_OK; // the parser misses the end
        size_t end = x->depth ? 0 : tag_end(x, x->at, close, block);
        if (end) {
            enum status s =
                push(x, block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END, (struct value){0});
            advance(x, end);
            return s;
        }
        size_t space = skip_space(x, x->at);
        enum status s = ST_OK;
        if (space > x->at)
            advance(x, space);
        else
            s = token(x);
        if (s)
            return s;
    }
}

/* Data up to the next tag, and the tag. */
static enum status piece(struct lexer *x)
{
    size_t at = x->at, end;
    while (at + 1 < x->len && !(x->v[at] == '{' && strchr("{%#", x->v[at + 1]) && x->v[at + 1]))
        at++;
    if (at + 1 >= x->len)
        return data(x, x->at, x->len, '+', false);
    char kind = x->v[at + 1], sign = 0;
    if (raw_tag(x, at, "raw", &sign, &end)) {
        enum status s = data(x, x->at, at, sign, true);
        return s ? s : raw(x, end);
    }
    sign = at + 2 < x->len && strchr("+-", x->v[at + 2]) && x->v[at + 2] ? x->v[at + 2] : 0;
    enum status s = data(x, x->at, at, sign, kind != '{');
    advance(x, at + 2 + (sign != 0));
    if (s || kind == '#')
        return s ? s : comment(x);
    s = push(x, kind == '{' ? TOKEN_VARIABLE_BEGIN : TOKEN_BLOCK_BEGIN, (struct value){0});
    return s ? s : tag(x, kind == '%');
}

/* A copy whose newlines are \n, without the last one. */
static bool normalize(struct lexer *x, const char *text, size_t len)
{
    char *v = value_alloc(x->heap, len + 1);
    if (!v)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n')
            continue;
        v[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    x->v = v;
    x->len = n && v[n - 1] == '\n' ? n - 1 : n;
    return true;
}

enum status lexer_read(struct heap *h, const char *text, size_t len, struct tokens *out,
                       struct error *err)
{
    struct lexer x = {.heap = h, .line = 1, .line_starting = true, .out = out, .err = err};
    if (!utf8_valid(text, len))
        return INVALID(&x, "chat template: not valid UTF-8");
    if (!normalize(&x, text, len))
        return memory(&x);
    enum status s = ST_OK;
    while (!s && x.at < x.len)
        s = piece(&x);
    return s ? s : push(&x, TOKEN_END, (struct value){0});
}

const char *lexer_show(const struct token *t)
{
    static const char *const names[] = {
        [TOKEN_END] = "end of template",
        [TOKEN_DATA] = "template data / text",
        [TOKEN_VARIABLE_BEGIN] = "begin of print statement",
        [TOKEN_VARIABLE_END] = "end of print statement",
        [TOKEN_BLOCK_BEGIN] = "begin of statement block",
        [TOKEN_BLOCK_END] = "end of statement block",
        [TOKEN_STRING] = "string",
        [TOKEN_INT] = "integer",
        [TOKEN_FLOAT] = "float",
        [TOKEN_NAME] = "name",
    };
    for (size_t i = 0; i < N_OPERATORS; i++)
        if (operators[i].kind == t->kind)
            return operators[i].text;
    return names[t->kind];
}
