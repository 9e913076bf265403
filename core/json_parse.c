/*
 * Owns the reading of JSON text (RFC 8259) into jansson's values. jansson holds, looks up, changes
 * and writes them; it does not read them for us, since its reader takes twelve nanoseconds for a
 * byte, most of what a request costs before the model sees it, and does not survive an allocation
 * that fails. What is taken and what is refused is what jansson takes and refuses with
 * JSON_REJECT_DUPLICATES, JSON_ALLOW_NUL and JSON_DECODE_ANY, in its words and with its line and
 * column (tests and fuzzers hold the two against each other), but for the depth, which is the
 * caller's.
 *
 * The text is read once, by tokens. A string without escapes goes straight from the text into its
 * value. Lines and columns are counted when somebody is to be told.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/json.h"
#include "core/utf8.h"

#define NEAR_MAX 20 /* bytes of a token that are worth repeating */

/* Tokens are the characters {}[]:, and these. */
enum { TOKEN_END, TOKEN_INVALID, TOKEN_STRING = '"', TOKEN_VALUE = '0' };

struct parser {
    const char *text, *at, *end;
    const char *from; /* where the last token begins; it ends at `at` */
    const char *v;    /* the last string, of len bytes: in the text, or in word */
    size_t len;
    struct buffer word;
    json_t *value; /* a number or a word that was read; its parser's until taken */
    int depth;     /* of brackets that may still be opened */
    int max_depth;
    const char *what;
    enum status status;
    struct error *err;
};

/* ---- refusals ---------------------------------------------------------------------------------
 */

static json_t *no_memory(struct parser *p)
{
    if (!p->status)
        p->status = error_memory(p->err, "parsing JSON");
    return NULL;
}

/* Columns count characters. */
static void refuse_text(struct parser *p, enum status code, const char *sentence)
{
    int line = 1, column = 0;
    for (const char *c = p->text; c < p->at; c++) {
        line += *c == '\n';
        column = *c == '\n' ? 0 : column + (((unsigned char)*c & 0xC0) != 0x80);
    }
    p->status = code;
    if (code == ST_CONFIG_DUPLICATE_KEY)
        error_set(p->err, code, "%s: line %d: %s", p->what, line, sentence);
    else
        error_set(p->err, code, "%s: line %d, column %d: %s", p->what, line, column, sentence);
}

/* Refuses the last token; what was refused first is told. */
static void refuse_near(struct parser *p, enum status code, const char *why)
{
    char sentence[160];
    int n = (int)(p->at - p->from > NEAR_MAX ? NEAR_MAX + 1 : p->at - p->from);
    if (p->status)
        return;
    if (n > NEAR_MAX)
        snprintf(sentence, sizeof sentence, "%s", why);
    else if (n)
        snprintf(sentence, sizeof sentence, "%s near '%.*s'", why, n, p->from);
    else
        snprintf(sentence, sizeof sentence, "%s near end of file", why);
    refuse_text(p, code, sentence);
}

static json_t *refuse(struct parser *p, const char *why)
{
    refuse_near(p, ST_INVALID_JSON, why);
    return NULL;
}

static int refuse_token(struct parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int refuse_token(struct parser *p, const char *fmt, ...)
{
    char why[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    refuse_near(p, ST_INVALID_JSON, why);
    return TOKEN_INVALID;
}

/* ---- characters -------------------------------------------------------------------------------
 */

/* Passes one character, if it is one. */
static bool pass(struct parser *p)
{
    size_t n;
    char why[40];
    if (utf8_scan(p->at, (size_t)(p->end - p->at), &n) == UTF8_GOOD) {
        p->at += n;
        return true;
    }
    snprintf(why, sizeof why, "unable to decode byte 0x%x", (unsigned)(unsigned char)*p->at);
    if (p->from < p->at)
        refuse(p, why);
    else if (!p->status)
        refuse_text(p, ST_INVALID_JSON, why);
    return false;
}

static bool is_digit(const struct parser *p)
{
    return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Bytes that stand for themselves in a string, one by one. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* ---- strings ----------------------------------------------------------------------------------
 */

/* Passes the escape whose backslash has been passed. */
static bool pass_escape(struct parser *p)
{
    if (p->at < p->end && *p->at == 'u') {
        p->at++;
        for (int i = 0; i < 4; i++, p->at++) {
            if (p->at < p->end && is_hex(*p->at))
                continue;
            if (p->at == p->end || pass(p))
                refuse(p, "invalid escape");
            return false;
        }
        return true;
    }
    bool known = p->at < p->end && *p->at && strchr("\"\\/bfnrt", *p->at);
    if (p->at < p->end && !pass(p))
        return false;
    if (!known)
        refuse(p, "invalid escape");
    return known;
}

static uint32_t hex4(const char *at)
{
    uint32_t c = 0;
    for (int i = 0; i < 4; i++) {
        char x = at[i];
        c = c << 4 | (uint32_t)(x <= '9' ? x - '0' : (x | 0x20) - 'a' + 10);
    }
    return c;
}

/* Adds what \uXXXX (one, or a pair of surrogates) at `at` stands for; where it ends. */
static const char *add_unicode(struct parser *p, const char *at)
{
    uint32_t c = hex4(at + 2), low;
    char bytes[4];
    at += 6;
    if (c >= 0xD800 && c < 0xDC00 && at[0] == '\\' && at[1] == 'u') {
        low = hex4(at + 2);
        if (low < 0xDC00 || low > 0xDFFF) {
            refuse_token(p, "invalid Unicode '\\u%04X\\u%04X'", c, low);
            return NULL;
        }
        c = ((c - 0xD800) << 10) + (low - 0xDC00) + 0x10000;
        at += 6;
    } else if (c >= 0xD800 && c <= 0xDFFF) {
        refuse_token(p, "invalid Unicode '\\u%04X'", c);
        return NULL;
    }
    buffer_add(&p->word, bytes, utf8_write(c, bytes));
    return at;
}

/* The text from..end, whose escapes are all well formed and which a quote follows, into word. */
static bool unescape(struct parser *p, const char *from, const char *end)
{
    static const char short_forms[] = "b\bf\fn\nr\rt\t";
    buffer_clear(&p->word);
    while (from < end) {
        const char *slash = memchr(from, '\\', (size_t)(end - from));
        const char *stop = slash ? slash : end;
        buffer_add(&p->word, from, (size_t)(stop - from));
        if (!slash)
            break;
        if (slash[1] == 'u') {
            if (!(from = add_unicode(p, slash)))
                return false;
            continue;
        }
        const char *form = strchr(short_forms, slash[1]);
        buffer_add(&p->word, form ? form + 1 : slash + 1, 1);
        from = slash + 2;
    }
    if (p->word.failed)
        no_memory(p);
    return !p->word.failed;
}

static int scan_string(struct parser *p)
{
    bool escapes = false;
    for (p->at++;;) {
        while (p->at < p->end && is_plain((unsigned char)*p->at))
            p->at++;
        if (p->at == p->end)
            return refuse_token(p, "premature end of input");
        unsigned char c = (unsigned char)*p->at;
        if (c == '"')
            break;
        if (c == '\n')
            return refuse_token(p, "unexpected newline");
        if (c < 0x20)
            return refuse_token(p, "control character 0x%x", (unsigned)c);
        if (!pass(p))
            return TOKEN_INVALID;
        if (c != '\\')
            continue;
        escapes = true;
        if (!pass_escape(p))
            return TOKEN_INVALID;
    }
    p->v = p->from + 1;
    p->len = (size_t)(p->at++ - p->v);
    if (!escapes)
        return TOKEN_STRING;
    if (!unescape(p, p->v, p->v + p->len))
        return TOKEN_INVALID;
    p->v = p->word.v;
    p->len = p->word.len;
    return TOKEN_STRING;
}

/* ---- numbers and words ------------------------------------------------------------------------
 */

static int made(struct parser *p, json_t *value)
{
    p->value = value;
    if (value)
        return TOKEN_VALUE;
    no_memory(p);
    return TOKEN_INVALID;
}

static int integer(struct parser *p)
{
    bool negative = *p->from == '-';
    uint64_t n = 0, most = (uint64_t)INT64_MAX + negative;
    for (const char *c = p->from + negative; c < p->at; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (n > (most - digit) / 10)
            return refuse_token(p, negative ? "too big negative integer" : "too big integer");
        n = 10 * n + digit;
    }
    return made(p, json_integer((json_int_t)(negative ? 0 - n : n)));
}

/* The program sets no locale: the point is a point. */
static int real(struct parser *p)
{
    buffer_clear(&p->word);
    buffer_add(&p->word, p->from, (size_t)(p->at - p->from));
    buffer_add(&p->word, "", 1);
    if (p->word.failed)
        return made(p, NULL);
    double f = strtod(p->word.v, NULL);
    if (isinf(f))
        return refuse_token(p, "real number overflow");
    return made(p, json_real(f));
}

static bool pass_digits(struct parser *p)
{
    const char *from = p->at;
    while (is_digit(p))
        p->at++;
    return p->at > from;
}

static int scan_number(struct parser *p)
{
    bool whole = true;
    p->at += *p->at == '-';
    if (p->at < p->end && *p->at == '0') {
        p->at++;
        if (is_digit(p))
            return TOKEN_INVALID;
    } else if (!pass_digits(p)) {
        return TOKEN_INVALID;
    }
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        whole = false;
        if (!pass_digits(p))
            return TOKEN_INVALID;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        whole = false;
        p->at += p->at < p->end && (*p->at == '+' || *p->at == '-');
        if (!pass_digits(p))
            return TOKEN_INVALID;
    }
    return whole ? integer(p) : real(p);
}

static int scan_word(struct parser *p)
{
    while (p->at < p->end && is_letter(*p->at))
        p->at++;
    size_t n = (size_t)(p->at - p->from);
    if (n == 4 && !memcmp(p->from, "true", 4))
        return made(p, json_true());
    if (n == 5 && !memcmp(p->from, "false", 5))
        return made(p, json_false());
    if (n == 4 && !memcmp(p->from, "null", 4))
        return made(p, json_null());
    return TOKEN_INVALID;
}

static int scan(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
        p->at++;
    p->from = p->at;
    if (p->at == p->end)
        return TOKEN_END;
    char c = *p->at;
    switch (c) {
    case '{':
    case '}':
    case '[':
    case ']':
    case ':':
    case ',':
        p->at++;
        return c;
    case '"':
        return scan_string(p);
    case '-':
        return scan_number(p);
    default:
        if (is_digit(p))
            return scan_number(p);
        if (is_letter(c))
            return scan_word(p);
        pass(p);
        return TOKEN_INVALID;
    }
}

/* ---- values -----------------------------------------------------------------------------------
 */

static json_t *value(struct parser *p, int token);

/* A member whose key has been read: its colon and its value. */
static void member(struct parser *p, json_t *to)
{
    const char *key = p->v;
    size_t len = p->len;
    struct buffer own = {0}; // the key, when it does not lie in the text
    json_t *v = NULL;
    if (memchr(key, 0, len))
        refuse(p, "NUL byte in object key not supported");
    else if (json_object_getn(to, key, len))
        refuse_near(p, ST_CONFIG_DUPLICATE_KEY, "duplicate object key");
    if (p->status)
        return;
    if (key == p->word.v) {
        own = p->word;
        p->word = (struct buffer){0};
    }
    if (scan(p) != ':')
        refuse(p, "':' expected");
    else
        v = value(p, scan(p));
    if (v && json_object_setn_new_nocheck(to, key, len, v))
        no_memory(p);
    buffer_free(&own);
}

/* The list or object that was read, or nothing. */
static json_t *closed(struct parser *p, json_t *v)
{
    if (!p->status)
        return v;
    json_decref(v);
    return NULL;
}

static json_t *object(struct parser *p)
{
    json_t *to = json_object();
    if (!to)
        return no_memory(p);
    int token = scan(p);
    if (token == '}')
        return to;
    for (;;) {
        if (token != TOKEN_STRING)
            refuse(p, "string or '}' expected");
        else
            member(p, to);
        if (p->status || (token = scan(p)) != ',')
            break;
        token = scan(p);
    }
    if (token != '}')
        refuse(p, "'}' expected");
    return closed(p, to);
}

static json_t *array(struct parser *p)
{
    json_t *to = json_array();
    if (!to)
        return no_memory(p);
    int token = scan(p);
    if (token == ']')
        return to;
    while (token != TOKEN_END) {
        json_t *item = value(p, token);
        if (item && json_array_append_new(to, item))
            no_memory(p);
        if (p->status || (token = scan(p)) != ',')
            break;
        token = scan(p);
    }
    if (token != ']')
        refuse(p, "']' expected");
    return closed(p, to);
}

/* An object or a list, when it is not too deep. */
static json_t *inner(struct parser *p, int token)
{
    if (!p->depth) {
        if (!p->status)
            p->status = error_set(p->err, ST_INVALID_JSON, "%s: nested deeper than %d levels",
                                  p->what, p->max_depth);
        return NULL;
    }
    p->depth--;
    json_t *v = token == '{' ? object(p) : array(p);
    p->depth++;
    return v;
}

static json_t *value(struct parser *p, int token)
{
    json_t *v;
    switch (token) {
    case TOKEN_STRING:
        v = json_stringn_nocheck(p->v, p->len);
        return v ? v : no_memory(p);
    case TOKEN_VALUE:
        v = p->value;
        p->value = NULL;
        return v;
    case '{':
    case '[':
        return inner(p, token);
    case TOKEN_INVALID:
        return refuse(p, "invalid token");
    default:
        return refuse(p, "unexpected token");
    }
}

enum status json_parse(const char *text, size_t len, int max_depth, const char *what, json_t **out,
                       struct error *err)
{
    static const char nothing[1];
    struct parser p = {.text = len ? text : nothing,
                       .depth = max_depth,
                       .max_depth = max_depth,
                       .what = what,
                       .err = err};
    p.at = p.from = p.text;
    p.end = p.text + len;
    json_t *v = value(&p, scan(&p));
    if (v && scan(&p) != TOKEN_END)
        refuse(&p, "end of file expected");
    json_decref(p.value);
    buffer_free(&p.word);
    if (p.status)
        json_decref(v);
    *out = p.status ? NULL : v;
    return p.status;
}
