/*
 * Owns the tests of `is`.
 */
#include "core/template/dict.h"
#include "core/template/iterate.h"
#include "core/template/natives.h"
#include "core/template/operate.h"
#include "core/template/strings.h"
#include "core/template/show.h"

static enum status answer(struct value *out, bool yes)
{
    *out = value_bool(yes);
    return ST_OK;
}

/* A test of nothing but the value's kind. */
#define KIND_TEST(name, condition)                                                                 \
    enum status tests_##name(struct render *r, const struct call *c, struct value *out)            \
    {                                                                                              \
        (void)r;                                                                                   \
        enum value_kind kind = c->self.kind;                                                       \
        (void)kind;                                                                                \
        return answer(out, condition);                                                             \
    }

KIND_TEST(defined, kind != VALUE_UNDEFINED)
KIND_TEST(undefined, kind == VALUE_UNDEFINED)
KIND_TEST(none, kind == VALUE_NONE)
KIND_TEST(boolean, kind == VALUE_BOOL)
KIND_TEST(true, kind == VALUE_BOOL && c->self.flag)
KIND_TEST(false, kind == VALUE_BOOL && !c->self.flag)
KIND_TEST(integer, kind == VALUE_INT)
KIND_TEST(float, kind == VALUE_FLOAT)
KIND_TEST(number, kind == VALUE_BOOL || kind == VALUE_INT || kind == VALUE_FLOAT)
KIND_TEST(string, kind == VALUE_TEXT)
KIND_TEST(mapping, kind == VALUE_DICT)
KIND_TEST(iterable, iterate_can(c->self))
// an undefined value is callable: calling it fails with its own sentence
KIND_TEST(callable, kind == VALUE_LOOP || kind == VALUE_MACRO || kind == VALUE_METHOD ||
                        kind == VALUE_FUNCTION || kind == VALUE_UNDEFINED)
KIND_TEST(escaped, kind == VALUE_TEXT && c->self.text->markup)
KIND_TEST(sequence, kind == VALUE_TEXT || kind == VALUE_LIST || kind == VALUE_TUPLE ||
                        kind == VALUE_DICT || kind == VALUE_RANGE || kind == VALUE_UNDEFINED)
KIND_TEST(sameas, operate_identical(c->self, c->args[0]))

/* Is the value a key of jinja2's dict of filters or tests? */
static enum status known(struct render *r, const struct call *c,
                         const struct native *(*find)(const struct text *), struct value *out)
{
    if (!dict_hashable(c->self))
        return render_fail(r, "unhashable type: '%s'", value_type(c->self));
    return answer(out, c->self.kind == VALUE_TEXT && find(c->self.text));
}

enum status tests_filter(struct render *r, const struct call *c, struct value *out)
{
    return known(r, c, natives_filter, out);
}

enum status tests_test(struct render *r, const struct call *c, struct value *out)
{
    return known(r, c, natives_test, out);
}

static enum status compare(struct render *r, enum operation op, const struct call *c,
                           struct value *out)
{
    bool holds = false;
    enum status s = operate_compare(r, op, c->self, c->args[0], &holds);
    *out = value_bool(holds);
    return s;
}

#define COMPARISON_TEST(name, op)                                                                  \
    enum status tests_##name(struct render *r, const struct call *c, struct value *out)            \
    {                                                                                              \
        return compare(r, op, c, out);                                                             \
    }

COMPARISON_TEST(eq, OPERATOR_EQ)
COMPARISON_TEST(ne, OPERATOR_NE)
COMPARISON_TEST(lt, OPERATOR_LT)
COMPARISON_TEST(le, OPERATOR_LE)
COMPARISON_TEST(gt, OPERATOR_GT)
COMPARISON_TEST(ge, OPERATOR_GE)
COMPARISON_TEST(in, OPERATOR_IN)

/* self % by == wanted */
static enum status remainder_is(struct render *r, const struct call *c, struct value by,
                                int64_t wanted, struct value *out)
{
    struct value m;
    bool equal = false;
    enum status s = operate_binary(r, OPERATOR_MOD, c->self, by, &m);
    if (!s)
        s = operate_equal(r, m, value_int(wanted), &equal);
    *out = value_bool(equal);
    return s;
}

enum status tests_odd(struct render *r, const struct call *c, struct value *out)
{
    return remainder_is(r, c, value_int(2), 1, out);
}

enum status tests_even(struct render *r, const struct call *c, struct value *out)
{
    return remainder_is(r, c, value_int(2), 0, out);
}

enum status tests_divisibleby(struct render *r, const struct call *c, struct value *out)
{
    return remainder_is(r, c, c->args[0], 0, out);
}

/* What a method of str says of str(self). */
static enum status ask(struct render *r, const struct call *c,
                       enum status (*method)(struct render *, const struct call *, struct value *),
                       struct value *out)
{
    struct call of = *c;
    const struct text *t;
    enum status s = show_text(r, c->self, &t);
    if (s)
        return s;
    of.self = value_of_text(t);
    return method(r, &of, out);
}

enum status tests_lower(struct render *r, const struct call *c, struct value *out)
{
    return ask(r, c, methods_islower, out);
}

enum status tests_upper(struct render *r, const struct call *c, struct value *out)
{
    return ask(r, c, methods_isupper, out);
}
