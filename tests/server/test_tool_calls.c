/*
 * Tool calls in what models say, by the formats that their vendors document: content, calls and
 * arguments, the same however the text is cut; what only begins like a call is content; memory that
 * runs out is said.
 */
#include "server/tool_calls.h"

#include <stdio.h>
#include <string.h>

#include "tests/check_main.h"
#include "tests/faults/fault.h"

static const json_t *tools; /* none: what has no type is a string */

struct row {
    enum tool_format format;
    const char *text;
    const char *want; /* content, then |name(arguments) for each call */
};

static const struct row rows[] = {
    {TOOLS_HERMES, "Hello.", "Hello."},
    {TOOLS_HERMES, "", ""},
    {TOOLS_HERMES, " a < b  ", " a < b  "},
    {TOOLS_HERMES, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
     "|f({\"a\": 1})"},
    {TOOLS_HERMES,
     "I look. \n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
     "{\"name\": \"g\", \"arguments\": {\"s\": \"}]\\\"</tool_call>\", \"l\": [{}, [1]]}}\n"
     "</tool_call>\n",
     "I look.|f({})|g({\"s\": \"}]\\\"</tool_call>\", \"l\": [{}, [1]]})"},
    {TOOLS_HERMES, "<tool_call>{\"arguments\":{\"a\":[1,\"x\"]},\"name\":\"late\"}</tool_call>",
     "|late({\"a\":[1,\"x\"]})"},
    {TOOLS_HERMES, "<tool_call>{\"name\": \"f\"}</tool_call>done", "done|f({})"},
    {TOOLS_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", "|f({})"},
    {TOOLS_HERMES, "<tool_call>{\"id\": 7, \"name\": \"f\", \"arguments\": {\"a\": tr",
     "|f({\"a\": tr"},
    {TOOLS_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n</tool_ca", "|f({})"},
    {TOOLS_HERMES,
     "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"\\\\u00e9\\\"}\"}</tool_call>",
     "|f({\"a\": \"\\u00e9\"})"},
    {TOOLS_HERMES, "<tool_call>{\"name\": \"\\u00e9t\\u00e9\", \"arguments\": {}}</tool_call>",
     "|\xC3\xA9t\xC3\xA9({})"},
    {TOOLS_HERMES,
     "<tool_call>{\"name\": \"f\", \"arguments\": {}, \"name\": \"g\", \"parameters\": {\"a\": 1}}",
     "|f({})"},
    /* no calls */
    {TOOLS_HERMES, "A <tool_call> tag", "A <tool_call> tag"},
    {TOOLS_HERMES, "<tool_call></tool_call>", "<tool_call></tool_call>"},
    {TOOLS_HERMES, "<tool_call>{\"name\": 3, \"arguments\": {}}",
     "<tool_call>{\"name\": 3, \"arguments\": {}}"},
    {TOOLS_HERMES, "<tool_call>{name: f}", "<tool_call>{name: f}"},
    {TOOLS_HERMES, "x <tool_call> {\"nam", "x <tool_call> {\"nam"},
    {TOOLS_HERMES, "x <tool_c", "x <tool_c"},
    {TOOLS_HERMES, "<tool_call>{} <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
     "<tool_call>{}|f({})"},
    {TOOLS_LLAMA, "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", "|f({\"a\": \"b\"})"},
    {TOOLS_LLAMA,
     " {\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"n\": -1e3}}",
     "|f({})|g({\"n\": -1e3})"},
    {TOOLS_LLAMA, "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}",
     "|f({})"},
    {TOOLS_LLAMA, "{\"name\": \"Bob\", \"age\": 7}", "{\"name\": \"Bob\", \"age\": 7}"},
    {TOOLS_LLAMA, "Text {\"name\": \"f\", \"parameters\": {}}",
     "Text {\"name\": \"f\", \"parameters\": {}}"},
    {TOOLS_LLAMA, "{}", "{}"},
    {TOOLS_LLAMA, "  {\"a\": [1, 2]} and more", "  {\"a\": [1, 2]} and more"},
    {TOOLS_MISTRAL,
     "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": []}}, {\"name\": \"g\", "
     "\"arguments\": {}}]",
     "|f({\"a\": []})|g({})"},
    {TOOLS_MISTRAL, "[TOOL_CALLS]f[ARGS]{\"a\": {\"b\": 1}}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}",
     "|f({\"a\": {\"b\": 1}})|g({})"},
    {TOOLS_MISTRAL, "Sure.[TOOL_CALLS]f{\"a\": 1}", "Sure.|f({\"a\": 1})"},
    {TOOLS_MISTRAL, "[1] [TOOL", "[1] [TOOL"},
    {TOOLS_MISTRAL, "[TOOL_CALLS]nothing\nelse", "[TOOL_CALLS]nothing\nelse"},
    {TOOLS_MISTRAL, "[TOOL_CALLS][ARGS]{}", "[TOOL_CALLS][ARGS]{}"},
    {TOOLS_LIST, "[{\"name\":\"f\",\"parameters\":{\"a\": 1}}, {\"name\":\"g\",\"parameters\":{}}]",
     "|f({\"a\": 1})|g({})"},
    {TOOLS_BAR, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>", "|f({})"},
    {TOOLS_TAGS,
     "So.\n<tool_call>\n<function=f>\n<parameter=a>\nx \"1\"\n</par\n\n</parameter>\n"
     "<parameter=b></parameter></function>\n</tool_call> end",
     "So. end|f({\"a\": \"x \\\"1\\\"\\n</par\\n\", \"b\": \"\"})"},
    {TOOLS_TAGS, "<tool_call><function=f></function><function=g></function></tool_call>",
     "|f({})|g({})"},
    {TOOLS_TAGS, "<tool_call><function=f>odd <b><parameter=></tool_call>x", "x|f({})"},
    {TOOLS_TAGS, "<tool_call><function=f><parameter=a>\n\nb</parameter", "|f({\"a\": \"\\nb"},
    {TOOLS_TAGS, "<tool_call><function=f", "<tool_call><function=f"},
    {TOOLS_TAGS, "<tool_call><function=\n>", "<tool_call><function=\n>"},
    {TOOLS_TAGS, "<tool_call><function=>", "<tool_call><function=>"},
    {TOOLS_TAGS, "<tool_call>{\"name\": \"f\"}", "<tool_call>{\"name\": \"f\"}"},
    {TOOLS_DEEPSEEK,
     "<think>\n</"
     "think>Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
     "{\"a\": \"```\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>g\n```json\n{}\n```"
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "<think>\n</think>Hm.|f({\"a\": \"```\"})|g({})"},
    {TOOLS_DEEPSEEK_31,
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>"
     "<｜tool▁call▁begin｜>broken<｜tool▁calls▁end｜>",
     "<｜tool▁call▁begin｜>broken<｜tool▁calls▁end｜>|f({\"a\": 1})"},
    {TOOLS_DEEPSEEK_31, "<｜tool▁calls▁begin｜><｜tool▁sep｜>{}",
     "<｜tool▁calls▁begin｜><｜tool▁sep｜>{}"},
    {TOOLS_DEEPSEEK_31, "<｜tool▁calls▁begin｜>{\"name\": \"f\", \"arguments\": {}}", "|f({})"},
    {TOOLS_DEEPSEEK_31, "<｜tool▁calls▁beg", "<｜tool▁calls▁beg"},
    {TOOLS_COMMAND_R,
     "I look.\nAction: ```json\n[{\"tool_name\": \"f\", \"parameters\": {\"a\": []}}, "
     "{\"tool_name\": "
     "\"g\", \"parameters\": {}}]```",
     "I look.|f({\"a\": []})|g({})"},
    {TOOLS_COMMAND_R, "Action: take a walk", "Action: take a walk"},
    {TOOLS_COMMAND_R, "Action: ```js", "Action: ```js"},
    {TOOLS_COMMAND_R7B,
     "Hm.<|START_ACTION|>[\n{\"tool_call_id\": \"0\", "
     "\"tool_name\": "
     "\"f\", \"parameters\": {}}\n]<|END_ACTION|>",
     "Hm.|f({})"},
    {TOOLS_LLAMA, "[f(a=1, b='x\"\\'\\n\\u00e9', c=[True, (None, -2.5),], d={'k': {1: +3}}), g()]",
     "|f({\"a\": 1, \"b\": \"x\\\"'\\n\\u00e9\", \"c\": [true, [null, -2.5]], \"d\": {\"k\": "
     "{\"1\": "
     "3}}})|g({})"},
    {TOOLS_LLAMA, "<|python_tag|>brave_search.call(query=\"a\" 'b')",
     "|brave_search.call({\"query\": \"ab\"})"},
    {TOOLS_LLAMA, "<|python_start|>[f(a=1)]<|python_end|>", "|f({\"a\": 1})"},
    {TOOLS_LLAMA, "[f(x='\\U0001F600\\x41\\q', y='\\\n')]",
     "|f({\"x\": \"\\ud83d\\ude00\\u0041\\\\q\", \"y\": \"\"})"},
    {TOOLS_LLAMA, "[f(x='\\ud83d\\ude00\\ud83d!\\ude00')]",
     "|f({\"x\": \"\\ud83d\\ude00\\ufffd!\\ufffd\"})"},
    {TOOLS_LLAMA, "[f(x=1e999)]", "|f({\"x\": "},
    {TOOLS_LLAMA, "[1, 2]", "[1, 2]"},
    {TOOLS_LLAMA, "[see](http://x) and f(a=1)", "[see](http://x) and f(a=1)"},
    {TOOLS_LLAMA, "[f(1)]", "[f(1)]"},
    {TOOLS_LLAMA, "[f(a", "[f(a"},
    {TOOLS_LLAMA, "[f(a=[1, 'x", "|f({\"a\": [1, \"x"},
    {TOOLS_LLAMA, "[f(a=1), g(x)] then", "g(x)] then|f({\"a\": 1})"},
    {TOOLS_LFM, "Yes.<|tool_call_start|>[f(a='b')]<|tool_call_end|> Done",
     "Yes. Done|f({\"a\": \"b\"})"},
    {TOOLS_GLM,
     "So:\n<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>[1, 2]</arg_value>\n</tool_call>",
     "So:|f({\"a\": \"[1, 2]\"})"},
    {TOOLS_GLM,
     "<tool_call>f<arg_key>a</arg_key><arg_value>\nx<b\n</arg_value></tool_call><tool_call>g</"
     "tool_call>!",
     "!|f({\"a\": \"\\nx<b\\n\"})|g({})"},
    {TOOLS_GLM, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_val", "|f({\"a\": \"x"},
    {TOOLS_GLM, "<tool_call>\n</tool_call> no", "<tool_call>\n</tool_call> no"},
    {TOOLS_DSML,
     "I look.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n"
     "<｜DSML｜parameter name=\"a\" string=\"true\"> 1 < 2\n</｜DSML｜parameter>\n"
     "<｜DSML｜parameter name=\"b\" string=\"false\">[1, \"x\"]</｜DSML｜parameter>\n"
     "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
     "I look.|f({\"a\": \" 1 < 2\\n\", \"b\": [1, \"x\"]})|g({})"},
    {TOOLS_DSML_32,
     "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
     "<｜DSML｜parameter name=\"a\" string=\"false\">\"s\"</｜DSML｜parameter>\n"
     "<｜DSML｜parameter name=\"b\" string=\"false\">no JSON</｜DSML｜parameter>\n"
     "<｜DSML｜parameter name=\"c\" string=\"true\"></｜DSML｜parameter>\n"
     "</｜DSML｜invoke>\n</｜DSML｜function_calls> x",
     " x|f({\"a\": \"s\", \"b\": \"no JSON\", \"c\": \"\"})"},
    {TOOLS_DSML,
     "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n"
     "<｜DSML｜parameter name=\"a\" string=\"true\">x</｜DSML｜par",
     "|f({\"a\": \"x"},
    {TOOLS_DSML, "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f",
     "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f"},
    {TOOLS_DSML, "A <｜DSML｜ tag, <｜DSML｜tool_calls>.",
     "A <｜DSML｜ tag, <｜DSML｜tool_calls>."},
    {TOOLS_FUNCTION, "So: <function=f>{\"a\": 1}</function>\n<function=g>{}</function> x",
     "So: x|f({\"a\": 1})|g({})"},
    {TOOLS_FUNCTION, "<function=f", "<function=f"},
    {TOOLS_FUNCTION, "<function=f>none</function>", "<function=f>none</function>"},
    {TOOLS_KIMI,
     "So:<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
     "{\"a\": 1}<|tool_call_end|><|tool_call_begin|>g<|tool_call_argument_begin|>{}"
     "<|tool_call_end|><|tool_calls_section_end|>",
     "So:|f({\"a\": 1})|g({})"},
    {TOOLS_KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_arg",
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_arg"},
    {TOOLS_RECIPIENT, "all\nHello >> x\n", "Hello >> x\n"},
    {TOOLS_RECIPIENT, ">>>all\nHello", "Hello"},
    {TOOLS_RECIPIENT, "f\n{\"a\": 1}", "|f({\"a\": 1})"},
    {TOOLS_RECIPIENT, "all\nI look.>>>f\n{\"a\": {}}\n>>>g.h\n{}",
     "I look.|f({\"a\": {}})|g.h({})"},
    {TOOLS_RECIPIENT, ">>>f\n{\"a\": tr", "|f({\"a\": tr"},
    {TOOLS_RECIPIENT, "Hello\nWorld {}", "Hello\nWorld {}"},
    {TOOLS_RECIPIENT, "al", "al"},
    {TOOLS_RECIPIENT, ">>", ">>"},
    {TOOLS_RECIPIENT, "", ""},
    {TOOLS_RECIPIENT, "all\n1 >>>", "1 >>>"},
    {TOOLS_BAR, "So:<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"x\": 0}}]",
     "So:|f({\"x\": 0})"},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

/* Content and calls, as in row.want. */
static void result(struct tool_parser *p, const struct buffer *content, char *out, size_t size)
{
    size_t n, len = 0;
    struct tool_call *calls = tool_parser_calls(p, &n);
    len += (size_t)snprintf(out, size, "%.*s", (int)content->len, content->len ? content->v : "");
    for (size_t i = 0; i < n && calls[i].told; i++) {
        bool whole =
            calls[i].arguments.len && calls[i].arguments.v[calls[i].arguments.len - 1] == '}';
        len += (size_t)snprintf(out + len, size - len, "|%.*s(%.*s%s", (int)calls[i].name.len,
                                calls[i].name.v, (int)calls[i].arguments.len, calls[i].arguments.v,
                                whole ? ")" : "");
    }
}

/* Reads text in pieces that end at the cuts. */
static void check_cut(const struct row *r, size_t first, size_t second)
{
    char got[600];
    size_t len = strlen(r->text);
    struct buffer content = {0};
    struct tool_parser *p = tool_parser_new(r->format, tools);
    tool_parser_push(p, r->text, first, false, &content);
    tool_parser_push(p, r->text + first, second - first, false, &content);
    tool_parser_push(p, r->text + second, len - second, true, &content);
    result(p, &content, got, sizeof got);
    ck_assert_msg(!tool_parser_failed(p) && !strcmp(got, r->want), "[%s] cut at %zu, %zu:\n%s\n%s",
                  r->text, first, second, got, r->want);
    tool_parser_free(p);
    buffer_free(&content);
}

START_TEST(test_all_cuts)
{
    const struct row *r = &rows[_i];
    for (size_t first = 0; first <= strlen(r->text); first++)
        for (size_t second = first; second <= strlen(r->text); second++)
            check_cut(r, first, second);
}
END_TEST

/* Byte by byte, nothing that was told is ever taken back. */
START_TEST(test_only_grows)
{
    const struct row *r = &rows[_i];
    struct buffer content = {0};
    struct tool_parser *p = tool_parser_new(r->format, tools);
    size_t told = 0, n, len = 0;
    for (size_t i = 0; i < strlen(r->text); i++) {
        tool_parser_push(p, r->text + i, 1, i + 1 == strlen(r->text), &content);
        struct tool_call *calls = tool_parser_calls(p, &n);
        while (n && !calls[n - 1].told)
            n--;
        ck_assert_uint_ge(n, told);
        told = n;
        ck_assert_uint_ge(content.len, len);
        len = content.len;
    }
    tool_parser_free(p);
    buffer_free(&content);
}
END_TEST

/* Arguments come while they are written. */
START_TEST(test_fragments)
{
    static const char text[] = "<tool_call>{\"name\": \"f\", \"arguments\": {\"text\": \"a long ";
    struct buffer content = {0};
    struct tool_parser *p = tool_parser_new(TOOLS_HERMES, tools);
    size_t n;
    tool_parser_push(p, text, sizeof text - 1, false, &content);
    struct tool_call *calls = tool_parser_calls(p, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert(calls[0].told && calls[0].arguments.len == strlen("{\"text\": \"a long "));
    ck_assert_uint_eq(content.len, 0);
    tool_parser_free(p);
}
END_TEST

START_TEST(test_ids)
{
    static const struct {
        enum tool_format format;
        const char *text;
        size_t len;
    } v[] = {
        {TOOLS_KIMI,
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
         "{}<|tool_call_end|><|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{}",
         13},
        {TOOLS_HERMES, "<tool_call>{\"name\":\"f\"}<tool_call>{\"name\":\"g\"}", 29},
        {TOOLS_MISTRAL_NAMED, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}", 9}};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        struct buffer content = {0};
        struct tool_parser *p = tool_parser_new(v[i].format, tools);
        size_t n;
        tool_parser_push(p, v[i].text, strlen(v[i].text), true, &content);
        struct tool_call *calls = tool_parser_calls(p, &n);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(strlen(calls[0].id), v[i].len);
        ck_assert_str_ne(calls[0].id, calls[1].id);
        tool_parser_free(p);
        buffer_free(&content);
    }
}
END_TEST

START_TEST(test_formats)
{
    static const struct {
        const char *template;
        enum tool_format format;
    } v[] = {
        {"{{ '<tool_call>' }}", TOOLS_HERMES},
        {"<tool_call> <function=", TOOLS_NONE},
        {"<tool_call> <function= <parameter=", TOOLS_TAGS},
        {"<tool_call>f<arg_key>", TOOLS_GLM},
        {"{%- set t = '｜DSML｜' %}{{ '<' + t + 'function_calls>' }} tool_calls", TOOLS_DSML_32},
        {"{%- set t = '｜DSML｜' %}{{ '<' + t + 'tool_calls>' }}", TOOLS_DSML},
        {"{{ '>>>all\\n' + m.content }}", TOOLS_RECIPIENT},
        {"<|tool_calls_section_begin|>", TOOLS_KIMI},
        {"<function=f>{} <|python_tag|>", TOOLS_FUNCTION},
        {"<|python_tag|>", TOOLS_LLAMA},
        {"{\"name\": function name, \"parameters\": dictionary of argument name and its value}",
         TOOLS_LLAMA},
        {"[AVAILABLE_TOOLS] [TOOL_CALLS]", TOOLS_MISTRAL},
        {"<|tool_call|>", TOOLS_BAR},
        {"", TOOLS_NONE},
        {"{{ messages }}", TOOLS_NONE}};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        ck_assert_int_eq(tool_format_of(v[i].template, strlen(v[i].template)), v[i].format);
}
END_TEST

/* With the N-th allocation failing it says so, or gives the whole result. */
START_TEST(test_faults)
{
    const struct row *r = &rows[_i];
    FAULT_EACH(n)
    {
        char got[600] = "";
        struct buffer content = {0};
        long before = fault_live();
        struct tool_parser *p = tool_parser_new(r->format, tools);
        for (size_t i = 0; p && i < strlen(r->text); i++)
            tool_parser_push(p, r->text + i, 1, i + 1 == strlen(r->text), &content);
        bool fired = fault_disarm();
        ck_assert_msg((!p || tool_parser_failed(p)) == fired, "allocation %ld", n);
        if (!fired)
            result(p, &content, got, sizeof got);
        ck_assert_str_eq(got, fired ? "" : r->want);
        tool_parser_free(p);
        buffer_free(&content);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/tool_calls");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, test_all_cuts, 0, N_ROWS);
    tcase_add_loop_test(c, test_only_grows, 0, N_ROWS);
    tcase_add_test(c, test_fragments);
    tcase_add_test(c, test_ids);
    tcase_add_test(c, test_formats);
    tcase_add_loop_test(c, test_faults, 0, N_ROWS);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
