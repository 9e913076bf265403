/*
 * Owns formatting. A conversion is read into a struct spec, whichever syntax it came from, and one
 * function writes a number or a text by it.
 */
#include "core/template/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/template/access.h"
#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/utf8.h"

#define DIGITS_MAX 4096 /* of a precision */

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
struct spec {
    const char *fill; /* one character */
    size_t fill_len;
    char align; /* < > ^ =, 0: the type's own */
    char sign;  /* + - blank, 0 is - */
    bool alternate, zero;
    int64_t width, precision; /* precision < 0: none */
    char group;               /* , _ or 0 */
    char type;                /* 0: none */
};

/* ---- writing one value ------------------------------------------------------------------------
 */

static enum status fill(struct render *r, struct buffer *b, const struct spec *spec, int64_t n)
{
    enum status s = n > 0 ? render_work(r, (uint64_t)n / 16) : ST_OK;
    for (; !s && n > 0; n--)
        s = render_add(r, b, spec->fill, spec->fill_len);
    return s;
}

/* prefix and body, padded; `=` puts the padding between them. */
static enum status padded(struct render *r, struct buffer *b, const struct spec *spec, char align,
                          const char *prefix, const char *body, size_t len, int64_t chars)
{
    int64_t pad = spec->width - chars - (int64_t)strlen(prefix), left = 0;
    if (pad < 0)
        pad = 0;
    left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    enum status s = fill(r, b, spec, left);
    if (!s)
        s = render_add(r, b, prefix, strlen(prefix));
    if (!s && align == '=')
        s = fill(r, b, spec, pad);
    if (!s)
        s = render_add(r, b, body, len);
    return s || align == '=' ? s : fill(r, b, spec, pad - left);
}

/* digits with a separator between groups of `size`, written backwards from end; where it begins. */
static char *grouped(char *end, const char *digits, size_t n, char separator, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        if (separator && i && i % size == 0)
            *--end = separator;
        *--end = digits[n - 1 - i];
    }
    return end;
}

/* A number whose digits begin with `whole` ones, with its sign and base prefix. */
static enum status add_number(struct render *r, struct buffer *b, const struct spec *spec,
                              bool minus, const char *base, const char *digits, size_t whole)
{
    char prefix[8], text[2 * (DIGITS_MAX + 512)];
    size_t len = strlen(digits), size = base[0] && base[1] != 'd' ? 4 : 3;
    snprintf(prefix, sizeof prefix, "%s%s",
             minus                                    ? "-"
             : spec->sign == '+' || spec->sign == ' ' ? (char[]){spec->sign, 0}
                                                      : "",
             spec->alternate && base[0] && base[1] != 'd' ? base : "");
    bool zero = spec->zero && !spec->align;
    struct spec with = *spec;
    if (zero && spec->fill_len == 1 && spec->fill[0] == ' ')
        with.fill = "0";
    char align = spec->align ? spec->align : zero ? '=' : '>';
    if (spec->group && (zero || align == '=') && with.fill[0] == '0' && spec->width > 0)
        return render_unsupported(r, "zeros in groups in a format specification");
    char *middle = text + sizeof text - 1 - (len - whole);
    memcpy(middle, digits + whole, len - whole);
    char *from = grouped(middle, digits, whole, spec->group, size);
    size_t n = (size_t)(middle - from) + len - whole;
    return padded(r, b, &with, align, prefix, from, n, (int64_t)n);
}

static enum status add_int(struct render *r, struct buffer *b, const struct spec *spec, int64_t i)
{
    char digits[72], *p = digits + sizeof digits - 1;
    uint64_t n = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    unsigned base = spec->type == 'x' || spec->type == 'X' ? 16
                    : spec->type == 'o'                    ? 8
                    : spec->type == 'b'                    ? 2
                                                           : 10;
    char name[4] = {'0', spec->type && base != 10 ? spec->type : 'd', 0};
    *p = 0;
    do {
        *--p = (spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[n % base];
        n /= base;
    } while (n);
    return add_number(r, b, spec, i < 0, name, p, strlen(p));
}

static enum status add_float(struct render *r, struct buffer *b, const struct spec *spec, double f)
{
    char digits[DIGITS_MAX + 400], how[16];
    bool minus = signbit(f) && !isnan(f);
    bool percent = spec->type == '%';
    f = fabs(percent ? f * 100 : f);
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (isnan(f) || isinf(f)) {
        bool upper = spec->type == 'F' || spec->type == 'E' || spec->type == 'G';
        strcpy(digits, isnan(f) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"));
        struct spec plain = *spec;
        plain.zero = false;
        return add_number(r, b, &plain, minus, "", digits, strlen(digits));
    }
    if (!spec->type && spec->precision < 0) {
        show_float(f, digits);
    } else {
        char type = percent ? 'f' : spec->type ? spec->type : 'g';
        snprintf(how, sizeof how, "%%%s.*%c", spec->alternate ? "#" : "", type);
        snprintf(digits, sizeof digits, how, precision, f);
    }
    // without a type a whole number keeps its ".0"
    if (!spec->type && spec->precision >= 0 && !strpbrk(digits, ".e"))
        return render_unsupported(r, "a precision without a type in a format specification");
    if (percent)
        strcat(digits, "%");
    return add_number(r, b, spec, minus, "", digits, strspn(digits, "0123456789"));
}

static enum status add_text(struct render *r, struct buffer *b, const struct spec *spec,
                            const struct text *t)
{
    size_t len = t->len;
    int64_t chars = (int64_t)t->chars;
    if (spec->precision >= 0 && spec->precision < chars) {
        len = value_offset(t, (size_t)spec->precision);
        chars = spec->precision;
    }
    return padded(r, b, spec, spec->align ? spec->align : '<', "", t->v, len, chars);
}

/* ---- reading a specification ------------------------------------------------------------------
 */

static enum status bad(struct render *r)
{
    return render_fail(r, "Invalid format specifier");
}

/* Digits at *p, bounded; -1 if there are none. */
static int64_t digits_at(const char **p, const char *end)
{
    int64_t n = -1;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
        if ((n = (n < 0 ? 0 : n) * 10 + (**p - '0')) > INT32_MAX)
            n = INT32_MAX;
    return n;
}

static enum status read_spec(struct render *r, const struct text *t, struct spec *spec)
{
    const char *p = t->v, *end = p + t->len;
    *spec = (struct spec){.fill = " ", .fill_len = 1, .precision = -1};
    size_t n = t->len ? utf8_length((unsigned char)*p) : 0;
    if (t->len > n && strchr("<>^=", p[n]) && p[n]) {
        spec->fill = p;
        spec->fill_len = n;
        spec->align = p[n];
        p += n + 1;
    } else if (p < end && *p && strchr("<>^=", *p)) {
        spec->align = *p++;
    }
    if (p < end && *p && strchr("+- ", *p))
        spec->sign = *p++;
    if (p < end && *p == '#') {
        spec->alternate = true;
        p++;
    }
    if (p < end && *p == '0') {
        spec->zero = true;
        p++;
    }
    spec->width = digits_at(&p, end);
    if (p < end && (*p == ',' || *p == '_'))
        spec->group = *p++;
    if (p < end && *p == '.') {
        p++;
        spec->precision = digits_at(&p, end);
        if (spec->precision < 0)
            return render_fail(r, "Format specifier missing precision");
    }
    if (p < end)
        spec->type = *p++;
    if (spec->precision > DIGITS_MAX && spec->type != 's' && spec->type)
        return render_unsupported(r, "a precision above %d", DIGITS_MAX);
    return p < end ? bad(r) : ST_OK;
}

/* format(v, spec) */
static enum status add_formatted(struct render *r, struct buffer *b, struct value v,
                                 const struct text *t)
{
    struct spec spec;
    if (!t->len)
        return show_str(r, v, b);
    enum status s = read_spec(r, t, &spec);
    if (s)
        return s;
    bool whole = v.kind == VALUE_INT || (v.kind == VALUE_BOOL && spec.type);
    if (v.kind == VALUE_TEXT) {
        if ((spec.type && spec.type != 's') || spec.sign || spec.align == '=' || spec.group)
            return render_fail(r, "Unknown format code for object of type 'str'");
        if (spec.zero) { // the fill, nothing else
            spec.fill = spec.align ? spec.fill : "0";
            spec.zero = false;
        }
        return add_text(r, b, &spec, v.text);
    }
    if (whole && (!spec.type || strchr("dxXob", spec.type))) {
        if (spec.precision >= 0)
            return render_fail(r, "Precision not allowed in integer format specifier");
        return add_int(r, b, &spec, v.kind == VALUE_BOOL ? v.flag : v.i);
    }
    if ((whole || v.kind == VALUE_FLOAT) && (!spec.type || strchr("eEfFgG%", spec.type))) {
        if (spec.precision > DIGITS_MAX)
            return render_unsupported(r, "a precision above %d", DIGITS_MAX);
        double f = v.kind == VALUE_FLOAT ? v.f : v.kind == VALUE_BOOL ? v.flag : (double)v.i;
        return add_float(r, b, &spec, f);
    }
    if (whole || v.kind == VALUE_FLOAT)
        return render_fail(r, "Unknown format code '%c' for object of type '%s'", spec.type,
                           value_type(v));
    if (v.kind == VALUE_BOOL)
        return render_unsupported(r, "a format specification without a type for a bool");
    return render_fail(r, "unsupported format string passed to %s.__format__", value_type(v));
}

/* ---- "{}".format() ----------------------------------------------------------------------------
 */

struct braces {
    struct render *r;
    const struct call *c;
    int64_t next; /* automatic number; -1: they are written */
    bool numbered;
    struct buffer *b;
};

static bool all_digits(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] >= '0' && p[i] <= '9')
        i++;
    return n && i == n && n < 10;
}

static int64_t to_number(const char *p, size_t n)
{
    int64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = 10 * v + (p[i] - '0');
    return v;
}

/* The argument that a field begins with: a number, a name, nothing. */
static enum status first_of(struct braces *x, const char *p, size_t n, struct value *out)
{
    const struct call *c = x->c;
    if (!n || all_digits(p, n)) {
        int64_t i = n ? to_number(p, n) : x->next;
        if (n ? x->next > 0 : x->numbered)
            return render_fail(x->r, "cannot switch between manual and automatic field numbering");
        x->numbered |= n > 0;
        x->next += !n;
        if (i < 0 || (uint64_t)i >= c->n)
            return render_fail(x->r,
                               "Replacement index %lld out of range for positional args tuple",
                               (long long)i);
        *out = c->args[i];
        return ST_OK;
    }
    for (size_t i = 0; i < c->n_named; i++)
        if (c->named[i].name->len == n && !memcmp(c->named[i].name->v, p, n)) {
            *out = c->named[i].v;
            return ST_OK;
        }
    return render_fail(x->r, "KeyError: '%.*s'", (int)n, p);
}

/* name, then .attribute and [item] */
static enum status field(struct braces *x, const char *p, size_t n, struct value *out)
{
    size_t at = 0;
    while (at < n && p[at] != '.' && p[at] != '[')
        at++;
    enum status s = first_of(x, p, at, out);
    while (!s && at < n) {
        bool item = p[at] == '[';
        size_t from = ++at;
        while (at < n && (item ? p[at] != ']' : p[at] != '.' && p[at] != '['))
            at++;
        if (at == from || (item && at == n))
            return render_fail(x->r, "Empty attribute in format string");
        struct value key;
        s = render_text(x->r, p + from, at - from, &key);
        if (!s && item && all_digits(p + from, at - from))
            s = access_item(x->r, *out, value_int(to_number(p + from, at - from)), out);
        else if (!s && item)
            s = access_item(x->r, *out, key, out);
        else if (!s)
            s = access_attribute(x->r, *out, key.text, natives_is_attribute(key.text), out);
        at += item;
    }
    return s;
}

/* The inside of one pair of braces. */
static enum status replacement(struct braces *x, const char *p, size_t n)
{
    size_t at = 0;
    for (bool inside = false; at < n && (inside || (p[at] != '!' && p[at] != ':')); at++)
        inside = p[at] == '[' || (inside && p[at] != ']');
    struct value v;
    enum status s = field(x, p, at, &v);
    char conversion = 0;
    if (!s && at < n && p[at] == '!') {
        conversion = at + 1 < n ? p[at + 1] : 0;
        at += 2;
        if ((conversion != 'r' && conversion != 's') || (at < n && p[at] != ':'))
            return conversion == 'a' ? render_unsupported(x->r, "the conversion !a")
                                     : render_fail(x->r, "Unknown conversion specifier");
    }
    if (!s && conversion) {
        struct buffer b = {0};
        s = render_take(x->r, conversion == 'r' ? show_repr(x->r, v, &b) : show_str(x->r, v, &b),
                        &b, &v);
    }
    struct value spec;
    at += at < n;
    if (!s && memchr(p + at, '{', n - at))
        return render_unsupported(x->r, "a field inside a format specification");
    if (!s)
        s = render_text(x->r, p + at, n - at, &spec);
    return s ? s : add_formatted(x->r, x->b, v, spec.text);
}

static enum status braces(struct braces *x, const struct text *t)
{
    enum status s = ST_OK;
    for (size_t at = 0; !s && at < t->len;) {
        char c = t->v[at];
        if (c != '{' && c != '}') {
            size_t from = at;
            while (at < t->len && t->v[at] != '{' && t->v[at] != '}')
                at++;
            s = render_add(x->r, x->b, t->v + from, at - from);
        } else if (at + 1 < t->len && t->v[at + 1] == c) {
            s = render_add(x->r, x->b, &c, 1);
            at += 2;
        } else if (c == '}') {
            return render_fail(x->r, "Single '}' encountered in format string");
        } else {
            size_t from = ++at;
            for (int depth = 1; at < t->len; at++) {
                depth += (t->v[at] == '{') - (t->v[at] == '}');
                if (!depth)
                    break;
            }
            if (at == t->len)
                return render_fail(x->r, "expected '}' before end of string");
            s = render_work(x->r, 1);
            if (!s)
                s = replacement(x, t->v + from, at - from);
            at++;
        }
    }
    return s;
}

enum status format_braces(struct render *r, const struct text *fmt, const struct call *c,
                          struct value *out)
{
    struct buffer b = {0};
    struct braces x = {.r = r, .c = c, .b = &b};
    return render_take(r, braces(&x, fmt), &b, out);
}

/* ---- "%s" % -----------------------------------------------------------------------------------
 */

struct percent {
    struct render *r;
    const struct dict *names; /* or NULL */
    const struct value *values;
    size_t n, next;
    struct buffer *b;
};

static enum status next_value(struct percent *x, struct value *out)
{
    if (x->next >= x->n)
        return render_fail(x->r, "not enough arguments for format string");
    *out = x->values[x->next++];
    return ST_OK;
}

/* A width or precision: digits, or a star. */
static enum status amount(struct percent *x, const char **p, const char *end, int64_t *out)
{
    struct value v = {0};
    if (*p == end || **p != '*') {
        *out = digits_at(p, end);
        return ST_OK;
    }
    (*p)++;
    enum status s = next_value(x, &v);
    if (!s && v.kind != VALUE_INT)
        return render_fail(x->r, "* wants int");
    *out = s ? 0 : v.i < -INT32_MAX ? -INT32_MAX : v.i > INT32_MAX ? INT32_MAX : v.i;
    return s;
}

static enum status add_converted(struct percent *x, struct spec *spec, struct value v)
{
    struct render *r = x->r;
    const struct text *t;
    struct buffer b = {0};
    struct value shown;
    enum status s;
    bool number = v.kind == VALUE_INT || v.kind == VALUE_BOOL || v.kind == VALUE_FLOAT;
    switch (spec->type) {
    case 's':
    case 'r':
        s = spec->type == 's' ? show_text(r, v, &t)
                              : render_take(r, show_repr(r, v, &b), &b, &shown);
        if (!s && spec->type == 'r')
            t = shown.text;
        spec->align = spec->align ? spec->align : '>';
        spec->zero = false;
        return s ? s : add_text(r, x->b, spec, t);
    case 'c':
        if (v.kind != VALUE_TEXT || v.text->chars != 1)
            return render_unsupported(r, "%%c of anything but one character");
        spec->align = spec->align ? spec->align : '>';
        return add_text(r, x->b, spec, v.text);
    case 'i':
    case 'u':
        spec->type = 'd';
        break;
    case 'd':
    case 'x':
    case 'X':
    case 'o':
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        break;
    default:
        return spec->type == 'a' ? render_unsupported(r, "the conversion %%a")
                                 : render_fail(r, "unsupported format character");
    }
    if (!number)
        return v.kind == VALUE_UNDEFINED
                   ? operate_undefined(r, v.undefined)
                   : render_fail(r, "%%%c format: a number is required, not %s", spec->type,
                                 value_type(v));
    if (strchr("eEfFgG", spec->type)) {
        if (spec->precision > DIGITS_MAX)
            return render_unsupported(r, "a precision above %d", DIGITS_MAX);
        return add_float(r, x->b, spec,
                         v.kind == VALUE_FLOAT  ? v.f
                         : v.kind == VALUE_BOOL ? v.flag
                                                : (double)v.i);
    }
    if (spec->precision >= 0)
        return render_unsupported(r, "a precision of an integer");
    if (v.kind == VALUE_FLOAT && (spec->type != 'd' || !isfinite(v.f)))
        return render_fail(r, "%%%c format: an integer is required, not float", spec->type);
    if (v.kind == VALUE_FLOAT && fabs(v.f) >= 0x1p63)
        return render_unsupported(r, "an integer beyond 64 bits");
    return add_int(r, x->b, spec,
                   v.kind == VALUE_FLOAT  ? (int64_t)v.f
                   : v.kind == VALUE_BOOL ? v.flag
                                          : v.i);
}

/* Behind a %: its conversion; *at moves on. */
static enum status conversion(struct percent *x, const char **at, const char *end)
{
    const char *p = *at;
    struct spec spec = {.fill = " ", .fill_len = 1, .precision = -1};
    struct value v = {0};
    enum status s = ST_OK;
    bool named = p < end && *p == '(', left = false;
    if (named) {
        const char *close = memchr(p, ')', (size_t)(end - p));
        struct value key;
        if (!close)
            return render_fail(x->r, "incomplete format key");
        if (!x->names)
            return render_fail(x->r, "format requires a mapping");
        s = render_text(x->r, p + 1, (size_t)(close - p - 1), &key);
        const struct entry *e = s ? NULL : dict_find(x->names, key);
        if (!s && !e)
            return render_fail(x->r, "KeyError: '%.*s'", (int)key.text->len, key.text->v);
        v = e ? e->v : v;
        p = close + 1;
    }
    for (; !s && p < end && *p && strchr("-+ #0", *p); p++) {
        left |= *p == '-';
        spec.zero |= *p == '0';
        spec.alternate |= *p == '#';
        if (*p == '+' || (*p == ' ' && !spec.sign))
            spec.sign = *p;
    }
    if (!s)
        s = amount(x, &p, end, &spec.width);
    if (!s && spec.width < -1) {
        left = true;
        spec.width = -spec.width;
    }
    spec.align = left ? '<' : 0;
    if (!s && p < end && *p == '.') {
        p++;
        s = amount(x, &p, end, &spec.precision);
        spec.precision = spec.precision < 0 ? 0 : spec.precision;
    }
    while (p < end && *p && strchr("hlL", *p))
        p++;
    if (!s && p == end)
        return render_fail(x->r, "incomplete format");
    if (s)
        return s;
    spec.type = *p++;
    *at = p;
    if (spec.type == '%')
        return render_add(x->r, x->b, "%", 1);
    if (!named)
        s = next_value(x, &v);
    return s ? s : add_converted(x, &spec, v);
}

enum status format_percent(struct render *r, const struct text *fmt, struct value with,
                           struct value *out)
{
    struct buffer b = {0};
    struct percent x = {.r = r, .b = &b, .values = &with, .n = 1};
    if (with.kind == VALUE_TUPLE) {
        x.values = with.list->v;
        x.n = with.list->n;
    } else if (with.kind == VALUE_DICT) {
        x.names = with.dict;
    }
    const char *p = fmt->v, *end = p + fmt->len;
    enum status s = ST_OK;
    while (!s && p < end) {
        const char *next = memchr(p, '%', (size_t)(end - p));
        s = render_add(r, &b, p, (size_t)((next ? next : end) - p));
        p = next ? next + 1 : end;
        if (!s && next)
            s = render_work(r, 1);
        if (!s && next)
            s = conversion(&x, &p, end);
    }
    // what Python takes for a mapping, because it has items
    bool lenient = with.kind == VALUE_DICT || with.kind == VALUE_LIST || with.kind == VALUE_RANGE ||
                   with.kind == VALUE_UNDEFINED;
    if (!s && x.next < x.n && !lenient)
        s = render_fail(r, "not all arguments converted during string formatting");
    return render_take(r, s, &b, out);
}
