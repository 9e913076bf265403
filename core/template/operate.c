/*
 * Owns arithmetic and comparison as Python does them. Integers have 64 bits: beyond is refused, not
 * wrapped. Whatever compares or repeats a lot takes steps for it.
 */
#include "core/template/operate.h"

#include <math.h>
#include <string.h>

#include "core/template/dict.h"
#include "core/template/format.h"
#include "core/template/iterate.h"
#include "core/template/strings.h"

bool operate_truth(struct value v)
{
    switch (v.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.flag;
    case VALUE_INT:
        return v.i;
    case VALUE_FLOAT:
        return v.f != 0;
    default:
        return operate_length(v) != 0;
    }
}

int64_t operate_length(struct value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return 0;
    case VALUE_TEXT:
        return (int64_t)v.text->chars;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return (int64_t)v.list->n;
    case VALUE_DICT:
    case VALUE_KEYS:
    case VALUE_VALUES:
    case VALUE_ITEMS:
        return (int64_t)v.dict->n;
    case VALUE_RANGE:
        return v.range->n;
    default:
        return -1;
    }
}

void operate_say_undefined(struct render *r, const struct undefined *u)
{
    char name[128] = "";
    if (u->name.kind == VALUE_TEXT)
        snprintf(name, sizeof name, "%.*s", (int)u->name.text->len, u->name.text->v);
    else if (u->name.kind == VALUE_INT)
        snprintf(name, sizeof name, "%lld", (long long)u->name.i);
    else
        snprintf(name, sizeof name, "%s", value_type(u->name));
    bool none = u->of.kind == VALUE_NONE;
    const char *type = none ? "None" : value_type(u->of), *object = none ? "" : " object";
    if (u->hint)
        render_say(r, ST_TEMPLATE_FAILED, "%s", u->hint);
    else if (u->of.kind == VALUE_MISSING)
        render_say(r, ST_TEMPLATE_FAILED, "'%s' is undefined", name);
    else if (u->unsafe)
        render_say(r, ST_TEMPLATE_FAILED, "access to attribute '%s' of '%s' object is unsafe", name,
                   value_type(u->of));
    else if (u->name.kind == VALUE_TEXT)
        render_say(r, ST_TEMPLATE_FAILED, "'%s%s' has no attribute '%s'", type, object, name);
    else
        render_say(r, ST_TEMPLATE_FAILED, "%s%s has no element %s", type, object, name);
}

enum status operate_index(struct render *r, struct value v, int64_t *out)
{
    if (v.kind == VALUE_INT || v.kind == VALUE_BOOL) {
        *out = v.kind == VALUE_INT ? v.i : v.flag;
        return ST_OK;
    }
    if (v.kind == VALUE_UNDEFINED)
        return operate_undefined(r, v.undefined);
    return render_fail(r, "'%s' object cannot be interpreted as an integer", value_type(v));
}

/* ---- arithmetic -------------------------------------------------------------------------------
 */

static bool whole(struct value v, int64_t *i)
{
    *i = v.kind == VALUE_BOOL ? v.flag : v.i;
    return v.kind == VALUE_INT || v.kind == VALUE_BOOL;
}

static bool real(struct value v, double *f)
{
    int64_t i;
    bool is = whole(v, &i);
    *f = is ? (double)i : v.f;
    return is || v.kind == VALUE_FLOAT;
}

static const char *const symbols[] = {
    [OPERATOR_ADD] = "+",  [OPERATOR_SUB] = "-",       [OPERATOR_MUL] = "*",
    [OPERATOR_DIV] = "/",  [OPERATOR_FLOORDIV] = "//", [OPERATOR_MOD] = "%",
    [OPERATOR_POW] = "**", [OPERATOR_EQ] = "==",       [OPERATOR_NE] = "!=",
    [OPERATOR_LT] = "<",   [OPERATOR_LE] = "<=",       [OPERATOR_GT] = ">",
    [OPERATOR_GE] = ">=",  [OPERATOR_IN] = "in",       [OPERATOR_NOT_IN] = "not in",
};

static enum status too_large(struct render *r)
{
    return render_unsupported(r, "an integer beyond 64 bits");
}

static enum status integer_power(struct render *r, int64_t a, int64_t b, struct value *out)
{
    int64_t p = 1;
    bool over = false;
    if (b < 0) {
        if (!a)
            return render_fail(r, "0.0 cannot be raised to a negative power");
        *out = value_float(pow((double)a, (double)b));
        return ST_OK;
    }
    for (int64_t base = a; b; b /= 2) {
        if (b & 1)
            over |= __builtin_mul_overflow(p, base, &p);
        if (b > 1)
            over |= __builtin_mul_overflow(base, base, &base);
        if (over)
            return too_large(r);
    }
    *out = value_int(p);
    return ST_OK;
}

static enum status integers(struct render *r, enum operation op, int64_t a, int64_t b,
                            struct value *out)
{
    int64_t i = 0;
    bool over = false;
    switch (op) {
    case OPERATOR_ADD:
        over = __builtin_add_overflow(a, b, &i);
        break;
    case OPERATOR_SUB:
        over = __builtin_sub_overflow(a, b, &i);
        break;
    case OPERATOR_MUL:
        over = __builtin_mul_overflow(a, b, &i);
        break;
    case OPERATOR_POW:
        return integer_power(r, a, b, out);
    default:
        if (!b)
            return render_fail(r, op == OPERATOR_DIV ? "division by zero"
                                                     : "integer division or modulo by zero");
        if (op == OPERATOR_DIV) {
            *out = value_float((double)a / (double)b);
            return ST_OK;
        }
        if (b == -1) { // the one quotient that does not fit
            over = op == OPERATOR_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &i);
            break;
        }
        i = op == OPERATOR_FLOORDIV ? a / b : a % b;
        if (a % b && (a < 0) != (b < 0)) // towards minus infinity
            i += op == OPERATOR_FLOORDIV ? -1 : b;
    }
    *out = value_int(i);
    return over ? too_large(r) : ST_OK;
}

static enum status reals(struct render *r, enum operation op, double a, double b, struct value *out)
{
    double f = 0;
    switch (op) {
    case OPERATOR_ADD:
        f = a + b;
        break;
    case OPERATOR_SUB:
        f = a - b;
        break;
    case OPERATOR_MUL:
        f = a * b;
        break;
    case OPERATOR_POW:
        if (a == 0 && b < 0)
            return render_fail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b))
            return render_unsupported(r, "a complex number");
        f = pow(a, b);
        if (isinf(f) && !isinf(a) && !isinf(b))
            return render_fail(r, "(34, 'Numerical result out of range')");
        break;
    default:
        if (b == 0)
            return render_fail(r, op == OPERATOR_DIV   ? "float division by zero"
                                  : op == OPERATOR_MOD ? "float modulo"
                                                       : "float floor division by zero");
        if (op == OPERATOR_DIV) {
            f = a / b;
            break;
        }
        double m = fmod(a, b), q = (a - m) / b;
        if (m != 0 && (b < 0) != (m < 0)) {
            m += b;
            q -= 1;
        } else if (m == 0) {
            m = copysign(0, b);
        }
        double floored = floor(q);
        if (q != 0 && q - floored > 0.5)
            floored += 1;
        f = op == OPERATOR_MOD ? m : q != 0 ? floored : copysign(0, a / b);
    }
    *out = value_float(f);
    return ST_OK;
}

static enum status repeat(struct render *r, struct value v, int64_t times, struct value *out)
{
    size_t n = times > 0 ? (size_t)times : 0;
    if (v.kind != VALUE_TEXT) {
        struct value *items;
        size_t len = v.list->n;
        if (len && n > SIZE_MAX / 64 / len)
            n = SIZE_MAX / 64 / len; // beyond any limit
        enum status s = render_list(r, v.kind, n * len, out, &items);
        for (size_t i = 0; !s && len && i < n * len; i++)
            items[i] = v.list->v[i % len];
        return s;
    }
    size_t len = v.text->len;
    if (len && n > SIZE_MAX / 4 / len)
        n = SIZE_MAX / 4 / len;
    char *to = value_alloc(&r->heap, n * len + 1);
    if (!to)
        return render_memory(r);
    for (size_t i = 0; len && i < n; i++)
        memcpy(to + i * len, v.text->v, len);
    const struct text *t = value_borrow(&r->heap, to, n * len);
    *out = value_of_text(t);
    return t ? strings_keep(r, ST_OK, v.text, out) : render_memory(r);
}

static bool sequence(struct value v)
{
    return v.kind == VALUE_TEXT || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE;
}

/* What Python calculates with as with sets. */
static bool view(struct value v)
{
    return v.kind == VALUE_KEYS || v.kind == VALUE_ITEMS;
}

static enum status join(struct render *r, struct value a, struct value b, struct value *out)
{
    enum status s = ST_OK;
    struct value *items;
    bool markup = a.kind == VALUE_TEXT && (a.text->markup || b.text->markup);
    if (markup)
        s = strings_escaped(r, a.text, &a);
    if (markup && !s)
        s = strings_escaped(r, b.text, &b);
    if (!s && a.kind == VALUE_TEXT) {
        const struct text *t = value_append(&r->heap, a.text, b.text);
        *out = value_of_text(t);
        return !t ? render_memory(r) : markup ? strings_mark(r, t, out) : ST_OK;
    }
    if (!s)
        s = render_list(r, a.kind, a.list->n + b.list->n, out, &items);
    if (s)
        return s;
    memcpy(items, a.list->v, a.list->n * sizeof *items);
    memcpy(items + a.list->n, b.list->v, b.list->n * sizeof *items);
    return ST_OK;
}

enum status operate_binary(struct render *r, enum operation op, struct value a, struct value b,
                           struct value *out)
{
    int64_t i, j;
    double f, g;
    if (whole(a, &i) && whole(b, &j))
        return integers(r, op, i, j, out);
    if (real(a, &f) && real(b, &g))
        return reals(r, op, f, g, out);
    if (a.kind == VALUE_UNDEFINED && !(b.kind == VALUE_TEXT && op == OPERATOR_MOD))
        return operate_undefined(r, a.undefined);
    if (op == OPERATOR_MOD && a.kind == VALUE_TEXT && a.text->markup)
        return render_unsupported(r, "'%%' of an escaped string");
    if (op == OPERATOR_MOD && a.kind == VALUE_TEXT)
        return format_percent(r, a.text, b, out);
    if (b.kind == VALUE_UNDEFINED)
        return operate_undefined(r, b.undefined);
    if (op == OPERATOR_ADD && sequence(a) && a.kind == b.kind)
        return join(r, a, b, out);
    if (op == OPERATOR_MUL && sequence(a) && whole(b, &j))
        return repeat(r, a, j, out);
    if (op == OPERATOR_MUL && sequence(b) && whole(a, &i))
        return repeat(r, b, i, out);
    if (view(a) || view(b))
        return render_unsupported(r, "'%s' of the views of a dict", symbols[op]);
    if (op == OPERATOR_ADD && a.kind == VALUE_TEXT)
        return render_fail(r, "can only concatenate str (not \"%s\") to str", value_type(b));
    return render_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", symbols[op],
                       value_type(a), value_type(b));
}

enum status operate_negate(struct render *r, struct value a, bool minus, struct value *out)
{
    int64_t i;
    if (whole(a, &i))
        return minus ? integers(r, OPERATOR_SUB, 0, i, out) : integers(r, OPERATOR_ADD, 0, i, out);
    if (a.kind == VALUE_FLOAT) {
        *out = value_float(minus ? -a.f : a.f);
        return ST_OK;
    }
    if (a.kind == VALUE_UNDEFINED)
        return operate_undefined(r, a.undefined);
    return render_fail(r, "bad operand type for unary %s: '%s'", minus ? "-" : "+", value_type(a));
}

/* ---- comparison -------------------------------------------------------------------------------
 */

bool operate_identical(struct value a, struct value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case VALUE_NONE:
    case VALUE_MISSING:
        return true;
    case VALUE_BOOL:
        return a.flag == b.flag;
    case VALUE_INT:
        return a.i == b.i;
    case VALUE_FLOAT:
        return false;
    case VALUE_TEXT:
        return a.text == b.text;
    default:
        return a.list == b.list;
    }
}

/* How a whole number stands to a float, without rounding either; 2: to NaN. */
static int order_mixed(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (fabs(f) >= 0x1p63)
        return f > 0 || (f == -0x1p63 && i > INT64_MIN) ? (f > 0 ? -1 : 1) : f < -0x1p63 ? 1 : 0;
    int64_t t = (int64_t)f; // towards zero
    if (i != t)
        return i < t ? -1 : 1;
    return ((double)t > f) - ((double)t < f);
}

/* How number a stands to number b: -1, 0, 1; 2 when one is NaN. */
static int order_numbers(struct value a, struct value b)
{
    int64_t i, j;
    bool x = whole(a, &i), y = whole(b, &j);
    if (x && y)
        return (i > j) - (i < j);
    if (x)
        return order_mixed(i, b.f);
    if (y)
        return isnan(a.f) ? 2 : -order_mixed(j, a.f);
    return isnan(a.f) || isnan(b.f) ? 2 : (a.f > b.f) - (a.f < b.f);
}

static enum status equal_lists(struct render *r, const struct list *a, const struct list *b,
                               bool *out)
{
    *out = a->n == b->n;
    enum status s = ST_OK;
    for (size_t i = 0; !s && *out && i < a->n; i++)
        s = operate_equal(r, a->v[i], b->v[i], out);
    return s;
}

static enum status equal_dicts(struct render *r, const struct dict *a, const struct dict *b,
                               bool *out)
{
    *out = a->n == b->n;
    enum status s = ST_OK;
    for (size_t i = 0; !s && *out && i < a->n; i++) {
        const struct entry *e = dict_find(b, a->v[i].key);
        *out = e;
        if (e)
            s = operate_equal(r, a->v[i].v, e->v, out);
    }
    return s;
}

static enum status equal(struct render *r, struct value a, struct value b, bool *out)
{
    double f, g;
    int64_t i, j;
    *out = false;
    if (whole(a, &i) && whole(b, &j)) {
        *out = i == j;
        return ST_OK;
    }
    if (real(a, &f) && real(b, &g)) {
        *out = order_numbers(a, b) == 0;
        return ST_OK;
    }
    if (a.kind != b.kind)
        return ST_OK;
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *out = true;
        return ST_OK;
    case VALUE_TEXT:
        *out = value_same_text(a.text, b.text);
        return *out ? render_work(r, a.text->len / 64) : ST_OK;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return equal_lists(r, a.list, b.list, out);
    case VALUE_DICT:
        return equal_dicts(r, a.dict, b.dict, out);
    case VALUE_KEYS:
    case VALUE_ITEMS: {
        const struct list *x, *y; // sets of Python; in the same order here
        enum status s = iterate_all(r, a, &x);
        if (!s)
            s = iterate_all(r, b, &y);
        return s ? s : equal_lists(r, x, y, out);
    }
    case VALUE_RANGE:
        *out = a.range->n == b.range->n &&
               (!a.range->n || (a.range->start == b.range->start &&
                                (a.range->n == 1 || a.range->step == b.range->step)));
        return ST_OK;
    default:
        *out = operate_identical(a, b);
        return ST_OK;
    }
}

enum status operate_equal(struct render *r, struct value a, struct value b, bool *out)
{
    enum status s = render_deeper(r);
    if (!s)
        s = render_work(r, 1);
    if (!s)
        s = equal(r, a, b, out);
    r->depth--;
    return s;
}

static int order_texts(const struct text *a, const struct text *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = n ? memcmp(a->v, b->v, n) : 0; // UTF-8 sorts as its code points do
    return c ? (c > 0) - (c < 0) : (a->len > b->len) - (a->len < b->len);
}

/* How a stands to b, for the operator (of messages); 2: no order between them, all is false. */
static enum status order(struct render *r, enum operation op, struct value a, struct value b,
                         int *out)
{
    double f, g;
    if (real(a, &f) && real(b, &g)) {
        *out = order_numbers(a, b);
        return ST_OK;
    }
    if (a.kind == VALUE_TEXT && b.kind == VALUE_TEXT) {
        *out = order_texts(a.text, b.text);
        return render_work(r, 1 + a.text->len / 64);
    }
    if (a.kind == VALUE_UNDEFINED)
        return operate_undefined(r, a.undefined);
    if (b.kind == VALUE_UNDEFINED)
        return operate_undefined(r, b.undefined);
    if (view(a) && view(b))
        return render_unsupported(r, "'%s' of the views of a dict", symbols[op]);
    if (a.kind != b.kind || (a.kind != VALUE_LIST && a.kind != VALUE_TUPLE))
        return render_fail(r, "'%s' not supported between instances of '%s' and '%s'", symbols[op],
                           value_type(a), value_type(b));
    size_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
    enum status s = render_deeper(r);
    bool same = true;
    *out = (a.list->n > b.list->n) - (a.list->n < b.list->n);
    for (size_t i = 0; !s && same && i < n; i++) {
        s = operate_equal(r, a.list->v[i], b.list->v[i], &same);
        if (!s && !same)
            s = order(r, op, a.list->v[i], b.list->v[i], out);
    }
    r->depth--;
    return s;
}

enum status operate_less(struct render *r, struct value a, struct value b, bool *out)
{
    return operate_compare(r, OPERATOR_LT, a, b, out);
}

enum status operate_in(struct render *r, struct value item, struct value in, bool *out)
{
    *out = false;
    if (in.kind == VALUE_TEXT) {
        if (item.kind != VALUE_TEXT)
            return render_fail(r, "'in <string>' requires string as left operand, not %s",
                               value_type(item));
        *out = memmem(in.text->v, in.text->len, item.text->v, item.text->len);
        return render_work(r, 1 + in.text->len / 64);
    }
    if (in.kind == VALUE_DICT || in.kind == VALUE_KEYS) {
        if (!dict_hashable(item))
            return render_fail(r, "unhashable type: '%s'", value_type(item));
        *out = dict_find(in.dict, item);
        return ST_OK;
    }
    if (!iterate_can(in))
        return render_fail(r, "argument of type '%s' is not iterable", value_type(in));
    struct iterator *i;
    struct value v;
    bool more = true;
    enum status s = iterate_open(r, in, &i);
    while (!s && !*out && !(s = iterate_next(r, i, &v, &more)) && more) {
        *out = operate_identical(item, v);
        if (!*out)
            s = operate_equal(r, v, item, out);
    }
    return s;
}

enum status operate_compare(struct render *r, enum operation op, struct value a, struct value b,
                            bool *out)
{
    enum status s;
    int c = 0;
    switch (op) {
    case OPERATOR_EQ:
    case OPERATOR_NE:
        s = operate_equal(r, a, b, out);
        *out ^= op == OPERATOR_NE;
        return s;
    case OPERATOR_IN:
    case OPERATOR_NOT_IN:
        s = operate_in(r, a, b, out);
        *out ^= op == OPERATOR_NOT_IN;
        return s;
    default:
        s = order(r, op, a, b, &c);
        *out = c != 2 && (op == OPERATOR_LT   ? c < 0
                          : op == OPERATOR_LE ? c <= 0
                          : op == OPERATOR_GT ? c > 0
                                              : c >= 0);
        return s;
    }
}
