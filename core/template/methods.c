/*
 * Owns the methods of str, list, tuple, dict and loop.
 */
#include <string.h>

#include "core/template/characters.h"
#include "core/template/dict.h"
#include "core/template/format.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/strings.h"
#include "core/utf8.h"

#define METHOD(name)                                                                               \
    enum status methods_##name(struct render *r, const struct call *c, struct value *out)

/* An argument that must be a text. */
static enum status text(struct render *r, struct value v, const struct text **out)
{
    *out = NULL;
    if (v.kind == VALUE_TEXT) {
        *out = v.text;
        return ST_OK;
    }
    if (v.kind == VALUE_UNDEFINED)
        return operate_undefined(r, v.undefined);
    return render_fail(r, "must be str, not %s", value_type(v));
}

/* The same, where none or nothing stands for NULL. */
static enum status optional(struct render *r, struct value v, const struct text **out)
{
    *out = NULL;
    return v.kind == VALUE_MISSING || v.kind == VALUE_NONE ? ST_OK : text(r, v, out);
}

/* ---- cases and cutting ------------------------------------------------------------------------
 */

METHOD(upper)
{
    return strings_case(r, c->self.text, STRINGS_UPPER, out);
}

METHOD(lower)
{
    return strings_case(r, c->self.text, STRINGS_LOWER, out);
}

METHOD(capitalize)
{
    return strings_case(r, c->self.text, STRINGS_CAPITALIZE, out);
}

METHOD(title)
{
    return strings_case(r, c->self.text, STRINGS_TITLE, out);
}

METHOD(swapcase)
{
    return strings_case(r, c->self.text, STRINGS_SWAP, out);
}

static enum status strip(struct render *r, const struct call *c, bool left, bool right,
                         struct value *out)
{
    const struct text *chars;
    enum status s = optional(r, c->args[0], &chars);
    return s ? s : strings_strip(r, c->self.text, chars, left, right, out);
}

METHOD(strip)
{
    return strip(r, c, true, true, out);
}

METHOD(lstrip)
{
    return strip(r, c, true, false, out);
}

METHOD(rstrip)
{
    return strip(r, c, false, true, out);
}

static enum status split(struct render *r, const struct call *c, bool right, struct value *out)
{
    const struct text *sep;
    int64_t max;
    enum status s = optional(r, c->args[0], &sep);
    if (!s)
        s = natives_number(r, c->args[1], -1, &max);
    return s ? s : strings_split(r, c->self.text, sep, max, right, out);
}

METHOD(split)
{
    return split(r, c, false, out);
}

METHOD(rsplit)
{
    return split(r, c, true, out);
}

METHOD(splitlines)
{
    return strings_lines(r, c->self.text, operate_truth(c->args[0]), out);
}

static enum status partition(struct render *r, const struct call *c, bool right, struct value *out)
{
    const struct text *sep, *t = c->self.text;
    struct value *parts;
    enum status s = text(r, c->args[0], &sep);
    if (!s && !sep->len)
        return render_fail(r, "empty separator");
    if (!s)
        s = render_work(r, t->len / 64 * (1 + sep->len / 8));
    if (!s)
        s = render_list(r, VALUE_TUPLE, 3, out, &parts);
    if (s)
        return s;
    const char *at =
        right ? strings_last(t->v, t->len, sep) : memmem(t->v, t->len, sep->v, sep->len);
    size_t from = at ? (size_t)(at - t->v) : right ? 0 : t->len;
    size_t to = at ? from + sep->len : from;
    s = render_part(r, t, 0, from, &parts[0]);
    if (!s)
        s = render_part(r, t, from, to, &parts[1]);
    return s ? s : render_part(r, t, to, t->len, &parts[2]);
}

METHOD(partition)
{
    return partition(r, c, false, out);
}

METHOD(rpartition)
{
    return partition(r, c, true, out);
}

METHOD(removeprefix)
{
    const struct text *what, *t = c->self.text;
    enum status s = text(r, c->args[0], &what);
    if (s)
        return s;
    bool is = t->len >= what->len && !memcmp(t->v, what->v, what->len);
    return render_part(r, t, is ? what->len : 0, t->len, out);
}

METHOD(removesuffix)
{
    const struct text *what, *t = c->self.text;
    enum status s = text(r, c->args[0], &what);
    if (s)
        return s;
    bool is = t->len >= what->len && !memcmp(t->v + t->len - what->len, what->v, what->len);
    return render_part(r, t, 0, t->len - (is ? what->len : 0), out);
}

METHOD(replace)
{
    const struct text *old = NULL, *new = NULL;
    int64_t max;
    enum status s = text(r, c->args[0], &old);
    if (!s)
        s = text(r, c->args[1], &new);
    if (!s)
        s = natives_number(r, c->args[2], -1, &max);
    return s ? s : strings_replace(r, c->self.text, old, new, max, out);
}

static enum status pad(struct render *r, const struct call *c, int side, struct value *out)
{
    const struct text *fill = NULL;
    int64_t width;
    enum status s = natives_number(r, c->args[0], 0, &width);
    if (!s)
        s = optional(r, c->args[1], &fill);
    if (s)
        return s;
    if (fill && fill->chars != 1)
        return render_fail(r, "The fill character must be exactly one character long");
    return strings_pad(r, c->self.text, width, fill ? fill->v : " ", fill ? fill->len : 1, side,
                       out);
}

METHOD(ljust)
{
    return pad(r, c, -1, out);
}

METHOD(rjust)
{
    return pad(r, c, 1, out);
}

METHOD(center)
{
    return pad(r, c, 0, out);
}

METHOD(zfill)
{
    const struct text *t = c->self.text;
    struct value digits;
    int64_t width;
    enum status s = natives_number(r, c->args[0], 0, &width);
    bool sign = t->len && (t->v[0] == '-' || t->v[0] == '+');
    if (!s)
        s = render_part(r, t, sign, t->len, &digits);
    if (!s && width > INT64_MIN)
        s = strings_pad(r, digits.text, width - sign, "0", 1, 1, &digits);
    if (s || !sign) {
        *out = digits;
        return s;
    }
    struct buffer b = {0};
    s = render_add(r, &b, t->v, 1);
    if (!s)
        s = render_add(r, &b, digits.text->v, digits.text->len);
    return render_take(r, s, &b, out);
}

/* ---- searching --------------------------------------------------------------------------------
 */

/* The bytes between the optional start and end, which count code points; false: the start lies
 * behind the end, so that not even nothing is found. */
static enum status window(struct render *r, const struct call *c, size_t *from, size_t *to,
                          bool *valid)
{
    const struct text *t = c->self.text;
    int64_t n = (int64_t)t->chars, start = 0, end = n;
    enum status s = ST_OK;
    if (c->args[1].kind != VALUE_MISSING && c->args[1].kind != VALUE_NONE)
        s = operate_index(r, c->args[1], &start);
    if (!s && c->args[2].kind != VALUE_MISSING && c->args[2].kind != VALUE_NONE)
        s = operate_index(r, c->args[2], &end);
    start = start < -n ? 0 : start < 0 ? start + n : start;
    end = end < -n ? 0 : end < 0 ? end + n : end > n ? n : end;
    *valid = start <= end;
    *from = *valid ? value_offset(t, (size_t)start) : 0;
    *to = *valid ? value_offset(t, (size_t)end) : 0;
    return s ? s : render_work(r, t->len / 64);
}

/* The place in code points, or -1. */
static enum status find(struct render *r, const struct call *c, bool last, int64_t *out)
{
    const struct text *what, *t = c->self.text;
    size_t from = 0, to = 0;
    bool valid = false;
    enum status s = text(r, c->args[0], &what);
    if (!s)
        s = window(r, c, &from, &to, &valid);
    *out = -1;
    if (s || !valid)
        return s;
    if (last)
        s = render_work(r, (to - from) / 64 * (1 + what->len / 8));
    const char *at = last ? strings_last(t->v + from, to - from, what)
                          : memmem(t->v + from, to - from, what->v, what->len);
    if (at)
        *out = (int64_t)value_count(t->v, (size_t)(at - t->v));
    return s;
}

static enum status find_or(struct render *r, const struct call *c, bool last, bool must,
                           struct value *out)
{
    int64_t at;
    enum status s = find(r, c, last, &at);
    if (!s && must && at < 0)
        return render_fail(r, "substring not found");
    *out = value_int(at);
    return s;
}

METHOD(find)
{
    return find_or(r, c, false, false, out);
}

METHOD(rfind)
{
    return find_or(r, c, true, false, out);
}

METHOD(index)
{
    return find_or(r, c, false, true, out);
}

METHOD(rindex)
{
    return find_or(r, c, true, true, out);
}

METHOD(count)
{
    const struct text *what, *t = c->self.text;
    size_t from, to;
    bool valid;
    int64_t n = 0;
    enum status s = text(r, c->args[0], &what);
    if (!s)
        s = window(r, c, &from, &to, &valid);
    if (s)
        return s;
    if (valid && !what->len)
        n = (int64_t)value_count(t->v + from, to - from) + 1;
    for (const char *at = t->v + from; valid && what->len; n++) {
        at = memmem(at, (size_t)(t->v + to - at), what->v, what->len);
        if (!at)
            break;
        at += what->len;
    }
    *out = value_int(n);
    return ST_OK;
}

static enum status affix(struct render *r, const struct call *c, bool suffix, struct value *out)
{
    const struct text *t = c->self.text;
    struct value one = c->args[0];
    struct list single = {.v = &one, .n = 1};
    const struct list *any = one.kind == VALUE_TUPLE ? one.list : &single;
    size_t from, to;
    bool valid, is = false;
    enum status s = window(r, c, &from, &to, &valid);
    for (size_t i = 0; !s && !is && i < any->n; i++) {
        const struct text *what;
        s = text(r, any->v[i], &what);
        is = !s && valid && to - from >= what->len &&
             !memcmp(suffix ? t->v + to - what->len : t->v + from, what->v, what->len);
    }
    *out = value_bool(is);
    return s;
}

METHOD(startswith)
{
    return affix(r, c, false, out);
}

METHOD(endswith)
{
    return affix(r, c, true, out);
}

/* ---- kinds of characters ----------------------------------------------------------------------
 */

static bool alphanumeric(uint32_t c)
{
    return characters_alpha(c) || characters_numeric(c);
}

static bool ascii(uint32_t c)
{
    return c < 0x80;
}

/* Are all characters of a kind? What is said of an empty text. */
static enum status all(struct render *r, const struct text *t, bool (*is)(uint32_t), bool empty,
                       struct value *out)
{
    bool yes = t->len || empty;
    for (size_t at = 0, n; yes && at < t->len; at += n)
        yes = is(utf8_read(t->v + at, &n));
    *out = value_bool(yes);
    return render_work(r, t->len / 16);
}

METHOD(isalnum)
{
    return all(r, c->self.text, alphanumeric, false, out);
}

METHOD(isalpha)
{
    return all(r, c->self.text, characters_alpha, false, out);
}

METHOD(isascii)
{
    return all(r, c->self.text, ascii, true, out);
}

METHOD(isdecimal)
{
    return all(r, c->self.text, characters_decimal, false, out);
}

METHOD(isdigit)
{
    return all(r, c->self.text, characters_digit, false, out);
}

METHOD(isnumeric)
{
    return all(r, c->self.text, characters_numeric, false, out);
}

METHOD(isprintable)
{
    return all(r, c->self.text, characters_printable, true, out);
}

METHOD(isspace)
{
    return all(r, c->self.text, characters_space, false, out);
}

/* At least one cased letter, and none of the forbidden kinds. */
static enum status cased(struct render *r, const struct text *t, bool (*forbidden)(uint32_t),
                         struct value *out)
{
    bool some = false, good = true;
    for (size_t at = 0, n; good && at < t->len; at += n) {
        uint32_t c = utf8_read(t->v + at, &n);
        good = !forbidden(c) && !characters_is_title(c);
        some |= characters_cased(c);
    }
    *out = value_bool(some && good);
    return render_work(r, t->len / 16);
}

METHOD(islower)
{
    return cased(r, c->self.text, characters_is_upper, out);
}

METHOD(isupper)
{
    return cased(r, c->self.text, characters_is_lower, out);
}

METHOD(istitle)
{
    const struct text *t = c->self.text;
    bool inside = false, some = false, good = true;
    for (size_t at = 0, n; good && at < t->len; at += n) {
        uint32_t x = utf8_read(t->v + at, &n);
        bool upper = characters_is_upper(x) || characters_is_title(x);
        good = upper ? !inside : !characters_is_lower(x) || inside;
        inside = characters_cased(x);
        some |= inside;
    }
    *out = value_bool(some && good);
    return render_work(r, t->len / 16);
}

/* ---- building ---------------------------------------------------------------------------------
 */

METHOD(join)
{
    return strings_join(r, c->self.text, c->args[0], true, out);
}

METHOD(format)
{
    return format_braces(r, c->self.text, c, out);
}

/* ---- lists, dicts, loops ----------------------------------------------------------------------
 */

METHOD(copy)
{
    (void)r;
    *out = c->self; // immutable
    return ST_OK;
}

METHOD(list_count)
{
    const struct list *l = c->self.list;
    int64_t n = 0;
    enum status s = ST_OK;
    for (size_t i = 0; !s && i < l->n; i++) {
        bool equal = false;
        s = operate_equal(r, l->v[i], c->args[0], &equal);
        n += equal;
    }
    *out = value_int(n);
    return s;
}

METHOD(tuple_count)
{
    return methods_list_count(r, c, out);
}

METHOD(list_index)
{
    const struct list *l = c->self.list;
    int64_t n = (int64_t)l->n, start = 0, stop = n;
    enum status s = natives_number(r, c->args[1], 0, &start);
    if (!s)
        s = natives_number(r, c->args[2], n, &stop);
    start = start < -n ? 0 : start < 0 ? start + n : start;
    stop = stop < -n ? 0 : stop < 0 ? stop + n : stop;
    for (int64_t i = start; !s && i < n && i < stop; i++) {
        bool equal = false;
        s = operate_equal(r, l->v[i], c->args[0], &equal);
        *out = value_int(i);
        if (equal)
            return s;
    }
    return s ? s : render_fail(r, "the value is not in the %s", value_type(c->self));
}

METHOD(tuple_index)
{
    return methods_list_index(r, c, out);
}

METHOD(get)
{
    if (!dict_hashable(c->args[0]))
        return render_fail(r, "unhashable type: '%s'", value_type(c->args[0]));
    const struct entry *e = dict_find(c->self.dict, c->args[0]);
    *out = e ? e->v : c->args[1].kind == VALUE_MISSING ? value_none() : c->args[1];
    return ST_OK;
}

static enum status view(const struct call *c, enum value_kind kind, struct value *out)
{
    *out = (struct value){.kind = kind, .dict = c->self.dict};
    return ST_OK;
}

METHOD(dict_copy)
{
    return methods_copy(r, c, out);
}

METHOD(items)
{
    (void)r;
    return view(c, VALUE_ITEMS, out);
}

METHOD(keys)
{
    (void)r;
    return view(c, VALUE_KEYS, out);
}

METHOD(values)
{
    (void)r;
    return view(c, VALUE_VALUES, out);
}

METHOD(cycle)
{
    if (!c->n || c->n_named)
        return render_fail(r, "no items for cycling given");
    *out = c->args[c->self.loop->index0 < 0 ? c->n - 1 : (size_t)c->self.loop->index0 % c->n];
    return ST_OK;
}

METHOD(changed)
{
    struct loop *loop = c->self.loop;
    struct value now, *items;
    bool same = false;
    enum status s = render_list(r, VALUE_TUPLE, c->n, &now, &items);
    if (s)
        return s;
    if (c->n)
        memcpy(items, c->args, c->n * sizeof *items);
    if (loop->changed.kind != VALUE_MISSING)
        s = operate_equal(r, loop->changed, now, &same);
    if (!same)
        loop->changed = now;
    *out = value_bool(!same);
    return s;
}
