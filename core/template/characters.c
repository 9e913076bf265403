/*
 * Owns Python's view of characters. utf8proc has categories and simple mappings; characters.def
 * (generated from Python) has the rest: mappings to several characters, digits that are no
 * decimals, letters that count as upper or lower case without being of that category.
 */
#include "core/template/characters.h"

#include <utf8proc.h>

#include "core/tokenizer/unicode.h"
#include "core/utf8.h"

enum set { DIGIT, NUMERIC, UPPER, LOWER };

static const struct {
    enum set set;
    uint32_t first, last;
} ranges[] = {
#define CHARACTERS_RANGE(set, first, last) {set, first, last},
#define CHARACTERS_UPPER(c, x, y, z)
#define CHARACTERS_TITLE(c, x, y, z)
#include "core/template/characters.def"
#undef CHARACTERS_RANGE
#undef CHARACTERS_UPPER
#undef CHARACTERS_TITLE
};

struct mapping {
    uint32_t c, to[3];
};

static const struct mapping uppers[] = {
#define CHARACTERS_RANGE(set, first, last)
#define CHARACTERS_UPPER(c, x, y, z) {c, {x, y, z}},
#define CHARACTERS_TITLE(c, x, y, z)
#include "core/template/characters.def"
#undef CHARACTERS_UPPER
#undef CHARACTERS_TITLE
};

static const struct mapping titles[] = {
#define CHARACTERS_UPPER(c, x, y, z)
#define CHARACTERS_TITLE(c, x, y, z) {c, {x, y, z}},
#include "core/template/characters.def"
#undef CHARACTERS_RANGE
#undef CHARACTERS_UPPER
#undef CHARACTERS_TITLE
};

static bool in_set(enum set set, uint32_t c)
{
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].set == set && c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

static size_t mapped(const struct mapping *m, size_t n, uint32_t c, uint32_t to[3])
{
    for (size_t i = 0; c >= 0x80 && i < n; i++)
        if (m[i].c == c) {
            size_t k = 0;
            for (; k < 3 && m[i].to[k]; k++)
                to[k] = m[i].to[k];
            return k;
        }
    return 0;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

bool characters_space(uint32_t c)
{
    return unicode_space(c) || (c >= 0x1C && c <= 0x1F);
}

bool characters_alpha(uint32_t c)
{
    if (c < 0x80)
        return (c | 32) >= 'a' && (c | 32) <= 'z';
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool characters_decimal(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : category(c) == UTF8PROC_CATEGORY_ND;
}

bool characters_digit(uint32_t c)
{
    return characters_decimal(c) || (c >= 0x80 && in_set(DIGIT, c));
}

bool characters_numeric(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9';
    utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || in_set(NUMERIC, c);
}

bool characters_word(uint32_t c)
{
    return c == '_' || characters_alpha(c) || characters_numeric(c);
}

bool characters_printable(uint32_t c)
{
    if (c < 0x80)
        return c >= ' ' && c != 0x7F;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

bool characters_is_upper(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z';
    return category(c) == UTF8PROC_CATEGORY_LU || in_set(UPPER, c);
}

bool characters_is_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'a' && c <= 'z';
    return category(c) == UTF8PROC_CATEGORY_LL || in_set(LOWER, c);
}

bool characters_is_title(uint32_t c)
{
    return c >= 0x80 && category(c) == UTF8PROC_CATEGORY_LT;
}

bool characters_cased(uint32_t c)
{
    return characters_is_upper(c) || characters_is_lower(c) || characters_is_title(c);
}

bool characters_case_ignorable(uint32_t c)
{
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x2018 ||
               c == 0x2019 || c == 0x2024 || c == 0x2027;
    }
}

size_t characters_upper(uint32_t c, uint32_t to[3])
{
    size_t n = mapped(uppers, sizeof uppers / sizeof uppers[0], c, to);
    if (n)
        return n;
    to[0] = c < 0x80 ? c - 32 * (c >= 'a' && c <= 'z')
                     : (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
    return 1;
}

size_t characters_title(uint32_t c, uint32_t to[3])
{
    size_t n = mapped(titles, sizeof titles / sizeof titles[0], c, to);
    if (n)
        return n;
    to[0] = c < 0x80 ? c - 32 * (c >= 'a' && c <= 'z')
                     : (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
    return 1;
}

size_t characters_lower(uint32_t c, uint32_t to[3])
{
    if (c == 0x130) { /* the one letter whose lower case is two */
        to[0] = 'i';
        to[1] = 0x307;
        return 2;
    }
    to[0] = c < 0x80 ? c + 32 * (c >= 'A' && c <= 'Z')
                     : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}

size_t characters_space_before(const char *v, size_t n)
{
    return utf8_run_at_start(v, n, characters_space);
}

size_t characters_space_behind(const char *v, size_t n)
{
    return utf8_run_at_end(v, n, characters_space);
}
