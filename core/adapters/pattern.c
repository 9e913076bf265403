/*
 * Owns the step from Python's regular expressions to PCRE2 and the promise that a hostile one is
 * refused within milliseconds: matching has a step limit, a memory limit, and all matches of one
 * pattern together a limit of time. Where the engines agree the text is passed through; what they
 * read differently is rewritten
 *
 *     \Z -> \z      {,n} -> {0,n}      { that starts no repetition -> \{      [ inside a set -> \[
 *
 * and what only one of them knows (recursion, verbs, callouts, \K, \Q, \R, (?|...), flags in the
 * middle, ...) is refused: the config was written by PEFT, which would have refused it, or would
 * have meant something else.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/adapters/pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX      16384  /* bytes of a pattern */
#define MATCH_LIMIT   200000 /* backtracking steps of one match */
#define HEAP_LIMIT    4096   /* KiB */
#define SECONDS_LIMIT 0.25   /* CPU time of all matches of one pattern */

struct pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    double seconds;
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- translation ---- */

struct reader {
    const char *at, *start;
    char *out;
    size_t n;
    const char *why; /* what stops it, NULL: nothing */
};

/* Room is TWICE the text: no rule writes more than two bytes for one, but for {,n}, which grows by
 * one byte of four. */
static void emit(struct reader *r, const char *s, size_t n)
{
    memcpy(r->out + r->n, s, n);
    r->n += n;
}

static void refuse(struct reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
}

/* At a backslash; in_set: between [ and ]. */
static void escape(struct reader *r, bool in_set)
{
    char c = r->at[1];
    if (!c) {
        refuse(r, "it ends in a backslash");
        return;
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool digit = c >= '0' && c <= '9';
    if (c == 'Z' && !in_set) {
        emit(r, "\\z", 2);
        r->at += 2;
        return;
    }
    if (c == 'x') {
        for (int i = 2; i < 4; i++)
            if (!r->at[i] || !strchr("0123456789abcdefABCDEF", r->at[i])) {
                refuse(r, "\\x needs two hexadecimal digits");
                return;
            }
    } else if (letter && !strchr(in_set ? "bdDsSwWafnrt" : "AbBdDsSwWafnrt", c)) {
        refuse(r, "it uses an escape that is not supported");
    } else if (digit && (in_set || c == '0' || (r->at[2] >= '0' && r->at[2] <= '9'))) {
        refuse(r, "octal escapes are not supported");
    }
    emit(r, r->at, 2);
    r->at += 2;
}

/* At "[". */
static void set(struct reader *r)
{
    emit(r, r->at++, 1);
    if (*r->at == '^')
        emit(r, r->at++, 1);
    bool first = true;
    while (*r->at && (first || *r->at != ']')) {
        first = false;
        if (*r->at == '\\') {
            escape(r, true);
        } else {
            if (*r->at == '[')
                emit(r, "\\", 1);
            emit(r, r->at++, 1);
        }
        if (r->why)
            return;
    }
    if (!*r->at)
        refuse(r, "a set has no closing bracket");
    else
        emit(r, r->at++, 1);
}

/* At "(": which groups Python and PCRE2 both know, and mean alike. */
static void group(struct reader *r)
{
    static const char *const plain[] = {"(?:", "(?=",  "(?!",  "(?<=", "(?<!",
                                        "(?>", "(?P<", "(?P=", "(?#"};
    if (r->at[1] == '*')
        refuse(r, "nothing to repeat after an opening parenthesis");
    if (r->at[1] == '?') {
        size_t i = 0, n = sizeof plain / sizeof plain[0];
        while (i < n && strncmp(r->at, plain[i], strlen(plain[i])))
            i++;
        if (i == n) { // flags: for a part, or at the very start for all
            size_t flags = 2 + strspn(r->at + 2, "ims-");
            if (r->at[flags] != ':' && (r->at[flags] != ')' || r->at != r->start))
                refuse(r, "it uses a group that is not supported");
        } else if (!strcmp(plain[i], "(?#")) {
            const char *end = strchr(r->at, ')');
            if (end)
                r->at = end + 1;
            else
                refuse(r, "a comment has no closing parenthesis");
            return;
        }
        emit(r, r->at, 2);
        r->at += 2;
        return;
    }
    emit(r, r->at++, 1);
}

/* At "{": a repetition {n} {n,} {,n} {n,m}, or a literal brace. */
static void brace(struct reader *r)
{
    const char *p = r->at + 1;
    size_t low = strspn(p, "0123456789"), high = 0;
    p += low;
    bool comma = *p == ',';
    if (comma) {
        high = strspn(++p, "0123456789");
        p += high;
    }
    if (*p != '}' || (!low && !high)) {
        emit(r, "\\{", 2);
        r->at++;
        return;
    }
    emit(r, "{", 1);
    if (!low)
        emit(r, "0", 1);
    emit(r, r->at + 1, (size_t)(p - r->at));
    r->at = p + 1;
}

static enum status translate(const char *text, char *out, size_t *n, char why[PATTERN_WHY])
{
    struct reader r = {.at = text, .start = text, .out = out};
    while (*r.at && !r.why)
        switch (*r.at) {
        case '\\':
            escape(&r, false);
            break;
        case '[':
            set(&r);
            break;
        case '(':
            group(&r);
            break;
        case '{':
            brace(&r);
            break;
        default:
            emit(&r, r.at++, 1);
        }
    *n = r.n;
    if (!r.why)
        return ST_OK;
    snprintf(why, PATTERN_WHY, "%s (at byte %zu)", r.why, (size_t)(r.at - text));
    return ST_CONFIG_INVALID_VALUE;
}

/* ---- compiling and matching ---- */

static enum status compile(struct pattern *p, const char *text, size_t n, char why[PATTERN_WHY])
{
    int code;
    PCRE2_SIZE at;
    p->code = pcre2_compile((PCRE2_SPTR)text, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, NULL);
    if (p->code)
        return ST_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return ST_OUT_OF_MEMORY;
    char text_of_error[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text_of_error, sizeof text_of_error);
    snprintf(why, PATTERN_WHY, "%s", text_of_error);
    return ST_CONFIG_INVALID_VALUE;
}

enum status pattern_open(const char *before, const char *text, const char *after,
                         struct pattern **out, char why[PATTERN_WHY])
{
    *out = NULL;
    enum status s = ST_OUT_OF_MEMORY;
    size_t len = strlen(text), n_before = before ? strlen(before) : 0,
           n_after = after ? strlen(after) : 0, n = 0;
    if (len > TEXT_MAX) {
        snprintf(why, PATTERN_WHY, "it is longer than %d bytes", TEXT_MAX);
        return ST_CONFIG_INVALID_VALUE;
    }
    struct pattern *p = calloc(1, sizeof *p);
    char *whole = malloc(n_before + 2 * len + n_after + 1);
    if (!p || !whole)
        goto done;
    if (n_before)
        memcpy(whole, before, n_before);
    s = translate(text, whole + n_before, &n, why);
    if (s)
        goto done;
    n += n_before;
    if (n_after)
        memcpy(whole + n, after, n_after);
    s = compile(p, whole, n + n_after, why);
    if (s)
        goto done;
    p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->data || !p->limits) {
        s = ST_OUT_OF_MEMORY;
        goto done;
    }
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT);
    *out = p;
    p = NULL;
done:
    free(whole);
    pattern_close(p);
    return s;
}

void pattern_close(struct pattern *p)
{
    if (!p)
        return;
    pcre2_match_context_free(p->limits);
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    free(p);
}

static enum status match(struct pattern *p, const char *name, uint32_t options, bool *yes,
                         char why[PATTERN_WHY])
{
    *yes = false;
    double start = cpu_seconds();
    int rc = pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, options, p->data, p->limits);
    p->seconds += cpu_seconds() - start;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return ST_OUT_OF_MEMORY;
    if ((rc < 0 && rc != PCRE2_ERROR_NOMATCH) || p->seconds > SECONDS_LIMIT) {
        snprintf(why, PATTERN_WHY, "matching it takes too many steps");
        return ST_CONFIG_INVALID_VALUE;
    }
    *yes = rc > 0;
    return ST_OK;
}

enum status pattern_full(struct pattern *p, const char *name, bool *yes, char why[PATTERN_WHY])
{
    return match(p, name, PCRE2_ANCHORED | PCRE2_ENDANCHORED, yes, why);
}

enum status pattern_index(struct pattern *p, const char *name, bool *yes, int64_t *index,
                          char why[PATTERN_WHY])
{
    enum status s = match(p, name, PCRE2_ANCHORED, yes, why);
    if (s || !*yes)
        return s;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);
    *yes = pcre2_get_ovector_count(p->data) > 1 && at[2] != PCRE2_UNSET && at[3] > at[2] &&
           at[3] - at[2] <= 9;
    *index = 0;
    for (PCRE2_SIZE i = at[2]; *yes && i < at[3]; i++) {
        *yes = name[i] >= '0' && name[i] <= '9';
        *index = *index * 10 + (name[i] - '0');
    }
    return ST_OK;
}
