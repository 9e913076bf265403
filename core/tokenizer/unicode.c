/*
 * Owns the predicates. utf8proc's categories serve; where a class of the library is of another
 * Unicode version, unicode_tables.def (generated) overrides them, so that a text in a script that
 * is new to one of the two is still cut at the same places.
 */
#include "core/tokenizer/unicode.h"

#include <utf8proc.h>

#include "core/utf8.h"

enum class { PUNCTUATION, NUMERIC, MARK, NONSPACING, CONTROL };

/* Ascending within a class. */
static const struct {
    enum class class;
    uint32_t first, last;
    bool member;
} overrides[] = {
#define UNICODE_REGEX(name, first, last)
#define UNICODE_LOWER(first, last, distance)
#define UNICODE_UNDECOMPOSED(first, last)
#define UNICODE_CLASS(class, first, last, member) {class, first, last, member},
#include "core/tokenizer/unicode_tables.def"
#undef UNICODE_CLASS
#undef UNICODE_LOWER
};

static const struct {
    uint32_t first, last;
    int32_t distance;
} lowers[] = {
#define UNICODE_CLASS(class, first, last, member)
#define UNICODE_LOWER(first, last, distance) {first, last, distance},
#include "core/tokenizer/unicode_tables.def"
#undef UNICODE_CLASS
#undef UNICODE_LOWER
#undef UNICODE_REGEX
#undef UNICODE_UNDECOMPOSED
};

/* What the table says of c, else otherwise. */
static bool overridden(enum class class, uint32_t c, bool otherwise)
{
    size_t low = 0, high = sizeof overrides / sizeof overrides[0];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (overrides[middle].class < class ||
            (overrides[middle].class == class && overrides[middle].last < c))
            low = middle + 1;
        else
            high = middle;
    }
    if (low < sizeof overrides / sizeof overrides[0] && overrides[low].class == class &&
        overrides[low].first <= c)
        return overrides[low].member;
    return otherwise;
}

bool unicode_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool unicode_numeric(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return overridden(NUMERIC, c, k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

bool unicode_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return overridden(PUNCTUATION, c, k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO);
}

bool unicode_mark(uint32_t c)
{
    if (c < 0x300)
        return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return overridden(MARK, c, k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME);
}

bool unicode_nonspacing(uint32_t c)
{
    if (c < 0x300)
        return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return overridden(NONSPACING, c, k == UTF8PROC_CATEGORY_MN);
}

bool unicode_control(uint32_t c)
{
    if (c < 0x80)
        return (c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7F;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return overridden(CONTROL, c,
                      k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
                          k == UTF8PROC_CATEGORY_CO || c == 0xFFFD);
}

bool unicode_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

size_t unicode_lower(uint32_t c, uint32_t to[2])
{
    to[0] = c;
    if (c < 0x80) {
        to[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) { // the only one whose lower case is two characters: i and a dot above
        to[0] = 'i';
        to[1] = 0x307;
        return 2;
    }
    to[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    for (size_t i = 0; to[0] == c && i < sizeof lowers / sizeof lowers[0]; i++) {
        if (c >= lowers[i].first && c <= lowers[i].last)
            to[0] = c + (uint32_t)lowers[i].distance;
    }
    return 1;
}

size_t unicode_spaces_at_start(const char *p, size_t n)
{
    return utf8_run_at_start(p, n, unicode_space);
}

size_t unicode_spaces_at_end(const char *p, size_t n)
{
    return utf8_run_at_end(p, n, unicode_space);
}
