/*
 * Owns the differences between the two regex languages. Tokenizer files are written for Oniguruma
 * (UTF-8, its own syntax); PCRE2 runs them. What differs is rewritten:
 *
 *   \s  White_Space, spelled out        PCRE2 under UCP adds U+180E
 *   \w  Alphabetic, M, Nd, Pc; outside  PCRE2 10.42 has L, N, underscore
 *       of sets also six superscripts
 *       and fractions (B2 B3 B9 BC-BE)
 *   \h  a hexadecimal digit             PCRE2: horizontal space
 *   ^ $ at every line                   PCRE2: at the text's ends
 *   (?m:) the dot matches newline       PCRE2: (?s:)
 *   {,n} from none to n                 PCRE2: literal
 *   [a[b]&&[^c]] nested and intersected sets: alternatives and look-aheads
 *   \p{X} of Unicode 16                 PCRE2 10.42 is of 14: the missing ranges are added
 *   \p{Script}                          PCRE2: Script_Extensions
 *
 * Everything else must be on the list of constructs that are known to mean the same; the rest
 * (back references, named groups, (?x), conditionals, POSIX brackets ...) is refused by position.
 * Two differences stay: Oniguruma's case-insensitive literals also match multi-character folds
 * ("ss" and U+00DF), which no published pattern can meet; U+1171E, a spacing mark since Unicode 15,
 * is still in PCRE2's \p{Mn}.
 */
#include "core/tokenizer/oniguruma.h"

#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

#define SPACES                                                                                     \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"    \
    "\\x{205F}\\x{3000}"
#define DEPTH_MAX 16

static const struct {
    const char *property; /* as PCRE2 spells it */
    uint32_t first, last;
} newer[] = {
#define UNICODE_CLASS(class, first, last, member)
#define UNICODE_LOWER(first, last, distance)
#define UNICODE_UNDECOMPOSED(first, last)
#define UNICODE_REGEX(property, first, last) {property, first, last},
#include "core/tokenizer/unicode_tables.def"
#undef UNICODE_CLASS
#undef UNICODE_LOWER
#undef UNICODE_UNDECOMPOSED
#undef UNICODE_REGEX
};

/* Categories with one letter stand for the two-letter ones that they begin. */
static const char *const categories[] = {
    "L",  "M",  "N",  "P",  "S",  "Z",  "Lu", "Ll", "Lt", "Lm", "Lo",        "Mn",
    "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf",        "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Alphabetic"};
static const char *const scripts[] = {"Han",    "Hiragana", "Katakana",  "Hangul",
                                      "Latin",  "Cyrillic", "Greek",     "Arabic",
                                      "Hebrew", "Thai",     "Devanagari"};

struct translation {
    const char *p, *end;
    struct bytes *out;
    bool no_memory;
};

static bool put(struct translation *t, struct bytes *to, const char *s)
{
    t->no_memory = !bytes_append_string(to, s) || t->no_memory;
    return !t->no_memory;
}

static bool put_bytes(struct translation *t, struct bytes *to, const struct bytes *from)
{
    t->no_memory = !bytes_append(to, from->v, from->n) || t->no_memory;
    return !t->no_memory;
}

static bool accept(struct translation *t, const char *s)
{
    size_t n = strlen(s);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, s, n))
        return false;
    t->p += n;
    return true;
}

static bool put_char(struct translation *t, struct bytes *to, uint32_t c)
{
    char text[16];
    snprintf(text, sizeof text, "\\x{%X}", c);
    return put(t, to, text);
}

/* The members of a property as the inside of a bracket. */
static bool put_property(struct translation *t, struct bytes *to, const char *property)
{
    char text[48];
    snprintf(text, sizeof text, "\\p{%s}", property);
    bool ok = put(t, to, text);
    size_t n = strlen(property);
    for (size_t i = 0; ok && i < sizeof newer / sizeof newer[0]; i++) {
        bool same = !strcmp(newer[i].property, property);
        if (!same && !(n == 1 && newer[i].property[0] == property[0] && !newer[i].property[2]))
            continue;
        snprintf(text, sizeof text, "\\x{%X}-\\x{%X}", newer[i].first, newer[i].last);
        ok = put(t, to, text);
    }
    return ok;
}

/* Behind \p or \P: reads {Name} or {^Name}, puts its members; *negated toggles for ^. */
static bool property(struct translation *t, struct bytes *to, bool *negated)
{
    char name[24], spelled[32];
    if (!accept(t, "{"))
        return false;
    if (accept(t, "^"))
        *negated = !*negated;
    const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
    if (!close || close == t->p || (size_t)(close - t->p) >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(close - t->p), t->p);
    if (!strcmp(name, "C")) { // all that is in no other category, assigned since or not
        t->p = close + 1;
        *negated = !*negated;
        return put_property(t, to, "L") && put_property(t, to, "M") && put_property(t, to, "N") &&
               put_property(t, to, "P") && put_property(t, to, "S") && put_property(t, to, "Z");
    }
    for (size_t i = 0; i < sizeof categories / sizeof categories[0]; i++) {
        if (!strcmp(name, categories[i])) {
            t->p = close + 1;
            return put_property(t, to, name);
        }
    }
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        if (!strcmp(name, scripts[i])) {
            t->p = close + 1;
            snprintf(spelled, sizeof spelled, "sc:%s", name);
            return put_property(t, to, spelled);
        }
    }
    return false;
}

static bool put_word(struct translation *t, struct bytes *to, bool in_set)
{
    return put_property(t, to, "Alphabetic") && put_property(t, to, "M") &&
           put_property(t, to, "Nd") && put_property(t, to, "Pc") &&
           (in_set || put(t, to, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"));
}

/* If a class escape (\s \D \p{..} ...) stands at t->p, behind its backslash: puts its members, sets
 * *negated, returns 1. 0: something else stands there; -1: it is not known. */
static int class_escape(struct translation *t, struct bytes *to, bool in_set, bool *negated)
{
    if (t->p == t->end)
        return 0;
    char c = *t->p;
    if (!c || !strchr("sSdDwWhHpP", c))
        return 0;
    t->p++;
    *negated = c >= 'A' && c <= 'Z';
    switch (c | 32) {
    case 's':
        return put(t, to, SPACES) ? 1 : -1;
    case 'd':
        return put_property(t, to, "Nd") ? 1 : -1;
    case 'w':
        return put_word(t, to, in_set) ? 1 : -1;
    case 'h':
        return put(t, to, "0-9A-Fa-f") ? 1 : -1;
    default:
        return property(t, to, negated) ? 1 : -1;
    }
}

static bool hexadecimal(struct translation *t, size_t most, uint32_t *c)
{
    size_t n = 0;
    for (*c = 0; n < most && t->p < t->end; n++, t->p++) {
        char d = *t->p;
        if (d >= '0' && d <= '9')
            *c = *c * 16 + (uint32_t)(d - '0');
        else if ((d | 32) >= 'a' && (d | 32) <= 'f')
            *c = *c * 16 + (uint32_t)((d | 32) - 'a' + 10);
        else
            break;
    }
    return n > 0;
}

/* One literal character at t->p, escaped or not. */
static bool character(struct translation *t, bool in_set, uint32_t *c)
{
    size_t len;
    if (!accept(t, "\\")) {
        *c = utf8_read(t->p, &len);
        t->p += len;
        return true;
    }
    if (t->p == t->end)
        return false;
    static const char from[] = "tnrfvae", to[] = "\t\n\r\f\v\a\x1B";
    const char *known = *t->p ? strchr(from, *t->p) : NULL;
    if (known || (in_set && *t->p == 'b')) {
        *c = known ? (unsigned char)to[known - from] : '\b';
        t->p++;
        return true;
    }
    if (accept(t, "x{"))
        return hexadecimal(t, 6, c) && accept(t, "}") && *c <= 0x10FFFF &&
               (*c < 0xD800 || *c > 0xDFFF);
    if (accept(t, "x")) // two digits above 7F would be a single byte
        return hexadecimal(t, 2, c) && *c < 0x80;
    if (accept(t, "u")) {
        const char *start = t->p;
        return hexadecimal(t, 4, c) && t->p - start == 4 && (*c < 0xD800 || *c > 0xDFFF);
    }
    *c = utf8_read(t->p, &len);
    if (*c >= 0x80 || (*c | 32) - 'a' < 26u || *c - '0' < 10u || *c < ' ')
        return false;
    t->p++;
    return true;
}

static bool set(struct translation *t, struct bytes *to, int depth);

/* One member of a set: a class, a character, a range. Plain members go to items, what cannot stand
 * in a PCRE2 set to others, each behind a bar. */
static bool member(struct translation *t, struct bytes *items, struct bytes *others, int depth)
{
    const char *start = t->p;
    if (accept(t, "["))
        return (t->p == t->end || *t->p != ':') && put(t, others, "|") && set(t, others, depth + 1);
    if (accept(t, "\\")) {
        struct bytes class = {0};
        bool negated = false;
        int found = class_escape(t, &class, true, &negated);
        bool ok = found >= 0;
        if (found > 0 && negated)
            ok = put(t, others, "|[^") && put_bytes(t, others, &class) && put(t, others, "]");
        else if (found > 0)
            ok = put_bytes(t, items, &class);
        bytes_free(&class);
        if (found)
            return ok;
        t->p = start;
    }
    uint32_t low, high;
    if (!character(t, true, &low))
        return false;
    if (t->end - t->p >= 2 && t->p[0] == '-' && t->p[1] != ']') {
        t->p++;
        start = t->p;
        if (*t->p == '[' || !character(t, true, &high) || high < low)
            return t->p = start, false; // a-\d and a-[b]: which of two meanings?
        return put_char(t, items, low) && put(t, items, "-") && put_char(t, items, high);
    }
    return put_char(t, items, low);
}

/* Closes one operand of an intersection: [items], or (?:[items]|other|other). */
static bool operand(struct translation *t, struct bytes *to, const struct bytes *items,
                    const struct bytes *others)
{
    if (!items->n && !others->n)
        return false;
    if (!others->n)
        return put(t, to, "[") && put_bytes(t, to, items) && put(t, to, "]");
    if (!put(t, to, "(?:"))
        return false;
    if (items->n && !(put(t, to, "[") && put_bytes(t, to, items) && put(t, to, "]")))
        return false;
    size_t bar = items->n ? 0 : 1; // others begins with one
    struct bytes rest = {.v = others->v + bar, .n = others->n - bar};
    return put_bytes(t, to, &rest) && put(t, to, ")");
}

/* The members up to "]" or "&&". */
static bool members(struct translation *t, struct bytes *items, struct bytes *others, bool first,
                    int depth)
{
    while (t->p < t->end && (first || *t->p != ']')) {
        if (t->end - t->p >= 2 && t->p[0] == '&' && t->p[1] == '&')
            return true;
        if (!member(t, items, others, depth))
            return false;
        first = false;
    }
    return t->p < t->end;
}

/* A set, behind its "[". */
static bool set(struct translation *t, struct bytes *to, int depth)
{
    struct bytes items = {0}, others = {0}, heads = {0};
    bool negated = accept(t, "^"), ok = depth < DEPTH_MAX, first = true;
    while (ok) {
        items.n = others.n = 0;
        ok = members(t, &items, &others, first, depth);
        first = false;
        if (!ok || accept(t, "]"))
            break;
        ok = accept(t, "&&") && put(t, &heads, "(?=") && operand(t, &heads, &items, &others) &&
             put(t, &heads, ")");
    }
    if (ok && !heads.n && !others.n) {
        ok = items.n && put(t, to, negated ? "[^" : "[") && put_bytes(t, to, &items) &&
             put(t, to, "]");
    } else if (ok) {
        ok = put(t, to, negated ? "(?:(?!" : "(?:") && put_bytes(t, to, &heads) &&
             operand(t, to, &items, &others) && put(t, to, negated ? ")(?s:.))" : ")");
    }
    bytes_free(&items);
    bytes_free(&others);
    bytes_free(&heads);
    return ok;
}

/* * + ? {n,m} with lazy and possessive forms; 0: none stands here, -1: not known. */
static int quantifier(struct translation *t)
{
    const char *start = t->p;
    if (t->p == t->end || !strchr("*+?{", *t->p) || !*t->p)
        return 0;
    bool interval = *t->p == '{', fixed = false;
    if (interval) {
        unsigned low = 0, high = 0;
        int used = 0;
        char text[32], written[32];
        snprintf(text, sizeof text, "%.*s", t->end - t->p < 31 ? (int)(t->end - t->p) : 31, t->p);
        if (sscanf(text, "{%5u}%n", &low, &used) == 1 && used) {
            snprintf(written, sizeof written, "{%u}", low);
            fixed = true;
        } else if (sscanf(text, "{%5u,%5u}%n", &low, &high, &used) == 2 && used && low <= high) {
            snprintf(written, sizeof written, "{%u,%u}", low, high);
        } else if (sscanf(text, "{%5u,}%n", &low, &used) == 1 && used) {
            snprintf(written, sizeof written, "{%u,}", low);
        } else if (sscanf(text, "{,%5u}%n", &high, &used) == 1 && used) {
            snprintf(written, sizeof written, "{0,%u}", high);
        } else {
            return -1;
        }
        if (strpbrk(text, " \t+-") && strpbrk(text, " \t+-") < text + used)
            return -1;
        t->p += used;
        put(t, t->out, written);
    } else {
        char one[2] = {*t->p++, 0};
        put(t, t->out, one);
    }
    if (accept(t, "?")) {
        if (fixed)
            return t->p = start, -1;
        put(t, t->out, "?");
    } else if (t->p < t->end && *t->p == '+') {
        if (interval)
            return -1;
        t->p++;
        put(t, t->out, "+");
    }
    if (t->p < t->end && *t->p && strchr("*+?{", *t->p))
        return -1;
    return t->no_memory ? -1 : 1;
}

/* An opening parenthesis with what follows it. */
static bool group(struct translation *t)
{
    static const struct {
        const char *from, *to;
    } openings[] = {{"(?:", "(?:"},   {"(?=", "(?="},     {"(?!", "(?!"},     {"(?<=", "(?<="},
                    {"(?<!", "(?<!"}, {"(?>", "(?>"},     {"(?i:", "(?i:"},   {"(?-i:", "(?-i:"},
                    {"(?m:", "(?s:"}, {"(?-m:", "(?-s:"}, {"(?mi:", "(?si:"}, {"(?im:", "(?si:"}};
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        if (accept(t, openings[i].from))
            return put(t, t->out, openings[i].to);
    }
    if (t->end - t->p >= 2 && t->p[1] == '?')
        return false;
    t->p++;
    return put(t, t->out, "(?:"); // nothing here looks at captures
}

/* Behind a backslash, outside sets: an anchor or a class; 0: a literal must stand here. */
static int escape(struct translation *t)
{
    static const char *const same[] = {"A", "z", "Z", "R"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (accept(t, same[i]))
            return put(t, t->out, "\\") && put(t, t->out, same[i]) ? 1 : -1;
    }
    if (accept(t, "b") || accept(t, "B")) {
        bool edge = t->p[-1] == 'b';
        struct bytes word = {0};
        bool ok = put_word(t, &word, false) && bytes_append(&word, "", 1);
        t->no_memory = t->no_memory || !ok;
        ok = ok && put(t, t->out, "(?:(?<=[") && put(t, t->out, word.v) &&
             put(t, t->out, edge ? "])(?![" : "])(?=[") && put(t, t->out, word.v) &&
             put(t, t->out, "])|(?<![") && put(t, t->out, word.v) &&
             put(t, t->out, edge ? "])(?=[" : "])(?![") && put(t, t->out, word.v) &&
             put(t, t->out, "]))");
        bytes_free(&word);
        return ok ? 1 : -1;
    }
    struct bytes class = {0};
    bool negated = false;
    int found = class_escape(t, &class, false, &negated);
    if (found > 0 && !(put(t, t->out, negated ? "[^" : "[") && put_bytes(t, t->out, &class) &&
                       put(t, t->out, "]")))
        found = -1;
    bytes_free(&class);
    return found;
}

/* One element: an atom, an anchor, a bar or a parenthesis. *repeats: a quantifier may follow. */
static bool element(struct translation *t, bool *repeats)
{
    const char *start = t->p;
    *repeats = true;
    switch (*t->p) {
    case '(':
        *repeats = false;
        return group(t);
    case ')':
        t->p++;
        return put(t, t->out, ")");
    case '|':
        *repeats = false;
        t->p++;
        return put(t, t->out, "|");
    case '^':
    case '$':
        *repeats = false;
        return put(t, t->out, *t->p++ == '^' ? "(?m:^)" : "(?m:$)");
    case '.':
        t->p++;
        return put(t, t->out, ".");
    case '[':
        t->p++;
        return t->p < t->end && *t->p != ':' && set(t, t->out, 0);
    case '\\':
        t->p++;
        int found = escape(t);
        if (found)
            return found > 0;
        t->p = start;
        break;
    default:
        if (*t->p && strchr("*+?", *t->p))
            return false;
    }
    uint32_t c;
    return character(t, false, &c) && put_char(t, t->out, c);
}

enum oniguruma oniguruma_translate(const char *pattern, size_t n, struct bytes *out, size_t *at)
{
    struct translation t = {.p = pattern, .end = pattern + n, .out = out};
    bool ok = true;
    if (accept(&t, "(?i)"))
        ok = put(&t, out, "(?i)");
    while (ok && t.p < t.end) {
        bool repeats;
        *at = (size_t)(t.p - pattern);
        ok = element(&t, &repeats);
        if (!ok)
            break;
        *at = (size_t)(t.p - pattern);
        int found = quantifier(&t);
        ok = found >= 0 && (repeats || !found);
    }
    if (ok)
        return ONIGURUMA_OK;
    return t.no_memory ? ONIGURUMA_NO_MEMORY : ONIGURUMA_UNKNOWN;
}
