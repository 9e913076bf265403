/*
 * Owns ranges of numbers as texts. Whole numbers of one length compare as their digits do, so a
 * range falls into lengths, and each of these into "the common digits, then one that is between,
 * then any". Decimals fall into those whose whole part lies inside the range, whose fraction is
 * free, and the two at its ends, whose fraction is bounded by the bound's.
 */
#include "core/grammar/values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX   40
#define WHOLE_MAX    999999999u /* with FRACTION_MAX, 15 digits: a double tells all of them apart */
#define FRACTION_MAX 6

static struct fragment digit(struct values *v, int first, int last)
{
    return fragment_range(v->b, (uint8_t)first, (uint8_t)last);
}

static struct fragment any_digits(struct values *v, int64_t from, int64_t to)
{
    return fragment_repeat(v->b, digit(v, '0', '9'), from, to);
}

/* n digits from low to high, both of n digits. */
static struct fragment between(struct values *v, const char *low, const char *high, int n)
{
    struct fragment all = no_fragment, tail;
    if (strspn(low, "0") >= (size_t)n && strspn(high, "9") >= (size_t)n)
        return any_digits(v, n, n);
    if (*low == *high)
        return fragment_then(v->b, digit(v, *low, *low), between(v, low + 1, high + 1, n - 1));
    char nines[DIGITS_MAX], zeros[DIGITS_MAX];
    memset(nines, '9', sizeof nines);
    memset(zeros, '0', sizeof zeros);
    nines[DIGITS_MAX - 1] = zeros[DIGITS_MAX - 1] = 0;
    tail = between(v, low + 1, nines, n - 1);
    all = fragment_or(v->b, all, fragment_then(v->b, digit(v, *low, *low), tail));
    if (*low + 1 < *high) {
        tail = any_digits(v, n - 1, n - 1);
        all = fragment_or(v->b, all, fragment_then(v->b, digit(v, *low + 1, *high - 1), tail));
    }
    tail = between(v, zeros, high + 1, n - 1);
    return fragment_or(v->b, all, fragment_then(v->b, digit(v, *high, *high), tail));
}

/* 0 <= low <= high */
static struct fragment naturals(struct values *v, uint64_t low, uint64_t high)
{
    struct fragment all = no_fragment;
    char a[24], b[24];
    uint64_t power = 10;
    for (int n = 1; n <= 19; n++, power *= 10) {
        uint64_t least = n == 1 ? 0 : power / 10, most = power - 1;
        if (low > most || high < least)
            continue;
        snprintf(a, sizeof a, "%llu", (unsigned long long)(low > least ? low : least));
        snprintf(b, sizeof b, "%llu", (unsigned long long)(high < most ? high : most));
        all = fragment_or(v->b, all, between(v, a, b, n));
    }
    return all.in >= 0 ? all : fragment_never(v->b);
}

struct fragment values_integers(struct values *v, int64_t low, int64_t high)
{
    struct fragment all = no_fragment;
    if (low < 0) {
        uint64_t from = high < 0 ? (uint64_t)-high : 1;
        struct fragment minus = fragment_text(v->b, "-", 1);
        all = fragment_or(v->b, all, fragment_then(v->b, minus, naturals(v, from, (uint64_t)-low)));
    }
    if (high >= 0)
        all = fragment_or(v->b, all, naturals(v, (uint64_t)(low > 0 ? low : 0), (uint64_t)high));
    return all.in >= 0 ? all : fragment_never(v->b);
}

/* ---- decimals ---- */

/* A decimal, not negative: whole.fraction. */
struct limit {
    bool given, open;
    uint64_t whole;
    char fraction[DIGITS_MAX]; /* without zeros at its end */
};

/* Digits behind a point: at most `left` more of them, at least one unless `end`. */
struct digits {
    struct values *v;
    int left;
    bool end;
};

static struct digits next(struct digits d)
{
    return (struct digits){d.v, d.left - 1, true};
}

static struct fragment then(struct digits d, int first, int last, struct fragment rest)
{
    return fragment_then(d.v->b, digit(d.v, first, last), rest);
}

static struct fragment free_digits(struct digits d)
{
    return any_digits(d.v, !d.end, d.left);
}

static struct fragment zeros(struct digits d)
{
    return fragment_repeat(d.v->b, digit(d.v, '0', '0'), !d.end, d.left);
}

/* At least (more than, if open) 0.low. */
static struct fragment at_least(struct digits d, const char *low, bool open)
{
    struct fragment all = no_fragment;
    if (d.left == 0)
        return *low || open ? fragment_never(d.v->b) : fragment_empty(d.v->b);
    if (!*low && !open)
        return free_digits(d);
    char l = *low ? *low : '0';
    if (l < '9')
        all = fragment_or(d.v->b, all, then(d, l + 1, '9', free_digits(next(d))));
    struct fragment same = then(d, l, l, at_least(next(d), *low ? low + 1 : low, open));
    return fragment_or(d.v->b, all, same);
}

/* At most (less than) 0.high; what ends early ends in zeros. */
static struct fragment at_most(struct digits d, const char *high, bool open)
{
    struct builder *b = d.v->b;
    if (!*high)
        return open ? fragment_never(b) : zeros(d);
    struct fragment f = then(d, *high, *high, at_most(next(d), high + 1, open));
    if (d.end)
        f = fragment_or(b, f, fragment_empty(b));
    if (*high > '0')
        f = fragment_or(b, f, then(d, '0', *high - 1, free_digits(next(d))));
    return f;
}

/* Both at once. */
static struct fragment within(struct digits d, const char *low, bool low_open, const char *high,
                              bool high_open)
{
    struct builder *b = d.v->b;
    if (!*low && !low_open)
        return at_most(d, high, high_open);
    char l = *low ? *low : '0';
    const char *rest = *low ? low + 1 : low;
    if (!*high || l > *high || d.left == 0)
        return fragment_never(b);
    if (l == *high)
        return then(d, l, l, within(next(d), rest, low_open, high + 1, high_open));
    struct fragment f = then(d, l, l, at_least(next(d), rest, low_open));
    f = fragment_or(b, f, then(d, *high, *high, at_most(next(d), high + 1, high_open)));
    if (l + 1 < *high)
        f = fragment_or(b, f, then(d, l + 1, *high - 1, free_digits(next(d))));
    return f;
}

/* whole.fraction, and whole alone if `alone`. */
static struct fragment decimal(struct values *v, struct fragment whole, struct fragment fraction,
                               bool alone)
{
    struct fragment behind = fragment_then(v->b, fragment_text(v->b, ".", 1), fraction);
    return fragment_then(v->b, whole, fragment_repeat(v->b, behind, !alone, 1));
}

/* From low to high, neither negative; `left` digits behind the point. */
static struct fragment magnitudes(struct values *v, const struct limit *low,
                                  const struct limit *high, int left)
{
    struct digits d = {v, left, false};
    bool low_alone = !low->open && !*low->fraction;
    bool high_alone = *high->fraction || !high->open;
    struct fragment all = no_fragment;
    if (low->whole > high->whole)
        return fragment_never(v->b);
    if (low->whole == high->whole)
        return decimal(v, naturals(v, low->whole, low->whole),
                       within(d, low->fraction, low->open, high->fraction, high->open),
                       low_alone && high_alone);
    all = fragment_or(v->b, all,
                      decimal(v, naturals(v, low->whole, low->whole),
                              at_least(d, low->fraction, low->open), low_alone));
    if (low->whole + 1 < high->whole)
        all = fragment_or(
            v->b, all,
            decimal(v, naturals(v, low->whole + 1, high->whole - 1), free_digits(d), true));
    return fragment_or(v->b, all,
                       decimal(v, naturals(v, high->whole, high->whole),
                               at_most(d, high->fraction, high->open), high_alone));
}

/* The digits of |x|; false: too large, or too many of them. */
static bool split(double x, struct limit *out)
{
    char text[DIGITS_MAX];
    int digits = 0;
    do
        snprintf(text, sizeof text, "%.*f", digits, fabs(x));
    while (strtod(text, NULL) != fabs(x) && ++digits <= FRACTION_MAX);
    if (digits > FRACTION_MAX || fabs(x) > (double)WHOLE_MAX)
        return false;
    char *point = strchr(text, '.');
    out->whole = strtoull(text, NULL, 10);
    snprintf(out->fraction, sizeof out->fraction, "%s", point ? point + 1 : "");
    return true;
}

enum status values_decimals(struct values *v, struct bound low, struct bound high,
                            struct fragment *out, struct error *err)
{
    const struct limit zero = {.given = true}, end = {.whole = WHOLE_MAX};
    struct limit a = end, b = end;
    a.open = low.given && low.open;
    b.open = high.given && high.open;
    *out = no_fragment;
    if ((low.given && !split(low.at, &a)) || (high.given && !split(high.at, &b)))
        return error_set(err, ST_INVALID_VALUE,
                         "bounds of a number must lie below 1e9 and have at most %d digits behind "
                         "the point",
                         FRACTION_MAX);
    if (low.given && high.given && (low.at > high.at || (low.at == high.at && (a.open || b.open))))
        return error_set(err, ST_INVALID_VALUE, "no number lies between the bounds");
    if (!low.given || low.at < 0) { // from the larger magnitude to the smaller
        bool below = high.given && high.at < 0;
        struct fragment minus = magnitudes(v, below ? &b : &zero, &a, FRACTION_MAX);
        if (!below && high.given && high.at == 0 && high.open)
            minus = magnitudes(v, &(struct limit){.given = true, .open = true}, &a, FRACTION_MAX);
        *out = fragment_or(v->b, *out, fragment_then(v->b, fragment_text(v->b, "-", 1), minus));
    }
    if (!high.given || high.at > 0 || (high.at == 0 && !high.open)) {
        bool above = low.given && low.at >= 0;
        *out = fragment_or(v->b, *out, magnitudes(v, above ? &a : &zero, &b, FRACTION_MAX));
    }
    *out = out->in >= 0 ? *out : fragment_never(v->b);
    return ST_OK;
}
