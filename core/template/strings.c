/*
 * Owns operations on texts that several callables need. What they return is a part of what they got
 * wherever that is possible.
 */
#include "core/template/strings.h"

#include <string.h>

#include "core/template/characters.h"
#include "core/template/iterate.h"
#include "core/template/operate.h"
#include "core/template/show.h"
#include "core/utf8.h"

/* ---- cases ------------------------------------------------------------------------------------
 */

/* Is the sigma at `at` the last letter of a word? */
static bool final_sigma(const struct text *t, size_t at)
{
    size_t n;
    bool before = false, after = false;
    for (size_t i = at; i > 0;) {
        do
            i--;
        while (((unsigned char)t->v[i] & 0xC0) == 0x80);
        uint32_t c = utf8_read(t->v + i, &n);
        if (characters_case_ignorable(c))
            continue;
        before = characters_cased(c);
        break;
    }
    for (size_t i = at + 2; i < t->len; i += n) {
        uint32_t c = utf8_read(t->v + i, &n);
        if (characters_case_ignorable(c))
            continue;
        after = characters_cased(c);
        break;
    }
    return before && !after;
}

static size_t lower_at(const struct text *t, size_t at, uint32_t c, uint32_t to[3])
{
    if (c != 0x3A3)
        return characters_lower(c, to);
    to[0] = final_sigma(t, at) ? 0x3C2 : 0x3C3;
    return 1;
}

enum status strings_case(struct render *r, const struct text *t, enum strings_case how,
                         struct value *out)
{
    struct buffer b = {0};
    bool inside = false; // a word
    enum status s = render_work(r, t->len / 16);
    for (size_t at = 0, n; !s && at < t->len; at += n) {
        uint32_t c = utf8_read(t->v + at, &n), to[3];
        bool upper = how == STRINGS_UPPER || (how == STRINGS_SWAP && characters_is_lower(c));
        bool title = (how == STRINGS_CAPITALIZE && !at) || (how == STRINGS_TITLE && !inside);
        bool lower = how != STRINGS_SWAP || characters_is_upper(c);
        size_t k = upper ? characters_upper(c, to) : title ? characters_title(c, to) : 0;
        if (!k && lower)
            k = lower_at(t, at, c, to);
        inside = characters_cased(c);
        char bytes[12];
        size_t len = 0;
        for (size_t i = 0; i < k; i++)
            len += utf8_write(to[i], bytes + len);
        s = k ? render_add(r, &b, bytes, len) : render_add(r, &b, t->v + at, n);
    }
    return render_take(r, s, &b, out);
}

/* ---- cutting ----------------------------------------------------------------------------------
 */

static bool among(const struct text *chars, const char *c, size_t n)
{
    if (!chars) {
        size_t len;
        return characters_space(utf8_read(c, &len));
    }
    return memmem(chars->v, chars->len, c, n); // whole characters: UTF-8 has no other matches
}

enum status strings_strip(struct render *r, const struct text *t, const struct text *chars,
                          bool left, bool right, struct value *out)
{
    size_t from = 0, to = t->len, n;
    enum status s = ST_OK;
    while (left && !s && from < to) {
        n = utf8_length((unsigned char)t->v[from]);
        if (!among(chars, t->v + from, n))
            break;
        from += n;
        s = chars ? render_work(r, 1 + chars->len / 64) : ST_OK;
    }
    while (right && !s && to > from) {
        size_t at = to - 1;
        while (((unsigned char)t->v[at] & 0xC0) == 0x80)
            at--;
        if (!among(chars, t->v + at, to - at))
            break;
        to = at;
        s = chars ? render_work(r, 1 + chars->len / 64) : ST_OK;
    }
    return s ? s : render_part(r, t, from, to, out);
}

enum status strings_replace(struct render *r, const struct text *t, const struct text *old,
                            const struct text *new, int64_t max, struct value *out)
{
    struct buffer b = {0};
    size_t from = 0;
    enum status s = render_work(r, t->len / 64);
    if (!s && (!max || (old->len && !memmem(t->v, t->len, old->v, old->len)))) {
        *out = value_of_text(t);
        return ST_OK;
    }
    for (int64_t n = 0; !s && (max < 0 || n < max); n++) {
        const char *at =
            old->len ? memmem(t->v + from, t->len - from, old->v, old->len) : t->v + from;
        if (!at)
            break;
        s = render_work(r, 1);
        if (!s)
            s = render_add(r, &b, t->v + from, (size_t)(at - t->v) - from);
        if (!s)
            s = render_add(r, &b, new->v, new->len);
        from = (size_t)(at - t->v) + old->len;
        if (old->len)
            continue;
        if (from == t->len) // nothing is replaced before each character and at the end
            break;
        size_t k = utf8_length((unsigned char)t->v[from]);
        if (!s)
            s = render_add(r, &b, t->v + from, k);
        from += k;
    }
    if (!s)
        s = render_add(r, &b, t->v + from, t->len - from);
    return render_take(r, s, &b, out);
}

static enum status push_part(struct render *r, struct growing *g, const struct text *t, size_t from,
                             size_t to)
{
    struct value v;
    enum status s = render_part(r, t, from, to, &v);
    if (!s)
        s = render_work(r, 1);
    return s ? s : iterate_push(r, g, v);
}

static void reverse(struct growing *g)
{
    for (size_t i = 0; i < g->n / 2; i++) {
        struct value v = g->v[i];
        g->v[i] = g->v[g->n - 1 - i];
        g->v[g->n - 1 - i] = v;
    }
}

static enum status split_space(struct render *r, const struct text *t, int64_t max,
                               struct growing *g)
{
    size_t at = characters_space_before(t->v, t->len), n;
    enum status s = ST_OK;
    while (!s && at < t->len) {
        size_t from = at;
        if (max >= 0 && (int64_t)g->n == max) // the rest as it is, without the blanks behind it
            return push_part(r, g, t, from, t->len);
        while (at < t->len && !characters_space(utf8_read(t->v + at, &n)))
            at += n;
        s = push_part(r, g, t, from, at);
        at += characters_space_before(t->v + at, t->len - at);
    }
    return s;
}

static enum status split_space_right(struct render *r, const struct text *t, int64_t max,
                                     struct growing *g)
{
    size_t end = t->len - characters_space_behind(t->v, t->len), n;
    enum status s = ST_OK;
    while (!s && end > 0) {
        size_t to = end;
        if (max >= 0 && (int64_t)g->n == max)
            return push_part(r, g, t, 0, to);
        while (end > 0) {
            size_t at = end - 1;
            while (((unsigned char)t->v[at] & 0xC0) == 0x80)
                at--;
            if (characters_space(utf8_read(t->v + at, &n)))
                break;
            end = at;
        }
        s = push_part(r, g, t, end, to);
        end -= characters_space_behind(t->v, end);
    }
    return s;
}

const char *strings_last(const char *v, size_t n, const struct text *what)
{
    for (size_t at = n + 1 - what->len; n >= what->len && at-- > 0;)
        if (!memcmp(v + at, what->v, what->len))
            return v + at;
    return NULL;
}

static enum status split_at(struct render *r, const struct text *t, const struct text *sep,
                            int64_t max, struct growing *g)
{
    size_t from = 0;
    const char *at;
    enum status s = ST_OK;
    while (!s && (max < 0 || (int64_t)g->n < max) &&
           (at = memmem(t->v + from, t->len - from, sep->v, sep->len))) {
        s = push_part(r, g, t, from, (size_t)(at - t->v));
        from = (size_t)(at - t->v) + sep->len;
    }
    return s ? s : push_part(r, g, t, from, t->len);
}

static enum status split_at_right(struct render *r, const struct text *t, const struct text *sep,
                                  int64_t max, struct growing *g)
{
    size_t end = t->len;
    const char *at;
    enum status s = ST_OK;
    while (!s && (max < 0 || (int64_t)g->n < max) && (at = strings_last(t->v, end, sep))) {
        s = push_part(r, g, t, (size_t)(at - t->v) + sep->len, end);
        end = (size_t)(at - t->v);
    }
    return s ? s : push_part(r, g, t, 0, end);
}

enum status strings_split(struct render *r, const struct text *t, const struct text *sep,
                          int64_t max, bool from_right, struct value *out)
{
    struct growing g = {0};
    if (sep && !sep->len)
        return render_fail(r, "empty separator");
    enum status s = render_work(r, t->len / 64 * (1 + (from_right && sep ? sep->len / 8 : 0)));
    if (!s)
        s = sep ? (from_right ? split_at_right : split_at)(r, t, sep, max, &g)
                : (from_right ? split_space_right : split_space)(r, t, max, &g);
    if (from_right)
        reverse(&g);
    return s ? s : iterate_list(r, VALUE_LIST, &g, out);
}

/* Does a line end with this character? (\r\n is one end.) */
static bool line_end(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

enum status strings_lines(struct render *r, const struct text *t, bool keep, struct value *out)
{
    struct growing g = {0};
    enum status s = render_work(r, t->len / 16);
    size_t from = 0, n;
    for (size_t at = 0; !s && at < t->len; at += n) {
        uint32_t c = utf8_read(t->v + at, &n);
        if (!line_end(c))
            continue;
        if (c == '\r' && at + 1 < t->len && t->v[at + 1] == '\n')
            n = 2;
        s = push_part(r, &g, t, from, keep ? at + n : at);
        from = at + n;
    }
    if (!s && from < t->len)
        s = push_part(r, &g, t, from, t->len);
    return s ? s : iterate_list(r, VALUE_LIST, &g, out);
}

/* ---- building ---------------------------------------------------------------------------------
 */

enum status strings_pad(struct render *r, const struct text *t, int64_t width, const char *fill,
                        size_t fill_len, int side, struct value *out)
{
    int64_t pad = width - (int64_t)t->chars;
    if (pad <= 0 || width < 0) {
        *out = value_of_text(t);
        return ST_OK;
    }
    int64_t left = side > 0 ? pad : side < 0 ? 0 : pad / 2 + (pad & width & 1);
    struct buffer b = {0};
    enum status s = render_work(r, (uint64_t)pad / 16);
    for (int64_t i = 0; !s && i < left; i++)
        s = render_add(r, &b, fill, fill_len);
    if (!s)
        s = render_add(r, &b, t->v, t->len);
    for (int64_t i = left; !s && i < pad; i++)
        s = render_add(r, &b, fill, fill_len);
    return render_take(r, s, &b, out);
}

/* What an escaped text has for the byte; NULL: itself. */
static const char *entity_of(char byte)
{
    static const char *const entities[] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&#39;", ['"'] = "&#34;"};
    unsigned char c = (unsigned char)byte;
    return c < sizeof entities / sizeof entities[0] ? entities[c] : NULL;
}

bool strings_escapes(const struct text *t)
{
    bool any = false;
    for (size_t i = 0; !t->markup && !any && i < t->len; i++)
        any = entity_of(t->v[i]) != NULL;
    return any;
}

enum status strings_escape(struct render *r, const struct text *t, struct value *out)
{
    struct buffer b = {0};
    enum status s = render_work(r, t->len / 16);
    for (size_t i = 0; !s && i < t->len; i++) {
        const char *entity = entity_of(t->v[i]);
        s = entity ? render_add(r, &b, entity, strlen(entity)) : render_add(r, &b, t->v + i, 1);
    }
    s = render_take(r, s, &b, out);
    return s ? s : strings_mark(r, out->text, out);
}

enum status strings_escaped(struct render *r, const struct text *t, struct value *out)
{
    if (!t->markup)
        return strings_escape(r, t, out);
    *out = value_of_text(t);
    return ST_OK;
}

enum status strings_mark(struct render *r, const struct text *t, struct value *out)
{
    struct text *marked = value_alloc(&r->heap, sizeof *marked);
    if (!marked)
        return render_memory(r);
    *marked = *t;
    marked->markup = true;
    *out = value_of_text(marked);
    return ST_OK;
}

enum status strings_keep(struct render *r, enum status s, const struct text *of, struct value *out)
{
    if (s || !of->markup)
        return s;
    if (out->kind == VALUE_TEXT)
        return strings_mark(r, out->text, out);
    if (out->kind != VALUE_LIST && out->kind != VALUE_TUPLE)
        return ST_OK;
    const struct list *made = out->list;
    struct value *items;
    s = render_list(r, out->kind, made->n, out, &items);
    for (size_t i = 0; !s && i < made->n; i++)
        s = strings_mark(r, made->v[i].text, &items[i]);
    return s;
}

enum status strings_join(struct render *r, const struct text *between, struct value items,
                         bool strict, struct value *out)
{
    struct iterator *i;
    struct value v;
    bool more;
    struct buffer b = {0};
    enum status s = iterate_open(r, items, &i);
    for (size_t n = 0; !s && !(s = iterate_next(r, i, &v, &more)) && more; n++) {
        if (strict && v.kind != VALUE_TEXT)
            s = render_fail(r, "sequence item %zu: expected str instance, %s found", n,
                            value_type(v));
        if (!s && n)
            s = render_add(r, &b, between->v, between->len);
        if (!s)
            s = show_str(r, v, &b);
    }
    return render_take(r, s, &b, out);
}
