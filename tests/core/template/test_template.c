/*
 * Templates beyond what a table of cases says: what is refused by name, the limits, sharing between
 * threads, every allocation failing once.
 */
#include "core/template/template.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/template/value.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static struct template *parse(const char *text)
{
    struct template *t;
    struct error err = ERROR_INIT;
    ck_assert_msg(!template_parse(text, strlen(text), &t, &err), "%s: %s", text, err.text);
    return t;
}

/* Renders with variables of JSON; the text is what is written, or the error's. */
static enum status render(const char *text, const char *json, const struct template_limits *limits,
                          char *to, size_t size)
{
    json_t *variables;
    struct buffer b = {0};
    struct error err = ERROR_INIT;
    struct template *t = parse(text);
    ck_assert(!json_parse(json, strlen(json), 64, "variables", &variables, &err));
    enum status s = template_render(t, variables, 0, limits, &b, &err);
    snprintf(to, size, "%.*s", s ? 768 : (int)b.len, s ? err.text : b.len ? b.v : "");
    template_free(t);
    json_decref(variables);
    buffer_free(&b);
    error_clear(&err);
    return s;
}

static const struct {
    const char *text, *names;
    int line;
} refusals[] = {
    {"{% include 'x' %}", "'include'", 1},
    {"\n{% import 'x' as y %}", "'import'", 2},
    {"{% from 'x' import y %}", "'from'", 1},
    {"{% extends 'x' %}", "'extends'", 1},
    {"{% block x %}{% endblock %}", "'block'", 1},
    {"{% autoescape true %}{% endautoescape %}", "'autoescape'", 1},
    {"a\n\n{% trans %}{% endtrans %}", "'trans'", 3},
    {"{{ x | urlize }}", "'urlize'", 1},
    {"{{ x | nope }}", "'nope'", 1},
    {"{{ x is nope }}", "'nope'", 1},
    {"{{ x | nope }}\n{% if x is none %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% for y in x %}\n{{ y | nope }}{% endfor %}{% endif %}", "'nope'", 2},
    {"{% if x %}{% for y in x if y is nope %}{% endfor %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% macro m(a=x | nope) %}{% endmacro %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% macro m() %}{{ x | nope }}{% endmacro %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% with a = 1 %}{{ a | nope }}{% endwith %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% filter nope %}{% endfilter %}{% endif %}", "'nope'", 1},
    {"{% if x %}{% set y | nope %}{% endset %}{% endif %}", "'nope'", 1},
    {"{{ (a if b else c) | nope }}", "'nope'", 1},
    {"{{ x.casefold() }}", "'casefold'", 1},
    {"{{ x.encode('utf8') }}", "'encode'", 1},
    {"{{ '\\N{BULLET}' }}", "escape", 1},
    {"{{ '\\ud83d' }}", "escape", 1},
    {"{{ 99999999999999999999 }}", "64 bits", 1},
    {"{{ lipsum() }}", "'lipsum'", 1},
    {"{% set x = cycler(1, 2) %}", "'cycler'", 1},
};

START_TEST(refused_by_name)
{
    struct template *t;
    struct error err = ERROR_INIT;
    char line[32];
    enum status s = template_parse(refusals[_i].text, strlen(refusals[_i].text), &t, &err);
    ck_assert_msg(s == ST_TEMPLATE_UNSUPPORTED, "%s: %s", refusals[_i].text, err.text);
    ck_assert(!t);
    snprintf(line, sizeof line, "line %d", refusals[_i].line);
    ck_assert_msg(strstr(err.text, refusals[_i].names) && strstr(err.text, line), "%s", err.text);
    error_clear(&err);
}
END_TEST

START_TEST(refused_when_run)
{
    static const char *const texts[] = {"{{ [1] | select('nope') | list }}", "{{ 'x'.strip }}",
                                        "{{ 2 ** 64 }}", "{{ ('%s' | e) % 1 }}",
                                        "{{ ('x' | e).replace('x', '<') }}"};
    char got[1024];
    enum status s = render(texts[_i], "{}", NULL, got, sizeof got);
    ck_assert_msg(s == ST_TEMPLATE_UNSUPPORTED, "%s: %s", texts[_i], got);
    ck_assert(strstr(got, "line 1"));
}
END_TEST

static const struct {
    const char *text, *says;
} messages[] = {
    {"\n{{ x.y }}", "line 2: 'x' is undefined"},
    {"{{ d.x.y }}", "'dict object' has no attribute 'x'"},
    {"{{ l[3].y }}", "list object has no element 3"},
    {"{{ n.a.b }}", "'None' has no attribute 'a'"},
    {"{{ f(1) }}", "'f' is undefined"},
    {"{{ l.append(1) }}", "unsafe"},
    {"{{ d + 1 }}", "unsupported operand type(s) for +: 'dict' and 'int'"},
};

START_TEST(says_what_is_wrong)
{
    char got[1024];
    enum status s =
        render(messages[_i].text, "{\"d\": {}, \"l\": [1], \"n\": null}", NULL, got, sizeof got);
    ck_assert_int_eq(s, ST_TEMPLATE_FAILED);
    ck_assert_msg(strstr(got, messages[_i].says), "%s", got);
}
END_TEST

/* Small texts, large work: each must end at a limit. */
static const char *const hungry[] = {
    "{{ 'x' * 10 ** 12 }}",
    "{{ [1] * 10 ** 12 }}",
    "{{ 'x'.ljust(10 ** 15) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ ('x' * 10 ** 7).replace('', 'y' * 100) }}",
    "{% set ns = namespace(x='x') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor "
    "%}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% "
    "endfor %}"
    "{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% "
    "endfor %}"
    "{{ ns.x | tojson }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}"
    "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = ns.x | map('string') "
    "%}"
    "{% endfor %}{{ ns.x | list }}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "{% set l = range(99999) | list %}{% for a in l %}{% if l == l | list %}{% endif %}{% endfor "
    "%}",
    "{% set s = 'ab' * 4000000 %}{% for a in range(99999) %}{% if 'ba' * 9 + 'c' in s %}{% endif %}"
    "{% endfor %}",
    "{{ range(99999) | map('string') | join('x' * 9999) }}",
    "{{ {'a': 1} | tojson(indent=10 ** 12) }}",
};

START_TEST(limits)
{
    char got[1024];
    struct template_limits small = {
        .steps = 2000000, .memory = (size_t)32 << 20, .output = 1 << 20};
    enum status s = render(hungry[_i], "{}", &small, got, sizeof got);
    ck_assert_msg(s == ST_LIMIT_EXCEEDED, "%s: %s %s", hungry[_i], status_code(s), got);
}
END_TEST

/* What grows by a little each time costs what is added, not what is there. */
START_TEST(growing_text)
{
    char got[64];
    struct template_limits small = {.memory = (size_t)16 << 20};
    enum status s = render("{% set ns = namespace(x='') %}{% for i in range(9000) %}"
                           "{% set ns.x = ns.x ~ '0123456789012345678901234567890123456789' %}"
                           "{% endfor %}{{ ns.x | length }}",
                           "{}", &small, got, sizeof got);
    ck_assert_msg(!s, "%s", got);
    ck_assert_str_eq(got, "360000");
}
END_TEST

/* Two texts that grow from one share its bytes and nothing else. */
START_TEST(shared_text)
{
    char got[2048];
    enum status s =
        render("{% set a = 'x' * 200 ~ 'y' * 100 %}{% set b = a ~ '1' %}{% set c = a ~ '2' %}"
               "{{ b[-3:] }} {{ c[-3:] }} {{ a[-2:] }} {{ b | length }} {{ a | length }}",
               "{}", NULL, got, sizeof got);
    ck_assert_msg(!s, "%s", got);
    ck_assert_str_eq(got, "yy1 yy2 yy 301 300");
}
END_TEST

static char deep[200000];

static const char *nested(const char *open, const char *middle, const char *close, size_t n)
{
    char *p = deep;
    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, middle);
    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, close);
    return deep;
}

START_TEST(depth)
{
    static const struct {
        const char *open, *middle, *close;
        size_t n;
    } texts[] = {{"", "{{ (", "", 1},
                 {"{{ (((((((((((((((((((((((((((((((((((((((((((", "", "", 900},
                 {"{% if x %}", "", "{% endif %}", 2000},
                 {"{% for x in y %}", "", "{% endfor %}", 2000},
                 {"{{ not not not not not not not not not not", "", "", 900},
                 {"{{ - - - - - - - - - - - - - - - - - - - -", "", "", 900},
                 {"", "{{ x", " | upper", 9000},
                 {"", "{{ x", ".y", 9000},
                 {"", "{{ x", " + 1", 9000},
                 {"{{ [[[[[[[[[[[[[[[[[[[[[[[[[[[", "", "", 900}};
    const char *text = nested(texts[_i].open, texts[_i].middle, texts[_i].close, texts[_i].n);
    struct template *t;
    struct error err = ERROR_INIT;
    enum status s = template_parse(text, strlen(text), &t, &err);
    ck_assert_msg(s == ST_TEMPLATE_UNSUPPORTED || s == ST_TEMPLATE_INVALID, "%s", err.text);
    error_clear(&err);
}
END_TEST

START_TEST(long_chains)
{
    char got[64];
    const char *text = nested("", "{% if x == 0 %}", "{% elif x == 1 %}", 9000);
    strcpy(deep + strlen(text), "{% else %}end{% endif %}");
    ck_assert(!render(deep, "{\"x\": 2}", NULL, got, sizeof got));
    ck_assert_str_eq(got, "end");
}
END_TEST

#define CHAT                                                                                       \
    "{% macro show(m, extra=none) %}[{{ m.role }}: {{ m.content | trim }}{{ extra }}]"             \
    "{% endmacro %}{% set ns = namespace(n=0, seen=[]) %}{% for m in messages if m.role != 'x' %}" \
    "{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen + [m.role] %}{% if loop.first %}{{ bos }}"  \
    "{% endif %}{{ show(m, extra=' ' ~ loop.index) }}{% set block %}{{ m | tojson(indent=2) }}"    \
    "{% endset %}{{ block | length }}{% for k, v in m | dictsort %}{{ k.upper() }}={{ '%s' % v }}" \
    "{% else %}-{% endfor %}{{ m.content.split(' ') | map('capitalize') | join('+') }}"            \
    "{% endfor %}{{ ns.seen | unique | list }}{% filter upper %}{{ ns.n }}ab{% endfilter %}"       \
    "{% call show(messages[0]) %}{% endcall %}{{ '{:>5}'.format(ns.n) }}{{ "                       \
    "messages[::-1][0].role }}"
#define MESSAGES                                                                                   \
    "{\"bos\": \"<s>\", \"messages\": [{\"role\": \"user\", \"content\": \" Hi \\u00e9 you \"},"   \
    "{\"role\": \"assistant\", \"content\": \"Good\"}, {\"role\": \"user\", \"content\": \"x "     \
    "y\"}]}"

START_TEST(every_allocation_fails_once)
{
    json_t *variables;
    ck_assert(!json_parse(MESSAGES, strlen(MESSAGES), 64, "variables", &variables, NULL));
    const char *text = CHAT;
    // the call block fails at its end (its macro takes no caller): both ways out are walked
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct template *t = NULL;
        struct buffer b = {0};
        struct error err = ERROR_INIT;
        enum status s = template_parse(text, strlen(text), &t, &err);
        bool parsed = !s;
        if (!s)
            s = template_render(t, variables, 0, NULL, &b, &err);
        bool fired = fault_disarm();
        ck_assert_int_eq(s, fired ? ST_OUT_OF_MEMORY : ST_TEMPLATE_FAILED);
        ck_assert(parsed || !t);
        template_free(t);
        buffer_free(&b);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    json_decref(variables);
}
END_TEST

struct shared {
    const struct template *t;
    bool same;
};

static void *render_many(void *arg)
{
    struct shared *x = arg;
    json_t *variables;
    if (json_parse(MESSAGES, strlen(MESSAGES), 64, "variables", &variables, NULL))
        return NULL;
    x->same = true;
    for (int i = 0; i < 200; i++) {
        struct buffer b = {0};
        x->same &= !template_render(x->t, variables, 0, NULL, &b, NULL) && b.len == 28 &&
                   !memcmp(b.v, "user Hi \xc3\xa9 you assistantGood", 28);
        buffer_free(&b);
    }
    json_decref(variables);
    return NULL;
}

START_TEST(threads)
{
    struct template *t = parse("{% for m in messages[:2] %}{{ m.role ~ m.content }}{% endfor %}");
    struct shared x[4];
    pthread_t id[4];
    for (int i = 0; i < 4; i++) {
        x[i] = (struct shared){.t = t};
        ck_assert(!pthread_create(&id[i], NULL, render_many, &x[i]));
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(id[i], NULL);
        ck_assert(x[i].same);
    }
    template_free(t);
}
END_TEST

/* Characters of every length, at every place of a word. */
START_TEST(characters_are_counted)
{
    static const char *const all[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (int code = 0; code < 65536; code++) {
        char text[64];
        size_t len = 0, chars = 0;
        for (int rest = code; chars < 8; chars++, rest /= 4)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s", all[rest % 4]);
        for (size_t from = 0, left = chars; from < len; left--) {
            ck_assert_uint_eq(value_count(text + from, len - from), left);
            from += strlen(all[code >> 2 * (chars - left) & 3]);
        }
    }
    ck_assert_uint_eq(value_count("", 0), 0);
}
END_TEST

START_TEST(edges)
{
    char got[64];
    struct template *t;
    ck_assert(!render("", "{}", NULL, got, sizeof got));
    ck_assert_str_eq(got, "");
    ck_assert(!render("{{ x }}", "{\"x\": \"\\u0000a\"}", NULL, got, sizeof got));
    ck_assert_int_eq(template_parse("\xff", 1, &t, NULL), ST_TEMPLATE_INVALID);
    ck_assert_int_eq(template_parse("{{ \0 }}", 7, &t, NULL), ST_TEMPLATE_INVALID);
    template_free(NULL);
}
END_TEST

#define N(x) (int)(sizeof(x) / sizeof(x)[0])

static Suite *suite(void)
{
    Suite *s = suite_create("core/template/template");
    TCase *c = tcase_create("template");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, refused_by_name, 0, N(refusals));
    tcase_add_loop_test(c, refused_when_run, 0, 4);
    tcase_add_loop_test(c, says_what_is_wrong, 0, N(messages));
    tcase_add_loop_test(c, limits, 0, N(hungry));
    tcase_add_test(c, growing_text);
    tcase_add_test(c, shared_text);
    tcase_add_loop_test(c, depth, 0, 10);
    tcase_add_test(c, long_chains);
    tcase_add_test(c, every_allocation_fails_once);
    tcase_add_test(c, threads);
    tcase_add_test(c, characters_are_counted);
    tcase_add_test(c, edges);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
