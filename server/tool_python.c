/*
 * A call as Python writes it, f(a=1, b='x', c={'k': [True, None]}): keywords with literals, which
 * become JSON as they come. Strings may have any of Python's escapes, and stand beside each other;
 * a tuple is a list; a number that is a key becomes a string. Anything else, an argument without a
 * name, a name that is no literal, a number that JSON has not, is no call.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/tool_reader.h"

enum state {
    NAME,
    ARGUMENT, /* a keyword, or the end */
    KEYWORD,
    EQUALS,
    ITEM, /* a value, or the end of what holds it */
    WORD, /* a number, or True, False, None */
    STRING,
    ESCAPE,
    CODE,   /* the digits of an escape: kind has the quote, types the code so far, target how many
               are left */
    STRUNG, /* behind a string: another one goes on with it */
    BEHIND  /* a value, or a key of a dictionary */
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char top(const struct tool_reader *r)
{
    return r->depth ? r->open[r->depth - 1] : ')';
}

/* In a dictionary whose key is expected: whole says so. */
static bool at_key(const struct tool_reader *r)
{
    return r->depth && top(r) == '}' && r->whole;
}

static void comma(struct tool_reader *r, struct tool_call *call)
{
    buffer_text(&call->arguments, r->comma ? ", " : "");
    r->comma = false;
}

static enum reading enter(struct tool_reader *r, struct tool_call *call, char c, char close)
{
    if (r->depth == TOOL_DEPTH || at_key(r))
        return READ_BROKEN;
    comma(r, call);
    buffer_add(&call->arguments, &c, 1);
    r->open[r->depth++] = close;
    r->whole = close == '}';
    r->state = ITEM;
    return READ_ON;
}

static enum reading leave(struct tool_reader *r, struct tool_call *call, char c)
{
    if (c != top(r))
        return READ_BROKEN;
    r->comma = false;
    if (!r->depth) {
        buffer_text(&call->arguments, call->arguments.len ? "}" : "{}");
        call->whole = call->told = true;
        return READ_WHOLE;
    }
    buffer_text(&call->arguments, c == '}' ? "}" : "]");
    r->depth--;
    r->whole = false;
    r->state = BEHIND;
    return READ_ON;
}

/* ---- numbers and names ---- */

/* JSON's number that Python's is, without a sign; 0: there is none. */
static size_t number(const char *text, size_t len)
{
    size_t n = 0, digits;
    while (n < len && is_digit(text[n]))
        n++;
    if (!n || (n > 1 && *text == '0'))
        return 0;
    if (n < len && text[n] == '.') {
        digits = n++;
        while (n < len && is_digit(text[n]))
            n++;
        if (n == digits + 1)
            return 0;
    }
    if (n < len && (text[n] == 'e' || text[n] == 'E')) {
        n++;
        n += n < len && (text[n] == '+' || text[n] == '-');
        digits = n;
        while (n < len && is_digit(text[n]))
            n++;
        if (n == digits)
            return 0;
    }
    return n;
}

static bool is_finite(const char *text, size_t len)
{
    char copy[TOOL_HEAD_MAX + 2];
    snprintf(copy, sizeof copy, "%.*s", (int)len, text);
    return isfinite(strtod(copy, NULL));
}

static const char *constant(const char *text, size_t len)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                                           {"true", "true"}, {"false", "false"}, {"null", "null"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (len == strlen(words[i][0]) && !memcmp(text, words[i][0], len))
            return words[i][1];
    return NULL;
}

/* The word is whole. */
static bool end_word(struct tool_reader *r, struct tool_call *call)
{
    const char *text = r->word.v, *named = constant(text, r->word.len);
    size_t sign = r->word.len && (*text == '-' || *text == '+');
    bool key = at_key(r);
    r->state = BEHIND;
    if (named && !key) {
        buffer_text(&call->arguments, named);
        return true;
    }
    if (number(text + sign, r->word.len - sign) != r->word.len - sign || r->word.len == sign ||
        !is_finite(text, r->word.len))
        return false;
    buffer_text(&call->arguments, key ? "\"" : "");
    buffer_text(&call->arguments, *text == '-' ? "-" : "");
    buffer_add(&call->arguments, text + sign, r->word.len - sign);
    buffer_text(&call->arguments, key ? "\"" : "");
    return true;
}

/* ---- strings ---- */

static void add_unit(struct tool_call *call, unsigned code)
{
    buffer_format(&call->arguments, "\\u%04x", code);
}

/* A half without the other one is no character. */
static void end_half(struct tool_reader *r, struct tool_call *call)
{
    if (r->high)
        add_unit(call, 0xFFFD);
    r->high = 0;
}

static bool add_code(struct tool_reader *r, struct tool_call *call, unsigned code)
{
    bool high = code >= 0xD800 && code < 0xDC00, low = code >= 0xDC00 && code < 0xE000;
    if (low && r->high) {
        add_unit(call, r->high);
        add_unit(call, code);
        r->high = 0;
        return true;
    }
    end_half(r, call);
    if (high) {
        r->high = code;
    } else if (code > 0xFFFF) {
        add_unit(call, 0xD800 + ((code - 0x10000) >> 10));
        add_unit(call, 0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
        add_unit(call, low ? 0xFFFD : code);
    }
    return code <= 0x10FFFF;
}

static enum reading escape(struct tool_reader *r, struct tool_call *call, char c)
{
    static const char named[] = "abfnrtv", codes[] = "\a\b\f\n\r\t\v";
    const char *at = strchr(named, c), both[2] = {'\\', c};
    r->state = STRING;
    if (c != 'u')
        end_half(r, call);
    if (c == 'x' || c == 'u' || c == 'U') {
        r->state = CODE;
        r->types = 0;
        r->target = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    } else if (c && at) {
        tool_reader_escape(codes + (at - named), 1, &call->arguments);
    } else if (c == 'N' || is_digit(c)) {
        return READ_BROKEN; /* names and octal codes are not served */
    } else if (c != '\n') { /* a line's end within a string is none */
        bool one = c == '\\' || c == '\'' || c == '"';
        tool_reader_escape(one ? &c : both, one ? 1 : 2, &call->arguments);
    }
    return READ_ON;
}

static enum reading code(struct tool_reader *r, struct tool_call *call, char c)
{
    char low = (char)(c | 32);
    if (!is_digit(c) && (low < 'a' || low > 'f'))
        return READ_BROKEN;
    r->types = r->types * 16 + (unsigned)(is_digit(c) ? c - '0' : low - 'a' + 10);
    if (--r->target)
        return READ_ON;
    r->state = STRING;
    return add_code(r, call, r->types) ? READ_ON : READ_BROKEN;
}

static enum reading string(struct tool_reader *r, struct tool_call *call, char c)
{
    if (c != '\\')
        end_half(r, call);
    if (c == r->kind)
        r->state = STRUNG;
    else if (c == '\\')
        r->state = ESCAPE;
    else
        tool_reader_escape(&c, 1, &call->arguments);
    return READ_ON;
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

/* ---- values ---- */

static enum reading item(struct tool_reader *r, struct tool_call *call, char c)
{
    if (tool_reader_space(c))
        return READ_ON;
    if (c == ']' || c == '}' || (c == ')' && r->depth))
        return leave(r, call, c);
    if (c == '[' || c == '(')
        return enter(r, call, '[', c == '[' ? ']' : ')');
    if (c == '{')
        return enter(r, call, '{', '}');
    comma(r, call);
    if (is_quote(c)) {
        buffer_text(&call->arguments, "\"");
        r->kind = c;
        r->state = STRING;
        return READ_ON;
    }
    buffer_clear(&r->word);
    buffer_add(&r->word, &c, 1);
    r->state = WORD;
    return is_letter(c) || is_digit(c) || c == '-' || c == '+' ? READ_ON : READ_BROKEN;
}

/* Behind a value: what comes next? */
static enum reading behind(struct tool_reader *r, struct tool_call *call, char c)
{
    if (tool_reader_space(c))
        return READ_ON;
    if (at_key(r)) {
        buffer_text(&call->arguments, ": ");
        r->whole = false;
        r->state = ITEM;
        return c == ':' ? READ_ON : READ_BROKEN;
    }
    if (c != ',')
        return leave(r, call, c);
    r->comma = true;
    r->whole = top(r) == '}';
    r->state = r->depth ? ITEM : ARGUMENT;
    return READ_ON;
}

static enum reading word(struct tool_reader *r, struct tool_call *call, char c)
{
    if (is_letter(c) || is_digit(c) || c == '.' || c == '+' || c == '-') {
        buffer_add(&r->word, &c, 1);
        return r->word.len > TOOL_HEAD_MAX ? READ_BROKEN : READ_ON;
    }
    return end_word(r, call) ? behind(r, call, c) : READ_BROKEN;
}

static enum reading strung(struct tool_reader *r, struct tool_call *call, char c)
{
    if (tool_reader_space(c))
        return READ_ON;
    if (is_quote(c)) {
        r->kind = c;
        r->state = STRING;
        return READ_ON;
    }
    buffer_text(&call->arguments, "\"");
    r->state = BEHIND;
    return behind(r, call, c);
}

/* ---- names ---- */

static enum reading name(struct tool_reader *r, struct tool_call *call, char c)
{
    if (c == '(') {
        buffer_add(&call->name, r->word.v, r->word.len);
        r->state = ARGUMENT;
        return r->word.len ? READ_ON : READ_BROKEN;
    }
    buffer_add(&r->word, &c, 1);
    bool good = is_letter(c) || ((is_digit(c) || c == '.') && r->word.len > 1);
    return good && r->word.len <= TOOL_HEAD_MAX ? READ_ON : READ_BROKEN;
}

static enum reading argument(struct tool_reader *r, struct tool_call *call, char c)
{
    if (tool_reader_space(c))
        return READ_ON;
    if (c == ')')
        return leave(r, call, c);
    buffer_clear(&r->word);
    buffer_add(&r->word, &c, 1);
    r->state = KEYWORD;
    return is_letter(c) ? READ_ON : READ_BROKEN;
}

static enum reading keyword(struct tool_reader *r, struct tool_call *call, char c)
{
    if (r->state == KEYWORD && (is_letter(c) || is_digit(c)) && r->word.len < TOOL_HEAD_MAX) {
        buffer_add(&r->word, &c, 1);
        return READ_ON;
    }
    r->state = EQUALS;
    if (tool_reader_space(c))
        return READ_ON;
    if (c != '=')
        return READ_BROKEN;
    buffer_text(&call->arguments, call->arguments.len ? "" : "{");
    comma(r, call);
    buffer_text(&call->arguments, "\"");
    buffer_add(&call->arguments, r->word.v, r->word.len);
    buffer_text(&call->arguments, "\": ");
    call->told = true;
    r->state = ITEM;
    return READ_ON;
}

enum reading tool_python_read(struct tool_reader *r, struct tool_call *call, char c, bool *taken)
{
    *taken = true;
    switch ((enum state)r->state) {
    case NAME:
        return name(r, call, c);
    case ARGUMENT:
        return argument(r, call, c);
    case KEYWORD:
    case EQUALS:
        return keyword(r, call, c);
    case ITEM:
        return item(r, call, c);
    case WORD:
        return word(r, call, c);
    case STRING:
        return string(r, call, c);
    case ESCAPE:
        return escape(r, call, c);
    case CODE:
        return code(r, call, c);
    case STRUNG:
        return strung(r, call, c);
    case BEHIND:
        return behind(r, call, c);
    }
    return READ_BROKEN;
}
