/*
 * Owns how values are written. str and repr are Python's to the byte, with one thing that cannot
 * be: objects that Python shows with their address (generators, methods) are refused.
 */
#include "core/template/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/characters.h"
#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/operate.h"
#include "core/utf8.h"

static enum status add(struct render *r, struct buffer *b, const char *s)
{
    return render_add(r, b, s, strlen(s));
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

/* The next decimal away from zero of as many digits; false where that takes a carry too many. */
static bool increment(char *digits)
{
    char *p = strchr(digits, 'e') - 1;
    for (; p >= digits && (*p == '9' || *p == '.'); p--)
        *p = *p == '9' ? '0' : '.';
    if (p < digits || *p == '-')
        return false;
    (*p)++;
    return true;
}

/*
 * d.ddde+x of the fewest digits that read back. The nearest decimal of n digits does unless no such
 * does, but for powers of two: below them floats are twice as dense, so that the decimal above may
 * read back where the nearer one below does not.
 */
static void shortest(double f, char digits[32])
{
    int exponent;
    bool power = fabs(frexp(f, &exponent)) == 0.5;
    for (int n = 0; n < 17; n++) {
        snprintf(digits, 32, "%.*e", n, f);
        if (strtod(digits, NULL) == f || (power && increment(digits) && strtod(digits, NULL) == f))
            return;
    }
}

int show_float(double f, char *to)
{
    if (isnan(f))
        return sprintf(to, "nan");
    if (isinf(f))
        return sprintf(to, f < 0 ? "-inf" : "inf");
    char digits[32];
    shortest(f, digits);
    char *e = strchr(digits, 'e'), *end = e;
    int exponent = (int)strtol(e + 1, NULL, 10);
    bool point = memchr(digits, '.', (size_t)(e - digits));
    while (point && end[-1] == '0')
        end--;
    end -= end[-1] == '.';
    bool minus = digits[0] == '-';
    if (exponent < -4 || exponent >= 16) { // 1e+16, 1.5e-05
        return sprintf(to, "%.*se%c%02d", (int)(end - digits), digits, exponent < 0 ? '-' : '+',
                       abs(exponent));
    }
    int n = 0, len = sprintf(to, "%s", minus ? "-" : "");
    char plain[20];
    for (char *p = digits + minus; p < end; p++)
        if (*p != '.')
            plain[n++] = *p;
    if (exponent < 0) {
        len += sprintf(to + len, "0.%.*s", -exponent - 1, "0000");
        return len + sprintf(to + len, "%.*s", n, plain);
    }
    for (int i = 0; i <= exponent || i < n; i++) {
        if (i == exponent + 1)
            to[len++] = '.';
        to[len++] = i < n ? plain[i] : '0';
    }
    if (n <= exponent + 1)
        len += sprintf(to + len, ".0");
    to[len] = 0;
    return len;
}

/* ---- str and repr -----------------------------------------------------------------------------
 */

static enum status repr_text(struct render *r, const struct text *t, struct buffer *b)
{
    bool twice = memchr(t->v, '\'', t->len) && !memchr(t->v, '"', t->len);
    char quote = twice ? '"' : '\'', escape[16];
    enum status s = render_work(r, t->len / 64);
    if (!s)
        s = render_add(r, b, &quote, 1);
    for (size_t at = 0, from = 0, n = 0; !s; at += n) {
        uint32_t c = at < t->len ? utf8_read(t->v + at, &n) : 0;
        bool end = at >= t->len, mark = c == (uint32_t)quote || c == '\\';
        if (!end && !mark && characters_printable(c))
            continue;
        s = render_add(r, b, t->v + from, (end ? t->len : at) - from);
        if (end)
            break;
        from = at + n;
        if (mark)
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else
            snprintf(escape, sizeof escape,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        if (!s)
            s = add(r, b, escape);
    }
    return s ? s : render_add(r, b, &quote, 1);
}

static enum status repr_items(struct render *r, struct value v, const char *open, const char *close,
                              struct buffer *b)
{
    const struct list *l;
    enum status s = iterate_all(r, v, &l);
    if (!s)
        s = add(r, b, open);
    for (size_t i = 0; !s && i < l->n; i++) {
        s = i ? add(r, b, ", ") : ST_OK;
        if (!s)
            s = show_repr(r, l->v[i], b);
    }
    if (!s && v.kind == VALUE_TUPLE && l->n == 1)
        s = add(r, b, ",");
    return s ? s : add(r, b, close);
}

static enum status repr_dict(struct render *r, const struct dict *d, struct buffer *b)
{
    enum status s = add(r, b, "{");
    for (size_t i = 0; !s && i < d->n; i++) {
        s = i ? add(r, b, ", ") : ST_OK;
        if (!s)
            s = show_repr(r, d->v[i].key, b);
        if (!s)
            s = add(r, b, ": ");
        if (!s)
            s = show_repr(r, d->v[i].v, b);
    }
    return s ? s : add(r, b, "}");
}

static enum status repr(struct render *r, struct value v, struct buffer *b)
{
    char text[96];
    enum status s;
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return add(r, b, "Undefined");
    case VALUE_MISSING:
    case VALUE_NONE:
        return add(r, b, "None");
    case VALUE_BOOL:
        return add(r, b, v.flag ? "True" : "False");
    case VALUE_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.i);
        return add(r, b, text);
    case VALUE_FLOAT:
        show_float(v.f, text);
        return add(r, b, text);
    case VALUE_TEXT:
        if (v.text->markup)
            return render_unsupported(r, "repr of an escaped string");
        return repr_text(r, v.text, b);
    case VALUE_LIST:
        return repr_items(r, v, "[", "]", b);
    case VALUE_TUPLE:
        return repr_items(r, v, "(", ")", b);
    case VALUE_DICT:
        return repr_dict(r, v.dict, b);
    case VALUE_KEYS:
        return repr_items(r, v, "dict_keys([", "])", b);
    case VALUE_VALUES:
        return repr_items(r, v, "dict_values([", "])", b);
    case VALUE_ITEMS:
        return repr_items(r, v, "dict_items([", "])", b);
    case VALUE_RANGE:
        snprintf(text, sizeof text,
                 v.range->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
                 (long long)v.range->start, (long long)v.range->stop, (long long)v.range->step);
        return add(r, b, text);
    case VALUE_NAMESPACE:
        s = add(r, b, "<Namespace ");
        if (!s)
            s = repr_dict(r, v.dict, b);
        return s ? s : add(r, b, ">");
    default:
        return render_unsupported(r, "showing a value of type '%s'", value_type(v));
    }
}

enum status show_repr(struct render *r, struct value v, struct buffer *b)
{
    enum status s = render_deeper(r);
    if (!s)
        s = render_work(r, 1);
    if (!s)
        s = repr(r, v, b);
    r->depth--;
    return s;
}

enum status show_str(struct render *r, struct value v, struct buffer *b)
{
    if (v.kind == VALUE_TEXT)
        return render_add(r, b, v.text->v, v.text->len);
    return v.kind == VALUE_UNDEFINED ? ST_OK : show_repr(r, v, b);
}

enum status show_text(struct render *r, struct value v, const struct text **out)
{
    if (v.kind == VALUE_TEXT) {
        *out = v.text;
        return ST_OK;
    }
    struct buffer b = {0};
    struct value t;
    enum status s = render_take(r, show_str(r, v, &b), &b, &t);
    *out = s ? NULL : t.text;
    return s;
}

/* ---- JSON -------------------------------------------------------------------------------------
 */

struct json {
    struct render *r;
    const struct json_style *style;
    struct buffer *b;
    size_t level;
};

static enum status json_value(struct json *j, struct value v);

static enum status json_text(struct json *j, const struct text *t)
{
    static const char plain[] = "\"\"\\\\\nn\rr\tt\ff\bb";
    enum status s = render_add(j->r, j->b, "\"", 1);
    for (size_t at = 0, from = 0, n = 0; !s; at += n) {
        bool end = at >= t->len;
        uint32_t c = end ? 0 : utf8_read(t->v + at, &n);
        bool ascii = c >= 0x20 && c < 0x7F;
        if (!end && c != '"' && c != '\\' && (ascii || (c >= 0x7F && !j->style->ascii)))
            continue;
        s = render_add(j->r, j->b, t->v + from, (end ? t->len : at) - from);
        if (end || s)
            break;
        from = at + n;
        char escape[16] = "\\u";
        const char *known = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        // each character stands before its letter; a letter itself is never looked for
        if (known && (known - plain) % 2 == 0)
            snprintf(escape, sizeof escape, "\\%c", known[1]);
        else if (c >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x",
                     (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                     (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
        else
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        s = add(j->r, j->b, escape);
    }
    return s ? s : render_add(j->r, j->b, "\"", 1);
}

/* What stands before an item: a separator if it is not the first, a new line when indented. */
static enum status json_between(struct json *j, bool first, bool last)
{
    const struct json_style *style = j->style;
    enum status s = ST_OK;
    if (!first && !last)
        s = render_add(j->r, j->b, style->item->v, style->item->len);
    if (!s && style->indent)
        s = render_add(j->r, j->b, "\n", 1);
    for (size_t i = 0; !s && style->indent && i < j->level; i++)
        s = render_add(j->r, j->b, style->indent->v, style->indent->len);
    return s;
}

static enum status json_key(struct json *j, struct value key)
{
    char text[64];
    switch (key.kind) {
    case VALUE_TEXT:
        return json_text(j, key.text);
    case VALUE_INT:
        snprintf(text, sizeof text, "\"%lld\"", (long long)key.i);
        break;
    case VALUE_FLOAT:
        text[0] = '"';
        strcpy(text + 1 + show_float(key.f, text + 1), "\"");
        break;
    case VALUE_BOOL:
        strcpy(text, key.flag ? "\"true\"" : "\"false\"");
        break;
    case VALUE_NONE:
        strcpy(text, "\"null\"");
        break;
    default:
        return render_fail(j->r, "keys must be str, int, float, bool or None, not %s",
                           value_type(key));
    }
    return add(j->r, j->b, text);
}

/* The order of a dict's entries: sorted by key where asked for. */
static enum status json_order(struct json *j, const struct dict *d, const struct entry ***out)
{
    const struct entry **v = value_array(&j->r->heap, d->n + 1, sizeof *v);
    enum status s = ST_OK;
    *out = v;
    if (!v)
        return render_memory(j->r);
    for (size_t i = 0; i < d->n; i++)
        v[i] = &d->v[i];
    for (size_t i = 1; j->style->sort && i < d->n; i++) // few keys; each comparison takes a step
        for (size_t k = i; !s && k > 0; k--) {
            bool less;
            s = operate_less(j->r, v[k]->key, v[k - 1]->key, &less);
            if (s || !less)
                break;
            const struct entry *e = v[k];
            v[k] = v[k - 1];
            v[k - 1] = e;
        }
    return s;
}

static enum status json_dict(struct json *j, const struct dict *d)
{
    const struct entry **v = NULL;
    enum status s = d->n ? json_order(j, d, &v) : ST_OK;
    if (!s)
        s = render_add(j->r, j->b, "{", 1);
    j->level++;
    for (size_t i = 0; !s && i < d->n; i++) {
        s = json_between(j, !i, false);
        if (!s)
            s = json_key(j, v[i]->key);
        if (!s)
            s = render_add(j->r, j->b, j->style->key->v, j->style->key->len);
        if (!s)
            s = json_value(j, v[i]->v);
    }
    j->level--;
    if (!s && d->n)
        s = json_between(j, false, true);
    return s ? s : render_add(j->r, j->b, "}", 1);
}

static enum status json_list(struct json *j, const struct list *l)
{
    enum status s = render_add(j->r, j->b, "[", 1);
    j->level++;
    for (size_t i = 0; !s && i < l->n; i++) {
        s = json_between(j, !i, false);
        if (!s)
            s = json_value(j, l->v[i]);
    }
    j->level--;
    if (!s && l->n)
        s = json_between(j, false, true);
    return s ? s : render_add(j->r, j->b, "]", 1);
}

static enum status json_any(struct json *j, struct value v)
{
    char text[64];
    switch (v.kind) {
    case VALUE_NONE:
        return add(j->r, j->b, "null");
    case VALUE_BOOL:
        return add(j->r, j->b, v.flag ? "true" : "false");
    case VALUE_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.i);
        return add(j->r, j->b, text);
    case VALUE_FLOAT:
        if (isnan(v.f) || isinf(v.f))
            return add(j->r, j->b, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
        show_float(v.f, text);
        return add(j->r, j->b, text);
    case VALUE_TEXT:
        return json_text(j, v.text);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return json_list(j, v.list);
    case VALUE_DICT:
        return json_dict(j, v.dict);
    default:
        return render_fail(j->r, "Object of type %s is not JSON serializable", value_type(v));
    }
}

static enum status json_value(struct json *j, struct value v)
{
    enum status s = render_deeper(j->r);
    if (!s)
        s = render_work(j->r, 1);
    if (!s)
        s = json_any(j, v);
    j->r->depth--;
    return s;
}

enum status show_json(struct render *r, const struct json_style *style, struct value v,
                      struct buffer *b)
{
    struct json j = {.r = r, .style = style, .b = b};
    return json_value(&j, v);
}
